/*
 * Promise 7 in WAL mode: an I/O error is never swallowed, and undoes nothing that was acknowledged.
 *
 * Every operation on the log and on the database is made to fail in one process, at the first and at a later one, for want
 * of space and by an error; half of a write that fails is done.  The statement fails with that code and leaves
 * nothing behind, another process goes on, and so does the first as soon as the disk is good again.  What fails in
 * the background is told in the log and tried again; a sync that failed stops all writers (test_wal.c).
 *
 * Made to fail by: answering SQLITE_OK where a frame was not written (rows are missing); a checkpoint that is not tried
 * again; one whose failure is not logged, or a failed sync of it not taken for one.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "harness/clock.h"
#include "vfs/peer.h"
#include "vfs/probe_vfs.h"
#include "vfs/vfstest.h"
#include "vfs/waltest.h"

#define PATIENCE_MS 10000

static sqlite3 *
make(const char *parameters)
{
    sqlite3 *db = waltest_make(parameters, 0);
    sqlite3_busy_timeout(db, PATIENCE_MS);
    return db;
}

/* ------------------------------------------------------------------------------------------------
 * A transaction that cannot be written
 * --------------------------------------------------------------------------------------------- */

static const struct {
    struct probe_fault fault;
    bool at_the_beginning; /* of the log */
    const char *error;
} writes[] = {
    {{'f', SQLITE_FULL, 0, 0}, false, "error 13: database or disk is full"},
    {{'f', SQLITE_IOERR_WRITE, 0, 0}, false, "error 778: disk I/O error"},
    {{'f', SQLITE_FULL, 3, 0}, false, "error 13: database or disk is full"},
    {{'f', SQLITE_IOERR_WRITE, 4, 0}, false, "error 778: disk I/O error"},
    {{'f', SQLITE_FULL, 2, 0}, true, "error 13: database or disk is full"},
    {{'h', SQLITE_FULL, 0, 0}, true, "error 13: database or disk is full"},
    {{'h', SQLITE_IOERR_WRITE, 0, 0}, true, "error 778: disk I/O error"},
};

START_TEST(a_transaction_that_cannot_be_written_fails_and_leaves_nothing)
{
    /* With FULL and with NORMAL; worker=off: nothing happens beside. */
    size_t i = (size_t)_i / 2;
    sqlite3 *db = make("worker=off");
    struct peer peer;
    int round;
    peer_start(&peer);
    check_text(peer_ask(&peer, "open 0 file:a.db?vfs=lockstep&worker=off"), "");
    check_text(peer_ask(&peer, "timeout 0 5000"), "");
    must(db, "pragma synchronous = %s; insert into t(v) values('good')", _i % 2 == 0 ? "full" : "normal");
    if (writes[i].at_the_beginning)
        must(db, "pragma wal_checkpoint(truncate)");
    probe_break(&writes[i].fault);
    for (round = 0; round < 3; round++) {
        /* A hundred frames, in seven writes. */
        check_text(sql(db, "insert into t(v) values(randomblob(400000))"), writes[i].error);
        ck_assert_uint_gt(probe_hits(), (unsigned)round);
        check_text(must(db, "select count(*) from t"), "1");
        ck_assert_int_ne(sqlite3_get_autocommit(db), 0);
    }
    ck_assert_uint_eq(info(db).sync_failed, 0);
    /* The other process sees nothing of it, and writes: its disk is good. */
    check_text(peer_ask(&peer, "sql 0 select v from t"), "good");
    check_text(peer_ask(&peer, "sql 0 insert into t(v) values('of another')"), "");
    check_text(must(db, "select count(*) from t"), "2");
    probe_mend();
    must(db, "insert into t(v) values('afterwards')");
    check_text(peer_ask(&peer, "sql 0 select count(*) from t"), "3");
    check_text(must(db, "pragma integrity_check"), "ok");
    check_text(peer_ask(&peer, "close 0"), "");
    peer_exit(&peer);
    close_db(db);
    waltest_left_whole("3");
}
END_TEST

START_TEST(a_transaction_that_spills_and_cannot_be_written_may_be_rolled_back_in_part)
{
    sqlite3 *db = make("worker=off");
    struct probe_fault fault = {'f', SQLITE_FULL, 3, 0};
    must(db, "pragma cache_size = 2; pragma cache_spill = 2");
    must(db, "begin; insert into t(v) values('kept'); savepoint s");
    probe_break(&fault);
    check_text(sql(db, "insert into t(v) values(randomblob(400000))"), "error 13: database or disk is full");
    probe_mend();
    if (sqlite3_get_autocommit(db) == 0)
        must(db, "rollback");
    check_text(must(db, "select count(*) from t"), "0");
    must(db, "insert into t(v) values('afterwards')");
    close_db(db);
    waltest_left_whole("1");
}
END_TEST

