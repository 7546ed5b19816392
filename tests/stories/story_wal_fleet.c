/*
 * Promise: in WAL mode stock SQLite and Lockstep on one file, FULL and NORMAL beside each other, lose nothing and tear
 * nothing, whoever is killed or stopped.
 *
 * Half of the actors open the file with vfs=unix: they know nothing of Lockstep, checkpoint by themselves after 1000 frames,
 * and one of them checkpoints in all modes all the time.  Meanwhile, by turns and by chance:
 *   anybody is killed; the process that checkpoints in the background is killed, or stopped for a while; one of
 *   Lockstep's dies where it leads a sync, checkpoints as the owner of the writer lock, has published, ...; a stock
 *   writer is stopped for a while; a stock process is killed while it holds the write lock and has frames in the log
 *   that are not committed.
 * The books must add up all the time, and at the end for every actor and for stock SQLite.
 *
 * LKS_FLEET_SECONDS: how long, 4 by default, 180 with LKS_SOAK=1.  --seed N or LKS_SEED: the dice.
 *
 * Made to fail by: taking a stock process's refusal of WRITE for a grant (the database is malformed); frames that are not
 * written; a dead owner of WRITER that is not taken over (four writers do not commit any more).
 */
#include <check.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "harness/clock.h"
#include "harness/stage.h"

#define STOCK "&vfs=unix"
#define REPORT_MS 5000

static const struct role {
    const char *parameters, *order;
    const char *prepare; /* NULL: nothing */
    bool writes;
} roles[] = {
    {"&max_lag=20", "transact m 0", NULL, true},
    {"&max_lag=20", "transact a 0", NULL, true},
    {"", "transact f 0", NULL, true},
    {"", "transact m 0", NULL, true},
    {STOCK, "transact m 0", NULL, true},
    {STOCK, "transact a 0", "PRAGMA synchronous=NORMAL", true},
    {STOCK, "transact f 0", NULL, true},
    {"", "watch 0", NULL, false},
    {STOCK, "watch 0", NULL, false},
    {STOCK, "checkpoint 0", NULL, false},
};
#define ACTORS (sizeof roles / sizeof roles[0])

/* Where one of Lockstep's writers may be told to die. */
static const char *const points[] = {
    "groupsync:leading", "groupsync:synced", "groupsync:published", "groupsync:resigned", "groupsync:waiting",
    "wal:locked",        "wal:appended",     "wal:ticketed",        "wal:unlocked",       "wal:visible",
    "checkpoint:due",    "checkpoint:done",  "checkpoint:writer",   "checkpoint:sync",    "queue:returned",
    "queue:reserved",    "queue:owned",      "queue:entered"};
#define POINTS (sizeof points / sizeof points[0])

enum event { KILL_ANYBODY, KILL_WORKER, STOP_WORKER, STOP_STOCK, KILL_IN_COMMIT, LOOK, EVENTS };

static uint32_t seed, dice;
static struct stage stage;
static struct actor *fleet[ACTORS];
static bool armed[ACTORS];
static unsigned happened[EVENTS], at_points;

static uint32_t
roll(uint32_t sides)
{
    return books_random(&dice) % sides;
}

static void
nap(uint32_t most_ms)
{
    uint64_t ns = (uint64_t)roll(most_ms * 1000) * 1000;
    struct timespec t = {.tv_sec = (time_t)(ns / 1000000000u), .tv_nsec = (long)(ns % 1000000000u)};
    nanosleep(&t, NULL);
}

static bool
is_stock(size_t i)
{
    return strcmp(roles[i].parameters, STOCK) == 0;
}

static void
enter(size_t i)
{
    fleet[i] = stage_enter(&stage, (unsigned)i + 1, roles[i].parameters);
    actor_must(fleet[i], "seed %u", books_random(&dice));
    actor_must(fleet[i], "timeout 20000");
    if (roles[i].prepare != NULL)
        actor_must(fleet[i], "exec %s", roles[i].prepare);
    /* Without --enable-debug there are no points. */
    armed[i] = roles[i].writes && !is_stock(i) && roll(2) == 0 &&
               actor_do(fleet[i], "die %s %u", points[roll(POINTS)], 1 + roll(60)) == 0;
    actor_tell(fleet[i], "%s", roles[i].order);
}

static void
replace(size_t i)
{
    actor_finish(fleet[i]);
    enter(i);
}

/* Nobody may have given up; who died where it was told to is replaced. */
static void
check_fleet(void)
{
    size_t i;
    for (i = 0; i < ACTORS; i++) {
        int code;
        if (!actor_answers(fleet[i], 0))
            continue;
        code = actor_hear(fleet[i]);
        if (code != ACTOR_ENDED || !armed[i] || actor_wait(fleet[i]) != SIGKILL)
            ck_abort_msg("seed %u: actor %zu gave up: %d %s", seed, i + 1, code, actor_text(fleet[i]));
        at_points++;
        replace(i);
    }
}

/* ACTORS: none of ours. */
static size_t
find_worker(void)
{
    pid_t pid = stage_worker(&stage);
    size_t i;
    for (i = 0; i < ACTORS && actor_pid(fleet[i]) != pid; i++)
        ;
    return i;
}

/* It may die meanwhile, where it was told to. */
static void
stop_for_a_while(size_t i)
{
    ck_assert_int_eq(kill(actor_pid(fleet[i]), SIGSTOP), 0);
    nap(300);
    (void)ledger_drain(stage.ledger);
    ck_assert_int_eq(kill(actor_pid(fleet[i]), SIGCONT), 0);
}

