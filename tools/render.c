#include "tools/render.h"

#include <getopt.h>
#include <inttypes.h>
#include <libsmartcols.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include <lockstep/inspect.h>

#include "tools/commands.h"

#define NOT_SHOWN SIZE_MAX

struct lks_table {
    const struct lks_command *command;
    const struct lks_render_options *options;
    struct libscols_table *table;
    struct libscols_line *row;
    size_t *place; /* of each column in the table, or NOT_SHOWN */
    size_t shown;
    bool failed;
};

/* ------------------------------------------------------------------------------------------------
 * Messages, words
 * --------------------------------------------------------------------------------------------- */

void
lks_complain(const char *format, ...)
{
    va_list args;
    fputs("lockstep: ", stderr);
    va_start(args, format);
    vfprintf(stderr, format, args);
    va_end(args);
    fputc('\n', stderr);
}

int
lks_usage_error(const char *command)
{
    fprintf(stderr, "Try 'lockstep%s%s --help' for more information.\n", command != NULL ? " " : "",
            command != NULL ? command : "");
    return LKS_EXIT_USAGE;
}

void
lks_render_age(uint64_t age_ns, char *out, size_t capacity)
{
    uint64_t ms = age_ns / 1000000, s = ms / 1000;
    if (ms < 10)
        snprintf(out, capacity, "%.1fms", (double)age_ns / 1e6);
    else if (s < 1)
        snprintf(out, capacity, "%" PRIu64 "ms", ms);
    else if (s < 100)
        snprintf(out, capacity, "%" PRIu64 ".%" PRIu64 "s", s, ms % 1000 / 100);
    else if (s < 100 * 60)
        snprintf(out, capacity, "%" PRIu64 "min", s / 60);
    else if (s < 48 * 3600)
        snprintf(out, capacity, "%" PRIu64 "h%02" PRIu64 "m", s / 3600, s / 60 % 60);
    else
        snprintf(out, capacity, "%" PRIu64 "d%" PRIu64 "h", s / 86400, s / 3600 % 24);
}

void
lks_render_size(uint64_t size_bytes, char *out, size_t capacity)
{
    static const char units[] = "BKMGTPE";
    size_t unit = 0;
    double size = (double)size_bytes;
    while (size >= 1024 && units[unit + 1] != '\0') {
        size /= 1024;
        unit++;
    }
    if (unit == 0 || size >= 100 || size == (double)(uint64_t)size)
        snprintf(out, capacity, "%.0f%c", size, units[unit]);
    else
        snprintf(out, capacity, "%.1f%c", size, units[unit]);
}

/* ------------------------------------------------------------------------------------------------
 * Options
 * --------------------------------------------------------------------------------------------- */

static void
print_help(const struct lks_command *command)
{
    printf("Usage: lockstep %s [options] %s\n\n%s\n\nOptions:\n"
           "  -J, --json           print JSON\n"
           "  -n, --noheadings     leave the headings out\n"
           "  -o, --output LIST    print these columns; +LIST adds to the default ones\n"
           "      --output-all     print all columns\n"
           "  -r, --raw            separate columns by one space, escape those in them\n"
           "  -b, --bytes          print sizes in bytes\n"
           "  -h, --help           print this and exit\n"
           "  -V, --version        print the version and exit\n"
           "\nColumns:\n",
           command->name, command->operand, command->summary);
    for (size_t i = 0; i < command->column_count; i++)
        printf("  %-15s %s\n", command->columns[i].name, command->columns[i].help);
    if (command->notes != NULL)
        printf("\n%s\n", command->notes);
}

