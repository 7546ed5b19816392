#include "store/pagetable.h"

#include "base/crashpoint.h"
#include "coord/freelist.h"

/* One walk's bounds: the number of blocks is loaded again only for a number that is beyond it. */
struct walk {
    const struct lks_shm *shm;
    const struct lks_geometry *g;
    uint32_t blocks;
    uint32_t steps;
};

static struct walk
walk_begin(const struct lks_shm *shm, const struct lks_geometry *g)
{
    struct walk w = {shm, g, 0, 0};
    return w;
}

/* May the walk go on to `block`? */
static inline bool
walk_may(struct walk *w, uint32_t block)
{
    if (block > w->blocks) {
        w->blocks = lks_chunk_blocks(w->g, lks_a32_acquire(&w->shm->state.chunks));
        if (block > w->blocks)
            return false;
    }
    /* A chain that is longer than there are blocks is a ring. */
    return w->steps++ <= w->blocks;
}

enum lockstep_status
lks_pagetable_find(struct lks_shm *shm, const struct lks_geometry *g, uint32_t unit_no,
                   uint64_t snapshot, uint32_t *out_block)
{
    struct walk w = walk_begin(shm, g);
    /* Acquire, here and at each next: pairs with the release of link and unlink. */
    uint32_t block = lks_a32_acquire(lks_pagetable_bucket(shm, unit_no));
    while (block != 0) {
        const struct lks_shm_block *b;
        if (!walk_may(&w, block))
            return LOCKSTEP_CORRUPT;
        b = lks_chunk_block(shm, g, block);
        if (lks_a32_relaxed(&b->unit_no) == unit_no && lks_a64_relaxed(&b->id) <= snapshot)
            break;
        block = lks_a32_acquire(&b->next);
    }
    *out_block = block;
    return LOCKSTEP_OK;
}

enum lockstep_status
lks_pagetable_oldest(struct lks_shm *shm, const struct lks_geometry *g, uint32_t unit_no,
                     uint64_t *out_id)
{
    struct walk w = walk_begin(shm, g);
    uint32_t block = lks_a32_acquire(lks_pagetable_bucket(shm, unit_no));
    uint64_t oldest = UINT64_MAX;
    while (block != 0) {
        const struct lks_shm_block *b;
        if (!walk_may(&w, block))
            return LOCKSTEP_CORRUPT;
        b = lks_chunk_block(shm, g, block);
        if (lks_a32_relaxed(&b->unit_no) == unit_no)
            oldest = lks_a64_relaxed(&b->id);
        block = lks_a32_acquire(&b->next);
    }
    *out_id = oldest;
    return LOCKSTEP_OK;
}

static void
count_used(struct lks_shm *shm, uint32_t change)
{
    lks_a32_set_relaxed(&shm->state.blocks_used, lks_a32_relaxed(&shm->state.blocks_used) + change);
}

void
lks_pagetable_link(struct lks_shm *shm, const struct lks_geometry *g, uint32_t block)
{
    struct lks_shm_block *b = lks_chunk_block(shm, g, block);
    struct lks_a32 *bucket = lks_pagetable_bucket(shm, lks_a32_relaxed(&b->unit_no));
    lks_a32_set_relaxed(&b->state, LKS_BLOCK_USED);
    lks_a32_set_relaxed(&b->next, lks_a32_relaxed(bucket));
    LKS_CRASH_POINT("pagetable:linking");
    lks_a32_set_release(bucket, block);
    count_used(shm, 1);
    LKS_CRASH_POINT("pagetable:linked");
}

enum lockstep_status
lks_pagetable_append(struct lks_shm *shm, const struct lks_geometry *g, uint32_t block)
{
    struct walk w = walk_begin(shm, g);
    struct lks_shm_block *b = lks_chunk_block(shm, g, block);
    struct lks_a32 *link = lks_pagetable_bucket(shm, lks_a32_relaxed(&b->unit_no));
    uint32_t at;
    while ((at = lks_a32_acquire(link)) != 0) {
        if (!walk_may(&w, at))
            return LOCKSTEP_CORRUPT;
        link = &lks_chunk_block(shm, g, at)->next;
    }
    lks_a32_set_relaxed(&b->state, LKS_BLOCK_USED);
    lks_a32_set_relaxed(&b->next, 0);
    lks_a32_set_release(link, block);
    count_used(shm, 1);
    return LOCKSTEP_OK;
}