/* The barrier between the header and the frames: the frames may be the old log's. */
START_TEST(a_failed_sync_of_the_header_stops_all_writers_until_all_have_left)
{
    sqlite3 *db = make("");
    int64_t begin = now_ms();
    must(db, "insert into t(v) values('good'); pragma wal_checkpoint(truncate)");
    probe_fail_syncs(1);
    ck_assert(strncmp(sql(db, "insert into t(v) values('not')"), "error 1034:", 11) == 0);
    ck_assert(logged("a sync of its log failed"));
    ck_assert(strncmp(sql(db, "insert into t(v) values('later')"), "error 1034:", 11) == 0);
    check_text(must(db, "select v from t"), "good");
    close_db(db);
    db = open_ours("a.db", "");
    sqlite3_busy_timeout(db, PATIENCE_MS);
    while (code(db, "insert into t(v) values('healed')") != SQLITE_OK && now_ms() < begin + PATIENCE_MS)
        usleep(1000);
    check_text(must(db, "select group_concat(v) from t"), "good,healed");
    close_db(db);
    waltest_left_whole("2");
}
END_TEST

/* ------------------------------------------------------------------------------------------------
 * Reading
 * --------------------------------------------------------------------------------------------- */

START_TEST(a_short_read_of_the_log_is_an_error_and_no_wrong_row)
{
    static const int codes[] = {SQLITE_IOERR_SHORT_READ, SQLITE_IOERR_READ};
    sqlite3 *db = make("worker=off"), *reader;
    char want[20];
    must(db, "insert into t(v) values('one'); insert into t(v) values(randomblob(20000))");
    reader = open_ours("a.db", "worker=off");
    check_text(must(reader, "select count(*) from sqlite_master"), "1");
    probe_break(&(struct probe_fault){'r', codes[_i], 0, 0});
    snprintf(want, sizeof want, "error %d:", codes[_i]);
    ck_assert_msg(strncmp(sql(reader, "select sum(length(v)) from t"), want, strlen(want)) == 0, "%s",
                  sql(reader, "select sum(length(v)) from t"));
    ck_assert_uint_gt(probe_hits(), 0);
    /* A writer reads first; nothing is changed. */
    ck_assert(strncmp(sql(reader, "update t set v = v || 'x'"), want, strlen(want)) == 0);
    probe_mend();
    check_text(must(reader, "select sum(length(v)) from t"), "20003");
    must(reader, "insert into t(v) values('two')");
    close_db(reader);
    close_db(db);
    waltest_left_whole("3");
}
END_TEST

/* ------------------------------------------------------------------------------------------------
 * In the background
 * --------------------------------------------------------------------------------------------- */

static void
wait_for(bool (*condition)(sqlite3 *db), sqlite3 *db, const char *what)
{
    int64_t begin = now_ms();
    while (!condition(db)) {
        ck_assert_msg(now_ms() < begin + PATIENCE_MS, "%s: not within %d ms; the log: %s", what, PATIENCE_MS,
                      log_text());
        usleep(1000);
    }
}

/* Until then SQLite makes its automatic checkpoints in the committing connection. */
static bool
has_background(sqlite3 *db)
{
    return strcmp(must(db, "select count(*) from lockstep_locks where lock = 'WORKER' and state = 'held'"), "1") == 0;
}

static bool
has_failed(sqlite3 *db)
{
    (void)db;
    return logged("a checkpoint failed") && probe_hits() > 1;
}

static bool
all_is_written_back(sqlite3 *db)
{
    return info(db).wal_backfilled == info(db).wal_frames;
}

static bool
is_short(sqlite3 *db)
{
    (void)db;
    return file_size("a.db-wal") <= 1000000;
}

static const struct {
    struct probe_fault fault;
    const char *message;
} passes[] = {
    {{'d', SQLITE_FULL, 0, 0}, "database or disk is full"},
    {{'d', SQLITE_IOERR_WRITE, 0, 0}, "disk I/O error"},
    {{'d', SQLITE_IOERR_WRITE, 500, 0}, "disk I/O error"},
    {{'r', SQLITE_IOERR_READ, 0, 0}, "disk I/O error"},
    {{'r', SQLITE_IOERR_SHORT_READ, 700, 0}, "disk I/O error"},
    {{'t', SQLITE_IOERR_TRUNCATE, 0, 0}, "disk I/O error"},
};

