#include "coord/reader.h"

#include <assert.h>

#include "base/clock.h"
#include "base/crashpoint.h"

/* More often than this a claim is not overtaken unless the file is damaged. */
#define MAX_LOOKS 100000u

static bool
take_slot(struct lockstep_db *db, uint32_t slot, uint64_t snapshot)
{
    return lks_a64_cas(&db->shm->slots[slot].word, 0,
                       lks_slot_word(snapshot, db->client, LKS_SLOT_CLAIMING));
}

/* Any free slot but the worker's, the caller's last one first. */
static bool
find_slot(struct lockstep_db *db, struct lks_reader *reader, uint64_t snapshot)
{
    struct lks_shm *shm = db->shm;
    uint32_t slot;
    if (reader->slot != LKS_WORKER_SLOT && take_slot(db, reader->slot, snapshot))
        return true;
    for (slot = 1; slot < LKS_MAX_SLOTS; slot++) {
        if (lks_a64_relaxed(&shm->slots[slot].word) != 0)
            continue;
        /* Before the claim, so that a scan which sees the claim's effect also looks that far. */
        lks_a32_max(&shm->state.slots_high, slot);
        if (take_slot(db, slot, snapshot)) {
            reader->slot = slot;
            return true;
        }
    }
    return false;
}

/* The size that commit `id` left; false if its ring entry has been written over. */
static bool
read_commit(const struct lks_shm *shm, uint64_t id, uint64_t *out_size)
{
    const struct lks_shm_commit *commit = &shm->ring[id % LKS_RING_SIZE];
    uint64_t size;
    /* Acquire: pairs with the release in write_ring(), store/transaction_write.c. */
    if (lks_a64_acquire(&commit->id) != id)
        return false;
    size = lks_a64_relaxed(&commit->size);
    lks_fence_acquire();
    if (lks_a64_relaxed(&commit->id) != id)
        return false;
    *out_size = size;
    return true;
}

/* The claim holds.  Inline: every transaction of a reader passes here. */
static inline void
activate(struct lockstep_db *db, struct lks_reader *reader, uint64_t snapshot, uint64_t size)
{
    struct lks_shm_slot *slot = &db->shm->slots[reader->slot];
    lks_a64_set_relaxed(&slot->size, size);
    lks_a64_set_relaxed(&slot->since_ns, lks_clock_coarse_ns());
    lks_a32_set_relaxed(&slot->thread, (uint32_t)lks_process_thread());
    lks_a32_set_relaxed(&slot->connection, reader->connection);
    lks_a64_set_release(&slot->word, lks_slot_word(snapshot, db->client, LKS_SLOT_ACTIVE));
    LKS_CRASH_POINT("reader:active");
    reader->snapshot = snapshot;
    reader->size = size;
}

/* The slot is ours and claiming at `snapshot`. */
static enum lockstep_status
settle(struct lockstep_db *db, struct lks_reader *reader, uint64_t snapshot)
{
    struct lks_shm *shm = db->shm;
    struct lks_shm_slot *slot = &shm->slots[reader->slot];
    uint32_t looks;
    for (looks = 0; looks < MAX_LOOKS; looks++) {
        uint64_t now, size;
        LKS_CRASH_POINT("reader:claiming");
        /* The claim is seen by all before the second look.  Pairs with lks_horizon_scan(). */
        lks_fence();
        now = lks_a64_acquire(&shm->state.committed);
        if (now == snapshot && read_commit(shm, snapshot, &size)) {
            activate(db, reader, snapshot, size);
            return LOCKSTEP_OK;
        }
        snapshot = now;
        lks_a64_set_relaxed(&slot->word, lks_slot_word(snapshot, db->client, LKS_SLOT_CLAIMING));
    }
    lks_a64_set_release(&slot->word, 0);
    return LOCKSTEP_BUSY;
}

enum lockstep_status
lks_reader_claim(struct lockstep_db *db, struct lks_reader *reader)
{
    uint64_t snapshot = lks_a64_acquire(&db->shm->state.committed);
    assert(reader->snapshot == 0);
    if (!find_slot(db, reader, snapshot))
        return LOCKSTEP_BUSY;
    return settle(db, reader, snapshot);
}

enum lockstep_status
lks_reader_claim_slot(struct lockstep_db *db, uint32_t slot, struct lks_reader *reader)
{
    uint64_t snapshot = lks_a64_acquire(&db->shm->state.committed);
    assert(reader->snapshot == 0);
    reader->slot = slot;
    if (!take_slot(db, slot, snapshot))
        return LOCKSTEP_BUSY;
    return settle(db, reader, snapshot);
}

