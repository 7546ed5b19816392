/*
 * BEGIN IMMEDIATE, UPDATE by key, INSERT of 100 bytes, COMMIT: in one process and in many, behind
 * the disk's back and waiting for it.
 */
#include "bench/workload.h"

#define PROCESSES_DEFAULT 16

const struct bench_side bench_side_wal_off = {
    .label = "stock WAL, OFF", .kind = BENCH_STOCK, .journal_mode = "wal", .synchronous = "OFF"};
const struct bench_side bench_side_wal_normal = {.label = "stock WAL, NORMAL",
                                                 .kind = BENCH_STOCK,
                                                 .journal_mode = "wal",
                                                 .synchronous = "NORMAL"};
const struct bench_side bench_side_delete_full = {.label = "stock DELETE, FULL",
                                                  .kind = BENCH_STOCK,
                                                  .journal_mode = "delete",
                                                  .synchronous = "FULL"};
const struct bench_side bench_side_lockstep_async = {.label = "Lockstep, async",
                                                     .kind = BENCH_LOCKSTEP,
                                                     .journal_mode = "delete",
                                                     .durability = "async"};
const struct bench_side bench_side_lockstep_full = {.label = "Lockstep, full",
                                                    .kind = BENCH_LOCKSTEP,
                                                    .journal_mode = "delete",
                                                    .synchronous = "FULL",
                                                    .durability = "full"};

static uint32_t
many(const struct bench_context *context)
{
    uint32_t asked = context->options.processes;
    return asked > 0 ? asked : PROCESSES_DEFAULT;
}

/* On a schedule both sides do the same number; what differs is how long each one took. */
static void
report_paced(struct bench_context *context, const struct bench_row *stock,
             const struct bench_row *lockstep)
{
    static const double shares[] = {0.5, 0.99, 0.999};
    if (context->options.rate == 0)
        return;
    for (size_t i = 0; i < sizeof(shares) / sizeof(shares[0]); i++) {
        double ratio = (double)bench_histogram_at(&lockstep->latency, shares[i]) /
                       (double)bench_histogram_at(&stock->latency, shares[i]);
        bench_report_value(context->report, ratio, "", BENCH_REPORTED, 0,
                           "latency at %g %%, to that of %s", shares[i] * 100, stock->label);
    }
}

/* A ratio of rates has a target only where the processes run as fast as they can. */
static void
report_ratio(struct bench_context *context, const struct bench_row *stock,
             const struct bench_row *lockstep, double target)
{
    enum bench_bound bound = context->options.rate > 0 ? BENCH_REPORTED : BENCH_AT_LEAST;
    bench_report_ratio(context->report, lockstep, stock, bound, target, "rate, to that of %s",
                       stock->label);
    report_paced(context, stock, lockstep);
}

static bool
run_write(struct bench_context *context, const struct bench_extent *extent)
{
    const struct bench_side sides[] = {bench_side_wal_off, bench_side_wal_normal,
                                       bench_side_lockstep_async};
    static struct bench_row rows[3];
    if (!bench_compare_sides(context, extent, BENCH_WRITE, sides, 3, 1, rows))
        return false;
    report_ratio(context, &rows[0], &rows[2], 4);
    report_ratio(context, &rows[1], &rows[2], 6);
    return true;
}

static bool
run_write_many(struct bench_context *context, const struct bench_extent *extent)
{
    const struct bench_side sides[] = {bench_side_wal_off, bench_side_lockstep_async};
    static struct bench_row rows[2];
    if (!bench_compare_sides(context, extent, BENCH_WRITE, sides, 2, many(context), rows))
        return false;
    report_ratio(context, &rows[0], &rows[1], 1.5);
    bench_report_value(context->report, bench_row_worst_ms(&rows[1]), "ms", BENCH_AT_MOST, 100,
                       "worst wait");
    bench_report_value(context->report, bench_row_fairness(&rows[1]), "", BENCH_AT_LEAST, 0.7,
                       "slowest process to the fastest, lowest of all rounds");
    bench_report_value(context->report, (double)rows[1].busy, "", BENCH_AT_MOST, 0, "SQLITE_BUSY");
    return true;
}

static bool
run_full(struct bench_context *context, const struct bench_extent *extent)
{
    const struct bench_side sides[] = {bench_side_delete_full, bench_side_lockstep_full};
    static struct bench_row rows[2];
    if (!bench_compare_sides(context, extent, BENCH_WRITE, sides, 2, 1, rows))
        return false;
    report_ratio(context, &rows[0], &rows[1], 1.5);
    return true;
}

static bool
run_full_many(struct bench_context *context, const struct bench_extent *extent)
{
    const struct bench_side sides[] = {bench_side_delete_full, bench_side_lockstep_full};
    static struct bench_row rows[2];
    if (!bench_compare_sides(context, extent, BENCH_WRITE, sides, 2, many(context), rows))
        return false;
    report_ratio(context, &rows[0], &rows[1], 5);
    return true;
}

const struct bench_workload bench_workload_write = {
    .name = "write",
    .summary = "UPDATE by key and INSERT of 100 bytes a transaction, not waiting for the disk; "
               "one process",
    .quick = {3, 0.8},
    .full = {3, 10.0},
    .run = run_write,
};

const struct bench_workload bench_workload_write_many = {
    .name = "write-many",
    .summary = "the same in 16 processes, busy timeout 5 s",
    .quick = {3, 1.2},
    .full = {3, 10.0},
    .run = run_write_many,
};

const struct bench_workload bench_workload_full = {
    .name = "full",
    .summary = "the same transaction, on disk when COMMIT returns (synchronous=FULL); one process",
    .quick = {3, 0.7},
    .full = {3, 10.0},
    .run = run_full,
};

const struct bench_workload bench_workload_full_many = {
    .name = "full-many",
    .summary = "the same in 16 processes, busy timeout 5 s",
    .quick = {3, 1.2},
    .full = {3, 10.0},
    .run = run_full_many,
};
