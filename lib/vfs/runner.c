#include "vfs/runner.h"

#include <pthread.h>
#include <stdlib.h>
#include <time.h>

#include "base/clock.h"
#include "base/log.h"
#include "store/batch.h"
#include "store/store.h"
#include "store/ticket.h"
#include "store/worker.h"

#define BACK_OFF_MIN_NS (5 * LKS_NS_PER_MS)
#define BACK_OFF_MAX_NS (1000 * LKS_NS_PER_MS)
/* A look at least so often; sooner where other processes commit, whose commits do not wake us. */
#define IDLE_NS (10000 * LKS_NS_PER_MS)
#define LOOK_NS (1000 * LKS_NS_PER_MS)
#define ASK_MS 20

struct lks_runner_entry {
    struct lks_runner_entry *next;
    struct lockstep_db *db;
    unsigned files;
    bool closing;
    bool at_work;
    bool given_up;        /* a halt when idle does not wait for it */
    uint64_t seen_ns;     /* when commits were first seen to wait; 0: none did */
    uint64_t retry_ns;    /* not before */
    uint64_t back_off_ns; /* after the last failure; 0: it was none */
    uint64_t stuck_ns;    /* since when others are in the way; 0: they are not */
};

uint32_t lks_runner_patience_ms = 10000;

static struct {
    struct lks_mutex mutex;
    pthread_cond_t changed; /* of anything here */
    struct lks_runner_entry *entries;
    struct lks_runner_entry *current; /* at work */
    bool running;
    enum lks_halt halt;
    uint32_t delay_ms;
    struct lks_a32 trace;
    struct lks_a32 asleep;
} runner = {.mutex = LKS_MUTEX_INITIALIZER(LKS_RANK_RUNNER)};

static pthread_once_t once = PTHREAD_ONCE_INIT;
static __thread bool in_run;

static void
init_condition(void)
{
    pthread_condattr_t monotonic;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&runner.changed, &monotonic);
    pthread_condattr_destroy(&monotonic);
}

/* The parent's run and databases are not the child's; its files say MISUSE and never come here. */
static void
after_fork_child(void)
{
    lks_mutex_init(&runner.mutex, LKS_RANK_RUNNER);
    init_condition();
    runner.entries = runner.current = NULL;
    runner.running = false;
    lks_a32_set_relaxed(&runner.asleep, 0);
    in_run = false;
}

static void
init(void)
{
    init_condition();
    pthread_atfork(NULL, NULL, after_fork_child);
}

static void
lock(void)
{
    pthread_once(&once, init);
    lks_mutex_lock(&runner.mutex);
}

static void
unlock(void)
{
    lks_mutex_unlock(&runner.mutex);
}

static void
wait_for_change(void)
{
    pthread_cond_wait(&runner.changed, &runner.mutex.mutex);
}

static void
wait_until(uint64_t end_ns)
{
    struct timespec t = {.tv_sec = (time_t)(end_ns / 1000000000ull), .tv_nsec = (long)(end_ns % 1000000000ull)};
    pthread_cond_timedwait(&runner.changed, &runner.mutex.mutex, &t);
}

static void
tell(void)
{
    pthread_cond_broadcast(&runner.changed);
}

/* ---------------------------------------------------------------------------------------- databases */

enum lockstep_status
lks_runner_join(struct lks_file *file)
{
    struct lks_runner_entry *e;
    enum lockstep_status status = LOCKSTEP_OK;
    if (file->runner != NULL)
        return LOCKSTEP_OK;
    lock();
    for (e = runner.entries; e != NULL && e->db != file->db; e = e->next)
        ;
    if (e == NULL) {
        e = calloc(1, sizeof *e);
        if (e == NULL) {
            status = LOCKSTEP_NOMEM;
            goto unlock;
        }
        e->db = file->db;
        e->next = runner.entries;
        runner.entries = e;
    }
    e->files++;
    file->runner = e;
    /* Others may have left commits there. */
    tell();
unlock:
    unlock();
    return status;
}

void
lks_runner_leave(struct lks_file *file)
{
    struct lks_runner_entry *e = file->runner, **link;
    if (e == NULL || *file->fork_guard == 0)
        return;
    file->runner = NULL;
    lock();
    /* The last one waits for the batch, which is not slowed down any more; another file may join meanwhile. */
    while (e->files == 1 && e->at_work) {
        e->closing = true;
        tell();
        wait_for_change();
    }
    e->closing = false;
    if (--e->files == 0) {
        for (link = &runner.entries; *link != e; link = &(*link)->next)
            ;
        *link = e->next;
        free(e);
    }
    /* A halt when idle need not wait for it. */
    tell();
    unlock();
}

