/*
 * The background thread of a database in WAL mode, one a process.
 *
 * The process that holds WORKER does the work for all, over the log's keeper (keeper.h):
 *   lag          the log is synced when the oldest commit that nobody waits for is max_lag / 2 old;
 *   checkpoints  a pass over the log when 1000 frames or more are to be written back: at once, or, while the log grows
 *                fast, when there are more, and half a second after the last pass at the latest;
 *   mending      a log that was poisoned, if we were the first to come after all had left.
 *
 * The thread is started by the first commit that finds none at work, in whatever process, and by a reader that ends before a log
 * that should have been written back; and then one more, the
 * deputy's, by the first commit of another process that is left to the background (NORMAL) and finds none: it sees to it
 * that the log is synced in time, though the worker be stopped or dead.  So a NORMAL commit is synced within max_lag
 * unless both are struck within that time.  All other processes have no thread, and their locks and system calls
 * stay as cheap as those of single-threaded programs.
 *
 * The deputy's thread stands by (coord/standby.h) until something is left to the background:
 *
 *   1. A committer raises pending_since_ns, then looks for the deputy: a thread that expects nothing is rung.  The first
 *      commit of a process since pending_since_ns was 0 also asks the kernel whether the deputy lives.
 *   2. The thread arms its bell, fences, and reads pending_since_ns; only if that is 0 it sleeps for long.
 *
 * A worker that leaves calls the deputy into its place; if there is none the next commit finds nobody at work.  One that
 * died is replaced by the deputy when that is rung next, or within a second.
 *
 * field          changed under
 * mutex          -
 * running, stop  mutex
 * thread         lks_attach(), lks_detach() and the process's last connection, never two at once
 * guarded_ns     any committer: relaxed, a hint; at worst the kernel is asked once more
 * the others     the thread
 */
#include "coord/attach.h"

#include <pthread.h>
#include <signal.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/crashpoint.h"
#include "base/log.h"
#include "coord/client.h"
#include "coord/groupsync.h"
#include "coord/standby.h"
#include "os/futex.h"
#include "vfs/keeper.h"

/* So long a log means that the background does not keep up or is stopped: SQLite's own checkpoints help. */
#define HELP_FRAMES (16 * LKS_CHECKPOINT_FRAMES)

#define IDLE_NS (1000 * LKS_NS_PER_MS)
/* When what is left to the background is synced, in quarters of max_lag: by the worker; by others, if it was not. */
#define WORKER_QUARTERS 2
#define OTHERS_QUARTERS 3
#define LEADER_WAIT_MS 1000
/* Between two tries to open the keeper. */
#define RETRY_MS 10

struct checkpointer {
    struct lockstep_db *db;
    struct lks_mutex mutex;
    pthread_t thread;
    bool running;
    bool stop;
    struct lks_a32 started; /* a launch was tried; a hint for committers */
    struct lks_a64 guarded_ns; /* the pending_since_ns for which the deputy was found alive */

    uint64_t looked_ns; /* when the worker looked whether the deputy lives */
    bool mend; /* the log was poisoned when we came, and nobody was there */
    struct lks_keeper keeper;
};

static enum lockstep_status launch(struct lockstep_db *db);

static struct checkpointer *
checkpointer_of(const struct lockstep_db *db)
{
    return db->store;
}

static bool
stopping(struct checkpointer *c)
{
    bool stop;
    lks_mutex_lock(&c->mutex);
    stop = c->stop;
    lks_mutex_unlock(&c->mutex);
    return stop;
}

/* The oldest commit that nobody waits for should have been synced by now. */
static bool
is_overdue(const struct lks_shm_state *state)
{
    uint64_t since = lks_a64_relaxed(&state->pending_since_ns);
    return since != 0 &&
           lks_clock_coarse_ns() > since + 2 * lks_a32_relaxed(&state->max_lag_ms) * LKS_NS_PER_MS;
}

void
lks_checkpoint_ensure(struct lockstep_db *db, const volatile uint32_t *index)
{
    const struct lks_shm_state *state = &db->shm->state;
    if (lks_a32_relaxed(&checkpointer_of(db)->started) != 0)
        return;
    if (lks_a32_relaxed(&state->worker) != 0 && !is_overdue(state) &&
        lks_log_backlog(index) < 2 * LKS_CHECKPOINT_FRAMES_MOST)
        return;
    (void)!launch(db);
}

