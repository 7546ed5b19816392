/*
 * Promise: a coordination file is refused by a build that lays it out differently, with words that say what is the
 * matter, and nothing is lost: whoever is connected goes on, what killed processes left waits for the build that can
 * read it, and when all have left in order the other build opens the database.
 *
 * $LKS_OTHER_ACTOR is the actor of the other build, of 32 bits where this one has 64, or under an emulator; skipped
 * without.  tests/portability.sh has several builds.  What one build alone can show is in vfs/test_damage.c.
 *
 * Made to fail by: leaving word_bits and byte_order out of lks_header_check(): the second is let in.
 */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "harness/stage.h"

#define LAZY "&durability=async&max_lag=3600000"

static const char *other_actor;

/* Both ways round: whose is the file? */
static const char *
program(int which)
{
    return which == 0 ? actor_program() : other_actor;
}

static struct actor *
enter(const struct stage *stage, int which, unsigned account)
{
    struct actor *actor = actor_start_program(program(which), stage->ledger, account);
    actor_must(actor, "open %s", stage_uri(stage, LAZY));
    return actor;
}

static void
expect_rows(struct actor *actor, const char *rows)
{
    actor_must(actor, "read SELECT group_concat(v) FROM t");
    ck_assert_str_eq(actor_text(actor), rows);
}

/* It opens lazily: the first statement is what fails. */
static void
expect_refusal(struct actor *actor, const char *advice)
{
    const char *log;
    ck_assert_int_eq(actor_do(actor, "read SELECT group_concat(v) FROM t"), SQLITE_CANTOPEN);
    ck_assert_int_eq(actor_do(actor, "exec INSERT INTO t VALUES(99)"), SQLITE_CANTOPEN);
    actor_must(actor, "log");
    log = actor_text(actor);
    ck_assert_msg(strstr(log, "was made by a 64-bit build of Lockstep, and this is a 32-bit one") != NULL ||
                      strstr(log, "was made by a 32-bit build of Lockstep, and this is a 64-bit one") != NULL ||
                      strstr(log, "was made on a machine with another byte order") != NULL,
                  "the log says: %s", log);
    ck_assert_msg(strstr(log, advice) != NULL, "the log says: %s", log);
}

static void
expect_no_orphan(const struct stage *stage)
{
    char path[128];
    snprintf(path, sizeof path, "%s-lockstep.orphan-1", stage->path);
    ck_assert_int_ne(access(path, F_OK), 0);
}

/* Nothing beside it, and stock SQLite reads the rows and may write. */
static void
expect_ordinary(const struct stage *stage, const char *rows)
{
    sqlite3 *db = stage_stock(stage, ACTOR_PATIENCE_MS);
    sqlite3_stmt *statement;
    char path[128];
    snprintf(path, sizeof path, "%s-lockstep", stage->path);
    ck_assert_int_ne(access(path, F_OK), 0);
    ck_assert_int_eq(sqlite3_prepare_v2(db, "SELECT group_concat(v) FROM t", -1, &statement, NULL), SQLITE_OK);
    ck_assert_int_eq(sqlite3_step(statement), SQLITE_ROW);
    ck_assert_str_eq((const char *)sqlite3_column_text(statement, 0), rows);
    sqlite3_finalize(statement);
    ck_assert_int_eq(sqlite3_exec(db, "DELETE FROM t", NULL, NULL, NULL), SQLITE_OK);
    sqlite3_close(db);
}

START_TEST(beside_a_live_process_another_build_is_refused_and_comes_in_after_it)
{
    struct stage stage;
    struct actor *first, *second;
    stage_open(&stage);
    first = enter(&stage, _i, 1);
    actor_must(first, "exec CREATE TABLE t(v); INSERT INTO t VALUES(1)");
    second = enter(&stage, 1 - _i, 2);
    expect_refusal(second, "close them first");
    actor_must(first, "exec INSERT INTO t VALUES(2)");
    expect_rows(first, "1,2");
    expect_refusal(second, "close them first");
    actor_must(first, "close");
    /* In order: the connection that was refused works now. */
    expect_rows(second, "1,2");
    actor_must(second, "exec INSERT INTO t VALUES(3)");
    actor_must(second, "integrity");
    actor_must(second, "close");
    actor_must(first, "open %s", stage_uri(&stage, LAZY));
    expect_rows(first, "1,2,3");
    actor_must(first, "close");
    actor_finish(first);
    actor_finish(second);
    expect_no_orphan(&stage);
    expect_ordinary(&stage, "1,2,3");
    stage_close(&stage);
}
END_TEST

START_TEST(what_killed_processes_left_waits_for_the_build_that_made_it)
{
    struct stage stage;
    struct actor *first, *second;
    stage_open(&stage);
    first = enter(&stage, _i, 1);
    actor_must(first, "exec CREATE TABLE t(v); INSERT INTO t VALUES(1)");
    actor_must(first, "exec INSERT INTO t VALUES(2)");
    actor_kill(first);
    actor_finish(first);
    second = enter(&stage, 1 - _i, 2);
    expect_refusal(second, "Commits may be waiting in it");
    expect_no_orphan(&stage);
    first = enter(&stage, _i, 1);
    expect_rows(first, "1,2");
    actor_must(first, "close");
    actor_finish(first);
    expect_rows(second, "1,2");
    actor_must(second, "exec INSERT INTO t VALUES(3)");
    actor_must(second, "integrity");
    actor_must(second, "close");
    actor_finish(second);
    expect_ordinary(&stage, "1,2,3");
    stage_close(&stage);
}
END_TEST

int
main(void)
{
    Suite *suite = suite_create("story_builds");
    TCase *tcase = tcase_create("builds");
    SRunner *runner;
    int failed;
    other_actor = getenv("LKS_OTHER_ACTOR");
    if (other_actor == NULL || *other_actor == '\0') {
        printf("skipped: LKS_OTHER_ACTOR names no actor of another build; tests/portability.sh makes some\n");
        return 77;
    }
    tcase_add_loop_test(tcase, beside_a_live_process_another_build_is_refused_and_comes_in_after_it, 0, 2);
    tcase_add_loop_test(tcase, what_killed_processes_left_waits_for_the_build_that_made_it, 0, 2);
    tcase_set_timeout(tcase, 60);
    suite_add_tcase(suite, tcase);
    runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
