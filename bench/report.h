/*
 * What came out: per workload a table of sides, the figures with their targets, and notes.  As text
 * it is printed workload by workload, as JSON at the end.
 */
#ifndef BENCH_REPORT_H
#define BENCH_REPORT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "bench/histogram.h"

#define BENCH_ROUNDS_MAX 32

/* The median of some values, and the lowest and highest. */
struct bench_spread {
    double median;
    double low;
    double high;
};

struct bench_spread bench_spread_of(const double *values, size_t n);

/* One round of one side, or of one role on it. */
struct bench_round {
    double rate; /* a second */
    double fairness;
    double drain_ms;
};

/* All rounds of it. */
struct bench_row {
    char label[64];
    uint32_t processes;
    size_t rounds;
    struct bench_round round[BENCH_ROUNDS_MAX];
    struct bench_histogram latency;
    uint64_t done;
    uint64_t busy;
    uint64_t unstarted;
    uint64_t syncs;
    uint64_t peak_rss_kib; /* of one process, the highest */
    uint64_t pss_kib;      /* of all processes together, the highest */
};

struct bench_spread bench_row_rate(const struct bench_row *row);
/* The lowest of all rounds. */
double bench_row_fairness(const struct bench_row *row);
double bench_row_worst_ms(const struct bench_row *row);

enum bench_bound { BENCH_REPORTED, BENCH_AT_LEAST, BENCH_AT_MOST };

struct bench_figure {
    char name[96];
    char unit[8]; /* "", "ms", "MiB" */
    struct bench_spread value;
    enum bench_bound bound;
    double target;
};

struct bench_report;

/* NULL when there is no memory.  With `json` nothing is printed before bench_report_finish(). */
struct bench_report *bench_report_new(bool json);
void bench_report_free(struct bench_report *report);

/* A fact about the whole call: the machine, the options. */
void bench_report_fact(struct bench_report *report, const char *name, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* Prints the facts. */
void bench_report_start(struct bench_report *report);

/* What follows belongs to this workload, until its end. */
void bench_report_workload(struct bench_report *report, const char *name, const char *summary);
void bench_report_row(struct bench_report *report, const struct bench_row *row);
void bench_report_figure(struct bench_report *report, const struct bench_figure *figure);
/* The figure is the ratio of the two rows' rates, round by round. */
void bench_report_ratio(struct bench_report *report, const struct bench_row *over,
                        const struct bench_row *under, enum bench_bound bound, double target,
                        const char *format, ...) __attribute__((format(printf, 6, 7)));
/* A figure with one value. */
void bench_report_value(struct bench_report *report, double value, const char *unit,
                        enum bench_bound bound, double target, const char *format, ...)
    __attribute__((format(printf, 6, 7)));
void bench_report_note(struct bench_report *report, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
void bench_report_workload_end(struct bench_report *report);

/* Targets are not judged: both sides are the same. */
void bench_report_ignore_targets(struct bench_report *report);
/* Prints the summary, or the JSON.  False when standard output failed. */
bool bench_report_finish(struct bench_report *report);
size_t bench_report_missed(const struct bench_report *report);

#endif
