#include "store/store.h"

#include <stdlib.h>

#include "base/clock.h"
#include "base/crashpoint.h"
#include "coord/freelist.h"
#include "coord/registry.h"
#include "os/map.h"
#include "store/batch.h"
#include "store/office.h"
#include "store/recovery.h"
#include "store/shorten.h"
#include "store/sweep.h"
#include "store/worker.h"

static void
destroy_store(struct lockstep_db *db)
{
    struct lks_store *store = lks_store_of(db);
    lks_mutex_destroy(&store->worker_mutex);
    lks_mutex_destroy(&store->batch_mutex);
    free(store->run);
    free(store);
    db->store = NULL;
}

static const struct lks_database_hooks hooks = {
    .mode = LKS_MODE_STORE,
    .recover = lks_recovery_connect,
    .repair = lks_recovery_repair,
    .drain = lks_batch_drain,
    .shorten = lks_shorten,
    .leave = lks_recovery_leave,
    .start_worker = lks_worker_start,
    .stop_worker = lks_worker_stop,
    .resign = lks_office_resign,
    .destroy = destroy_store,
};

/* db->store is made once, under the attach mutex, by whoever comes first. */
static enum lockstep_status
make_store(struct lockstep_db *db)
{
    enum lockstep_status status = LOCKSTEP_OK;
    struct lks_store *store;

    lks_mutex_lock(&db->attach_mutex);
    if (db->store != NULL)
        goto unlock;
    store = calloc(1, sizeof *store);
    if (store == NULL) {
        status = LOCKSTEP_NOMEM;
        goto unlock;
    }
    lks_mutex_init(&store->batch_mutex, LKS_RANK_BATCH);
    lks_mutex_init(&store->worker_mutex, LKS_RANK_WORKER);
    lks_place_init(&store->place, 0);
    db->store = store;
unlock:
    lks_mutex_unlock(&db->attach_mutex);
    return status;
}

enum lockstep_status
lks_store_open(const char *path, const struct lockstep_options *options, const struct lks_io *io,
               struct lockstep_db **out_db)
{
    struct lockstep_db *db;
    enum lockstep_status status = lks_registry_get(path, options, io, &hooks, &db);
    if (status != LOCKSTEP_OK)
        return status;
    status = make_store(db);
    if (status != LOCKSTEP_OK) {
        (void)lks_registry_put(db);
        return status;
    }
    *out_db = db;
    return LOCKSTEP_OK;
}

enum lockstep_status
lks_store_close(struct lockstep_db *db)
{
    return lks_registry_put(db);
}

const struct lks_geometry *
lks_store_geometry(const struct lockstep_db *db)
{
    /* Acquire: pairs with the release in lks_reunit(). */
    return lks_geometry_of(lks_a32_acquire(&db->shm->state.unit_log2));
}

uint64_t
lks_store_used_bytes(const struct lockstep_db *db)
{
    const struct lks_shm_state *state = &db->shm->state;
    return (uint64_t)lks_a32_relaxed(&state->blocks_used) << (lks_a32_relaxed(&state->unit_log2) & 31);
}

uint64_t
lks_store_area_bytes(const struct lockstep_db *db)
{
    return (uint64_t)lks_a32_relaxed(&db->shm->state.chunks) * LKS_CHUNK_DATA;
}

static uint32_t
count_waiters(const struct lks_shm *shm)
{
    uint32_t n = 0, i;
    for (i = 0; i < LKS_MAX_WAITERS; i++)
        n += lks_waiter_state_of(lks_a32_relaxed(&shm->waiters[i].word)) == LKS_WAITER_WAITING;
    return n;
}

static void
count_readers(const struct lks_shm *shm, struct lockstep_db_info *info)
{
    uint32_t i;
    for (i = 1; i < LKS_MAX_SLOTS; i++) {
        uint64_t word = lks_a64_relaxed(&shm->slots[i].word);
        if (lks_slot_state_of(word) == LKS_SLOT_FREE ||
            (info->wal && lks_slot_state_of(word) == LKS_SLOT_CLAIMING))
            continue;
        info->readers++;
        if (!info->wal && lks_slot_snapshot(word) < info->oldest_snapshot)
            info->oldest_snapshot = lks_slot_snapshot(word);
    }
}

void
lks_store_wal_info(const struct lks_shm_state *state, struct lockstep_db_info *info)
{
    info->wal = lks_a32_relaxed(&state->mode) == LKS_MODE_WAL;
    if (!info->wal)
        return;
    info->flushed = info->durable;
    info->wal_frames = lks_a32_relaxed(&state->log_frames);
    info->wal_backfilled = lks_a32_relaxed(&state->log_backfilled);
    info->sync_failed = lks_a32_relaxed(&state->poison);
    info->wal_bytes = lks_a64_relaxed(&state->log_bytes);
    info->checkpoints = lks_a64_relaxed(&state->checkpoints);
    info->syncs = lks_a64_relaxed(&state->syncs);
}

