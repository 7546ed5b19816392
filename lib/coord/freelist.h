/*
 * Blocks that hold nothing: two queues, each in the order in which blocks were given, gated by the walks of readers.
 * What was written a moment ago is still in the processor's caches: the warm queue, a short one, is used first.
 *
 * All calls: holding WRITER.  The list is a convenience and never trusted after a death: whoever takes
 * over from a dead writer makes it anew from what the chains do not reach.
 */
#ifndef LKS_COORD_FREELIST_H
#define LKS_COORD_FREELIST_H

#include <stdbool.h>

#include "base/status.h"
#include "coord/horizon.h"
#include "shm/chunk.h"

/* Empties the list; every block up to blocks_fresh is then lost until given. */
void lks_freelist_clear(struct lks_shm *shm);
/* An unlinked block, or one that was linked and rolled back: gated by `committed` as it is now. */
void lks_freelist_give(struct lks_shm *shm, const struct lks_geometry *g, uint32_t block);
/* The same of one that was written lately. */
void lks_freelist_give_warm(struct lks_shm *shm, const struct lks_geometry *g, uint32_t block);
/* Refree: a block that was taken and never linked, at once usable. */
void lks_freelist_return(struct lks_shm *shm, const struct lks_geometry *g, uint32_t block);
/*
 * The first warm block if its gate is below `limit`, else the first other one, else 0.  The limit: `walking` of any scan, for blocks unlinked
 * before its floor was committed were unlinked before the scan; or `walks` of a scan that was made after the last
 * block was given, under the same ownership of WRITER.
 */
uint32_t lks_freelist_take(struct lks_shm *shm, const struct lks_geometry *g, uint64_t limit);
/* A block that was never used, 0 if the chunks there are have none. */
uint32_t lks_freelist_take_fresh(struct lks_shm *shm, const struct lks_geometry *g);

/* Calls visit for each block, the warm ones last, each queue from the oldest; stops and returns false when visit does, or on damage. */
bool lks_freelist_walk(const struct lks_shm *shm, const struct lks_geometry *g,
                       bool (*visit)(void *arg, uint32_t block, uint64_t gate), void *arg);

#endif
