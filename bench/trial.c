#include "bench/trial.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/moment.h"

#define ROWS_DEFAULT 100000
#define ROW_FILLER_BYTES 100
#define CACHE_KIB_DEFAULT 2000 /* SQLite's own default */
#define BUSY_TIMEOUT_MS 5000

/* ---- what is measured on ---- */

struct bench_contents
bench_context_contents(const struct bench_context *context)
{
    uint32_t rows = context->options.rows;
    return (struct bench_contents){.rows = rows > 0 ? rows : ROWS_DEFAULT,
                                   .filler_bytes = ROW_FILLER_BYTES};
}

const struct bench_original *
bench_context_original(struct bench_context *context, const struct bench_contents *contents)
{
    for (size_t i = 0; i < context->n_originals; i++) {
        if (memcmp(&context->originals[i].contents, contents, sizeof(*contents)) == 0)
            return &context->originals[i];
    }
    if (context->n_originals == BENCH_ORIGINALS_MAX) {
        bench_error("too many kinds of database");
        return NULL;
    }
    struct bench_original *original = &context->originals[context->n_originals];
    original->contents = *contents;
    snprintf(original->path, sizeof(original->path), "%s/original-%zu.db", context->directory,
             context->n_originals);
    bench_progress("[%zu/%zu] %s: making a database of %u rows", context->position, context->total,
                   context->workload, contents->rows);
    if (!bench_database_create(original->path, contents))
        return NULL;
    context->n_originals++;
    return original;
}

struct bench_job
bench_job_make(const struct bench_context *context, enum bench_role role, uint32_t index,
               uint32_t workers, double seconds)
{
    const struct bench_options *options = &context->options;
    struct bench_job job = {
        .role = role,
        .index = index,
        .workers = workers,
        .updates = 1,
        .inserts = 1,
        .cache_kib = options->cache_kib > 0 ? options->cache_kib : CACHE_KIB_DEFAULT,
        .busy_timeout_ms = BUSY_TIMEOUT_MS,
        .sync_latency_us = options->sync_latency_us,
        .time_every = 1,
        .seed = 1,
        .duration_ns = (uint64_t)(seconds * 1e9),
    };
    if (options->rate > 0 && (role == BENCH_WRITE || role == BENCH_READ))
        job.interval_ns = (uint64_t)(workers * 1e9 / options->rate);
    return job;
}

/* ---- one trial ---- */

/* The writers say what must be in the database, the readers whether they saw it whole. */
static bool
check(const struct bench_context *context, const struct bench_trial *trial)
{
    struct bench_expected expected = {.alone = trial->side->kind == BENCH_LOCKSTEP};
    uint64_t torn = 0;
    for (size_t i = 0; i < trial->n; i++) {
        torn += trial->results[i].torn;
        if (trial->jobs[i].role != BENCH_WRITE)
            continue;
        expected.updates += trial->results[i].done * trial->jobs[i].updates;
        expected.entries += trial->results[i].done * trial->jobs[i].inserts;
    }
    if (torn > 0)
        return bench_error("%s: WRONG RESULT: %llu read transactions saw part of a transaction",
                           trial->side->label, (unsigned long long)torn);
    return trial->side->kind == BENCH_MEMORY ||
           bench_database_check(context->database, trial->side->label, &expected);
}

bool
bench_trial_run(struct bench_context *context, struct bench_trial *trial)
{
    /* The original of :memory: is a file in a mode that needs no setting up. */
    const char *file_mode =
        trial->side->kind == BENCH_MEMORY ? "delete" : trial->side->journal_mode;
    if (!bench_database_copy(trial->original->path, context->database, file_mode))
        return false;
    for (size_t i = 0; i < trial->n; i++) {
        struct bench_job *job = &trial->jobs[i];
        job->side = *trial->side;
        job->rows = trial->original->contents.rows;
        snprintf(job->path, sizeof(job->path), "%s", context->database);
    }
    memset(trial->results, 0, trial->n * sizeof(*trial->results));
    struct bench_fleet fleet = {.jobs = trial->jobs,
                                .n = trial->n,
                                .watch = trial->watch,
                                .strace_output = trial->strace_output};
    return bench_fleet_run(&fleet, trial->results) && check(context, trial);
}

/*
 * The rate is what was acknowledged within the duration, by the time that took with the drain: the
 * longest flush and close of any writer.
 */
