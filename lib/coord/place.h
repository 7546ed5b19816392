/*
 * A place among those who wait for the writer lock: one entry of `waiters` in shared memory.
 *
 * There is no list and no latch.  An entry is taken by CAS and has a sequence number; who came first is
 * found by looking at all of them.  What becomes of its word, and by whom:
 *
 *   FREE -> ENTERING -> WAITING  who enters; the last with release, when all else of it is written
 *   WAITING <-> AWAY             who waits: it goes back to SQLite between two sleeps, and will come again
 *   any -> FREE                  who has the place, and leaves; a reaper, when its client is dead; anybody
 *                                who finds no free entry, when it was AWAY for longer than LKS_AWAY_MAX_NS
 *
 * AWAY is left by CAS, so a place that was given up for us meanwhile is not taken from who has it now.  A
 * place counts while it is WAITING, and AWAY for as long as a reservation is good: the lock is not handed to
 * one who does not come.
 *
 * Death: the entry stays until its client is reaped.
 */
#ifndef LKS_COORD_PLACE_H
#define LKS_COORD_PLACE_H

#include <stdbool.h>

#include "base/status.h"
#include "coord/database.h"

#define LKS_RESERVED_NS (10000000ull)   /* a reservation is good for 10 ms */
#define LKS_AWAY_MAX_NS (1000000000ull) /* a place whose owner does not come back is given up */
#define LKS_NO_PLACE LKS_MAX_WAITERS

/* A place in the queue, of one connection. */
struct lks_place {
    uint32_t entry; /* LKS_NO_PLACE: none */
    uint32_t connection;
};

void lks_place_init(struct lks_place *place, uint32_t connection);

/* WAITING, where it stood if it is still ours, else behind all others.  NOMEM: no entry is free. */
LKS_CHECKED enum lockstep_status lks_place_enter(struct lockstep_db *db, struct lks_place *place,
                                                 uint64_t now);
/* From WAITING to AWAY. */
void lks_place_go_away(struct lockstep_db *db, struct lks_place *place, uint64_t now);
/* Gives it up, if it is still ours. */
void lks_place_leave(struct lockstep_db *db, struct lks_place *place);
/* Is it still ours?  It may have been given up for us while we were away. */
bool lks_place_is_ours(struct lockstep_db *db, const struct lks_place *place);

/* The entry that came first, LKS_NO_PLACE: nobody waits; and how many do.  `asleep`: only who is WAITING. */
uint32_t lks_place_first(struct lks_shm *shm, uint64_t now, bool asleep, uint32_t *out_count);
/*
 * Let its reservation expire.  Once may be the scheduler's doing.  Who does not come again may be stopped,
 * and is not to cost each round 10 ms: from the second time on it goes to the end.
 */
void lks_place_missed(struct lks_shm *shm, uint32_t entry);
/* Wakes who sleeps there. */
void lks_place_ring(struct lks_shm *shm, uint32_t entry);

#endif
