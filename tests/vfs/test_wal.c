/*
 * Promises in WAL mode, seen from one process: which syncs are put off and which never; a failed sync fails what it
 * covered and everything after; a checkpoint that meets a reset loses nothing; who checkpoints; the lag.
 *
 * Made to fail by: putting off the sync of the header (no `s` between `h` and `f`); putting off under CKPT; drawing
 * the ticket and not waiting for it (no `s` after `w`); not poisoning; taking the guard of the reset away
 * (frames_are_lost_without_the_guard() is that, on a stock writer); not marking the end of a commit (automatic
 * checkpoints are made), or not looking at the mark (those that are asked for are refused); a
 * background that tries over a poisoned log what it cannot do (it takes a whole processor), or can (it makes checkpoints).
 */
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "harness/clock.h"
#include "vfs/probe_vfs.h"
#include "vfs/vfstest.h"
#include "vfs/waltest.h"

static sqlite3 *
open_probe(void)
{
    sqlite3 *db;
    ck_assert_int_eq(sqlite3_open_v2("a.db", &db, SQLITE_OPEN_READWRITE, "probe"), SQLITE_OK);
    return db;
}

/* Repeated letters count once. */
static const char *
events(void)
{
    static char text[4096];
    const char *from = probe_events();
    size_t n = 0;
    for (; *from != '\0'; from++)
        if (n == 0 || text[n - 1] != *from)
            text[n++] = *from;
    text[n] = '\0';
    return text;
}

START_TEST(the_sync_of_a_commit_comes_after_the_write_lock_is_let_go)
{
    sqlite3 *db = waltest_make("worker=off", 0);
    uint64_t before;
    must(db, "insert into t(v) values(1)");
    /* The header's is a barrier. */
    ck_assert_str_eq(events(), "Whsfws");
    before = info(db).syncs;
    must(db, "insert into t(v) values(2)");
    ck_assert_str_eq(events(), "Wfws");
    ck_assert_uint_eq(info(db).syncs, before + 1);
    ck_assert_uint_eq(info(db).durable, info(db).committed);
    must(db, "begin; select * from t");
    must(db, "commit");
    ck_assert_str_eq(events(), "");
    must(db, "begin immediate; rollback");
    ck_assert_str_eq(events(), "Ww");
    close_db(db);
}
END_TEST

START_TEST(what_synchronous_asks_for_may_change_in_mid_connection)
{
    sqlite3 *db = waltest_make("worker=off&max_lag=3600000", 0);
    must(db, "insert into t(v) values(0)");
    (void)events();
    must(db, "pragma synchronous = normal; insert into t(v) values(1)");
    ck_assert_str_eq(events(), "Wfw");
    ck_assert_uint_lt(info(db).durable, info(db).committed);
    must(db, "pragma synchronous = full; insert into t(v) values(2)");
    ck_assert_str_eq(events(), "Wfws");
    ck_assert_uint_eq(info(db).durable, info(db).committed);
    must(db, "pragma synchronous = off; insert into t(v) values(3)");
    ck_assert_str_eq(events(), "Wfw");
    must(db, "pragma lockstep_durability = full; insert into t(v) values(4)");
    ck_assert_str_eq(events(), "Wfws");
    must(db, "pragma synchronous = extra; pragma lockstep_durability = async; insert into t(v) values(5)");
    ck_assert_str_eq(events(), "Wfw");
    must(db, "pragma lockstep_durability = default; insert into t(v) values(6)");
    ck_assert_str_eq(events(), "Wfws");
    must(db, "pragma synchronous = normal; insert into t(v) values(7)");
    (void)events();
    must(db, "pragma lockstep_wait");
    ck_assert_str_eq(events(), "s");
    must(db, "pragma lockstep_flush");
    close_db(db);
}
END_TEST

