/*
 * A database in WAL mode on both sides: group sync, the queue and the background checkpoints against what
 * stock SQLite does with the same file.
 */
#include "bench/workload.h"

#define PROCESSES_DEFAULT 16
/* From here on the disk is slow, and to share a sync is worth more. */
#define SLOW_SYNC_US 2000u

static const struct bench_side stock_full = {
    .label = "stock WAL, FULL", .kind = BENCH_STOCK, .journal_mode = "wal", .synchronous = "FULL"};
static const struct bench_side lockstep_full = {
    .label = "Lockstep WAL, FULL", .kind = BENCH_LOCKSTEP, .journal_mode = "wal", .synchronous = "FULL"};
static const struct bench_side stock_normal = {
    .label = "stock WAL, NORMAL", .kind = BENCH_STOCK, .journal_mode = "wal", .synchronous = "NORMAL"};
static const struct bench_side lockstep_normal = {.label = "Lockstep WAL, NORMAL",
                                                  .kind = BENCH_LOCKSTEP,
                                                  .journal_mode = "wal",
                                                  .synchronous = "NORMAL"};

static uint32_t
many(const struct bench_context *context)
{
    uint32_t asked = context->options.processes;
    return asked > 0 ? asked : PROCESSES_DEFAULT;
}

/* A ratio of rates has a target only where the processes run as fast as they can. */
static void
report_ratio(struct bench_context *context, const struct bench_row *rows, double target)
{
    enum bench_bound bound = context->options.rate > 0 ? BENCH_REPORTED : BENCH_AT_LEAST;
    bench_report_ratio(context->report, &rows[1], &rows[0], bound, target, "rate, to that of %s",
                       rows[0].label);
}

static void
report_waits(struct bench_context *context, const struct bench_row *rows)
{
    bench_report_value(context->report, bench_row_worst_ms(&rows[0]), "ms", BENCH_REPORTED, 0,
                       "worst wait, %s", rows[0].label);
    bench_report_value(context->report, bench_row_worst_ms(&rows[1]), "ms", BENCH_AT_MOST, 100,
                       "worst wait");
    bench_report_value(context->report, bench_row_fairness(&rows[0]), "", BENCH_REPORTED, 0,
                       "slowest process to the fastest, %s", rows[0].label);
    bench_report_value(context->report, bench_row_fairness(&rows[1]), "", BENCH_AT_LEAST, 0.7,
                       "slowest process to the fastest, lowest of all rounds");
    bench_report_value(context->report, (double)rows[1].busy, "", BENCH_AT_MOST, 0, "SQLITE_BUSY");
}

static bool
run_full(struct bench_context *context, const struct bench_extent *extent)
{
    const struct bench_side sides[] = {stock_full, lockstep_full};
    static struct bench_row rows[2];
    if (!bench_compare_sides(context, extent, BENCH_WRITE, sides, 2, 1, rows))
        return false;
    report_ratio(context, rows, 0.97);
    return true;
}

static bool
run_full_many(struct bench_context *context, const struct bench_extent *extent)
{
    const struct bench_side sides[] = {stock_full, lockstep_full};
    static struct bench_row rows[2];
    if (!bench_compare_sides(context, extent, BENCH_WRITE, sides, 2, many(context), rows))
        return false;
    report_ratio(context, rows, context->options.sync_latency_us >= SLOW_SYNC_US ? 10 : 3);
    report_waits(context, rows);
    return true;
}

static bool
run_normal_many(struct bench_context *context, const struct bench_extent *extent)
{
    const struct bench_side sides[] = {stock_normal, lockstep_normal};
    static struct bench_row rows[2];
    if (!bench_compare_sides(context, extent, BENCH_WRITE, sides, 2, many(context), rows))
        return false;
    report_ratio(context, rows, 1.0);
    report_waits(context, rows);
    return true;
}

/* One process, and checkpoints going on: what the unlucky commits cost. */
static bool
run_normal_tail(struct bench_context *context, const struct bench_extent *extent)
{
    const struct bench_side sides[] = {stock_normal, lockstep_normal};
    static const double shares[] = {0.5, 0.99, 0.999};
    static struct bench_row rows[2];
    if (!bench_compare_sides(context, extent, BENCH_WRITE, sides, 2, 1, rows))
        return false;
    for (size_t i = 0; i < sizeof(shares) / sizeof(shares[0]); i++) {
        double ratio = (double)bench_histogram_at(&rows[1].latency, shares[i]) /
                       (double)bench_histogram_at(&rows[0].latency, shares[i]);
        bench_report_value(context->report, ratio, "", shares[i] == 0.999 ? BENCH_AT_MOST : BENCH_REPORTED,
                           0.25, "latency at %g %%, to that of %s", shares[i] * 100, rows[0].label);
    }
    report_ratio(context, rows, 0.97);
    return true;
}

static bool
run_read(struct bench_context *context, const struct bench_extent *extent)
{
    const struct bench_side sides[] = {stock_full, lockstep_full};
    static struct bench_row rows[2];
    if (!bench_compare_sides(context, extent, BENCH_READ, sides, 2, 1, rows))
        return false;
    report_ratio(context, rows, 0.97);
    return true;
}

const struct bench_workload bench_workload_wal_full = {
    .name = "wal-full",
    .summary = "WAL mode on both sides, on disk when COMMIT returns (synchronous=FULL); one process",
    .quick = {3, 0.7},
    .full = {5, 10.0},
    .run = run_full,
};

const struct bench_workload bench_workload_wal_full_many = {
    .name = "wal-full-many",
    .summary = "the same in 16 processes, busy timeout 5 s",
    .quick = {3, 1.2},
    .full = {3, 10.0},
    .run = run_full_many,
};

const struct bench_workload bench_workload_wal_normal_many = {
    .name = "wal-normal-many",
    .summary = "WAL mode on both sides, synchronous=NORMAL, 16 processes",
    .quick = {3, 1.2},
    .full = {3, 10.0},
    .run = run_normal_many,
};

const struct bench_workload bench_workload_wal_normal_tail = {
    .name = "wal-normal-tail",
    .summary = "WAL mode on both sides, synchronous=NORMAL, one process: the slow commits",
    .quick = {2, 3.0},
    .full = {1, 30.0},
    .run = run_normal_tail,
};

const struct bench_workload bench_workload_wal_read = {
    .name = "wal-read",
    .summary = "WAL mode on both sides, SELECT by key, one transaction each; one process",
    .quick = {3, 0.5},
    .full = {5, 5.0},
    .run = run_read,
};
