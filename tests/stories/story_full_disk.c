/*
 * Promise: in WAL mode a full disk refuses a commit with SQLITE_FULL, to whichever process, and does no
 * more: nothing that was acknowledged to any is lost, who waits is not kept waiting, nothing is poisoned,
 * and all go on as soon as there is room.
 *
 * The disk is a small tmpfs that is really full.  (What a full disk does to one process, and in store mode:
 * powercut/test_full_disk.c; single writes that fail: vfs/test_wal_faults.c.)
 *
 * Made to fail by: answering SQLITE_OK where the disk had no room for a frame; taking a full disk for a failed
 * sync (nobody commits any more); not giving WRITER up after a transaction that was refused (who waits is kept
 * waiting); a checkpoint that is not tried again.
 */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "harness/clock.h"
#include "harness/disk.h"
#include "harness/stage.h"

#define ACTORS 3

static char folder[40];
static struct stage stage;
static struct actor *actors[ACTORS];

/* `count` of them. */
static void
enter(unsigned count, const char *parameters)
{
    snprintf(folder, sizeof folder, "/tmp/lks-disk-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(folder));
    disk_mount(folder);
    setenv("TMPDIR", folder, 1);
    stage_open(&stage);
    for (unsigned i = 0; i < count; i++) {
        actors[i] = stage_enter(&stage, i + 1, parameters);
        if (i == 0) {
            actor_must(actors[0], "exec PRAGMA journal_mode=WAL");
            actor_must(actors[0], "make");
            actor_must(actors[0], "exec CREATE TABLE bulk(v)");
        }
        actor_must(actors[i], "transact f 5");
    }
}

static void
all_is_there(unsigned count, const char *when)
{
    for (unsigned i = 0; i < count; i++)
        stage_audit(&stage, actors[i], when);
}

/* There is room again: each commits, nothing was poisoned, and nothing is left behind. */
static void
leave(unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        actor_must(actors[i], "transact f 5");
        actor_must(actors[i], "transact m 5");
    }
    ck_assert_uint_eq(stage_info(&stage).sync_failed, 0);
    stage_retire(&stage, actors, count, "after there was room");
    stage_close(&stage);
    disk_unmount();
}

/* Small ones, as long as they fit. */
static void
commit_until_full(struct actor *actor)
{
    int code, tries = 0;
    do
        code = actor_do(actor, "transact f 1");
    while (code == 0 && tries++ < 2000);
    ck_assert_msg(code == SQLITE_FULL, "actor %u: %d %s", actor_account(actor), code, actor_text(actor));
}

START_TEST(a_commit_that_has_no_room_is_refused_to_each_and_undoes_none)
{
    struct actor *first, *second;
    enter(2, "");
    first = actors[_i];
    second = actors[1 - _i];
    disk_fill(100000);
    commit_until_full(first);
    all_is_there(2, "one was refused");
    commit_until_full(second);
    all_is_there(2, "both were refused");
    /* Again and again: nobody keeps a lock, and what was refused takes no room. */
    for (int i = 0; i < 10; i++)
        ck_assert_int_eq(actor_do(actors[i % 2], "exec INSERT INTO bulk VALUES(randomblob(200000))"), SQLITE_FULL);
    all_is_there(2, "both were refused ten times");
    ck_assert_uint_eq(stage_info(&stage).sync_failed, 0);
    disk_make_space();
    leave(2);
}
END_TEST

/* The refused transaction's frames are in the way of nobody: the next writer's go over them. */
START_TEST(who_waits_for_a_writer_that_is_refused_goes_on)
{
    int64_t end;
    enter(2, "");
    disk_fill(200000);
    actor_must(actors[0], "exec BEGIN IMMEDIATE; INSERT INTO bulk VALUES(1)");
    actor_tell(actors[1], "transact f 1");
    end = now_ms() + ACTOR_PATIENCE_MS;
    do {
        ck_assert_msg(now_ms() < end, "it does not wait");
        actor_must(actors[0], "read SELECT count(*) FROM lockstep_waiters");
    } while (strcmp(actor_text(actors[0]), "1") != 0);
    /* More than its cache holds, so it goes to the log before the commit. */
    ck_assert_int_eq(actor_do(actors[0], "exec INSERT INTO bulk VALUES(randomblob(5000000))"), SQLITE_FULL);
    (void)actor_do(actors[0], "exec ROLLBACK"); /* SQLite may have done it */
    ck_assert_msg(actor_hear(actors[1]) == 0, "%s", actor_text(actors[1]));
    all_is_there(2, "the one was refused, and the other has committed");
    actor_must(actors[0], "read SELECT count(*) FROM bulk");
    ck_assert_str_eq(actor_text(actors[0]), "0");
    disk_make_space();
    leave(2);
}
END_TEST

