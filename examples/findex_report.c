#include "findex_report.h"

#include <stdlib.h>
#include <string.h>

#include <libsmartcols.h>

#include "bench/json.h"

#define NS_PER_S 1e9

typedef void cell_function(char *cell, size_t room, const struct findex_result *result);

static void
put_count(char *cell, size_t room, uint64_t count)
{
    char digits[24];
    size_t n = (size_t)snprintf(digits, sizeof digits, "%llu", (unsigned long long)count);
    size_t used = 0;

    for (size_t i = 0; i < n && used + 2 < room; i++) {
        if (i > 0 && (n - i) % 3 == 0)
            cell[used++] = ',';
        cell[used++] = digits[i];
    }
    cell[used] = '\0';
}

static void
put_time(char *cell, size_t room, uint64_t ns)
{
    if (ns == 0)
        snprintf(cell, room, "-");
    else if (ns < 1000000)
        snprintf(cell, room, "%.1f us", (double)ns / 1e3);
    else if (ns < 1000000000)
        snprintf(cell, room, "%.1f ms", (double)ns / 1e6);
    else
        snprintf(cell, room, "%.2f s", (double)ns / NS_PER_S);
}

static double
rate(const struct findex_result *r)
{
    return r->seconds > 0 ? r->committed / r->seconds : 0;
}

static double
fairness(const struct findex_result *r)
{
    return r->fastest_worker > 0 ? (double)r->slowest_worker / (double)r->fastest_worker : 0;
}

static void
cell_files(char *cell, size_t room, const struct findex_result *r)
{
    put_count(cell, room, r->committed);
}

static void
cell_ended(char *cell, size_t room, const struct findex_result *r)
{
    snprintf(cell, room, "%s", r->limited ? "time is up" : "all done");
}

static void
cell_seconds(char *cell, size_t room, const struct findex_result *r)
{
    snprintf(cell, room, "%.2f", r->seconds);
}

static void
cell_rate(char *cell, size_t room, const struct findex_result *r)
{
    put_count(cell, room, (uint64_t)(rate(r) + 0.5));
}

static void
cell_commit_median(char *cell, size_t room, const struct findex_result *r)
{
    put_time(cell, room, bench_histogram_at(&r->commit, 0.5));
}

static void
cell_commit_99(char *cell, size_t room, const struct findex_result *r)
{
    put_time(cell, room, bench_histogram_at(&r->commit, 0.99));
}

static void
cell_commit_worst(char *cell, size_t room, const struct findex_result *r)
{
    put_time(cell, room, r->commit.max_ns);
}

static void
cell_refused(char *cell, size_t room, const struct findex_result *r)
{
    put_count(cell, room, r->refused);
}

static void
cell_fairness(char *cell, size_t room, const struct findex_result *r)
{
    snprintf(cell, room, "%.2f", fairness(r));
}

static void
cell_reads(char *cell, size_t room, const struct findex_result *r)
{
    put_count(cell, room, r->reads);
}

static void
cell_read_median(char *cell, size_t room, const struct findex_result *r)
{
    put_time(cell, room, bench_histogram_at(&r->read, 0.5));
}

static void
cell_read_99(char *cell, size_t room, const struct findex_result *r)
{
    put_time(cell, room, bench_histogram_at(&r->read, 0.99));
}

static void
cell_read_worst(char *cell, size_t room, const struct findex_result *r)
{
    put_time(cell, room, r->read.max_ns);
}

static void
cell_refused_reads(char *cell, size_t room, const struct findex_result *r)
{
    put_count(cell, room, r->refused_reads);
}

static void
cell_wrong(char *cell, size_t room, const struct findex_result *r)
{
    put_count(cell, room, r->wrong);
}

static void
cell_missing(char *cell, size_t room, const struct findex_result *r)
{
    put_count(cell, room, r->verdict.missing);
}

static void
cell_integrity(char *cell, size_t room, const struct findex_result *r)
{
    snprintf(cell, room, "%.20s", r->verdict.integrity);
}

static const struct {
    const char *name;
    cell_function *cell;
    bool for_readers;
} rows[] = {
    {"files, a transaction each", cell_files, false},
    {"ended because", cell_ended, false},
    {"seconds, until all is on disk", cell_seconds, false},
    {"transactions per second", cell_rate, false},
    {"transaction: median", cell_commit_median, false},
    {"  99 % within", cell_commit_99, false},
    {"  worst", cell_commit_worst, false},
    {"refused (SQLITE_BUSY)", cell_refused, false},
    {"slowest worker / fastest", cell_fairness, false},
    {"read transactions", cell_reads, true},
    {"read: median", cell_read_median, true},
    {"  99 % within", cell_read_99, true},
    {"  worst", cell_read_worst, true},
    {"refused reads (SQLITE_BUSY)", cell_refused_reads, true},
    {"half transactions seen", cell_wrong, true},
    {"committed, then missing", cell_missing, false},
    {"PRAGMA integrity_check", cell_integrity, false},
};

