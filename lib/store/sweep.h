/*
 * Letting go of versions that nobody can need: the owner of WRITER unlinks them.
 *
 * Of one unit, with versions v1 < v2 < ..., F the flushed commit and N the one that a batch is now writing
 * (N = F when none is):
 *   superseded   v(i) goes when no used slot s has v(i) <= s < v(i+1), and v(i+1) is committed;
 *   in the file  v(i), the newest with v(i) <= F, goes when no older one is left (oldest first: a reader would
 *                take an older one for its own), no version lies in (F, N] (the file is being changed under
 *                it), and, when a newer version is there, no used slot s has v(i) <= s < N (a version between
 *                the two may have been superseded and gone, after it was written: the file has that one).
 * Each unlink is one atomic store; readers that stand on an unlinked block go on from there (B1).
 */
#ifndef LKS_STORE_SWEEP_H
#define LKS_STORE_SWEEP_H

#include "base/status.h"
#include "coord/database.h"

/* Of everything.  Scans the slots anew.  Holding WRITER. */
LKS_CHECKED enum lockstep_status lks_sweep(struct lockstep_db *db, const struct lks_geometry *g);
/* The same if anything was committed or flushed since the last one. */
LKS_CHECKED enum lockstep_status lks_sweep_if_due(struct lockstep_db *db,
                                                  const struct lks_geometry *g);
/*
 * Of one unit, superseded versions only, with the scan that there is: `newest` was just written over.
 * Cheap: it looks at a few blocks.  Holding WRITER.
 */
LKS_CHECKED enum lockstep_status lks_sweep_unit(struct lockstep_db *db, const struct lks_geometry *g,
                                                uint32_t newest);

#endif
