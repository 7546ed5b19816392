/*
 * One run of a fleet on a fresh copy of a database, checked afterwards; and rounds of such runs,
 * one side after the other.
 */
#ifndef BENCH_TRIAL_H
#define BENCH_TRIAL_H

#include <stdbool.h>
#include <stddef.h>

#include "bench/database.h"
#include "bench/job.h"
#include "bench/message.h"
#include "bench/report.h"
#include "bench/workers.h"

#define BENCH_ORIGINALS_MAX 4
#define BENCH_SIDES_MAX 6

/* What the command line asked for; 0 leaves a workload's own choice. */
struct bench_options {
    bool full;
    bool json;
    bool strict;
    bool calibrate;
    bool keep;
    uint32_t rounds;
    uint32_t processes;
    uint32_t rows;
    uint32_t cache_kib;
    uint32_t sync_latency_us;
    double seconds;
    double rate; /* operations a second of all processes; 0: as fast as they can */
    const char *parent_directory;
};

/* A database that copies are made of. */
struct bench_original {
    struct bench_contents contents;
    char path[PATH_MAX];
};

struct bench_context {
    struct bench_options options;
    struct bench_report *report;
    const char *workload;   /* for progress */
    size_t position, total; /* of it among all */
    char directory[PATH_MAX - 64];
    char database[PATH_MAX]; /* the copy under test */
    struct bench_original originals[BENCH_ORIGINALS_MAX];
    size_t n_originals;
};

struct bench_trial {
    const struct bench_side *side;
    const struct bench_original *original;
    struct bench_job *jobs; /* side and path are filled in */
    struct bench_result *results;
    size_t n;
    const struct bench_watch *watch;
    const char *strace_output;
};

/* The database with these contents, made when it is wanted first.  NULL after a message. */
const struct bench_original *bench_context_original(struct bench_context *context,
                                                    const struct bench_contents *contents);
/* The rows of account that most workloads use. */
struct bench_contents bench_context_contents(const struct bench_context *context);

/* A job as most workloads need it: one of `workers` that do the same, `seconds` long. */
struct bench_job bench_job_make(const struct bench_context *context, enum bench_role role,
                                uint32_t index, uint32_t workers, double seconds);

/*
 * Runs it and checks the database, which is left where it is until the next trial.  False after a
 * message: something failed, or the database is not what was acknowledged.
 */
bool bench_trial_run(struct bench_context *context, struct bench_trial *trial);
/* Adds what the workers of one role did as another round. */
void bench_trial_add(const struct bench_trial *trial, enum bench_role role, struct bench_row *row);

/* Runs every side once a round, in turn forwards and backwards. */
struct bench_comparison {
    const struct bench_side *sides; /* the last one is Lockstep */
    size_t n_sides;
    struct bench_job job; /* for each process */
    uint32_t processes;
    uint32_t rounds;
    struct bench_contents contents;
};

/* rows[0..n_sides) are filled in and put into the report. */
bool bench_compare(struct bench_context *context, const struct bench_comparison *comparison,
                   struct bench_row *rows);
/* The side that is measured against stock: with --calibrate stock itself. */
struct bench_side bench_subject(const struct bench_context *context,
                                const struct bench_side *lockstep, const struct bench_side *stock);

#endif
