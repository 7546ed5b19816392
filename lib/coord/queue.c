#include "coord/queue.h"

#include <assert.h>

#include "base/clock.h"
#include "base/crashpoint.h"
#include "base/log.h"
#include "coord/client.h"
#include "os/futex.h"

/* How often a sleeper looks whether the owner lives. */
#define LIFE_CHECK_NS (50 * LKS_NS_PER_MS)

static void
flags_or(struct lks_shm *shm, uint32_t bits)
{
    lks_a32_or(&shm->state.queue_flags, bits);
}

static void
flags_clear(struct lks_shm *shm, uint32_t bits)
{
    lks_a32_and(&shm->state.queue_flags, ~bits);
}

static bool
reservation_expired(const struct lks_shm *shm, uint64_t now)
{
    uint64_t since = lks_a64_relaxed(&shm->state.reserved_ns);
    return now > since && now - since > LKS_RESERVED_NS;
}

/* May `place` take the word as it is? */
static bool
takeable(const struct lks_shm *shm, const struct lks_place *place, uint64_t word)
{
    switch (lks_writer_state_of(word)) {
    case LKS_WRITER_FREE: return true;
    case LKS_WRITER_RESERVED:
        return lks_writer_waiter(word) == place->entry || reservation_expired(shm, lks_clock_ns());
    default: return false;
    }
}

/* One who waited has the lock, or nobody waits: a turn begins.  Who overtakes has what is left of the one that runs. */
static void
begin_turn(struct lks_shm_state *state, bool waited)
{
    bool others = (lks_a32_relaxed(&state->queue_flags) & LKS_QUEUE_WAITERS) != 0;
    if (waited && others)
        lks_a64_set_relaxed(&state->turn_since_ns, lks_clock_ns());
    else if (!others && lks_a64_relaxed(&state->turn_since_ns) != 0)
        lks_a64_set_relaxed(&state->turn_since_ns, 0);
}

/* A turn in which somebody waits now counts from when the first one came. */
static void
count_turn(struct lks_shm *shm, uint64_t now)
{
    uint32_t count, head;
    if (lks_a64_relaxed(&shm->state.turn_since_ns) != 0)
        return;
    head = lks_place_first(shm, now, false, &count);
    if (head != LKS_NO_PLACE)
        lks_a64_set_relaxed(&shm->state.turn_since_ns, lks_a64_relaxed(&shm->waiters[head].since_ns));
}

/* Is the owner's turn over, with `count` others waiting? */
static bool
turn_is_over(const struct lks_shm_state *state, uint64_t now, uint32_t count)
{
    uint64_t since = lks_a64_relaxed(&state->turn_since_ns);
    uint64_t turn = count * LKS_TURN_NS <= LKS_ROUND_NS ? LKS_TURN_NS : LKS_ROUND_NS / count;
    return since != 0 && now > since && now - since >= turn;
}

bool
lks_queue_is_taken(const struct lockstep_db *db, const struct lks_place *place)
{
    return !takeable(db->shm, place, lks_a64_relaxed(&db->shm->state.writer));
}

enum lockstep_status
lks_queue_take(struct lockstep_db *db, struct lks_place *place)
{
    struct lks_shm *shm = db->shm;
    struct lks_shm_state *state = &shm->state;
    uint64_t word = lks_a64_relaxed(&state->writer);

    if (!takeable(shm, place, word))
        return LOCKSTEP_BUSY;
    if (!lks_a64_cas(&state->writer, word,
                     lks_writer_word(lks_writer_generation(word) + 1, 0, db->client,
                                     LKS_WRITER_OWNED)))
        return LOCKSTEP_BUSY;
    LKS_CRASH_POINT("queue:owned");
    lks_a64_set_relaxed(&state->writer_since_ns, lks_clock_coarse_ns());
    lks_a32_set_relaxed(&state->writer_thread, (uint32_t)lks_process_thread());
    lks_a32_set_relaxed(&state->writer_connection, place->connection);
    begin_turn(state, place->entry != LKS_NO_PLACE);
    if (lks_writer_state_of(word) == LKS_WRITER_RESERVED && lks_writer_waiter(word) != place->entry)
        lks_place_missed(shm, lks_writer_waiter(word));
    if (place->entry != LKS_NO_PLACE) {
        lks_place_leave(db, place);
        /* There is another head now, which was not rung. */
        flags_clear(shm, LKS_QUEUE_RUNG);
    }
    return LOCKSTEP_OK;
}