static void
kill_in_commit(void)
{
    struct actor *stock = stage_enter(&stage, 30, STOCK);
    actor_must(stock, "timeout 20000");
    /* What does not fit its cache goes to the log. */
    actor_must(stock, "exec PRAGMA cache_size=2; BEGIN IMMEDIATE; UPDATE total SET n = -1;"
                      "UPDATE entry SET pad = randomblob(%u)", 500 + roll(9000));
    nap(30);
    actor_finish(stock);
}

static void
make_happen(enum event event)
{
    size_t worker = find_worker();
    switch (event) {
    case KILL_ANYBODY: replace(roll(ACTORS)); break;
    case KILL_WORKER:
        if (worker == ACTORS)
            return;
        replace(worker);
        break;
    case STOP_WORKER:
        if (worker == ACTORS)
            return;
        stop_for_a_while(worker);
        break;
    case STOP_STOCK: stop_for_a_while(4 + roll(3)); break;
    case KILL_IN_COMMIT: kill_in_commit(); break;
    default: stage_stock_may_read(&stage, "in the midst of it"); break;
    }
    happened[event]++;
}

/* The killed first, and looking only now and then. */
static enum event
choose(void)
{
    static const enum event often[] = {KILL_ANYBODY, KILL_ANYBODY, KILL_ANYBODY,   KILL_WORKER, KILL_WORKER,
                                       STOP_WORKER,  STOP_STOCK,   KILL_IN_COMMIT, LOOK};
    return often[roll(sizeof often / sizeof often[0])];
}

/* Not only somebody: each of the writers, stock or not, gets its turn. */
static void
everybody_commits(void)
{
    size_t from = ledger_drain(stage.ledger), seen = from, i;
    int64_t deadline = now_ms() + ACTOR_PATIENCE_MS;
    bool done[ACTORS] = {false};
    size_t missing = 0;
    for (i = 0; i < ACTORS; i++)
        missing += roles[i].writes;
    while (missing > 0) {
        ck_assert_msg(now_ms() < deadline, "seed %u: %zu writers do not commit any more", seed, missing);
        check_fleet();
        for (from = ledger_wait(stage.ledger, seen + 1, 100); seen < from; seen++) {
            unsigned actor = ledger_actor(stage.ledger, seen);
            if (actor > 0 && actor <= ACTORS && !done[actor - 1]) {
                done[actor - 1] = true;
                missing--;
            }
        }
    }
}

static void
report(int64_t begin, const char *when)
{
    printf("%s%5.1f s: %zu commits; killed: %u by chance, %u background, %u at crash points, %u stock in mid-commit;"
           " stopped: %u background, %u stock\n",
           when, (double)(now_ms() - begin) / 1000, ledger_drain(stage.ledger), happened[KILL_ANYBODY],
           happened[KILL_WORKER], at_points, happened[KILL_IN_COMMIT], happened[STOP_WORKER],
           happened[STOP_STOCK]);
    fflush(stdout);
}

/* Ends its order; false: it died where it was told to. */
static bool
halt(size_t i)
{
    int code;
    actor_tell(fleet[i], "use 0");
    code = stage_hear(&stage, fleet[i]);
    if (code == 0)
        code = actor_hear(fleet[i]);
    if (code == 0 && armed[i])
        code = actor_do(fleet[i], "die nowhere 1");
    if (code == ACTOR_ENDED && armed[i] && actor_wait(fleet[i]) == SIGKILL)
        return false;
    ck_assert_msg(code == 0, "seed %u: actor %zu: %d %s", seed, i + 1, code, actor_text(fleet[i]));
    return true;
}

static void
dismiss_all(void)
{
    size_t i;
    for (i = 0; i < ACTORS; i++)
        if (!halt(i)) {
            actor_finish(fleet[i]);
            fleet[i] = stage_enter(&stage, (unsigned)i + 1, roles[i].parameters);
        }
    stage_retire(&stage, fleet, ACTORS, "at the end");
    stage_close(&stage);
}

static int
duration_ms(void)
{
    const char *given = getenv("LKS_FLEET_SECONDS");
    return 1000 * (given != NULL ? atoi(given) : getenv("LKS_SOAK") != NULL ? 180 : 4);
}

START_TEST(stock_and_lockstep_on_one_file_lose_nothing_whoever_dies)
{
    int64_t begin = now_ms(), end = begin + duration_ms(), told = begin;
    unsigned rounds;
    size_t i;
    printf("seed %u\n", seed);
    fflush(stdout);
    stage_open(&stage);
    stage_found_wal(&stage, "");
    for (i = 0; i < ACTORS; i++)
        enter(i);
    /* Each event once at least. */
    for (rounds = 0; now_ms() < end || rounds < 2 * EVENTS; rounds++) {
        stage_let_commit(&stage, 60, &dice, "in the midst of it");
        check_fleet();
        make_happen(rounds < 2 * EVENTS ? (enum event)(rounds % EVENTS) : choose());
        if (now_ms() > told + REPORT_MS) {
            everybody_commits();
            told = now_ms();
            report(begin, "");
        }
    }
    everybody_commits();
    report(begin, "in all, ");
    dismiss_all();
}
END_TEST

int
main(int argc, char **argv)
{
    Suite *suite = suite_create("story_wal_fleet");
    TCase *tcase = tcase_create("fleet");
    SRunner *runner;
    int failed;
    seed = stage_seed(argc, argv);
    dice = seed | 1u;
    tcase_set_timeout(tcase, duration_ms() / 1000 + 240);
    tcase_add_test(tcase, stock_and_lockstep_on_one_file_lose_nothing_whoever_dies);
    suite_add_tcase(suite, tcase);
    runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
