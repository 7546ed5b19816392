#include "store/worker.h"

#include <pthread.h>
#include <signal.h>

#include "base/clock.h"
#include "base/crashpoint.h"
#include "base/log.h"
#include "coord/client.h"
#include "coord/standby.h"
#include "os/futex.h"
#include "store/batch.h"
#include "store/office.h"
#include "store/store.h"

/* Who rings may die between taking `worker_asleep` away and the bell, and then nobody rings: it is the limit of that. */
#define IDLE_NS (1000 * LKS_NS_PER_MS)
#define BACK_OFF_MIN_NS (5 * LKS_NS_PER_MS)
#define BACK_OFF_MAX_NS (1000 * LKS_NS_PER_MS)

bool
lks_worker_is_pending(const struct lks_shm_state *state)
{
    return lks_a64_acquire(&state->committed) != lks_a64_acquire(&state->flushed) ||
           lks_a64_relaxed(&state->sync_wanted) > lks_a64_acquire(&state->durable);
}

bool
lks_worker_is_urgent(const struct lockstep_db *db)
{
    const struct lks_shm_state *state = &db->shm->state;
    return lks_a64_relaxed(&state->sync_wanted) > lks_a64_acquire(&state->durable) ||
           lks_store_used_bytes(db) > lks_a64_relaxed(&state->store_limit) / 2;
}

void
lks_worker_ring(struct lockstep_db *db)
{
    struct lks_shm_state *state = &db->shm->state;
    lks_a32_set_relaxed(&state->worker_asleep, LKS_WORKER_AWAKE);
    LKS_CRASH_POINT("worker:ringing");
    lks_a32_add(&state->work_bell, 1);
    lks_futex_wake(&state->work_bell, UINT32_MAX);
}

void
lks_worker_notice(struct lockstep_db *db)
{
    struct lks_shm_state *state = &db->shm->state;
    uint32_t asleep;
    /* After the swap that unlocked the writer queue.  Pairs with the fences in sleep_on_bell() and lks_standby_arm(). */
    lks_fence_after_rmw();
    lks_standby_notice(db, db->client);
    asleep = lks_a32_relaxed(&state->worker_asleep);
    if (asleep == LKS_WORKER_AWAKE || (asleep == LKS_WORKER_NAPPING && !lks_worker_is_urgent(db)))
        return;
    if (lks_a32_cas(&state->worker_asleep, asleep, LKS_WORKER_AWAKE)) {
        lks_a32_add(&state->work_bell, 1);
        lks_futex_wake(&state->work_bell, UINT32_MAX);
    }
}

void
lks_worker_wake_waiters(struct lockstep_db *db)
{
    struct lks_shm_state *state = &db->shm->state;
    lks_a32_add(&state->flush_bell, 1);
    lks_futex_wake(&state->flush_bell, UINT32_MAX);
}

void
lks_worker_await(struct lockstep_db *db, uint32_t seen, uint64_t wait_ns)
{
    struct lks_shm_state *state = &db->shm->state;
    lks_worker_ring(db);
    lks_futex_wait(&state->flush_bell, seen, wait_ns);
    if (lks_a32_relaxed(&state->flush_bell) == seen && !lks_lockset_holds(&db->locks, LKS_BYTE_WORKER))
        lks_standby_wake(db);
}

static bool
stopping(struct lks_store *store)
{
    bool stop;
    lks_mutex_lock(&store->worker_mutex);
    stop = store->worker_stop;
    lks_mutex_unlock(&store->worker_mutex);
    return stop;
}

/* The worker's sleep: on the shared bell. */
static void
sleep_on_bell(struct lockstep_db *db, enum lks_worker_sleep kind, uint64_t wait_ns)
{
    struct lks_shm_state *state = &db->shm->state;
    uint32_t seen = lks_a32_seq(&state->work_bell);
    lks_a32_set_relaxed(&state->worker_asleep, kind);
    lks_fence();
    /* What came in between the last look and the flag above: its committer saw AWAKE and did not ring. */
    if (!(kind == LKS_WORKER_IDLE ? lks_worker_is_pending(state) : lks_worker_is_urgent(db)) &&
        !stopping(lks_store_of(db)))
        lks_futex_wait(&state->work_bell, seen, wait_ns);
    lks_a32_set_relaxed(&state->worker_asleep, LKS_WORKER_AWAKE);
}

/* The worker's pause after a batch that failed: no commit ends it, but the end of the thread. */
static void
pause_worker(struct lockstep_db *db, uint64_t wait_ns)
{
    uint32_t seen = lks_standby_bell(db);
    LKS_CRASH_POINT("worker:pausing");
    if (!stopping(lks_store_of(db)))
        lks_standby_sleep(db, seen, wait_ns);
}

