/*
 * What is kept in memory when the file cannot be written: because the disk is slow, or because a
 * reader still needs what it holds.
 */
#include "bench/workload.h"

#include <math.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "bench/memory.h"
#include "bench/moment.h"

#define SAMPLES_MAX 1024
#define SAMPLES_A_RUN 300 /* about so many, however long it is */
#define MIB 1048576.0

/* Resident memory of the fleet's first process, over time, and what lies beside the database. */
struct curve {
    const char *database;
    uint64_t at_ns[SAMPLES_MAX];
    uint64_t rss_kib[SAMPLES_MAX];
    size_t n;
    uint64_t beside_bytes; /* on disk: log and coordination file, the most of all rounds */
};

static uint64_t
bytes_beside(const char *database)
{
    static const char *const companions[] = {"-wal", "-lockstep"};
    uint64_t bytes = 0;
    for (size_t i = 0; i < sizeof(companions) / sizeof(companions[0]); i++) {
        char path[PATH_MAX + 16];
        struct stat status;
        snprintf(path, sizeof(path), "%s%s", database, companions[i]);
        if (stat(path, &status) == 0)
            bytes += (uint64_t)status.st_blocks * 512;
    }
    return bytes;
}

static void
sample(void *arg, const pid_t *pids, size_t n, uint64_t since_start_ns)
{
    struct curve *curve = arg;
    if (n == 0 || pids[0] == 0 || curve->n == SAMPLES_MAX)
        return;
    uint64_t rss_kib = bench_memory_resident_kib(pids[0]);
    uint64_t beside_bytes = bytes_beside(curve->database);
    if (beside_bytes > curve->beside_bytes)
        curve->beside_bytes = beside_bytes;
    if (rss_kib == 0)
        return;
    curve->at_ns[curve->n] = since_start_ns;
    curve->rss_kib[curve->n++] = rss_kib;
}

static uint64_t
highest_between(const struct curve *curve, double from_s, double to_s)
{
    uint64_t highest = 0;
    for (size_t i = 0; i < curve->n; i++) {
        double at_s = (double)curve->at_ns[i] / 1e9;
        if (at_s >= from_s && at_s < to_s && curve->rss_kib[i] > highest)
            highest = curve->rss_kib[i];
    }
    return highest;
}

/* The last third of a run against the third before: 1 is flat. */
static double
growth(const struct curve *curve, double seconds)
{
    uint64_t middle = highest_between(curve, seconds / 3, seconds * 2 / 3);
    uint64_t last = highest_between(curve, seconds * 2 / 3, seconds);
    return middle > 0 && last > 0 ? (double)last / (double)middle : NAN;
}

/* One side of a workload whose first jobs write and whose last one, on Lockstep, is the monitor. */
struct run {
    struct bench_trial trial;
    struct bench_job jobs[8];
    struct bench_result results[8];
    struct curve curve;
    struct bench_watch watch;
    struct bench_row writer;
    struct bench_store_peak store; /* highest of all rounds */
    double growth;                 /* highest of all rounds */
};

static void
run_start(struct run *run, const struct bench_side *side, const struct bench_original *original)
{
    memset(run, 0, sizeof(*run));
    snprintf(run->writer.label, sizeof(run->writer.label), "%s", side->label);
    run->trial.side = side;
    run->trial.original = original;
    run->growth = NAN;
}

static bool
run_round(struct bench_context *context, struct run *run, uint32_t round, uint32_t rounds,
          double seconds)
{
    bench_progress("[%zu/%zu] %s: round %u of %u: %s", context->position, context->total,
                   context->workload, round + 1, rounds, run->trial.side->label);
    if (run->trial.side->kind == BENCH_LOCKSTEP)
        run->jobs[run->trial.n++] = bench_job_make(context, BENCH_MONITOR, 0, 1, seconds);
    for (size_t i = 0; i < run->trial.n; i++)
        run->jobs[i].seed = round + 1;
    run->curve.n = 0;
    run->curve.database = context->database;
    run->watch = (struct bench_watch){.every_ms = (uint32_t)(seconds * 1000 / SAMPLES_A_RUN) + 1,
                                      .look = sample,
                                      .context = &run->curve};
    run->trial.jobs = run->jobs;
    run->trial.results = run->results;
    run->trial.watch = &run->watch;
    if (!bench_trial_run(context, &run->trial))
        return false;
    bench_trial_add(&run->trial, BENCH_WRITE, &run->writer);
    const struct bench_store_peak *store = &run->results[run->trial.n - 1].store;
    if (store->used_bytes > run->store.used_bytes)
        run->store = *store;
    double grown = growth(&run->curve, seconds);
    if (!(run->growth >= grown))
        run->growth = grown;
    return true;
}

