#include "coord/groupsync.h"

#include <errno.h>
#include <string.h>

#include "base/clock.h"
#include "base/crashpoint.h"
#include "base/log.h"
#include "coord/client.h"
#include "os/futex.h"

/* Without progress for so long a sleeper looks whether the leader lives. */
#define LOOK_NS (20 * LKS_NS_PER_MS)
#define LOOKS_AWAKE 40
/* For so long the first commit that is not durable is left to lead; in vain, then not for so many commits. */
#define PATIENCE_NS (150000ull)
#define HURRIES 4

/* sync_leader: generation << 12 | client + 1. */
#define LEADER_BITS 12u
#define LEADER_MASK ((1ull << LEADER_BITS) - 1)
_Static_assert(LKS_MAX_CLIENTS < LEADER_MASK, "a client's number and 0 fit");

static uint64_t
next_leader(uint64_t word, uint32_t leader)
{
    return ((word >> LEADER_BITS) + 1) << LEADER_BITS | leader;
}

static enum lockstep_status
failure(const struct lks_shm_state *state)
{
    lks_os_set_errno((int)lks_a32_acquire(&state->poison));
    return LOCKSTEP_IOERR;
}

static void
ring(struct lks_shm_state *state)
{
    /* The bell, then the sleepers; who goes to sleep counts itself, and the kernel then looks at the bell. */
    lks_a32_add(&state->sync_bell, 1);
    if (lks_a32_seq(&state->sync_sleepers) != 0)
        lks_futex_wake(&state->sync_bell, UINT32_MAX);
}

/* Sleepers are of 32 kinds, by their tickets. */
static uint32_t
kind_of(uint64_t ticket)
{
    return 1u << ticket % 32;
}

/* After a sync by which tickets from + 1 to `to` have become durable: those who waited for them, and one more. */
static void
ring_some(struct lks_shm_state *state, uint64_t from, uint64_t to)
{
    uint32_t covered = 0;
    uint64_t ticket;
    if (to - from >= 32) {
        ring(state);
        return;
    }
    for (ticket = from + 1; ticket <= to; ticket++)
        covered |= kind_of(ticket);
    lks_a32_add(&state->sync_bell, 1);
    if (lks_a32_seq(&state->sync_sleepers) == 0)
        return;
    if (covered != 0)
        (void)lks_futex_wake_bits(&state->sync_bell, UINT32_MAX, covered);
    /*
     * Of those who came while the sync ran, the first, or if that one does not sleep any: it leads the next one.  If it
     * dies the others look by themselves.
     */
    if (covered != UINT32_MAX && !lks_futex_wake_bits(&state->sync_bell, 1, kind_of(to + 1) & ~covered))
        (void)lks_futex_wake_bits(&state->sync_bell, 1, ~covered);
}

uint64_t
lks_groupsync_draw(struct lockstep_db *db)
{
    /* Seq_cst: what the caller has written or read of the log comes before it.  Pairs with the load in run(). */
    return lks_a64_add(&db->shm->state.committed, 1) + 1;
}

static void
ring_worker(struct lks_shm_state *state)
{
    lks_a32_set_relaxed(&state->worker_asleep, LKS_WORKER_AWAKE);
    lks_a32_add(&state->work_bell, 1);
    lks_futex_wake(&state->work_bell, UINT32_MAX);
}

void
lks_groupsync_note(struct lockstep_db *db, uint64_t ticket)
{
    struct lks_shm_state *state = &db->shm->state;
    uint32_t asleep;
    lks_a64_max(&state->sync_needed, ticket);
    if (lks_a64_seq(&state->pending_since_ns) == 0)
        lks_a64_cas(&state->pending_since_ns, 0, lks_clock_coarse_ns());
    /* Only a worker that expects nothing is woken; one that naps will look at the word in time. */
    lks_fence_after_rmw();
    asleep = lks_a32_relaxed(&state->worker_asleep);
    if (asleep == LKS_WORKER_IDLE && lks_a32_cas(&state->worker_asleep, asleep, LKS_WORKER_AWAKE))
        ring_worker(state);
}

uint64_t
lks_groupsync_lag_since(struct lks_shm_state *state)
{
    uint64_t since = lks_a64_seq(&state->pending_since_ns);
    if (since != 0 || lks_a64_seq(&state->sync_needed) <= lks_a64_acquire(&state->durable))
        return since;
    /* A committer is about to say so, or who was to say so has died: in settle_lag(), or in note(). */
    lks_a64_cas(&state->pending_since_ns, 0, lks_clock_coarse_ns());
    return lks_a64_seq(&state->pending_since_ns);
}

/* All up to `target` is durable by a sync that began at begun_ns. */
static void
settle_lag(struct lks_shm_state *state, uint64_t target, uint64_t begun_ns)
{
    uint64_t since = lks_a64_seq(&state->pending_since_ns);
    if (since == 0)
        return;
    if (!lks_a64_cas(&state->pending_since_ns, since, 0))
        return;
    LKS_CRASH_POINT("groupsync:settling");
    if (lks_a64_seq(&state->sync_needed) > target)
        lks_a64_cas(&state->pending_since_ns, 0, begun_ns);
}

