#include "store/transaction.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/crashpoint.h"
#include "coord/client.h"
#include "coord/work.h"
#include "store/blocklist.h"
#include "store/dbfile.h"
#include "store/pagetable.h"

#define MAX_UNIT_WAIT_MS 100u

enum lockstep_status
lks_conn_open(struct lockstep_db *db, struct lks_io_file *file, struct lockstep_conn **out_conn)
{
    uint32_t number;
    lks_mutex_lock(&db->attach_mutex);
    number = ++db->next_connection;
    lks_mutex_unlock(&db->attach_mutex);
    return lks_conn_make(db, file, number, out_conn);
}

static void
count_conn(struct lockstep_conn *conn, bool counted)
{
    const struct lockstep_db *db = conn->db;
    if (conn->counted == counted || lks_a32_acquire(&db->attached) == 0)
        return;
    conn->counted = counted;
    lks_a32_add(&db->shm->clients[db->client].connections, counted ? 1 : (uint32_t)-1);
}

enum lockstep_status
lks_conn_make(struct lockstep_db *db, struct lks_io_file *file, uint32_t number, struct lockstep_conn **out_conn)
{
    struct lockstep_conn *conn = calloc(1, sizeof *conn);
    if (conn == NULL)
        return LOCKSTEP_NOMEM;
    conn->db = db;
    conn->file = file;
    conn->file_lent = file != NULL;
    conn->reader.connection = number;
    lks_place_init(&conn->place, conn->reader.connection);
    count_conn(conn, true);
    *out_conn = conn;
    return LOCKSTEP_OK;
}

void
lks_conn_close(struct lockstep_conn *conn)
{
    if (conn == NULL)
        return;
    if (!lks_database_forked(conn->db) && (conn->view != NULL || lks_a32_acquire(&conn->db->attached) != 0)) {
        lks_conn_end(conn);
        lks_conn_leave_queue(conn);
        if (lks_a32_acquire(&conn->db->attached) != 0)
            lks_work_drop(conn->db, conn->reader.connection);
        count_conn(conn, false);
    }
    if (conn->file != NULL && !conn->file_lent)
        conn->db->io->close(conn->file);
    lks_blocklist_free(conn->blocklist);
    free(conn->blocks);
    free(conn);
}

/* The geometry, which is for an instant unknown while somebody changes it. */
static enum lockstep_status
load_geometry(struct lockstep_conn *conn)
{
    uint32_t waited_ms;
    for (waited_ms = 0; waited_ms < MAX_UNIT_WAIT_MS; waited_ms++) {
        conn->g = lks_store_geometry(conn->db);
        if (conn->g != NULL)
            return LOCKSTEP_OK;
        if (lks_a32_relaxed(&conn->db->shm->state.unit_log2) != 0)
            return LOCKSTEP_CORRUPT;
        /* It takes but an instant: who needs longer may be dead, and then the unit is set by the repair. */
        if (waited_ms % 16 == 15) {
            uint64_t since_ns;
            (void)lks_client_reap(conn->db, lks_queue_owner(conn->db, &since_ns));
        }
        lks_clock_nap_ms(1);
    }
    return LOCKSTEP_BUSY;
}

/* On standby.  No view: somebody is connected, and now we are, too. */
static enum lockstep_status
begin_view(struct lockstep_conn *conn)
{
    enum lockstep_status status = lks_private_open(conn->db, &conn->view);
    assert(conn->db->readonly);
    if (status == LOCKSTEP_OK && conn->view != NULL) {
        conn->reader.snapshot = lks_private_snapshot(conn->view);
        conn->size = lks_private_size(conn->view);
    }
    return status;
}

/* The reader has its claim, or `status` says why not. */
static enum lockstep_status
begin_claimed(struct lockstep_conn *conn, enum lockstep_status status)
{
    if (status != LOCKSTEP_OK)
        return status;
    conn->size = conn->reader.size;
    status = load_geometry(conn);
    if (status != LOCKSTEP_OK)
        lks_reader_release(conn->db, &conn->reader);
    return status;
}

enum lockstep_status
lks_conn_begin(struct lockstep_conn *conn)
{
    enum lockstep_status status;
    if (lks_a32_acquire(&conn->db->attached) == 0) {
        status = begin_view(conn);
        if (status != LOCKSTEP_OK || conn->view != NULL)
            return status;
        count_conn(conn, true);
    }
    status = lks_reader_claim(conn->db, &conn->reader);
    if (status == LOCKSTEP_BUSY && lks_client_reap_readers(conn->db, UINT64_MAX))
        status = lks_reader_claim(conn->db, &conn->reader);
    return begin_claimed(conn, status);
}

enum lockstep_status
lks_conn_begin_at(struct lockstep_conn *conn, uint64_t snapshot)
{
    enum lockstep_status status = lks_reader_share(conn->db, &conn->reader, snapshot);
    if (status == LOCKSTEP_BUSY && lks_client_reap_readers(conn->db, UINT64_MAX))
        status = lks_reader_share(conn->db, &conn->reader, snapshot);
    return begin_claimed(conn, status);
}

/* The snapshot that reads look up: our own blocks are of the next commit. */
static uint64_t
view(const struct lockstep_conn *conn)
{
    return conn->writing ? conn->reader.snapshot + 1 : conn->reader.snapshot;
}