static void
report_beside(struct bench_context *context, const struct run *run)
{
    bench_report_value(context->report, (double)run->curve.beside_bytes / MIB, "MiB",
                       BENCH_REPORTED, 0, "log and coordination file on disk, %s",
                       run->writer.label);
}

/* ---- a slow disk ---- */

#define SLOW_SYNC_MS 20
#define WIDE_ROWS 30000
#define WIDE_FILLER_BYTES 3000 /* one row a page */
#define SLOW_UPDATES 4

/* Pages of four rows a transaction, of more pages than the store may hold. */
static bool
slow_round(struct bench_context *context, struct run *run, const struct bench_extent *extent,
           uint32_t round)
{
    struct bench_job job = bench_job_make(context, BENCH_WRITE, 0, 1, extent->seconds);
    job.updates = SLOW_UPDATES;
    job.inserts = 0;
    run->jobs[0] = job;
    run->trial.n = 1;
    return run_round(context, run, round, extent->rounds, extent->seconds);
}

static void
report_slow(struct bench_context *context, const struct run *stock, const struct run *lockstep)
{
    const struct bench_store_peak *store = &lockstep->store;
    bench_report_row(context->report, &stock->writer);
    bench_report_row(context->report, &lockstep->writer);
    bench_report_ratio(context->report, &lockstep->writer, &stock->writer, BENCH_REPORTED, 0,
                       "rate, to that of %s", stock->writer.label);
    if (store->samples > 0) {
        bench_report_value(context->report, (double)store->used_bytes / (double)store->limit_bytes,
                           "", BENCH_AT_MOST, 1, "store at its fullest, to its limit");
        bench_report_value(context->report, (double)store->size_bytes / MIB, "MiB", BENCH_REPORTED,
                           0, "the store's area at its largest");
    }
    report_beside(context, stock);
    report_beside(context, lockstep);
    bench_report_value(context->report, lockstep->growth, "", BENCH_AT_MOST, 1.05,
                       "resident memory, last third of the run to the third before");
    bench_report_value(context->report, (double)lockstep->writer.busy, "", BENCH_REPORTED, 0,
                       "SQLITE_BUSY");
    bench_report_note(context->report,
                      "each sync takes %.10g ms longer; %d rows of %d pages are updated a commit; "
                      "syncs: %llu on stock, %llu on the other side",
                      context->options.sync_latency_us / 1000.0, SLOW_UPDATES, WIDE_ROWS,
                      (unsigned long long)stock->writer.syncs,
                      (unsigned long long)lockstep->writer.syncs);
}

static bool
run_slow_disk(struct bench_context *context, const struct bench_extent *extent)
{
    static struct run stock;
    static struct run lockstep;
    const struct bench_contents wide = {WIDE_ROWS, WIDE_FILLER_BYTES};
    struct bench_side subject =
        bench_subject(context, &bench_side_lockstep_async, &bench_side_wal_normal);
    const struct bench_original *original = bench_context_original(context, &wide);
    uint32_t asked_us = context->options.sync_latency_us;
    bool ok = true;
    if (original == NULL)
        return false;
    if (asked_us == 0)
        context->options.sync_latency_us = SLOW_SYNC_MS * 1000u;
    run_start(&stock, &bench_side_wal_normal, original);
    run_start(&lockstep, &subject, original);
    for (uint32_t round = 0; ok && round < extent->rounds; round++) {
        struct run *first = round % 2 == 0 ? &stock : &lockstep;
        struct run *second = round % 2 == 0 ? &lockstep : &stock;
        ok = slow_round(context, first, extent, round) &&
             slow_round(context, second, extent, round);
    }
    if (ok)
        report_slow(context, &stock, &lockstep);
    context->options.sync_latency_us = asked_us;
    return ok;
}

const struct bench_workload bench_workload_slow_disk = {
    .name = "slow-disk",
    .summary = "writes faster than the disk, which takes 20 ms longer a sync: what is waiting "
               "stays within the store",
    .quick = {1, 4.0},
    .full = {1, 60.0},
    .run = run_slow_disk,
};

/* ---- a long reader ---- */

