/*
 * Promise: stock SQLite reads a database at any time and sees a state that was committed, or is refused; it
 * writes when nobody is connected and nothing is pending, and is refused else.
 *
 * Made to fail by: not excluding stock readers from a batch ("database disk image is malformed"; a durable
 * commit under a reader that stays); a tripwire of 1 (stock SQLite writes over pending commits, whose numbers
 * are then given twice).
 *
 * The test is the stock program; the actors are Lockstep's.
 */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "harness/stage.h"

#define WRITERS 3
#define READS 60
#define MAX_READS 3000
#define ENOUGH_ANSWERS 5

static struct stage stage;

static void
finish(struct actor *actor)
{
    actor_must(actor, "close");
    actor_finish(actor);
}

static int64_t
stock_number(sqlite3 *db, const char *sql)
{
    sqlite3_stmt *statement;
    int64_t number;
    ck_assert_int_eq(sqlite3_prepare_v2(db, sql, -1, &statement, NULL), SQLITE_OK);
    ck_assert_msg(sqlite3_step(statement) == SQLITE_ROW, "%s: %s", sql, sqlite3_errmsg(db));
    number = sqlite3_column_int64(statement, 0);
    sqlite3_finalize(statement);
    return number;
}

START_TEST(stock_reads_prefixes_and_is_refused_writing_while_others_commit)
{
    static const char kinds[WRITERS] = {'m', 'f', 'a'};
    struct actor *writers[WRITERS];
    unsigned i, answered = 0;
    stage_open(&stage);
    for (i = 0; i < WRITERS; i++)
        writers[i] = stage_enter(&stage, i + 1, "&store_limit=1048576&max_lag=10");
    actor_must(writers[0], "make");
    actor_must(writers[0], "exec PRAGMA lockstep_flush");
    for (i = 0; i < WRITERS; i++)
        actor_tell(writers[i], "transact %c 0", kinds[i]);
    for (i = 0; i < READS || (answered < ENOUGH_ANSWERS && i < MAX_READS); i++) {
        size_t before = ledger_drain(stage.ledger);
        ck_assert_uint_gt(ledger_wait(stage.ledger, before + 5, ACTOR_PATIENCE_MS), before + 4);
        if (stage_stock_reads(&stage, "while others commit") == SQLITE_OK)
            answered++;
        ck_assert(!stage_stock_writes(&stage, "while others commit"));
    }
    /* Between two batches there is room for a reader. */
    ck_assert_uint_ge(answered, ENOUGH_ANSWERS);
    for (i = 0; i < WRITERS; i++) {
        actor_tell(writers[i], "use 0");
        while (!actor_answers(writers[i], 50))
            (void)ledger_drain(stage.ledger);
        ck_assert_msg(actor_hear(writers[i]) == 0, "%s", actor_text(writers[i]));
        ck_assert_int_eq(actor_hear(writers[i]), 0);
    }
    for (i = 0; i < WRITERS; i++)
        finish(writers[i]);
    stage_left_clean(&stage, "at the end");
    stage_close(&stage);
}
END_TEST

START_TEST(a_stock_reader_that_stays_keeps_its_snapshot_and_holds_up_no_commit)
{
    struct actor *writer;
    sqlite3 *stock;
    int64_t n;
    stage_open(&stage);
    writer = stage_enter(&stage, 1, "&max_lag=10");
    actor_must(writer, "make");
    actor_must(writer, "transact m 20");
    actor_must(writer, "exec PRAGMA lockstep_flush");
    stock = stage_stock(&stage, ACTOR_PATIENCE_MS);
    ck_assert_int_eq(sqlite3_exec(stock, "BEGIN", NULL, NULL, NULL), SQLITE_OK);
    n = stock_number(stock, "SELECT n FROM total");
    actor_must(writer, "transact a 100");
    stage_audit(&stage, writer, "beside a stock reader");
    /* Nothing may be durable that is not in the file, and nothing may be written under a reader. */
    actor_tell(writer, "transact f 1");
    ck_assert(!actor_answers(writer, 300));
    ck_assert_int_eq(stock_number(stock, "SELECT n FROM total"), n);
    ck_assert_int_eq(stock_number(stock, "SELECT sum(seq) FROM account"), n);
    ck_assert_int_eq(sqlite3_exec(stock, "COMMIT", NULL, NULL, NULL), SQLITE_OK);
    ck_assert_int_eq(actor_hear(writer), 0);
    ck_assert_int_ge(stock_number(stock, "SELECT n FROM total"), n + 101);
    sqlite3_close(stock);
    stage_stock_may_read(&stage, "after it has left");
    finish(writer);
    stage_left_clean(&stage, "at the end");
    stage_close(&stage);
}
END_TEST