/* To the one who came first, if it has waited for long enough and the owner's turn is over. */
static bool
hand_over(struct lks_shm *shm, uint64_t word, uint64_t now)
{
    struct lks_shm_state *state = &shm->state;
    struct lks_shm_waiter *w;
    uint32_t count, head;
    uint64_t since;

    /* Cheap, and mostly the answer: not even the shortest turn is over. */
    if (!turn_is_over(state, now, LKS_MAX_WAITERS))
        return false;
    head = lks_place_first(shm, now, false, &count);
    if (head == LKS_NO_PLACE) {
        flags_clear(shm, LKS_QUEUE_STARVING);
        return false;
    }
    w = &shm->waiters[head];
    since = lks_a64_relaxed(&w->since_ns);
    /* It may have come after `now` was read. */
    if (!turn_is_over(state, now, count) || now < since || now - since < LKS_STARVING_NS)
        return false;
    lks_a64_set_relaxed(&state->reserved_ns, now);
    lks_a64_swap(&state->writer, lks_writer_word(lks_writer_generation(word) + 1, head,
                                                 lks_waiter_client(lks_a32_relaxed(&w->word)),
                                                 LKS_WRITER_RESERVED));
    LKS_CRASH_POINT("queue:reserved");
    lks_place_ring(shm, head);
    return true;
}

/* The word was set FREE. */
static void
ring_head(struct lks_shm *shm)
{
    uint32_t count, head;
    flags_or(shm, LKS_QUEUE_RUNG);
    head = lks_place_first(shm, lks_clock_ns(), true, &count);
    if (head != LKS_NO_PLACE)
        lks_place_ring(shm, head);
    else
        /* A waiter that enters now, or comes back, sets it again and looks at the word after that. */
        flags_clear(shm, LKS_QUEUE_WAITERS | LKS_QUEUE_RUNG | LKS_QUEUE_STARVING);
}

/* For whoever takes something away that others may have counted on. */
static void
ring_if_free(struct lks_shm *shm)
{
    flags_clear(shm, LKS_QUEUE_RUNG);
    if (lks_writer_state_of(lks_a64_seq(&shm->state.writer)) == LKS_WRITER_FREE &&
        (lks_a32_seq(&shm->state.queue_flags) & LKS_QUEUE_WAITERS) != 0)
        ring_head(shm);
}

void
lks_queue_unlock(struct lockstep_db *db)
{
    struct lks_shm *shm = db->shm;
    struct lks_shm_state *state = &shm->state;
    uint64_t word = lks_a64_relaxed(&state->writer);
    uint32_t flags = lks_a32_relaxed(&state->queue_flags);

    assert(lks_writer_state_of(word) == LKS_WRITER_OWNED && lks_writer_client(word) == db->client);
    if ((flags & LKS_QUEUE_WAITERS) != 0) {
        uint64_t now = lks_clock_ns();
        count_turn(shm, now);
        if ((flags & LKS_QUEUE_STARVING) != 0 && hand_over(shm, word, now))
            return;
    }
    /* Nobody else changes an OWNED word while its owner lives.  Seq_cst: the flags are read after it. */
    lks_a64_swap(&state->writer,
                 lks_writer_word(lks_writer_generation(word) + 1, 0, 0, LKS_WRITER_FREE));
    LKS_CRASH_POINT("queue:freed");
    flags = lks_a32_seq(&state->queue_flags);
    if ((flags & LKS_QUEUE_WAITERS) != 0 && (flags & LKS_QUEUE_RUNG) == 0)
        ring_head(shm);
}

/* FREE, or a reservation of another that has expired: make it mine. */
static bool
reserve(struct lockstep_db *db, struct lks_place *place, uint64_t word, uint64_t now)
{
    struct lks_shm_state *state = &db->shm->state;
    if (lks_writer_state_of(word) == LKS_WRITER_RESERVED &&
        lks_writer_waiter(word) == place->entry && lks_writer_client(word) == db->client) {
        lks_a64_set_relaxed(&state->reserved_ns, now);
        return true;
    }
    if (!takeable(db->shm, place, word))
        return false;
    if (!lks_a64_cas(&state->writer, word,
                     lks_writer_word(lks_writer_generation(word) + 1, place->entry, db->client,
                                     LKS_WRITER_RESERVED)))
        return false;
    /* Until this store others may think that the reservation is old; they would then just be first. */
    lks_a64_set_relaxed(&state->reserved_ns, now);
    if (lks_writer_state_of(word) == LKS_WRITER_RESERVED)
        lks_place_missed(db->shm, lks_writer_waiter(word));
    return true;
}

/*
 * Until when a waiter sleeps before it looks again by itself.  The head once a turn, for an owner that stops taking the
 * lock in the middle of its turn may have rung in vain before; the others are rung, or become the head.
 */
static uint64_t
nap_end(struct lks_shm *shm, uint32_t entry, uint64_t now, uint64_t deadline)
{
    uint64_t end = lks_a64_relaxed(&shm->waiters[entry].since_ns) + LKS_STARVING_NS;
    uint32_t count;
    if (now >= end)
        end = now + (lks_place_first(shm, now, false, &count) == entry ? LKS_TURN_NS : LKS_RESERVED_NS);
    return end < deadline ? end : deadline;
}

