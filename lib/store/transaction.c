#include "store/transaction.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/crashpoint.h"
#include "base/log.h"
#include "coord/client.h"
#include "coord/freelist.h"
#include "coord/work.h"
#include "os/futex.h"
#include "store/blocklist.h"
#include "store/dbfile.h"
#include "store/pagetable.h"
#include "store/reunit.h"
#include "store/sweep.h"
#include "store/worker.h"

/* With so many slots in use a scan is cheap enough for every transaction, else for one in SCAN_EVERY. */
#define CHEAP_SLOTS 8u
#define SCAN_EVERY 8u
/* A sweep of everything once so many blocks are in use: keeps the store small and in the caches. */
#define SWEEP_BYTES (8u << 20)
/* A BUSY that finds the same owner for so long asks the kernel whether it lives. */
#define SUSPECT_NS (100 * LKS_NS_PER_MS)
#define MAX_UNIT_WAIT_MS 100u
/* How long a connection in exclusive mode waits for space before it uses the hard limit. */
#define MAX_SPACE_WAIT_NS (5000 * LKS_NS_PER_MS)
/* A transaction that ends and lets versions go rings no bell. */
#define MAX_SPACE_NAP_NS (10 * LKS_NS_PER_MS)
#define UNIT_NUMBERS (1ull << 32)

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

/* Holding WRITER.  Fresh knowledge of the slots, and a store that is not too full to begin with. */
static enum lockstep_status
prepare_store(struct lockstep_conn *conn)
{
    struct lockstep_db *db = conn->db;
    const struct lks_shm_state *state = &db->shm->state;
    uint64_t limit = lks_a64_relaxed(&state->store_limit);
    uint64_t used = lks_store_used_bytes(db);
    enum lockstep_status status = LOCKSTEP_OK;

    if (conn->scans_left == 0 || db->horizon.floor == 0) {
        lks_horizon_scan(db->shm, &db->horizon);
        conn->scans_left =
            lks_a32_relaxed(&state->slots_high) <= CHEAP_SLOTS ? 0 : SCAN_EVERY;
    } else {
        conn->scans_left--;
    }
    status = lks_store_trim(db, conn->g);
    /*
     * A sweep is due when much is in use and something was written behind since the last one, or when it
     * is late.
     */
    if (status == LOCKSTEP_OK && used >= SWEEP_BYTES && used > limit / 8 &&
        lks_a64_relaxed(&state->swept_flushed) != lks_a64_acquire(&state->flushed))
        status = lks_sweep(db, conn->g);
    if (status == LOCKSTEP_OK && lks_store_used_bytes(db) > limit / 4 * 3) {
        /* Also when nothing was committed or flushed: a transaction may have ended that held versions. */
        status = lks_sweep(db, conn->g);
        if (status == LOCKSTEP_OK && lks_store_used_bytes(db) > limit / 4 * 3) {
            conn->store_full = true;
            status = LOCKSTEP_BUSY;
        }
    }
    return status;
}

/* The tripwire, before the first write of anybody. */
static enum lockstep_status
trip(struct lockstep_conn *conn)
{
    struct lockstep_db *db = conn->db;
    struct lks_store *store = lks_store_of(db);
    enum lockstep_status status;
    if (lks_a32_relaxed(&db->shm->state.tripwire) != 0)
        return LOCKSTEP_OK;
    lks_mutex_lock(&store->batch_mutex);
    status = lks_dbfile_open(db);
    if (status == LOCKSTEP_OK)
        status = lks_dbfile_trip(db, true, false);
    lks_mutex_unlock(&store->batch_mutex);
    if (status == LOCKSTEP_OK)
        lks_a32_set_relaxed(&db->shm->state.tripwire, 1);
    return status;
}

enum lockstep_status
lks_conn_write_begin(struct lockstep_conn *conn)
{
    struct lockstep_db *db = conn->db;
    enum lockstep_status status;

    assert(conn->reader.snapshot != 0 && !conn->writing);
    conn->store_full = false;
    status = lks_queue_take(db, &conn->place);
    if (status == LOCKSTEP_BUSY) {
        uint64_t since = 0;
        uint32_t owner = lks_queue_owner(db, &since);
        if (owner < LKS_MAX_CLIENTS && lks_clock_coarse_ns() > since + SUSPECT_NS &&
            lks_client_reap(db, owner))
            status = lks_queue_take(db, &conn->place);
    }
    if (status != LOCKSTEP_OK)
        return status;
    if (lks_a64_acquire(&db->shm->state.committed) != conn->reader.snapshot)
        status = LOCKSTEP_STALE;
    else
        status = prepare_store(conn);
    /* Here, where it can still be refused: SQLite passes over errors at the end of some commits. */
    if (status == LOCKSTEP_OK)
        status = trip(conn);
    if (status != LOCKSTEP_OK) {
        lks_queue_unlock(db);
        return status;
    }
    conn->writing = true;
    conn->dirty = false;
    conn->block_count = 0;
    conn->size = conn->reader.size;
    return LOCKSTEP_OK;
}

