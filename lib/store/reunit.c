#include "store/reunit.h"

#include "base/crashpoint.h"
#include "coord/freelist.h"

/* log2 if `size` is a page size and `offset` a multiple of it, else 0. */
static uint32_t
page_log2(uint64_t offset, size_t size)
{
    uint32_t log2;
    for (log2 = LKS_UNIT_LOG2_MIN; log2 <= LKS_UNIT_LOG2_MAX; log2++)
        if (size == 1u << log2)
            return offset % size == 0 ? log2 : 0;
    return 0;
}

/* Is the writer's own slot the only one? */
static bool
is_alone(const struct lks_shm *shm)
{
    uint32_t high = lks_a32_acquire(&shm->state.slots_high);
    uint32_t used = 0, i;
    for (i = 0; i <= high && i < LKS_MAX_SLOTS; i++)
        if (lks_a64_acquire(&shm->slots[i].word) != 0)
            used++;
    return used <= 1;
}

enum lockstep_status
lks_reunit(struct lockstep_db *db, uint64_t offset, size_t size, const struct lks_geometry **geometry)
{
    struct lks_shm_state *state = &db->shm->state;
    uint32_t log2 = page_log2(offset, size);
    uint32_t before = lks_a32_relaxed(&state->unit_log2);

    if (log2 == 0 || log2 == before || lks_a32_relaxed(&state->blocks_used) != 0)
        return LOCKSTEP_OK;
    lks_a32_set_relaxed(&state->unit_log2, 0);
    lks_fence();
    LKS_CRASH_POINT("reunit:between");
    if (!is_alone(db->shm)) {
        lks_a32_set_release(&state->unit_log2, before);
        return LOCKSTEP_OK;
    }
    /* The chunks are made anew in the new shape; the space is there already. */
    lks_freelist_clear(db->shm);
    lks_a32_set_relaxed(&state->chunks, 0);
    lks_a32_set_relaxed(&state->blocks_fresh, 0);
    lks_a32_set_release(&state->unit_log2, log2);
    *geometry = lks_geometry_of(log2);
    return LOCKSTEP_OK;
}
