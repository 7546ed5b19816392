#include <libsmartcols.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "bench/report_data.h"

struct column {
    const char *name;
    int flags;
};

/* ---- a table, line by line ---- */

static void
must(int rc)
{
    if (rc != 0) { /* out of memory: there is nothing to report with */
        fputs("lockstep bench: out of memory\n", stderr);
        abort();
    }
}

static struct libscols_table *
table_new(const struct column *columns, size_t n)
{
    struct libscols_table *table = scols_new_table();
    must(table == NULL);
    for (size_t i = 0; i < n; i++)
        must(scols_table_new_column(table, columns[i].name, 0, columns[i].flags) == NULL);
    return table;
}

static struct libscols_line *
table_line(struct libscols_table *table)
{
    struct libscols_line *line = scols_table_new_line(table, NULL);
    must(line == NULL);
    return line;
}

__attribute__((format(printf, 3, 4))) static void
put(struct libscols_line *line, size_t column, const char *format, ...)
{
    char cell[160];
    va_list args;
    va_start(args, format);
    vsnprintf(cell, sizeof(cell), format, args);
    va_end(args);
    must(scols_line_set_data(line, column, cell));
}

static void
put_ns(struct libscols_line *line, size_t column, uint64_t ns)
{
    static const struct {
        double from;
        const char *unit;
    } units[] = {{1e9, "s"}, {1e6, "ms"}, {1e3, "us"}};
    double value = (double)ns;
    for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++) {
        if (value < units[i].from)
            continue;
        value /= units[i].from;
        put(line, column, value < 10 ? "%.2f%s" : value < 100 ? "%.1f%s" : "%.0f%s", value,
            units[i].unit);
        return;
    }
    put(line, column, "%.0fns", value);
}

static void
table_print(struct libscols_table *table)
{
    must(scols_print_table(table));
    scols_unref_table(table);
    putchar('\n');
}

/* ---- sides ---- */

enum side_column {
    SIDE,
    PROCS,
    RATE,
    LOW,
    HIGH,
    P50,
    P99,
    P999,
    WORST,
    FAIR,
    BUSY,
    RSS,
    PSS,
    DRAIN,
    SIDE_COLUMNS
};

static const struct column side_columns[SIDE_COLUMNS] = {
    [SIDE] = {"SIDE", 0},
    [PROCS] = {"PROCS", SCOLS_FL_RIGHT},
    [RATE] = {"RATE/S", SCOLS_FL_RIGHT},
    [LOW] = {"LOW", SCOLS_FL_RIGHT},
    [HIGH] = {"HIGH", SCOLS_FL_RIGHT},
    [P50] = {"P50", SCOLS_FL_RIGHT},
    [P99] = {"P99", SCOLS_FL_RIGHT},
    [P999] = {"P99.9", SCOLS_FL_RIGHT},
    [WORST] = {"WORST", SCOLS_FL_RIGHT},
    [FAIR] = {"FAIR", SCOLS_FL_RIGHT},
    [BUSY] = {"BUSY", SCOLS_FL_RIGHT},
    [RSS] = {"RSS/M", SCOLS_FL_RIGHT},
    [PSS] = {"PSS/M", SCOLS_FL_RIGHT},
    [DRAIN] = {"DRAIN/MS", SCOLS_FL_RIGHT},
};

static double
median_drain_ms(const struct bench_row *row)
{
    double drains[BENCH_ROUNDS_MAX];
    for (size_t i = 0; i < row->rounds; i++)
        drains[i] = row->round[i].drain_ms;
    return bench_spread_of(drains, row->rounds).median;
}

static void
render_row(struct libscols_table *table, const struct bench_row *row)
{
    struct libscols_line *line = table_line(table);
    struct bench_spread rate = bench_row_rate(row);
    const char *number = rate.median < 100 ? "%.1f" : "%.0f";
    put(line, SIDE, "%s", row->label);
    put(line, PROCS, "%u", row->processes);
    put(line, RATE, number, rate.median);
    put(line, LOW, number, rate.low);
    put(line, HIGH, number, rate.high);
    put_ns(line, P50, bench_histogram_at(&row->latency, 0.50));
    put_ns(line, P99, bench_histogram_at(&row->latency, 0.99));
    put_ns(line, P999, bench_histogram_at(&row->latency, 0.999));
    put_ns(line, WORST, row->latency.max_ns);
    if (row->processes > 1)
        put(line, FAIR, "%.2f", bench_row_fairness(row));
    put(line, BUSY, "%llu", (unsigned long long)row->busy);
    put(line, RSS, "%.1f", (double)row->peak_rss_kib / 1024);
    put(line, PSS, "%.1f", (double)row->pss_kib / 1024);
    put(line, DRAIN, "%.1f", median_drain_ms(row));
}

