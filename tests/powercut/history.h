/*
 * A database whose whole content follows from the number of its last commit, so that any other content is
 * found out: one that is torn, out of order, or lacks a commit in the middle.
 *
 *   state(k, n, chain)     one row: the number of the last commit, and a checksum run through all commits
 *   data(id, stamp, v)     rows made, changed and removed by commit `stamp`; some with overflow pages
 *   data_stamp             an index on stamp
 *
 * What commit n does is computed from n alone.  Many connections may commit: each takes the next number.
 */
#ifndef TESTS_POWERCUT_HISTORY_H
#define TESTS_POWERCUT_HISTORY_H

#include <sqlite3.h>
#include <stdbool.h>
#include <stdint.h>

#define HISTORY_NONE (-1) /* the tables are not there: before the first commit */
#define HISTORY_WHY 300

/* Commit 0: the tables.  Returns an extended result code. */
int history_create(sqlite3 *db);
/*
 * The next commit.  *out_n is its number, also when COMMIT returned an error.  After any error no transaction
 * is open.
 */
int history_commit(sqlite3 *db, int64_t *out_n);
/*
 * Is the database whole and exactly as after some commit <= newest?  *out_n: that commit or HISTORY_NONE.
 * False with the reason in why; *out_rc is SQLite's code if it could not be read, else SQLITE_OK.
 */
bool history_check(sqlite3 *db, int64_t newest, int64_t *out_n, int *out_rc, char why[HISTORY_WHY]);

#endif
