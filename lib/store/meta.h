/*
 * A record that is kept twice in the file, in two places that take turns.
 *
 * A new record goes where the newest valid one is not.  So whatever becomes of the one that is being written, by a power
 * cut after commits with OFF, or of either by a bad disk, the other is there.  LSM1's two meta pages do this
 * (lsm_ckpt.c of SQLite: the snapshot ids, the checksum, the page that is written next).
 *
 *   0   4   magic "LkMr"
 *   4   4   bytes of the payload
 *   8   8   sequence, from 1: one more with each record; an odd one is in place 1, an even one in place 0
 *   16  8   FNV-1a, 64 bits, of the 16 bytes ahead of it and the payload
 *   24      payload; what follows up to the end of the place means nothing
 *
 * All numbers are big-endian.  FNV-1a takes one byte after the other by operations that can be undone, so that no change
 * of a single byte goes unseen.  A place whose first 24 bytes are zeros, or beyond the end of the file, has no record.
 */
#ifndef LKS_STORE_META_H
#define LKS_STORE_META_H

#include "base/status.h"
#include "store/transaction.h"

#define LKS_META_HEADER_BYTES LOCKSTEP_META_HEADER

/*
 * The newest valid record as the transaction sees it.  *out_sequence 0 and *out_size 0: none was ever written.  CORRUPT:
 * there was one, and no valid one is left.  `buf` has room for the largest payload, places->size - LKS_META_HEADER_BYTES.
 */
LKS_CHECKED enum lockstep_status lks_meta_read(struct lockstep_conn *conn, const struct lockstep_meta *places,
                                               void *buf, size_t *out_size, uint64_t *out_sequence);
/* Writes the next one, in the transaction, which is the writer.  Where none is valid it begins with 1 again. */
LKS_CHECKED enum lockstep_status lks_meta_write(struct lockstep_conn *conn, const struct lockstep_meta *places,
                                                const void *payload, size_t size, uint64_t *out_sequence);

#endif
