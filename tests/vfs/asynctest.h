/*
 * What the tests of the VFS "sqlite3async" share: databases, runs in threads, and a VFS "gate" below all of it that
 * holds operations up, or lets them fail, when told to.
 */
#ifndef TESTS_VFS_ASYNCTEST_H
#define TESTS_VFS_ASYNCTEST_H

#include <lockstep/sqlite3async.h>
#include <pthread.h>

#include "vfs/vfstest.h"

/* Registers both VFS over "gate"; before a test. */
void async_begin(void);
/* Opens "file:<name>?<parameters>" through sqlite3async, which must succeed. */
sqlite3 *open_async(const char *name, const char *parameters);
/* The same with `create table t(v)` in it, all written. */
sqlite3 *make_async(const char *name, const char *parameters);

void halt(int when);
/* sqlite3async_run() with HALT_IDLE, in this thread. */
void run_idle(void);
void start_run(pthread_t *out_thread);
void end_run(pthread_t thread, int when);

/* Commits that are not in the file. */
unsigned long long waiting(sqlite3 *db);
/* Until none waits; fails after some seconds. */
void until_written(sqlite3 *db);
/* Rows of t that stock SQLite finds in the file. */
int stock_count(const char *name);

/* From now on writes to files whose names contain `part` fail; NULL: none do. */
void gate_fail(const char *part);
/* The next write to such a file, and all others, wait for gate_open(). */
void gate_close(const char *part);
/* Until somebody waits there. */
void gate_reached(void);
void gate_open(void);

#endif