void
lks_checkpoint_unheld(struct lockstep_db *db, const volatile uint32_t *index)
{
    if (lks_log_backlog(index) >= LKS_CHECKPOINT_FRAMES && lks_a32_relaxed(&db->shm->state.checkpoint_off) == 0)
        lks_checkpoint_ensure(db, index);
}

static void
resign_as_deputy(struct lockstep_db *db)
{
    (void)lks_a32_cas(&db->shm->state.deputy, db->client + 1, 0);
}

/*
 * The deputy, if there is one that lives: it will see to what is pending.  It cannot be asked whether it lives at every
 * commit; one who finds it alive and has it rung has done what he can until all that is pending has been synced.
 */
static bool
has_deputy(struct lockstep_db *db)
{
    struct checkpointer *c = checkpointer_of(db);
    uint32_t deputy = lks_a32_acquire(&db->shm->state.deputy);
    uint64_t since = lks_a64_relaxed(&db->shm->state.pending_since_ns);
    if (deputy == 0 || deputy > LKS_MAX_CLIENTS)
        return deputy != 0; /* a number that no client can have is taken away by the worker */
    if (since != 0 && lks_a64_relaxed(&c->guarded_ns) != since) {
        if (lks_client_reap(db, deputy - 1))
            return false;
        lks_a64_set_relaxed(&c->guarded_ns, since);
    }
    lks_standby_notice(db, deputy - 1);
    return true;
}

/* A commit was left to the background: there are to be a worker and a deputy. */
static void
guard_lag(struct lockstep_db *db, const volatile uint32_t *index)
{
    struct checkpointer *c = checkpointer_of(db);
    struct lks_shm_state *state = &db->shm->state;
    if (lks_a32_relaxed(&c->started) != 0) {
        lks_standby_notice(db, db->client);
        return;
    }
    lks_checkpoint_ensure(db, index);
    if (lks_a32_relaxed(&c->started) != 0 || has_deputy(db) || db->options.no_worker ||
        !lks_a32_cas(&state->deputy, 0, db->client + 1))
        return;
    LKS_CRASH_POINT("checkpoint:deputy");
    if (launch(db) != LOCKSTEP_OK)
        resign_as_deputy(db);
}

void
lks_checkpoint_notice(struct lockstep_db *db, const volatile uint32_t *index, bool lags)
{
    struct lks_shm_state *state = &db->shm->state;
    uint32_t asleep;
    /* After the swap that unlocked the writer queue.  Pairs with the fences in sleep_on_bell() and lks_standby_arm(). */
    lks_fence_after_rmw();
    asleep = lks_a32_relaxed(&state->worker_asleep);
    if (lags)
        guard_lag(db, index);
    else
        lks_checkpoint_ensure(db, index);
    if (asleep == LKS_WORKER_AWAKE || lks_log_backlog(index) < lks_log_wanted(state) ||
        lks_a64_relaxed(&state->log_held_since_ns) != 0)
        return;
    if (lks_a32_cas(&state->worker_asleep, asleep, LKS_WORKER_AWAKE)) {
        lks_a32_add(&state->work_bell, 1);
        lks_futex_wake(&state->work_bell, UINT32_MAX);
    }
}

bool
lks_checkpoint_awake(struct lockstep_db *db, const volatile uint32_t *index)
{
    const struct lks_shm_state *state = &db->shm->state;
    if (lks_a32_relaxed(&state->checkpoint_off) != 0)
        return true; /* somebody else is to do it */
    return lks_a32_relaxed(&state->worker) != 0 && lks_log_backlog(index) < HELP_FRAMES;
}

/* ------------------------------------------------------------------------------------------------
 * The thread
 * --------------------------------------------------------------------------------------------- */

/* When the log must be synced for those who do not wait; UINT64_MAX: nothing waits. */
static uint64_t
sync_due(struct lks_shm_state *state, uint32_t quarters)
{
    uint64_t since;
    /* No sync helps a log that is poisoned, and all who wait are told. */
    if (lks_a32_acquire(&state->poison) != 0)
        return UINT64_MAX;
    if (lks_a64_relaxed(&state->sync_wanted) > lks_a64_acquire(&state->durable))
        return 0;
    since = lks_groupsync_lag_since(state);
    if (since == 0)
        return UINT64_MAX;
    return since + lks_a32_relaxed(&state->max_lag_ms) * LKS_NS_PER_MS / 4 * quarters;
}

static void
ring_waiters(struct lks_shm_state *state)
{
    lks_a32_add(&state->sync_bell, 1);
    lks_futex_wake(&state->sync_bell, UINT32_MAX);
}

