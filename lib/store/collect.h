/* What is to be written: of each unit that commits have changed, the newest version of these. */
#ifndef LKS_STORE_COLLECT_H
#define LKS_STORE_COLLECT_H

#include "store/pagetable.h"

/* One version of one unit. */
struct lks_change {
    uint64_t id;
    uint32_t unit_no;
    uint32_t block;
};

struct lks_collection {
    uint64_t from, target;      /* from < id <= target */
    struct lks_change *changes; /* free() it */
    size_t count, capacity;
};

/* A lks_pagetable_visit, with a collection for `arg`: keeps the block if its id is within. */
LKS_CHECKED enum lockstep_status lks_collect(void *arg, uint32_t block, const struct lks_shm_block *b);
/* Leaves the newest of each unit, in ascending order of units. */
void lks_collect_newest(struct lks_collection *collection);

#endif