/*
 * Found FREE: does it stay so?  An owner that begins its next transaction at once is left its turn.  False: the word is
 * another now.
 */
static bool
stays_free(const struct lks_shm_state *state, uint64_t word, uint64_t *now)
{
    uint64_t end = *now + LKS_GRACE_NS;
    while (*now < end) {
        if (lks_a64_relaxed(&state->writer) != word)
            return false;
        *now = lks_clock_ns();
    }
    return true;
}

/* It is another's turn: he is rung.  If he does not come the word is as it was when we look again, and then ours. */
static bool
leave_to_head(struct lks_shm *shm, uint32_t entry, uint64_t now)
{
    uint32_t count, head = lks_place_first(shm, now, false, &count);
    if (head == entry || head == LKS_NO_PLACE)
        return false;
    lks_place_ring(shm, head);
    return true;
}

enum lockstep_status
lks_queue_wait(struct lockstep_db *db, struct lks_place *place, uint64_t wait_ns)
{
    struct lks_shm *shm = db->shm;
    uint64_t now = lks_clock_ns();
    uint64_t deadline = now + wait_ns;
    uint64_t next_check = now + LIFE_CHECK_NS;
    uint64_t left_to_head = UINT64_MAX, left_until = 0; /* a word that was FREE and left to another */
    uint32_t rings = 0;
    struct lks_shm_waiter *w;
    enum lockstep_status status = lks_place_enter(db, place, now);

    if (status != LOCKSTEP_OK)
        return status;
    w = &shm->waiters[place->entry];
    for (;;) {
        uint32_t seen = lks_a32_seq(&w->bell);
        uint64_t word, since = lks_a64_relaxed(&w->since_ns);
        bool starving = now - since >= LKS_STARVING_NS;

        /*
         * Then the word: pairs with the swap in lks_queue_unlock().  A head that was rung in vain twice
         * sleeps on until it starves; it would only be woken to lose again.
         */
        flags_or(shm, LKS_QUEUE_WAITERS | (starving ? LKS_QUEUE_STARVING : 0));
        if (rings < 2)
            flags_clear(shm, LKS_QUEUE_RUNG);
        word = lks_a64_seq(&shm->state.writer);
        /*
         * Whoever let a reservation expire may be dead: with its entry left at the head it would be handed
         * the lock again and again.
         */
        if (lks_writer_state_of(word) == LKS_WRITER_RESERVED &&
            lks_writer_client(word) != db->client && reservation_expired(shm, now) &&
            lks_client_reap(db, lks_writer_client(word)))
            word = lks_a64_seq(&shm->state.writer);
        if (lks_writer_state_of(word) == LKS_WRITER_FREE && now < deadline) {
            /* What was seen above is old then: the flags may have been cleared since. */
            if (!stays_free(&shm->state, word, &now))
                continue;
            if (word != left_to_head) {
                left_to_head = word;
                left_until = now + LKS_STARVING_NS;
            }
            if (now < left_until && leave_to_head(shm, place->entry, now)) {
                lks_futex_wait(&w->bell, seen, left_until - now);
                now = lks_clock_ns();
                continue;
            }
        }
        if (reserve(db, place, word, now))
            break;
        if (lks_writer_state_of(word) == LKS_WRITER_FREE && now < deadline) {
            now = lks_clock_ns();
            continue;
        }
        if (now >= deadline) {
            status = LOCKSTEP_TIMEOUT;
            break;
        }
        if (now >= next_check) {
            next_check = now + LIFE_CHECK_NS;
            if (lks_writer_state_of(word) == LKS_WRITER_OWNED &&
                lks_client_reap(db, lks_writer_client(word)))
                continue;
        }
        lks_futex_wait(&w->bell, seen, nap_end(shm, place->entry, now, deadline) - now);
        if (lks_a32_relaxed(&w->bell) != seen)
            rings++;
        now = lks_clock_ns();
    }
    lks_place_go_away(db, place, now);
    return status;
}

void
lks_queue_leave(struct lockstep_db *db, struct lks_place *place)
{
    uint64_t word;
    if (place->entry == LKS_NO_PLACE)
        return;
    word = lks_a64_acquire(&db->shm->state.writer);
    if (lks_writer_state_of(word) == LKS_WRITER_RESERVED &&
        lks_writer_waiter(word) == place->entry && lks_writer_client(word) == db->client &&
        lks_place_is_ours(db, place)) {
        /* Take it, so as to pass it on in the usual way. */
        if (lks_queue_take(db, place) == LOCKSTEP_OK)
            lks_queue_unlock(db);
    }
    lks_place_leave(db, place);
    /* The ring may have been ours. */
    ring_if_free(db->shm);
}