void
lks_groupsync_poison(struct lockstep_db *db, int error)
{
    struct lks_shm_state *state = &db->shm->state;
    lks_a32_set_relaxed(&state->last_errno, error != 0 ? (uint32_t)error : EIO);
    lks_a64_add(&state->failures, 1);
    /* G2: before any bell. */
    if (lks_a32_cas(&state->poison, 0, error != 0 ? (uint32_t)error : EIO))
        lks_log(LKS_ERROR,
                "%s: a sync of its log failed (%s): commits that it covered fail, and so does every later one, "
                "until all processes have closed the database and one opens it again",
                db->path, strerror(error != 0 ? error : EIO));
    LKS_CRASH_POINT("groupsync:poisoned");
    ring(state);
}

int
lks_groupsync_poisoned(const struct lockstep_db *db)
{
    return (int)lks_a32_acquire(&db->shm->state.poison);
}

void
lks_groupsync_heal(struct lockstep_db *db)
{
    struct lks_shm_state *state = &db->shm->state;
    lks_a32_set_relaxed(&state->last_errno, 0);
    /* Release: the log was written before. */
    lks_a32_set_release(&state->poison, 0);
}

enum lockstep_status
lks_groupsync_run(struct lockstep_db *db, lks_groupsync_fn sync, void *arg)
{
    struct lks_shm_state *state = &db->shm->state;
    uint64_t begun_ns = lks_clock_ns();
    /* G1: before the sync begins.  Seq_cst: pairs with the add in draw(). */
    uint64_t target = lks_a64_seq(&state->committed);
    enum lockstep_status status;

    if (lks_a32_acquire(&state->poison) != 0)
        return failure(state);
    status = sync(arg);
    LKS_CRASH_POINT("groupsync:synced");
    if (status != LOCKSTEP_OK) {
        lks_groupsync_poison(db, lks_os_errno());
        return failure(state);
    }
    lks_a64_set_relaxed(&state->sync_took_ns, lks_clock_ns() - begun_ns);
    /* G2: the pages may have been lost by another's sync, and this one then had nothing to do. */
    if (lks_a32_seq(&state->poison) != 0)
        return failure(state);
    /* Seq_cst: who sees it sees that the log was synced. */
    lks_a64_max(&state->durable, target);
    LKS_CRASH_POINT("groupsync:published");
    lks_a64_add(&state->syncs, 1);
    settle_lag(state, target, begun_ns);
    return LOCKSTEP_OK;
}

/* For how long a leader is left alone: see LKS_GROUPSYNC_SLOW_NS. */
static uint64_t
reign_ns(const struct lks_shm_state *state)
{
    uint64_t took = lks_a64_relaxed(&state->sync_took_ns);
    return took < LKS_GROUPSYNC_SLOW_NS || took / 2 > LKS_GROUPSYNC_STALL_NS ? LKS_GROUPSYNC_STALL_NS : took / 2;
}

/* Nobody leads, or the leader has had his time. */
static bool
may_lead(const struct lks_shm_state *state, uint64_t leader)
{
    uint64_t since, now;
    if ((leader & LEADER_MASK) == 0)
        return true;
    since = lks_a64_relaxed(&state->sync_since_ns);
    now = lks_clock_ns();
    return now > since && now - since >= reign_ns(state);
}

/* When a sleeper looks again by itself. */
static uint64_t
nap_end(const struct lks_shm_state *state, uint64_t now, uint64_t deadline)
{
    uint64_t end = now + LOOK_NS, reign = lks_a64_relaxed(&state->sync_since_ns) + reign_ns(state);
    if (reign > now && reign < end)
        end = reign;
    return end < deadline ? end : deadline;
}

/* False: another was faster. */
static bool
lead(struct lockstep_db *db, uint64_t leader, lks_groupsync_fn sync, void *arg,
     enum lockstep_status *out_status)
{
    struct lks_shm_state *state = &db->shm->state;
    uint64_t mine = next_leader(leader, db->client + 1), from = lks_a64_acquire(&state->durable);
    /* Before leadership is seen: else it would look stalled at once. */
    lks_a64_set_relaxed(&state->sync_since_ns, lks_clock_ns());
    if (!lks_a64_cas(&state->sync_leader, leader, mine))
        return false;
    LKS_CRASH_POINT("groupsync:leading");
    *out_status = lks_groupsync_run(db, sync, arg);
    /* It may have been taken from us. */
    lks_a64_cas(&state->sync_leader, mine, next_leader(mine, 0));
    LKS_CRASH_POINT("groupsync:resigned");
    if (*out_status == LOCKSTEP_OK)
        ring_some(state, from, lks_a64_acquire(&state->durable));
    else
        ring(state);
    return true;
}