void
lks_store_info(const struct lockstep_db *db, struct lockstep_db_info *out_info)
{
    const struct lks_shm *shm = db->shm;
    const struct lks_shm_state *state = &shm->state;
    struct lockstep_db_info info = {0};
    uint64_t since;
    uint32_t i, owner;

    info.durable = lks_a64_acquire(&state->durable);
    info.flushed = lks_a64_acquire(&state->flushed);
    info.committed = lks_a64_acquire(&state->committed);
    info.oldest_snapshot = info.committed;
    info.pending_bytes = lks_store_used_bytes(db);
    info.store_bytes = lks_store_area_bytes(db);
    info.store_limit = lks_a64_relaxed(&state->store_limit);
    info.hard_limit = lks_a64_relaxed(&state->hard_limit);
    info.batches = lks_a64_relaxed(&state->batches);
    info.failed_batches = lks_a64_relaxed(&state->failures);
    info.max_lag_ms = lks_a32_relaxed(&state->max_lag_ms);
    info.unit_size = 1u << (lks_a32_relaxed(&state->unit_log2) & 31);
    info.last_error = lks_a32_relaxed(&state->last_errno);
    for (i = 0; i < LKS_MAX_CLIENTS; i++)
        info.clients += lks_a32_relaxed(&shm->clients[i].pid) != 0;
    lks_store_wal_info(state, &info);
    count_readers(shm, &info);
    info.waiters = count_waiters(shm);
    owner = lks_queue_owner(db, &since);
    if (owner < LKS_MAX_CLIENTS)
        info.writer_pid = (int32_t)lks_a32_relaxed(&shm->clients[owner].pid);
    *out_info = info;
}

/* One more chunk, if `limit` leaves room for it. */
static enum lockstep_status
grow(struct lockstep_db *db, const struct lks_geometry *g, uint64_t limit)
{
    if (lks_store_area_bytes(db) + LKS_CHUNK_DATA > limit)
        return LOCKSTEP_FULL;
    return lks_chunk_grow(db->shm, g, lks_database_memory_fd(db), db->map_bytes);
}

static void
give_back(struct lockstep_db *db, uint64_t offset, uint64_t size)
{
    if (db->alone)
        lks_map_forget((char *)db->shm + offset, (size_t)size);
    else
        /* Not to be had on every filesystem; the space then goes with the file. */
        (void)!lks_file_punch(db->locks.coord_fd, offset, size);
}

enum lockstep_status
lks_store_trim(struct lockstep_db *db, const struct lks_geometry *g)
{
    struct lks_shm_state *state = &db->shm->state;
    uint64_t limit = lks_a64_relaxed(&state->store_limit);
    uint32_t before = lks_a32_relaxed(&state->chunks);
    uint32_t keep = (uint32_t)(limit / LKS_CHUNK_DATA);
    enum lockstep_status status;

    if (lks_store_area_bytes(db) <= 2 * limit ||
        lks_a64_acquire(&state->flushed) != lks_a64_relaxed(&state->committed))
        return LOCKSTEP_OK;
    status = lks_sweep_if_due(db, g);
    if (status != LOCKSTEP_OK || lks_a32_relaxed(&state->blocks_used) != 0)
        return status;
    lks_horizon_scan(db->shm, &db->horizon);
    if (db->horizon.walks != UINT64_MAX)
        return LOCKSTEP_OK;
    /* Every chain is empty and nobody stands on a block: no number of a block is left anywhere. */
    lks_freelist_clear(db->shm);
    lks_a32_set_relaxed(&state->blocks_fresh, 0);
    lks_a32_set_release(&state->chunks, keep);
    LKS_CRASH_POINT("store:trimmed");
    give_back(db, LKS_SHM_BYTES + (uint64_t)keep * g->chunk_bytes, (uint64_t)(before - keep) * g->chunk_bytes);
    return LOCKSTEP_OK;
}

enum lockstep_status
lks_store_take_block(struct lockstep_db *db, const struct lks_geometry *g, uint32_t *out_block)
{
    struct lks_shm *shm = db->shm;
    const struct lks_shm_state *state = &shm->state;
    enum lockstep_status status = LOCKSTEP_OK;
    uint32_t block = lks_freelist_take(shm, g, db->horizon.walking);

    if (block == 0)
        block = lks_freelist_take_fresh(shm, g);
    if (block == 0 && lks_a32_relaxed(&state->free_count) != 0) {
        /* Fresh: also what this very transaction let go of. */
        lks_horizon_scan(shm, &db->horizon);
        block = lks_freelist_take(shm, g, db->horizon.walks);
    }
    if (block == 0) {
        status = grow(db, g, lks_a64_relaxed(&state->store_limit));
        if (status == LOCKSTEP_FULL) {
            status = lks_sweep_if_due(db, g);
            lks_horizon_scan(shm, &db->horizon);
            block = status == LOCKSTEP_OK ? lks_freelist_take(shm, g, db->horizon.walks) : 0;
            if (status == LOCKSTEP_OK && block == 0)
                status = grow(db, g, lks_a64_relaxed(&state->hard_limit));
        }
        if (status == LOCKSTEP_OK && block == 0)
            block = lks_freelist_take_fresh(shm, g);
        if (status == LOCKSTEP_OK && block == 0)
            status = LOCKSTEP_FULL;
    }
    if (status == LOCKSTEP_OK)
        *out_block = block;
    return status;
}
