/*
 * Promises: what is left after the passes over a log that go on beside writers is written back with the writers held off, if it is
 * short; if it is long, only when the log is half as long as it may be.  A log of 1000 frames or more that nobody keeps from it is
 * written back within about a second, also if nobody commits.
 *
 * lockstep_run() makes the passes, in the calling thread.  In those beside writers another connection commits when the
 * database is synced; the last one holds writers off.  Each takes CKPT, which the probe counts.
 *
 * Made to fail by: holding writers off whatever is left; only if it is short; only if the log is long; only beyond the limit; one
 * pass beside writers.  At rest: waiting for as many frames as a burst had in 50 ms, which do not come; counting those that a
 * reader held back as appended again.
 */
#include <stdio.h>

#include "base/clock.h"
#include "vfs/keeper.h"
#include "vfs/probe_vfs.h"
#include "vfs/vfstest.h"

static sqlite3 *other;
static const struct scene {
    const char *parameters;
    int frames;      /* written in each pass */
    unsigned beside; /* so many passes go on beside writers */
    unsigned passes; /* in all */
} scenes[] = {
    {"worker=off", 100, 1, 2},
    {"worker=off", 300, 2, 2},
    {"worker=off&wal_limit=9000000", 300, 2, 3}, /* the log has 1600 frames, 6.6 MB */
    {"worker=off&wal_limit=20000000", 300, 2, 2},
};
static const struct scene *scene;
static unsigned passes;

static void
commit_in_pass(void)
{
    if (++passes <= scene->beside)
        must(other, "insert into t(v) values(zeroblob(%d))", scene->frames * 4096);
}

START_TEST(a_long_rest_holds_writers_off_only_when_the_log_is_long)
{
    sqlite3 *db;
    unsigned before;
    scene = &scenes[_i];
    probe_register();
    ck_assert_int_eq(lockstep_initialize("probe", 0), SQLITE_OK);
    db = open_ours("a.db", scene->parameters);
    must(db, "pragma journal_mode = wal");
    must(db, "pragma wal_autocheckpoint = 0; create table t(k integer primary key, v)");
    other = open_ours("a.db", scene->parameters);
    must(other, "pragma wal_autocheckpoint = 0; insert into t(v) values(zeroblob(4096000))");
    passes = 0;
    before = probe_total('C');
    probe_at('D', commit_in_pass);
    ck_assert_int_eq(lockstep_run(db), SQLITE_OK);
    probe_at(0, NULL);
    ck_assert_uint_eq(probe_total('C') - before, scene->passes);
    close_db(other);
    close_db(db);
    ck_assert(!file_exists("a.db-wal"));
}
END_TEST

#define AT_REST_FRAMES 1501
#define PATIENCE_MS 4000

static sqlite3 *
open_log(const char *parameters)
{
    sqlite3 *db = open_ours("a.db", parameters);
    check_text(must(db, "pragma journal_mode = wal"), "wal");
    must(db, "pragma synchronous = normal; create table t(k integer primary key, v)");
    return db;
}

static void
append(sqlite3 *db, int frames)
{
    must(db, "insert into t(v) values(zeroblob(%d))", (frames - 3) * 4092);
}

static uint32_t
backlog(sqlite3 *db)
{
    return lks_log_backlog(lks_file_of_connection(db, "main")->wal.index);
}

/* By the background thread; nobody commits. */
static void
is_written_back(sqlite3 *db, const char *when)
{
    uint64_t begin = lks_clock_ns(), ms;
    while (backlog(db) > 0 && lks_clock_ns() < begin + PATIENCE_MS * LKS_NS_PER_MS)
        lks_clock_nap_ms(1);
    ms = (lks_clock_ns() - begin) / LKS_NS_PER_MS;
    printf("%s: %u frames are left after %u ms\n", when, (unsigned)backlog(db), (unsigned)ms);
    ck_assert_uint_eq(backlog(db), 0);
}

/* While frames come fast, passes are made for more of them; then the burst ends. */
START_TEST(what_a_burst_leaves_is_written_back_at_rest)
{
    sqlite3 *db = open_log("");
    lks_a32_set_relaxed(&lks_file_of_connection(db, "main")->db->shm->state.log_wanted, LKS_CHECKPOINT_FRAMES_MOST);
    append(db, AT_REST_FRAMES);
    /* They may be written back already, but stand in the log. */
    ck_assert_uint_ge(lks_log_frames(lks_file_of_connection(db, "main")->wal.index), LKS_CHECKPOINT_FRAMES);
    is_written_back(db, "after a burst");
    close_db(db);
}
END_TEST

static void
wait_for_passes(sqlite3 *db, uint64_t until)
{
    uint64_t begin = lks_clock_ns();
    while (info(db).checkpoints < until && lks_clock_ns() < begin + PATIENCE_MS * LKS_NS_PER_MS)
        lks_clock_nap_ms(1);
    ck_assert_uint_ge(info(db).checkpoints, until);
}

/* One burst soon after the other; then passes that come to nothing, for a reader is in the way. */
START_TEST(what_a_reader_held_back_is_written_back_at_rest)
{
    sqlite3 *db = open_log(""), *reader = open_ours("a.db", "");
    append(db, AT_REST_FRAMES);
    is_written_back(db, "before a reader");
    must(reader, "begin; select count(*) from t");
    append(db, AT_REST_FRAMES);
    wait_for_passes(db, info(db).checkpoints + 1);
    ck_assert_uint_ge(backlog(db), LKS_CHECKPOINT_FRAMES);
    must(reader, "commit");
    is_written_back(db, "after a reader");
    close_db(reader);
    close_db(db);
}
END_TEST

/* As if it had come between two passes of which one follows the other at once. */
START_TEST(what_a_reader_holds_back_is_no_burst)
{
    sqlite3 *db = open_log("worker=off"), *reader = open_ours("a.db", "worker=off");
    struct lks_shm_state *state = &lks_file_of_connection(db, "main")->db->shm->state;
    must(reader, "begin; select count(*) from t");
    append(db, AT_REST_FRAMES);
    for (int pass = 0; pass < 3; pass++) {
        ck_assert_int_eq(lockstep_run(db), SQLITE_OK);
        ck_assert_uint_ge(backlog(db), AT_REST_FRAMES - 1);
        ck_assert_uint_eq(lks_log_wanted(state), LKS_CHECKPOINT_FRAMES);
    }
    must(reader, "commit");
    close_db(reader);
    close_db(db);
}
END_TEST

static Suite *
make_suite(void)
{
    Suite *suite = suite_create("keeper");
    TCase *tcase = vfstest_case(suite, "keeper");
    tcase_add_loop_test(tcase, a_long_rest_holds_writers_off_only_when_the_log_is_long, 0,
                        (int)(sizeof scenes / sizeof scenes[0]));
    tcase_add_test(tcase, what_a_burst_leaves_is_written_back_at_rest);
    tcase_add_test(tcase, what_a_reader_held_back_is_written_back_at_rest);
    tcase_add_test(tcase, what_a_reader_holds_back_is_no_burst);
    return suite;
}

int
main(int argc, char **argv)
{
    return vfstest_main(argc, argv, make_suite);
}
