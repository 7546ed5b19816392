#include "coord/horizon.h"

#include <assert.h>

/* Keeps used[] sorted; nearly always a handful, so by insertion. */
static void
note(struct lks_horizon *h, uint64_t snapshot)
{
    uint32_t i = h->count;
    if (snapshot >= h->floor)
        return;
    if (snapshot < h->lowest)
        h->lowest = snapshot;
    while (i > 0 && h->used[i - 1] > snapshot)
        i--;
    if (i > 0 && h->used[i - 1] == snapshot)
        return;
    for (uint32_t j = h->count; j > i; j--)
        h->used[j] = h->used[j - 1];
    h->used[i] = snapshot;
    h->count++;
}

/* So often a scan is made again because a snapshot changed hands in the middle of it. */
#define MAX_LOOKS 8u

/* One look at all slots.  False: a snapshot changed hands meanwhile. */
static bool
look(const struct lks_shm *shm, struct lks_horizon *h)
{
    uint32_t high, i, shares = lks_a32_seq(&shm->state.shares);
    h->floor = lks_a64_acquire(&shm->state.committed);
    h->lowest = h->floor;
    h->walks = UINT64_MAX;
    h->count = 0;
    /* Pairs with the fences in lks_reader_claim() and lks_reader_share(). */
    lks_fence();
    high = lks_a32_acquire(&shm->state.slots_high);
    if (high >= LKS_MAX_SLOTS)
        high = LKS_MAX_SLOTS - 1;
    for (i = high + 1; i-- > 0;) {
        /* Acquire: what the transaction read, it read before it let go of the slot. */
        uint64_t word = lks_a64_acquire(&shm->slots[i].word);
        uint64_t walk = lks_a64_acquire(&shm->slots[i].walk);
        if (lks_slot_state_of(word) != LKS_SLOT_FREE)
            note(h, lks_slot_snapshot(word));
        if (walk != 0 && walk < h->walks)
            h->walks = walk;
    }
    h->walking = h->walks < h->floor ? h->walks : h->floor;
    /* Pairs with lks_reader_share(): it sees the slot that it leans on as we did, or we see that it was there. */
    lks_fence();
    return lks_a32_seq(&shm->state.shares) == shares;
}

void
lks_horizon_scan(const struct lks_shm *shm, struct lks_horizon *out_horizon)
{
    uint32_t looks;
    out_horizon->unsure = false;
    for (looks = 0; looks < MAX_LOOKS; looks++)
        if (look(shm, out_horizon))
            return;
    out_horizon->unsure = true;
    out_horizon->lowest = 1;
    if (out_horizon->count == 0)
        out_horizon->used[out_horizon->count++] = 1;
}

bool
lks_horizon_used(const struct lks_horizon *h, uint64_t from, uint64_t below)
{
    uint32_t low = 0, high = h->count;
    assert(below <= h->floor);
    if (h->unsure)
        return from < below;
    while (low < high) {
        uint32_t middle = (low + high) / 2;
        if (h->used[middle] < from)
            low = middle + 1;
        else
            high = middle;
    }
    return low < h->count && h->used[low] < below;
}
