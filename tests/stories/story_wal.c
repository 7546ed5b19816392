/*
 * Promises in WAL mode, with several processes: a stock process that is killed in mid-commit is rolled back; who is stopped
 * is waited for no longer than allowed; a leader that stops in mid-sync holds up nobody; a failed sync fails every
 * process.  (Many at once: story_wal_fleet.c.)
 *
 * Made to fail by: giving up a stock writer's WRITE (torn books); never taking leadership over (20 s of waiting).
 */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <lockstep/inspect.h>

#include "harness/clock.h"
#include "harness/stage.h"

#define STOCK "&vfs=unix"
#define WAIT_MS 400
#define SLACK_MS 3000

static struct stage stage;

static void
found(void)
{
    stage_open(&stage);
    stage_found_wal(&stage, "");
}

static void
retire(struct actor **actors, size_t n)
{
    stage_leave(&stage, actors, n, "at the end");
    stage_close(&stage);
}

/* ------------------------------------------------------------------------------------------------
 * Beside stock SQLite
 * --------------------------------------------------------------------------------------------- */

/* A stock process dies between the frames of a transaction that does not fit its cache. */
START_TEST(a_stock_process_killed_in_mid_commit_is_rolled_back)
{
    struct actor *stock, *ours[2];
    found();
    ours[0] = stage_enter(&stage, 1, "");
    ours[1] = stage_enter(&stage, 2, "");
    actor_must(ours[0], "transact m 10");
    actor_must(ours[1], "audit");
    stock = stage_enter(&stage, 3, STOCK);
    actor_must(stock, "transact m 10");
    actor_must(stock, "exec PRAGMA cache_size=2; BEGIN IMMEDIATE; UPDATE total SET n = -1;"
                      "UPDATE entry SET pad = randomblob(9000)");
    actor_must(ours[0], "timeout 0");
    ck_assert_int_eq(actor_do(ours[0], "exec BEGIN IMMEDIATE") & 0xff, SQLITE_BUSY);
    actor_must(ours[0], "read PRAGMA lockstep_blocker");
    ck_assert_msg(strstr(actor_text(ours[0]), "outside the queue") != NULL, "%s", actor_text(ours[0]));
    actor_must(ours[0], "timeout 10000");
    actor_kill(stock);
    actor_finish(stock);
    actor_must(ours[0], "transact f 5");
    stage_audit(&stage, ours[1], "after the death of a stock writer");
    actor_must(ours[1], "transact m 20");
    retire(ours, 2);
}
END_TEST

/* ------------------------------------------------------------------------------------------------
 * Who is stopped
 * --------------------------------------------------------------------------------------------- */

START_TEST(a_stopped_writer_is_named_and_waited_for_no_longer_than_allowed)
{
    struct actor *actors[2];
    int64_t begin, took;
    int code;
    found();
    actors[0] = stage_enter(&stage, 1, "");
    actors[1] = stage_enter(&stage, 2, "");
    actor_must(actors[1], "transact m 5");
    actor_must(actors[1], "timeout %d", WAIT_MS);
    actor_must(actors[0], "exec BEGIN IMMEDIATE; UPDATE total SET n = n + 1");
    actor_stop(actors[0]);
    begin = now_ms();
    code = actor_do(actors[1], "exec BEGIN IMMEDIATE");
    took = now_ms() - begin;
    ck_assert_int_eq(code & 0xff, SQLITE_BUSY);
    ck_assert_msg(took >= WAIT_MS * 9 / 10 && took <= WAIT_MS + SLACK_MS, "%lld ms", (long long)took);
    actor_must(actors[1], "read PRAGMA lockstep_blocker");
    ck_assert_msg(strstr(actor_text(actors[1]), ", stopped)") != NULL, "%s", actor_text(actors[1]));
    stage_audit(&stage, actors[1], "beside a stopped writer");
    actor_continue(actors[0]);
    actor_must(actors[0], "exec ROLLBACK");
    actor_must(actors[1], "transact f 5");
    actor_must(actors[0], "transact f 5");
    retire(actors, 2);
}
END_TEST

