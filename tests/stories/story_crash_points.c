/*
 * Promise: a process that dies at any instant loses no acknowledged commit and tears none.
 *
 * For every crash point of the library a victim is killed there, in a scene that leads it there, and then
 *   a  a survivor that was connected reads and writes on;
 *   b  nobody is left, and the database is opened through Lockstep again;
 *   c  nobody is left, and stock SQLite reads and tries to write first.
 * In all three every acknowledged commit must be there and the books must be right, by Lockstep and at the
 * end by stock SQLite with nothing left beside the file.  A point that no scene reaches fails the test; there
 * is none that cannot be reached.
 *
 * Made to fail by: leaving a dead writer's uncommitted blocks in their chains (queue:taken-over, torn books);
 * not rolling a dead worker's journal back (batch:wrote-run, batch:wrote-all); leaving sync_needed of a commit
 * that was never made (transaction:committing, 10 s of spinning at the next connect); not reaping a writer
 * that died while it changed the unit (reunit:between, every survivor refused for good).
 *
 * Points of WAL mode: story_wal_crash_points.c; those that only coord.h leads to: story_blocks.c, tests/api.
 *
 * LKS_POINT=name in the environment takes one point only; LKS_SOAK=1 makes more rounds, where the victim dies
 * at a later passing.
 */
#include <check.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "harness/points.h"
#include "harness/stage.h"
#include "shm/layout.h"

#define LIMIT "&store_limit=1048576"
#define VICTIM_COMMITS 250

enum after { SURVIVED, REOPENED, STOCK_FIRST };
static const char *const after_names[] = {"survivor", "reopen", "stock first"};

struct scene {
    struct stage stage;
    const char *point;
    unsigned nth;
    enum after after;
    struct actor *victim, *survivor, *reader, *helper;
    char when[120];
};

/* ------------------------------------------------------------------------------------------------
 * Scenes: each leads scene->victim to the point and returns whether it died.
 * --------------------------------------------------------------------------------------------- */

static void
arm(struct scene *s)
{
    actor_must(s->victim, "die %s %u", s->point, s->nth);
}

/* Hears the order that may have been its last. */
static bool
died(struct scene *s)
{
    int code = actor_hear(s->victim);
    if (code == ACTOR_ENDED)
        ck_assert_msg(actor_wait(s->victim) == 9, "%s: it ended by signal %d", s->when,
                      actor_wait(s->victim));
    else
        ck_assert_msg(code == 0, "%s: the victim: %d %s", s->when, code, actor_text(s->victim));
    return code == ACTOR_ENDED;
}

/* A database with some commits, which nobody uses. */
static void
found_books(struct scene *s)
{
    struct actor *founder = stage_enter(&s->stage, 1, LIMIT);
    actor_must(founder, "make");
    actor_must(founder, "transact m 20");
    actor_must(founder, "close");
    actor_finish(founder);
}

/* Holds a snapshot until the end. */
static void
hold_snapshot(struct actor *reader)
{
    actor_must(reader, "exec BEGIN");
    actor_must(reader, "read SELECT n FROM total");
}

/* The victim is the worker and a writer, beside a writer, an old snapshot and an idle survivor. */
static bool
crowd(struct scene *s)
{
    bool dead;
    found_books(s);
    s->victim = stage_enter(&s->stage, 2, LIMIT "&max_lag=20");
    actor_must(s->victim, "transact a 10");
    s->survivor = stage_enter(&s->stage, 3, "");
    s->helper = stage_enter(&s->stage, 4, "");
    s->reader = stage_enter(&s->stage, 5, "");
    actor_must(s->victim, "exec PRAGMA cache_size=8");
    actor_must(s->survivor, "audit");
    actor_must(s->helper, "audit");
    hold_snapshot(s->reader);
    arm(s);
    actor_tell(s->helper, "transact m 0");
    actor_tell(s->victim, "transact m %u", VICTIM_COMMITS);
    dead = died(s);
    actor_tell(s->helper, "audit"); /* ends its transactions */
    if (s->after == SURVIVED) {
        ck_assert_msg(actor_hear(s->helper) == 0, "%s: the helper: %s", s->when,
                      actor_text(s->helper));
        ck_assert_int_eq(actor_hear(s->helper), 0);
    }
    return dead;
}

/* The victim is the first to connect. */
static bool
connect_first(struct scene *s)
{
    found_books(s);
    s->victim = actor_start(s->stage.ledger, 2);
    arm(s);
    actor_tell(s->victim, "open %s", stage_uri(&s->stage, LIMIT "&max_lag=20"));
    if (died(s))
        return true;
    actor_tell(s->victim, "audit");
    if (died(s))
        return true;
    s->survivor = stage_enter(&s->stage, 3, "");
    actor_must(s->survivor, "audit");
    actor_tell(s->victim, "transact m 60");
    return died(s);
}