START_TEST(the_syncs_of_a_checkpoint_are_never_put_off)
{
    static const char *const modes[] = {"passive", "full", "restart", "truncate"};
    sqlite3 *db = waltest_make("worker=off", 0);
    const char *log, *page;
    size_t i;
    sqlite3_busy_timeout(db, 5000); /* the checkpointer may have the log, or read */
    must(db, "pragma synchronous = normal");
    for (i = 0; i < 4; i++) {
        const char *text;
        must(db, "insert into t(v) values(randomblob(100))");
        (void)events();
        check_text(must(db, "select 1"), "1");
        ck_assert(strncmp(must(db, "pragma wal_checkpoint(%s)", modes[i]), "0|", 2) == 0);
        text = events();
        ck_assert_msg(strchr(text, 'C') != NULL, "%s: %s", modes[i], text);
        log = strchr(text, 's');
        page = strchr(text, 'd');
        ck_assert_msg(log != NULL && page != NULL && log < page && strchr(page, 'D') != NULL, "%s: %s",
                      modes[i], text);
    }
    close_db(db);
}
END_TEST

START_TEST(in_exclusive_locking_mode_nothing_is_put_off)
{
    sqlite3 *db = waltest_make("worker=off", 0);
    const char *text;
    /* The index is shared memory already; the locks are held from here on. */
    must(db, "pragma locking_mode = exclusive; insert into t(v) values(1)");
    must(db, "insert into t(v) values(2)");
    (void)events();
    must(db, "insert into t(v) values(3)");
    ck_assert_str_eq(events(), "fs");
    must(db, "pragma locking_mode = normal; select count(*) from t");
    must(db, "insert into t(v) values(4)");
    text = events();
    ck_assert_msg(strstr(text, "fws") != NULL, "%s", text);
    close_db(db);
    /* The index is private memory. */
    db = open_ours("a.db", "");
    must(db, "pragma locking_mode = exclusive; select count(*) from t");
    must(db, "insert into t(v) values(5)");
    (void)events();
    must(db, "insert into t(v) values(6)");
    ck_assert_str_eq(events(), "fs");
    check_text(must(db, "select count(*) from t"), "6");
    close_db(db);
    check_no_log("a.db");
}
END_TEST

static void
fails_for_good(sqlite3 *db, const char *value)
{
    const char *text = sql(db, "insert into t(v) values('%s')", value);
    ck_assert_msg(strncmp(text, "error 1034:", 11) == 0, "%s: %s", value, text);
}

START_TEST(a_failed_sync_fails_its_commit_and_every_later_one_until_all_have_left)
{
    sqlite3 *db = waltest_make("", 0), *other = open_ours("a.db", ""), *reader;
    must(db, "insert into t(v) values('good')");
    must(other, "select * from t");
    probe_fail_syncs(1);
    fails_for_good(db, "lost?");
    ck_assert(logged("a sync of its log failed"));
    /* A second sync that succeeds proves nothing. */
    fails_for_good(db, "later");
    fails_for_good(other, "of another");
    must(other, "pragma synchronous = off");
    fails_for_good(other, "asks for nothing");
    ck_assert_int_eq(lockstep_flush(other), SQLITE_IOERR_FSYNC);
    ck_assert_uint_ne(info(other).sync_failed, 0);
    close_db(db);
    reader = open_ours("a.db", "");
    fails_for_good(reader, "not all have left");
    check_text(must(reader, "select count(*) from t where v in ('good', 'lost?')"), "2");
    close_db(reader);
    /* No checkpoint over a log that may have holes. */
    (void)code(other, "pragma synchronous = normal");
    close_db(other);
    ck_assert(file_exists("a.db-lockstep"));
    ck_assert(file_exists("a.db-wal"));
    db = open_ours("a.db", "");
    sqlite3_busy_timeout(db, 5000);
    for (int64_t begin = now_ms();
         code(db, "insert into t(v) values('healed')") != SQLITE_OK && now_ms() < begin + 5000;)
        usleep(1000);
    ck_assert(logged("was written anew"));
    check_text(must(db, "select group_concat(v) from t"), "good,lost?,healed");
    close_db(db);
    check_no_log("a.db");
}
END_TEST

