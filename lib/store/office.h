/*
 * The worker's office: what a process takes on with WORKER, and gives back when it resigns.
 *
 * Taken on in this order, each kept until the office is resigned:
 *   1. WORKER;
 *   2. once: stock readers out, RESERVED, a hot journal that a dead worker left rolled back, stock readers in
 *      again (store->clean: it is done).  The readers first: RESERVED would hide a hot journal from one that
 *      comes in between;
 *   3. RESERVED on the database, so that stock writers fail at once;
 *   4. the database file, open, and its name seen to lead to it.
 *
 * Resigned: the journal and the file are closed, RESERVED is let go, then stock readers are let in, WORKER
 * last; then all are called who may take it.  Death: the locks are dropped, and the next holder of WORKER
 * does 1 to 4.
 */
#ifndef LKS_STORE_OFFICE_H
#define LKS_STORE_OFFICE_H

#include "base/status.h"
#include "coord/database.h"

/* How long stock readers are waited for, before a rollback and before a batch. */
#define LKS_STOCK_WAIT_MS 50u

/*
 * Steps 1 to 4, as far as they are not done.  Holding batch_mutex.  *out_worker (may be NULL) becomes true
 * with step 1.  BUSY: another process is the worker, or stock SQLite holds a lock.  After an error what was
 * taken is kept for the next try; stock readers stay out if the rollback failed.
 */
LKS_CHECKED enum lockstep_status lks_office_take(struct lockstep_db *db, bool *out_worker);
/* Gives up what is held, once no thread of this process is in a batch.  Idempotent. */
void lks_office_resign(struct lockstep_db *db);
/* The same, holding batch_mutex. */
void lks_office_resign_locked(struct lockstep_db *db);

#endif
