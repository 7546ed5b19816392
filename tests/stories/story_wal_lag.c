/*
 * Promise: in WAL mode a NORMAL commit is synced within max_lag, by whatever process, also if the one that made it does
 * nothing more, and the one whose thread is at work is stopped or dies meanwhile; and whoever waits for a commit
 * has it durable, whatever was asked for when it was made.
 *
 * The test looks at the coordination file from outside, so nothing that it does makes anybody sync.
 *
 * Made to fail by: no deputy (never synced, when the worker is stopped or killed); a thread that is not woken when it
 * sleeps for long; a thread for everybody; a dead deputy that the worker does not look for, or that reaping does not forget.
 * In checkpoint.c: has_deputy() without lks_standby_notice() (a third process's commit), without lks_client_reap() (both
 * are dead); lks_standby_call() that rings nobody (a worker that leaves); stop_worker() that rings in any case (the last).
 */
#include <check.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "harness/clock.h"
#include "harness/stage.h"
#include "shm/layout.h"

#define LAG_MS 400
#define LAG "&max_lag=400"
/* For the sync, and for a busy machine. */
#define SLACK_MS 4000
#define HOUR "&max_lag=3600000"

static struct stage stage;
/* The worker, and who commits and then is quiet. */
static struct actor *worker, *quiet;

/* Both are connected; the first has the thread that works. */
static void
enter(const char *parameters)
{
    stage_open(&stage);
    worker = stage_enter(&stage, 1, parameters);
    actor_must(worker, "exec PRAGMA journal_mode=WAL");
    actor_must(worker, "make");
    actor_must(worker, "exec CREATE TABLE extra(v)");
    actor_must(worker, "transact a 3");
    for (int64_t begin = now_ms(); stage_worker(&stage) != actor_pid(worker);)
        ck_assert_int_lt(now_ms() - begin, ACTOR_PATIENCE_MS);
    quiet = stage_enter(&stage, 2, parameters);
    actor_must(quiet, "audit");
}

static void
leave(void)
{
    if (!actor_ended(worker)) {
        stage_audit(&stage, worker, "at the end");
        actor_must(worker, "close");
    }
    stage_audit(&stage, quiet, "at the end");
    actor_must(quiet, "close");
    actor_finish(worker);
    actor_finish(quiet);
    stage_left_clean(&stage, "at the end");
    stage_close(&stage);
}

/* The commits of before a moment are durable within the lag. */
static void
synced_in_time(uint64_t ticket, int64_t begin, const char *when)
{
    int64_t took;
    while (stage_info(&stage).durable < ticket && now_ms() - begin < LAG_MS + SLACK_MS)
        usleep(1000);
    took = now_ms() - begin;
    ck_assert_msg(stage_info(&stage).durable >= ticket, "%s: not durable after %lld ms", when, (long long)took);
    printf("%s: durable after %lld ms, max_lag %d\n", when, (long long)took, LAG_MS);
}

enum fate { GOES_ON, STOPPED, KILLED };
static const char *const fates[] = {"goes on", "is stopped", "is killed"};

static void
strike(enum fate fate)
{
    if (fate == STOPPED)
        actor_stop(worker);
    else if (fate == KILLED)
        actor_kill(worker);
}

START_TEST(a_commit_of_a_process_that_is_quiet_afterwards_is_synced_in_time)
{
    enum fate fate = (enum fate)(_i % 3);
    bool before = _i >= 3;
    uint64_t ticket, syncs;
    char when[80];
    int64_t begin;
    snprintf(when, sizeof when, "the worker %s %s", fates[fate], before ? "before the commit" : "after it");
    enter(LAG);
    /* What came before is durable, and nothing else is under way. */
    actor_must(quiet, "exec PRAGMA lockstep_flush");
    if (before) {
        /* It has a thread of its own already, which sleeps for long. */
        actor_must(quiet, "transact a 1");
        actor_must(quiet, "exec PRAGMA lockstep_flush");
        strike(fate);
    }
    syncs = stage_info(&stage).syncs;
    begin = now_ms();
    actor_must(quiet, "transact a 3");
    ticket = stage_info(&stage).committed;
    if (!before)
        strike(fate);
    synced_in_time(ticket, begin, when);
    ck_assert_uint_gt(stage_info(&stage).syncs, syncs);
    if (fate == STOPPED)
        actor_continue(worker);
    leave();
}
END_TEST