#define LONG_WRITERS 2
#define LONG_RATE 8000.0 /* a second: without bound 4 s would overrun the store's 64 MiB */

static bool
long_round(struct bench_context *context, struct run *run, const struct bench_extent *extent,
           uint32_t round, double rate, uint64_t *changed_pages)
{
    uint64_t changed = 0;
    for (uint32_t i = 0; i < LONG_WRITERS; i++) {
        struct bench_job job =
            bench_job_make(context, BENCH_WRITE, i, LONG_WRITERS, extent->seconds);
        job.inserts = 0;
        job.interval_ns = (uint64_t)(LONG_WRITERS * 1e9 / rate);
        run->jobs[i] = job;
    }
    run->jobs[LONG_WRITERS] = bench_job_make(context, BENCH_HOLD, 0, 1, extent->seconds);
    run->jobs[LONG_WRITERS].inserts = 0;
    run->trial.n = LONG_WRITERS + 1;
    if (!run_round(context, run, round, extent->rounds, extent->seconds) ||
        !bench_database_changed_pages(run->trial.original->path, context->database, &changed))
        return false;
    if (changed > *changed_pages)
        *changed_pages = changed;
    return true;
}

static void
report_long(struct bench_context *context, const struct run *stock, const struct run *lockstep,
            double rate, uint64_t changed_pages)
{
    const struct bench_store_peak *store = &lockstep->store;
    double changed_bytes = (double)changed_pages * BENCH_PAGE_BYTES;
    bench_report_row(context->report, &stock->writer);
    bench_report_row(context->report, &lockstep->writer);
    /* The drain waits for the reader: what was done in time by what was asked for. */
    uint64_t asked = lockstep->writer.done + lockstep->writer.unstarted;
    bench_report_value(context->report, (double)lockstep->writer.done / (double)asked, "",
                       BENCH_AT_LEAST, 0.99, "commits made, to those intended at %g a second",
                       rate);
    if (store->samples > 0) {
        /* One version for the reader, the newest, and the one that is being written if that is another. */
        bench_report_value(context->report, (double)store->used_bytes / changed_bytes, "",
                           BENCH_AT_MOST, 3, "store at its fullest, to the pages that changed");
        bench_report_value(context->report,
                           (double)lockstep->writer.done * BENCH_PAGE_BYTES / changed_bytes, "",
                           BENCH_REPORTED, 0, "pages written, to the pages that changed");
        bench_report_value(context->report, (double)store->used_bytes / MIB, "MiB", BENCH_REPORTED,
                           0, "store at its fullest");
    }
    report_beside(context, stock);
    report_beside(context, lockstep);
    bench_report_value(context->report, (double)lockstep->writer.busy, "", BENCH_AT_MOST, 0,
                       "SQLITE_BUSY");
    bench_report_note(context->report,
                      "%llu distinct pages (%.1f MiB) changed under the reader, which saw the same "
                      "sums at its end as at its start",
                      (unsigned long long)changed_pages, changed_bytes / MIB);
}

static bool
run_long_reader(struct bench_context *context, const struct bench_extent *extent)
{
    static struct run stock;
    static struct run lockstep;
    struct bench_contents contents = bench_context_contents(context);
    struct bench_side subject =
        bench_subject(context, &bench_side_lockstep_async, &bench_side_wal_off);
    const struct bench_original *original = bench_context_original(context, &contents);
    double rate = context->options.rate > 0 ? context->options.rate : LONG_RATE;
    uint64_t stock_changed = 0;
    uint64_t changed = 0;
    if (original == NULL)
        return false;
    run_start(&stock, &bench_side_wal_off, original);
    run_start(&lockstep, &subject, original);
    for (uint32_t round = 0; round < extent->rounds; round++) {
        bool stock_first = round % 2 == 0;
        for (int turn = 0; turn < 2; turn++) {
            bool is_stock = stock_first == (turn == 0);
            if (!long_round(context, is_stock ? &stock : &lockstep, extent, round, rate,
                            is_stock ? &stock_changed : &changed))
                return false;
        }
    }
    report_long(context, &stock, &lockstep, rate, changed);
    return true;
}

const struct bench_workload bench_workload_long_reader = {
    .name = "long-reader",
    .summary = "one reader keeps its snapshot open while two writers commit on a schedule: the "
               "store is bounded by the pages that changed",
    .quick = {1, 4.0},
    .full = {1, 30.0},
    .run = run_long_reader,
};
