/*
 * Guards promise 7 (an I/O error is never swallowed, and touches nobody else's database) and what goes with
 * it: nothing that waits is lost, stock readers never see a torn state meanwhile, and after a failed sync, which
 * leaves the kernel calling pages clean that are not on the disk, a batch is written again before it is called
 * durable.  In lib/: note_failure() and undo() in store/batch.c, the states of store/journal.c, failure() in
 * store/ticket.c, the limits in store/space.c.
 *
 * Faults are injected below the library (fault_vfs.h), what reaches the disk is recorded (recorder_vfs.h), and
 * the record is cut everywhere (replay.h), where a failed sync loses what was unsynced for good.
 *
 * How it was made to fail: a_failed_sync_that_nobody_hears_of_is_found_out() lets a sync fail without telling
 * the library, which is what the record of a library looks like that does not write again; the replay must
 * find the loss.  With undo() not rolling back, with the result of the database's sync ignored, with
 * failures not counted, and without the syncs in lks_journal_rollback() (that of the database; or those of the
 * journal and of its removal, of which one is enough), the others fail.
 */
#include <check.h>
#include <errno.h>
#include <lockstep/lockstep.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "powercut/fault_vfs.h"
#include "powercut/history.h"
#include "powercut/image.h"
#include "powercut/recorder_vfs.h"
#include "powercut/replay.h"
#include "powercut/scratch.h"

#define BUSY_READER (-2)

static char program[4096];

static void
enter(void)
{
    scratch_enter();
    recorder_register();
    fault_register();
    ck_assert_int_eq(lockstep_initialize("faulty", 0), SQLITE_OK);
    recorder_start(scratch_path("a.db"));
    fault_target(scratch_path("a.db"));
}

static struct lockstep_db_info
status_of(sqlite3 *db)
{
    struct lockstep_db_info info;
    ck_assert_int_eq(lockstep_status(db, &info), SQLITE_OK);
    return info;
}

/* ---------------------------------------------------------------------------------------- a stock reader */

/* In a process of its own: prints the commit that it finds, "busy", or what is wrong. */
static int
reader_main(const char *path, const char *newest)
{
    char why[HISTORY_WHY] = "";
    int64_t n = HISTORY_NONE;
    sqlite3 *db;
    int rc = sqlite3_open_v2(path, &db, SQLITE_OPEN_READWRITE, "unix");
    if (rc == SQLITE_OK && history_check(db, atoll(newest), &n, &rc, why))
        printf("%lld\n", (long long)n);
    else if ((rc & 0xff) == SQLITE_BUSY)
        printf("busy\n");
    else
        printf("%d %s\n", rc, why);
    sqlite3_close(db);
    return 0;
}

/* The commit that stock SQLite sees in a.db, or BUSY_READER. */
static int64_t
stock_sees(int64_t newest)
{
    char command[9000], answer[HISTORY_WHY + 50] = "", *end;
    FILE *pipe;
    int64_t n;
    snprintf(command, sizeof command, "'%s' reader '%s' %lld", program, scratch_path("a.db"),
             (long long)newest);
    pipe = popen(command, "r");
    ck_assert_ptr_nonnull(pipe);
    ck_assert_ptr_nonnull(fgets(answer, sizeof answer, pipe));
    pclose(pipe);
    if (strcmp(answer, "busy\n") == 0)
        return BUSY_READER;
    n = strtoll(answer, &end, 10);
    ck_assert_msg(*end == '\n', "a stock reader: the database %s", answer);
    return n;
}

/* ----------------------------------------------------------------------------------------------- steps */

static int64_t
must_commit(sqlite3 *db)
{
    int64_t n = -1;
    int rc = history_commit(db, &n);
    ck_assert_msg(rc == SQLITE_OK, "commit: %d %s\n%s", rc, sqlite3_errmsg(db), scratch_log());
    return n;
}

/* A FULL commit of a.db, noted in the record. */
static int64_t
must_commit_durably(sqlite3 *a)
{
    int64_t n = must_commit(a);
    recorder_durable(n);
    return n;
}

static sqlite3 *
make_database(const char *name, const char *parameters)
{
    sqlite3 *db = scratch_open(name, parameters);
    sqlite3_busy_timeout(db, 5000);
    ck_assert_int_eq(history_create(db), SQLITE_OK);
    return db;
}

