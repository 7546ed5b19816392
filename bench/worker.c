#include "bench/worker.h"

#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "bench/connection.h"
#include "bench/delay_vfs.h"
#include "bench/job.h"
#include "bench/memory.h"
#include "bench/moment.h"

#define MONITOR_INTERVAL_NS (100 * BENCH_NS_PER_MS)

struct worker {
    struct bench_job job;
    struct bench_connection connection;
    struct bench_ready ready;
    struct bench_result result;
    uint64_t start_ns;
    uint64_t deadline_ns;
    uint64_t random;
    int64_t held_sum; /* BENCH_HOLD: what its snapshot showed at first */
    int64_t held_top;
};

/* What became of one operation. */
enum outcome { DONE, GAVE_UP /* the time was over */, FAILED /* result.message says why */ };

/* ---- pipes ---- */

static bool
read_exactly(int fd, void *buf, size_t size)
{
    char *at = buf;
    while (size > 0) {
        ssize_t n = read(fd, at, size);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return false;
        at += n;
        size -= (size_t)n;
    }
    return true;
}

static bool
write_exactly(int fd, const void *buf, size_t size)
{
    const char *at = buf;
    while (size > 0) {
        ssize_t n = write(fd, at, size);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return false;
        at += n;
        size -= (size_t)n;
    }
    return true;
}

/* ---- operations ---- */

__attribute__((format(printf, 2, 3))) static enum outcome
fail(struct worker *w, const char *format, ...)
{
    va_list args;
    if (!w->result.failed) {
        va_start(args, format);
        vsnprintf(w->result.message, sizeof(w->result.message), format, args);
        va_end(args);
        w->result.failed = 1;
    }
    return FAILED;
}

static enum outcome
fail_sql(struct worker *w, const char *what, int rc)
{
    return fail(w, "%s: %s (%s)", what, sqlite3_errstr(rc), sqlite3_errmsg(w->connection.db));
}

/* xorshift64*: the same keys in the same order on every side. */
static uint32_t
random_key(struct worker *w)
{
    w->random ^= w->random >> 12;
    w->random ^= w->random << 25;
    w->random ^= w->random >> 27;
    uint64_t high = (w->random * 2685821657736338717ull) >> 32;
    return (uint32_t)(high * w->job.rows >> 32) + 1;
}

/* One try from BEGIN IMMEDIATE to COMMIT; a transaction may be left open by an error. */
static int
write_try(struct worker *w, const uint32_t *keys)
{
    struct bench_connection *c = &w->connection;
    int rc = bench_connection_run(c->begin_immediate);
    for (uint32_t i = 0; rc == SQLITE_OK && i < w->job.updates; i++) {
        rc = sqlite3_bind_int64(c->update, 1, keys[i]);
        if (rc == SQLITE_OK)
            rc = bench_connection_run(c->update);
    }
    for (uint32_t i = 0; rc == SQLITE_OK && i < w->job.inserts; i++)
        rc = bench_connection_run(c->insert);
    if (rc == SQLITE_OK)
        rc = bench_connection_run(c->commit);
    return rc;
}

#define UPDATES_MAX 16

/*
 * Tries until it is committed.  A SQLITE_BUSY has waited for the busy timeout, so trying again is
 * no polling; one that came at once is slept over.
 */
static enum outcome
write_once(struct worker *w)
{
    uint32_t keys[UPDATES_MAX];
    for (uint32_t i = 0; i < w->job.updates; i++)
        keys[i] = random_key(w);
    for (;;) {
        uint64_t began_ns = bench_moment_ns();
        int rc = write_try(w, keys);
        if (rc == SQLITE_OK)
            return DONE;
        if (!sqlite3_get_autocommit(w->connection.db)) {
            int undo = bench_connection_run(w->connection.rollback);
            if (undo != SQLITE_OK && !sqlite3_get_autocommit(w->connection.db))
                return fail_sql(w, "ROLLBACK", undo);
        }
        if ((rc & 0xff) != SQLITE_BUSY)
            return fail_sql(w, "writing", rc);
        w->result.busy++;
        uint64_t now_ns = bench_moment_ns();
        if (now_ns >= w->deadline_ns)
            return GAVE_UP;
        if (now_ns - began_ns < BENCH_NS_PER_MS)
            bench_moment_sleep_until(now_ns + BENCH_NS_PER_MS);
    }
}

static enum outcome
read_once(struct worker *w)
{
    sqlite3_stmt *select = w->connection.select;
    int rc = sqlite3_bind_int64(select, 1, random_key(w));
    if (rc == SQLITE_OK)
        rc = sqlite3_step(select);
    if (rc == SQLITE_ROW)
        rc = sqlite3_step(select);
    else if (rc == SQLITE_DONE)
        return fail(w, "a row is missing");
    if (rc == SQLITE_DONE)
        rc = sqlite3_reset(select);
    return rc == SQLITE_OK ? DONE : fail_sql(w, "reading", rc);
}