/*
 * Until a sweep may find more than the last one: something was written behind, or a transaction has ended.
 * Not sooner, for SQLite takes every sleep to have lasted as long as it asked for.
 */
static void
wait_for_space(struct lockstep_conn *conn, uint64_t end_ns)
{
    struct lockstep_db *db = conn->db;
    struct lks_shm_state *state = &db->shm->state;
    struct lks_horizon before, now;
    uint64_t time_ns = lks_clock_ns();
    lks_horizon_scan(db->shm, &before);
    do {
        uint32_t seen = lks_a32_seq(&state->flush_bell);
        uint64_t left_ns = end_ns > time_ns ? end_ns - time_ns : 0;
        if (lks_a64_acquire(&state->flushed) != lks_a64_relaxed(&state->swept_flushed))
            return;
        lks_worker_await(db, seen, left_ns < MAX_SPACE_NAP_NS ? left_ns : MAX_SPACE_NAP_NS);
        lks_horizon_scan(db->shm, &now);
        time_ns = lks_clock_ns();
    } while (time_ns < end_ns && now.count == before.count && now.lowest == before.lowest);
}

enum lockstep_status
lks_conn_wait(struct lockstep_conn *conn, uint64_t wait_ns)
{
    uint64_t now = lks_clock_ns(), end = now + wait_ns;
    if (conn->store_full) {
        wait_for_space(conn, end);
        now = lks_clock_ns();
    }
    return lks_queue_wait(conn->db, &conn->place, end > now ? end - now : 0);
}

void
lks_conn_leave_queue(struct lockstep_conn *conn)
{
    /* On standby there is none. */
    if (lks_a32_acquire(&conn->db->attached) != 0)
        lks_queue_leave(conn->db, &conn->place);
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

/* Part of one unit. */
static enum lockstep_status
read_unit(struct lockstep_conn *conn, uint64_t offset, void *buf, size_t size)
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
        status = read_unit(conn, at, (char *)buf + done, n);
        if (status != LOCKSTEP_OK)
            return status;
        done += n;
    }
    *out_read = size;
    return LOCKSTEP_OK;
}

/* Remembers a block for rollback; room first, so that a linked block is never forgotten. */
static enum lockstep_status
make_room(struct lockstep_conn *conn)
{
    size_t capacity;
    uint32_t *grown;
    if (conn->block_count < conn->block_capacity)
        return LOCKSTEP_OK;
    capacity = conn->block_capacity == 0 ? 64 : 2 * conn->block_capacity;
    grown = realloc(conn->blocks, capacity * sizeof *grown);
    if (grown == NULL)
        return LOCKSTEP_NOMEM;
    conn->blocks = grown;
    conn->block_capacity = capacity;
    return LOCKSTEP_OK;
}

/* The first write to a unit in this transaction. */
static enum lockstep_status
new_version(struct lockstep_conn *conn, uint32_t unit_no, uint32_t within, const void *buf, size_t size)
{
    struct lockstep_db *db = conn->db;
    struct lks_shm *shm = db->shm;
    struct lks_shm_block *b;
    char *data;
    uint32_t block;
    enum lockstep_status status = make_room(conn);
    if (status == LOCKSTEP_OK)
        status = lks_store_take_block(db, conn->g, &block);
    if (status != LOCKSTEP_OK)
        return status;
    b = lks_chunk_block(shm, conn->g, block);
    data = lks_chunk_data(shm, conn->g, block);
    if (size < lks_unit_bytes(conn->g)) {
        status = read_unit(conn, (uint64_t)unit_no << conn->g->unit_log2, data,
                           lks_unit_bytes(conn->g));
        if (status != LOCKSTEP_OK) {
            lks_freelist_return(shm, conn->g, block);
            return status;
        }
    }
    memcpy(data + within, buf, size);
    lks_a64_set_relaxed(&b->id, conn->reader.snapshot + 1);
    lks_a32_set_relaxed(&b->unit_no, unit_no);
    LKS_CRASH_POINT("transaction:filled");
    lks_pagetable_link(shm, conn->g, block);
    conn->blocks[conn->block_count++] = block;
    return lks_sweep_unit(db, conn->g, block);
}

static enum lockstep_status
write_unit(struct lockstep_conn *conn, uint64_t offset, const void *buf, size_t size)
{
    struct lks_shm *shm = conn->db->shm;
    uint32_t unit_no = (uint32_t)(offset >> conn->g->unit_log2);
    uint32_t within = (uint32_t)(offset & (lks_unit_bytes(conn->g) - 1));
    uint32_t block;
    enum lockstep_status status =
        lks_pagetable_find(shm, conn->g, unit_no, conn->reader.snapshot + 1, &block);
    if (status != LOCKSTEP_OK)
        return status;
    if (block != 0 &&
        lks_a64_relaxed(&lks_chunk_block(shm, conn->g, block)->id) == conn->reader.snapshot + 1) {
        memcpy((char *)lks_chunk_data(shm, conn->g, block) + within, buf, size);
        return LOCKSTEP_OK;
    }
    return new_version(conn, unit_no, within, buf, size);
}