void
bench_trial_add(const struct bench_trial *trial, enum bench_role role, struct bench_row *row)
{
    uint64_t in_time = 0;
    uint64_t drain_ns = 0;
    uint64_t duration_ns = 0;
    uint64_t fewest = UINT64_MAX;
    uint64_t most = 0;
    uint64_t pss_kib = 0;
    uint32_t processes = 0;
    for (size_t i = 0; i < trial->n; i++) {
        const struct bench_result *result = &trial->results[i];
        if (trial->jobs[i].role != role)
            continue;
        processes++;
        duration_ns = trial->jobs[i].duration_ns;
        in_time += result->done_in_time;
        if (role == BENCH_WRITE && result->drain_ns > drain_ns)
            drain_ns = result->drain_ns;
        if (result->done_in_time < fewest)
            fewest = result->done_in_time;
        if (result->done_in_time > most)
            most = result->done_in_time;
        if (result->peak_rss_kib > row->peak_rss_kib)
            row->peak_rss_kib = result->peak_rss_kib;
        pss_kib += result->pss_kib;
        row->done += result->done;
        row->busy += result->busy;
        row->unstarted += result->unstarted;
        row->syncs += result->syncs;
        bench_histogram_merge(&row->latency, &result->latency);
    }
    if (processes == 0 || row->rounds == BENCH_ROUNDS_MAX)
        return;
    row->processes = processes;
    if (pss_kib > row->pss_kib)
        row->pss_kib = pss_kib;
    row->round[row->rounds++] = (struct bench_round){
        .rate = (double)in_time * 1e9 / (double)(duration_ns + drain_ns),
        .fairness = most > 0 ? (double)fewest / (double)most : NAN,
        .drain_ms = (double)drain_ns / 1e6,
    };
}

/* ---- rounds ---- */

struct bench_side
bench_subject(const struct bench_context *context, const struct bench_side *lockstep,
              const struct bench_side *stock)
{
    struct bench_side side = *lockstep;
    if (context->options.calibrate) {
        side = *stock;
        snprintf(side.label, sizeof(side.label), "the first, again");
    }
    return side;
}

static void
note_syncs(struct bench_context *context, const struct bench_side *side,
           const struct bench_row *row)
{
    if (context->options.sync_latency_us == 0 || side->kind == BENCH_MEMORY)
        return;
    bench_report_note(context->report, "%s: %llu syncs delayed, %.4f a commit", side->label,
                      (unsigned long long)row->syncs,
                      row->done > 0 ? (double)row->syncs / (double)row->done : NAN);
}

static bool
run_side(struct bench_context *context, const struct bench_comparison *comparison,
         const struct bench_side *side, uint32_t round, struct bench_row *row)
{
    size_t n = comparison->processes;
    bool ok = false;
    struct bench_trial trial = {.side = side, .n = n};
    trial.original = bench_context_original(context, &comparison->contents);
    trial.jobs = calloc(n, sizeof(*trial.jobs));
    trial.results = calloc(n, sizeof(*trial.results));
    if (trial.jobs == NULL || trial.results == NULL) {
        bench_error("out of memory");
        goto free_trial;
    }
    if (trial.original == NULL)
        goto free_trial;
    for (size_t i = 0; i < n; i++) {
        trial.jobs[i] = comparison->job;
        trial.jobs[i].index = (uint32_t)i;
        trial.jobs[i].workers = (uint32_t)n;
        trial.jobs[i].seed = round + 1;
    }
    bench_progress("[%zu/%zu] %s: round %u of %u: %s", context->position, context->total,
                   context->workload, round + 1, comparison->rounds, side->label);
    ok = bench_trial_run(context, &trial);
    if (ok)
        bench_trial_add(&trial, (enum bench_role)comparison->job.role, row);
free_trial:
    free(trial.jobs);
    free(trial.results);
    return ok;
}

bool
bench_compare(struct bench_context *context, const struct bench_comparison *comparison,
              struct bench_row *rows)
{
    struct bench_side sides[BENCH_SIDES_MAX];
    size_t n = comparison->n_sides;
    for (size_t i = 0; i < n; i++) {
        sides[i] = comparison->sides[i];
        if (i == n - 1)
            sides[i] = bench_subject(context, &comparison->sides[i], &comparison->sides[0]);
        memset(&rows[i], 0, sizeof(rows[i]));
        snprintf(rows[i].label, sizeof(rows[i].label), "%.63s", sides[i].label);
    }
    for (uint32_t round = 0; round < comparison->rounds; round++) {
        for (size_t i = 0; i < n; i++) {
            size_t at = round % 2 == 0 ? i : n - 1 - i;
            if (!run_side(context, comparison, &sides[at], round, &rows[at]))
                return false;
        }
    }
    for (size_t i = 0; i < n; i++) {
        bench_report_row(context->report, &rows[i]);
        note_syncs(context, &sides[i], &rows[i]);
    }
    return true;
}