static void
sync_if_due(struct checkpointer *c)
{
    struct lks_shm_state *state = &c->db->shm->state;
    if (lks_clock_ns() < sync_due(state, WORKER_QUARTERS))
        return;
    LKS_CRASH_POINT("checkpoint:sync");
    (void)!lks_groupsync_run(c->db, lks_keeper_sync, &c->keeper);
    ring_waiters(state);
}

/* The worker has not, in time: one of the others does, and leads, so that they do not all. */
static void
sync_if_late(struct checkpointer *c)
{
    struct lks_shm_state *state = &c->db->shm->state;
    uint64_t since = lks_a64_seq(&state->pending_since_ns), needed = lks_a64_seq(&state->sync_needed);
    enum lockstep_status status;
    if (lks_clock_ns() < sync_due(state, OTHERS_QUARTERS))
        return;
    if (!lks_keeper_open(&c->keeper)) {
        lks_clock_nap_ms(RETRY_MS);
        return;
    }
    LKS_CRASH_POINT("checkpoint:late");
    status = lks_groupsync_wait(c->db, needed, LEADER_WAIT_MS, lks_keeper_sync, &c->keeper);
    /* Durable already; but its committer said only afterwards that it waits, or somebody waits for more. */
    if (status == LOCKSTEP_OK && lks_a64_seq(&state->pending_since_ns) == since)
        status = lks_groupsync_run(c->db, lks_keeper_sync, &c->keeper);
    if (status != LOCKSTEP_OK)
        lks_clock_nap_ms(RETRY_MS);
    ring_waiters(state);
}

/* The sleep of the others: until the worker should have synced.  The bell was armed, and then WORKER was not to be had. */
static void
sleep_beside_worker(struct checkpointer *c, uint32_t seen)
{
    struct lockstep_db *db = c->db;
    uint64_t due = sync_due(&db->shm->state, OTHERS_QUARTERS), now = lks_clock_ns();
    uint64_t wait_ns = LKS_STANDBY_IDLE_NS;
    LKS_CRASH_POINT("checkpoint:standing-by");
    if (due != UINT64_MAX) {
        wait_ns = due > now ? due - now : 0;
        lks_standby_watch(db);
    } else {
        /* Its bell is armed: who rings from now on ends its sleep, or keeps it from beginning. */
        LKS_CRASH_POINT("checkpoint:idle");
    }
    if (wait_ns > 0 && !stopping(c))
        lks_standby_sleep(db, seen, wait_ns);
    else
        lks_standby_disarm(db);
}

/* Over a log that is poisoned there is none. */
static bool
is_pass_due(const struct checkpointer *c, uint64_t now_ns)
{
    return lks_groupsync_poisoned(c->db) == 0 && lks_keeper_due(&c->keeper, now_ns);
}

/* The sleep of the process that is the worker: on the shared bell. */
static void
sleep_on_bell(struct checkpointer *c)
{
    struct lks_shm_state *state = &c->db->shm->state;
    uint32_t seen = lks_a32_seq(&state->work_bell);
    uint64_t due = sync_due(state, WORKER_QUARTERS), now, wait_ns = IDLE_NS, next;
    lks_a32_set_relaxed(&state->worker_asleep, due == UINT64_MAX ? LKS_WORKER_IDLE : LKS_WORKER_NAPPING);
    /* Then the words: pairs with the read-modify-writes in lks_groupsync_note(). */
    lks_fence();
    due = sync_due(state, WORKER_QUARTERS);
    now = lks_clock_ns();
    if (due < now + wait_ns)
        wait_ns = due > now ? due - now : 0;
    next = lks_keeper_next_ns(&c->keeper, now);
    if (next < now + wait_ns)
        wait_ns = next - now;
    if (wait_ns > 0 && !is_pass_due(c, now) && !stopping(c))
        lks_futex_wait(&state->work_bell, seen, wait_ns);
    lks_a32_set_relaxed(&state->worker_asleep, LKS_WORKER_AWAKE);
}

/* A dead deputy is replaced by the next commit. */
static void
look_after_deputy(struct checkpointer *c)
{
    uint32_t deputy = lks_a32_acquire(&c->db->shm->state.deputy);
    uint64_t now = lks_clock_coarse_ns();
    if (deputy == 0 || now < c->looked_ns + IDLE_NS)
        return;
    c->looked_ns = now;
    /* Reaping forgets it: lks_groupsync_forget().  A number that no client can have is nobody's. */
    if (deputy > LKS_MAX_CLIENTS)
        (void)lks_a32_cas(&c->db->shm->state.deputy, deputy, 0);
    else
        (void)lks_client_reap(c->db, deputy - 1);
}

