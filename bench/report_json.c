#include "bench/json.h"
#include "bench/report_data.h"

static void
put_spread(struct bench_json *json, const char *name, struct bench_spread spread)
{
    bench_json_open(json, name, '{');
    bench_json_number(json, "median", spread.median);
    bench_json_number(json, "low", spread.low);
    bench_json_number(json, "high", spread.high);
    bench_json_close(json, '}');
}

static void
put_latency(struct bench_json *json, const struct bench_histogram *h)
{
    bench_json_open(json, "latency_ns", '{');
    bench_json_count(json, "count", h->count);
    bench_json_number(json, "mean", bench_histogram_mean(h));
    bench_json_count(json, "min", h->min_ns);
    bench_json_count(json, "p50", bench_histogram_at(h, 0.50));
    bench_json_count(json, "p90", bench_histogram_at(h, 0.90));
    bench_json_count(json, "p99", bench_histogram_at(h, 0.99));
    bench_json_count(json, "p99.9", bench_histogram_at(h, 0.999));
    bench_json_count(json, "p99.99", bench_histogram_at(h, 0.9999));
    bench_json_count(json, "max", h->max_ns);
    bench_json_close(json, '}');
}

static void
put_row(struct bench_json *json, const struct bench_row *row)
{
    bench_json_open(json, NULL, '{');
    bench_json_string(json, "side", row->label);
    bench_json_count(json, "processes", row->processes);
    put_spread(json, "rate", bench_row_rate(row));
    bench_json_open(json, "rounds", '[');
    for (size_t i = 0; i < row->rounds; i++) {
        bench_json_open(json, NULL, '{');
        bench_json_number(json, "rate", row->round[i].rate);
        bench_json_number(json, "fairness", row->round[i].fairness);
        bench_json_number(json, "drain_ms", row->round[i].drain_ms);
        bench_json_close(json, '}');
    }
    bench_json_close(json, ']');
    put_latency(json, &row->latency);
    bench_json_count(json, "done", row->done);
    bench_json_count(json, "busy", row->busy);
    bench_json_count(json, "unstarted", row->unstarted);
    bench_json_count(json, "delayed_syncs", row->syncs);
    bench_json_number(json, "fairness", bench_row_fairness(row));
    bench_json_count(json, "peak_rss_kib", row->peak_rss_kib);
    bench_json_count(json, "pss_kib", row->pss_kib);
    bench_json_close(json, '}');
}

static void
put_figure(struct bench_json *json, const struct bench_report *report,
           const struct bench_figure *figure)
{
    static const char *const bounds[] = {"none", "at least", "at most"};
    enum bench_verdict verdict = bench_report_verdict(report, figure);
    bench_json_open(json, NULL, '{');
    bench_json_string(json, "name", figure->name);
    bench_json_string(json, "unit", figure->unit);
    put_spread(json, "value", figure->value);
    if (verdict != BENCH_NO_TARGET) {
        bench_json_string(json, "bound", bounds[figure->bound]);
        bench_json_number(json, "target", figure->target);
        bench_json_bool(json, "met", verdict == BENCH_MET);
    }
    bench_json_close(json, '}');
}

void
bench_report_json(const struct bench_report *report)
{
    struct bench_json json;
    bench_json_start(&json, stdout);
    bench_json_open(&json, NULL, '{');
    bench_json_open(&json, "facts", '{');
    for (size_t i = 0; i < report->n_facts; i++)
        bench_json_string(&json, report->facts[i].name, report->facts[i].value);
    bench_json_close(&json, '}');
    bench_json_open(&json, "workloads", '[');
    for (size_t i = 0; i < report->n_sections; i++) {
        const struct bench_section *section = &report->sections[i];
        bench_json_open(&json, NULL, '{');
        bench_json_string(&json, "name", section->name);
        bench_json_string(&json, "summary", section->summary);
        bench_json_bool(&json, "complete", section->complete);
        bench_json_open(&json, "sides", '[');
        for (size_t j = 0; j < section->n_rows; j++)
            put_row(&json, section->rows[j]);
        bench_json_close(&json, ']');
        bench_json_open(&json, "figures", '[');
        for (size_t j = 0; j < section->n_figures; j++)
            put_figure(&json, report, &section->figures[j]);
        bench_json_close(&json, ']');
        bench_json_open(&json, "notes", '[');
        for (size_t j = 0; j < section->n_notes; j++)
            bench_json_string(&json, NULL, section->notes[j]);
        bench_json_close(&json, ']');
        bench_json_close(&json, '}');
    }
    bench_json_close(&json, ']');
    bench_json_close(&json, '}');
}
