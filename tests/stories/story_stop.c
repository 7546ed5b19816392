/*
 * Promise: who waits for a process that is stopped waits no longer than its busy timeout, learns who it is, and
 * goes on when that goes on.  Readers are not concerned at all.
 *
 * Made to fail by: a wait for a full store that comes back before its time, so that SQLite counts a sleep that
 * was none (BUSY after 127 of 400 ms); a blocker that says "the store is full" and not who does not write it;
 * not excluding stock readers from a batch.
 *
 * Writers and workers are stopped (SIGSTOP) by the test between two calls, and inside one at a crash point.
 */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "harness/clock.h"
#include "harness/stage.h"

#define WAIT_MS 400
/* Of a machine that does other things too. */
#define SLACK_MS 3000

static struct stage stage;
static struct actor *stopped, *other, *reader;

/* The first to connect is the worker. */
static void
enter(const char *parameters)
{
    stage_open(&stage);
    stopped = stage_enter(&stage, 1, parameters);
    actor_must(stopped, "make");
    actor_must(stopped, "transact m 20");
    other = stage_enter(&stage, 2, "");
    actor_must(other, "transact m 5");
    actor_must(other, "timeout %d", WAIT_MS);
    reader = stage_enter(&stage, 3, "");
    actor_must(reader, "audit");
    ck_assert_int_eq(stage_worker(&stage), actor_pid(stopped));
}

static void
leave(void)
{
    struct actor *all[] = {stopped, other, reader};
    size_t i;
    stage_audit(&stage, other, "at the end");
    for (i = 0; i < 3; i++) {
        actor_must(all[i], "close");
        actor_finish(all[i]);
    }
    stage_left_clean(&stage, "at the end");
    stage_close(&stage);
}

static void
expect_named(const char *where, const char *text)
{
    char want[64];
    snprintf(want, sizeof want, "actor (pid %d, stopped)", (int)actor_pid(stopped));
    ck_assert_msg(strstr(text, want) != NULL, "%s does not name %s: %s", where, want, text);
}

/* The order is refused with SQLITE_BUSY when the busy timeout is over, not sooner and not much later. */
static void
times_out(const char *order)
{
    int64_t begin = now_ms(), took;
    int code = actor_do(other, "%s", order);
    took = now_ms() - begin;
    ck_assert_msg((code & 0xff) == SQLITE_BUSY, "%s: %d %s", order, code, actor_text(other));
    ck_assert_msg(took >= WAIT_MS * 9 / 10 && took <= WAIT_MS + SLACK_MS, "%s took %lld ms", order,
                  (long long)took);
    actor_must(other, "read PRAGMA lockstep_blocker");
    expect_named("PRAGMA lockstep_blocker", actor_text(other));
}

/* The log says it once a second at most. */
static void
is_in_the_log(void)
{
    actor_must(other, "log");
    expect_named("the log", actor_text(other));
}

START_TEST(a_stopped_writer_is_named_and_waited_for_no_longer_than_allowed)
{
    enter("");
    actor_must(stopped, "exec BEGIN IMMEDIATE; UPDATE total SET n = n + 1");
    actor_stop(stopped);
    actor_must(other, "log");
    times_out("exec BEGIN IMMEDIATE");
    is_in_the_log();
    times_out("exec UPDATE total SET n = n");
    stage_audit(&stage, reader, "beside a stopped writer");
    stage_audit(&stage, other, "beside a stopped writer");
    /* A queue of its own does not get shorter by it. */
    times_out("exec BEGIN IMMEDIATE");
    actor_continue(stopped);
    actor_must(stopped, "exec ROLLBACK");
    actor_must(other, "transact m 10");
    actor_must(stopped, "transact m 10");
    leave();
}
END_TEST

