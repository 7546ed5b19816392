/* Tests of bench/database.c: a benchmark that does not notice a lost commit proves nothing. */
#include "bench/database.h"

#include <check.h>
#include <fcntl.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static char directory[PATH_MAX];
static char original[PATH_MAX + 32];
static char copy[PATH_MAX + 32];

static const struct bench_contents contents = {.rows = 1000, .filler_bytes = 100};

static void
setup(void)
{
    const char *parent = getenv("TMPDIR");
    snprintf(directory, sizeof(directory), "%s/test-database-XXXXXX",
             parent != NULL ? parent : ".");
    ck_assert_ptr_nonnull(mkdtemp(directory));
    snprintf(original, sizeof(original), "%s/original.db", directory);
    snprintf(copy, sizeof(copy), "%s/copy.db", directory);
    ck_assert(bench_database_create(original, &contents));
    ck_assert(bench_database_copy(original, copy, "delete"));
}

static void
teardown(void)
{
    bench_database_remove(original);
    bench_database_remove(copy);
    ck_assert_int_eq(rmdir(directory), 0);
}

static void
run_sql(const char *path, const char *sql)
{
    sqlite3 *db;
    ck_assert_int_eq(sqlite3_open_v2(path, &db, SQLITE_OPEN_READWRITE, "unix"), SQLITE_OK);
    ck_assert_int_eq(sqlite3_exec(db, sql, NULL, NULL, NULL), SQLITE_OK);
    ck_assert_int_eq(sqlite3_close(db), SQLITE_OK);
}

#define ONE_COMMIT                                                     \
    "BEGIN; UPDATE account SET balance = balance + 1 WHERE id = 500;" \
    "INSERT INTO entry(worker, payload) VALUES(0, x'00'); COMMIT;"

START_TEST(a_database_with_all_commits_passes)
{
    const struct bench_expected none = {.alone = true};
    const struct bench_expected two = {.updates = 2, .entries = 2, .alone = true};
    ck_assert(bench_database_check(copy, "test", &none));
    run_sql(copy, ONE_COMMIT ONE_COMMIT);
    ck_assert(bench_database_check(copy, "test", &two));
}
END_TEST

START_TEST(a_lost_commit_is_found)
{
    const struct bench_expected two = {.updates = 2, .entries = 2};
    run_sql(copy, ONE_COMMIT);
    ck_assert(!bench_database_check(copy, "test", &two));
}
END_TEST

START_TEST(half_a_commit_is_found)
{
    const struct bench_expected one = {.updates = 1, .entries = 1};
    run_sql(copy, ONE_COMMIT "DELETE FROM entry;");
    ck_assert(!bench_database_check(copy, "test", &one));
}
END_TEST

START_TEST(a_damaged_page_is_found)
{
    const struct bench_expected none = {0};
    static const char garbage[BENCH_PAGE_BYTES - 200];
    /* Most of the rows of one page of `account`. */
    int fd = open(copy, O_WRONLY);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_gt(pwrite(fd, garbage, sizeof(garbage), 3 * BENCH_PAGE_BYTES + 100), 0);
    close(fd);
    ck_assert(!bench_database_check(copy, "test", &none));
}
END_TEST

START_TEST(a_file_left_behind_is_found_where_none_may_be)
{
    const struct bench_expected alone = {.alone = true};
    const struct bench_expected any = {.alone = false};
    char left[PATH_MAX + 64];
    snprintf(left, sizeof(left), "%s-lockstep", copy);
    close(open(left, O_CREAT | O_WRONLY, 0600));
    ck_assert(!bench_database_check(copy, "test", &alone));
    ck_assert(bench_database_check(copy, "test", &any));
}
END_TEST

START_TEST(a_copy_is_in_the_journal_mode_that_was_asked_for)
{
    sqlite3 *db;
    sqlite3_stmt *statement;
    ck_assert(bench_database_copy(original, copy, "wal"));
    ck_assert_int_eq(sqlite3_open_v2(copy, &db, SQLITE_OPEN_READONLY, "unix"), SQLITE_OK);
    ck_assert_int_eq(sqlite3_prepare_v2(db, "PRAGMA journal_mode", -1, &statement, NULL),
                     SQLITE_OK);
    ck_assert_int_eq(sqlite3_step(statement), SQLITE_ROW);
    ck_assert_str_eq((const char *)sqlite3_column_text(statement, 0), "wal");
    sqlite3_finalize(statement);
    sqlite3_close(db);
}
END_TEST

START_TEST(changed_pages_are_counted_once_each)
{
    uint64_t pages = 99;
    ck_assert(bench_database_changed_pages(original, copy, &pages));
    ck_assert_uint_eq(pages, 0);
    /* Page 1 has the change counter; two rows of one page; then one of another. */
    run_sql(copy, "UPDATE account SET balance = 0 WHERE id IN (1, 2);");
    ck_assert(bench_database_changed_pages(original, copy, &pages));
    ck_assert_uint_eq(pages, 2);
    run_sql(copy, "UPDATE account SET balance = 0 WHERE id IN (1, 1000);");
    ck_assert(bench_database_changed_pages(original, copy, &pages));
    ck_assert_uint_eq(pages, 3);
}
END_TEST

START_TEST(new_pages_count_as_changed)
{
    uint64_t before;
    uint64_t after;
    run_sql(copy, "INSERT INTO entry VALUES(1, 0, x'00');");
    ck_assert(bench_database_changed_pages(original, copy, &before));
    run_sql(copy, "INSERT INTO entry VALUES(2, 0, zeroblob(20000));");
    ck_assert(bench_database_changed_pages(original, copy, &after));
    ck_assert_uint_ge(after, before + 4);
}
END_TEST

int
main(void)
{
    TCase *tcase = tcase_create("database");
    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_add_test(tcase, a_database_with_all_commits_passes);
    tcase_add_test(tcase, a_lost_commit_is_found);
    tcase_add_test(tcase, half_a_commit_is_found);
    tcase_add_test(tcase, a_damaged_page_is_found);
    tcase_add_test(tcase, a_file_left_behind_is_found_where_none_may_be);
    tcase_add_test(tcase, a_copy_is_in_the_journal_mode_that_was_asked_for);
    tcase_add_test(tcase, changed_pages_are_counted_once_each);
    tcase_add_test(tcase, new_pages_count_as_changed);
    Suite *suite = suite_create("bench/database");
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