/* The victim is to have the database alone. */
static bool
connect_alone(struct scene *s)
{
    found_books(s);
    s->victim = actor_start(s->stage.ledger, 2);
    arm(s);
    actor_tell(s->victim, "open %s", stage_uri(&s->stage, "&multi_process=0"));
    if (died(s))
        return true;
    actor_tell(s->victim, "audit");
    return died(s);
}

/* The victim finds a coordination file that is none. */
static bool
connect_to_rubbish(struct scene *s)
{
    char path[128], rubbish[8192];
    int fd;
    found_books(s);
    snprintf(path, sizeof path, "%s-lockstep", s->stage.path);
    memset(rubbish, 'x', sizeof rubbish);
    fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
    ck_assert_int_ge(fd, 0);
    ck_assert(write(fd, rubbish, sizeof rubbish) == (ssize_t)sizeof rubbish);
    close(fd);
    s->victim = actor_start(s->stage.ledger, 2);
    arm(s);
    actor_tell(s->victim, "open %s", stage_uri(&s->stage, LIMIT));
    if (died(s))
        return true;
    actor_tell(s->victim, "audit");
    return died(s);
}

/*
 * Dies in the middle of a batch, with a transaction half made on another connection.  False: the worker was
 * early, and had written all that there was.
 */
static bool
die_in_the_middle(struct scene *s, struct actor *actor)
{
    actor_must(actor, "transact m 30");
    actor_must(actor, "use 2");
    actor_must(actor, "open %s", stage_uri(&s->stage, ""));
    actor_must(actor, "use 1");
    actor_must(actor, "open %s", stage_uri(&s->stage, ""));
    actor_must(actor, "exec PRAGMA lockstep_flush");
    actor_must(actor, "transact a 10");
    /* A small cache is spilled, into blocks of a commit that is never made. */
    actor_must(actor, "exec PRAGMA cache_size=2; BEGIN IMMEDIATE; UPDATE total SET n = -1;"
                      "UPDATE entry SET pad = randomblob(3000)");
    actor_must(actor, "die batch:wrote-run 1");
    if (actor_do(actor, "use 2") == ACTOR_ENDED)
        return true;
    actor_tell(actor, "exec PRAGMA lockstep_flush");
    return actor_hear(actor) == ACTOR_ENDED;
}

/* The victim adopts what the dead have left. */
static bool
adopt(struct scene *s)
{
    struct actor *dead;
    bool result;
    found_books(s);
    dead = stage_enter(&s->stage, 4, "&max_lag=5000");
    result = die_in_the_middle(s, dead);
    actor_finish(dead);
    if (!result)
        return false;
    s->victim = actor_start(s->stage.ledger, 2);
    arm(s);
    actor_tell(s->victim, "open %s", stage_uri(&s->stage, ""));
    if (died(s))
        return true;
    actor_tell(s->victim, "audit");
    return died(s);
}

/* The victim takes over from a dead writer and worker, while the survivor is connected but stopped. */
static bool
take_over(struct scene *s)
{
    struct actor *dead;
    bool result;
    found_books(s);
    dead = stage_enter(&s->stage, 4, "&max_lag=5000");
    actor_must(dead, "audit");
    s->survivor = stage_enter(&s->stage, 3, "");
    s->victim = stage_enter(&s->stage, 2, "");
    actor_must(s->survivor, "audit");
    actor_must(s->victim, "audit");
    arm(s);
    actor_stop(s->survivor);
    result = die_in_the_middle(s, dead);
    actor_finish(dead);
    if (result) {
        actor_tell(s->victim, "transact f 20");
        result = died(s);
    }
    actor_continue(s->survivor);
    return result;
}

/*
 * The victim makes a database of another page size than the store has begun with, and changes it by VACUUM.
 * There may be no table yet when it dies, and then there is no commit in the ledger.
 */
static bool
change_page_size(struct scene *s)
{
    s->victim = stage_enter(&s->stage, 2, "&max_lag=20");
    s->survivor = stage_enter(&s->stage, 3, "");
    actor_must(s->survivor, "read SELECT count(*) FROM sqlite_schema");
    actor_must(s->victim, "exec PRAGMA page_size=1024");
    arm(s);
    actor_tell(s->victim, "make");
    if (died(s))
        return true;
    actor_tell(s->victim, "transact m 20");
    if (died(s))
        return true;
    actor_tell(s->victim, "exec PRAGMA page_size=16384; VACUUM; PRAGMA lockstep_flush");
    if (died(s))
        return true;
    actor_tell(s->victim, "transact m 20");
    return died(s);
}