/* Two tables, within the transaction that is open. */
static int
read_sums(struct worker *w, int64_t *out_sum, int64_t *out_top)
{
    int rc = bench_connection_number(w->connection.sum, out_sum);
    return rc == SQLITE_OK ? bench_connection_number(w->connection.top, out_top) : rc;
}

/* Every transaction adds `updates` to the balances and `inserts` to the entries. */
static bool
adds_up(const struct worker *w, int64_t sum, int64_t top)
{
    if (w->job.inserts == 0)
        return sum % w->job.updates == 0;
    return sum * w->job.inserts == top * w->job.updates;
}

static enum outcome
scan_once(struct worker *w)
{
    int64_t sum = 0;
    int64_t top = 0;
    int rc = bench_connection_run(w->connection.begin);
    if (rc == SQLITE_OK)
        rc = read_sums(w, &sum, &top);
    if (rc == SQLITE_OK)
        rc = bench_connection_run(w->connection.commit);
    if (rc != SQLITE_OK)
        return fail_sql(w, "scanning", rc);
    if (!adds_up(w, sum, top))
        w->result.torn++;
    return DONE;
}

static enum outcome
hold_begin(struct worker *w)
{
    int rc = bench_connection_run(w->connection.begin);
    if (rc == SQLITE_OK)
        rc = read_sums(w, &w->held_sum, &w->held_top);
    return rc == SQLITE_OK ? DONE : fail_sql(w, "opening the long read transaction", rc);
}

static enum outcome
hold_end(struct worker *w)
{
    int64_t sum = 0;
    int64_t top = 0;
    int rc = read_sums(w, &sum, &top);
    if (rc == SQLITE_OK)
        rc = bench_connection_run(w->connection.commit);
    if (rc != SQLITE_OK)
        return fail_sql(w, "reading at the end of the long transaction", rc);
    if (sum != w->held_sum || top != w->held_top)
        w->result.torn++;
    w->result.done = 1;
    return DONE;
}

static enum outcome
monitor_once(struct worker *w)
{
    int rc = bench_connection_store_peak(&w->connection, &w->result.store);
    return rc == SQLITE_OK ? DONE : fail_sql(w, "lockstep_status()", rc);
}

/* ---- loops ---- */

static void
count_done(struct worker *w, uint64_t done, uint64_t now_ns)
{
    w->result.done += done;
    if (now_ns <= w->deadline_ns)
        w->result.done_in_time += done;
}

/*
 * The next starts when the one before has ended, so that instant is its intended start and every
 * moment of the run belongs to some operation.  With time_every above 1 only the first of so many
 * is timed, for a look at the clock takes as long as a tenth of a read.
 */
static enum outcome
loop_closed(struct worker *w, enum outcome (*once)(struct worker *))
{
    uint64_t group = w->job.time_every > 1 ? w->job.time_every : 1;
    uint64_t began_ns = w->start_ns;
    while (began_ns < w->deadline_ns) {
        enum outcome outcome = once(w);
        uint64_t now_ns = bench_moment_ns();
        bench_histogram_add(&w->result.latency, now_ns - began_ns);
        for (uint64_t i = 1; outcome == DONE && i < group; i++)
            outcome = once(w);
        if (group > 1)
            now_ns = bench_moment_ns();
        if (outcome == FAILED)
            return FAILED;
        if (outcome == DONE)
            count_done(w, group, now_ns);
        began_ns = now_ns;
    }
    return DONE;
}

/*
 * Starts are intended on a fixed schedule and latency counts from there, so that one slow operation
 * shows in all that it delays.  What was due but never begun counts with the time it had waited.
 */
static enum outcome
loop_paced(struct worker *w, enum outcome (*once)(struct worker *))
{
    uint64_t step_ns = w->job.interval_ns;
    uint64_t intended_ns = w->start_ns + step_ns * w->job.index / w->job.workers;
    uint64_t now_ns = w->start_ns;
    for (; intended_ns < w->deadline_ns && now_ns < w->deadline_ns; intended_ns += step_ns) {
        if (now_ns < intended_ns)
            bench_moment_sleep_until(intended_ns);
        enum outcome outcome = once(w);
        now_ns = bench_moment_ns();
        bench_histogram_add(&w->result.latency, now_ns - intended_ns);
        if (outcome == FAILED)
            return FAILED;
        if (outcome == DONE)
            count_done(w, 1, now_ns);
    }
    for (; intended_ns < w->deadline_ns; intended_ns += step_ns) {
        w->result.unstarted++;
        bench_histogram_add(&w->result.latency, w->deadline_ns - intended_ns);
    }
    return DONE;
}