static int64_t
cpu_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* Commits wait to be synced and to be written back, and neither can be done. */
START_TEST(over_a_poisoned_log_the_background_sleeps)
{
    sqlite3 *db = waltest_make("max_lag=20", 0), *reader = open_ours("a.db", "");
    int64_t begin, cpu;
    uint64_t passes;
    must(reader, "begin; select count(*) from t");
    must(db, "pragma synchronous = normal");
    if (_i == 1)
        must(db, "insert into t(v) values(randomblob(4200000))");
    must(db, "insert into t(v) values('begins the log')");
    must(db, "pragma lockstep_flush");
    probe_fail_syncs(1);
    must(db, "insert into t(v) values('nobody waits')");
    for (begin = now_ms(); !logged("a sync of its log failed");)
        ck_assert_int_lt(now_ms() - begin, 5000);
    must(reader, "commit");
    ck_assert_uint_lt(info(db).durable, info(db).committed);
    passes = info(db).checkpoints;
    /* Much longer than it backs off. */
    begin = now_ms();
    cpu = cpu_ms();
    usleep(1500000);
    ck_assert_msg(cpu_ms() - cpu < (now_ms() - begin) / 3, "%lld ms of %lld", (long long)(cpu_ms() - cpu),
                  (long long)(now_ms() - begin));
    ck_assert_uint_eq(info(db).checkpoints, passes);
    close_db(reader);
    close_db(db);
}
END_TEST

/* ------------------------------------------------------------------------------------------------
 * The reset of the log
 * --------------------------------------------------------------------------------------------- */

static sqlite3 *meeting_writer;
static int met = -1;

/* Resets the log, if it may, while the checkpoint of another connection has read the header of before. */
static void
write_in_checkpoint(void)
{
    /* Not must(), which is at work. */
    met = sqlite3_exec(meeting_writer, "insert into t(v) values('in the checkpoint')", NULL, NULL, NULL);
}

/*
 * All of a long log is written back; a checkpointer has read its header; a writer resets the log and commits; the
 * checkpointer goes on.  Then further commits, which a checkpointer that was misled takes for written back.
 */
static const char *
meet(bool guarded)
{
    sqlite3 *db = waltest_make("worker=off", 0), *checkpointer, *writer;
    const char *found;
    must(db, "pragma synchronous = normal; pragma wal_autocheckpoint = 0");
    close_db(db);
    writer = guarded ? open_ours("a.db", "") : open_probe();
    checkpointer = open_probe();
    must(checkpointer, "pragma wal_autocheckpoint = 0; select count(*) from t");
    must(writer, "pragma synchronous = normal; pragma wal_autocheckpoint = 0");
    must(writer, "with recursive c(x) as (select 1 union all select x + 1 from c where x < 200)"
                 " insert into t(v) select randomblob(500) from c");
    must(writer, "pragma wal_checkpoint");
    meeting_writer = writer;
    probe_in_checkpoint(write_in_checkpoint);
    must(checkpointer, "pragma wal_checkpoint");
    ck_assert_msg(met == SQLITE_OK, "the checkpoint was not met, or the commit in it failed: %d", met);
    must(writer, "insert into t(v) values('after it')");
    /* "All is written back": now it is reset again. */
    must(checkpointer, "pragma wal_checkpoint");
    must(writer, "insert into t(v) values('at the end')");
    close_db(checkpointer);
    close_db(writer);
    db = open_stock("a.db");
    found = sql(db, "select count(*) from t where v in ('in the checkpoint', 'after it', 'at the end')");
    if (strcmp(found, "3") == 0 && strcmp(sql(db, "pragma integrity_check"), "ok") != 0)
        found = "damage";
    close_db(db);
    return found;
}

START_TEST(a_checkpoint_that_meets_a_reset_loses_nothing)
{
    check_text(meet(true), "3");
}
END_TEST

/* SQLite 3.51.3 and later have the guard themselves. */
START_TEST(frames_are_lost_without_the_guard)
{
    const char *found = meet(false);
    if (sqlite3_libversion_number() < 3051003)
        ck_assert_msg(strcmp(found, "3") != 0, "the interleaving was not the one that loses frames");
}
END_TEST

/* ------------------------------------------------------------------------------------------------
 * Checkpoints and the lag
 * --------------------------------------------------------------------------------------------- */

static void
fill(sqlite3 *db, int commits)
{
    int i;
    for (i = 0; i < commits; i++)
        must(db, "insert into t(v) values(randomblob(3000))");
}