/* Others take leadership over, and the one that was stopped finds its commit durable. */
START_TEST(a_leader_stopped_in_mid_sync_holds_up_nobody)
{
    struct actor *actors[2];
    int64_t begin;
    found();
    actors[0] = stage_enter(&stage, 1, "");
    actors[1] = stage_enter(&stage, 2, "");
    actor_must(actors[0], "transact f 5");
    actor_must(actors[1], "transact f 5");
    if (actor_do(actors[0], "halt groupsync:leading 1") != 0) {
        puts("this build has no crash points: part of the story is left out");
        retire(actors, 2);
        return;
    }
    actor_tell(actors[0], "transact f 1");
    actor_halted(actors[0]);
    begin = now_ms();
    actor_must(actors[1], "transact f 20");
    ck_assert_msg(now_ms() - begin < 20 * 200 + SLACK_MS, "%lld ms", (long long)(now_ms() - begin));
    actor_continue(actors[0]);
    ck_assert_int_eq(actor_hear(actors[0]), 0);
    stage_audit(&stage, actors[0], "at the end");
    retire(actors, 2);
}
END_TEST

START_TEST(a_leader_killed_in_mid_sync_is_replaced)
{
    struct actor *actors[2];
    int tries = 20;
    bool waits;
    found();
    actors[0] = stage_enter(&stage, 1, "");
    actors[1] = stage_enter(&stage, 2, "");
    actor_must(actors[1], "transact f 5");
    do {
        if (actor_do(actors[0], "halt groupsync:leading 1") != 0) {
            retire(actors, 2);
            return;
        }
        actor_tell(actors[0], "transact f 1");
        actor_halted(actors[0]);
        /* It waits for the leader, who dies.  On a busy machine it may come so late that the leader has had his time. */
        actor_must(actors[1], "halt groupsync:waiting 1");
        actor_tell(actors[1], "transact f 1");
        waits = actor_halts(actors[1]);
        if (!waits) {
            ck_assert_int_eq(actor_hear(actors[1]), 0);
            actor_continue(actors[0]);
            ck_assert_int_eq(actor_hear(actors[0]), 0);
        }
    } while (!waits && --tries > 0);
    ck_assert(waits);
    actor_kill(actors[0]);
    actor_continue(actors[1]);
    ck_assert_int_eq(actor_hear(actors[1]), 0);
    actor_finish(actors[0]);
    actor_must(actors[1], "transact f 10");
    stage_audit(&stage, actors[1], "after the leader's death");
    retire(actors + 1, 1);
}
END_TEST

/* ------------------------------------------------------------------------------------------------
 * What the inspector shows
 * --------------------------------------------------------------------------------------------- */

static const struct lockstep_lock_view *
find_lock(const struct lockstep_inspection *in, const char *name, pid_t pid, bool waiting)
{
    const struct lockstep_lock_view *lock;
    for (size_t i = 0; (lock = lockstep_inspect_lock(in, i)) != NULL; i++)
        if (strncmp(lock->name, name, strlen(name)) == 0 && lock->process.pid == pid &&
            (lock->waiting != 0) == waiting)
            return lock;
    return NULL;
}

START_TEST(the_inspector_names_who_writes_who_waits_and_which_frame_a_reader_pins)
{
    struct actor *actors[3];
    struct lockstep_inspection *in;
    const struct lockstep_lock_view *lock;
    const struct lockstep_reader_view *reader;
    uint64_t pinned;
    bool seen = false;
    found();
    actors[0] = stage_enter(&stage, 1, "");
    actors[1] = stage_enter(&stage, 2, "");
    actors[2] = stage_enter(&stage, 3, STOCK);
    actor_must(actors[0], "transact f 2");
    actor_must(actors[1], "exec BEGIN; SELECT n FROM total");
    actor_must(actors[2], "exec BEGIN; SELECT n FROM total");
    actor_must(actors[0], "transact f 3");
    actor_must(actors[0], "exec BEGIN IMMEDIATE");
    actor_must(actors[1], "use 1");
    actor_must(actors[1], "open %s", stage_uri(&stage, ""));
    actor_tell(actors[1], "exec BEGIN IMMEDIATE; ROLLBACK");
    for (int64_t begin = now_ms(); !seen && now_ms() < begin + ACTOR_PATIENCE_MS;) {
        ck_assert_int_eq(lockstep_inspect_open(stage.path, &in), LOCKSTEP_OK);
        seen = find_lock(in, "WRITER", actor_pid(actors[1]), true) != NULL;
        if (!seen)
            lockstep_inspect_close(in);
    }
    ck_assert_msg(seen, "nobody is seen to wait");
    ck_assert_int_eq(lockstep_inspect_database(in)->coordination, LOCKSTEP_COORD_LIVE);
    ck_assert_uint_eq(lockstep_inspect_database(in)->info.wal, 1);
    ck_assert_ptr_nonnull(find_lock(in, "WRITER", actor_pid(actors[0]), false));
    ck_assert_ptr_nonnull(find_lock(in, "WRITE", actor_pid(actors[0]), false));
    lock = find_lock(in, "SNAPSHOT", actor_pid(actors[1]), false);
    ck_assert_ptr_nonnull(lock);
    pinned = lock->snapshot;
    ck_assert_uint_lt(pinned, lockstep_inspect_database(in)->info.wal_frames);
    ck_assert_msg(strstr(lock->detail, "behind") != NULL, "%s", lock->detail);
    for (size_t i = 0; (reader = lockstep_inspect_reader(in, i)) != NULL; i++)
        if (reader->process.pid == actor_pid(actors[1]) && reader->snapshot == pinned)
            ck_assert_uint_eq(reader->behind, lockstep_inspect_database(in)->info.wal_frames - pinned);
    /* The stock reader has the same snapshot, and nothing but its lock tells. */
    lock = find_lock(in, "READ", actor_pid(actors[2]), false);
    ck_assert_ptr_nonnull(lock);
    ck_assert_uint_eq(lock->snapshot, pinned);
    ck_assert_msg(strstr(lock->detail, "from being written back") != NULL, "%s", lock->detail);
    lockstep_inspect_close(in);
    actor_must(actors[0], "exec ROLLBACK");
    ck_assert_int_eq(actor_hear(actors[1]), 0);
    actor_must(actors[1], "close");
    actor_must(actors[1], "use 0");
    retire(actors, 3);
}
END_TEST

