#include "coord/freelist.h"

#include "base/crashpoint.h"

void
lks_freelist_clear(struct lks_shm *shm)
{
    lks_a32_set_relaxed(&shm->state.free_head, 0);
    lks_a32_set_relaxed(&shm->state.free_tail, 0);
    lks_a32_set_relaxed(&shm->state.free_count, 0);
}

void
lks_freelist_give(struct lks_shm *shm, const struct lks_geometry *g, uint32_t block)
{
    struct lks_shm_state *state = &shm->state;
    struct lks_shm_block *b = lks_chunk_block(shm, g, block);
    uint32_t tail = lks_a32_relaxed(&state->free_tail);

    lks_a32_set_relaxed(&b->state, LKS_BLOCK_FREE);
    lks_a64_set_relaxed(&b->gate, lks_a64_relaxed(&state->committed));
    lks_a32_set_relaxed(&b->free_next, 0);
    if (tail != 0 && lks_chunk_has(shm, g, tail))
        lks_a32_set_relaxed(&lks_chunk_block(shm, g, tail)->free_next, block);
    else
        lks_a32_set_relaxed(&state->free_head, block);
    lks_a32_set_relaxed(&state->free_tail, block);
    lks_a32_set_relaxed(&state->free_count, lks_a32_relaxed(&state->free_count) + 1);
    LKS_CRASH_POINT("freelist:given");
}

void
lks_freelist_return(struct lks_shm *shm, const struct lks_geometry *g, uint32_t block)
{
    struct lks_shm_state *state = &shm->state;
    struct lks_shm_block *b = lks_chunk_block(shm, g, block);
    uint32_t head = lks_a32_relaxed(&state->free_head);

    lks_a32_set_relaxed(&b->state, LKS_BLOCK_FREE);
    lks_a64_set_relaxed(&b->gate, 0);
    lks_a32_set_relaxed(&b->free_next, head);
    lks_a32_set_relaxed(&state->free_head, block);
    if (head == 0)
        lks_a32_set_relaxed(&state->free_tail, block);
    lks_a32_set_relaxed(&state->free_count, lks_a32_relaxed(&state->free_count) + 1);
}

uint32_t
lks_freelist_take(struct lks_shm *shm, const struct lks_geometry *g, uint64_t limit)
{
    struct lks_shm_state *state = &shm->state;
    uint32_t head = lks_a32_relaxed(&state->free_head);
    struct lks_shm_block *b;
    uint32_t next;

    if (head == 0 || !lks_chunk_has(shm, g, head))
        return 0;
    b = lks_chunk_block(shm, g, head);
    /* B1 */
    if (lks_a64_relaxed(&b->gate) >= limit)
        return 0;
    next = lks_a32_relaxed(&b->free_next);
    lks_a32_set_relaxed(&state->free_head, next);
    if (next == 0)
        lks_a32_set_relaxed(&state->free_tail, 0);
    lks_a32_set_relaxed(&state->free_count, lks_a32_relaxed(&state->free_count) - 1);
    return head;
}

uint32_t
lks_freelist_take_fresh(struct lks_shm *shm, const struct lks_geometry *g)
{
    uint32_t block = lks_a32_relaxed(&shm->state.blocks_fresh) + 1;
    if (!lks_chunk_has(shm, g, block))
        return 0;
    lks_a32_set_relaxed(&shm->state.blocks_fresh, block);
    return block;
}

bool
lks_freelist_walk(const struct lks_shm *shm, const struct lks_geometry *g,
                  bool (*visit)(void *arg, uint32_t block, uint64_t gate), void *arg)
{
    uint32_t left = lks_a32_relaxed(&shm->state.blocks_fresh);
    uint32_t block = lks_a32_relaxed(&shm->state.free_head);
    for (; block != 0; left--) {
        const struct lks_shm_block *b;
        if (left == 0 || !lks_chunk_has(shm, g, block))
            return false;
        b = lks_chunk_block(shm, g, block);
        if (!visit(arg, block, lks_a64_relaxed(&b->gate)))
            return false;
        block = lks_a32_relaxed(&b->free_next);
    }
    return true;
}