START_TEST(checkpoints_run_in_the_background_and_the_log_is_reused)
{
    sqlite3 *db = waltest_make("", 0);
    int64_t begin = now_ms();
    sqlite3_busy_timeout(db, 5000);
    must(db, "pragma synchronous = normal");
    while (info(db).checkpoints < 5 && now_ms() < begin + 20000)
        fill(db, 100);
    ck_assert_uint_ge(info(db).checkpoints, 5);
    /* By the connection's own thread: none. */
    ck_assert(strchr(events(), 'C') == NULL || strchr(events(), 'd') == NULL);
    /* On a busy machine it may be beyond its limit for a moment. */
    while (file_size("a.db-wal") >= 64 << 20 && now_ms() < begin + 25000)
        fill(db, 1);
    ck_assert_int_lt(file_size("a.db-wal"), 64 << 20);
    ck_assert(strncmp(must(db, "pragma wal_checkpoint(truncate)"), "0|0|0", 5) == 0);
    ck_assert_int_eq(file_size("a.db-wal"), 0);
    check_text(must(db, "pragma integrity_check"), "ok");
    close_db(db);
}
END_TEST

START_TEST(with_checkpoint_off_nobody_checkpoints_but_who_is_told_to)
{
    sqlite3 *db = waltest_make("checkpoint=off", 0);
    must(db, "pragma synchronous = normal");
    fill(db, 1500);
    ck_assert_uint_eq(info(db).checkpoints, 0);
    ck_assert(strchr(events(), 'd') == NULL);
    ck_assert_int_gt(file_size("a.db-wal"), 1500 * 4096);
    ck_assert(strncmp(must(db, "pragma wal_checkpoint"), "0|", 2) == 0);
    ck_assert(strchr(events(), 'd') != NULL);
    close_db(db);
}
END_TEST

static int
checkpoint_now(sqlite3 *db)
{
    return sqlite3_wal_checkpoint_v2(db, "main", SQLITE_CHECKPOINT_PASSIVE, NULL, NULL);
}

/* The commit made no checkpoint of its own; the one that is asked for at once is made. */
static void
check_asked_for(sqlite3 *db, const char *what)
{
    const char *text = events();
    int rc;
    ck_assert_msg(strchr(text, 'w') != NULL && strchr(text, 'C') == NULL, "%s: %s", what, text);
    rc = checkpoint_now(db);
    text = events();
    ck_assert_msg(rc == SQLITE_OK && strchr(text, 'd') != NULL, "%s: %d, %s", what, rc, text);
    must(db, "insert into t(v) values(randomblob(4200000))"); /* more than 1000 frames again */
    (void)events();
}

/* In the ways in which a commit may end; with SQLite's automatic checkpoint in between, and without. */
START_TEST(a_checkpoint_right_after_a_commit_is_told_from_the_automatic_one)
{
    sqlite3 *db = waltest_make("checkpoint=off", 0);
    sqlite3_stmt *insert, *returning;
    if (_i == 1)
        ck_assert_int_eq(sqlite3_wal_autocheckpoint(db, 0), SQLITE_OK);
    ck_assert_int_eq(sqlite3_prepare_v2(db, "insert into t(v) values(1)", -1, &insert, NULL), SQLITE_OK);
    ck_assert_int_eq(sqlite3_prepare_v2(db, "insert into t(v) values(1), (2) returning v", -1, &returning, NULL),
                     SQLITE_OK);
    must(db, "insert into t(v) values(randomblob(4200000))");
    (void)events();
    must(db, "insert into t(v) values(1)");
    check_asked_for(db, "a statement that is gone");
    must(db, "begin; insert into t(v) values(1); insert into t(v) values(2)");
    must(db, "commit");
    check_asked_for(db, "COMMIT");
    ck_assert_int_eq(sqlite3_step(insert), SQLITE_DONE);
    check_asked_for(db, "a statement that is done");
    ck_assert_int_eq(sqlite3_step(insert), SQLITE_DONE);
    ck_assert_int_eq(sqlite3_reset(insert), SQLITE_OK);
    check_asked_for(db, "a statement that was reset");
    ck_assert_int_eq(sqlite3_step(returning), SQLITE_ROW);
    ck_assert_int_eq(sqlite3_step(returning), SQLITE_ROW);
    ck_assert_int_eq(sqlite3_step(returning), SQLITE_DONE);
    check_asked_for(db, "a statement with rows");
    must(db, "pragma synchronous = normal; insert into t(v) values(1)");
    check_asked_for(db, "NORMAL");
    must(db, "insert into t(v) values(1)");
    (void)events();
    ck_assert(strncmp(must(db, "pragma wal_checkpoint"), "0|", 2) == 0);
    ck_assert(strchr(events(), 'd') != NULL);
    /* The mark is not the application's to see. */
    must(db, "insert into t(v) values(randomblob(4200000))");
    ck_assert_int_eq(sqlite3_step(insert), SQLITE_DONE);
    ck_assert_int_eq(sqlite3_errcode(db), SQLITE_DONE);
    sqlite3_finalize(insert);
    ck_assert_int_eq(sqlite3_errcode(db), SQLITE_OK);
    sqlite3_finalize(returning);
    close_db(db);
}
END_TEST