/*
 * The thread of a process that is not the worker sleeps for a second while there is nothing to do; its committer wakes it.
 * Each commit here finds it asleep, so one that does not wake it is late by most of that second.
 */
START_TEST(a_thread_that_sleeps_for_long_is_woken_by_a_commit)
{
    unsigned i, late = 0;
    enter("&max_lag=20");
    actor_must(quiet, "transact a 1");
    actor_must(quiet, "exec PRAGMA lockstep_flush");
    actor_stop(worker);
    for (i = 0; i < 6; i++) {
        int64_t begin;
        uint64_t ticket;
        /* The sync of the last commit passes points: the newest is not of before that. */
        int code = actor_do(quiet, "await checkpoint:idle");
        if (code == SQLITE_NOTFOUND)
            break; /* no crash points in this build */
        ck_assert_msg(code == 0, "the thread has come to %s", actor_text(quiet));
        begin = now_ms();
        actor_must(quiet, "transact a 1");
        ticket = stage_info(&stage).committed;
        while (stage_info(&stage).durable < ticket && now_ms() - begin < SLACK_MS)
            usleep(1000);
        ck_assert_uint_ge(stage_info(&stage).durable, ticket);
        late += now_ms() - begin > 500;
    }
    printf("%u of %u later than 500 ms\n", late, i);
    ck_assert_uint_le(late, 1); /* on a busy machine */
    actor_continue(worker);
    leave();
}
END_TEST

static int
threads_of(const struct actor *actor)
{
    char path[64], line[200];
    int threads = 0;
    FILE *status;
    snprintf(path, sizeof path, "/proc/%d/status", (int)actor_pid(actor));
    status = fopen(path, "re");
    ck_assert_ptr_nonnull(status);
    while (fgets(line, sizeof line, status) != NULL)
        (void)sscanf(line, "Threads: %d", &threads);
    fclose(status);
    return threads;
}

/* A second thread costs a process a fifth of its rate: there are a worker and a deputy, and one that died is replaced. */
START_TEST(there_is_one_deputy_and_a_dead_one_is_replaced)
{
    struct actor *third;
    uint64_t ticket;
    int64_t begin;
    int plain;
    enter(LAG);
    third = stage_enter(&stage, 3, LAG);
    plain = threads_of(third); /* a sanitizer may have one of its own */
    actor_must(quiet, "transact a 3");
    actor_must(third, "transact m 30");
    actor_must(third, "transact a 3");
    ck_assert_int_eq(threads_of(quiet), plain + 1);
    ck_assert_int_eq(threads_of(third), plain);
    ck_assert(stage_has_deputy(&stage));
    actor_kill(quiet);
    /* The worker finds out by itself; the next commit then replaces it. */
    for (begin = now_ms(); stage_has_deputy(&stage);)
        ck_assert_int_lt(now_ms() - begin, ACTOR_PATIENCE_MS);
    printf("a dead deputy was noticed after %lld ms\n", (long long)(now_ms() - begin));
    ck_assert_int_eq(threads_of(third), plain);
    actor_must(third, "transact a 1");
    ck_assert_int_eq(threads_of(third), plain + 1);
    actor_must(third, "exec PRAGMA lockstep_flush");
    actor_stop(worker);
    begin = now_ms();
    actor_must(third, "transact a 3");
    ticket = stage_info(&stage).committed;
    synced_in_time(ticket, begin, "the worker is stopped, and the first deputy dead");
    actor_continue(worker);
    actor_finish(quiet);
    quiet = third;
    leave();
}
END_TEST