START_TEST(a_stock_writer_that_was_there_first_keeps_lockstep_out_until_it_commits)
{
    struct actor *actor;
    sqlite3 *stock;
    struct books_record record;
    uint32_t random = 3;
    int code;
    stage_open(&stage);
    actor = stage_enter(&stage, 1, "");
    actor_must(actor, "make");
    actor_must(actor, "transact m 5");
    finish(actor);
    stock = stage_stock(&stage, 0);
    ck_assert_int_eq(sqlite3_exec(stock, "BEGIN IMMEDIATE; CREATE TABLE mine(x)", NULL, NULL, NULL),
                     SQLITE_OK);
    actor = actor_start(stage.ledger, 2);
    code = actor_do(actor, "open %s", stage_uri(&stage, ""));
    if (code == SQLITE_OK) {
        actor_must(actor, "timeout 100");
        code = actor_do(actor, "exec BEGIN IMMEDIATE");
    }
    ck_assert_msg((code & 0xff) == SQLITE_BUSY, "%d %s", code, actor_text(actor));
    ck_assert_int_eq(sqlite3_exec(stock, "COMMIT", NULL, NULL, NULL), SQLITE_OK);
    ck_assert_int_eq(books_transact(stock, STAGE_STOCK_ACCOUNT, 'f', &random, &record), SQLITE_OK);
    ledger_add(stage.ledger, &record);
    actor_finish(actor);
    actor = stage_enter(&stage, 2, "");
    stage_audit(&stage, actor, "after a stock commit");
    actor_must(actor, "read SELECT count(*) FROM mine");
    actor_must(actor, "transact m 5");
    sqlite3_close(stock);
    finish(actor);
    stage_left_clean(&stage, "at the end");
    stage_close(&stage);
}
END_TEST

/* The tripwire: with nobody left, no lock says that commits are pending. */
START_TEST(stock_may_not_write_over_the_commits_of_the_dead)
{
    struct actor *actor;
    struct books books;
    sqlite3 *stock;
    stage_open(&stage);
    actor = stage_enter(&stage, 1, "&max_lag=60000");
    actor_must(actor, "make");
    actor_must(actor, "transact m 20");
    actor_must(actor, "exec PRAGMA lockstep_flush");
    actor_must(actor, "transact a 20");
    actor_finish(actor);
    stock = stage_stock(&stage, 1000);
    ck_assert_int_eq(books_read(stock, &books), SQLITE_OK);
    sqlite3_close(stock);
    /* What the story is about is still to be written. */
    ck_assert_uint_lt((unsigned)books.n, ledger_drain(stage.ledger));
    ck_assert_int_eq(stage_stock_reads(&stage, "after a kill"), SQLITE_OK);
    ck_assert(!stage_stock_writes(&stage, "after a kill"));
    actor = stage_enter(&stage, 2, "");
    stage_audit(&stage, actor, "after adoption");
    finish(actor);
    stage_left_clean(&stage, "at the end");
    stage_close(&stage);
}
END_TEST

START_TEST(stock_writes_between_two_lives_and_is_seen)
{
    int i;
    stage_open(&stage);
    for (i = 0; i < 4; i++) {
        struct actor *actor = stage_enter(&stage, (unsigned)i + 1, "");
        actor_must(actor, "make");
        stage_audit(&stage, actor, "after stock SQLite wrote");
        actor_must(actor, "transact m 10");
        ck_assert(!stage_stock_writes(&stage, "beside a client"));
        finish(actor);
        stage_left_clean(&stage, "between two lives"); /* writes, too */
    }
    stage_close(&stage);
}
END_TEST

int
main(void)
{
    Suite *suite = suite_create("story_stock");
    TCase *tcase = tcase_create("stock");
    SRunner *runner;
    int failed;
    tcase_set_timeout(tcase, 60);
    tcase_add_test(tcase, stock_reads_prefixes_and_is_refused_writing_while_others_commit);
    tcase_add_test(tcase, a_stock_reader_that_stays_keeps_its_snapshot_and_holds_up_no_commit);
    tcase_add_test(tcase, a_stock_writer_that_was_there_first_keeps_lockstep_out_until_it_commits);
    tcase_add_test(tcase, stock_may_not_write_over_the_commits_of_the_dead);
    tcase_add_test(tcase, stock_writes_between_two_lives_and_is_seen);
    suite_add_tcase(suite, tcase);
    runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