/* One transaction of the victim is much larger than the store should be; after it the store becomes small. */
static bool
outgrow(struct scene *s)
{
    found_books(s);
    s->victim = stage_enter(&s->stage, 2, LIMIT "&max_lag=20");
    actor_must(s->victim, "transact m 5");
    s->survivor = stage_enter(&s->stage, 3, "");
    actor_must(s->survivor, "audit");
    actor_must(s->victim, "exec CREATE TABLE large AS SELECT randomblob(4000000) AS x");
    actor_must(s->victim, "exec PRAGMA lockstep_flush");
    arm(s);
    actor_tell(s->victim, "transact m 20");
    return died(s);
}

/* The victim is the worker, and a sync had failed before: see distrusted in shm/layout.h. */
static bool
distrust(struct scene *s)
{
    static const unsigned char one[4] = {1, 1, 1, 1};
    char path[128];
    int fd;
    found_books(s);
    s->victim = stage_enter(&s->stage, 2, LIMIT "&max_lag=20");
    actor_must(s->victim, "transact m 5");
    s->survivor = stage_enter(&s->stage, 3, "");
    actor_must(s->survivor, "audit");
    snprintf(path, sizeof path, "%s-lockstep", s->stage.path);
    fd = open(path, O_WRONLY | O_CLOEXEC);
    ck_assert_int_ge(fd, 0);
    ck_assert(pwrite(fd, one, sizeof one, (off_t)offsetof(struct lks_shm, state.distrusted)) == sizeof one);
    close(fd);
    arm(s);
    actor_tell(s->victim, "transact m 20");
    return died(s);
}

/* The victim is the last to leave; the survivor has the file open, but has not connected yet. */
static bool
leave_last(struct scene *s)
{
    found_books(s);
    s->victim = stage_enter(&s->stage, 2, LIMIT "&max_lag=5000");
    s->survivor = stage_enter(&s->stage, 3, "");
    actor_must(s->victim, "transact a 20");
    arm(s);
    actor_tell(s->victim, "close");
    return died(s);
}

/* The victim is the worker and leaves, with commits that wait, while others stay. */
static bool
leave_to_others(struct scene *s)
{
    found_books(s);
    s->victim = stage_enter(&s->stage, 2, LIMIT "&max_lag=5000");
    actor_must(s->victim, "audit");
    s->survivor = stage_enter(&s->stage, 3, "");
    actor_must(s->survivor, "audit");
    actor_must(s->victim, "transact a 20");
    arm(s);
    actor_tell(s->victim, "close");
    return died(s);
}

/* The victim comes beside a worker, so its thread stands by. */
static bool
come_second(struct scene *s)
{
    found_books(s);
    s->helper = stage_enter(&s->stage, 4, LIMIT "&max_lag=20");
    actor_must(s->helper, "audit");
    s->survivor = stage_enter(&s->stage, 3, "");
    actor_must(s->survivor, "audit");
    s->victim = stage_enter(&s->stage, 2, "");
    arm(s);
    actor_tell(s->victim, "audit");
    if (died(s))
        return true;
    /* A commit wakes its thread. */
    actor_tell(s->victim, "transact a 5");
    if (died(s))
        return true;
    actor_tell(s->victim, "transact f 20");
    return died(s);
}

static bool (*const scenes[])(struct scene *) = {
    crowd, connect_first, come_second, leave_last, leave_to_others, take_over, adopt, change_page_size, outgrow, connect_to_rubbish,
    connect_alone, distrust};
#define SCENES (sizeof scenes / sizeof scenes[0])

/* Where to look first: for speed, and where a point is passed in several scenes, for the one it is about. */
static const struct {
    const char *prefix;
    bool (*scene)(struct scene *);
} hints[] = {
    {"attach:set-aside", connect_to_rubbish}, {"attach:alone", connect_alone},
    {"batch:written-anew", distrust},
    {"attach:", connect_first},
    {"client:entered", connect_first},        {"client:cleared", take_over},
    {"dbfile:", connect_first},               {"detach:resigned", leave_to_others},
    {"worker:ringing", take_over},            {"worker:standing-by", come_second},
    {"standby:calling", leave_to_others},     {"detach:", leave_last},
    {"recovery:left", leave_last},            {"recovery:adopting", adopt},
    {"recovery:", take_over},                 {"queue:taken-over", take_over},
    {"batch:worker", take_over},              {"journal:rolled", take_over},
    {"journal:removed", take_over},           {"reunit:", change_page_size},
    {"chunk:", connect_first},                {"store:trimmed", outgrow},
};

static bool (*first_scene(const char *point))(struct scene *)
{
    size_t i;
    for (i = 0; i < sizeof hints / sizeof hints[0]; i++)
        if (strncmp(point, hints[i].prefix, strlen(hints[i].prefix)) == 0)
            return hints[i].scene;
    return crowd;
}

