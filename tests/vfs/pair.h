/* Two connections, of which one goes through Lockstep and the other does not: what SQLite does by itself is the judge. */
#ifndef TESTS_VFS_PAIR_H
#define TESTS_VFS_PAIR_H

#include <sqlite3.h>

/* They are given the same SQL: one to stock.db, one to ours.db through Lockstep. */
struct pair {
    sqlite3 *stock;
    sqlite3 *ours;
    const char *parameters;
};
void pair_open(struct pair *pair, const char *parameters);
void pair_close(struct pair *pair);
/* The same SQL on both, with the same result; '@' stands for "stock" and "ours". */
void pair_sql(struct pair *pair, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Closes both: the files are the same byte for byte, and nothing is left beside them. */
void pair_finish(struct pair *pair);

#endif