struct lks_turn
lks_queue_turn(struct lockstep_db *db, const struct lks_place *place)
{
    struct lks_turn turn = {0, 0};
    if (lks_place_is_ours(db, place)) {
        turn.sequence = lks_a64_relaxed(&db->shm->waiters[place->entry].sequence) + 1;
        turn.since_ns = lks_a64_relaxed(&db->shm->waiters[place->entry].since_ns);
    }
    return turn;
}

void
lks_queue_return(struct lockstep_db *db, struct lks_place *place, struct lks_turn turn)
{
    struct lks_shm_state *state = &db->shm->state;
    uint64_t now = lks_clock_ns();
    struct lks_shm_waiter *w;
    if (lks_place_enter(db, place, now) != LOCKSTEP_OK) {
        lks_queue_unlock(db);
        return;
    }
    w = &db->shm->waiters[place->entry];
    if (turn.sequence != 0) {
        lks_a64_set_relaxed(&w->sequence, turn.sequence - 1);
        lks_a64_set_relaxed(&w->since_ns, turn.since_ns);
    }
    lks_a64_set_relaxed(&w->touched_ns, now);
    lks_a32_set_release(&w->word, lks_waiter_word(db->client, LKS_WAITER_AWAY));
    lks_a64_set_relaxed(&state->reserved_ns, now);
    /* Those behind it take over when the reservation has expired. */
    flags_or(db->shm, LKS_QUEUE_WAITERS | LKS_QUEUE_STARVING);
    lks_a64_swap(&state->writer,
                 lks_writer_word(lks_writer_generation(lks_a64_relaxed(&state->writer)) + 1,
                                 place->entry, db->client, LKS_WRITER_RESERVED));
    LKS_CRASH_POINT("queue:returned");
}

enum lockstep_status
lks_queue_lock(struct lockstep_db *db, struct lks_place *place, uint64_t wait_ns)
{
    uint64_t deadline = lks_clock_ns() + wait_ns;
    for (;;) {
        uint64_t now;
        enum lockstep_status status = lks_queue_take(db, place);
        if (status != LOCKSTEP_BUSY)
            return status;
        now = lks_clock_ns();
        if (now >= deadline)
            break;
        status = lks_queue_wait(db, place, deadline - now);
        if (status == LOCKSTEP_NOMEM)
            lks_clock_nap_ms(1);
    }
    lks_queue_leave(db, place);
    return LOCKSTEP_TIMEOUT;
}

uint32_t
lks_queue_owner(const struct lockstep_db *db, uint64_t *out_since_ns)
{
    const struct lks_shm_state *state = &db->shm->state;
    uint64_t word = lks_a64_acquire(&state->writer);
    switch (lks_writer_state_of(word)) {
    case LKS_WRITER_OWNED: *out_since_ns = lks_a64_relaxed(&state->writer_since_ns); break;
    case LKS_WRITER_RESERVED: *out_since_ns = lks_a64_relaxed(&state->reserved_ns); break;
    default: return LKS_MAX_CLIENTS;
    }
    return lks_writer_client(word);
}

enum lockstep_status
lks_queue_take_over(struct lockstep_db *db, uint32_t client)
{
    struct lks_shm_state *state = &db->shm->state;
    uint64_t word = lks_a64_acquire(&state->writer);
    enum lockstep_status status;

    if (lks_writer_state_of(word) == LKS_WRITER_RESERVED && lks_writer_client(word) == client) {
        /* For a waiter that is gone.  To FREE, so that all who sleep may try. */
        if (lks_a64_cas(&state->writer, word,
                        lks_writer_word(lks_writer_generation(word) + 1, 0, 0, LKS_WRITER_FREE)))
            ring_if_free(db->shm);
        return LOCKSTEP_OK;
    }
    if (lks_writer_state_of(word) != LKS_WRITER_OWNED || lks_writer_client(word) != client)
        return LOCKSTEP_OK;
    if (!lks_a64_cas(&state->writer, word,
                     lks_writer_word(lks_writer_generation(word) + 1, 0, db->client,
                                     LKS_WRITER_OWNED)))
        return LOCKSTEP_OK;
    LKS_CRASH_POINT("queue:taken-over");
    status = db->hooks->repair(db);
    if (status != LOCKSTEP_OK) {
        /* Its blocks are in the chains still: a new writer would take them for its own. */
        lks_a64_swap(&state->writer,
                     lks_writer_word(lks_writer_generation(lks_a64_relaxed(&state->writer)) + 1, 0,
                                     client, LKS_WRITER_OWNED));
        lks_log(LKS_ERROR, "%s: cannot repair what a dead writer left: %s; close all programs that use "
                           "it, then run: lockstep recover %s",
                db->path, lks_status_name(status), db->path);
        return status;
    }
    lks_queue_unlock(db);
    return LOCKSTEP_OK;
}