/* The disk works again: everything becomes durable.  A batch that failed at the end may still be counted. */
static void
must_recover(sqlite3 *a, int64_t newest)
{
    struct lockstep_db_info info;
    int rc;
    fault_clear();
    rc = lockstep_flush(a);
    if (rc != SQLITE_OK)
        rc = lockstep_flush(a);
    ck_assert_msg(rc == SQLITE_OK, "flush: %d\n%s", rc, scratch_log());
    recorder_durable(newest);
    info = status_of(a);
    ck_assert_uint_eq(info.durable, info.committed);
    ck_assert_uint_eq(info.flushed, info.committed);
    ck_assert_uint_eq(info.last_error, 0);
    ck_assert_int_eq(stock_sees(newest), newest);
}

static struct replay_result
cut(uint64_t seed, int64_t newest, unsigned at_sync, struct image_checker *checker)
{
    struct replay_plan plan = {.seed = seed,
                               .syncs_per_mille = 1000,
                               .at_sync = scratch_soak() ? 10 * at_sync : at_sync,
                               .elsewhere_per_mille = 50,
                               .most = 1000000,
                               .check = image_check,
                               .arg = checker};
    checker->newest = newest;
    return replay(&plan);
}

/* The record is that of a library which keeps its promises. */
static void
must_survive_cuts(int64_t newest)
{
    uint64_t seed = scratch_seed();
    struct image_checker checker = {0};
    struct replay_result result = cut(seed, newest, 2, &checker);
    ck_assert_msg(!result.stopped, "%s\n%s", checker.why, scratch_log());
    ck_assert_uint_gt(result.images, 10);
}

/* ------------------------------------------------------------------------------------------------ tests */

/* Each holds from the nth operation on until it is cleared. */
static const struct fault periods[] = {
    {.role = RECORDER_JOURNAL, .op = FAULT_WRITE, .error = FAULT_FULL, .nth = 1},
    {.role = RECORDER_JOURNAL, .op = FAULT_WRITE, .error = FAULT_IO, .nth = 2},
    {.role = RECORDER_JOURNAL, .op = FAULT_WRITE, .error = FAULT_FULL, .nth = 3},
    {.role = RECORDER_JOURNAL, .op = FAULT_WRITE, .error = FAULT_IO, .nth = 4},
    {.role = RECORDER_JOURNAL, .op = FAULT_SYNC, .error = FAULT_IO, .nth = 1},
    {.role = RECORDER_JOURNAL, .op = FAULT_SYNC, .error = FAULT_FULL, .nth = 2},
    {.role = RECORDER_JOURNAL, .op = FAULT_OPEN, .error = FAULT_FULL, .nth = 1},
    {.role = RECORDER_JOURNAL, .op = FAULT_OPEN, .error = FAULT_IO, .nth = 1},
    {.role = RECORDER_DATABASE, .op = FAULT_WRITE, .error = FAULT_FULL, .nth = 1},
    {.role = RECORDER_DATABASE, .op = FAULT_WRITE, .error = FAULT_IO, .nth = 1},
    {.role = RECORDER_DATABASE, .op = FAULT_SYNC, .error = FAULT_IO, .nth = 1},
    {.role = RECORDER_DATABASE, .op = FAULT_SYNC, .error = FAULT_FULL, .nth = 1},
};
#define PERIODS (sizeof periods / sizeof periods[0])

/* A.db with three commits; its journal is not open if that is to fail. */
static sqlite3 *
prepare_a(const struct fault *fault)
{
    sqlite3 *a = make_database("a.db", "max_lag=5");
    int i;
    recorder_durable(0);
    for (i = 0; i < 3; i++)
        must_commit_durably(a);
    if (fault->op != FAULT_OPEN)
        return a;
    ck_assert_int_eq(sqlite3_close(a), SQLITE_OK);
    a = scratch_open("a.db", "max_lag=5");
    ck_assert_str_eq(scratch_value(a, "select n from state"), "3");
    return a;
}