/* ------------------------------------------------------------------------------------------------
 * A disk that fails
 * --------------------------------------------------------------------------------------------- */

START_TEST(a_failed_sync_fails_the_commits_of_every_process)
{
    struct actor *actors[2];
    size_t known;
    struct books books;
    found();
    actors[0] = stage_enter(&stage, 1, "");
    actors[1] = stage_enter(&stage, 2, "");
    actor_must(actors[0], "transact f 5");
    actor_must(actors[1], "transact f 5");
    actor_must(actors[0], "failsync 1");
    ck_assert_int_eq(actor_do(actors[0], "transact f 1"), SQLITE_IOERR_FSYNC);
    ck_assert_int_eq(actor_do(actors[1], "transact f 1"), SQLITE_IOERR_FSYNC);
    ck_assert_int_eq(actor_do(actors[1], "transact a 1"), SQLITE_IOERR_FSYNC);
    ck_assert_int_eq(actor_do(actors[0], "transact f 1"), SQLITE_IOERR_FSYNC);
    /* Whoever was told that it is durable has it; the one that failed is visible. */
    known = ledger_drain(stage.ledger);
    ck_assert_int_eq(actor_audit(actors[1], &books), 0);
    ck_assert_int_eq((int64_t)books.n, (int64_t)known + 1);
    actor_must(actors[0], "close");
    ck_assert_int_eq(actor_do(actors[1], "transact f 1"), SQLITE_IOERR_FSYNC);
    actor_must(actors[1], "close");
    /* All have left: whoever comes next writes the log anew. */
    actor_must(actors[0], "open %s", stage_uri(&stage, ""));
    for (int64_t begin = now_ms(); actor_do(actors[0], "exec UPDATE total SET n = n") != 0 && now_ms() < begin + 5000;)
        ;
    actor_must(actors[0], "exec UPDATE total SET n = n");
    actor_must(actors[0], "close");
    actor_finish(actors[0]);
    actor_finish(actors[1]);
    stage_close(&stage);
}
END_TEST

int
main(void)
{
    Suite *suite = suite_create("story_wal");
    TCase *tcase = tcase_create("wal");
    SRunner *runner;
    int failed;
    tcase_set_timeout(tcase, 120);
    tcase_add_test(tcase, a_stock_process_killed_in_mid_commit_is_rolled_back);
    tcase_add_test(tcase, a_stopped_writer_is_named_and_waited_for_no_longer_than_allowed);
    tcase_add_test(tcase, a_leader_stopped_in_mid_sync_holds_up_nobody);
    tcase_add_test(tcase, a_leader_killed_in_mid_sync_is_replaced);
    tcase_add_test(tcase, the_inspector_names_who_writes_who_waits_and_which_frame_a_reader_pins);
    tcase_add_test(tcase, a_failed_sync_fails_the_commits_of_every_process);
    suite_add_tcase(suite, tcase);
    runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
