#include "store/announce.h"

#include "base/clock.h"
#include "base/crashpoint.h"
#include "coord/client.h"
#include "coord/freelist.h"
#include "store/dbfile.h"
#include "store/store.h"

#define WRITER_WAIT_NS (1000 * LKS_NS_PER_MS)

/* One unit's content as the file has it, for snapshots from `id` on. */
static enum lockstep_status
preserve_unit(struct lks_batch *batch, uint32_t unit_no, uint64_t id)
{
    struct lks_shm *shm = batch->db->shm;
    struct lks_shm_block *b;
    uint32_t block;
    enum lockstep_status status = lks_store_take_block(batch->db, batch->g, &block);
    if (status != LOCKSTEP_OK)
        return status;
    b = lks_chunk_block(shm, batch->g, block);
    status = lks_dbfile_read(batch->db, (uint64_t)unit_no << batch->g->unit_log2,
                             lks_chunk_data(shm, batch->g, block), lks_unit_bytes(batch->g));
    if (status != LOCKSTEP_OK) {
        lks_freelist_return(shm, batch->g, block);
        return status;
    }
    lks_dbfile_hide_tripwire((uint64_t)unit_no << batch->g->unit_log2,
                             lks_chunk_data(shm, batch->g, block), lks_unit_bytes(batch->g));
    lks_a64_set_relaxed(&b->id, id);
    lks_a32_set_relaxed(&b->unit_no, unit_no);
    LKS_CRASH_POINT("batch:preserving");
    return lks_pagetable_append(shm, batch->g, block);
}

/* The file's counter once the batch is in it: with a survivor's eyes, see lks_recovery_connect(). */
static uint64_t
counter_after(const struct lks_batch *batch)
{
    if (batch->found.count == 0 || batch->found.changes[0].unit_no != 0)
        return lks_a64_relaxed(&batch->db->shm->state.file_counter);
    return lks_dbfile_counter_in(
        lks_chunk_data(batch->db->shm, batch->g, batch->found.changes[0].block), lks_unit_bytes(batch->g));
}

static void
publish_next(struct lks_batch *batch)
{
    struct lks_shm_state *state = &batch->db->shm->state;
    lks_a64_set_relaxed(&state->next_size, batch->file_size_after);
    lks_a64_set_relaxed(&state->next_counter, counter_after(batch));
    /*
     * Release: pairs with the acquire in read_behind().  The blocks of preserve() may still be missing
     * then; the file is not written before they are there.
     */
    lks_a64_set_release(&state->next_id, batch->target);
    lks_fence();
    LKS_CRASH_POINT("batch:announced");
}

/*
 * The size of the file after the batch.  What lies beyond the database's end is cut off, unless a snapshot
 * below target is in use, for which it may be the only copy: then it is written like the rest and cut off
 * by a later batch, or by the last client.
 */
static void
choose_size(struct lks_batch *batch, bool shrink)
{
    uint64_t end;
    batch->file_size_after = batch->size;
    if (shrink) {
        while (batch->found.count > 0 && (uint64_t)batch->found.changes[batch->found.count - 1].unit_no
                                           << batch->g->unit_log2 >=
                                       batch->size)
            batch->found.count--;
        return;
    }
    if (batch->file_size > batch->file_size_after)
        batch->file_size_after = batch->file_size;
    if (batch->found.count == 0)
        return;
    end = ((uint64_t)batch->found.changes[batch->found.count - 1].unit_no + 1) << batch->g->unit_log2;
    /* A last unit that the database fills in part is written in part. */
    if (end > batch->file_size_after && end - lks_unit_bytes(batch->g) >= batch->size)
        batch->file_size_after = end;
}

/* With snapshots below target in use. */
static enum lockstep_status
preserve(struct lks_batch *batch)
{
    struct lockstep_db *db = batch->db;
    bool lent = batch->store->lent || db->leaving_as_owner;
    enum lockstep_status status =
        lent ? LOCKSTEP_OK : lks_queue_lock(db, &batch->store->place, WRITER_WAIT_NS);
    size_t i;
    if (status != LOCKSTEP_OK)
        return status == LOCKSTEP_TIMEOUT ? LOCKSTEP_BUSY : status;
    lks_horizon_scan(db->shm, &db->horizon);
    choose_size(batch, db->horizon.lowest >= batch->target);
    /* First: a sweep that comes while we look must know that the file is about to change. */
    publish_next(batch);
    /* Below target only: the floor may be beyond it by now. */
    for (i = 0; i < batch->found.count && db->horizon.lowest < batch->target; i++) {
        uint64_t oldest;
        status = lks_pagetable_oldest(db->shm, batch->g, batch->found.changes[i].unit_no, &oldest);
        if (status == LOCKSTEP_OK && db->horizon.lowest < oldest)
            status = preserve_unit(batch, batch->found.changes[i].unit_no, db->horizon.lowest);
        if (status != LOCKSTEP_OK)
            break;
    }
    if (!lent)
        lks_queue_unlock(db);
    return status;
}

enum lockstep_status
lks_announce(struct lks_batch *batch)
{
    struct lks_horizon horizon;
    lks_horizon_scan(batch->db->shm, &horizon);
    if (horizon.count > 0 && horizon.lowest < batch->target) {
        if (lks_client_reap_readers(batch->db, batch->target))
            lks_horizon_scan(batch->db->shm, &horizon);
        if (horizon.lowest < batch->target)
            return preserve(batch);
    }
    choose_size(batch, true);
    publish_next(batch);
    return LOCKSTEP_OK;
}
