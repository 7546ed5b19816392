/*
 * Which snapshots are in use.
 *
 * A scan loads `committed` (its floor), fences, then looks at every slot, the worker's last.  What it
 * missed is a claim that had not been seen yet; that claim's second look finds `committed` at the floor
 * or above and rests there.  So a scan stays true for ever of snapshots below its floor: it may only
 * believe in transactions that have ended since.  That is why the writer may keep one.
 *
 * An older snapshot may be taken over from the slot that holds it (lks_reader_share()), but only from one that is active
 * there.  Of all who ever used it, the first claimed it when it was the newest, and a scan with a higher floor has seen
 * him; each later one counted itself in `shares` after its claim and before it looked at the one before it.  Did the count
 * stand still during the scan, then whoever counted before it was seen, and whoever counts after it leans on one that was
 * there all the time, and was seen.  A scan that finds the count changed looks again; when that does not end, everything
 * counts as used.
 *
 * The same holds for walks: one that the scan missed began after it (store of walk, fence, load of the bucket
 * there; unlink, fence, load of walk here), and does not meet what had been unlinked before.
 */
#ifndef LKS_COORD_HORIZON_H
#define LKS_COORD_HORIZON_H

#include <stdbool.h>
#include <stddef.h>

#include "shm/layout.h"

struct lks_horizon {
    uint64_t floor;   /* committed when the scan began; 0: no scan yet */
    uint64_t lowest;  /* min(floor, every used snapshot) */
    uint64_t walking; /* min(floor, every walk): blocks with a gate below it may be handed out */
    uint64_t walks;   /* min(every walk), UINT64_MAX: nobody walks; see lks_freelist_take() */
    bool unsure;      /* snapshots change hands too fast: all below the floor are used, lowest is 1 */
    uint32_t count;
    uint64_t used[LKS_MAX_SLOTS]; /* snapshots of used slots below the floor, ascending */
};

/* A claiming slot counts as used.  The writer's own slot is at the floor, so it does not count. */
void lks_horizon_scan(const struct lks_shm *shm, struct lks_horizon *out_horizon);

/* Is a snapshot s with from <= s < below in use?  `below` must not be above the floor. */
bool lks_horizon_used(const struct lks_horizon *horizon, uint64_t from, uint64_t below);

#endif