/* ---- figures ---- */

enum figure_column { FIGURE, VALUE, FIGURE_LOW, FIGURE_HIGH, TARGET, MET, FIGURE_COLUMNS };

static const struct column figure_columns[FIGURE_COLUMNS] = {
    [FIGURE] = {"FIGURE", 0},
    [VALUE] = {"VALUE", SCOLS_FL_RIGHT},
    [FIGURE_LOW] = {"LOW", SCOLS_FL_RIGHT},
    [FIGURE_HIGH] = {"HIGH", SCOLS_FL_RIGHT},
    [TARGET] = {"TARGET", SCOLS_FL_RIGHT},
    [MET] = {"MET", 0},
};

static void
put_value(struct libscols_line *line, size_t column, double value, const char *unit)
{
    if (!isfinite(value)) {
        put(line, column, "-");
        return;
    }
    double size = fabs(value);
    bool whole = value == floor(value) && size < 1e15;
    int digits = whole || size >= 1000 ? 0 : size >= 100 ? 1 : size >= 0.1 || size == 0 ? 2 : 4;
    put(line, column, "%.*f%s%s", digits, value, unit[0] != '\0' ? " " : "", unit);
}

static void
render_figure(struct libscols_table *table, const struct bench_report *report,
              const struct bench_figure *figure, const char *workload)
{
    static const char *const verdicts[] = {"", "yes", "NO"};
    struct libscols_line *line = table_line(table);
    enum bench_verdict verdict = bench_report_verdict(report, figure);
    if (workload != NULL)
        put(line, FIGURE, "%s: %s", workload, figure->name);
    else
        put(line, FIGURE, "%s", figure->name);
    put_value(line, VALUE, figure->value.median, figure->unit);
    if (figure->value.low != figure->value.high) {
        put_value(line, FIGURE_LOW, figure->value.low, figure->unit);
        put_value(line, FIGURE_HIGH, figure->value.high, figure->unit);
    }
    if (verdict != BENCH_NO_TARGET)
        put(line, TARGET, "%s %g", figure->bound == BENCH_AT_LEAST ? ">=" : "<=", figure->target);
    put(line, MET, "%s", verdicts[verdict]);
}

/* ---- the parts of the report ---- */

void
bench_render_facts(const struct bench_report *report)
{
    for (size_t i = 0; i < report->n_facts; i++)
        printf("%-14s %s\n", report->facts[i].name, report->facts[i].value);
    putchar('\n');
    fflush(stdout);
}

void
bench_render_section(const struct bench_report *report, const struct bench_section *section)
{
    printf("== %s: %s\n\n", section->name, section->summary);
    struct libscols_table *table = table_new(side_columns, SIDE_COLUMNS);
    for (size_t i = 0; i < section->n_rows; i++)
        render_row(table, section->rows[i]);
    table_print(table);
    if (section->n_figures > 0) {
        table = table_new(figure_columns, FIGURE_COLUMNS);
        for (size_t i = 0; i < section->n_figures; i++)
            render_figure(table, report, &section->figures[i], NULL);
        table_print(table);
    }
    for (size_t i = 0; i < section->n_notes; i++)
        printf("%s\n", section->notes[i]);
    if (section->n_notes > 0)
        putchar('\n');
    fflush(stdout);
}

void
bench_render_summary(const struct bench_report *report)
{
    size_t judged = 0;
    struct libscols_table *table = table_new(figure_columns, FIGURE_COLUMNS);
    for (size_t i = 0; i < report->n_sections; i++) {
        const struct bench_section *section = &report->sections[i];
        for (size_t j = 0; j < section->n_figures; j++) {
            if (bench_report_verdict(report, &section->figures[j]) == BENCH_NO_TARGET)
                continue;
            render_figure(table, report, &section->figures[j], section->name);
            judged++;
        }
    }
    if (judged == 0) {
        scols_unref_table(table);
        return;
    }
    printf("== targets: %zu of %zu met\n\n", judged - bench_report_missed(report), judged);
    table_print(table);
}
