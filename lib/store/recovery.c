#include "store/recovery.h"

#include <stdlib.h>
#include <string.h>

#include "base/crashpoint.h"
#include "base/log.h"
#include "coord/client.h"
#include "coord/freelist.h"
#include "store/batch.h"
#include "store/dbfile.h"
#include "store/pagetable.h"
#include "store/store.h"

#define STOCK_WAIT_MS 20u

/* Unlinks what was not committed from one chain, and marks the rest. */
static enum lockstep_status
repair_chain(struct lks_shm *shm, const struct lks_geometry *g, struct lks_a32 *link, uint64_t committed,
             uint32_t fresh, unsigned char *used, uint32_t *used_count)
{
    uint32_t block;
    while ((block = lks_a32_relaxed(link)) != 0) {
        struct lks_shm_block *b;
        if (block > fresh || !lks_chunk_has(shm, g, block))
            return LOCKSTEP_CORRUPT;
        b = lks_chunk_block(shm, g, block);
        if (lks_a64_relaxed(&b->id) > committed) {
            lks_a32_set_release(link, lks_a32_relaxed(&b->next));
            LKS_CRASH_POINT("recovery:unlinked");
            continue;
        }
        /* Met before: a ring, or two chains that run together. */
        if (used[block / 8] & (1u << block % 8))
            return LOCKSTEP_CORRUPT;
        used[block / 8] |= (unsigned char)(1u << block % 8);
        lks_a32_set_relaxed(&b->state, LKS_BLOCK_USED);
        (*used_count)++;
        link = &b->next;
    }
    return LOCKSTEP_OK;
}

/* Beyond the end of a file that was truncated every access would be SIGBUS. */
static bool
chunks_are_there(const struct lockstep_db *db, const struct lks_geometry *g)
{
    uint32_t chunks = lks_a32_relaxed(&db->shm->state.chunks);
    struct lks_file_stat stat;
    if (chunks > lks_chunk_capacity(g, db->map_bytes))
        return false;
    return lks_file_stat_fd(db->locks.coord_fd, &stat) == LOCKSTEP_OK &&
           stat.size_bytes >= LKS_SHM_BYTES + (uint64_t)chunks * g->chunk_bytes;
}

enum lockstep_status
lks_recovery_repair(struct lockstep_db *db)
{
    struct lks_shm *shm = db->shm;
    struct lks_shm_state *state = &shm->state;
    const struct lks_geometry *g;
    uint64_t committed = lks_a64_acquire(&state->committed);
    uint32_t used_count = 0, fresh, i;
    unsigned char *used;
    enum lockstep_status status = LOCKSTEP_OK;

    if (lks_a32_relaxed(&state->unit_log2) == 0) {
        /* Died while it changed the unit, and then no block was in use; the chunks had another shape. */
        lks_a32_set_relaxed(&state->chunks, 0);
        lks_a32_set_relaxed(&state->blocks_fresh, 0);
        lks_a32_set_release(&state->unit_log2, 12);
    }
    fresh = lks_a32_relaxed(&state->blocks_fresh);
    g = lks_store_geometry(db);
    if (g == NULL || !chunks_are_there(db, g))
        return LOCKSTEP_CORRUPT;
    if (fresh > lks_chunk_blocks(g, lks_a32_relaxed(&state->chunks)))
        fresh = lks_chunk_blocks(g, lks_a32_relaxed(&state->chunks));
    used = calloc(1, fresh / 8 + 1);
    if (used == NULL)
        return LOCKSTEP_NOMEM;
    for (i = 0; i < LKS_MAX_BUCKETS && status == LOCKSTEP_OK; i++)
        status = repair_chain(shm, g, &shm->buckets[i], committed, fresh, used, &used_count);
    if (status != LOCKSTEP_OK)
        goto free_used;
    lks_freelist_clear(shm);
    for (i = 1; i <= fresh; i++)
        if ((used[i / 8] & (1u << i % 8)) == 0)
            lks_freelist_give(shm, g, i);
    lks_a32_set_relaxed(&state->blocks_used, used_count);
    lks_a32_set_relaxed(&state->blocks_fresh, fresh);
    /* Whoever swept last, it was not seen to the end. */
    lks_a64_set_relaxed(&state->swept_flushed, 0);
    /* Of a commit that was not made: nothing would ever make it durable. */
    if (lks_a64_relaxed(&state->sync_needed) > committed)
        lks_a64_set_relaxed(&state->sync_needed, committed);
    LKS_CRASH_POINT("recovery:repaired");
free_used:
    free(used);
    return status;
}

/* The size that the newest commit left; CORRUPT if its ring entry is not there. */
static enum lockstep_status
check_commit(const struct lks_shm *shm)
{
    const struct lks_shm_state *state = &shm->state;
    uint64_t committed = lks_a64_acquire(&state->committed);
    if (lks_a64_acquire(&shm->ring[committed % LKS_RING_SIZE].id) != committed)
        return LOCKSTEP_CORRUPT;
    if (lks_a64_relaxed(&state->flushed) > committed || lks_a64_relaxed(&state->durable) > committed)
        return LOCKSTEP_CORRUPT;
    return LOCKSTEP_OK;
}

