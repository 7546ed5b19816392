/*
 * Promise: processes that share the WAL-index by copying (shm=copy) and stock ones that have it mapped use one database at
 * the same time, die at any instant, and nothing that was acknowledged is lost or torn.
 *
 * Eight of each; both write and watch.  Some are killed at random; of ours some die between two steps of a release
 * (the crash points `shm:`), so that the index is left with page numbers without slots, with hash words without a
 * header, with one new copy of the header of two.
 *
 * Made to fail by: no release before WRITE is dropped; an acquire of hash words while they are being written.  (Commits
 * missing, books that do not add up.)  What takes a rarer meeting is shown without chance in vfs/test_shm_copy.c and
 * test_copy_file.c.
 */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>

#include "harness/clock.h"
#include "harness/stage.h"

#define ACTORS 16
#define STOCK "&vfs=unix"
#define OURS "&shm=copy&max_lag=20"
#define SOAK_MS 200000

static const char *const points[] = {"shm:pages", "shm:hash", "shm:second", "shm:first"};
#define POINTS (sizeof points / sizeof points[0])

static uint32_t seed;
static struct stage stage;
static struct actor *fleet[ACTORS];
static bool doomed[ACTORS]; /* it will die at a crash point */
static bool have_points = true;
static unsigned kills, stock_kills, deaths;

static bool
is_stock(unsigned i)
{
    return i % 2 == 1;
}

static bool
watches(unsigned i)
{
    return i >= ACTORS - 4;
}

static void
enter(unsigned i, uint32_t *random)
{
    fleet[i] = stage_enter(&stage, i + 1, is_stock(i) ? STOCK : OURS);
    actor_must(fleet[i], "seed %u", books_random(random));
    actor_must(fleet[i], "timeout 30000");
    doomed[i] = false;
    if (!is_stock(i) && !watches(i) && have_points && books_random(random) % 2 == 0) {
        doomed[i] = actor_do(fleet[i], "die %s %u", points[books_random(random) % POINTS],
                             1 + books_random(random) % 100) == 0;
        have_points = doomed[i];
    }
    if (watches(i))
        actor_tell(fleet[i], "watch 0");
    else
        actor_tell(fleet[i], "transact %c 0", "mafm"[i / 2 % 4]);
}

/* Who has died at a point is replaced; anybody else who stops has found something wrong. */
static void
look_around(const char *when, uint32_t *random)
{
    for (unsigned i = 0; i < ACTORS; i++) {
        int code;
        if (!actor_answers(fleet[i], 0))
            continue;
        code = actor_hear(fleet[i]);
        if (code != ACTOR_ENDED || !doomed[i])
            ck_abort_msg("%s: actor %u gave up: %d %s", when, i + 1, code, actor_text(fleet[i]));
        actor_finish(fleet[i]);
        deaths++;
        enter(i, random);
    }
}

static void
kill_one(uint32_t *random)
{
    unsigned victim = books_random(random) % ACTORS;
    char when[40];
    snprintf(when, sizeof when, "kill %u", kills + 1);
    stage_let_commit(&stage, 60, random, when);
    look_around(when, random);
    actor_finish(fleet[victim]);
    kills++;
    stock_kills += is_stock(victim);
    if (books_random(random) % 4 == 0)
        stage_stock_may_read(&stage, when);
    enter(victim, random);
}

/* Those that were to die at a point, and have not, are replaced by others who only look. */
static void
bring_in(void)
{
    struct actor *living[ACTORS];
    size_t n = 0;
    for (unsigned i = 0; i < ACTORS; i++)
        if (!doomed[i])
            living[n++] = fleet[i];
    stage_halt(&stage, living, n, "at the end");
    for (unsigned i = 0; i < ACTORS; i++)
        if (doomed[i]) {
            actor_finish(fleet[i]);
            fleet[i] = stage_enter(&stage, i + 1, OURS);
        }
}

START_TEST(copying_and_mapping_processes_lose_nothing_in_the_midst_of_kills)
{
    uint32_t random = seed | 1u;
    bool soak = getenv("LKS_SOAK") != NULL;
    int64_t end = now_ms() + SOAK_MS;
    printf("seed %u\n", seed);
    fflush(stdout);
    stage_open(&stage);
    stage_found_wal(&stage, OURS);
    for (unsigned i = 0; i < ACTORS; i++)
        enter(i, &random);
    while (soak ? now_ms() < end : kills < 60)
        kill_one(&random);
    bring_in();
    printf("%u kills, %u of stock processes; %u deaths in a release; %zu commits acknowledged\n", kills, stock_kills,
           deaths, ledger_drain(stage.ledger));
    ck_assert_uint_gt(stock_kills, 0);
    ck_assert_uint_lt(stock_kills, kills);
    stage_retire(&stage, fleet, ACTORS, "at the end");
    stage_close(&stage);
}
END_TEST

int
main(int argc, char **argv)
{
    Suite *suite = suite_create("story_shm_copy");
    TCase *tcase = tcase_create("shm=copy");
    SRunner *runner;
    int failed;
    seed = stage_seed(argc, argv);
    tcase_set_timeout(tcase, getenv("LKS_SOAK") != NULL ? 3600 : 120);
    tcase_add_test(tcase, copying_and_mapping_processes_lose_nothing_in_the_midst_of_kills);
    suite_add_tcase(suite, tcase);
    runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