static void
sleep_for_leader(struct lockstep_db *db, uint64_t ticket, uint32_t seen, uint64_t leader, uint64_t end_ns)
{
    struct lks_shm_state *state = &db->shm->state;
    uint32_t client = (uint32_t)(leader & LEADER_MASK);
    lks_a32_add(&state->sync_sleepers, 1);
    lks_futex_wait_bits(&state->sync_bell, seen, end_ns, kind_of(ticket));
    lks_a32_add(&state->sync_sleepers, (uint32_t)-1);
    if (lks_a32_relaxed(&state->sync_bell) == seen && client != 0 &&
        lks_a64_relaxed(&state->sync_leader) == leader)
        (void)lks_client_reap(db, client - 1);
}

/*
 * On a fast disk: looks some times more before it sleeps, and lets others have the processor in between.  To sleep and to
 * be woken costs about as much as such a sync takes.
 */
static bool
settles_soon(const struct lks_shm_state *state, uint64_t ticket, uint64_t leader)
{
    unsigned looks;
    if (lks_a64_relaxed(&state->sync_took_ns) > LKS_GROUPSYNC_FAST_NS)
        return false;
    for (looks = 0; looks < LOOKS_AWAKE; looks++) {
        lks_clock_yield();
        if (lks_a64_acquire(&state->durable) >= ticket || lks_a64_seq(&state->sync_leader) != leader)
            return true;
    }
    return false;
}

/* Of the commits that are not durable yet, is `ticket` the first? */
static bool
is_first(const struct lks_shm_state *state, uint64_t ticket)
{
    return lks_a64_acquire(&state->durable) + 1 >= ticket;
}

/*
 * Nobody leads.  On a fast disk the first commit that the last sync did not cover leads the next one: not who is awake.
 * That is who led, for it slept in the kernel while the others looked and gave way, which the scheduler remembers: it
 * commits and leads again before they have the processor, and does up to twice as much as each of them.
 * But nobody may wait for that commit, or its process may not have the processor soon: so not for long.  True: look again.
 */
static bool
leaves_the_lead(struct lockstep_db *db, uint64_t ticket, uint64_t leader)
{
    struct lks_shm_state *state = &db->shm->state;
    uint64_t took = lks_a64_relaxed(&state->sync_took_ns), end;
    uint32_t hurry = lks_a32_relaxed(&db->sync_hurry);
    if ((leader & LEADER_MASK) != 0 || took == 0 || took > LKS_GROUPSYNC_FAST_NS || is_first(state, ticket))
        return false;
    if (hurry != 0) {
        lks_a32_set_relaxed(&db->sync_hurry, hurry - 1);
        return false;
    }
    end = lks_clock_ns() + PATIENCE_NS;
    do {
        lks_clock_yield();
        if (is_first(state, ticket) || lks_a64_seq(&state->sync_leader) != leader)
            return true;
    } while (lks_clock_ns() < end);
    lks_a32_set_relaxed(&db->sync_hurry, HURRIES);
    return false;
}

enum lockstep_status
lks_groupsync_wait(struct lockstep_db *db, uint64_t ticket, int timeout_ms, lks_groupsync_fn sync, void *arg)
{
    struct lks_shm_state *state = &db->shm->state;
    uint64_t deadline = timeout_ms < 0 ? UINT64_MAX
                                       : lks_clock_ns() + (uint64_t)timeout_ms * LKS_NS_PER_MS;
    if (ticket > lks_a64_acquire(&state->committed))
        return LOCKSTEP_MISUSE;
    if (sync == NULL)
        lks_a64_max(&state->sync_wanted, ticket);
    for (;;) {
        uint32_t seen = lks_a32_seq(&state->sync_bell);
        uint64_t leader, now;
        enum lockstep_status status;

        /* Acquire: pairs with the raise in run(). */
        if (lks_a64_acquire(&state->durable) >= ticket)
            return LOCKSTEP_OK;
        if (lks_a32_acquire(&state->poison) != 0)
            return failure(state);
        leader = lks_a64_seq(&state->sync_leader);
        if (sync != NULL && leaves_the_lead(db, ticket, leader))
            continue;
        if (sync != NULL && may_lead(state, leader)) {
            if (lead(db, leader, sync, arg, &status) && status != LOCKSTEP_OK)
                return status;
            continue;
        }
        now = lks_clock_ns();
        if (now >= deadline)
            return LOCKSTEP_TIMEOUT;
        if (sync == NULL)
            ring_worker(state);
        LKS_CRASH_POINT("groupsync:waiting");
        if (sync != NULL && settles_soon(state, ticket, leader))
            continue;
        sleep_for_leader(db, ticket, seen, leader, nap_end(state, now, deadline));
    }
}

void
lks_groupsync_forget(struct lockstep_db *db, uint32_t client)
{
    struct lks_shm_state *state = &db->shm->state;
    uint64_t leader = lks_a64_seq(&state->sync_leader);
    (void)lks_a32_cas(&state->deputy, client + 1, 0);
    if ((leader & LEADER_MASK) == client + 1 && lks_a64_cas(&state->sync_leader, leader, next_leader(leader, 0)))
        ring(state);
}