/* The fault holds: what the program, the operator, the neighbour and a stock reader see of it. */
static int64_t
suffer(const struct fault *fault, sqlite3 *a, sqlite3 *b)
{
    int expected = fault->error == FAULT_FULL ? SQLITE_FULL : SQLITE_IOERR_FSYNC;
    /* Of an opening that fails SQLite says only that. */
    int number = fault->error == FAULT_FULL ? ENOSPC : fault->op == FAULT_OPEN ? ENOENT : EIO;
    sqlite3 *async = scratch_open("a.db", "durability=async");
    char words[40];
    int64_t n = 0, seen;
    int i;
    for (i = 0; i < 2; i++) {
        ck_assert_int_eq(history_commit(a, &n), expected);
        ck_assert_int_eq(n, 4 + i);
    }
    ck_assert_uint_gt(fault_hits(), 0);
    for (i = 0; i < 10; i++)
        n = must_commit(async);
    ck_assert_int_eq(n, 15);
    ck_assert_str_eq(scratch_value(a, "select n from state"), "15");
    seen = stock_sees(n);
    ck_assert_msg(seen == BUSY_READER || seen >= 3, "a stock reader sees commit %lld", (long long)seen);
    ck_assert_uint_gt(status_of(a).failed_batches, 0);
    ck_assert_int_eq(status_of(a).last_error, number);
    snprintf(words, sizeof words, "\"last_error\":%d", number);
    ck_assert_ptr_nonnull(strstr(scratch_value(a, "pragma lockstep_status"), words));
    ck_assert_msg(scratch_logged("cannot write the commits that wait"), "%s", scratch_log());
    must_commit(b);
    ck_assert_uint_eq(status_of(b).failed_batches, 0);
    ck_assert_int_eq(status_of(b).last_error, 0);
    ck_assert_int_eq(sqlite3_close(async), SQLITE_OK);
    return n;
}

START_TEST(commits_fail_while_the_disk_does_and_are_all_written_afterwards)
{
    const struct fault *fault = &periods[_i];
    sqlite3 *a = prepare_a(fault), *b = make_database("b.db", "");
    int64_t n;
    must_commit(b);
    fault_arm(fault);
    n = suffer(fault, a, b);
    must_recover(a, n);
    ck_assert_int_eq(must_commit_durably(a), n + 1);
    ck_assert_int_eq(sqlite3_close(b), SQLITE_OK);
    ck_assert_int_eq(sqlite3_close(a), SQLITE_OK);
    ck_assert_int_eq(access("a.db-lockstep", F_OK), -1);
    must_survive_cuts(n + 1);
}
END_TEST

/*
 * One operation fails, at each place in a batch.  The commit that waited may get the error, or, if the worker
 * was quicker, the success of the second try; the next one succeeds, and all of them are there.
 */
START_TEST(one_failure_anywhere_loses_nothing)
{
    sqlite3 *a = make_database("a.db", "max_lag=5");
    unsigned role, op, struck = 0, failed = 0;
    int64_t n = 0;
    recorder_durable(0);
    /* Large enough for batches of more than one write. */
    while (n < 40)
        n = must_commit_durably(a);
    for (role = 0; role < RECORDER_ROLES; role++) {
        for (op = FAULT_WRITE; op <= FAULT_SYNC; op++) {
            struct fault fault = {.role = role, .op = op, .error = FAULT_IO, .times = 1};
            for (fault.nth = 1; fault.nth <= 6; fault.nth++) {
                int rc;
                fault_arm(&fault);
                rc = history_commit(a, &n);
                ck_assert_msg(rc == SQLITE_OK || rc == SQLITE_IOERR_FSYNC, "%d", rc);
                if (rc == SQLITE_OK)
                    recorder_durable(n);
                failed += rc != SQLITE_OK;
                struck += fault_hits() > 0;
                fault_clear();
                n = must_commit_durably(a);
            }
        }
    }
    ck_assert_uint_gt(struck, 8);
    printf("%u faults struck, %u commits failed\n", struck, failed);
    ck_assert_uint_gt(failed, 0);
    ck_assert_int_eq(stock_sees(n), n);
    ck_assert_int_eq(sqlite3_close(a), SQLITE_OK);
    must_survive_cuts(n);
}
END_TEST

/* Commit 63 removes most rows, and the file shrinks. */
START_TEST(a_file_that_cannot_be_cut_off_is_later)
{
    static const struct fault fault = {
        .role = RECORDER_DATABASE, .op = FAULT_TRUNCATE, .error = FAULT_IO, .nth = 1};
    sqlite3 *a = scratch_open("a.db", "max_lag=5");
    int64_t n = 0;
    ck_assert_int_eq(sqlite3_exec(a, "pragma auto_vacuum = full", NULL, NULL, NULL), SQLITE_OK);
    ck_assert_int_eq(history_create(a), SQLITE_OK);
    recorder_durable(0);
    while (n < 62)
        n = must_commit_durably(a);
    fault_arm(&fault);
    ck_assert_int_eq(history_commit(a, &n), SQLITE_IOERR_FSYNC);
    ck_assert_uint_gt(fault_hits(), 0);
    ck_assert_int_eq(n, 63);
    must_recover(a, n);
    n = must_commit_durably(a);
    ck_assert_int_eq(sqlite3_close(a), SQLITE_OK);
    must_survive_cuts(n);
}
END_TEST