START_TEST(a_writer_stopped_inside_commit_is_waited_for)
{
    enter("");
    if (actor_do(stopped, "halt transaction:committing 1") != 0) {
        puts("this build has no crash points: part of the story is left out");
        leave();
        return;
    }
    actor_tell(stopped, "transact a 1");
    actor_halted(stopped);
    actor_must(other, "log");
    times_out("exec BEGIN IMMEDIATE");
    is_in_the_log();
    stage_audit(&stage, reader, "beside a writer that is stopped inside COMMIT");
    actor_continue(stopped);
    ck_assert_int_eq(actor_hear(stopped), 0);
    actor_must(other, "transact m 10");
    leave();
}
END_TEST

/* Asynchronous commits go on until the store is full; then they wait as for a lock. */
START_TEST(a_stopped_worker_holds_up_nobody_until_the_store_is_full)
{
    int code = 0, i;
    enter("&store_limit=1048576&max_lag=50");
    actor_must(other, "exec CREATE TABLE filler(x)");
    actor_must(other, "exec PRAGMA lockstep_durability=async");
    actor_stop(stopped);
    actor_must(other, "transact a 5");
    stage_audit(&stage, reader, "beside a stopped worker");
    actor_must(other, "log");
    for (i = 0; i < 100 && code == 0; i++)
        code = actor_do(other, "exec INSERT INTO filler VALUES(randomblob(20000))");
    ck_assert_msg((code & 0xff) == SQLITE_BUSY, "%d after %d rows", code, i);
    times_out("exec INSERT INTO filler VALUES(randomblob(20000))");
    is_in_the_log();
    stage_audit(&stage, reader, "beside a stopped worker and a full store");
    actor_continue(stopped);
    actor_must(other, "timeout 10000");
    actor_must(other, "exec INSERT INTO filler VALUES(randomblob(20000))");
    actor_must(other, "transact m 10");
    leave();
}
END_TEST

START_TEST(a_durable_commit_waits_for_a_stopped_worker_and_succeeds)
{
    enter("&max_lag=5000");
    actor_must(other, "transact a 5");
    actor_stop(stopped);
    actor_tell(other, "transact f 1");
    /* It may not say that it is durable: only the worker can make it so. */
    ck_assert(!actor_answers(other, 700));
    stage_audit(&stage, reader, "beside a durable commit that waits");
    actor_continue(stopped);
    ck_assert_int_eq(actor_hear(other), 0);
    leave();
}
END_TEST

/* With the journal hot and stock readers locked out. */
START_TEST(a_worker_stopped_in_mid_batch_stops_stock_readers_only)
{
    enter("&max_lag=5000");
    actor_must(other, "transact a 5");
    if (actor_do(stopped, "halt batch:wrote-run 1") != 0) {
        puts("this build has no crash points: part of the story is left out");
        leave();
        return;
    }
    actor_tell(other, "transact f 1");
    actor_halted(stopped);
    ck_assert_int_eq(stage_stock_reads(&stage, "in mid-batch") & 0xff, SQLITE_BUSY);
    ck_assert(!stage_stock_writes(&stage, "in mid-batch"));
    stage_audit(&stage, reader, "in mid-batch");
    actor_must(reader, "transact a 5");
    stage_audit(&stage, reader, "in mid-batch");
    actor_continue(stopped);
    ck_assert_int_eq(actor_hear(other), 0);
    stage_stock_may_read(&stage, "after the batch");
    leave();
}
END_TEST

int
main(void)
{
    Suite *suite = suite_create("story_stop");
    TCase *tcase = tcase_create("stop");
    SRunner *runner;
    int failed;
    tcase_set_timeout(tcase, 60);
    tcase_add_test(tcase, a_stopped_writer_is_named_and_waited_for_no_longer_than_allowed);
    tcase_add_test(tcase, a_writer_stopped_inside_commit_is_waited_for);
    tcase_add_test(tcase, a_stopped_worker_holds_up_nobody_until_the_store_is_full);
    tcase_add_test(tcase, a_durable_commit_waits_for_a_stopped_worker_and_succeeds);
    tcase_add_test(tcase, a_worker_stopped_in_mid_batch_stops_stock_readers_only);
    suite_add_tcase(suite, tcase);
    runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
