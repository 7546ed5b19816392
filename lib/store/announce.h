/*
 * Announcing a batch: what the file will be after it, and what it has now that somebody may still read.
 *
 * This is step 4 of batch.h.  next_id, next_size and next_counter say what the batch is about to make of
 * the file, to readers that may meet it half written, to sweeps, and to who finds the file after a death.
 * Below the target the file may hold the only copy of what a snapshot sees: that goes behind the chains,
 * holding WRITER, and the file is not cut shorter.
 */
#ifndef LKS_STORE_ANNOUNCE_H
#define LKS_STORE_ANNOUNCE_H

#include "store/batch.h"

/*
 * Chooses file_size_after, and takes out of `found` what that cuts off.  Holding batch_mutex and the pin.
 * After an error next_id may be the target all the same: readers look twice, sweeps keep more, and the next
 * batch announces anew.  BUSY: WRITER could not be had in a second.  FULL: there is no block for what is to
 * be kept.
 */
LKS_CHECKED enum lockstep_status lks_announce(struct lks_batch *batch);

#endif