/* A piece that does not show how the file begins may be of one that is not SQLite's, where 3 is 3. */
static enum lockstep_status
hide_tripwire(struct lockstep_conn *conn, uint64_t offset, void *buf, size_t size)
{
    unsigned char start[LKS_DBFILE_MAGIC_BYTES] = {0};
    size_t got = 0;
    enum lockstep_status status = LOCKSTEP_OK;
    if (!lks_dbfile_has_tripwire(offset, size))
        return LOCKSTEP_OK;
    if (offset != 0)
        status = conn->db->io->read(conn->file, 0, start, sizeof start, &got);
    else
        memcpy(start, buf, sizeof start);
    if (status == LOCKSTEP_OK && lks_dbfile_is_sqlite(start))
        lks_dbfile_hide_tripwire(offset, buf, size);
    return status;
}

static enum lockstep_status
read_file(struct lockstep_conn *conn, uint64_t offset, void *buf, size_t size)
{
    const struct lks_io *io = conn->db->io;
    size_t got = 0;
    enum lockstep_status status = LOCKSTEP_OK;
    if (conn->file == NULL) {
        if (io == &lks_io_os)
            conn->file = lks_io_os_wrap(conn->db->locks.database_fd);
        else
            status = io->open(io->context, conn->db->path, LKS_IO_DATABASE, &conn->file);
        if (status == LOCKSTEP_OK && conn->file == NULL)
            status = LOCKSTEP_NOMEM;
    }
    if (status == LOCKSTEP_OK)
        status = io->read(conn->file, offset, buf, size, &got);
    if (status != LOCKSTEP_OK)
        return status;
    memset((char *)buf + got, 0, size - got);
    return hide_tripwire(conn, offset, buf, size);
}

/* Part of a unit from the newest block that the transaction sees, if there is one. */
static enum lockstep_status
copy_version(struct lockstep_conn *conn, uint32_t unit_no, uint64_t offset, void *buf, size_t size,
             bool *out_found)
{
    struct lks_shm *shm = conn->db->shm;
    uint32_t block;
    enum lockstep_status status;
    if (!conn->writing)
        lks_reader_walk(conn->db, &conn->reader);
    status = lks_pagetable_find(shm, conn->g, unit_no, view(conn), &block);
    *out_found = status == LOCKSTEP_OK && block != 0;
    if (*out_found) {
        LKS_CRASH_POINT("transaction:walking");
        memcpy(buf,
               (char *)lks_chunk_data(shm, conn->g, block) + (offset & (lks_unit_bytes(conn->g) - 1)),
               size);
    }
    if (!conn->writing)
        lks_reader_rest(conn->db, &conn->reader);
    return status;
}

/*
 * What the store does not have, from the file.  The worker may be writing there: then it has announced that
 * (next_id) before, and put the old content behind the chain before that.
 */
static enum lockstep_status
read_behind(struct lockstep_conn *conn, uint32_t unit_no, uint64_t offset, void *buf, size_t size)
{
    bool found;
    enum lockstep_status status = read_file(conn, offset, buf, size);
    if (status != LOCKSTEP_OK)
        return status;
    LKS_CRASH_POINT("transaction:read-file");
    lks_fence();
    /* Acquire: pairs with the release in publish_next(). */
    if (lks_a64_acquire(&conn->db->shm->state.next_id) > conn->reader.snapshot)
        status = copy_version(conn, unit_no, offset, buf, size, &found);
    return status;
}

enum lockstep_status
lks_conn_read_unit(struct lockstep_conn *conn, uint64_t offset, void *buf, size_t size)
{
    uint32_t unit_no = (uint32_t)(offset >> conn->g->unit_log2);
    bool found;
    enum lockstep_status status = copy_version(conn, unit_no, offset, buf, size, &found);
    if (status == LOCKSTEP_OK && !found)
        status = read_behind(conn, unit_no, offset, buf, size);
    return status;
}

enum lockstep_status
lks_conn_read(struct lockstep_conn *conn, uint64_t offset, void *buf, size_t size, size_t *out_read)
{
    uint32_t unit;
    size_t done = 0;
    assert(conn->reader.snapshot != 0);
    if (conn->view != NULL)
        return lks_private_read(conn->view, offset, buf, size, out_read);
    unit = lks_unit_bytes(conn->g);
    if (offset >= conn->size)
        size = 0;
    else if (size > conn->size - offset)
        size = (size_t)(conn->size - offset);
    while (done < size) {
        uint64_t at = offset + done;
        size_t n = unit - (size_t)(at & (unit - 1));
        enum lockstep_status status;
        if (n > size - done)
            n = size - done;
        status = lks_conn_read_unit(conn, at, (char *)buf + done, n);
        if (status != LOCKSTEP_OK)
            return status;
        done += n;
    }
    *out_read = size;
    return LOCKSTEP_OK;
}

void
lks_conn_end(struct lockstep_conn *conn)
{
    if (conn->view != NULL) {
        lks_private_close(conn->db, conn->view);
        conn->view = NULL;
        conn->reader.snapshot = 0;
        return;
    }
    if (conn->writing) {
        lks_conn_discard(conn);
        lks_conn_write_end(conn);
    }
    lks_reader_release(conn->db, &conn->reader);
}