/* No lag is due in an hour: only who waits has it synced, itself or another. */
START_TEST(whoever_waits_for_a_commit_has_it_durable_at_each_level)
{
    static const char *const levels[] = {"OFF", "NORMAL", "FULL"};
    uint64_t ticket;
    int level;
    enter(HOUR);
    for (level = 0; level < 3; level++) {
        actor_must(quiet, "exec PRAGMA synchronous=%s; INSERT INTO extra VALUES(1)", levels[level]);
        ticket = stage_info(&stage).committed;
        if (level == 2)
            ck_assert_uint_ge(stage_info(&stage).durable, ticket);
        else
            ck_assert_msg(stage_info(&stage).durable < ticket, "%s: durable (%llu of %llu) though nobody has waited", levels[level],
                          (unsigned long long)stage_info(&stage).durable, (unsigned long long)ticket);
        /* Another process, which has read it. */
        if (level == 0) {
            actor_must(worker, "read SELECT n FROM total");
            actor_must(worker, "exec PRAGMA lockstep_wait");
        } else {
            actor_must(quiet, "read PRAGMA lockstep_ticket");
            actor_must(quiet, "exec PRAGMA lockstep_wait=%s", actor_text(quiet));
        }
        ck_assert_uint_ge(stage_info(&stage).durable, ticket);
        actor_must(quiet, "exec PRAGMA lockstep_flush");
    }
    leave();
}
END_TEST

/* The coordination file as it is. */
static const struct lks_shm *
map_coordination(void)
{
    char path[128];
    const struct lks_shm *shm;
    int fd;
    snprintf(path, sizeof path, "%s-lockstep", stage.path);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    ck_assert_int_ge(fd, 0);
    shm = mmap(NULL, sizeof *shm, PROT_READ, MAP_SHARED, fd, 0);
    ck_assert(shm != MAP_FAILED);
    close(fd);
    return shm;
}

/* Until the thread of that process stands by in this way. */
static void
await_standby(const struct lks_shm *shm, const struct actor *actor, enum lks_standby how)
{
    int64_t begin = now_ms();
    uint32_t i = 0;
    while (lks_a32_acquire(&shm->clients[i].pid) != (uint32_t)actor_pid(actor))
        ck_assert_uint_lt(++i, LKS_MAX_CLIENTS);
    while (lks_a32_acquire(&shm->clients[i].standby) != (uint32_t)how) {
        ck_assert_int_lt(now_ms() - begin, ACTOR_PATIENCE_MS);
        usleep(1000);
    }
}

/*
 * A third process, and `quiet` is the deputy: its thread has just begun to sleep, for a second.  What needs it within that
 * time has LATE_MS.
 */
#define LATE_MS 700
static struct actor *
let_the_deputy_sleep(const struct lks_shm **out_shm)
{
    struct actor *third;
    enter(LAG);
    third = stage_enter(&stage, 3, LAG);
    actor_must(third, "audit");
    *out_shm = map_coordination();
    actor_must(quiet, "transact a 1");
    await_standby(*out_shm, quiet, LKS_STANDBY_WATCHING);
    await_standby(*out_shm, quiet, LKS_STANDBY_IDLE);
    ck_assert_uint_ge(stage_info(&stage).durable, stage_info(&stage).committed);
    return third;
}

/* The worker is gone: what is left of the company ends in order. */
static void
end_without(struct actor *third, bool deputy_gone)
{
    stage_audit(&stage, third, "at the end");
    if (!deputy_gone)
        actor_must(quiet, "close");
    actor_must(third, "close");
    actor_finish(worker);
    actor_finish(quiet);
    actor_finish(third);
    stage_left_clean(&stage, "at the end");
    stage_close(&stage);
}

