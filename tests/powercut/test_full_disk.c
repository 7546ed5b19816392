/*
 * Guards the growth of the coordination file by posix_fallocate(), and promise 7, on a disk that is really
 * full: a small tmpfs, mounted in a mount namespace of the test's own.
 *
 * What is not reserved before it is touched kills the process with SIGBUS here; what a full disk refuses must
 * be SQLITE_FULL, and good again once there is space.
 *
 * How it was made to fail: with ftruncate() in the place of posix_fallocate() all three die of SIGBUS; with a failed batch
 * called written, commits do not wait for space.
 */
#include <check.h>
#include <errno.h>
#include <lockstep/lockstep.h>
#include <stdio.h>
#include <sys/stat.h>

#include "harness/disk.h"
#include "powercut/history.h"
#include "powercut/scratch.h"

static void
enter(void)
{
    scratch_enter();
    disk_mount(scratch_path("disk"));
    ck_assert_int_eq(lockstep_initialize(NULL, 0), SQLITE_OK);
}

static void
leave(void)
{
    disk_unmount();
    scratch_leave();
}

static int
run(sqlite3 *db, const char *text)
{
    return sqlite3_exec(db, text, NULL, NULL, NULL);
}

static void
must_be(sqlite3 *db, int64_t newest)
{
    char why[HISTORY_WHY] = "";
    int64_t n = HISTORY_NONE;
    int rc;
    bool good = history_check(db, newest, &n, &rc, why);
    ck_assert_msg(good, "%d %s", rc, why);
    ck_assert_int_eq(n, newest);
}

static void
must_be_in_the_file(int64_t newest)
{
    sqlite3 *db;
    ck_assert_int_eq(sqlite3_open_v2(scratch_path("disk/a.db"), &db, SQLITE_OPEN_READWRITE, "unix"),
                     SQLITE_OK);
    must_be(db, newest);
    ck_assert_int_eq(sqlite3_close(db), SQLITE_OK);
}

static sqlite3 *
make_database(const char *parameters)
{
    sqlite3 *db = scratch_open("disk/a.db", parameters);
    sqlite3_busy_timeout(db, 2000);
    ck_assert_int_eq(history_create(db), SQLITE_OK);
    ck_assert_int_eq(run(db, "create table bulk(v)"), SQLITE_OK);
    ck_assert_int_eq(lockstep_flush(db), SQLITE_OK);
    return db;
}

START_TEST(a_store_that_cannot_grow_refuses_the_transaction)
{
    sqlite3 *db = make_database("durability=async");
    int64_t n = 0;
    int round;
    disk_fill(200000);
    for (round = 0; round < 3; round++)
        ck_assert_int_eq(run(db, "insert into bulk values(randomblob(3000000))"), SQLITE_FULL);
    ck_assert_int_eq(sqlite3_get_autocommit(db), 1);
    must_be(db, 0);
    /* A small one finds room in what the store has. */
    ck_assert_int_eq(history_commit(db, &n), SQLITE_OK);
    disk_make_space();
    ck_assert_int_eq(run(db, "insert into bulk values(randomblob(3000000)); delete from bulk"), SQLITE_OK);
    ck_assert_int_eq(history_commit(db, &n), SQLITE_OK);
    ck_assert_int_eq(lockstep_flush(db), SQLITE_OK);
    must_be(db, 2);
    ck_assert_int_eq(sqlite3_close(db), SQLITE_OK);
    must_be_in_the_file(2);
}
END_TEST

/* A batch that fails is undone, and with that its journal is removed, so the next one finds room: this much at most. */
static uint64_t
journal_bytes(void)
{
    struct stat st;
    ck_assert_int_eq(stat(scratch_path("disk/a.db-journal"), &st), 0);
    return (uint64_t)st.st_blocks * 512;
}

