/*
 * SELECT by key, one transaction each, on a database that is in the cache: what a read transaction
 * costs by itself.
 */
#include "bench/workload.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const struct bench_side wal = {.label = "stock WAL",
                                      .kind = BENCH_STOCK,
                                      .journal_mode = "wal",
                                      .synchronous = "NORMAL"};
static const struct bench_side memory = {
    .label = ":memory:", .kind = BENCH_MEMORY, .journal_mode = "memory"};

/*
 * The total of strace -c: the number that ends where the word "calls" ends in the heading.  What
 * stands left of it differs between versions.
 */
static bool
total_calls(const char *path, uint64_t *out_calls)
{
    char line[256];
    size_t end = 0;
    bool found = false;
    FILE *file = fopen(path, "re");
    if (file == NULL)
        return bench_error("%s: strace wrote no summary", path);
    while (fgets(line, sizeof(line), file) != NULL) {
        const char *heading = strstr(line, " calls ");
        if (heading != NULL)
            end = (size_t)(heading - line) + strlen(" calls");
        if (end == 0 || strstr(line, " total") == NULL || strlen(line) < end)
            continue;
        line[end] = '\0';
        char *number = strrchr(line, ' ');
        found = number != NULL && sscanf(number, "%" SCNu64, out_calls) == 1;
    }
    fclose(file);
    return found || bench_error("%s: the summary of strace is not understood", path);
}

/* The same reads once more under strace: all calls from start to end of the worker. */
static bool
trace(struct bench_context *context, const struct bench_side *side, double seconds,
      uint64_t *out_calls, uint64_t *out_reads)
{
    static struct bench_result result;
    char path[PATH_MAX];
    struct bench_contents contents = bench_context_contents(context);
    struct bench_job job = bench_read_job(context, seconds);
    struct bench_trial trial = {.side = side,
                                .original = bench_context_original(context, &contents),
                                .jobs = &job,
                                .results = &result,
                                .n = 1,
                                .strace_output = path};
    if (trial.original == NULL)
        return false;
    snprintf(path, sizeof(path), "%s/strace", context->directory);
    bench_progress("[%zu/%zu] %s: counting system calls: %s", context->position, context->total,
                   context->workload, side->label);
    bool ok = bench_trial_run(context, &trial) && total_calls(path, out_calls);
    unlink(path);
    if (ok)
        *out_reads = result.done;
    return ok;
}

/* What a longer run has more than a short one: opening, reading all once and closing cancel out. */
static bool
count_calls(struct bench_context *context, const struct bench_side *side, double *out_calls)
{
    uint64_t calls[2] = {0, 0};
    uint64_t reads[2] = {0, 0};
    if (!trace(context, side, 0.1, &calls[0], &reads[0]) ||
        !trace(context, side, 0.5, &calls[1], &reads[1]))
        return false;
    *out_calls = reads[1] > reads[0] ? ((double)calls[1] - (double)calls[0]) /
                                           (double)(reads[1] - reads[0])
                                     : NAN;
    return true;
}

static bool
have_strace(void)
{
    const char *path = getenv("PATH");
    while (path != NULL && *path != '\0') {
        char file[PATH_MAX];
        size_t length = strcspn(path, ":");
        snprintf(file, sizeof(file), "%.*s/strace", (int)length, path);
        if (access(file, X_OK) == 0)
            return true;
        path += length + (path[length] == ':');
    }
    return false;
}

static bool
report_calls(struct bench_context *context, const struct bench_side *lockstep)
{
    double stock_calls;
    double lockstep_calls;
    if (!have_strace()) {
        bench_report_note(context->report, "system calls were not counted: there is no strace");
        return true;
    }
    if (!count_calls(context, &wal, &stock_calls) ||
        !count_calls(context, lockstep, &lockstep_calls))
        return false;
    bench_report_value(context->report, stock_calls, "", BENCH_REPORTED, 0,
                       "system calls a transaction, %s", wal.label);
    bench_report_value(context->report, lockstep_calls, "", BENCH_AT_MOST, 0.01,
                       "system calls a transaction, %s", lockstep->label);
    return true;
}

static bool
run_read(struct bench_context *context, const struct bench_extent *extent)
{
    struct bench_side lockstep = bench_side_lockstep_async;
    const struct bench_side sides[] = {wal, memory, lockstep};
    static struct bench_row rows[3];
    double times[BENCH_ROUNDS_MAX];
    if (!bench_compare_sides(context, extent, BENCH_READ, sides, 3, 1, rows))
        return false;
    bench_report_ratio(context->report, &rows[2], &rows[0], BENCH_AT_LEAST, 3,
                       "rate, to that of %s", wal.label);
    for (size_t i = 0; i < rows[2].rounds; i++)
        times[i] = rows[1].round[i].rate / rows[2].round[i].rate;
    struct bench_figure figure = {.name = "time, to that of :memory:",
                                  .value = bench_spread_of(times, rows[2].rounds),
                                  .bound = BENCH_AT_MOST,
                                  .target = 1.6};
    bench_report_figure(context->report, &figure);
    lockstep = bench_subject(context, &lockstep, &wal);
    return report_calls(context, &lockstep);
}

const struct bench_workload bench_workload_read = {
    .name = "read",
    .summary = "SELECT by key, one transaction each, database in the cache; one process",
    .quick = {3, 0.5},
    .full = {5, 5.0},
    .run = run_read,
};
