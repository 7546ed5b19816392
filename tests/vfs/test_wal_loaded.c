/*
 * Promise: loaded as an extension, too, Lockstep's connections make no automatic checkpoint: past 1000 frames the thread in
 * the background writes back, not the connection that commits; with checkpoint=off nobody does.
 *
 * What is loaded is lockstep.so as it is built, over the probe as the program's default VFS; the copy of Lockstep that this
 * program is linked with is shut down first.  tests/tools/test-loaded.sh does the same with the sqlite3 shell.
 *
 * Made to fail by: not marking the end of a commit, see lks_wal_mark() (the connection checkpoints); a background that does
 * not look at checkpoint_off.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "vfs/probe_vfs.h"
#include "vfs/vfstest.h"

#define COMMITS 1500
#define PATIENCE_S 10

static bool
is_built(void)
{
    return getenv("LKS_LOADABLE") != NULL && access(getenv("LKS_LOADABLE"), R_OK) == 0;
}

static void
load(void)
{
    sqlite3 *db;
    char *error = NULL;
    ck_assert_int_eq(lockstep_shutdown(), SQLITE_OK);
    ck_assert_ptr_null(sqlite3_vfs_find("lockstep"));
    probe_register();
    ck_assert_int_eq(sqlite3_vfs_register(sqlite3_vfs_find("probe"), 1), SQLITE_OK);
    ck_assert_int_eq(sqlite3_open(":memory:", &db), SQLITE_OK);
    ck_assert_int_eq(sqlite3_db_config(db, SQLITE_DBCONFIG_ENABLE_LOAD_EXTENSION, 1, NULL), SQLITE_OK);
    ck_assert_msg(sqlite3_load_extension(db, getenv("LKS_LOADABLE"), NULL, &error) == SQLITE_OK, "%s", error);
    close_db(db);
    ck_assert_str_eq(sqlite3_vfs_find(NULL)->zName, "lockstep");
}

/* By the default VFS, as a program does that knows nothing of it. */
static sqlite3 *
open_default(const char *uri)
{
    sqlite3 *db;
    ck_assert_int_eq(sqlite3_open_v2(uri, &db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_URI, NULL),
                     SQLITE_OK);
    sqlite3_busy_timeout(db, 5000);
    check_text(must(db, "pragma journal_mode = wal"), "wal");
    must(db, "pragma synchronous = normal; create table t(k integer primary key, v);"
             "pragma wal_checkpoint(truncate)");
    (void)probe_events();
    return db;
}

static void
commit_many(sqlite3 *db)
{
    int i;
    for (i = 0; i < COMMITS; i++)
        must(db, "insert into t(v) values(randomblob(3000))");
}

static int
checkpoints_of(sqlite3 *db)
{
    const char *status = must(db, "pragma lockstep_status"), *found = strstr(status, "\"checkpoints\":");
    ck_assert_msg(found != NULL, "%s", status);
    return atoi(found + strlen("\"checkpoints\":"));
}

START_TEST(a_commit_makes_no_checkpoint_and_the_background_does)
{
    sqlite3 *db;
    const char *mine;
    time_t end = time(NULL) + PATIENCE_S;
    load();
    db = open_default("a.db");
    commit_many(db);
    while (checkpoints_of(db) == 0) {
        ck_assert_int_le(time(NULL), end);
        usleep(1000);
    }
    mine = probe_events();
    /* The connection's own thread took no checkpoint lock and wrote no page. */
    ck_assert_msg(strpbrk(mine, "fh") != NULL && strpbrk(mine, "dD") == NULL, "%s", mine);
    ck_assert_uint_gt(probe_total('d'), 100);
    ck_assert_uint_gt(probe_total('D'), 0);
    check_text(must(db, "select count(*) from t"), "1500");
    close_db(db);
    ck_assert(!file_exists("a.db-lockstep"));
    ck_assert(!file_exists("a.db-wal"));
}
END_TEST

START_TEST(with_checkpoint_off_nobody_does)
{
    sqlite3 *db;
    unsigned pages;
    load();
    db = open_default("file:a.db?checkpoint=off&max_lag=10");
    pages = probe_total('d');
    commit_many(db);
    /* So that the background has had its turn: it syncs the log. */
    must(db, "pragma lockstep_wait");
    ck_assert_int_eq(checkpoints_of(db), 0);
    ck_assert_uint_eq(probe_total('d'), pages);
    ck_assert_int_gt(file_size("a.db-wal"), COMMITS * 3000);
    close_db(db);
}
END_TEST

static Suite *
make_suite(void)
{
    Suite *suite = suite_create("wal loaded");
    TCase *tcase = vfstest_case(suite, "wal loaded");
    tcase_add_test(tcase, a_commit_makes_no_checkpoint_and_the_background_does);
    tcase_add_test(tcase, with_checkpoint_off_nobody_does);
    return suite;
}

int
main(int argc, char **argv)
{
    if (!is_built()) {
        puts("skipped: lockstep.so is not built");
        return 77;
    }
    return vfstest_main(argc, argv, make_suite);
}
