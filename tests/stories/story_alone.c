/*
 * Promise: in single-process mode (multi_process=0) a process that dies at any instant leaves a database that is as of
 * some commit, with every durable commit in it: for stock SQLite, which may write at once, for Lockstep, and for
 * the next one that is alone.  Commits that were not yet written are lost, and the log says so, and not that somebody
 * removed something.
 *
 * Made to fail by: letting the tripwire be set (stock SQLite may not write, and the log speaks of a coordination file
 * that is missing); leaving the mark out (the log says nothing); FULL that does not wait for its batch (a
 * durable commit is lost); a journal that is not sealed (batch:wrote-run, torn books).
 */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "harness/stage.h"

#define ALONE "&multi_process=0&store_limit=1048576&max_lag=20"
#define ROUNDS 30
#define LEAST_POINTS 20

enum after { STOCK, LOCKSTEP, ALONE_AGAIN, AFTERS };
static const char *const after_names[AFTERS] = {"stock", "lockstep", "alone again"};

static bool
is_there(const struct stage *stage, const char *suffix)
{
    char path[160];
    snprintf(path, sizeof path, "%s%s", stage->path, suffix);
    return access(path, F_OK) == 0;
}

static void
found_books(struct stage *stage)
{
    struct actor *founder;
    stage_open(stage);
    founder = stage_enter(stage, 1, "");
    actor_must(founder, "make");
    actor_must(founder, "transact f 3");
    actor_must(founder, "close");
    actor_finish(founder);
}

/* Not with the ledger: the numbers of commits that were lost come again. */
static void
stock_goes_on(const struct stage *stage, const char *when)
{
    sqlite3 *db = stage_stock(stage, 0);
    int rc = sqlite3_exec(db, "CREATE TABLE more(x); INSERT INTO more VALUES(1); DROP TABLE more", NULL, NULL,
                          NULL);
    ck_assert_msg(rc == SQLITE_OK, "%s: stock SQLite may not write: %s (%d)", when, sqlite3_errmsg(db), rc);
    sqlite3_close(db);
}

static void
lockstep_goes_on(const struct stage *stage, const char *parameters, const char *when)
{
    struct actor *next = stage_enter(stage, 6, parameters);
    struct books books;
    size_t known = ledger_drain(stage->ledger);
    bool marked = is_there(stage, "-lockstep");
    ck_assert_msg(actor_audit(next, &books) == 0, "%s: %s", when, books.wrong);
    ledger_check(stage->ledger, &books, known, false, when);
    actor_must(next, "integrity");
    actor_must(next, "exec CREATE TABLE more(x); DROP TABLE more");
    actor_must(next, "log");
    ck_assert_msg(!marked || strstr(actor_text(next), "that used it alone") != NULL, "%s: %s", when,
                  actor_text(next));
    ck_assert_msg(strstr(actor_text(next), "coordination file is missing") == NULL, "%s: %s", when,
                  actor_text(next));
    actor_must(next, "close");
    actor_finish(next);
    ck_assert_msg(!is_there(stage, "-lockstep") && !is_there(stage, "-journal") &&
                      !is_there(stage, "-lockstep.orphan-1"),
                  "%s: something is left", when);
}

static void
go_on(const struct stage *stage, enum after after, const char *when)
{
    if (after == STOCK) {
        stage_stock_may_read(stage, when);
        stock_goes_on(stage, when);
    }
    lockstep_goes_on(stage, after == ALONE_AGAIN ? ALONE : "", when);
    stage_stock_may_read(stage, when);
    stock_goes_on(stage, when);
}

/* Whether the point was reached. */
static bool
die_at(const char *point, unsigned nth, enum after after)
{
    struct stage stage;
    struct actor *victim;
    char when[160];
    bool died;
    found_books(&stage);
    snprintf(when, sizeof when, "%s:%u, %s", point, nth, after_names[after]);
    victim = actor_start(stage.ledger, 2);
    actor_must(victim, "die %s %u", point, nth);
    actor_must(victim, "open %s", stage_uri(&stage, ALONE));
    died = actor_do(victim, "exec PRAGMA cache_size=8") == ACTOR_ENDED ||
           actor_do(victim, "transact m 60") == ACTOR_ENDED || actor_do(victim, "close") == ACTOR_ENDED;
    actor_finish(victim);
    if (died)
        go_on(&stage, after, when);
    stage_close(&stage);
    return died;
}