/* One turn of the process that is the worker.  Returns how long to stay away after it. */
static void
work(struct lockstep_db *db, uint64_t *back_off)
{
    struct lks_shm_state *state = &db->shm->state;
    enum lockstep_status status;
    uint64_t lag;

    if (*back_off > 0)
        pause_worker(db, *back_off);
    else if (!lks_worker_is_pending(state))
        sleep_on_bell(db, LKS_WORKER_IDLE, IDLE_NS);
    lag = lks_a32_relaxed(&state->max_lag_ms) * LKS_NS_PER_MS;
    /*
     * Half of max_lag is for gathering, the other half for the batch itself, so that a commit is durable
     * within the whole.
     */
    if (*back_off == 0 && lks_worker_is_pending(state) && !lks_worker_is_urgent(db))
        sleep_on_bell(db, LKS_WORKER_NAPPING, lag / 2);
    if (stopping(lks_store_of(db)))
        return;
    if (!lks_worker_is_pending(state)) {
        /* Another thread has done it. */
        *back_off = 0;
        return;
    }
    status = lks_batch_run(db, NULL);
    if (status == LOCKSTEP_OK)
        *back_off = 0;
    else
        *back_off = *back_off == 0                    ? BACK_OFF_MIN_NS
                    : *back_off > BACK_OFF_MAX_NS / 2 ? BACK_OFF_MAX_NS
                                                      : 2 * *back_off;
    /* A stock reader or another thread is in the way: that is soon over. */
    if (status == LOCKSTEP_BUSY)
        *back_off = BACK_OFF_MIN_NS;
}

/* One turn of a process that is not the worker: its place, if it is free; else a sleep. */
static void
stand_by(struct lockstep_db *db)
{
    struct lks_shm_state *state = &db->shm->state;
    uint64_t wait_ns = LKS_STANDBY_IDLE_NS;
    bool worker = false;
    uint32_t seen = lks_standby_arm(db);
    /* BUSY while the worker lives. */
    (void)!lks_batch_run(db, &worker);
    if (worker || stopping(lks_store_of(db))) {
        lks_standby_disarm(db);
        return;
    }
    LKS_CRASH_POINT("worker:standing-by");
    if (lks_worker_is_pending(state)) {
        /* The worker begins at half of max_lag, so it should have by then. */
        wait_ns = lks_a32_relaxed(&state->max_lag_ms) * LKS_NS_PER_MS / 4 * 3;
        lks_standby_watch(db);
    }
    lks_standby_sleep(db, seen, wait_ns);
}

static void *
worker_main(void *arg)
{
    struct lockstep_db *db = arg;
    uint64_t back_off = 0;

    while (!stopping(lks_store_of(db)))
        if (lks_lockset_holds(&db->locks, LKS_BYTE_WORKER))
            work(db, &back_off);
        else
            stand_by(db);
    return NULL;
}

enum lockstep_status
lks_worker_start(struct lockstep_db *db)
{
    struct lks_store *store = lks_store_of(db);
    store->worker_stop = false;
    store->worker_running = false;
    if (db->options.no_worker) {
        /* Who runs no thread must not be the one that everybody waits for. */
        lks_office_resign(db);
        return LOCKSTEP_OK;
    }
    /* Signals are the application's: none is delivered to this thread. */
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    store->worker_running = pthread_create(&store->worker_thread, NULL, worker_main, db) == 0;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (!store->worker_running) {
        lks_log(LKS_ERROR, "%s: cannot start the thread that writes behind", db->path);
        return LOCKSTEP_NOMEM;
    }
    return LOCKSTEP_OK;
}

void
lks_worker_stop(struct lockstep_db *db)
{
    struct lks_store *store = lks_store_of(db);
    if (store->worker_running) {
        lks_mutex_lock(&store->worker_mutex);
        store->worker_stop = true;
        lks_mutex_unlock(&store->worker_mutex);
        /*
         * Our thread sleeps on the shared bell only if it found WORKER held here, and after that found worker_stop unset.  So
         * WORKER was held before the store above, and it is not given up while the thread runs.  Where it is not held another
         * process's thread sleeps there, perhaps over commits whose lag is not over: that is not to be woken.
         */
        if (lks_lockset_holds(&db->locks, LKS_BYTE_WORKER))
            lks_worker_ring(db);
        /* The bell of its other sleeps. */
        lks_standby_wake(db);
        pthread_join(store->worker_thread, NULL);
        store->worker_running = false;
    }
}