START_TEST(commits_to_two_databases_make_no_automatic_checkpoint_of_either)
{
    sqlite3 *db = waltest_make("checkpoint=off", 0);
    const char *text;
    must(db, "attach 'file:b.db?vfs=lockstep&checkpoint=off' as b; pragma b.journal_mode = wal;"
             "create table b.u(v)");
    must(db, "begin; insert into t(v) values(randomblob(4200000)); insert into u values(randomblob(4200000)); commit");
    (void)events();
    must(db, "begin; insert into t(v) values(1); insert into u values(1)");
    must(db, "commit");
    text = events();
    ck_assert_msg(strchr(text, 'w') != NULL && strchr(text, 'C') == NULL, "%s", text);
    ck_assert_int_eq(sqlite3_wal_checkpoint_v2(db, NULL, SQLITE_CHECKPOINT_TRUNCATE, NULL, NULL), SQLITE_OK);
    ck_assert_int_eq(file_size("a.db-wal"), 0);
    ck_assert_int_eq(file_size("b.db-wal"), 0);
    close_db(db);
}
END_TEST

START_TEST(the_status_says_which_reader_holds_the_log_back)
{
    sqlite3 *db = waltest_make("", 0), *reader = open_ours("a.db", "");
    char want[64];
    must(db, "pragma synchronous = normal; insert into t(v) values(1)");
    must(reader, "begin; select * from t");
    fill(db, 100);
    snprintf(want, sizeof want, "\"held_back_by\":{\"pid\":%d,", (int)getpid());
    ck_assert_msg(strstr(must(db, "pragma lockstep_status"), want) != NULL, "%s",
                  must(db, "pragma lockstep_status"));
    must(reader, "commit");
    ck_assert(strstr(must(db, "pragma lockstep_status"), "held_back_by") == NULL);
    close_db(reader);
    close_db(db);
}
END_TEST

START_TEST(a_normal_commit_is_durable_within_the_lag)
{
    sqlite3 *db = waltest_make("max_lag=100", 0);
    int64_t begin;
    int i;
    must(db, "pragma synchronous = normal; insert into t(v) values(1)");
    for (i = 0; i < 5; i++) {
        uint64_t ticket;
        must(db, "insert into t(v) values(2)");
        begin = now_ms();
        ticket = info(db).committed;
        while (info(db).durable < ticket && now_ms() < begin + 2000)
            usleep(1000);
        ck_assert_msg(now_ms() - begin < 1000, "it took %lld ms", (long long)(now_ms() - begin));
    }
    close_db(db);
}
END_TEST

/* Whoever has no busy timeout and is alone is never told BUSY for the checkpointer's sake. */
START_TEST(the_checkpointer_is_in_nobody_s_way)
{
    sqlite3 *db = waltest_make("", 0);
    int64_t begin = now_ms();
    must(db, "pragma synchronous = normal");
    while (info(db).checkpoints < 10 && now_ms() < begin + 20000) {
        must(db, "begin; select count(*) from t; insert into t(v) values(randomblob(9000)); commit");
        must(db, "begin immediate; insert into t(v) values(randomblob(9000)); commit");
        must(db, "delete from t where k < (select max(k) from t) - 100");
    }
    ck_assert_uint_ge(info(db).checkpoints, 10);
    close_db(db);
    check_no_log("a.db");
}
END_TEST

