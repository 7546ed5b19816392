/* The body of a report: for the files that gather it and those that print it. */
#ifndef BENCH_REPORT_DATA_H
#define BENCH_REPORT_DATA_H

#include "bench/report.h"

#define BENCH_FACTS_MAX 32
#define BENCH_WORKLOADS_MAX 16
#define BENCH_ROWS_MAX 12
#define BENCH_FIGURES_MAX 16
#define BENCH_NOTES_MAX 12

struct bench_fact {
    char name[32];
    char value[224];
};

struct bench_section {
    char name[32];
    char summary[160];
    bool complete; /* it ran to its end, and every database was right */
    struct bench_row *rows[BENCH_ROWS_MAX];
    size_t n_rows;
    struct bench_figure figures[BENCH_FIGURES_MAX];
    size_t n_figures;
    char *notes[BENCH_NOTES_MAX];
    size_t n_notes;
};

struct bench_report {
    bool json;
    bool ignore_targets;
    struct bench_fact facts[BENCH_FACTS_MAX];
    size_t n_facts;
    struct bench_section sections[BENCH_WORKLOADS_MAX];
    size_t n_sections;
};

enum bench_verdict { BENCH_NO_TARGET, BENCH_MET, BENCH_MISSED };

enum bench_verdict bench_report_verdict(const struct bench_report *report,
                                        const struct bench_figure *figure);

/* render.c */
void bench_render_facts(const struct bench_report *report);
void bench_render_section(const struct bench_report *report, const struct bench_section *section);
void bench_render_summary(const struct bench_report *report);

/* report_json.c */
void bench_report_json(const struct bench_report *report);

#endif