START_TEST(commits_wait_for_space_on_the_disk)
{
    sqlite3 *db = make_database("max_lag=5"), *async = scratch_open("disk/a.db", "durability=async");
    struct lockstep_db_info info;
    int64_t n = 0, i;
    disk_fill(0);
    /* The file has to grow by more, however often it is tried; the store has room for it. */
    ck_assert_uint_lt(journal_bytes(), 400000);
    ck_assert_int_eq(run(async, "insert into bulk values(randomblob(400000))"), SQLITE_OK);
    for (i = 1; i <= 20; i++)
        ck_assert_int_eq(history_commit(async, &n), SQLITE_OK);
    ck_assert_int_eq(history_commit(db, &n), SQLITE_FULL);
    ck_assert_int_eq(n, 21);
    ck_assert_int_eq(lockstep_status(db, &info), SQLITE_OK);
    ck_assert_int_eq(info.last_error, ENOSPC);
    must_be(db, 21);
    disk_make_space();
    if (lockstep_flush(db) != SQLITE_OK) /* a batch that had begun before */
        ck_assert_int_eq(lockstep_flush(db), SQLITE_OK);
    ck_assert_int_eq(history_commit(db, &n), SQLITE_OK);
    ck_assert_int_eq(sqlite3_close(async), SQLITE_OK);
    ck_assert_int_eq(sqlite3_close(db), SQLITE_OK);
    must_be_in_the_file(22);
}
END_TEST

/* In WAL mode: what does not fit is rolled back, what is committed stays, and all is well once there is space. */
START_TEST(a_log_that_cannot_grow_refuses_the_transaction)
{
    sqlite3 *db = scratch_open("disk/a.db", ""), *other;
    int64_t n = 0, newest = 0;
    int rc, round;
    sqlite3_busy_timeout(db, 2000);
    ck_assert_int_eq(run(db, "pragma journal_mode = wal"), SQLITE_OK);
    ck_assert_int_eq(history_create(db), SQLITE_OK);
    ck_assert_int_eq(run(db, "create table bulk(v)"), SQLITE_OK);
    other = scratch_open("disk/a.db", "");
    must_be(other, 0);
    disk_fill(200000);
    for (round = 0; round < 3; round++) {
        ck_assert_int_eq(run(db, "insert into bulk values(randomblob(3000000))"), SQLITE_FULL);
        ck_assert_int_eq(sqlite3_get_autocommit(db), 1);
        must_be(other, 0);
    }
    /* Small ones, until there is no room for these either. */
    while ((rc = history_commit(db, &n)) == SQLITE_OK && newest < 10000)
        newest = n;
    ck_assert_int_eq(rc, SQLITE_FULL);
    if (!sqlite3_get_autocommit(db))
        ck_assert_int_eq(run(db, "rollback"), SQLITE_OK);
    must_be(db, newest);
    must_be(other, newest);
    disk_make_space();
    ck_assert_int_eq(history_commit(other, &n), SQLITE_OK);
    ck_assert_int_eq(history_commit(db, &n), SQLITE_OK);
    ck_assert_int_eq(n, newest + 2);
    ck_assert_int_eq(sqlite3_close(other), SQLITE_OK);
    ck_assert_int_eq(sqlite3_close(db), SQLITE_OK);
    must_be_in_the_file(newest + 2);
}
END_TEST

START_TEST(a_full_disk_has_no_room_to_connect)
{
    sqlite3 *db = make_database("");
    int64_t n = 0;
    ck_assert_int_eq(sqlite3_close(db), SQLITE_OK);
    disk_fill(20000);
    db = scratch_open("disk/a.db", "");
    ck_assert_int_eq(history_commit(db, &n), SQLITE_FULL);
    disk_make_space();
    ck_assert_int_eq(history_commit(db, &n), SQLITE_OK);
    ck_assert_int_eq(sqlite3_close(db), SQLITE_OK);
    must_be_in_the_file(1);
}
END_TEST

int
main(void)
{
    Suite *suite = suite_create("full disk");
    TCase *tcase = tcase_create("full disk");
    SRunner *runner;
    int failed;
    if (!disk_is_possible()) {
        printf("skipped: a tmpfs cannot be mounted here\n");
        return 77;
    }
    tcase_add_checked_fixture(tcase, enter, leave);
    tcase_add_test(tcase, a_store_that_cannot_grow_refuses_the_transaction);
    tcase_add_test(tcase, commits_wait_for_space_on_the_disk);
    tcase_add_test(tcase, a_log_that_cannot_grow_refuses_the_transaction);
    tcase_add_test(tcase, a_full_disk_has_no_room_to_connect);
    suite_add_tcase(suite, tcase);
    runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
