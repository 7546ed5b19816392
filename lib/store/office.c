#include "store/office.h"

#include <stdlib.h>

#include "base/crashpoint.h"
#include "coord/standby.h"
#include "store/dbfile.h"
#include "store/store.h"
#include "store/worker.h"

enum lockstep_status
lks_office_take(struct lockstep_db *db, bool *out_worker)
{
    struct lks_store *store = lks_store_of(db);
    enum lockstep_status status = LOCKSTEP_OK;
    bool rolled_back = false;

    if (!lks_lockset_holds(&db->locks, LKS_BYTE_WORKER)) {
        status = lks_lockset_take(&db->locks, LKS_BYTE_WORKER, LKS_LOCK_EXCLUSIVE);
        if (status != LOCKSTEP_OK)
            return status;
        store->clean = store->settled = false;
        LKS_CRASH_POINT("batch:worker");
        /* If this is a thread that waits for its commit: ours that stands by works from now on. */
        lks_standby_wake(db);
    }
    lks_a32_set_relaxed(&db->shm->state.worker, db->client + 1);
    if (out_worker != NULL)
        *out_worker = true;
    if (!store->clean) {
        /*
         * Stock readers out before RESERVED is taken: it would hide a hot journal from one that comes in
         * between.
         */
        status = lks_lockset_stock_exclude(&db->locks, LKS_STOCK_WAIT_MS);
        if (status == LOCKSTEP_OK)
            status = lks_lockset_stock_reserve(&db->locks);
        if (status == LOCKSTEP_OK)
            status = lks_dbfile_rollback(db, &rolled_back);
        if (status != LOCKSTEP_OK)
            return status;
        store->clean = true;
        lks_lockset_stock_admit(&db->locks);
    }
    status = lks_lockset_stock_reserve(&db->locks);
    if (status != LOCKSTEP_OK)
        return status;
    status = lks_dbfile_open(db);
    return status == LOCKSTEP_OK ? lks_dbfile_check_place(db) : status;
}

void
lks_office_resign_locked(struct lockstep_db *db)
{
    struct lks_store *store = lks_store_of(db);
    lks_journal_close(store->journal);
    store->journal = NULL;
    lks_dbfile_close(db);
    if (lks_lockset_holds(&db->locks, LKS_BYTE_WORKER)) {
        lks_a32_set_relaxed(&db->shm->state.worker, 0);
        /* If the journal is hot and could not be rolled back, who comes next finds RESERVED free. */
        lks_lockset_stock_unreserve(&db->locks);
        lks_lockset_stock_admit(&db->locks);
        lks_lockset_drop(&db->locks, LKS_BYTE_WORKER);
        /* Who waits for a ticket looks for the place, and so do those who stand by. */
        lks_worker_wake_waiters(db);
        lks_standby_call(db);
    }
    store->clean = store->settled = false;
    free(store->run);
    store->run = NULL;
}

void
lks_office_resign(struct lockstep_db *db)
{
    struct lks_store *store = lks_store_of(db);
    lks_mutex_lock(&store->batch_mutex);
    lks_office_resign_locked(db);
    lks_mutex_unlock(&store->batch_mutex);
}
