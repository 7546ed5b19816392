/* hello: one row through Lockstep, in an ordinary SQLite database.  Usage: hello [DATABASE] */
#include <stdio.h>

#include <sqlite3.h>

#include <lockstep/lockstep.h>

int
main(int argc, char **argv)
{
    sqlite3 *db = NULL;
    const char *name = argc > 1 ? argv[1] : "hello.db";
    char *uri = sqlite3_mprintf("file:%s?vfs=lockstep&durability=async", name);

    int rc = lockstep_initialize(NULL, 0); /* registers the VFS; the default one stays */
    if (rc == SQLITE_OK)
        rc = sqlite3_open_v2(uri, &db,
                             SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_URI, NULL);
    if (rc == SQLITE_OK)
        rc = sqlite3_busy_timeout(db, 5000);
    if (rc == SQLITE_OK) /* returns when every process sees the row; the disk gets it later ... */
        rc = sqlite3_exec(db,
                          "CREATE TABLE IF NOT EXISTS visit(at TEXT);"
                          "INSERT INTO visit VALUES (datetime('now'));",
                          NULL, NULL, NULL);
    if (rc == SQLITE_OK) /* ... which this waits for */
        rc = sqlite3_exec(db, "PRAGMA lockstep_flush", NULL, NULL, NULL);
    if (rc == SQLITE_OK)
        printf("visit %lld is on disk\n", (long long)sqlite3_last_insert_rowid(db));
    else
        fprintf(stderr, "hello: %s\n", db != NULL ? sqlite3_errmsg(db) : sqlite3_errstr(rc));
    sqlite3_close(db);
    sqlite3_free(uri);
    return rc == SQLITE_OK ? 0 : 1;
}
