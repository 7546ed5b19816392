/* A transaction's claim on a snapshot. */
#ifndef LKS_COORD_READER_H
#define LKS_COORD_READER_H

#include <stdbool.h>

#include "base/status.h"
#include "coord/database.h"

struct lks_reader {
    uint32_t slot;      /* the one that was used last: tried first */
    uint64_t snapshot;  /* 0: no claim */
    uint64_t size;      /* bytes of the database at the snapshot */
    uint32_t connection;
};

/* Claims the newest snapshot.  No system call.  BUSY: all slots are taken, or commits race past. */
enum lockstep_status lks_reader_claim(struct lockstep_db *db, struct lks_reader *reader);
/* The same in a slot that is given: the worker's. */
enum lockstep_status lks_reader_claim_slot(struct lockstep_db *db, uint32_t slot,
                                           struct lks_reader *reader);
/*
 * Claims an older snapshot that another slot holds, of any process.  STALE: none does any more; BUSY as above.  The newest one
 * may be claimed so, too.
 */
enum lockstep_status lks_reader_share(struct lockstep_db *db, struct lks_reader *reader, uint64_t snapshot);
/* Moves the claim up to `snapshot`, which the caller, owner of WRITER, is about to publish or has. */
void lks_reader_advance(struct lockstep_db *db, struct lks_reader *reader, uint64_t snapshot,
                        uint64_t size);
/*
 * Around every walk of a chain and the copying of what it found (R2), but for owners of WRITER, under whom
 * nothing changes.  Short: blocks unlinked meanwhile are not used again before it ends.
 */
static inline void
lks_reader_walk(struct lockstep_db *db, const struct lks_reader *reader)
{
    lks_a64_set_relaxed(&db->shm->slots[reader->slot].walk,
                        lks_a64_acquire(&db->shm->state.committed));
    /* Pairs with lks_horizon_scan(): it sees the walk, or we see what was unlinked before it. */
    lks_fence();
}
static inline void
lks_reader_rest(struct lockstep_db *db, const struct lks_reader *reader)
{
    /* Release: what was copied was copied before. */
    lks_a64_set_release(&db->shm->slots[reader->slot].walk, 0);
}
void lks_reader_release(struct lockstep_db *db, struct lks_reader *reader);

/*
 * Readers of a log, in WAL mode: for people only; nobody is blocked or protected by a slot.  A connection has one
 * from enter (false: none is free) to leave, and shows there that it reads up to `frame` under read mark `mark`;
 * hidden, it is CLAIMING.
 */
bool lks_reader_enter(struct lockstep_db *db, uint32_t connection, uint32_t *out_slot);
void lks_reader_leave(struct lockstep_db *db, uint32_t slot);
void lks_reader_show(struct lockstep_db *db, uint32_t slot, uint32_t frame, uint32_t mark);
void lks_reader_hide(struct lockstep_db *db, uint32_t slot);

#endif
