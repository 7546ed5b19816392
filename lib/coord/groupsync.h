/*
 * Group sync: one sync of a log serves all who have appended to it before.
 *
 * A *ticket* is a point in the log: everything that stood in it when the ticket was drawn.  A writer draws one for
 * its commit while it still keeps other writers out; a reader may draw one for what it has seen.
 *
 * Waiting for a ticket:
 *   1. look at the bell, then: durable >= ticket?  Done.  Poisoned?  Failed.
 *   2. nobody leads: become the leader (CAS of sync_leader).  Read `committed`: the target.  Then sync.  Then raise
 *      `durable` to the target, give leadership up, ring the bell.
 *   3. somebody leads: sleep on the bell.  If he is dead, or has led for LKS_GROUPSYNC_STALL_NS (he is stopped), the
 *      next waiter takes leadership over; two syncs at once do no harm.  On a slow disk, where the last sync took
 *      LKS_GROUPSYNC_SLOW_NS or more, it does so after half of that time: who has just missed a sync need not wait for
 *      its end, and not more than a few are under way.
 * Before it sleeps a waiter gives the processor away and looks again, some times, if the last sync took less than
 * LKS_GROUPSYNC_FAST_NS: to sleep and to be woken costs a good part of that.
 *
 * Nobody waits to gather others: those who come while a sync runs share the next one.  They are let sleep on, but for
 * one, who leads it: sleepers are of 32 kinds by their tickets, and the bell is rung for the kinds that were covered.
 * That one is the first commit that the sync did not cover; on a fast disk, where many look awake, the others leave the
 * lead to it for a moment.  Else who has just led, and slept in the kernel meanwhile, leads again and again.
 *
 * A sync that failed may have lost any page that it was to write, and the kernel calls the pages clean: a second sync
 * proves nothing.  So the log is *poisoned*: the word is set before leadership is given up and the bell is rung, and
 * a sync that succeeds looks at it before it raises `durable`.  Poison is taken away only when the log has been
 * written anew, by a process that found nobody else connected.
 *
 * Bounded lag: sync_needed is the newest ticket that is to be durable without anybody waiting, pending_since_ns since
 * when such a one waits (0: none does).  The committer raises the first, then looks at the second; who has synced
 * clears the second, then looks at the first; so one of them sees the other.  Who dies in between leaves a first one that
 * is not durable and a second one of 0; the threads in the background look for that too, once a second.
 */
#ifndef LKS_COORD_GROUPSYNC_H
#define LKS_COORD_GROUPSYNC_H

#include <stdbool.h>

#include "base/status.h"
#include "coord/database.h"

#define LKS_GROUPSYNC_STALL_NS (100000000ull)
#define LKS_GROUPSYNC_SLOW_NS (1000000ull)
#define LKS_GROUPSYNC_FAST_NS (500000ull)

/* Syncs the log.  Errors with lks_os_errno(). */
typedef enum lockstep_status (*lks_groupsync_fn)(void *arg);

/* A ticket for all that stands in the log now. */
uint64_t lks_groupsync_draw(struct lockstep_db *db);
/* The commit of that ticket is to be durable within max_lag.  Before the writer lets others in. */
void lks_groupsync_note(struct lockstep_db *db, uint64_t ticket);
/* Since when something is to become durable for which nobody waits; 0: nothing is. */
uint64_t lks_groupsync_lag_since(struct lks_shm_state *state);
/*
 * Waits until the ticket is durable, syncing by itself where that helps.  `sync` NULL: others must do it (the
 * worker is rung).  timeout_ms < 0: as long as it takes.  IOERR: poisoned; MISUSE: no such ticket; TIMEOUT.
 */
LKS_CHECKED enum lockstep_status lks_groupsync_wait(struct lockstep_db *db, uint64_t ticket, int timeout_ms,
                                                    lks_groupsync_fn sync, void *arg);
/* Syncs now, whoever else does: for syncs that may not be put off. */
LKS_CHECKED enum lockstep_status lks_groupsync_run(struct lockstep_db *db, lks_groupsync_fn sync,
                                                   void *arg);
/* A sync of the log failed elsewhere. */
void lks_groupsync_poison(struct lockstep_db *db, int error);
/* The errno of the sync that failed, 0: none has. */
int lks_groupsync_poisoned(const struct lockstep_db *db);
/* The log was written anew and synced.  Holding WORKER, nobody else connected before. */
void lks_groupsync_heal(struct lockstep_db *db);
/* The reaper's part, holding CLIENT(client). */
void lks_groupsync_forget(struct lockstep_db *db, uint32_t client);

#endif
