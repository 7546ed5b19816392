#include "store/transaction.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/crashpoint.h"
#include "base/log.h"
#include "coord/client.h"
#include "coord/freelist.h"
#include "store/blocklist.h"
#include "store/dbfile.h"
#include "store/pagetable.h"
#include "store/reunit.h"
#include "store/space.h"
#include "store/sweep.h"
#include "store/worker.h"

/* A BUSY that finds the same owner for so long asks the kernel whether it lives. */
#define SUSPECT_NS (100 * LKS_NS_PER_MS)
#define UNIT_NUMBERS (1ull << 32)

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
        status = lks_space_make(conn);
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

enum lockstep_status
lks_conn_wait(struct lockstep_conn *conn, uint64_t wait_ns)
{
    uint64_t now = lks_clock_ns(), end = now + wait_ns;
    if (conn->store_full) {
        lks_space_wait(conn, end);
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
        status = lks_conn_read_unit(conn, (uint64_t)unit_no << conn->g->unit_log2, data,
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
    /* In place of the swap in lks_queue_unlock(). */
    lks_fence();
    lks_worker_notice(conn->db);
    lks_space_make_waiting(conn);
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
