/*
 * Standing by: how a thread of a process that is not the worker sleeps, and what wakes it.
 *
 * Such a thread, one a process at most, sleeps on the bell of its own client's entry, so that whoever rings wakes nobody
 * else.  None of those who ring is waited for:
 *   who leaves         and finds WORKER free: all who stand by look, and one of them takes it;
 *   who has committed  something that is left to the background: the thread that is to see to it that it is not late;
 *   who waits          for space and sees nothing written: its own process's thread;
 *   who stops it       and then waits for its end.
 *
 *   1. Who stands by reads its bell, says so in `standby`, fences, and looks whether it is needed: it tries to take
 *      WORKER, and reads what is pending.  Only if it is not needed does it sleep on the bell as it was read.
 *   2. Who may need it first changes what it looks at (drops WORKER, commits), fences, and then reads `standby`: is it set,
 *      it takes it away and rings.
 * So one of the two sees the other.  A worker that dies rings nobody; that is found out at the end of the sleep, which
 * is therefore bounded by its kind.
 */
#ifndef LKS_COORD_STANDBY_H
#define LKS_COORD_STANDBY_H

#include "base/status.h"
#include "coord/database.h"

/* How often one that expects nothing looks whether there is a worker. */
#define LKS_STANDBY_IDLE_NS (1000000000ull)

/* Step 1.  Returns the bell for lks_standby_sleep(). */
uint32_t lks_standby_arm(struct lockstep_db *db);
/* Something is pending, and looked after when this sleep ends: only lks_standby_call() and _wake() end it sooner. */
void lks_standby_watch(struct lockstep_db *db);
void lks_standby_disarm(struct lockstep_db *db);
/* Until it is rung, or for so long; disarms. */
void lks_standby_sleep(struct lockstep_db *db, uint32_t seen, uint64_t wait_ns);

/* Step 2, after a full fence.  Rings that client's thread if it sleeps and expects nothing. */
void lks_standby_notice(struct lockstep_db *db, uint32_t client);
/* Step 2.  Rings all who stand by, if nobody has WORKER. */
void lks_standby_call(struct lockstep_db *db);
/* The bell of this process's own thread, whatever it does. */
uint32_t lks_standby_bell(const struct lockstep_db *db);
void lks_standby_wake(struct lockstep_db *db);

#endif