START_TEST(a_checkpoint_that_fails_is_told_and_made_when_the_disk_is_good_again)
{
    sqlite3 *db = make("wal_limit=1000000");
    struct peer peer;
    int i;
    peer_start(&peer);
    check_text(peer_ask(&peer, "open 0 file:a.db?vfs=lockstep"), "");
    check_text(peer_ask(&peer, "timeout 0 5000"), "");
    must(db, "pragma synchronous = normal; insert into t(v) values(1)");
    wait_for(has_background, db, "the background");
    probe_break(&passes[_i].fault);
    must(db, "insert into t(v) values(randomblob(5000000))");
    wait_for(has_failed, db, passes[_i].message);
    ck_assert_msg(logged(passes[_i].message), "%s", log_text());
    /* Commits go on, here and there, FULL and NORMAL. */
    for (i = 0; i < 10; i++) {
        if (passes[_i].fault.event == 'r') /* which its own statements meet as well */
            check_text(peer_ask(&peer, "sql 0 insert into t(v) values(2)"), "");
        else
            must(db, "insert into t(v) values(2)");
        check_text(peer_ask(&peer, "sql 0 insert into t(v) values(3)"), "");
    }
    ck_assert_uint_eq(info(db).sync_failed, 0);
    check_text(peer_ask(&peer, "sql 0 select count(*) from t"), "22");
    probe_mend();
    wait_for(all_is_written_back, db, "writing back");
    wait_for(is_short, db, "truncating");
    check_text(must(db, "pragma integrity_check"), "ok");
    check_text(peer_ask(&peer, "close 0"), "");
    peer_exit(&peer);
    close_db(db);
    waltest_left_whole("22");
}
END_TEST

static bool
is_poisoned(sqlite3 *db)
{
    return info(db).sync_failed != 0;
}

/* Of the log or of the database: SQLite does not tell which, so it counts as one of the log. */
START_TEST(a_failed_sync_of_a_checkpoint_stops_all_writers_until_all_have_left)
{
    sqlite3 *db = make("max_lag=3600000");
    int64_t begin;
    must(db, "pragma synchronous = normal; insert into t(v) values(1)");
    wait_for(has_background, db, "the background");
    probe_break(&(struct probe_fault){"Ds"[_i], SQLITE_IOERR_FSYNC, 0, 1});
    must(db, "insert into t(v) values(randomblob(5000000))");
    wait_for(is_poisoned, db, "poison");
    ck_assert_uint_eq(probe_hits(), 1);
    ck_assert_msg(logged("a checkpoint could not sync"), "%s", log_text());
    ck_assert(strncmp(sql(db, "insert into t(v) values('later')"), "error 1034:", 11) == 0);
    check_text(must(db, "select count(*) from t"), "2");
    close_db(db);
    db = open_ours("a.db", "");
    sqlite3_busy_timeout(db, PATIENCE_MS);
    for (begin = now_ms(); code(db, "insert into t(v) values('healed')") != SQLITE_OK;) {
        ck_assert_int_lt(now_ms(), begin + PATIENCE_MS);
        usleep(1000);
    }
    check_text(must(db, "select count(*) from t"), "3");
    close_db(db);
    waltest_left_whole("3");
}
END_TEST

static Suite *
make_suite(void)
{
    Suite *suite = suite_create("wal faults");
    TCase *tcase = vfstest_case(suite, "wal faults");
    tcase_add_loop_test(tcase, a_transaction_that_cannot_be_written_fails_and_leaves_nothing, 0,
                        2 * (int)(sizeof writes / sizeof writes[0]));
    tcase_add_test(tcase, a_transaction_that_spills_and_cannot_be_written_may_be_rolled_back_in_part);
    tcase_add_test(tcase, a_failed_sync_of_the_header_stops_all_writers_until_all_have_left);
    tcase_add_loop_test(tcase, a_short_read_of_the_log_is_an_error_and_no_wrong_row, 0, 2);
    tcase_add_loop_test(tcase, a_checkpoint_that_fails_is_told_and_made_when_the_disk_is_good_again, 0,
                        (int)(sizeof passes / sizeof passes[0]));
    tcase_add_loop_test(tcase, a_failed_sync_of_a_checkpoint_stops_all_writers_until_all_have_left, 0, 2);
    return suite;
}

int
main(int argc, char **argv)
{
    return vfstest_main(argc, argv, make_suite);
}