enum lockstep_status
lks_pagetable_unlink(struct lks_shm *shm, const struct lks_geometry *g, uint32_t block)
{
    struct walk w = walk_begin(shm, g);
    struct lks_shm_block *b = lks_chunk_block(shm, g, block);
    struct lks_a32 *link = lks_pagetable_bucket(shm, lks_a32_relaxed(&b->unit_no));
    uint32_t at;
    while ((at = lks_a32_acquire(link)) != block) {
        if (at == 0 || !walk_may(&w, at))
            return LOCKSTEP_CORRUPT;
        link = &lks_chunk_block(shm, g, at)->next;
    }
    lks_a32_set_release(link, lks_a32_relaxed(&b->next));
    LKS_CRASH_POINT("pagetable:unlinked");
    count_used(shm, (uint32_t)-1);
    lks_freelist_give_warm(shm, g, block);
    return LOCKSTEP_OK;
}

static void
mark_bucket(struct lks_shm *shm, uint32_t bucket)
{
    lks_a64_or(&shm->dirty[bucket / 64], (uint64_t)1 << bucket % 64);
}

void
lks_pagetable_mark_dirty(struct lks_shm *shm, uint32_t unit_no)
{
    mark_bucket(shm, lks_pagetable_bucket_no(unit_no));
}

/* One chain.  *out_newest: the largest id in it. */
static enum lockstep_status
walk_bucket(struct lks_shm *shm, const struct lks_geometry *g, uint32_t bucket, lks_pagetable_visit visit,
            void *arg, uint64_t *out_newest)
{
    struct walk w = walk_begin(shm, g);
    uint32_t block = lks_a32_acquire(&shm->buckets[bucket]);
    uint64_t newest = 0;
    while (block != 0) {
        const struct lks_shm_block *b;
        enum lockstep_status status;
        if (!walk_may(&w, block))
            return LOCKSTEP_CORRUPT;
        b = lks_chunk_block(shm, g, block);
        if (lks_a64_relaxed(&b->id) > newest)
            newest = lks_a64_relaxed(&b->id);
        status = visit(arg, block, b);
        if (status != LOCKSTEP_OK)
            return status;
        block = lks_a32_acquire(&b->next);
    }
    *out_newest = newest;
    return LOCKSTEP_OK;
}

enum lockstep_status
lks_pagetable_walk(struct lks_shm *shm, const struct lks_geometry *g, lks_pagetable_visit visit,
                   void *arg)
{
    enum lockstep_status status = LOCKSTEP_OK;
    uint64_t newest;
    uint32_t i;
    for (i = 0; i < LKS_MAX_BUCKETS && status == LOCKSTEP_OK; i++)
        status = walk_bucket(shm, g, i, visit, arg, &newest);
    return status;
}

enum lockstep_status
lks_pagetable_walk_dirty(struct lks_shm *shm, const struct lks_geometry *g, uint64_t up_to,
                         lks_pagetable_visit visit, void *arg)
{
    uint32_t word;
    for (word = 0; word < LKS_DIRTY_WORDS; word++) {
        uint64_t marks = lks_a64_relaxed(&shm->dirty[word]);
        if (marks != 0)
            marks = lks_a64_swap(&shm->dirty[word], 0);
        while (marks != 0) {
            uint32_t bucket = word * 64 + (uint32_t)__builtin_ctzll(marks);
            uint64_t newest;
            enum lockstep_status status = walk_bucket(shm, g, bucket, visit, arg, &newest);
            if (status != LOCKSTEP_OK)
                return status;
            if (newest > up_to)
                mark_bucket(shm, bucket);
            marks &= marks - 1;
        }
    }
    return LOCKSTEP_OK;
}
