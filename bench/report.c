#include "bench/report.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/message.h"
#include "bench/report_data.h"

/* ---- arithmetic ---- */

static int
compare_doubles(const void *a, const void *b)
{
    double x = *(const double *)a;
    double y = *(const double *)b;
    return (x > y) - (x < y);
}

struct bench_spread
bench_spread_of(const double *values, size_t n)
{
    double sorted[BENCH_ROUNDS_MAX];
    struct bench_spread spread = {NAN, NAN, NAN};
    if (n == 0 || n > BENCH_ROUNDS_MAX)
        return spread;
    memcpy(sorted, values, n * sizeof(*values));
    qsort(sorted, n, sizeof(*sorted), compare_doubles);
    spread.low = sorted[0];
    spread.high = sorted[n - 1];
    spread.median = n % 2 ? sorted[n / 2] : (sorted[n / 2 - 1] + sorted[n / 2]) / 2;
    return spread;
}

struct bench_spread
bench_row_rate(const struct bench_row *row)
{
    double rates[BENCH_ROUNDS_MAX];
    for (size_t i = 0; i < row->rounds; i++)
        rates[i] = row->round[i].rate;
    return bench_spread_of(rates, row->rounds);
}

double
bench_row_fairness(const struct bench_row *row)
{
    double lowest = NAN;
    for (size_t i = 0; i < row->rounds; i++) {
        if (!(row->round[i].fairness >= lowest))
            lowest = row->round[i].fairness;
    }
    return lowest;
}

double
bench_row_worst_ms(const struct bench_row *row)
{
    return (double)row->latency.max_ns / 1e6;
}

enum bench_verdict
bench_report_verdict(const struct bench_report *report, const struct bench_figure *figure)
{
    if (figure->bound == BENCH_REPORTED || report->ignore_targets)
        return BENCH_NO_TARGET;
    /* What could not be measured is not met. */
    bool met = figure->bound == BENCH_AT_LEAST ? figure->value.median >= figure->target
                                               : figure->value.median <= figure->target;
    return met ? BENCH_MET : BENCH_MISSED;
}

/* ---- gathering ---- */

struct bench_report *
bench_report_new(bool json)
{
    struct bench_report *report = calloc(1, sizeof(*report));
    if (report != NULL)
        report->json = json;
    return report;
}

void
bench_report_free(struct bench_report *report)
{
    if (report == NULL)
        return;
    for (size_t i = 0; i < report->n_sections; i++) {
        struct bench_section *section = &report->sections[i];
        for (size_t j = 0; j < section->n_rows; j++)
            free(section->rows[j]);
        for (size_t j = 0; j < section->n_notes; j++)
            free(section->notes[j]);
    }
    free(report);
}

/* The tables are as large as the workloads need: running over is a mistake of the program. */
static void
check_room(size_t used, size_t size, const char *what)
{
    if (used >= size) {
        bench_error("too many %s in the report", what);
        abort();
    }
}

static struct bench_section *
current(struct bench_report *report)
{
    if (report->n_sections == 0)
        abort();
    return &report->sections[report->n_sections - 1];
}

void
bench_report_fact(struct bench_report *report, const char *name, const char *format, ...)
{
    va_list args;
    check_room(report->n_facts, BENCH_FACTS_MAX, "facts");
    struct bench_fact *fact = &report->facts[report->n_facts++];
    snprintf(fact->name, sizeof(fact->name), "%s", name);
    va_start(args, format);
    vsnprintf(fact->value, sizeof(fact->value), format, args);
    va_end(args);
}

void
bench_report_workload(struct bench_report *report, const char *name, const char *summary)
{
    check_room(report->n_sections, BENCH_WORKLOADS_MAX, "workloads");
    struct bench_section *section = &report->sections[report->n_sections++];
    snprintf(section->name, sizeof(section->name), "%s", name);
    snprintf(section->summary, sizeof(section->summary), "%s", summary);
}

void
bench_report_row(struct bench_report *report, const struct bench_row *row)
{
    struct bench_section *section = current(report);
    check_room(section->n_rows, BENCH_ROWS_MAX, "rows");
    struct bench_row *copy = malloc(sizeof(*copy));
    if (copy == NULL)
        abort();
    *copy = *row;
    section->rows[section->n_rows++] = copy;
}

void
bench_report_figure(struct bench_report *report, const struct bench_figure *figure)
{
    struct bench_section *section = current(report);
    check_room(section->n_figures, BENCH_FIGURES_MAX, "figures");
    section->figures[section->n_figures++] = *figure;
}

void
bench_report_ratio(struct bench_report *report, const struct bench_row *over,
                   const struct bench_row *under, enum bench_bound bound, double target,
                   const char *format, ...)
{
    double ratios[BENCH_ROUNDS_MAX];
    struct bench_figure figure = {.bound = bound, .target = target};
    size_t n = over->rounds < under->rounds ? over->rounds : under->rounds;
    va_list args;
    for (size_t i = 0; i < n; i++)
        ratios[i] = over->round[i].rate / under->round[i].rate;
    figure.value = bench_spread_of(ratios, n);
    va_start(args, format);
    vsnprintf(figure.name, sizeof(figure.name), format, args);
    va_end(args);
    bench_report_figure(report, &figure);
}

void
bench_report_value(struct bench_report *report, double value, const char *unit,
                   enum bench_bound bound, double target, const char *format, ...)
{
    struct bench_figure figure = {
        .value = {value, value, value}, .bound = bound, .target = target};
    va_list args;
    snprintf(figure.unit, sizeof(figure.unit), "%s", unit);
    va_start(args, format);
    vsnprintf(figure.name, sizeof(figure.name), format, args);
    va_end(args);
    bench_report_figure(report, &figure);
}

void
bench_report_note(struct bench_report *report, const char *format, ...)
{
    struct bench_section *section = current(report);
    char note[512];
    va_list args;
    va_start(args, format);
    vsnprintf(note, sizeof(note), format, args);
    va_end(args);
    for (size_t i = 0; i < section->n_notes; i++) {
        if (strcmp(section->notes[i], note) == 0)
            return;
    }
    check_room(section->n_notes, BENCH_NOTES_MAX, "notes");
    char *copy = strdup(note);
    if (copy == NULL)
        abort();
    section->notes[section->n_notes++] = copy;
}

/* ---- printing ---- */

void
bench_report_ignore_targets(struct bench_report *report)
{
    report->ignore_targets = true;
}

void
bench_report_start(struct bench_report *report)
{
    if (!report->json)
        bench_render_facts(report);
}

void
bench_report_workload_end(struct bench_report *report)
{
    bench_progress_clear();
    current(report)->complete = true;
    if (!report->json)
        bench_render_section(report, current(report));
}

bool
bench_report_finish(struct bench_report *report)
{
    bench_progress_clear();
    if (report->json)
        bench_report_json(report);
    else
        bench_render_summary(report);
    return fflush(stdout) == 0 && !ferror(stdout);
}

size_t
bench_report_missed(const struct bench_report *report)
{
    size_t missed = 0;
    for (size_t i = 0; i < report->n_sections; i++) {
        const struct bench_section *section = &report->sections[i];
        for (size_t j = 0; j < section->n_figures; j++)
            missed += bench_report_verdict(report, &section->figures[j]) == BENCH_MISSED;
    }
    return missed;
}