static enum outcome
loop(struct worker *w, enum outcome (*once)(struct worker *))
{
    return w->job.interval_ns > 0 ? loop_paced(w, once) : loop_closed(w, once);
}

static enum outcome
loop_monitor(struct worker *w)
{
    for (uint64_t at_ns = w->start_ns; at_ns < w->deadline_ns; at_ns += MONITOR_INTERVAL_NS) {
        bench_moment_sleep_until(at_ns);
        if (monitor_once(w) == FAILED)
            return FAILED;
        w->result.done++;
    }
    return DONE;
}

static enum outcome
perform(struct worker *w)
{
    switch ((enum bench_role)w->job.role) {
    case BENCH_WRITE:
        return loop(w, write_once);
    case BENCH_READ:
        return loop(w, read_once);
    case BENCH_SCAN:
        return loop(w, scan_once);
    case BENCH_HOLD:
        bench_moment_sleep_until(w->deadline_ns);
        return hold_end(w);
    case BENCH_MONITOR:
        return loop_monitor(w);
    }
    return fail(w, "no such role: %u", w->job.role);
}

/* ---- one life ---- */

/* Reads everything once, so that no side pays for a cold cache. */
static enum outcome
prepare(struct worker *w)
{
    int64_t sum;
    int64_t top;
    if (bench_connection_open(&w->job, &w->connection, w->result.message,
                              sizeof(w->result.message)) != SQLITE_OK) {
        w->result.failed = 1;
        return FAILED;
    }
    if (w->job.role == BENCH_HOLD)
        return hold_begin(w);
    if (w->job.role == BENCH_MONITOR)
        return DONE;
    int rc = read_sums(w, &sum, &top);
    return rc == SQLITE_OK ? DONE : fail_sql(w, "reading the database once", rc);
}

/* All that was acknowledged is brought to the file: part of what is timed. */
static enum outcome
drain(struct worker *w)
{
    uint64_t began_ns = bench_moment_ns();
    int rc = SQLITE_OK;
    if (w->job.role == BENCH_WRITE)
        rc = bench_connection_flush(&w->connection, &w->job);
    if (rc != SQLITE_OK)
        return fail_sql(w, "flushing", rc);
    rc = bench_connection_close(&w->connection);
    if (rc != SQLITE_OK)
        return fail_sql(w, "closing", rc);
    w->result.drain_ns = bench_moment_ns() - began_ns;
    return DONE;
}

static bool
valid(const struct bench_job *job)
{
    return job->size == sizeof(*job) && job->updates <= UPDATES_MAX && job->rows > 0 &&
           job->workers > 0 && memchr(job->path, '\0', sizeof(job->path)) != NULL;
}

int
bench_worker_main(void)
{
    static struct worker w; /* a page of histogram and of path: not on the stack */
    struct bench_go go;
    if (!read_exactly(STDIN_FILENO, &w.job, sizeof(w.job)) || !valid(&w.job)) {
        fprintf(stderr, "lockstep bench: --worker is for the program's own use\n");
        return 2;
    }
    /* Dies with its parent, however that ends; under strace that is another process. */
    if (prctl(PR_SET_PDEATHSIG, SIGKILL) != 0 ||
        (w.job.parent != 0 && getppid() != w.job.parent))
        return 1;
    w.random = w.job.seed * 0x9e3779b97f4a7c15ull + w.job.index + 1;

    if (prepare(&w) == FAILED) {
        w.ready.failed = 1;
        memcpy(w.ready.message, w.result.message, sizeof(w.ready.message));
    }
    if (!write_exactly(STDOUT_FILENO, &w.ready, sizeof(w.ready)) || w.ready.failed ||
        !read_exactly(STDIN_FILENO, &go, sizeof(go)))
        return 1;

    w.start_ns = go.start_ns;
    w.deadline_ns = go.start_ns + w.job.duration_ns;
    bench_moment_sleep_until(w.start_ns);
    enum outcome outcome = perform(&w);
    w.result.loop_end_ns = bench_moment_ns();
    w.result.pss_kib = bench_memory_pss_kib(getpid());
    if (outcome != FAILED)
        outcome = drain(&w);
    w.result.syncs = bench_delay_vfs_syncs();
    w.result.peak_rss_kib = bench_memory_peak_kib(getpid());
    if (!write_exactly(STDOUT_FILENO, &w.result, sizeof(w.result)))
        return 1;
    return outcome == FAILED ? 1 : 0;
}