/* FULL, FULL and NORMAL; nobody checkpoints, so the log only grows. */
START_TEST(writers_without_a_pause_are_refused_and_lose_nothing)
{
    enter(3, "&checkpoint=off");
    disk_fill(2000000);
    for (unsigned i = 0; i < 3; i++)
        actor_tell(actors[i], "transact %c 0", "ffa"[i]);
    for (unsigned i = 0; i < 3; i++) {
        int code = stage_hear(&stage, actors[i]);
        ck_assert_msg(code == SQLITE_FULL, "actor %u: %d %s", i + 1, code, actor_text(actors[i]));
    }
    all_is_there(3, "all were refused");
    disk_make_space();
    leave(3);
}
END_TEST

/* Both have committed, and each may have found nobody at work: of two threads that start one becomes the worker. */
static struct actor *
find_worker(void)
{
    int64_t end = now_ms() + ACTOR_PATIENCE_MS;
    for (;;) {
        pid_t pid = stage_worker(&stage);
        for (unsigned i = 0; i < 2; i++)
            if (pid == actor_pid(actors[i]))
                return actors[i];
        ck_assert_msg(now_ms() < end, "nobody is at work");
    }
}

static void
until_logged(struct actor *actor, const char *words)
{
    int64_t end = now_ms() + ACTOR_PATIENCE_MS;
    do {
        ck_assert_msg(now_ms() < end, "not logged: %s", words);
        actor_must(actor, "log");
    } while (strstr(actor_text(actor), words) == NULL);
}

/* What is in the log has no room in the database. */
START_TEST(a_checkpoint_that_has_no_room_is_made_when_there_is)
{
    struct actor *worker;
    int64_t end;
    enter(2, "&max_lag=20&wal_limit=1000000");
    worker = find_worker();
    /* Nothing newer is written back for as long as this is read. */
    actor_must(actors[1], "read BEGIN; SELECT * FROM total");
    actor_must(actors[0], "exec INSERT INTO bulk VALUES(randomblob(6000000))");
    disk_fill(0);
    actor_must(actors[1], "exec COMMIT");
    until_logged(worker, "a checkpoint failed");
    ck_assert_uint_lt(stage_info(&stage).wal_backfilled, stage_info(&stage).wal_frames);
    all_is_there(2, "there is no room for a checkpoint");
    commit_until_full(actors[1]);
    commit_until_full(actors[0]);
    all_is_there(2, "and none for commits");
    disk_make_space();
    for (end = now_ms() + ACTOR_PATIENCE_MS; stage_info(&stage).wal_backfilled < stage_info(&stage).wal_frames;)
        ck_assert_msg(now_ms() < end, "it is not written back");
    actor_must(actors[1], "read SELECT sum(length(v)) FROM bulk");
    ck_assert_str_eq(actor_text(actors[1]), "6000000");
    leave(2);
}
END_TEST

int
main(void)
{
    Suite *suite = suite_create("story_full_disk");
    TCase *tcase = tcase_create("full disk");
    SRunner *runner;
    int failed;
    if (!disk_is_possible()) {
        puts("skipped: a tmpfs cannot be mounted here");
        return 77;
    }
    tcase_set_timeout(tcase, 120);
    tcase_add_loop_test(tcase, a_commit_that_has_no_room_is_refused_to_each_and_undoes_none, 0, 2);
    tcase_add_test(tcase, who_waits_for_a_writer_that_is_refused_goes_on);
    tcase_add_test(tcase, writers_without_a_pause_are_refused_and_lose_nothing);
    tcase_add_test(tcase, a_checkpoint_that_has_no_room_is_made_when_there_is);
    suite_add_tcase(suite, tcase);
    runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
