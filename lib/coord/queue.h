/*
 * The writer lock, for which connections wait in order of arrival (place.h).
 *
 * The word `state.writer` is FREE, OWNED by a client, or RESERVED for a waiter.
 *
 *   take      FREE -> OWNED, or RESERVED for my entry -> OWNED, by CAS.  Anybody may take a FREE word, so
 *             a newcomer may overtake; RESERVED for another may be taken once it is LKS_RESERVED_NS old.
 *   unlock    OWNED -> FREE; or, when the one who came first waits for longer than LKS_STARVING_NS and the
 *             owner's turn is over, OWNED -> RESERVED for that one, and its bell is rung.
 *   wait      enter the queue; sleep on my bell until the word is RESERVED for me.  I make it so myself when
 *             it stays FREE for LKS_GRACE_NS and I came first, or who did does not take it.  A reservation
 *             leaves time to go through SQLite and come back.
 *   death     OWNED by a client whose CLIENT lock is free: the reaper, who holds that lock, moves the word to
 *             OWNED by itself, repairs, and unlocks.
 *
 * A turn is the time in which those who wait are overtaken, by one connection that takes the lock again and
 * again or by several: LKS_TURN_NS, or less with very many waiters, so that a round of all takes
 * LKS_ROUND_NS.  It begins when one of them gets the lock, or when the first one comes.  To pass the lock
 * on costs a switch between processes, and the new owner's page cache is stale; a turn is what that is paid
 * for.  A transaction that is longer is not cut short: its turn is over when it ends.
 *
 * The generation in the word rises with every change, so no CAS succeeds on a word that was away in between.
 * No wake-up is lost: a waiter sets its flag in queue_flags and then looks at the word; an unlocker changes
 * the word and then looks at the flags; both with seq_cst read-modify-writes.  And every sleep is bounded.
 */
#ifndef LKS_COORD_QUEUE_H
#define LKS_COORD_QUEUE_H

#include <stdbool.h>

#include "base/status.h"
#include "coord/database.h"
#include "coord/place.h"

#define LKS_STARVING_NS (1000000ull)   /* after 1 ms in the queue the lock is handed over */
#define LKS_TURN_NS (500000ull)        /* for so long an owner may come back before those who wait */
#define LKS_ROUND_NS (50000000ull)     /* what the turns of all waiters together may take */
#define LKS_GRACE_NS (5000ull)         /* an owner that comes back at once is back within this */

/* Takes the lock now or says BUSY.  Gives the place back on success. */
enum lockstep_status lks_queue_take(struct lockstep_db *db, struct lks_place *place);
/*
 * Waits at most wait_ns until the lock is reserved for `place`.  On TIMEOUT the place is kept, for the
 * next call, until lks_queue_leave().  NOMEM: no entry is free (the caller may sleep by other means).
 */
enum lockstep_status lks_queue_wait(struct lockstep_db *db, struct lks_place *place, uint64_t wait_ns);
void lks_queue_leave(struct lockstep_db *db, struct lks_place *place);
/* Takes it, waiting up to wait_ns. */
enum lockstep_status lks_queue_lock(struct lockstep_db *db, struct lks_place *place, uint64_t wait_ns);
void lks_queue_unlock(struct lockstep_db *db);

/* What a place in the queue is worth: to be remembered before the lock is taken. */
struct lks_turn {
    uint64_t sequence; /* 0: it was in no queue */
    uint64_t since_ns;
};
struct lks_turn lks_queue_turn(struct lockstep_db *db, const struct lks_place *place);
/*
 * The owner cannot use the lock just now, for somebody outside the queue is in the way: he goes back to
 * where he stood, and the lock is reserved for him.
 */
void lks_queue_return(struct lockstep_db *db, struct lks_place *place, struct lks_turn turn);

/* Would lks_queue_take() say BUSY just now? */
bool lks_queue_is_taken(const struct lockstep_db *db, const struct lks_place *place);

/* The client that owns the lock, or has it reserved; LKS_MAX_CLIENTS: nobody. */
uint32_t lks_queue_owner(const struct lockstep_db *db, uint64_t *out_since_ns);
/*
 * The reaper's part, holding CLIENT(client): if it owned the lock, repair and unlock.  After an error the
 * lock is the dead client's still: its entry must stay, for the next reaper.
 */
enum lockstep_status lks_queue_take_over(struct lockstep_db *db, uint32_t client);

#endif