static void
work(struct checkpointer *c)
{
    look_after_deputy(c);
    if (lks_keeper_open(&c->keeper)) {
        if (c->mend)
            c->mend = !lks_keeper_mend(&c->keeper);
        sync_if_due(c);
        lks_keeper_refresh(&c->keeper);
        if (is_pass_due(c, lks_clock_ns()))
            lks_keeper_pass(&c->keeper);
        else
            lks_keeper_publish(&c->keeper);
    } else {
        /* Descriptors or memory are short, or somebody has the database for himself. */
        lks_clock_nap_ms(RETRY_MS);
    }
    sleep_on_bell(c);
}

static bool
is_worker(struct lockstep_db *db)
{
    if (!lks_lockset_holds(&db->locks, LKS_BYTE_WORKER)) {
        if (lks_lockset_take(&db->locks, LKS_BYTE_WORKER, LKS_LOCK_EXCLUSIVE) != LOCKSTEP_OK)
            return false;
        /* As a dead worker may have left them. */
        lks_a32_set_relaxed(&db->shm->state.log_finishing, 0);
        lks_a32_set_relaxed(&db->shm->state.worker_asleep, LKS_WORKER_AWAKE);
    }
    /* The next commit finds another. */
    resign_as_deputy(db);
    lks_a32_set_relaxed(&db->shm->state.worker, db->client + 1);
    return true;
}

static void *
thread_main(void *arg)
{
    struct checkpointer *c = arg;
    while (!stopping(c)) {
        uint32_t seen = lks_lockset_holds(&c->db->locks, LKS_BYTE_WORKER) ? 0 : lks_standby_arm(c->db);
        if (is_worker(c->db)) {
            lks_standby_disarm(c->db);
            work(c);
            continue;
        }
        /* Two that found nobody at work have both started a thread: one of them is this. */
        if (lks_a32_relaxed(&c->db->shm->state.deputy) == 0)
            (void)lks_a32_cas(&c->db->shm->state.deputy, 0, c->db->client + 1);
        sleep_beside_worker(c, seen);
        if (!stopping(c))
            sync_if_late(c);
    }
    lks_keeper_close(&c->keeper);
    return NULL;
}

static enum lockstep_status
launch(struct lockstep_db *db)
{
    struct checkpointer *c = checkpointer_of(db);
    enum lockstep_status status = LOCKSTEP_OK;
    sigset_t all, before;
    if (db->options.no_worker)
        return LOCKSTEP_OK;
    lks_mutex_lock(&c->mutex);
    if (c->running)
        goto unlock;
    c->stop = false;
    /* Signals are the application's: none is delivered to this thread. */
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    c->running = pthread_create(&c->thread, NULL, thread_main, c) == 0;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    lks_a32_set_relaxed(&c->started, 1);
    if (!c->running) {
        lks_log(LKS_ERROR, "%s: cannot start the thread that checkpoints", db->path);
        status = LOCKSTEP_NOMEM;
    }
unlock:
    lks_mutex_unlock(&c->mutex);
    return status;
}

/* On connecting, and after a pause: at once only if there is something to be done. */
static enum lockstep_status
start_worker(struct lockstep_db *db)
{
    struct checkpointer *c = checkpointer_of(db);
    const struct lks_shm_state *state = &db->shm->state;
    bool pending = lks_a64_relaxed(&state->pending_since_ns) != 0;
    if (c->mend || (pending && (lks_a32_relaxed(&state->worker) == 0 || is_overdue(state))))
        return launch(db);
    if (!c->running)
        db->hooks->resign(db);
    return LOCKSTEP_OK;
}

static void
resign(struct lockstep_db *db)
{
    if (lks_lockset_holds(&db->locks, LKS_BYTE_WORKER)) {
        lks_a32_set_relaxed(&db->shm->state.worker, 0);
        lks_lockset_drop(&db->locks, LKS_BYTE_WORKER);
        lks_standby_call(db);
    }
}