struct later_checker {
    struct image_checker checker;
    int64_t from;
};

/* Before anything was durable OFF promises nothing. */
static bool
check_once_durable(const struct replay_image *image, void *arg)
{
    struct later_checker *later = arg;
    return image->durable < later->from || image_check(image, &later->checker);
}

/* What was written without a sync, and a later sync could not settle: Linux drops it, so it must be written again. */
START_TEST(what_was_written_for_off_is_made_good_after_a_failed_sync)
{
    /* Not once only: the worker may be the first to try, and then the flush succeeds with the second. */
    static const struct fault fault = {
        .role = RECORDER_DATABASE, .op = FAULT_SYNC, .error = FAULT_IO, .nth = 1};
    sqlite3 *a = make_database("a.db", "max_lag=5"), *off;
    struct later_checker later = {.from = 0};
    struct replay_plan plan = {.seed = scratch_seed(),
                               .syncs_per_mille = 1000,
                               .at_sync = 2,
                               .elsewhere_per_mille = 1000,
                               .most = 1000000,
                               .check = check_once_durable,
                               .arg = &later};
    struct replay_result result;
    struct lockstep_db_info info;
    int64_t n = 0;
    int i;
    recorder_durable(0);
    off = scratch_open("a.db", "durability=off");
    for (i = 0; i < 10; i++)
        n = must_commit(off);
    do
        info = status_of(a);
    while (info.flushed != info.committed);
    ck_assert_uint_lt(info.durable, info.flushed);
    fault_arm(&fault);
    ck_assert_int_eq(lockstep_flush(a), SQLITE_IOERR_FSYNC);
    ck_assert_uint_ge(fault_hits(), 1);
    must_recover(a, n);
    ck_assert(scratch_logged("the file was written anew"));
    ck_assert_int_eq(sqlite3_close(off), SQLITE_OK);
    ck_assert_int_eq(sqlite3_close(a), SQLITE_OK);
    later.from = later.checker.newest = n;
    result = replay(&plan);
    ck_assert_msg(!result.stopped, "%s\n%s", later.checker.why, scratch_log());
}
END_TEST

START_TEST(a_failed_sync_that_nobody_hears_of_is_found_out)
{
    static const enum recorder_role roles[] = {RECORDER_DATABASE, RECORDER_JOURNAL};
    struct fault fault = {
        .role = roles[_i], .op = FAULT_SYNC, .error = FAULT_IO, .nth = 1, .times = 0, .unheard = true};
    sqlite3 *a = make_database("a.db", "max_lag=5");
    struct image_checker checker = {0};
    int64_t n = 0;
    int i;
    recorder_durable(0);
    fault_arm(&fault);
    for (i = 0; i < 10; i++)
        n = must_commit_durably(a);
    ck_assert_uint_ge(fault_hits(), 10);
    fault_clear();
    ck_assert_int_eq(sqlite3_close(a), SQLITE_OK);
    ck_assert_msg(cut(scratch_seed(), n, 20, &checker).stopped, "nobody misses a sync that failed");
    printf("unheard: %s\n", checker.why);
}
END_TEST

START_TEST(asynchronous_commits_go_on_up_to_the_limit)
{
    static const struct fault fault = {
        .role = RECORDER_DATABASE, .op = FAULT_WRITE, .error = FAULT_FULL, .nth = 1};
    sqlite3 *a = make_database("a.db", "durability=async&store_limit=1048576&max_lag=5");
    int64_t n = 0;
    int rc = SQLITE_OK, went = 0;
    ck_assert_int_eq(sqlite3_exec(a, "create table bulk(v)", NULL, NULL, NULL), SQLITE_OK);
    ck_assert_int_eq(lockstep_flush(a), SQLITE_OK);
    recorder_durable(0);
    fault_arm(&fault);
    sqlite3_busy_timeout(a, 50);
    while (rc == SQLITE_OK && went++ < 1000) {
        rc = history_commit(a, &n);
        if (rc == SQLITE_OK)
            rc = sqlite3_exec(a, "insert into bulk values(randomblob(20000))", NULL, NULL, NULL);
    }
    ck_assert_int_eq(rc & 0xff, SQLITE_BUSY);
    ck_assert_int_gt(went, 10);
    ck_assert_uint_le(status_of(a).store_bytes, 1048576);
    ck_assert_int_eq(status_of(a).last_error, ENOSPC);
    sqlite3_busy_timeout(a, 5000);
    must_recover(a, n);
    ck_assert_int_eq(must_commit(a), n + 1);
    ck_assert_int_eq(sqlite3_close(a), SQLITE_OK);
    ck_assert_int_eq(stock_sees(n + 1), n + 1);
    must_survive_cuts(n + 1);
}
END_TEST

