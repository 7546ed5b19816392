#include "coord/freelist.h"

#include "base/crashpoint.h"

/* More than so many warm blocks are not warm: 1 MiB of pages of the usual size. */
#define WARM_MAX 256u

struct queue {
    struct lks_a32 *head, *tail;
};

static struct queue
cold_queue(struct lks_shm *shm)
{
    return (struct queue){&shm->state.free_head, &shm->state.free_tail};
}

static struct queue
warm_queue(struct lks_shm *shm)
{
    return (struct queue){&shm->state.warm_head, &shm->state.warm_tail};
}

static void
count(struct lks_a32 *counter, uint32_t change)
{
    lks_a32_set_relaxed(counter, lks_a32_relaxed(counter) + change);
}

static void
append(struct lks_shm *shm, const struct lks_geometry *g, struct queue q, uint32_t block)
{
    uint32_t tail = lks_a32_relaxed(q.tail);
    lks_a32_set_relaxed(&lks_chunk_block(shm, g, block)->free_next, 0);
    if (tail != 0 && lks_chunk_has(shm, g, tail))
        lks_a32_set_relaxed(&lks_chunk_block(shm, g, tail)->free_next, block);
    else
        lks_a32_set_relaxed(q.head, block);
    lks_a32_set_relaxed(q.tail, block);
}

/* The first of the queue if its gate is below `limit`, else 0. */
static uint32_t
take_first(struct lks_shm *shm, const struct lks_geometry *g, struct queue q, uint64_t limit)
{
    uint32_t head = lks_a32_relaxed(q.head), next;
    const struct lks_shm_block *b;
    if (head == 0 || !lks_chunk_has(shm, g, head))
        return 0;
    b = lks_chunk_block(shm, g, head);
    /* Not free: the list is damaged. */
    if (lks_a32_relaxed(&b->state) != LKS_BLOCK_FREE)
        return 0;
    /* B1 */
    if (lks_a64_relaxed(&b->gate) >= limit)
        return 0;
    next = lks_a32_relaxed(&b->free_next);
    lks_a32_set_relaxed(q.head, next);
    if (next == 0)
        lks_a32_set_relaxed(q.tail, 0);
    return head;
}

void
lks_freelist_clear(struct lks_shm *shm)
{
    lks_a32_set_relaxed(&shm->state.free_head, 0);
    lks_a32_set_relaxed(&shm->state.free_tail, 0);
    lks_a32_set_relaxed(&shm->state.free_count, 0);
    lks_a32_set_relaxed(&shm->state.warm_head, 0);
    lks_a32_set_relaxed(&shm->state.warm_tail, 0);
    lks_a32_set_relaxed(&shm->state.warm_count, 0);
}

static void
close_gate(struct lks_shm *shm, const struct lks_geometry *g, uint32_t block)
{
    struct lks_shm_block *b = lks_chunk_block(shm, g, block);
    lks_a32_set_relaxed(&b->state, LKS_BLOCK_FREE);
    lks_a64_set_relaxed(&b->gate, lks_a64_relaxed(&shm->state.committed));
    count(&shm->state.free_count, 1);
}

void
lks_freelist_give(struct lks_shm *shm, const struct lks_geometry *g, uint32_t block)
{
    close_gate(shm, g, block);
    append(shm, g, cold_queue(shm), block);
    LKS_CRASH_POINT("freelist:given");
}

void
lks_freelist_give_warm(struct lks_shm *shm, const struct lks_geometry *g, uint32_t block)
{
    struct lks_shm_state *state = &shm->state;
    close_gate(shm, g, block);
    append(shm, g, warm_queue(shm), block);
    count(&state->warm_count, 1);
    LKS_CRASH_POINT("freelist:given-warm");
    if (lks_a32_relaxed(&state->warm_count) <= WARM_MAX)
        return;
    block = take_first(shm, g, warm_queue(shm), UINT64_MAX);
    count(&state->warm_count, (uint32_t)-1);
    if (block != 0)
        append(shm, g, cold_queue(shm), block);
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
    count(&state->free_count, 1);
}

uint32_t
lks_freelist_take(struct lks_shm *shm, const struct lks_geometry *g, uint64_t limit)
{
    uint32_t block = take_first(shm, g, warm_queue(shm), limit);
    if (block != 0)
        count(&shm->state.warm_count, (uint32_t)-1);
    else
        block = take_first(shm, g, cold_queue(shm), limit);
    if (block != 0)
        count(&shm->state.free_count, (uint32_t)-1);
    return block;
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

static bool
walk_queue(const struct lks_shm *shm, const struct lks_geometry *g, uint32_t block, uint32_t *left,
           bool (*visit)(void *arg, uint32_t block, uint64_t gate), void *arg)
{
    for (; block != 0; (*left)--) {
        const struct lks_shm_block *b;
        if (*left == 0 || !lks_chunk_has(shm, g, block))
            return false;
        b = lks_chunk_block(shm, g, block);
        if (!visit(arg, block, lks_a64_relaxed(&b->gate)))
            return false;
        block = lks_a32_relaxed(&b->free_next);
    }
    return true;
}

bool
lks_freelist_walk(const struct lks_shm *shm, const struct lks_geometry *g,
                  bool (*visit)(void *arg, uint32_t block, uint64_t gate), void *arg)
{
    uint32_t left = lks_a32_relaxed(&shm->state.blocks_fresh);
    return walk_queue(shm, g, lks_a32_relaxed(&shm->state.free_head), &left, visit, arg) &&
           walk_queue(shm, g, lks_a32_relaxed(&shm->state.warm_head), &left, visit, arg);
}