START_TEST(two_clients_do_not_switch_the_mode)
{
    sqlite3 *db = waltest_make("", 0), *other = open_ours("a.db", ""), *stock;
    must(other, "select count(*) from t");
    ck_assert_int_eq(code(db, "pragma journal_mode = delete"), SQLITE_BUSY);
    must(db, "insert into t(v) values(1)");
    must(other, "insert into t(v) values(2)");
    close_db(other);
    stock = open_stock("a.db");
    must(stock, "select count(*) from t");
    ck_assert_int_eq(code(db, "pragma journal_mode = delete"), SQLITE_BUSY);
    must(db, "insert into t(v) values(3)");
    close_db(stock);
    check_text(must(db, "pragma journal_mode = delete"), "delete");
    must(db, "insert into t(v) values(4)");
    ck_assert_uint_eq(info(db).wal, 0);
    check_text(must(db, "pragma journal_mode = wal"), "wal");
    must(db, "insert into t(v) values(5)");
    ck_assert_uint_eq(info(db).wal, 1);
    check_text(must(db, "select count(*) from t"), "5");
    close_db(db);
    check_no_log("a.db");
}
END_TEST

START_TEST(a_stale_snapshot_is_refused_at_once)
{
    sqlite3 *db = waltest_make("", 0), *other = open_ours("a.db", "");
    int64_t begin;
    sqlite3_busy_timeout(db, 10000);
    must(db, "begin; select count(*) from t");
    must(other, "insert into t(v) values(1)");
    begin = now_ms();
    ck_assert(strncmp(sql(db, "insert into t(v) values(2)"), "error 517:", 10) == 0);
    ck_assert_int_lt(now_ms() - begin, 1000);
    must(db, "rollback");
    must(db, "begin immediate; insert into t(v) values(2); commit");
    close_db(other);
    close_db(db);
}
END_TEST

static Suite *
make_suite(void)
{
    Suite *suite = suite_create("wal");
    TCase *tcase = vfstest_case(suite, "wal");
    tcase_add_test(tcase, the_sync_of_a_commit_comes_after_the_write_lock_is_let_go);
    tcase_add_test(tcase, what_synchronous_asks_for_may_change_in_mid_connection);
    tcase_add_test(tcase, the_syncs_of_a_checkpoint_are_never_put_off);
    tcase_add_test(tcase, in_exclusive_locking_mode_nothing_is_put_off);
    tcase_add_test(tcase, a_failed_sync_fails_its_commit_and_every_later_one_until_all_have_left);
    tcase_add_loop_test(tcase, over_a_poisoned_log_the_background_sleeps, 0, 2);
    tcase_add_test(tcase, a_checkpoint_that_meets_a_reset_loses_nothing);
    tcase_add_test(tcase, frames_are_lost_without_the_guard);
    tcase_add_test(tcase, checkpoints_run_in_the_background_and_the_log_is_reused);
    tcase_add_test(tcase, with_checkpoint_off_nobody_checkpoints_but_who_is_told_to);
    tcase_add_loop_test(tcase, a_checkpoint_right_after_a_commit_is_told_from_the_automatic_one, 0, 2);
    tcase_add_test(tcase, commits_to_two_databases_make_no_automatic_checkpoint_of_either);
    tcase_add_test(tcase, the_status_says_which_reader_holds_the_log_back);
    tcase_add_test(tcase, a_normal_commit_is_durable_within_the_lag);
    tcase_add_test(tcase, the_checkpointer_is_in_nobody_s_way);
    tcase_add_test(tcase, two_clients_do_not_switch_the_mode);
    tcase_add_test(tcase, a_stale_snapshot_is_refused_at_once);
    return suite;
}

int
main(int argc, char **argv)
{
    return vfstest_main(argc, argv, make_suite);
}