START_TEST(the_deputy_is_woken_by_a_third_process_when_the_worker_is_dead)
{
    const struct lks_shm *shm;
    struct actor *third = let_the_deputy_sleep(&shm);
    int64_t begin = now_ms(), took;
    actor_kill(worker);
    actor_must(third, "transact a 1");
    while (lks_a64_acquire(&shm->state.durable) < lks_a64_acquire(&shm->state.committed) &&
           now_ms() - begin < 2 * LATE_MS)
        usleep(1000);
    took = now_ms() - begin;
    printf("synced by the deputy after %lld ms\n", (long long)took);
    ck_assert_int_lt(took, LATE_MS);
    ck_assert_int_eq(stage_worker(&stage), actor_pid(quiet));
    end_without(third, false);
}
END_TEST

START_TEST(who_commits_when_worker_and_deputy_are_dead_takes_their_place)
{
    const struct lks_shm *shm;
    struct actor *third = let_the_deputy_sleep(&shm);
    uint64_t ticket;
    int64_t begin;
    actor_kill(worker);
    actor_kill(quiet);
    begin = now_ms();
    actor_must(third, "transact a 1");
    ticket = lks_a64_acquire(&shm->state.committed);
    synced_in_time(ticket, begin, "worker and deputy are dead");
    ck_assert_int_eq(stage_worker(&stage), actor_pid(third));
    end_without(third, true);
}
END_TEST

START_TEST(the_deputy_follows_a_worker_that_leaves_at_once)
{
    const struct lks_shm *shm;
    struct actor *third = let_the_deputy_sleep(&shm);
    int64_t begin = now_ms();
    actor_must(worker, "close");
    while (stage_worker(&stage) != actor_pid(quiet) && now_ms() - begin < 2 * LATE_MS)
        usleep(1000);
    ck_assert_int_lt(now_ms() - begin, LATE_MS);
    end_without(third, false);
}
END_TEST

START_TEST(a_deputy_that_leaves_does_not_wake_the_worker)
{
    const struct lks_shm *shm;
    uint32_t bell;
    enter(HOUR);
    shm = map_coordination();
    actor_must(quiet, "transact a 1");
    await_standby(shm, quiet, LKS_STANDBY_WATCHING);
    while (lks_a32_acquire(&shm->state.worker_asleep) != LKS_WORKER_NAPPING)
        usleep(1000);
    bell = lks_a32_acquire(&shm->state.work_bell);
    actor_must(quiet, "close");
    ck_assert_uint_eq(lks_a32_acquire(&shm->state.work_bell), bell);
    ck_assert_uint_eq(lks_a32_acquire(&shm->state.worker_asleep), LKS_WORKER_NAPPING);
    stage_audit(&stage, worker, "at the end");
    actor_must(worker, "close");
    actor_finish(worker);
    actor_finish(quiet);
    stage_left_clean(&stage, "at the end");
    stage_close(&stage);
}
END_TEST

int
main(void)
{
    Suite *suite = suite_create("story_wal_lag");
    TCase *tcase = tcase_create("lag");
    SRunner *runner;
    int failed;
    tcase_set_timeout(tcase, 120);
    tcase_add_loop_test(tcase, a_commit_of_a_process_that_is_quiet_afterwards_is_synced_in_time, 0, 6);
    tcase_add_test(tcase, a_thread_that_sleeps_for_long_is_woken_by_a_commit);
    tcase_add_test(tcase, there_is_one_deputy_and_a_dead_one_is_replaced);
    tcase_add_test(tcase, whoever_waits_for_a_commit_has_it_durable_at_each_level);
    tcase_add_test(tcase, the_deputy_is_woken_by_a_third_process_when_the_worker_is_dead);
    tcase_add_test(tcase, who_commits_when_worker_and_deputy_are_dead_takes_their_place);
    tcase_add_test(tcase, the_deputy_follows_a_worker_that_leaves_at_once);
    tcase_add_test(tcase, a_deputy_that_leaves_does_not_wake_the_worker);
    suite_add_tcase(suite, tcase);
    runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
