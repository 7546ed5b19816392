/*
 * Promise: in WAL mode, too, a process that dies at any instant loses no acknowledged commit and tears none, and nobody
 * waits for it.
 *
 * For every crash point of WAL mode, and those of connecting and of the queue that are passed there, a victim is killed,
 * and then a survivor goes on, or the database is opened again, or stock SQLite comes first; as in
 * story_crash_points.c.  A point that no scene reaches fails the test.
 *
 * Made to fail by: a leader that is not replaced (groupsync:leading, a survivor waits for good); a dead owner of
 * WRITER that is not taken over (wal:locked).
 *
 * LKS_POINT=name takes one point only; LKS_SOAK=1 makes more rounds, where the victim dies at a later passing.
 */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "harness/points.h"
#include "harness/stage.h"

#define VICTIM_COMMITS 400

enum after { SURVIVED, REOPENED, STOCK_FIRST };
static const char *const after_names[] = {"survivor", "reopen", "stock first"};

struct scene {
    struct stage stage;
    const char *point;
    unsigned nth;
    enum after after;
    struct actor *victim, *survivor, *helper;
    bool poisoned; /* a commit may be visible that was told to have failed */
    char when[120];
};

static void
arm(struct scene *s)
{
    actor_must(s->victim, "die %s %u", s->point, s->nth);
}

/* Hears the order that may have been its last; a failed sync may fail it. */
static bool
died(struct scene *s)
{
    int code;
    (void)stage_answers(&s->stage, s->victim, ACTOR_PATIENCE_MS);
    code = actor_hear(s->victim);
    if (code == ACTOR_ENDED)
        ck_assert_msg(actor_wait(s->victim) == 9, "%s: it ended by signal %d", s->when,
                      actor_wait(s->victim));
    else
        ck_assert_msg(code == 0 || s->poisoned, "%s: the victim: %d %s", s->when, code,
                      actor_text(s->victim));
    return code == ACTOR_ENDED;
}

/* The victim is the checkpointer and a writer, beside another writer and an idle survivor. */
static bool
crowd_with(struct scene *s, const char *parameters)
{
    bool dead;
    stage_found_wal(&s->stage, "");
    s->victim = stage_enter(&s->stage, 2, parameters);
    actor_must(s->victim, "transact a 5");
    s->survivor = stage_enter(&s->stage, 3, "");
    s->helper = stage_enter(&s->stage, 4, "");
    actor_must(s->survivor, "audit");
    actor_must(s->helper, "audit");
    arm(s);
    actor_tell(s->helper, "transact f 0");
    actor_tell(s->victim, "transact m %u", VICTIM_COMMITS);
    dead = died(s);
    if (!dead) {
        /* The thread's points need not be passed while it commits. */
        actor_tell(s->victim, "transact a 200");
        dead = died(s);
    }
    actor_tell(s->helper, "audit"); /* ends its transactions */
    ck_assert_msg(actor_hear(s->helper) == 0, "%s: the helper: %s", s->when, actor_text(s->helper));
    ck_assert_int_eq(actor_hear(s->helper), 0);
    return dead;
}

static bool
crowd(struct scene *s)
{
    return crowd_with(s, "&max_lag=20");
}

/* The victim has a copy of the wal-index that the others have mapped. */
static bool
copier(struct scene *s)
{
    return crowd_with(s, "&max_lag=20&shm=copy");
}

/* The victim is the first to connect, and the last to leave. */
static bool
alone(struct scene *s)
{
    stage_found_wal(&s->stage, "");
    s->victim = actor_start(s->stage.ledger, 2);
    arm(s);
    actor_tell(s->victim, "open %s", stage_uri(&s->stage, "&max_lag=20"));
    if (died(s))
        return true;
    actor_tell(s->victim, "transact m 20");
    if (died(s))
        return true;
    actor_tell(s->victim, "close");
    return died(s);
}

/* The victim alone writes, and waits for no sync: its thread keeps the lag. */
static bool
lagging(struct scene *s)
{
    stage_found_wal(&s->stage, "");
    s->victim = stage_enter(&s->stage, 2, "&max_lag=20");
    actor_must(s->victim, "transact a 5");
    arm(s);
    actor_tell(s->victim, "transact a 0");
    if (stage_answers(&s->stage, s->victim, 3000))
        return died(s);
    actor_tell(s->victim, "use 0");
    if (died(s))
        return true;
    (void)actor_hear(s->victim);
    return false;
}

/* The disk fails under the victim. */
static bool
broken_disk(struct scene *s)
{
    stage_found_wal(&s->stage, "");
    s->poisoned = true;
    s->victim = stage_enter(&s->stage, 2, "");
    actor_must(s->victim, "transact f 5");
    actor_must(s->victim, "failsync 1");
    arm(s);
    actor_tell(s->victim, "transact f 2");
    return died(s);
}

