/*
 * Which block holds a unit as of a snapshot: hash chains, newest first.
 *
 * Walked by anybody at any time; changed by the owner of WRITER only, by one atomic store at a time.  Every
 * walk is bounded and every number checked: CORRUPT means that the coordination file is damaged.
 */
#ifndef LKS_STORE_PAGETABLE_H
#define LKS_STORE_PAGETABLE_H

#include "base/status.h"
#include "shm/chunk.h"

static inline uint32_t
lks_pagetable_bucket_no(uint32_t unit_no)
{
    /* Neighbours are neighbours: what is used together is in the same cache lines, and few numbers meet. */
    return (unit_no ^ unit_no >> 16) % LKS_MAX_BUCKETS;
}
static inline struct lks_a32 *
lks_pagetable_bucket(struct lks_shm *shm, uint32_t unit_no)
{
    return &shm->buckets[lks_pagetable_bucket_no(unit_no)];
}

/* The first block of the unit with id <= snapshot; *out_block 0: none, look in the file. */
LKS_CHECKED enum lockstep_status lks_pagetable_find(struct lks_shm *shm, const struct lks_geometry *g,
                                                    uint32_t unit_no, uint64_t snapshot,
                                                    uint32_t *out_block);
/* The smallest id of the unit's blocks, UINT64_MAX if it has none. */
LKS_CHECKED enum lockstep_status lks_pagetable_oldest(struct lks_shm *shm, const struct lks_geometry *g,
                                                      uint32_t unit_no, uint64_t *out_id);

/* Holding WRITER.  The block has its id, unit_no and data. */
void lks_pagetable_link(struct lks_shm *shm, const struct lks_geometry *g, uint32_t block);
/* After the link, and before the commit that the block is of: see D1 in shm/layout.h. */
void lks_pagetable_mark_dirty(struct lks_shm *shm, uint32_t unit_no);
/* Behind all others of its bucket: an older version than any there. */
LKS_CHECKED enum lockstep_status lks_pagetable_append(struct lks_shm *shm, const struct lks_geometry *g,
                                                      uint32_t block);
/* Takes it out of its chain and gives it to the freelist.  CORRUPT if it is not in it. */
LKS_CHECKED enum lockstep_status lks_pagetable_unlink(struct lks_shm *shm, const struct lks_geometry *g,
                                                      uint32_t block);

/* Calls visit for each block of every chain.  Any status but OK from it ends the walk. */
typedef enum lockstep_status (*lks_pagetable_visit)(void *arg, uint32_t block,
                                                    const struct lks_shm_block *b);
LKS_CHECKED enum lockstep_status lks_pagetable_walk(struct lks_shm *shm, const struct lks_geometry *g,
                                                    lks_pagetable_visit visit, void *arg);
/*
 * The same for the buckets that are marked dirty, and takes the marks, but where a block has an id beyond `up_to`.
 * Holding WORKER.  After an error marks are lost: only a walk of everything will do (D1).
 */
LKS_CHECKED enum lockstep_status lks_pagetable_walk_dirty(struct lks_shm *shm,
                                                          const struct lks_geometry *g, uint64_t up_to,
                                                          lks_pagetable_visit visit, void *arg);

#endif
