/*
 * Promise: who makes a new database and is killed loses nothing that was acknowledged, and stock SQLite can open what
 * is left.  An empty file has no byte 18 that could keep stock writers out, so its first COMMIT waits for its batch,
 * whatever durability was asked for.
 *
 * Made to fail by: leaving that wait out (store_file.c, must_wait): the first test finds an empty file.
 */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "harness/stage.h"

#define LAZY "&durability=async&max_lag=3600000"

/* The text of one value, or an error. */
static const char *
stock_reads(const struct stage *stage, const char *sql)
{
    static char text[100];
    sqlite3 *db = stage_stock(stage, ACTOR_PATIENCE_MS);
    sqlite3_stmt *statement = NULL;
    int rc = sqlite3_prepare_v2(db, sql, -1, &statement, NULL);
    if (rc == SQLITE_OK && sqlite3_step(statement) == SQLITE_ROW)
        snprintf(text, sizeof text, "%s", (const char *)sqlite3_column_text(statement, 0));
    else
        snprintf(text, sizeof text, "error: %s", sqlite3_errmsg(db));
    sqlite3_finalize(statement);
    sqlite3_close(db);
    return text;
}

START_TEST(the_first_commit_is_in_the_file_when_it_returns)
{
    struct stage stage;
    struct actor *creator, *next;
    stage_open(&stage);
    creator = stage_enter(&stage, 1, LAZY);
    actor_must(creator, "exec CREATE TABLE t(v)");
    actor_kill(creator);
    actor_finish(creator);
    ck_assert_str_eq(stock_reads(&stage, "SELECT name FROM sqlite_schema"), "t");
    ck_assert_str_eq(stock_reads(&stage, "PRAGMA integrity_check"), "ok");
    /* The second does not wait: it is where the coordination file is. */
    creator = stage_enter(&stage, 1, LAZY);
    actor_must(creator, "exec INSERT INTO t VALUES(1)");
    actor_kill(creator);
    actor_finish(creator);
    next = stage_enter(&stage, 2, "");
    actor_must(next, "read SELECT count(*) FROM t");
    ck_assert_str_eq(actor_text(next), "1");
    actor_must(next, "close");
    actor_finish(next);
    ck_assert_str_eq(stock_reads(&stage, "SELECT count(*) FROM t"), "1");
    stage_close(&stage);
}
END_TEST

/* From the commit to the end of its batch, in order. */
static const char *const points[] = {
    "attach:reserved",       "attach:made",       "attach:connected",  "transaction:filled",
    "transaction:committing", "transaction:committed", "ticket:asked",  "batch:pinned",
    "batch:announced",       "batch:wrote-run",   "batch:wrote-all",   "batch:synced",
    "batch:invalidated",     "batch:publishing",  "batch:published",
};
#define POINTS ((int)(sizeof points / sizeof points[0]))

/* Who died before it was acknowledged may have made the table, or not; nobody may be kept out by that for good. */
START_TEST(a_death_before_the_first_batch_leaves_a_file_that_all_can_open)
{
    const char *point = points[_i / 2];
    bool stock_first = _i % 2 == 0;
    struct stage stage;
    struct actor *creator, *next;
    stage_open(&stage);
    creator = actor_start(stage.ledger, 1);
    if (actor_do(creator, "die %s 1", point) != 0) {
        actor_finish(creator);
        stage_close(&stage);
        return; /* built without crash points */
    }
    actor_must(creator, "open %s", stage_uri(&stage, LAZY));
    ck_assert_msg(actor_do(creator, "exec CREATE TABLE t(v)") == ACTOR_ENDED, "%s is not reached", point);
    actor_finish(creator);
    if (stock_first) {
        sqlite3 *db = stage_stock(&stage, 0);
        int rc = sqlite3_exec(db, "SELECT count(*) FROM sqlite_schema", NULL, NULL, NULL);
        ck_assert_msg(rc == SQLITE_OK, "%s: stock SQLite cannot read: %s", point, sqlite3_errmsg(db));
        /* Where the batch has written its first page the file is closed to stock writers, else it is theirs. */
        rc = sqlite3_exec(db, "CREATE TABLE s(v); INSERT INTO s VALUES(1)", NULL, NULL, NULL) & 0xff;
        ck_assert_msg(rc == SQLITE_OK || rc == SQLITE_READONLY, "%s: %s", point, sqlite3_errmsg(db));
        sqlite3_close(db);
        next = stage_enter(&stage, 2, "");
        if (rc == SQLITE_OK) {
            actor_must(next, "read SELECT count(*) FROM s");
            ck_assert_str_eq(actor_text(next), "1");
        }
    } else {
        next = stage_enter(&stage, 2, "");
    }
    actor_must(next, "exec CREATE TABLE IF NOT EXISTS t(v); INSERT INTO t VALUES(2)");
    actor_must(next, "integrity");
    actor_must(next, "close");
    actor_finish(next);
    ck_assert_str_eq(stock_reads(&stage, "SELECT count(*) FROM t"), "1");
    ck_assert_str_eq(stock_reads(&stage, "PRAGMA integrity_check"), "ok");
    stage_close(&stage);
}
END_TEST

int
main(void)
{
    Suite *suite = suite_create("story_creator");
    TCase *tcase = tcase_create("creator");
    SRunner *runner;
    int failed;
    tcase_add_test(tcase, the_first_commit_is_in_the_file_when_it_returns);
    tcase_add_loop_test(tcase, a_death_before_the_first_batch_leaves_a_file_that_all_can_open, 0, 2 * POINTS);
    suite_add_tcase(suite, tcase);
    runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
