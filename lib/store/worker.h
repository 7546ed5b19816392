/*
 * The background thread that writes behind, one a process and database.
 *
 * The process that holds WORKER does the work for all; its thread sleeps on state.work_bell, and commits ring
 * it when worker_asleep says so.  The threads of the others sleep on a condition of their process, and look from time to
 * time whether the worker died.  WORKER is not given up while the process's thread runs.
 */
#ifndef LKS_STORE_WORKER_H
#define LKS_STORE_WORKER_H

#include "base/status.h"
#include "coord/database.h"

enum lockstep_status lks_worker_start(struct lockstep_db *db);
/* Ends this process's thread.  Another process's is not woken. */
void lks_worker_stop(struct lockstep_db *db);

/* After a commit was published and the writer lock let go: rings if the worker should know. */
void lks_worker_notice(struct lockstep_db *db);
/* Rings in any case. */
void lks_worker_ring(struct lockstep_db *db);

/* Are there commits to write, or to sync for somebody who waits? */
bool lks_worker_is_pending(const struct lks_shm_state *state);
/* Somebody waits, or the store is half full: from three quarters on writers would have to. */
bool lks_worker_is_urgent(const struct lockstep_db *db);

#endif
