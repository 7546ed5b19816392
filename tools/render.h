/*
 * What the subcommands print: tables in the manner of lslocks(8), their options, words for ages and sizes.
 */
#ifndef TOOLS_RENDER_H
#define TOOLS_RENDER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum lks_column_type {
    LKS_COLUMN_TEXT,
    LKS_COLUMN_NUMBER, /* to the right; a number in JSON */
    LKS_COLUMN_BOOLEAN,
    LKS_COLUMN_WRAPPED /* text that is broken into lines where the terminal is narrow */
};

struct lks_column {
    const char *name; /* the heading, and what --output takes */
    enum lks_column_type type;
    const char *help;
};

/* The options that all tables share. */
struct lks_render_options {
    bool json;
    bool no_headings;
    bool raw;
    bool bytes;       /* sizes as plain numbers */
    bool all;         /* every column */
    const char *list; /* --output; NULL: the default columns */
};

/* Has getopt_long() letters and long options for these, -h and -V. */
#define LKS_RENDER_LETTERS "bhJno:rV"

struct lks_command {
    const char *name;    /* "locks" */
    const char *operand; /* "DB" */
    const char *summary; /* a sentence or two */
    const struct lks_column *columns;
    size_t column_count;
    const char *notes;   /* printed at the end of the help; may be NULL */
};

/* Fills *out_options and *out_operand; -1 to go on, otherwise the exit status. */
int lks_render_parse(const struct lks_command *command, int argc, char **argv,
                     struct lks_render_options *out_options, const char **out_operand);

struct lks_table;

/* NULL after a message: an unknown column, or no memory.  `defaults`: names with commas. */
struct lks_table *lks_table_new(const struct lks_command *command, const char *defaults,
                                const struct lks_render_options *options);
void lks_table_free(struct lks_table *table);
bool lks_table_shows(const struct lks_table *table, size_t column);
/* Starts a row; its cells are empty, which is null in JSON. */
void lks_table_row(struct lks_table *table);
/* Sets a cell of the newest row.  Columns that are not shown are passed over. */
__attribute__((format(printf, 3, 4))) void lks_table_set(struct lks_table *table, size_t column,
                                                         const char *format, ...);
/* In words for people, in numbers for programs: seconds, bytes.  LOCKSTEP_UNKNOWN is an empty cell. */
void lks_table_set_age(struct lks_table *table, size_t column, uint64_t age_ns);
void lks_table_set_size(struct lks_table *table, size_t column, uint64_t size_bytes);
/* Prints everything; 0, or 1 after a message if it could not be written. */
int lks_table_print(struct lks_table *table);
/* The same as "Name: value" lines of the first row, a label a column, cells without value left out. */
int lks_table_print_list(struct lks_table *table, const char *const *labels);

/* "0.4ms", "12ms", "3.2s", "12min", "3h05m", "2d4h". */
void lks_render_age(uint64_t age_ns, char *out, size_t capacity);
/* "512B", "64K", "1.5M". */
void lks_render_size(uint64_t size_bytes, char *out, size_t capacity);

/* "lockstep: ..." on stderr. */
__attribute__((format(printf, 1, 2))) void lks_complain(const char *format, ...);
/* A hint at --help after wrong usage; returns the exit status 2. */
int lks_usage_error(const char *command);

#endif