/* A stock process does not get the chance to write before the commits are in the file. */
START_TEST(commits_that_cannot_be_written_at_close_are_kept)
{
    static const struct fault faults[] = {
        {.role = RECORDER_DATABASE, .op = FAULT_WRITE, .error = FAULT_FULL, .nth = 1},
        {.role = RECORDER_DATABASE, .op = FAULT_SYNC, .error = FAULT_IO, .nth = 1},
        {.role = RECORDER_JOURNAL, .op = FAULT_DELETE, .error = FAULT_IO, .nth = 1},
    };
    sqlite3 *a = make_database("a.db", "durability=async&max_lag=60000");
    int64_t n = 0;
    int i;
    ck_assert_int_eq(lockstep_flush(a), SQLITE_OK);
    recorder_durable(0);
    fault_arm(&faults[_i]);
    for (i = 0; i < 20; i++)
        n = must_commit(a);
    ck_assert_int_eq(sqlite3_close(a), SQLITE_OK);
    ck_assert_uint_gt(fault_hits(), 0);
    ck_assert_int_eq(access("a.db-lockstep", F_OK), 0);
    ck_assert_msg(scratch_logged("the last commits could not be written"), "%s", scratch_log());
    fault_clear();
    a = scratch_open("a.db", "");
    ck_assert_int_eq(must_commit(a), n + 1);
    recorder_durable(n + 1);
    ck_assert_int_eq(sqlite3_close(a), SQLITE_OK);
    ck_assert_int_eq(access("a.db-lockstep", F_OK), -1);
    ck_assert_int_eq(stock_sees(n + 1), n + 1);
    must_survive_cuts(n + 1);
}
END_TEST

START_TEST(a_database_that_cannot_be_opened_can_be_later)
{
    static const struct fault fault = {
        .role = RECORDER_DATABASE, .op = FAULT_OPEN, .error = FAULT_IO, .nth = 2};
    sqlite3 *a = make_database("a.db", "");
    int64_t n = must_commit(a);
    recorder_durable(n);
    ck_assert_int_eq(sqlite3_close(a), SQLITE_OK);
    /* SQLite's own opening passes, the store's does not. */
    fault_arm(&fault);
    a = scratch_open("a.db", "");
    ck_assert_int_eq(history_commit(a, &n) & 0xff, SQLITE_CANTOPEN);
    ck_assert_uint_gt(fault_hits(), 0);
    ck_assert_int_eq(n, 1);
    fault_clear();
    ck_assert_int_eq(must_commit_durably(a), n + 1);
    ck_assert_int_eq(sqlite3_close(a), SQLITE_OK);
    ck_assert_int_eq(stock_sees(n + 1), n + 1);
    must_survive_cuts(n + 1);
}
END_TEST

int
main(int argc, char **argv)
{
    Suite *suite;
    TCase *tcase;
    SRunner *runner;
    int failed;
    if (argc == 4 && strcmp(argv[1], "reader") == 0)
        return reader_main(argv[2], argv[3]);
    if (readlink("/proc/self/exe", program, sizeof program - 1) < 0)
        return 1;
    suite = suite_create("faults");
    tcase = tcase_create("faults");
    tcase_add_checked_fixture(tcase, enter, scratch_leave);
    tcase_add_loop_test(tcase, commits_fail_while_the_disk_does_and_are_all_written_afterwards, 0,
                        (int)PERIODS);
    tcase_add_test(tcase, one_failure_anywhere_loses_nothing);
    tcase_add_test(tcase, a_file_that_cannot_be_cut_off_is_later);
    tcase_add_loop_test(tcase, a_failed_sync_that_nobody_hears_of_is_found_out, 0, 2);
    tcase_add_test(tcase, what_was_written_for_off_is_made_good_after_a_failed_sync);
    tcase_add_test(tcase, asynchronous_commits_go_on_up_to_the_limit);
    tcase_add_loop_test(tcase, commits_that_cannot_be_written_at_close_are_kept, 0, 3);
    tcase_add_test(tcase, a_database_that_cannot_be_opened_can_be_later);
    suite_add_tcase(suite, tcase);
    runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