START_TEST(a_death_at_any_crash_point_leaves_a_prefix_with_every_durable_commit)
{
    struct ledger *ledger = ledger_open();
    struct actor *actor = actor_start(ledger, 1);
    bool soak = getenv("LKS_SOAK") != NULL;
    char *points, *point, *rest = NULL;
    unsigned reached = 0, i = 0;
    if (actor_do(actor, "points") != 0)
        return; /* built without crash points */
    points = strdup(actor_text(actor));
    actor_finish(actor);
    ledger_close(ledger);
    for (point = strtok_r(points, " ", &rest); point != NULL; point = strtok_r(NULL, " ", &rest), i++)
        for (enum after after = STOCK; after < AFTERS; after++)
            if (soak || after == (enum after)(i % AFTERS))
                reached += die_at(point, 1 + i % 3, after);
    free(points);
    ck_assert_uint_ge(reached, LEAST_POINTS);
}
END_TEST

START_TEST(a_kill_at_any_time_leaves_a_prefix_with_every_durable_commit)
{
    uint32_t random = (uint32_t)getpid() | 1u;
    unsigned round, rounds = getenv("LKS_SOAK") != NULL ? 20 * ROUNDS : ROUNDS;
    printf("seed %u\n", random);
    for (round = 0; round < rounds; round++) {
        struct stage stage;
        struct actor *victim;
        size_t goal;
        char when[64];
        found_books(&stage);
        snprintf(when, sizeof when, "kill %u, %s", round, after_names[round % AFTERS]);
        victim = stage_enter(&stage, 2, ALONE);
        actor_must(victim, "seed %u", books_random(&random));
        goal = ledger_drain(stage.ledger) + 1 + books_random(&random) % 60;
        actor_tell(victim, "transact m 0");
        ck_assert_uint_ge(ledger_wait(stage.ledger, goal, ACTOR_PATIENCE_MS), goal);
        actor_finish(victim);
        go_on(&stage, (enum after)(round % AFTERS), when);
        stage_close(&stage);
    }
}
END_TEST

/* How many of ten commits, five of them durable, are in the file after the kill. */
static int64_t
kept_after_kill(void)
{
    struct stage stage;
    struct actor *victim;
    struct books books;
    sqlite3 *db;
    found_books(&stage);
    victim = stage_enter(&stage, 2, "&multi_process=0&max_lag=3600000");
    actor_must(victim, "transact f 5");
    actor_must(victim, "transact a 5");
    actor_must(victim, "audit");
    actor_finish(victim);
    stage_stock_may_read(&stage, "killed");
    db = stage_stock(&stage, 0);
    ck_assert_int_eq(books_read(db, &books), SQLITE_OK);
    sqlite3_close(db);
    lockstep_goes_on(&stage, "", "killed");
    stage_close(&stage);
    return books.n - 3;
}

/* max_lag is a limit: the worker may come earlier, but not each time. */
START_TEST(a_kill_loses_what_was_not_written_and_nothing_that_was_durable)
{
    int64_t kept = 10;
    int i;
    for (i = 0; i < 20 && kept == 10; i++) {
        kept = kept_after_kill();
        ck_assert_int_ge(kept, 5);
        ck_assert_int_le(kept, 10);
    }
    ck_assert_int_lt(kept, 10);
}
END_TEST

int
main(void)
{
    Suite *suite = suite_create("story_alone");
    TCase *tcase = tcase_create("alone");
    SRunner *runner;
    int failed;
    tcase_set_timeout(tcase, getenv("LKS_SOAK") != NULL ? 3600 : 120);
    tcase_add_test(tcase, a_death_at_any_crash_point_leaves_a_prefix_with_every_durable_commit);
    tcase_add_test(tcase, a_kill_at_any_time_leaves_a_prefix_with_every_durable_commit);
    tcase_add_test(tcase, a_kill_loses_what_was_not_written_and_nothing_that_was_durable);
    suite_add_tcase(suite, tcase);
    runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
