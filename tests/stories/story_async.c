/*
 * Promise: processes that use the VFS "sqlite3async" and die at any instant, in a commit or in a run, lose no commit
 * that was acknowledged; another process goes on meanwhile and writes what they left.
 */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "harness/stage.h"

#define ASYNC "&vfs=sqlite3async&max_lag=5&store_limit=1048576"
#define LEAST_POINTS 20

static void
found_books(struct stage *stage)
{
    struct actor *founder;
    stage_open(stage);
    founder = stage_enter(stage, 1, "");
    actor_must(founder, "make");
    actor_must(founder, "close");
    actor_finish(founder);
}

/* Whether the point was reached.  `beside`: another process has it open and goes on. */
static bool
die_at(const char *point, unsigned nth, bool beside)
{
    struct stage stage;
    struct actor *victim, *other = NULL;
    char when[120];
    bool died;
    found_books(&stage);
    snprintf(when, sizeof when, "%s:%u%s", point, nth, beside ? ", beside another" : "");
    if (beside) {
        other = stage_enter(&stage, 3, ASYNC);
        actor_must(other, "transact a 2");
    }
    victim = actor_start(stage.ledger, 2);
    actor_must(victim, "die %s %u", point, nth);
    died = actor_do(victim, "open %s", stage_uri(&stage, ASYNC)) == ACTOR_ENDED ||
           actor_do(victim, "transact a 20") == ACTOR_ENDED || actor_do(victim, "run") == ACTOR_ENDED ||
           actor_do(victim, "transact a 60") == ACTOR_ENDED || actor_do(victim, "stop") == ACTOR_ENDED ||
           actor_do(victim, "close") == ACTOR_ENDED;
    actor_finish(victim);
    if (!beside)
        other = stage_enter(&stage, 3, ASYNC);
    stage_audit(&stage, other, when);
    actor_must(other, "transact a 5");
    actor_must(other, "run");
    actor_must(other, "transact a 5");
    actor_must(other, "stop");
    stage_audit(&stage, other, when);
    actor_must(other, "close");
    actor_finish(other);
    stage_left_clean(&stage, when);
    stage_close(&stage);
    return died;
}

START_TEST(a_death_at_any_crash_point_loses_nothing)
{
    struct ledger *ledger = ledger_open();
    struct actor *actor = actor_start(ledger, 1);
    char *points, *point, *rest = NULL;
    unsigned reached = 0, i = 0;
    if (actor_do(actor, "points") != 0)
        return; /* built without crash points */
    points = strdup(actor_text(actor));
    actor_finish(actor);
    ledger_close(ledger);
    for (point = strtok_r(points, " ", &rest); point != NULL; point = strtok_r(NULL, " ", &rest), i++) {
        reached += die_at(point, 1 + i % 3, i % 2 == 0);
        if (getenv("LKS_SOAK") != NULL)
            reached += die_at(point, 1 + i % 3, i % 2 != 0);
    }
    free(points);
    ck_assert_uint_ge(reached, LEAST_POINTS);
}
END_TEST

/* Nobody runs anywhere; two processes commit in turn, and both are killed. */
START_TEST(commits_of_two_processes_that_nobody_wrote_are_adopted)
{
    struct stage stage;
    struct actor *a, *b, *next;
    int i;
    found_books(&stage);
    a = stage_enter(&stage, 2, ASYNC);
    b = stage_enter(&stage, 3, ASYNC);
    for (i = 0; i < 10; i++) {
        actor_must(a, "transact a 1");
        actor_must(b, "transact a 1");
    }
    actor_kill(a);
    /* The one is not concerned by the death of the other. */
    actor_must(b, "transact a 1");
    stage_audit(&stage, b, "one was killed");
    actor_kill(b);
    actor_finish(a);
    actor_finish(b);
    /* Nobody may write under commits that wait. */
    ck_assert(!stage_stock_writes(&stage, "both were killed"));
    next = stage_enter(&stage, 4, ASYNC);
    stage_audit(&stage, next, "both were killed");
    actor_must(next, "close");
    actor_finish(next);
    stage_left_clean(&stage, "closed");
    stage_close(&stage);
}
END_TEST

int
main(void)
{
    Suite *suite = suite_create("story_async");
    TCase *tcase = tcase_create("async");
    SRunner *runner;
    int failed;
    tcase_set_timeout(tcase, getenv("LKS_SOAK") != NULL ? 3600 : 120);
    tcase_add_test(tcase, a_death_at_any_crash_point_loses_nothing);
    tcase_add_test(tcase, commits_of_two_processes_that_nobody_wrote_are_adopted);
    suite_add_tcase(suite, tcase);
    runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