/*
 * A slot that holds `snapshot`, and the size there.  The ring has that, or the slot: its owner changes the size and then
 * the word when it has committed, but not for long enough that the ring could have gone round, for it owns WRITER.
 */
static bool
find_holder(const struct lockstep_db *db, const struct lks_reader *reader, uint64_t snapshot,
            uint64_t *out_size)
{
    const struct lks_shm *shm = db->shm;
    uint32_t high = lks_a32_acquire(&shm->state.slots_high), i;
    for (i = 0; i <= high && i < LKS_MAX_SLOTS; i++) {
        const struct lks_shm_slot *slot = &shm->slots[i];
        uint64_t word = lks_a64_acquire(&slot->word), size;
        if (i == reader->slot || lks_slot_state_of(word) != LKS_SLOT_ACTIVE ||
            lks_slot_snapshot(word) != snapshot)
            continue;
        if (!read_commit(shm, snapshot, &size))
            size = lks_a64_relaxed(&slot->size);
        lks_fence_acquire();
        if (lks_a64_relaxed(&slot->word) != word)
            continue;
        *out_size = size;
        return true;
    }
    return false;
}

enum lockstep_status
lks_reader_share(struct lockstep_db *db, struct lks_reader *reader, uint64_t snapshot)
{
    struct lks_shm *shm = db->shm;
    uint64_t size;
    assert(reader->snapshot == 0);
    if (!find_slot(db, reader, snapshot))
        return LOCKSTEP_BUSY;
    LKS_CRASH_POINT("share:claiming");
    lks_a32_add(&shm->state.shares, 1);
    /* The claim and the count are seen by all before the look.  Pairs with lks_horizon_scan(). */
    lks_fence();
    LKS_CRASH_POINT("share:counted");
    if ((lks_a64_acquire(&shm->state.committed) == snapshot && read_commit(shm, snapshot, &size)) ||
        find_holder(db, reader, snapshot, &size)) {
        activate(db, reader, snapshot, size);
        return LOCKSTEP_OK;
    }
    lks_a64_set_release(&shm->slots[reader->slot].word, 0);
    return LOCKSTEP_STALE;
}

void
lks_reader_advance(struct lockstep_db *db, struct lks_reader *reader, uint64_t snapshot,
                   uint64_t size)
{
    struct lks_shm_slot *slot = &db->shm->slots[reader->slot];
    assert(snapshot > reader->snapshot);
    /*
     * No claim protocol is needed: only owners of WRITER unlink, and the caller is one.  Release: what was
     * read at the old snapshot was read before.
     */
    lks_a64_set_relaxed(&slot->size, size);
    lks_a64_set_release(&slot->word, lks_slot_word(snapshot, db->client, LKS_SLOT_ACTIVE));
    reader->snapshot = snapshot;
    reader->size = size;
}

void
lks_reader_release(struct lockstep_db *db, struct lks_reader *reader)
{
    if (reader->snapshot == 0)
        return;
    /* Release: pairs with the acquire in lks_horizon_scan(). */
    lks_a64_set_release(&db->shm->slots[reader->slot].word, 0);
    reader->snapshot = 0;
}

bool
lks_reader_enter(struct lockstep_db *db, uint32_t connection, uint32_t *out_slot)
{
    struct lks_reader reader = {.slot = LKS_WORKER_SLOT, .connection = connection};
    if (!find_slot(db, &reader, 0))
        return false;
    lks_a32_set_relaxed(&db->shm->slots[reader.slot].connection, connection);
    *out_slot = reader.slot;
    return true;
}

void
lks_reader_leave(struct lockstep_db *db, uint32_t slot)
{
    lks_a64_set_release(&db->shm->slots[slot].word, 0);
}

void
lks_reader_show(struct lockstep_db *db, uint32_t slot, uint32_t frame, uint32_t mark)
{
    struct lks_shm_slot *shown = &db->shm->slots[slot];
    lks_a64_set_relaxed(&shown->size, mark);
    lks_a64_set_relaxed(&shown->since_ns, lks_clock_coarse_ns());
    lks_a32_set_relaxed(&shown->thread, (uint32_t)lks_process_thread());
    lks_a64_set_release(&shown->word, lks_slot_word(frame, db->client, LKS_SLOT_ACTIVE));
}

void
lks_reader_hide(struct lockstep_db *db, uint32_t slot)
{
    lks_a64_set_release(&db->shm->slots[slot].word, lks_slot_word(0, db->client, LKS_SLOT_CLAIMING));
}
