/*
 * What sharing the WAL-index by copying costs (shm=copy) against mapping it, and what its two rules of leaving out
 * are worth: shm_measure=1 reads the hash words at every acquire, 2 releases at every barrier and unlock.
 * All sides are Lockstep, in WAL mode, with NORMAL.
 */
#include "bench/workload.h"

#define PROCESSES_DEFAULT 4

#define SIDE(LABEL, SHM)                                                                                   \
    {                                                                                                      \
        .label = LABEL, .kind = BENCH_LOCKSTEP, .journal_mode = "wal", .synchronous = "NORMAL", .shm = SHM \
    }

static const struct bench_side sides[] = {
    SIDE("native", "native"),
    SIDE("copy", "copy"),
    SIDE("copy, no shortcut", "copy&shm_measure=1"),
    SIDE("copy, always released", "copy&shm_measure=2"),
    SIDE("heap", "copy&multi_process=0"),
};
#define SIDES (sizeof(sides) / sizeof(sides[0]))
/* The heap is for one process. */
#define SIDES_OF_MANY (SIDES - 1)

static bool
run(struct bench_context *context, const struct bench_extent *extent, enum bench_role role, uint32_t processes)
{
    static struct bench_row rows[SIDES];
    size_t n_sides = processes > 1 ? SIDES_OF_MANY : SIDES;
    if (!bench_compare_sides(context, extent, role, sides, n_sides, processes, rows))
        return false;
    for (size_t i = 1; i < n_sides; i++)
        bench_report_ratio(context->report, &rows[i], &rows[0], BENCH_REPORTED, 0, "rate of %s, to that of %s",
                           rows[i].label, rows[0].label);
    return true;
}

static bool
run_read(struct bench_context *context, const struct bench_extent *extent)
{
    return run(context, extent, BENCH_READ, 1);
}

static bool
run_write(struct bench_context *context, const struct bench_extent *extent)
{
    return run(context, extent, BENCH_WRITE, 1);
}

static bool
run_write_many(struct bench_context *context, const struct bench_extent *extent)
{
    uint32_t asked = context->options.processes;
    return run(context, extent, BENCH_WRITE, asked > 1 ? asked : PROCESSES_DEFAULT);
}

const struct bench_workload bench_workload_shm_read = {
    .name = "shm-read",
    .summary = "the WAL-index mapped and copied, SELECT by key, one transaction each; one process",
    .quick = {1, 0.4},
    .full = {5, 5.0},
    .run = run_read,
};

const struct bench_workload bench_workload_shm_write = {
    .name = "shm-write",
    .summary = "the WAL-index mapped and copied, the transaction of `write` with NORMAL; one process",
    .quick = {1, 0.4},
    .full = {5, 5.0},
    .run = run_write,
};

const struct bench_workload bench_workload_shm_write_many = {
    .name = "shm-write-many",
    .summary = "the same in 4 processes",
    .quick = {1, 0.6},
    .full = {5, 5.0},
    .run = run_write_many,
};
