#include "coord/place.h"

#include "base/clock.h"
#include "base/crashpoint.h"
#include "os/futex.h"

void
lks_place_init(struct lks_place *place, uint32_t connection)
{
    place->entry = LKS_NO_PLACE;
    place->connection = connection;
}

/* Frees the entries of those who went away and did not come back. */
static void
clear_ghosts(struct lks_shm *shm, uint64_t now)
{
    uint32_t i;
    for (i = 0; i < LKS_MAX_WAITERS; i++) {
        struct lks_shm_waiter *w = &shm->waiters[i];
        uint32_t word = lks_a32_acquire(&w->word);
        if (lks_waiter_state_of(word) == LKS_WAITER_AWAY &&
            now - lks_a64_relaxed(&w->touched_ns) > LKS_AWAY_MAX_NS)
            lks_a32_cas(&w->word, word, 0);
    }
}

bool
lks_place_is_ours(struct lockstep_db *db, const struct lks_place *place)
{
    const struct lks_shm_waiter *w;
    uint32_t word;
    if (place->entry == LKS_NO_PLACE)
        return false;
    w = &db->shm->waiters[place->entry];
    word = lks_a32_acquire(&w->word);
    return lks_waiter_state_of(word) != LKS_WAITER_FREE && lks_waiter_client(word) == db->client &&
           lks_a32_relaxed(&w->connection) == place->connection;
}

enum lockstep_status
lks_place_enter(struct lockstep_db *db, struct lks_place *place, uint64_t now)
{
    struct lks_shm *shm = db->shm;
    uint32_t round, i;
    if (lks_place_is_ours(db, place)) {
        /* From AWAY back to WAITING; a CAS, since a clearer of ghosts may come at the same time. */
        if (lks_a32_cas(&shm->waiters[place->entry].word,
                        lks_waiter_word(db->client, LKS_WAITER_AWAY),
                        lks_waiter_word(db->client, LKS_WAITER_WAITING)))
            return LOCKSTEP_OK;
    }
    place->entry = LKS_NO_PLACE;
    for (round = 0; round < 2; round++) {
        for (i = 0; i < LKS_MAX_WAITERS; i++) {
            struct lks_shm_waiter *w = &shm->waiters[i];
            if (lks_a32_relaxed(&w->word) != 0)
                continue;
            lks_a32_max(&shm->state.waiters_high, i);
            if (!lks_a32_cas(&w->word, 0, lks_waiter_word(db->client, LKS_WAITER_ENTERING)))
                continue;
            LKS_CRASH_POINT("queue:entering");
            lks_a32_set_relaxed(&w->missed, 0);
            lks_a64_set_relaxed(&w->touched_ns, now);
            lks_a64_set_relaxed(&w->sequence, lks_a64_add(&shm->state.next_sequence, 1));
            lks_a64_set_relaxed(&w->since_ns, now);
            lks_a32_set_relaxed(&w->thread, (uint32_t)lks_process_thread());
            lks_a32_set_relaxed(&w->connection, place->connection);
            lks_a32_set_release(&w->word, lks_waiter_word(db->client, LKS_WAITER_WAITING));
            place->entry = i;
            LKS_CRASH_POINT("queue:entered");
            return LOCKSTEP_OK;
        }
        clear_ghosts(shm, now);
    }
    return LOCKSTEP_NOMEM;
}

void
lks_place_leave(struct lockstep_db *db, struct lks_place *place)
{
    uint32_t word;
    if (place->entry == LKS_NO_PLACE)
        return;
    /* CAS: it may have been taken from us after a long absence, and be another's by now. */
    word = lks_a32_acquire(&db->shm->waiters[place->entry].word);
    if (lks_waiter_state_of(word) != LKS_WAITER_FREE && lks_waiter_client(word) == db->client &&
        lks_a32_relaxed(&db->shm->waiters[place->entry].connection) == place->connection)
        lks_a32_cas(&db->shm->waiters[place->entry].word, word, 0);
    place->entry = LKS_NO_PLACE;
}

void
lks_place_go_away(struct lockstep_db *db, struct lks_place *place, uint64_t now)
{
    struct lks_shm_waiter *w = &db->shm->waiters[place->entry];
    lks_a64_set_relaxed(&w->touched_ns, now);
    lks_a32_cas(&w->word, lks_waiter_word(db->client, LKS_WAITER_WAITING),
                lks_waiter_word(db->client, LKS_WAITER_AWAY));
}

/* Is this entry somebody who will come when called? */
static bool
entry_waits(const struct lks_shm_waiter *w, uint64_t now)
{
    switch (lks_waiter_state_of(lks_a32_acquire(&w->word))) {
    case LKS_WAITER_WAITING: return true;
    case LKS_WAITER_AWAY: return now - lks_a64_relaxed(&w->touched_ns) < LKS_RESERVED_NS;
    default: return false;
    }
}

uint32_t
lks_place_first(struct lks_shm *shm, uint64_t now, bool asleep, uint32_t *out_count)
{
    uint32_t high = lks_a32_acquire(&shm->state.waiters_high);
    uint64_t first = UINT64_MAX;
    uint32_t head = LKS_NO_PLACE, count = 0, i;
    for (i = 0; i <= high && i < LKS_MAX_WAITERS; i++) {
        const struct lks_shm_waiter *w = &shm->waiters[i];
        uint64_t sequence;
        if (!entry_waits(w, now))
            continue;
        if (asleep && lks_waiter_state_of(lks_a32_acquire(&w->word)) != LKS_WAITER_WAITING)
            continue;
        count++;
        sequence = lks_a64_relaxed(&w->sequence);
        if (sequence < first) {
            first = sequence;
            head = i;
        }
    }
    *out_count = count;
    return head;
}

void
lks_place_missed(struct lks_shm *shm, uint32_t entry)
{
    struct lks_shm_waiter *w;
    uint32_t missed;
    if (entry >= LKS_MAX_WAITERS)
        return;
    w = &shm->waiters[entry];
    missed = lks_a32_relaxed(&w->missed) + 1;
    lks_a32_set_relaxed(&w->missed, missed);
    if (missed >= 2)
        lks_a64_set_relaxed(&w->sequence, lks_a64_add(&shm->state.next_sequence, 1));
}

void
lks_place_ring(struct lks_shm *shm, uint32_t entry)
{
    struct lks_shm_waiter *w = &shm->waiters[entry];
    lks_a32_add(&w->bell, 1);
    lks_futex_wake(&w->bell, 1);
}