static bool
is_pending(const struct lks_runner_entry *e)
{
    return lks_worker_is_pending(&e->db->shm->state);
}

static uint64_t
lag_ns(const struct lks_runner_entry *e)
{
    return lks_a32_relaxed(&e->db->shm->state.max_lag_ms) * LKS_NS_PER_MS;
}

void
lks_runner_notice(const struct lockstep_db *db, uint64_t id)
{
    if (!db->options.no_worker)
        return;
    /* Pairs with the one in fall_asleep(): it sees the commit, or we see that it sleeps. */
    lks_fence();
    if (lks_a32_relaxed(&runner.asleep) == 0)
        return;
    /* Of those after the first it is known when they are due. */
    if (id != lks_a64_acquire(&db->shm->state.flushed) + 1 && !lks_worker_is_urgent(db))
        return;
    lock();
    tell();
    unlock();
}

/* ------------------------------------------------------------------------------------------- the run */

/* When a batch of it is due; UINT64_MAX: there is nothing to do. */
static uint64_t
due_ns(struct lks_runner_entry *e, uint64_t now_ns)
{
    uint64_t due;
    if (!is_pending(e)) {
        e->seen_ns = e->retry_ns = e->back_off_ns = e->stuck_ns = 0;
        e->given_up = false;
        return UINT64_MAX;
    }
    if (e->closing || (e->given_up && runner.halt == LKS_HALT_IDLE))
        return UINT64_MAX;
    if (e->seen_ns == 0)
        e->seen_ns = now_ns;
    due = e->seen_ns;
    /* Half of max_lag is for gathering, the other half for the batch: as the worker does. */
    if (runner.halt != LKS_HALT_IDLE && !lks_worker_is_urgent(e->db))
        due += lag_ns(e) / 2;
    return due > e->retry_ns ? due : e->retry_ns;
}

/* The database that is due first, NULL if none will be. */
static struct lks_runner_entry *
first_due(uint64_t now_ns, uint64_t *out_due_ns)
{
    struct lks_runner_entry *e, *first = NULL;
    *out_due_ns = UINT64_MAX;
    for (e = runner.entries; e != NULL; e = e->next) {
        uint64_t due = due_ns(e, now_ns);
        if (due < *out_due_ns) {
            *out_due_ns = due;
            first = e;
        }
    }
    return first;
}

static bool
commits_elsewhere(const struct lks_runner_entry *e)
{
    struct lockstep_db_info info;
    lks_store_info(e->db, &info);
    return info.clients > 1;
}

/* Until something is due, or changes.  Sleeps not at all if that is so now. */
static void
fall_asleep(void)
{
    struct lks_runner_entry *e;
    uint64_t now = lks_clock_ns(), end = now + IDLE_NS, due;
    for (e = runner.entries; e != NULL; e = e->next)
        if (commits_elsewhere(e)) {
            uint64_t look = lag_ns(e) / 2 < LOOK_NS ? lag_ns(e) / 2 : LOOK_NS;
            if (now + look < end)
                end = now + look;
        }
    lks_a32_set_relaxed(&runner.asleep, 1);
    lks_fence();
    /* Once more: who committed since the last look may have seen that we were awake. */
    (void)first_due(now, &due);
    if (due > now)
        wait_until(due < end ? due : end);
    lks_a32_set_relaxed(&runner.asleep, 0);
}

/* What the batch came to. */
static void
settle(struct lks_runner_entry *e, enum lockstep_status status, bool other_worker)
{
    uint64_t now = lks_clock_ns();
    if (status == LOCKSTEP_OK) {
        e->seen_ns = e->retry_ns = e->back_off_ns = e->stuck_ns = 0;
        e->given_up = false;
        return;
    }
    if (status != LOCKSTEP_BUSY && status != LOCKSTEP_TIMEOUT) {
        e->back_off_ns = e->back_off_ns == 0                    ? BACK_OFF_MIN_NS
                         : e->back_off_ns > BACK_OFF_MAX_NS / 2 ? BACK_OFF_MAX_NS
                                                                : 2 * e->back_off_ns;
        e->retry_ns = now + e->back_off_ns;
        e->given_up = true;
        return;
    }
    /* A stock reader or another thread is in the way, which is soon over; or another process does the work. */
    e->retry_ns = now + BACK_OFF_MIN_NS;
    if (other_worker && runner.halt != LKS_HALT_IDLE)
        e->retry_ns = now + (lag_ns(e) < LOOK_NS ? lag_ns(e) : LOOK_NS);
    if (e->stuck_ns == 0)
        e->stuck_ns = now;
    else if (now - e->stuck_ns > lks_runner_patience_ms * LKS_NS_PER_MS)
        e->given_up = true;
}