int
lks_render_parse(const struct lks_command *command, int argc, char **argv,
                 struct lks_render_options *out_options, const char **out_operand)
{
    enum { OUTPUT_ALL = 256 };
    static const struct option longs[] = {
        {"bytes", no_argument, NULL, 'b'},
        {"help", no_argument, NULL, 'h'},
        {"json", no_argument, NULL, 'J'},
        {"noheadings", no_argument, NULL, 'n'},
        {"output", required_argument, NULL, 'o'},
        {"output-all", no_argument, NULL, OUTPUT_ALL},
        {"raw", no_argument, NULL, 'r'},
        {"version", no_argument, NULL, 'V'},
        {NULL, 0, NULL, 0},
    };
    struct lks_render_options options = {0};
    int c;
    while ((c = getopt_long(argc, argv, LKS_RENDER_LETTERS, longs, NULL)) != -1) {
        switch (c) {
        case 'b': options.bytes = true; break;
        case 'h': print_help(command); return lks_close_stdout();
        case 'J': options.json = true; break;
        case 'n': options.no_headings = true; break;
        case 'o': options.list = optarg; break;
        case OUTPUT_ALL: options.all = true; break;
        case 'r': options.raw = true; break;
        case 'V': return lks_print_version();
        default: return lks_usage_error(command->name);
        }
    }
    if (options.json && options.raw) {
        lks_complain("--json and --raw exclude each other");
        return lks_usage_error(command->name);
    }
    if (argc - optind != 1) {
        lks_complain(argc == optind ? "%s: which database? Give the name of its file"
                                    : "%s: one database at a time",
                     command->name);
        return lks_usage_error(command->name);
    }
    *out_options = options;
    *out_operand = argv[optind];
    return -1;
}

/* ------------------------------------------------------------------------------------------------
 * Tables
 * --------------------------------------------------------------------------------------------- */

static int
find_column(const struct lks_command *command, const char *name, size_t length)
{
    for (size_t i = 0; i < command->column_count; i++)
        if (strlen(command->columns[i].name) == length &&
            strncasecmp(command->columns[i].name, name, length) == 0)
            return (int)i;
    return -1;
}

static void
show_column(struct lks_table *table, size_t column)
{
    const struct lks_column *what = &table->command->columns[column];
    static const int json_types[] = {
        [LKS_COLUMN_TEXT] = SCOLS_JSON_STRING,
        [LKS_COLUMN_NUMBER] = SCOLS_JSON_NUMBER,
        [LKS_COLUMN_BOOLEAN] = SCOLS_JSON_BOOLEAN,
        [LKS_COLUMN_WRAPPED] = SCOLS_JSON_STRING,
    };
    struct libscols_column *made;
    if (table->place[column] != NOT_SHOWN)
        return;
    made = scols_table_new_column(table->table, what->name, 0,
                                  what->type == LKS_COLUMN_NUMBER    ? SCOLS_FL_RIGHT
                                  : what->type == LKS_COLUMN_WRAPPED ? SCOLS_FL_WRAP
                                                                     : 0);
    if (made == NULL || scols_column_set_json_type(made, json_types[what->type]) != 0) {
        table->failed = true;
        return;
    }
    table->place[column] = table->shown++;
}

/* False after a message. */
static bool
show_list(struct lks_table *table, const char *list)
{
    const char *name = list;
    for (;;) {
        size_t length = strcspn(name, ",");
        int column = find_column(table->command, name, length);
        if (column < 0) {
            lks_complain("unknown column: %.*s", (int)length, name);
            (void)lks_usage_error(table->command->name);
            return false;
        }
        show_column(table, (size_t)column);
        if (name[length] == '\0')
            return true;
        name += length + 1;
    }
}

struct lks_table *
lks_table_new(const struct lks_command *command, const char *defaults,
              const struct lks_render_options *options)
{
    struct lks_table *table = calloc(1, sizeof *table);
    if (table == NULL)
        goto no_memory;
    table->command = command;
    table->options = options;
    table->place = malloc(command->column_count * sizeof *table->place);
    table->table = scols_new_table();
    if (table->place == NULL || table->table == NULL)
        goto no_memory;
    for (size_t i = 0; i < command->column_count; i++)
        table->place[i] = NOT_SHOWN;
    scols_table_set_name(table->table, command->name);
    scols_table_enable_json(table->table, options->json);
    scols_table_enable_raw(table->table, options->raw);
    scols_table_enable_noheadings(table->table, options->no_headings);
    if (options->all) {
        for (size_t i = 0; i < command->column_count; i++)
            show_column(table, i);
    } else {
        bool more = options->list != NULL && options->list[0] == '+';
        if ((options->list == NULL || more) && !show_list(table, defaults))
            goto fail;
        if (options->list != NULL && !show_list(table, options->list + more))
            goto fail;
    }
    if (!table->failed)
        return table;
no_memory:
    lks_complain("out of memory");
fail:
    lks_table_free(table);
    return NULL;
}