static bool
fill(struct libscols_table *table, const struct findex_report *report)
{
    char cell[64];

    if (scols_table_new_column(table, "", 0, 0) == NULL)
        return false;
    for (size_t i = 0; i < report->n_results; i++) {
        if (scols_table_new_column(table, report->results[i].side->title, 0, SCOLS_FL_RIGHT)
            == NULL)
            return false;
    }
    for (size_t row = 0; row < sizeof rows / sizeof *rows; row++) {
        if (rows[row].for_readers && report->options->readers == 0)
            continue;
        struct libscols_line *line = scols_table_new_line(table, NULL);
        if (line == NULL || scols_line_set_data(line, 0, rows[row].name) != 0)
            return false;
        for (size_t i = 0; i < report->n_results; i++) {
            rows[row].cell(cell, sizeof cell, &report->results[i]);
            if (scols_line_set_data(line, i + 1, cell) != 0)
                return false;
        }
    }
    return true;
}

static void
print_comparison(const struct findex_comparison *c, FILE *out)
{
    char files[32];

    put_count(files, sizeof files, c->files);
    fprintf(out, "%s against %s: the first %s files in %.2f s and %.2f s, %.1f times as fast\n",
            c->ours->side->title, c->theirs->side->title, files, c->our_seconds, c->their_seconds,
            c->their_seconds / c->our_seconds);
}

static void
print_notes(const struct findex_result *r, FILE *out)
{
    if (r->unhashed > 0)
        fprintf(out, "%s: %llu files could not be read and are indexed without a hash\n",
                r->side->title, (unsigned long long)r->unhashed);
    if (r->vanished > 0)
        fprintf(out, "%s: %llu files have vanished since the walk\n", r->side->title,
                (unsigned long long)r->vanished);
}

static void
print_faults(const struct findex_result *r, FILE *out)
{
    const struct findex_verdict *v = &r->verdict;

    if (r->complaint[0] != '\0')
        fprintf(out, "%s: %s\n", r->side->title, r->complaint);
    if (r->died > 0)
        fprintf(out, "%s: %u worker(s) died; the times are those of the others\n", r->side->title,
                r->died);
    if (strcmp(v->integrity, "ok") != 0)
        fprintf(out, "%s: integrity_check: %s\n", r->side->title, v->integrity);
    if (v->rows != r->committed)
        fprintf(out, "%s: %llu rows for %u commits\n", r->side->title, (unsigned long long)v->rows,
                r->committed);
    if (!v->sums_fit)
        fprintf(out, "%s: the sums do not fit the rows: half a transaction is in the file\n",
                r->side->title);
    if (!v->writable)
        fprintf(out, "%s: stock SQLite cannot write the database that is left\n", r->side->title);
    if (v->left_behind[0] != '\0')
        fprintf(out, "%s: left beside the database: %s\n", r->side->title, v->left_behind);
}

bool
findex_report_table(const struct findex_report *report, FILE *out)
{
    char *text = NULL;
    struct libscols_table *table = scols_new_table();
    bool ok = table != NULL && fill(table, report)
              && scols_table_set_termforce(table, SCOLS_TERMFORCE_NEVER) == 0
              && scols_table_set_column_separator(table, "  ") == 0
              && scols_print_table_to_string(table, &text) == 0;

    if (ok) {
        fprintf(out, "\n%s\n", text);
        for (size_t i = 0; i < report->n_comparisons; i++)
            print_comparison(&report->comparisons[i], out);
        for (size_t i = 0; i < report->n_results; i++)
            print_notes(&report->results[i], out);
        for (size_t i = 0; i < report->n_results; i++)
            print_faults(&report->results[i], out);
    }
    free(text);
    if (table != NULL)
        scols_unref_table(table);
    return ok;
}

static void
put_latency(struct bench_json *json, const char *name, const struct bench_histogram *h)
{
    bench_json_open(json, name, '{');
    bench_json_count(json, "count", h->count);
    bench_json_number(json, "median_us", (double)bench_histogram_at(h, 0.5) / 1e3);
    bench_json_number(json, "p99_us", (double)bench_histogram_at(h, 0.99) / 1e3);
    bench_json_number(json, "worst_us", (double)h->max_ns / 1e3);
    bench_json_close(json, '}');
}

static void
put_verdict(struct bench_json *json, const struct findex_verdict *verdict)
{
    bench_json_string(json, "integrity_check", verdict->integrity);
    bench_json_count(json, "rows", verdict->rows);
    bench_json_count(json, "missing", verdict->missing);
    bench_json_bool(json, "sums_fit", verdict->sums_fit);
    bench_json_bool(json, "writable", verdict->writable);
    bench_json_string(json, "left_behind", verdict->left_behind);
    bench_json_count(json, "database_bytes", verdict->bytes);
}

