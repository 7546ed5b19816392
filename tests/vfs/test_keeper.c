/*
 * Promise: what is left after the passes over a log that go on beside writers is written back with the writers held off, if it is
 * short; if it is long, only when the log is half as long as it may be.
 *
 * lockstep_run() makes the passes, in the calling thread.  In those beside writers another connection commits when the
 * database is synced; the last one holds writers off.  Each takes CKPT, which the probe counts.
 *
 * Made to fail by: holding writers off whatever is left; only if it is short; only if the log is long; only beyond the limit; one
 * pass beside writers.
 */
#include <stdio.h>

#include "vfs/probe_vfs.h"
#include "vfs/vfstest.h"

static sqlite3 *other;
static const struct scene {
    const char *parameters;
    int frames;      /* written in each pass */
    unsigned beside; /* so many passes go on beside writers */
    unsigned passes; /* in all */
} scenes[] = {
    {"worker=off", 100, 1, 2},
    {"worker=off", 300, 2, 2},
    {"worker=off&wal_limit=9000000", 300, 2, 3}, /* the log has 1600 frames, 6.6 MB */
    {"worker=off&wal_limit=20000000", 300, 2, 2},
};
static const struct scene *scene;
static unsigned passes;

static void
commit_in_pass(void)
{
    if (++passes <= scene->beside)
        must(other, "insert into t(v) values(zeroblob(%d))", scene->frames * 4096);
}

START_TEST(a_long_rest_holds_writers_off_only_when_the_log_is_long)
{
    sqlite3 *db;
    unsigned before;
    scene = &scenes[_i];
    probe_register();
    ck_assert_int_eq(lockstep_initialize("probe", 0), SQLITE_OK);
    db = open_ours("a.db", scene->parameters);
    must(db, "pragma journal_mode = wal");
    must(db, "pragma wal_autocheckpoint = 0; create table t(k integer primary key, v)");
    other = open_ours("a.db", scene->parameters);
    must(other, "pragma wal_autocheckpoint = 0; insert into t(v) values(zeroblob(4096000))");
    passes = 0;
    before = probe_total('C');
    probe_at('D', commit_in_pass);
    ck_assert_int_eq(lockstep_run(db), SQLITE_OK);
    probe_at(0, NULL);
    ck_assert_uint_eq(probe_total('C') - before, scene->passes);
    close_db(other);
    close_db(db);
    ck_assert(!file_exists("a.db-wal"));
}
END_TEST

static Suite *
make_suite(void)
{
    Suite *suite = suite_create("keeper");
    TCase *tcase = vfstest_case(suite, "keeper");
    tcase_add_loop_test(tcase, a_long_rest_holds_writers_off_only_when_the_log_is_long, 0,
                        (int)(sizeof scenes / sizeof scenes[0]));
    return suite;
}

int
main(int argc, char **argv)
{
    return vfstest_main(argc, argv, make_suite);
}
