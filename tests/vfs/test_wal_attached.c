/*
 * Promise: a transaction over several databases, some of them in WAL mode, is durable in each when COMMIT returns under
 * FULL; which syncs of a log may be put off, and which never: with a super-journal, where SQLite passes over errors of
 * the commit's second phase, and where the connection's main database is not Lockstep's.
 *
 * The probe is below Lockstep and below the stock databases; it counts the writes to logs that no sync has followed.
 *
 * Made to fail by: not waiting for a ticket; putting off under a super-journal; putting off under a foreign main.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "vfs/probe_vfs.h"
#include "vfs/vfstest.h"

/* a is main, b and c are attached. */
static const struct combination {
    const char *what;
    const char *vfs[3];  /* NULL: not there */
    const char *mode[3];
    bool put_off;        /* of every log that is Lockstep's */
    bool super_journal;
} combinations[] = {
    {"WAL and WAL", {"lockstep", "lockstep", NULL}, {"wal", "wal", NULL}, true, false},
    {"WAL and store", {"lockstep", "lockstep", NULL}, {"wal", "delete", NULL}, true, false},
    {"store and WAL", {"lockstep", "lockstep", NULL}, {"delete", "wal", NULL}, true, false},
    {"WAL, store and store", {"lockstep", "lockstep", "lockstep"}, {"wal", "delete", "delete"}, false, true},
    {"store, WAL and store", {"lockstep", "lockstep", "lockstep"}, {"delete", "wal", "delete"}, false, true},
    {"WAL and stock WAL", {"lockstep", "probe", NULL}, {"wal", "wal", NULL}, true, false},
    {"stock WAL and WAL", {"probe", "lockstep", NULL}, {"wal", "wal", NULL}, false, false},
    {"stock DELETE and WAL", {"probe", "lockstep", NULL}, {"delete", "wal", NULL}, false, false},
    {"stock DELETE, WAL, stock DELETE", {"probe", "lockstep", "probe"}, {"delete", "wal", "delete"}, false, true},
};

static const char *const names[3] = {"main", "b", "c"};

static sqlite3 *
make(const struct combination *c)
{
    sqlite3 *db;
    char uri[80];
    int i;
    probe_register();
    ck_assert_int_eq(lockstep_initialize("probe", 0), SQLITE_OK);
    for (i = 0; i < 3 && c->vfs[i] != NULL; i++) {
        snprintf(uri, sizeof uri, "file:%c.db?vfs=%s&worker=off", 'a' + i, c->vfs[i]);
        if (i == 0)
            ck_assert_int_eq(sqlite3_open_v2(uri, &db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_URI,
                                             NULL), SQLITE_OK);
        else
            must(db, "attach '%s' as %s", uri, names[i]);
        check_text(must(db, "pragma %s.journal_mode = %s", names[i], c->mode[i]), c->mode[i]);
        must(db, "pragma %s.synchronous = full; create table %s.t(v)", names[i], names[i]);
    }
    return db;
}

/* One row in each. */
static const char *
commit_all(sqlite3 *db, const struct combination *c, int value)
{
    int i;
    must(db, "begin immediate");
    for (i = 0; i < 3 && c->vfs[i] != NULL; i++)
        must(db, "insert into %s.t values(%d)", names[i], value);
    (void)probe_events();
    return sql(db, "commit");
}

/* The same number of rows in each, by stock SQLite after all have closed. */
static void
check_rows(const struct combination *c, const char *want)
{
    int i;
    for (i = 0; i < 3 && c->vfs[i] != NULL; i++) {
        char name[8];
        sqlite3 *db;
        snprintf(name, sizeof name, "%c.db", 'a' + i);
        db = open_stock(name);
        check_text(must(db, "pragma integrity_check"), "ok");
        ck_assert_msg(strcmp(must(db, "select count(*) from t"), want) == 0, "%s: %s has %s rows", c->what, name,
                      must(db, "select count(*) from t"));
        close_db(db);
    }
}

START_TEST(a_commit_over_several_databases_is_durable_in_each)
{
    const struct combination *c = &combinations[_i];
    sqlite3 *db = make(c);
    const char *text, *let_go, *synced;
    int i, at;
    for (i = 0; i < 5; i++) {
        (void)probe_at_super_journal();
        check_text(commit_all(db, c, i), "");
        ck_assert_msg(probe_unsynced() == 0, "%s: %u writes to logs are not synced", c->what, probe_unsynced());
        text = probe_events();
        let_go = strchr(text, 'w');
        synced = strchr(text, 's');
        ck_assert_msg(let_go != NULL && synced != NULL, "%s: %s", c->what, text);
        /* A stock log syncs before it lets go, beside ours. */
        if (strcmp(c->vfs[1], "lockstep") == 0)
            ck_assert_msg((let_go < synced) == c->put_off, "%s: %s", c->what, text);
        at = probe_at_super_journal();
        ck_assert_msg((at >= 0) == c->super_journal, "%s: super-journal: %d", c->what, at);
        ck_assert_msg(at <= 0, "%s: %d writes to logs are not synced where the super-journal goes", c->what, at);
    }
    close_db(db);
    check_rows(c, "5");
}
END_TEST

/* Where a sync of a log fails COMMIT says so; under a super-journal, nothing is committed anywhere. */
START_TEST(a_failed_sync_fails_the_commit_over_several_databases)
{
    const struct combination *c = &combinations[_i];
    sqlite3 *db = make(c);
    const char *text;
    int i;
    check_text(commit_all(db, c, 1), "");
    probe_fail_syncs(1);
    text = commit_all(db, c, 2);
    ck_assert_msg(strncmp(text, "error 1034:", 11) == 0, "%s: %s", c->what, text);
    ck_assert_uint_eq(probe_hits(), 1);
    if (!sqlite3_get_autocommit(db))
        must(db, "rollback");
    for (i = 0; i < 3 && c->super_journal && c->vfs[i] != NULL; i++)
        ck_assert_msg(strcmp(must(db, "select count(*) from %s.t", names[i]), "1") == 0, "%s: %s", c->what, names[i]);
    close_db(db);
}
END_TEST

static Suite *
make_suite(void)
{
    Suite *suite = suite_create("wal attached");
    TCase *tcase = vfstest_case(suite, "wal attached");
    int n = (int)(sizeof combinations / sizeof combinations[0]);
    tcase_add_loop_test(tcase, a_commit_over_several_databases_is_durable_in_each, 0, n);
    tcase_add_loop_test(tcase, a_failed_sync_fails_the_commit_over_several_databases, 0, n);
    return suite;
}

int
main(int argc, char **argv)
{
    return vfstest_main(argc, argv, make_suite);
}