/* ------------------------------------------------------------------------------------------------
 * What must hold afterwards
 * --------------------------------------------------------------------------------------------- */

static void
dismiss(struct actor **actor)
{
    actor_finish(*actor);
    *actor = NULL;
}

static void
dismiss_all(struct scene *s)
{
    dismiss(&s->victim);
    dismiss(&s->survivor);
    dismiss(&s->reader);
    dismiss(&s->helper);
}

/* What was set aside is not ours to remove, but is expected. */
static void
remove_orphan(struct scene *s)
{
    char path[160];
    snprintf(path, sizeof path, "%s-lockstep.orphan-1", s->stage.path);
    (void)!unlink(path);
}

static void
goes_on(struct scene *s, struct actor *actor)
{
    actor_must(actor, "make");
    stage_audit(&s->stage, actor, s->when);
    actor_must(actor, "transact m 6");
    actor_must(actor, "transact f 2");
    stage_audit(&s->stage, actor, s->when);
}

static void
survivors_go_on(struct scene *s)
{
    struct actor *newcomer;
    (void)stage_stock_reads(&s->stage, s->when);
    (void)stage_stock_writes(&s->stage, s->when);
    if (s->survivor != NULL)
        goes_on(s, s->survivor);
    newcomer = stage_enter(&s->stage, 6, "");
    goes_on(s, newcomer);
    if (s->reader != NULL) {
        actor_must(s->reader, "exec COMMIT");
        stage_audit(&s->stage, s->reader, s->when);
        actor_must(s->reader, "close");
    }
    if (s->helper != NULL)
        actor_must(s->helper, "close");
    if (s->survivor != NULL)
        actor_must(s->survivor, "close");
    actor_must(newcomer, "close");
    actor_finish(newcomer);
    dismiss_all(s);
}

static void
reopened(struct scene *s)
{
    struct actor *newcomer;
    dismiss_all(s);
    if (s->after == STOCK_FIRST) {
        (void)stage_stock_reads(&s->stage, s->when);
        (void)stage_stock_writes(&s->stage, s->when);
        (void)stage_stock_reads(&s->stage, s->when);
    }
    newcomer = stage_enter(&s->stage, 6, "");
    goes_on(s, newcomer);
    actor_must(newcomer, "close");
    actor_finish(newcomer);
}

/* Returns whether the scene reached the point. */
static bool
play(const char *point, unsigned nth, enum after after, bool (*scene)(struct scene *))
{
    struct scene s = {.point = point, .nth = nth, .after = after};
    bool reached;
    snprintf(s.when, sizeof s.when, "%s:%u, %s", point, nth, after_names[after]);
    stage_open(&s.stage);
    reached = scene(&s);
    if (reached && after == SURVIVED)
        survivors_go_on(&s);
    else if (reached)
        reopened(&s);
    dismiss_all(&s);
    if (reached) {
        remove_orphan(&s);
        stage_left_clean(&s.stage, s.when);
    }
    stage_close(&s.stage);
    return reached;
}

static bool
reach(const char *point, unsigned nth, enum after after)
{
    bool (*first)(struct scene *) = first_scene(point);
    size_t i;
    /* What another process does in the meantime is not for us to say: twice more. */
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

/* Those of WAL mode, and those that only coord.h leads to (story_blocks.c, tests/api), are passed through by other tests. */
static bool
is_here(const char *point)
{
    static const char *const prefixes[] = {"wal:", "groupsync:", "checkpoint:", "queue:returned", "blocklist:",
                                           "work:", "share:", "private:", "shorten:", "meta:", "shm:",
                                           "worker:pausing" /* where two threads happen to meet: tests/store/test_worker */};
    size_t i;
    for (i = 0; i < sizeof prefixes / sizeof prefixes[0]; i++)
        if (strncmp(point, prefixes[i], strlen(prefixes[i])) == 0)
            return false;
    return true;
}

START_TEST(a_death_at_every_crash_point_loses_no_commit)
{
    const char *point = points_name(_i);
    unsigned nth, last = getenv("LKS_SOAK") != NULL ? 6 : 1;
    for (nth = 1; nth <= last; nth++)
        for (enum after after = SURVIVED; after <= STOCK_FIRST; after++) {
            bool reached = reach(point, nth, after);
            ck_assert_msg(reached || nth > 1, "%s, %s: no scene reaches it", point,
                          after_names[after]);
        }
}
END_TEST

static void
add(TCase *tcase, int n)
{
    tcase_add_loop_test(tcase, a_death_at_every_crash_point_loses_no_commit, 0, n);
}

int
main(void)
{
    return points_main("story_crash_points", add, is_here, getenv("LKS_SOAK") != NULL ? 600 : 60);
}