void
lks_table_free(struct lks_table *table)
{
    if (table == NULL)
        return;
    scols_unref_table(table->table);
    free(table->place);
    free(table);
}

bool
lks_table_shows(const struct lks_table *table, size_t column)
{
    return table->place[column] != NOT_SHOWN;
}

void
lks_table_row(struct lks_table *table)
{
    table->row = scols_table_new_line(table->table, NULL);
    if (table->row == NULL)
        table->failed = true;
}

void
lks_table_set(struct lks_table *table, size_t column, const char *format, ...)
{
    char *text;
    va_list args;
    if (table->row == NULL || !lks_table_shows(table, column))
        return;
    va_start(args, format);
    if (vasprintf(&text, format, args) < 0)
        text = NULL;
    va_end(args);
    if (text == NULL || scols_line_refer_data(table->row, table->place[column], text) != 0) {
        free(text);
        table->failed = true;
    }
}

void
lks_table_set_age(struct lks_table *table, size_t column, uint64_t age_ns)
{
    char text[32];
    if (age_ns == LOCKSTEP_UNKNOWN)
        return;
    lks_render_age(age_ns, text, sizeof text);
    if (table->options->json)
        lks_table_set(table, column, "%.6f", (double)age_ns / 1e9);
    else
        lks_table_set(table, column, "%s", text);
}

void
lks_table_set_size(struct lks_table *table, size_t column, uint64_t size_bytes)
{
    char text[32];
    lks_render_size(size_bytes, text, sizeof text);
    if (table->options->json || table->options->bytes)
        lks_table_set(table, column, "%" PRIu64, size_bytes);
    else
        lks_table_set(table, column, "%s", text);
}

static int
print_scols(struct libscols_table *table, bool failed)
{
    if (failed || scols_print_table(table) != 0) {
        lks_complain("out of memory");
        return LKS_EXIT_FAILURE;
    }
    return lks_close_stdout();
}

/* libsmartcols prints nothing for a table without rows, not even the headings or an empty JSON array. */
static int
print_empty(struct lks_table *table)
{
    bool first = true;
    if (table->options->json) {
        printf("{\n   \"%s\": []\n}\n", table->command->name);
        return lks_close_stdout();
    }
    if (table->options->no_headings)
        return LKS_EXIT_OK;
    for (size_t place = 0; place < table->shown; place++)
        for (size_t i = 0; i < table->command->column_count; i++)
            if (table->place[i] == place) {
                printf("%s%s", first ? "" : " ", table->command->columns[i].name);
                first = false;
            }
    putchar('\n');
    return lks_close_stdout();
}

int
lks_table_print(struct lks_table *table)
{
    if (!table->failed && scols_table_get_nlines(table->table) == 0)
        return print_empty(table);
    return print_scols(table->table, table->failed);
}

int
lks_table_print_list(struct lks_table *table, const char *const *labels)
{
    struct libscols_line *row = scols_table_get_line(table->table, 0);
    struct libscols_table *list = scols_new_table();
    bool failed = table->failed || list == NULL || row == NULL;
    int status;

    if (!failed) {
        scols_table_enable_noheadings(list, 1);
        failed = scols_table_new_column(list, "FIELD", 0, 0) == NULL ||
                 scols_table_new_column(list, "VALUE", 0, SCOLS_FL_WRAP) == NULL;
    }
    for (size_t place = 0; place < table->shown && !failed; place++)
        for (size_t i = 0; i < table->command->column_count && !failed; i++) {
            const char *value;
            struct libscols_line *line;
            char label[64];
            if (table->place[i] != place)
                continue;
            value = scols_cell_get_data(scols_line_get_cell(row, place));
            if (value == NULL)
                continue;
            snprintf(label, sizeof label, "%s:", labels[i]);
            line = scols_table_new_line(list, NULL);
            failed = line == NULL || scols_line_set_data(line, 0, label) != 0 ||
                     scols_line_set_data(line, 1, value) != 0;
        }
    status = print_scols(list, failed);
    scols_unref_table(list);
    return status;
}
