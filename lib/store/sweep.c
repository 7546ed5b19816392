#include "store/sweep.h"

#include "base/crashpoint.h"
#include "coord/client.h"
#include "coord/freelist.h"
#include "store/pagetable.h"

/* A chain as it was found, newest first.  A longer one is left to a later sweep, in part. */
#define MAX_CHAIN 4096u
/* How far lks_sweep_unit() looks. */
#define UNIT_STEPS 32

struct sweep {
    struct lockstep_db *db;
    const struct lks_geometry *g;
    uint64_t flushed;
    uint64_t next;
    uint32_t chain[MAX_CHAIN];
    uint32_t kept[MAX_CHAIN]; /* indexes into chain, of blocks that stay, oldest first */
    uint32_t kept_count;
};

static struct lks_shm_block *
block_at(const struct sweep *s, uint32_t i)
{
    return lks_chunk_block(s->db->shm, s->g, s->chain[i]);
}

/* The id of the next newer version of the same unit that is committed, UINT64_MAX if there is none. */
static uint64_t
successor(const struct sweep *s, uint32_t i)
{
    uint32_t unit_no = lks_a32_relaxed(&block_at(s, i)->unit_no);
    while (i-- > 0) {
        const struct lks_shm_block *b = block_at(s, i);
        if (lks_a32_relaxed(&b->unit_no) == unit_no) {
            uint64_t id = lks_a64_relaxed(&b->id);
            return id <= s->db->horizon.floor ? id : UINT64_MAX;
        }
    }
    return UINT64_MAX;
}

static bool
older_kept(const struct sweep *s, uint32_t unit_no)
{
    uint32_t i;
    for (i = 0; i < s->kept_count; i++)
        if (lks_a32_relaxed(&block_at(s, s->kept[i])->unit_no) == unit_no)
            return true;
    return false;
}

static bool
may_go(const struct sweep *s, uint32_t i)
{
    const struct lks_shm_block *b = block_at(s, i);
    uint64_t id = lks_a64_relaxed(&b->id);
    uint64_t next = successor(s, i);
    if (id > s->db->horizon.floor)
        return false; /* of the transaction that is going on */
    if (next != UINT64_MAX && !lks_horizon_used(&s->db->horizon, id, next))
        return true;
    /*
     * A version between this one and the next may have been pruned, and be what the file has: then a
     * snapshot from before it needs this one.
     */
    if (next != UINT64_MAX && lks_horizon_used(&s->db->horizon, id, s->next))
        return false;
    return id <= s->flushed && next > s->next && !older_kept(s, lks_a32_relaxed(&b->unit_no));
}

static enum lockstep_status
sweep_bucket(struct sweep *s, struct lks_a32 *bucket)
{
    struct lks_shm *shm = s->db->shm;
    uint32_t n = 0, i;
    uint32_t block = lks_a32_relaxed(bucket);

    for (; block != 0 && n < MAX_CHAIN; block = lks_a32_relaxed(&block_at(s, n - 1)->next)) {
        if (!lks_chunk_has(shm, s->g, block))
            return LOCKSTEP_CORRUPT;
        s->chain[n++] = block;
    }
    if (block != 0)
        return LOCKSTEP_OK; /* its oldest part is out of sight: leave it whole */
    s->kept_count = 0;
    for (i = n; i-- > 0;) {
        struct lks_a32 *link = i > 0 ? &block_at(s, i - 1)->next : bucket;
        if (!may_go(s, i)) {
            s->kept[s->kept_count++] = i;
            continue;
        }
        lks_a32_set_release(link, lks_a32_relaxed(&block_at(s, i)->next));
        LKS_CRASH_POINT("sweep:unlinked");
        lks_a32_set_relaxed(&shm->state.blocks_used, lks_a32_relaxed(&shm->state.blocks_used) - 1);
        lks_freelist_give(shm, s->g, s->chain[i]);
    }
    return LOCKSTEP_OK;
}

enum lockstep_status
lks_sweep(struct lockstep_db *db, const struct lks_geometry *g)
{
    struct lks_shm *shm = db->shm;
    struct sweep s;
    enum lockstep_status status = LOCKSTEP_OK;
    uint32_t i;

    s.db = db;
    s.g = g;
    /* Flushed first: a batch that ends in between makes it larger, and `next` with it. */
    s.flushed = lks_a64_acquire(&shm->state.flushed);
    s.next = lks_a64_acquire(&shm->state.next_id);
    lks_horizon_scan(shm, &db->horizon);
    if ((db->horizon.count > 0 || db->horizon.walking < db->horizon.floor) &&
        lks_client_reap_readers(db, UINT64_MAX))
        lks_horizon_scan(shm, &db->horizon);
    for (i = 0; i < LKS_MAX_BUCKETS && status == LOCKSTEP_OK; i++)
        if (lks_a32_relaxed(&shm->buckets[i]) != 0)
            status = sweep_bucket(&s, &shm->buckets[i]);
    lks_a64_set_relaxed(&shm->state.swept_flushed, s.flushed);
    return status;
}

enum lockstep_status
lks_sweep_if_due(struct lockstep_db *db, const struct lks_geometry *g)
{
    const struct lks_shm_state *state = &db->shm->state;
    if (lks_a64_relaxed(&state->swept_flushed) == lks_a64_acquire(&state->flushed) &&
        db->horizon.floor == lks_a64_relaxed(&state->committed))
        return LOCKSTEP_OK;
    return lks_sweep(db, g);
}

enum lockstep_status
lks_sweep_unit(struct lockstep_db *db, const struct lks_geometry *g, uint32_t newest)
{
    struct lks_shm *shm = db->shm;
    struct lks_shm_block *newer = lks_chunk_block(shm, g, newest);
    uint32_t unit_no = lks_a32_relaxed(&newer->unit_no);
    struct lks_a32 *link = &newer->next;
    int steps;

    for (steps = 0; steps < UNIT_STEPS; steps++) {
        uint32_t block = lks_a32_relaxed(link);
        struct lks_shm_block *b;
        uint64_t id, newer_id;
        if (block == 0)
            break;
        if (!lks_chunk_has(shm, g, block))
            return LOCKSTEP_CORRUPT;
        b = lks_chunk_block(shm, g, block);
        if (lks_a32_relaxed(&b->unit_no) == unit_no) {
            id = lks_a64_relaxed(&b->id);
            newer_id = lks_a64_relaxed(&newer->id);
            if (newer_id <= db->horizon.floor && !lks_horizon_used(&db->horizon, id, newer_id)) {
                lks_a32_set_release(link, lks_a32_relaxed(&b->next));
                LKS_CRASH_POINT("sweep:pruned");
                lks_a32_set_relaxed(&shm->state.blocks_used,
                                    lks_a32_relaxed(&shm->state.blocks_used) - 1);
                lks_freelist_give_warm(shm, g, block);
                continue;
            }
            newer = b;
        }
        link = &b->next;
    }
    return LOCKSTEP_OK;
}