/* One batch, without the mutex. */
static void
work(struct lks_runner_entry *e)
{
    enum lockstep_status status;
    bool worker = false, idle = runner.halt == LKS_HALT_IDLE;
    e->at_work = true;
    runner.current = e;
    unlock();
    in_run = true;
    status = lks_batch_run(e->db, &worker);
    if (status == LOCKSTEP_BUSY && !worker && idle)
        /* Another process is the worker: it is asked not to take its time. */
        status = lks_ticket_wait(e->db, lks_a64_acquire(&e->db->shm->state.committed), ASK_MS);
    in_run = false;
    if (lks_a32_relaxed(&runner.trace) != 0)
        lks_log(LKS_NOTICE, "sqlite3async: BATCH %s up to %llu: %s", e->db->path,
                (unsigned long long)lks_a64_acquire(&e->db->shm->state.flushed), lks_status_name(status));
    lock();
    e->at_work = false;
    runner.current = NULL;
    settle(e, status, !worker);
    tell();
}

void
lks_runner_run(void)
{
    lock();
    while (runner.running)
        wait_for_change();
    runner.running = true;
    while (runner.halt != LKS_HALT_NOW) {
        uint64_t now = lks_clock_ns(), due;
        struct lks_runner_entry *e = first_due(now, &due);
        if (e == NULL && runner.halt == LKS_HALT_IDLE)
            break;
        if (e != NULL && due <= now)
            work(e);
        else
            fall_asleep();
    }
    runner.running = false;
    tell();
    unlock();
}

/* -------------------------------------------------------------------------------------------- control */

void
lks_runner_set_halt(enum lks_halt halt)
{
    struct lks_runner_entry *e;
    lock();
    runner.halt = halt;
    /* Each is tried once more, and waited for as long as ever. */
    for (e = runner.entries; e != NULL; e = e->next) {
        e->given_up = false;
        e->retry_ns = e->stuck_ns = 0;
    }
    tell();
    unlock();
}

enum lks_halt
lks_runner_halt(void)
{
    enum lks_halt halt;
    lock();
    halt = runner.halt;
    unlock();
    return halt;
}

void
lks_runner_set_delay(uint32_t delay_ms)
{
    lock();
    runner.delay_ms = delay_ms;
    tell();
    unlock();
}

uint32_t
lks_runner_delay(void)
{
    uint32_t delay_ms;
    lock();
    delay_ms = runner.delay_ms;
    unlock();
    return delay_ms;
}

void
lks_runner_set_trace(bool trace)
{
    lks_a32_set_relaxed(&runner.trace, trace);
}

bool
lks_runner_trace(void)
{
    return lks_a32_relaxed(&runner.trace) != 0;
}

void
lks_runner_trace_file(const char *what, const char *path)
{
    if (lks_a32_relaxed(&runner.trace) != 0)
        lks_log(LKS_NOTICE, "sqlite3async: %s %s", what, path);
}

void
lks_runner_trace_range(const char *what, const char *path, uint64_t size, uint64_t offset)
{
    if (lks_a32_relaxed(&runner.trace) != 0)
        lks_log(LKS_NOTICE, "sqlite3async: %s %s %llu bytes at %llu", what, path, (unsigned long long)size,
                (unsigned long long)offset);
}

/* Cut short when the run is to end, or the database to be closed. */
void
lks_runner_pause(void)
{
    uint64_t begin, end;
    if (!in_run)
        return;
    begin = lks_clock_ns();
    lock();
    for (;;) {
        end = begin + runner.delay_ms * LKS_NS_PER_MS;
        if (runner.halt == LKS_HALT_NOW || runner.current->closing || lks_clock_ns() >= end)
            break;
        wait_until(end);
    }
    unlock();
}