static void
stop_worker(struct lockstep_db *db)
{
    struct checkpointer *c = checkpointer_of(db);
    if (!c->running)
        return;
    lks_mutex_lock(&c->mutex);
    c->stop = true;
    lks_mutex_unlock(&c->mutex);
    /*
     * Our thread sleeps on the shared bell only if it found WORKER held here, and after that found `stop` unset.  So WORKER was
     * held before the store above.  Where it is not held another process's thread sleeps there, and is not to be woken.
     */
    if (lks_lockset_holds(&db->locks, LKS_BYTE_WORKER)) {
        lks_a32_set_relaxed(&db->shm->state.worker_asleep, LKS_WORKER_AWAKE);
        lks_a32_add(&db->shm->state.work_bell, 1);
        lks_futex_wake(&db->shm->state.work_bell, UINT32_MAX);
    }
    /* The bell of its other sleeps. */
    lks_standby_wake(db);
    pthread_join(c->thread, NULL);
    lks_mutex_lock(&c->mutex);
    c->running = false;
    lks_a32_set_relaxed(&c->started, 0);
    lks_mutex_unlock(&c->mutex);
    resign_as_deputy(db);
    resign(db);
}

enum lockstep_status
lks_checkpoint_once(struct lockstep_db *db)
{
    struct checkpointer *c = checkpointer_of(db);
    enum lockstep_status status = LOCKSTEP_OK;
    if (c->running)
        return LOCKSTEP_BUSY; /* the thread does it */
    if (!lks_keeper_open(&c->keeper))
        return LOCKSTEP_BUSY;
    if (c->mend)
        c->mend = !lks_keeper_mend(&c->keeper);
    status = lks_groupsync_run(db, lks_keeper_sync, &c->keeper);
    if (status == LOCKSTEP_OK && lks_a32_relaxed(&db->shm->state.checkpoint_off) == 0)
        lks_keeper_pass(&c->keeper);
    lks_keeper_close(&c->keeper);
    return status;
}

/* ------------------------------------------------------------------------------------------------
 * What connecting and leaving ask for
 * --------------------------------------------------------------------------------------------- */

static enum lockstep_status
recover(struct lockstep_db *db, bool adopt)
{
    struct lks_shm_state *state = &db->shm->state;
    uint32_t i;
    /* The dead may have led, owned the lock, or said that they sleep. */
    if (adopt)
        for (i = 0; i < LKS_MAX_CLIENTS; i++)
            if (lks_a32_acquire(&db->shm->clients[i].pid) != 0)
                (void)lks_client_reap(db, i);
    lks_a32_set_relaxed(&state->worker_asleep, LKS_WORKER_AWAKE);
    lks_a32_set_relaxed(&state->checkpoint_off, 0);
    lks_a32_set_relaxed(&state->deputy, 0);
    checkpointer_of(db)->mend = lks_groupsync_poisoned(db) != 0;
    return LOCKSTEP_OK;
}

/* SQLite's locks went with the dead writer; what he had not committed is no part of the log. */
static enum lockstep_status
repair(struct lockstep_db *db)
{
    (void)db;
    return LOCKSTEP_OK;
}

/* Each connection has synced what it had to when it left. */
static enum lockstep_status
drain(struct lockstep_db *db)
{
    (void)db;
    return LOCKSTEP_OK;
}

static enum lockstep_status
leave(struct lockstep_db *db)
{
    /* The file stays, and says so to whoever comes next. */
    return lks_groupsync_poisoned(db) == 0 ? LOCKSTEP_OK : LOCKSTEP_IOERR;
}

static void
destroy(struct lockstep_db *db)
{
    struct checkpointer *c = checkpointer_of(db);
    lks_mutex_destroy(&c->mutex);
    free(c);
    db->store = NULL;
}

enum lockstep_status
lks_checkpoint_prepare(struct lockstep_db *db, enum lks_shm_kind shm)
{
    enum lockstep_status status = LOCKSTEP_OK;
    struct checkpointer *c;
    lks_mutex_lock(&db->attach_mutex);
    if (db->store != NULL)
        goto unlock;
    c = calloc(1, sizeof *c);
    if (c == NULL) {
        status = LOCKSTEP_NOMEM;
        goto unlock;
    }
    c->db = db;
    lks_keeper_init(&c->keeper, db, shm);
    lks_mutex_init(&c->mutex, LKS_RANK_WORKER);
    db->store = c;
unlock:
    lks_mutex_unlock(&db->attach_mutex);
    return status;
}

const struct lks_database_hooks lks_checkpoint_hooks = {
    .mode = LKS_MODE_WAL,
    .recover = recover,
    .repair = repair,
    .drain = drain,
    .leave = leave,
    .start_worker = start_worker,
    .stop_worker = stop_worker,
    .resign = resign,
    .destroy = destroy,
};