/* A stock process writes: the victim goes back into the queue. */
static bool
beside_stock(struct scene *s)
{
    sqlite3 *stock;
    bool dead;
    stage_found_wal(&s->stage, "");
    s->victim = stage_enter(&s->stage, 2, "");
    s->survivor = stage_enter(&s->stage, 3, "");
    actor_must(s->survivor, "audit");
    actor_must(s->victim, "timeout 200");
    stock = stage_stock(&s->stage, 0);
    ck_assert_int_eq(sqlite3_exec(stock, "BEGIN IMMEDIATE", NULL, NULL, NULL), SQLITE_OK);
    arm(s);
    actor_tell(s->victim, "exec BEGIN IMMEDIATE");
    s->poisoned = true; /* it is refused in the end */
    dead = died(s);
    s->poisoned = false;
    ck_assert_int_eq(sqlite3_exec(stock, "ROLLBACK", NULL, NULL, NULL), SQLITE_OK);
    sqlite3_close(stock);
    return dead;
}

/* The victim replaces a dead client. */
static bool
take_over(struct scene *s)
{
    struct actor *dead;
    stage_found_wal(&s->stage, "");
    s->victim = stage_enter(&s->stage, 2, "");
    s->survivor = stage_enter(&s->stage, 3, "");
    dead = stage_enter(&s->stage, 4, "");
    actor_must(dead, "audit");
    actor_must(s->victim, "audit");
    actor_must(s->survivor, "audit");
    actor_must(dead, "exec BEGIN IMMEDIATE");
    actor_kill(dead);
    actor_finish(dead);
    arm(s);
    actor_tell(s->victim, "transact f 5");
    return died(s);
}

/* The helper is the worker; the victim has committed nothing yet. */
static void
beside_worker(struct scene *s)
{
    stage_found_wal(&s->stage, "");
    s->helper = stage_enter(&s->stage, 2, "&max_lag=20");
    actor_must(s->helper, "transact a 5");
    s->victim = stage_enter(&s->stage, 3, "");
    s->survivor = stage_enter(&s->stage, 4, "");
    actor_must(s->survivor, "audit");
    actor_must(s->victim, "audit");
}

/* The worker, another process, is stopped: the victim's thread keeps the lag. */
static bool
beside_stopped_worker(struct scene *s)
{
    bool dead;
    beside_worker(s);
    actor_stop(s->helper);
    arm(s);
    actor_tell(s->victim, "transact a 5");
    dead = died(s);
    if (!dead) {
        /* Its thread may be in time, and the order done. */
        actor_tell(s->victim, "transact a 0");
        if (!stage_answers(&s->stage, s->victim, 3000))
            actor_tell(s->victim, "use 0");
        dead = died(s);
    }
    actor_continue(s->helper);
    return dead;
}

/* The victim is the checkpointer, and leaves to others what it has not yet done. */
static bool
leave_to_others(struct scene *s)
{
    stage_found_wal(&s->stage, "");
    s->victim = stage_enter(&s->stage, 2, "&max_lag=5000");
    actor_must(s->victim, "transact a 5");
    s->survivor = stage_enter(&s->stage, 3, "");
    actor_must(s->survivor, "transact a 1");
    arm(s);
    actor_tell(s->victim, "close");
    return died(s);
}

/* The worker is another process, and nobody commits: the victim's thread has nothing to do. */
static bool
resting(struct scene *s)
{
    beside_worker(s);
    arm(s);
    actor_tell(s->victim, "transact a 1");
    if (died(s))
        return true;
    return stage_answers(&s->stage, s->victim, ACTOR_PATIENCE_MS) && died(s);
}

static bool (*const scenes[])(struct scene *) = {crowd,       copier,       alone,     lagging,
                                                 broken_disk, beside_stock, take_over, beside_stopped_worker,
                                                 leave_to_others, resting};
#define SCENES (sizeof scenes / sizeof scenes[0])

static const struct {
    const char *prefix;
    bool (*scene)(struct scene *);
} points_of_a_log[] = {
    {"shm:", copier},
    {"wal:", crowd},           {"groupsync:poisoned", broken_disk}, {"groupsync:", crowd},
    {"checkpoint:late", beside_stopped_worker}, {"checkpoint:standing-by", beside_stopped_worker},
    {"checkpoint:deputy", beside_stopped_worker},
    {"checkpoint:idle", resting},
    {"checkpoint:sync", lagging}, {"checkpoint:", crowd},    {"queue:returned", beside_stock},    {"queue:taken-over", take_over},
    {"queue:owned", crowd},    {"queue:entered", crowd},            {"client:cleared", alone},
    {"client:entered", alone}, {"attach:reserved", alone},          {"attach:made", alone},
    {"attach:connected", alone}, {"detach:resigned", leave_to_others}, {"standby:", leave_to_others},
    {"detach:", alone},
};

