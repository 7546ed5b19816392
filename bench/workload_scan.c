/*
 * A reader that goes through the whole database in a loop while one writer commits: does each keep
 * the rate that it has alone, and does the reader see whole transactions only?
 */
#include "bench/workload.h"

#include <stdio.h>
#include <string.h>

/* One side: what each does alone, and together. */
struct rows {
    struct bench_side side;
    struct bench_row writer_alone;
    struct bench_row reader_alone;
    struct bench_row writer;
    struct bench_row reader;
};

static bool
run_roles(struct bench_context *context, const struct bench_side *side,
          const struct bench_extent *extent, uint32_t round, bool with_writer, bool with_reader,
          struct bench_trial *out_trial)
{
    static struct bench_job jobs[2];
    static struct bench_result results[2];
    struct bench_contents contents = bench_context_contents(context);
    struct bench_trial trial = {.side = side,
                                .original = bench_context_original(context, &contents),
                                .jobs = jobs,
                                .results = results};
    if (trial.original == NULL)
        return false;
    if (with_writer)
        jobs[trial.n++] = bench_job_make(context, BENCH_WRITE, 0, 1, extent->seconds);
    if (with_reader)
        jobs[trial.n++] = bench_job_make(context, BENCH_SCAN, 0, 1, extent->seconds);
    for (size_t i = 0; i < trial.n; i++)
        jobs[i].seed = round + 1;
    bench_progress("[%zu/%zu] %s: round %u of %u: %s: %s", context->position, context->total,
                   context->workload, round + 1, extent->rounds, side->label,
                   !with_reader ? "writer alone" : !with_writer ? "reader alone" : "both");
    if (!bench_trial_run(context, &trial))
        return false;
    *out_trial = trial;
    return true;
}

static bool
run_round(struct bench_context *context, const struct bench_extent *extent, uint32_t round,
          struct rows *rows)
{
    struct bench_trial trial;
    if (!run_roles(context, &rows->side, extent, round, true, false, &trial))
        return false;
    bench_trial_add(&trial, BENCH_WRITE, &rows->writer_alone);
    if (!run_roles(context, &rows->side, extent, round, false, true, &trial))
        return false;
    bench_trial_add(&trial, BENCH_SCAN, &rows->reader_alone);
    if (!run_roles(context, &rows->side, extent, round, true, true, &trial))
        return false;
    bench_trial_add(&trial, BENCH_WRITE, &rows->writer);
    bench_trial_add(&trial, BENCH_SCAN, &rows->reader);
    return true;
}

static void
report_side(struct bench_context *context, const struct rows *rows, bool judged)
{
    enum bench_bound bound = judged ? BENCH_AT_LEAST : BENCH_REPORTED;
    bench_report_row(context->report, &rows->writer_alone);
    bench_report_row(context->report, &rows->writer);
    bench_report_row(context->report, &rows->reader_alone);
    bench_report_row(context->report, &rows->reader);
    bench_report_ratio(context->report, &rows->writer, &rows->writer_alone, bound, 0.7,
                       "%s: writer, to its rate alone", rows->side.label);
    bench_report_ratio(context->report, &rows->reader, &rows->reader_alone, bound, 0.7,
                       "%s: reader, to its rate alone", rows->side.label);
}

static void
label_rows(struct rows *rows, const struct bench_side *side)
{
    memset(rows, 0, sizeof(*rows));
    rows->side = *side;
    snprintf(rows->writer_alone.label, sizeof(rows->writer_alone.label), "%s: writer alone",
             side->label);
    snprintf(rows->reader_alone.label, sizeof(rows->reader_alone.label), "%s: reader alone",
             side->label);
    snprintf(rows->writer.label, sizeof(rows->writer.label), "%s: writer", side->label);
    snprintf(rows->reader.label, sizeof(rows->reader.label), "%s: reader", side->label);
}

static bool
run_scan_write(struct bench_context *context, const struct bench_extent *extent)
{
    static struct rows stock;
    static struct rows lockstep;
    struct bench_side subject =
        bench_subject(context, &bench_side_lockstep_async, &bench_side_wal_off);
    label_rows(&stock, &bench_side_wal_off);
    label_rows(&lockstep, &subject);
    for (uint32_t round = 0; round < extent->rounds; round++) {
        struct rows *first = round % 2 == 0 ? &stock : &lockstep;
        struct rows *second = round % 2 == 0 ? &lockstep : &stock;
        if (!run_round(context, extent, round, first) || !run_round(context, extent, round, second))
            return false;
    }
    report_side(context, &stock, false);
    report_side(context, &lockstep, true);
    bench_report_ratio(context->report, &lockstep.writer, &stock.writer, BENCH_REPORTED, 0,
                       "writer beside a reader, to stock");
    bench_report_ratio(context->report, &lockstep.reader, &stock.reader, BENCH_REPORTED, 0,
                       "reader beside a writer, to stock");
    bench_report_note(context->report,
                      "every scan found the balances equal to the entries: %llu on stock, %llu on "
                      "the other side, while one writer committed",
                      (unsigned long long)stock.reader.done,
                      (unsigned long long)lockstep.reader.done);
    return true;
}

const struct bench_workload bench_workload_scan_write = {
    .name = "scan-write",
    .summary = "a reader scans two tables in a loop, in one transaction each, while one writer "
               "commits",
    .quick = {2, 0.7},
    .full = {3, 5.0},
    .run = run_scan_write,
};
