/*
 * The background thread that writes behind, one a process and database.
 *
 * The process that holds WORKER does the work for all; its thread sleeps on state.work_bell, and commits ring
 * it when worker_asleep says so.  The threads of the others stand by (coord/standby.h).  WORKER is not given up while the
 * process's thread runs.
 *
 * How long can something wait when the worker goes?
 *   it leaves    its place is taken at once, by one who stands by or waits for a commit to be durable;
 *   it dies      a commit that somebody waits for: 20 ms, then the waiter does it (ticket.h);
 *                a store that is full: 10 ms without progress, then the writer's own thread looks;
 *                any other commit: three quarters of max_lag, then the thread of the process that made it looks; if that
 *                process has died, too, a second (LKS_STANDBY_IDLE_NS), or max_lag where another thread watches.
 * Who rings the worker and dies between two stores leaves it asleep over later commits, for a second at most.
 * Where nobody runs a thread (no_worker) only who waits for durability, or calls lockstep_db_run(), is there.
 */
#ifndef LKS_STORE_WORKER_H
#define LKS_STORE_WORKER_H

#include "base/status.h"
#include "coord/database.h"

enum lockstep_status lks_worker_start(struct lockstep_db *db);
/* Ends this process's thread.  Another process's is not woken. */
void lks_worker_stop(struct lockstep_db *db);

/* After a commit was published and the writer lock let go: rings who should know. */
void lks_worker_notice(struct lockstep_db *db);
/* Rings the worker in any case. */
void lks_worker_ring(struct lockstep_db *db);
/* Rings flush_bell: a batch has succeeded or failed, or WORKER is free. */
void lks_worker_wake_waiters(struct lockstep_db *db);
/*
 * Sleeps on flush_bell until something was written behind, at most wait_ns.  If nothing was, this process's thread looks
 * whether there is a worker at all.
 */
void lks_worker_await(struct lockstep_db *db, uint32_t seen, uint64_t wait_ns);

/* Are there commits to write, or to sync for somebody who waits? */
bool lks_worker_is_pending(const struct lks_shm_state *state);
/* Somebody waits, or the store is half full: from three quarters on writers would have to. */
bool lks_worker_is_urgent(const struct lockstep_db *db);

#endif