/* Has anybody but Lockstep changed the file?  STALE if so. */
static enum lockstep_status
check_file(struct lockstep_db *db)
{
    struct lks_shm_state *state = &db->shm->state;
    uint64_t size = 0, counter = 0, before;
    uint32_t unit;
    enum lockstep_status status = db->io->size(lks_store_of(db)->database, &size);
    if (status == LOCKSTEP_OK)
        status = lks_dbfile_counter(db, &counter);
    if (status != LOCKSTEP_OK)
        return status;
    if ((size == lks_a64_relaxed(&state->file_size) &&
         counter == lks_a64_relaxed(&state->file_counter)) ||
        (size == lks_a64_relaxed(&state->next_size) &&
         counter == lks_a64_relaxed(&state->next_counter))) {
        lks_a64_set_relaxed(&state->file_size, size);
        lks_a64_set_relaxed(&state->file_counter, counter);
        return LOCKSTEP_OK;
    }
    /* A rollback leaves whole pages, of a file that had not a whole number of them. */
    unit = 1u << (lks_a32_relaxed(&state->unit_log2) & 31);
    before = lks_a64_relaxed(&state->file_size);
    if (counter == lks_a64_relaxed(&state->file_counter) && before % unit != 0 &&
        size == before + unit - before % unit)
        return db->io->truncate(lks_store_of(db)->database, before);
    return LOCKSTEP_STALE;
}

/* Every dead client's entry, slot and place; we are connected, so locks can tell who lives. */
static void
reap_all(struct lockstep_db *db)
{
    uint32_t i;
    for (i = 0; i < LKS_MAX_CLIENTS; i++)
        if (lks_a32_acquire(&db->shm->clients[i].pid) != 0)
            (void)lks_client_reap(db, i);
}

static enum lockstep_status
adopt_commits(struct lockstep_db *db)
{
    struct lks_shm_state *state = &db->shm->state;
    uint64_t committed, flushed;
    enum lockstep_status status = check_commit(db->shm);
    if (status == LOCKSTEP_OK)
        status = check_file(db);
    if (status == LOCKSTEP_OK)
        /* Also when nobody died with the lock: the structure is checked before it is trusted. */
        status = lks_recovery_repair(db);
    if (status == LOCKSTEP_CORRUPT) {
        lks_log(LKS_ERROR, "%s: %s is damaged inside", db->path, db->coord_path);
        return LOCKSTEP_STALE;
    }
    if (status != LOCKSTEP_OK)
        return status;
    /* The dead may have left the byte as they liked. */
    lks_a32_set_relaxed(&state->tripwire, 0);
    reap_all(db);
    committed = lks_a64_acquire(&state->committed);
    flushed = lks_a64_acquire(&state->flushed);
    if (committed != flushed)
        lks_log(LKS_NOTICE, "%s: writing %llu commits that processes which died had made", db->path,
                (unsigned long long)(committed - flushed));
    LKS_CRASH_POINT("recovery:adopting");
    return committed != flushed ? lks_batch_drain(db) : LOCKSTEP_OK;
}

enum lockstep_status
lks_recovery_connect(struct lockstep_db *db, bool adopt)
{
    struct lks_store *store = lks_store_of(db);
    struct lks_shm_state *state = &db->shm->state;
    uint64_t counter = 0;
    bool exists = false, rolled_back = false;
    enum lockstep_status status;

    store->clean = false;
    status = lks_dbfile_open(db);
    if (status == LOCKSTEP_OK)
        status = db->io->exists(db->io->context, db->journal_path, &exists);
    /* Stock readers out before RESERVED hides a hot journal from them. */
    if (status == LOCKSTEP_OK && exists)
        status = lks_lockset_stock_exclude(&db->locks, STOCK_WAIT_MS);
    if (status == LOCKSTEP_OK)
        status = lks_lockset_stock_reserve(&db->locks);
    if (status == LOCKSTEP_OK && exists)
        status = lks_dbfile_rollback(db, &rolled_back);
    if (status != LOCKSTEP_OK)
        lks_lockset_stock_unreserve(&db->locks);
    lks_lockset_stock_admit(&db->locks);
    if (status != LOCKSTEP_OK)
        return status;
    store->clean = true;
    lks_a32_set_relaxed(&state->worker, db->client + 1);
    if (adopt)
        return adopt_commits(db);
    status = lks_dbfile_counter(db, &counter);
    if (status == LOCKSTEP_OK && rolled_back) {
        /* The size that the new coordination file was made with was that of the torn state. */
        uint64_t size = 0;
        status = db->io->size(store->database, &size);
        lks_a64_set_relaxed(&state->file_size, size);
        lks_a64_set_relaxed(&db->shm->ring[1 % LKS_RING_SIZE].size, size);
    }
    lks_a64_set_relaxed(&state->file_counter, counter);
    lks_a64_set_relaxed(&state->next_size, lks_a64_relaxed(&state->file_size));
    lks_a64_set_relaxed(&state->next_counter, counter);
    return status;
}

enum lockstep_status
lks_recovery_leave(struct lockstep_db *db)
{
    struct lks_store *store = lks_store_of(db);
    struct lks_shm_state *state = &db->shm->state;
    bool sync = lks_a64_relaxed(&state->sync_needed) > 1;
    enum lockstep_status status = lks_dbfile_open(db);
    /* The word first: whoever finds this file again looks at the byte. */
    lks_a32_set_relaxed(&state->tripwire, 0);
    if (status == LOCKSTEP_OK)
        status = lks_dbfile_trip(db, false, sync);
    lks_journal_close(store->journal);
    store->journal = NULL;
    /* It is cold, and durably so: that the name may come back after a power cut does no harm. */
    if (status == LOCKSTEP_OK)
        status = db->io->remove(db->io->context, db->journal_path, false);
    LKS_CRASH_POINT("recovery:left");
    lks_dbfile_close(db);
    return status;
}
