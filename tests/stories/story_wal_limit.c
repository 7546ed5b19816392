/*
 * Promise: in WAL mode a log that has grown beyond wal_limit is truncated, in the background, as soon as no reader is in the
 * way; a reader, of whatever kind, is not waited for, and nobody waits for it; when it has left the log comes down, also
 * if nobody commits any more.
 *
 * Made to fail by: looking at the limit only when there is something to be written back (it stays long); not truncating;
 * waiting for the reader (200 commits take too long); a reader that does not look whether anybody is at work.
 */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "harness/clock.h"
#include "harness/stage.h"

#define LIMIT_BYTES 2000000
#define LIMIT "&wal_limit=2000000&max_lag=20"
#define STOCK "&vfs=unix"
#define PATIENCE_MS 8000
#define WRITERS 4

static struct stage stage;

/* By its name: to open and close it would do no harm in this process, which has no lock on it. */
static int64_t
log_bytes(void)
{
    char path[128];
    struct stat log;
    snprintf(path, sizeof path, "%s-wal", stage.path);
    return stat(path, &log) == 0 ? (int64_t)log.st_size : 0;
}

static struct actor *
enter(void)
{
    struct actor *writer;
    stage_open(&stage);
    writer = stage_enter(&stage, 1, LIMIT);
    actor_must(writer, "exec PRAGMA journal_mode=WAL");
    actor_must(writer, "make");
    actor_must(writer, "exec CREATE TABLE bulk(v)");
    actor_must(writer, "transact a 10");
    return writer;
}

static void
retire(struct actor **actors, size_t n)
{
    stage_retire(&stage, actors, n, "at the end");
    stage_close(&stage);
}

/* All are connected, and none does anything. */
static void
comes_down(const char *when)
{
    int64_t begin = now_ms();
    while (log_bytes() > LIMIT_BYTES && now_ms() < begin + PATIENCE_MS)
        usleep(1000);
    ck_assert_msg(log_bytes() <= LIMIT_BYTES, "%s: still %lld bytes after %lld ms", when, (long long)log_bytes(),
                  (long long)(now_ms() - begin));
    printf("%s: below its limit after %lld ms\n", when, (long long)(now_ms() - begin));
}

START_TEST(a_log_beyond_its_limit_comes_down_when_its_reader_has_left)
{
    bool stock = _i % 2 == 1, newest = _i >= 2;
    struct actor *actors[2];
    char before[2000], when[80];
    int64_t begin;
    snprintf(when, sizeof when, "a %s reader, of the %s snapshot", stock ? "stock" : "Lockstep",
             newest ? "newest" : "oldest");
    actors[0] = enter();
    actors[1] = stage_enter(&stage, 2, stock ? STOCK : "");
    if (!newest)
        actor_must(actors[1], "read BEGIN; SELECT * FROM total");
    /* Beyond the limit, by a transaction that is larger. */
    actor_must(actors[0], "exec PRAGMA synchronous=NORMAL; INSERT INTO bulk VALUES(randomblob(3000000))");
    if (newest)
        actor_must(actors[1], "read BEGIN; SELECT * FROM total");
    actor_must(actors[1], "read SELECT * FROM total");
    snprintf(before, sizeof before, "%s", actor_text(actors[1]));
    begin = now_ms();
    actor_must(actors[0], "transact a 200");
    /* Nobody waited for the reader, who is in the way and sees what it saw. */
    ck_assert_msg(now_ms() - begin < PATIENCE_MS, "%lld ms", (long long)(now_ms() - begin));
    ck_assert_int_gt(log_bytes(), LIMIT_BYTES);
    actor_must(actors[1], "read SELECT * FROM total");
    ck_assert_str_eq(actor_text(actors[1]), before);
    actor_must(actors[1], "exec COMMIT");
    comes_down(when);
    retire(actors, 2);
}
END_TEST

/* The worker has left under the reader, who is the only one there, and only reads. */
START_TEST(a_log_comes_down_though_who_wrote_it_has_left)
{
    struct actor *actors[2];
    actors[0] = enter();
    actors[1] = stage_enter(&stage, 2, "");
    actor_must(actors[1], "read BEGIN; SELECT * FROM total");
    actor_must(actors[0], "exec INSERT INTO bulk VALUES(randomblob(6000000))");
    actor_must(actors[0], "close");
    ck_assert_int_eq(stage_worker(&stage), 0);
    ck_assert_int_gt(log_bytes(), LIMIT_BYTES);
    actor_must(actors[1], "exec COMMIT");
    comes_down("without the one who wrote it");
    ck_assert_int_eq(stage_worker(&stage), actor_pid(actors[1]));
    actor_must(actors[0], "open %s", stage_uri(&stage, LIMIT));
    retire(actors, 2);
}
END_TEST

static void
tell_all(struct actor **actors, size_t n, const char *order)
{
    size_t i;
    for (i = 0; i < n; i++)
        actor_tell(actors[i], "%s", order);
}

/* Writers without a pause: how long it gets is measured; that it is truncated, and comes down, is promised. */
START_TEST(a_log_that_outruns_its_limit_is_truncated_again_and_again)
{
    struct actor *actors[WRITERS + 1];
    size_t readers = (size_t)_i, n = WRITERS + readers, i;
    unsigned truncated = 0, goal = readers > 0 ? 1 : 5;
    int64_t begin, most = 0, before = 0;
    actors[0] = enter();
    actor_must(actors[0], "timeout 20000");
    for (i = 1; i < n; i++) {
        actors[i] = stage_enter(&stage, (unsigned)i + 1, "");
        actor_must(actors[i], "timeout 20000");
    }
    begin = now_ms();
    tell_all(actors, WRITERS, "transact a 0");
    tell_all(actors + WRITERS, readers, "watch 0");
    while (truncated < goal && now_ms() < begin + 2 * PATIENCE_MS) {
        int64_t now = log_bytes();
        truncated += now < before && before > LIMIT_BYTES;
        before = now;
        most = now > most ? now : most;
        (void)ledger_drain(stage.ledger);
    }
    printf("%s: truncated %u times in %lld ms; at most %.1f MB beyond its limit\n",
           readers > 0 ? "beside a reader without a pause" : "without readers", truncated,
           (long long)(now_ms() - begin), (double)(most - LIMIT_BYTES) / 1e6);
    ck_assert_uint_ge(truncated, goal);
    stage_halt(&stage, actors, n, "at the end");
    comes_down("after the last commit");
    retire(actors, n);
}
END_TEST

int
main(void)
{
    Suite *suite = suite_create("story_wal_limit");
    TCase *tcase = tcase_create("limit");
    SRunner *runner;
    int failed;
    tcase_set_timeout(tcase, 120);
    tcase_add_loop_test(tcase, a_log_beyond_its_limit_comes_down_when_its_reader_has_left, 0, 4);
    tcase_add_test(tcase, a_log_comes_down_though_who_wrote_it_has_left);
    tcase_add_loop_test(tcase, a_log_that_outruns_its_limit_is_truncated_again_and_again, 0, 2);
    suite_add_tcase(suite, tcase);
    runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
