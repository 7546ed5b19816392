/* What the tests of WAL mode share: the database a.db, through Lockstep over the probe. */
#ifndef TESTS_VFS_WALTEST_H
#define TESTS_VFS_WALTEST_H

#include <sqlite3.h>

/*
 * In WAL mode, with a table t(k, v) and nothing in its log; 0: SQLite's own size of a page.  worker=off in
 * the parameters: nothing happens beside.
 */
sqlite3 *waltest_make(const char *parameters, int page_size);
/* All have closed: there is no log, nothing else is left, and stock SQLite finds so many rows. */
void waltest_left_whole(const char *rows);

#endif