static void
put_side(struct bench_json *json, const struct findex_result *r)
{
    bench_json_open(json, NULL, '{');
    bench_json_string(json, "side", r->side->key);
    bench_json_string(json, "vfs", r->vfs);
    bench_json_string(json, "journal_mode", r->side->journal);
    bench_json_string(json, "synchronous", r->side->synchronous);
    bench_json_bool(json, "good", r->good);
    bench_json_string(json, "complaint", r->complaint);
    bench_json_count(json, "files", r->committed);
    bench_json_bool(json, "complete", !r->limited);
    bench_json_count(json, "unhashed", r->unhashed);
    bench_json_count(json, "vanished", r->vanished);
    bench_json_number(json, "seconds", r->seconds);
    bench_json_number(json, "close_seconds", r->close_seconds);
    bench_json_number(json, "rate", rate(r));
    put_latency(json, "transaction", &r->commit);
    bench_json_count(json, "refused", r->refused);
    bench_json_number(json, "fairness", fairness(r));
    bench_json_count(json, "workers_died", r->died);
    bench_json_count(json, "reads", r->reads);
    bench_json_count(json, "queries", r->queries);
    put_latency(json, "read", &r->read);
    bench_json_count(json, "refused_reads", r->refused_reads);
    bench_json_count(json, "wrong", r->wrong);
    put_verdict(json, &r->verdict);
    bench_json_close(json, '}');
}

static void
put_comparison(struct bench_json *json, const struct findex_comparison *c)
{
    bench_json_open(json, NULL, '{');
    bench_json_string(json, "side", c->ours->side->key);
    bench_json_string(json, "against", c->theirs->side->key);
    bench_json_count(json, "files", c->files);
    bench_json_number(json, "seconds", c->our_seconds);
    bench_json_number(json, "against_seconds", c->their_seconds);
    bench_json_number(json, "times_as_fast", c->their_seconds / c->our_seconds);
    bench_json_close(json, '}');
}

static void
put_reading(struct bench_json *json, const char *name, const struct findex_reading *reading)
{
    bench_json_open(json, name, '{');
    bench_json_count(json, "files", reading->files);
    bench_json_count(json, "bytes", reading->bytes);
    bench_json_number(json, "seconds", reading->seconds);
    bench_json_close(json, '}');
}

/* JSON has no bytes: a name that is not UTF-8 is written with \xff for each byte past ASCII. */
static void
put_path(struct bench_json *json, const char *name, const char *path)
{
    const bool plain = findex_is_utf8(path);
    char *text = NULL;
    size_t size;
    FILE *stream = open_memstream(&text, &size);

    if (stream == NULL)
        return;
    for (const unsigned char *p = (const unsigned char *)path; *p != '\0'; p++)
        fprintf(stream, plain || *p < 0x80 ? "%c" : "\\x%02x", *p);
    if (fclose(stream) == 0)
        bench_json_string(json, name, text);
    free(text);
}

static void
put_job(struct bench_json *json, const struct findex_report *report)
{
    const struct findex_list *list = report->list;

    put_path(json, "root", report->options->root);
    bench_json_string(json, "sqlite", sqlite3_libversion());
    bench_json_count(json, "workers", report->options->workers);
    bench_json_count(json, "readers", report->options->readers);
    bench_json_number(json, "limit_seconds", report->options->limit_s);
    bench_json_count(json, "head_bytes", FINDEX_HEAD_BYTES);
    put_reading(json, "read_ahead", &report->ahead);
    put_reading(json, "reading_alone", &report->alone);
    bench_json_count(json, "files_found", list->n_files);
    bench_json_count(json, "files_used", report->n_files);
    bench_json_count(json, "directories", list->n_directories);
    bench_json_open(json, "left_out", '{');
    bench_json_count(json, "links", list->links);
    bench_json_count(json, "special", list->special);
    bench_json_count(json, "unreadable", list->unreadable);
    bench_json_bool(json, "past_the_limit", list->more);
    bench_json_close(json, '}');
}

void
findex_report_json(const struct findex_report *report, FILE *out)
{
    struct bench_json json;

    bench_json_start(&json, out);
    bench_json_open(&json, NULL, '{');
    put_job(&json, report);
    bench_json_open(&json, "sides", '[');
    for (size_t i = 0; i < report->n_results; i++)
        put_side(&json, &report->results[i]);
    bench_json_close(&json, ']');
    bench_json_open(&json, "comparisons", '[');
    for (size_t i = 0; i < report->n_comparisons; i++)
        put_comparison(&json, &report->comparisons[i]);
    bench_json_close(&json, ']');
    bench_json_close(&json, '}');
}