static bool (*first_scene(const char *point))(struct scene *)
{
    size_t i;
    for (i = 0; i < sizeof points_of_a_log / sizeof points_of_a_log[0]; i++)
        if (strncmp(point, points_of_a_log[i].prefix, strlen(points_of_a_log[i].prefix)) == 0)
            return points_of_a_log[i].scene;
    return NULL;
}

/* ------------------------------------------------------------------------------------------------
 * What must hold afterwards
 * --------------------------------------------------------------------------------------------- */

static void
dismiss_all(struct scene *s)
{
    struct actor **all[] = {&s->victim, &s->survivor, &s->helper};
    size_t i;
    for (i = 0; i < 3; i++) {
        actor_finish(*all[i]);
        *all[i] = NULL;
    }
}

static void
goes_on(struct scene *s, struct actor *actor)
{
    stage_audit(&s->stage, actor, s->when);
    actor_must(actor, "transact m 6");
    actor_must(actor, "transact f 2");
    stage_audit(&s->stage, actor, s->when);
}

/* The log is mended in the background. */
static void
wait_until_mended(struct actor *actor)
{
    time_t end = time(NULL) + ACTOR_PATIENCE_MS / 1000;
    while (actor_do(actor, "exec UPDATE total SET n = n") != 0 && time(NULL) < end)
        ;
}

static void
check_aftermath(struct scene *s)
{
    struct actor *newcomer;
    if (s->after != SURVIVED)
        dismiss_all(s);
    if (s->after == STOCK_FIRST || s->survivor != NULL) {
        stage_stock_may_read(&s->stage, s->when);
        ck_assert_msg(s->survivor != NULL || stage_stock_writes(&s->stage, s->when),
                      "%s: stock SQLite may not write", s->when);
    }
    if (s->survivor != NULL)
        goes_on(s, s->survivor);
    newcomer = stage_enter(&s->stage, 6, "");
    if (s->poisoned)
        wait_until_mended(newcomer);
    goes_on(s, newcomer);
    if (s->helper != NULL)
        actor_must(s->helper, "close");
    if (s->survivor != NULL)
        actor_must(s->survivor, "close");
    actor_must(newcomer, "close");
    actor_finish(newcomer);
    dismiss_all(s);
}

static bool
play(const char *point, unsigned nth, enum after after, bool (*scene)(struct scene *))
{
    struct scene s = {.point = point, .nth = nth, .after = after};
    bool reached;
    snprintf(s.when, sizeof s.when, "%s:%u, %s", point, nth, after_names[after]);
    stage_open(&s.stage);
    reached = scene(&s);
    if (reached)
        check_aftermath(&s);
    dismiss_all(&s);
    if (reached)
        stage_left_clean(&s.stage, s.when);
    stage_close(&s.stage);
    return reached;
}

static bool
reach(const char *point, unsigned nth, enum after after)
{
    bool (*first)(struct scene *) = first_scene(point);
    size_t i;
    for (i = 0; i < 3; i++)
        if (play(point, nth, after, first))
            return true;
    for (i = 0; i < SCENES; i++)
        if (scenes[i] != first && play(point, nth, after, scenes[i]))
            return true;
    return false;
}

/* ------------------------------------------------------------------------------------------------
 * The tests: one a crash point
 * --------------------------------------------------------------------------------------------- */

static bool
is_of_wal_mode(const char *point)
{
    return first_scene(point) != NULL;
}

START_TEST(a_death_at_every_crash_point_of_wal_mode_loses_no_commit)
{
    const char *point = points_name(_i);
    unsigned nth, last = getenv("LKS_SOAK") != NULL ? 6 : 1;
    for (nth = 1; nth <= last; nth++)
        for (enum after after = SURVIVED; after <= STOCK_FIRST; after++) {
            bool reached = reach(point, nth, after);
            ck_assert_msg(reached || nth > 1, "%s, %s: no scene reaches it", point, after_names[after]);
        }
}
END_TEST

static void
add(TCase *tcase, int n)
{
    tcase_add_loop_test(tcase, a_death_at_every_crash_point_of_wal_mode_loses_no_commit, 0, n);
}

int
main(void)
{
    return points_main("story_wal_crash_points", add, is_of_wal_mode, getenv("LKS_SOAK") != NULL ? 600 : 60);
}