enum lockstep_status
lks_conn_write(struct lockstep_conn *conn, uint64_t offset, const void *buf, size_t size)
{
    uint32_t unit;
    size_t done = 0;
    enum lockstep_status status;
    assert(conn->writing);
    if (size != lks_unit_bytes(conn->g)) {
        status = lks_reunit(conn->db, offset, size, &conn->g);
        if (status != LOCKSTEP_OK)
            return status;
    }
    unit = lks_unit_bytes(conn->g);
    if ((offset + size - 1) >> conn->g->unit_log2 >= UNIT_NUMBERS)
        return LOCKSTEP_FULL;
    while (done < size) {
        uint64_t at = offset + done;
        size_t n = unit - (size_t)(at & (unit - 1));
        if (n > size - done)
            n = size - done;
        status = write_unit(conn, at, (const char *)buf + done, n);
        if (status != LOCKSTEP_OK)
            return status;
        done += n;
    }
    conn->dirty = true;
    if (offset + size > conn->size)
        conn->size = offset + size;
    return LOCKSTEP_OK;
}

enum lockstep_status
lks_conn_truncate(struct lockstep_conn *conn, uint64_t size)
{
    assert(conn->writing);
    if (size != conn->size) {
        conn->size = size;
        conn->dirty = true;
    }
    return LOCKSTEP_OK;
}

/* Step 2. */
static void
mark_blocks(struct lockstep_conn *conn)
{
    struct lks_shm *shm = conn->db->shm;
    size_t i;
    for (i = 0; i < conn->block_count; i++)
        lks_pagetable_mark_dirty(
            shm, lks_a32_relaxed(&lks_chunk_block(shm, conn->g, conn->blocks[i])->unit_no));
    LKS_CRASH_POINT("transaction:marked");
}

/* Step 3. */
static void
write_ring(struct lks_shm *shm, uint64_t id, uint64_t size)
{
    struct lks_shm_commit *commit = &shm->ring[id % LKS_RING_SIZE];
    lks_a64_set_relaxed(&commit->id, 0);
    lks_fence_release();
    lks_a64_set_relaxed(&commit->size, size);
    lks_a64_set_relaxed(&commit->time_ns, lks_clock_coarse_ns());
    /* Release: pairs with the acquire in read_commit(). */
    lks_a64_set_release(&commit->id, id);
}

enum lockstep_status
lks_conn_publish(struct lockstep_conn *conn, enum lockstep_durability durability, uint64_t *out_ticket)
{
    struct lks_shm *shm = conn->db->shm;
    uint64_t id = conn->reader.snapshot + 1;

    assert(conn->writing);
    if (!conn->dirty) {
        *out_ticket = conn->reader.snapshot;
        return LOCKSTEP_OK;
    }
    mark_blocks(conn);
    write_ring(shm, id, conn->size);
    if (durability != LOCKSTEP_OFF)
        lks_a64_set_relaxed(&shm->state.sync_needed, id);
    LKS_CRASH_POINT("transaction:committing");
    /* Release: blocks, their data, the chains and the ring entry.  Pairs with lks_reader_claim(). */
    lks_a64_set_release(&shm->state.committed, id);
    LKS_CRASH_POINT("transaction:committed");
    lks_reader_advance(conn->db, &conn->reader, id, conn->size);
    conn->dirty = false;
    conn->block_count = 0;
    *out_ticket = id;
    return LOCKSTEP_OK;
}

void
lks_conn_renew(struct lockstep_conn *conn)
{
    struct lks_shm_state *state = &conn->db->shm->state;
    uint64_t deadline = lks_clock_ns() + MAX_SPACE_WAIT_NS;
    /* In place of the swap in lks_queue_unlock(). */
    lks_fence();
    lks_worker_notice(conn->db);
    while (prepare_store(conn) == LOCKSTEP_BUSY && lks_clock_ns() < deadline) {
        uint32_t seen = lks_a32_seq(&state->flush_bell);
        if (lks_a64_acquire(&state->flushed) == lks_a64_relaxed(&state->swept_flushed))
            lks_worker_await(conn->db, seen, MAX_SPACE_NAP_NS);
    }
    conn->store_full = false;
}

void
lks_conn_discard(struct lockstep_conn *conn)
{
    while (conn->block_count > 0) {
        uint32_t block = conn->blocks[--conn->block_count];
        if (lks_pagetable_unlink(conn->db->shm, conn->g, block) != LOCKSTEP_OK)
            lks_log(LKS_ERROR, "%s: %s is damaged inside: a block that was written is in no chain",
                    conn->db->path, conn->db->coord_path);
    }
    lks_blocklist_discard(conn->blocklist);
    conn->dirty = false;
    conn->size = conn->reader.size;
}

void
lks_conn_write_end(struct lockstep_conn *conn)
{
    assert(conn->writing && !conn->dirty);
    conn->writing = false;
    conn->size = conn->reader.size;
    lks_queue_unlock(conn->db);
    lks_worker_notice(conn->db);
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
