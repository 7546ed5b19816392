/*
 * A program as they were written for SQLite's asynchronous VFS: of Lockstep it knows nothing but the folder of the
 * header.
 */
#include <pthread.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "sqlite3async.h"

#define MUST(call)                                                                                 \
    do {                                                                                           \
        int rc_ = (call);                                                                          \
        if (rc_ != SQLITE_OK) {                                                                    \
            fprintf(stderr, "line %d: %s: %d\n", __LINE__, #call, rc_);                            \
            exit(1);                                                                               \
        }                                                                                          \
    } while (0)

static void *
writer_thread(void *unused)
{
    (void)unused;
    sqlite3async_run();
    return NULL;
}

static int
count(const char *path, const char *vfs)
{
    sqlite3 *db;
    sqlite3_stmt *statement;
    int n;
    MUST(sqlite3_open_v2(path, &db, SQLITE_OPEN_READONLY, vfs));
    MUST(sqlite3_prepare_v2(db, "SELECT count(*) FROM t", -1, &statement, NULL));
    n = sqlite3_step(statement) == SQLITE_ROW ? sqlite3_column_int(statement, 0) : -1;
    sqlite3_finalize(statement);
    sqlite3_close(db);
    return n;
}

int
main(void)
{
    char folder[] = "/tmp/lockstep-program-XXXXXX", path[64];
    pthread_t writer;
    sqlite3 *db;
    int now = SQLITEASYNC_HALT_IDLE, i;

    if (mkdtemp(folder) == NULL)
        return 1;
    snprintf(path, sizeof path, "%s/a.db", folder);
    MUST(sqlite3async_initialize(NULL, 1));
    MUST(sqlite3async_control(SQLITEASYNC_GET_HALT, &now));
    if (now != SQLITEASYNC_HALT_NEVER || strcmp(sqlite3_vfs_find(NULL)->zName, SQLITEASYNC_VFSNAME) != 0)
        return 2;
    MUST(sqlite3async_control(SQLITEASYNC_LOCKFILES, 1));
    MUST(sqlite3async_control(SQLITEASYNC_DELAY, 1));
    MUST(pthread_create(&writer, NULL, writer_thread, NULL));
    MUST(sqlite3_open(path, &db));
    MUST(sqlite3_exec(db, "CREATE TABLE t(v)", NULL, NULL, NULL));
    for (i = 0; i < 50; i++)
        MUST(sqlite3_exec(db, "INSERT INTO t VALUES(1)", NULL, NULL, NULL));
    if (count(path, NULL) != 50)
        return 3;
    /* First the writer, then the database, as one did; the other order is in test_runner.c. */
    MUST(sqlite3async_control(SQLITEASYNC_HALT, SQLITEASYNC_HALT_IDLE));
    MUST(pthread_join(writer, NULL));
    if (count(path, "unix") != 50)
        return 4;
    MUST(sqlite3_close(db));
    sqlite3async_shutdown();
    if (sqlite3_vfs_find(SQLITEASYNC_VFSNAME) != NULL || unlink(path) != 0 || rmdir(folder) != 0)
        return 5;
    return 0;
}
