/*
 * What a commit in WAL mode writes and locks: its frames are one write, whatever SQLite makes of them, up to 64 KiB, and
 * the log is as stock SQLite would have it, to the last checksum; a read mark that is near enough is not moved on; who waits for the disk, and
 * is about to write, waits for the lock awake and without a read lock, and nobody else does.
 *
 * Made to fail by: never keeping a frame's header (more writes); not seeing that a frame ends a commit (others read what is
 * not there); keeping what was rolled back (it is written over others' frames); keeping the end of a
 * commit that could not be written (it is found after a crash); keeping headers that are written anew for a
 * changed checksum
 * (who reads the log without its index finds it end there); moving on every mark, or none; not waiting awake; doing so
 * with a read lock, for a statement that reads, or where the last commit did not wait.
 */
#include <sched.h>
#include <stdio.h>
#include <string.h>

#include "vfs/probe_vfs.h"
#include "vfs/vfstest.h"
#include "vfs/waltest.h"

static sqlite3 *
make(int page_size)
{
    sqlite3 *db = waltest_make("worker=off", page_size);
    must(db, "insert into t values(1, 0)");
    (void)probe_events();
    return db;
}

START_TEST(a_commit_is_one_write)
{
    sqlite3 *db = make(4096);
    int i;
    for (i = 0; i < 3; i++) {
        must(db, "update t set v = %d", i + 1);
        check_text(probe_events(), "Wfws");
    }
    must(db, "pragma wal_checkpoint(restart)");
    (void)probe_events();
    /* The first of a log that begins anew, too. */
    must(db, "update t set v = 4");
    check_text(strchr(probe_events(), 'h'), "hsfws");
    /* With FULL and without. */
    must(db, "insert into t(v) values(zeroblob(40000))");
    check_text(probe_events(), "Wfws");
    must(db, "pragma synchronous = normal; insert into t(v) values(zeroblob(40000))");
    check_text(probe_events(), "Wfw");
    /* 21 frames: 64 KiB have room for 15. */
    must(db, "insert into t(v) values(zeroblob(80000))");
    check_text(probe_events(), "Wffw");
    close_db(db);
    check_no_log("a.db");
}
END_TEST

/* What waits to be written when a transaction is rolled back is nobody's: its place in the log is the next writer's. */
START_TEST(what_was_rolled_back_is_not_written)
{
    sqlite3 *db = make(4096), *other = open_ours("a.db", "worker=off");
    int i;
    must(other, "select * from t");
    must(db, "pragma cache_size = 5; pragma cache_spill = 5");
    for (i = 0; i < 4; i++) {
        must(db, "begin; insert into t(v) values(zeroblob(%d)); rollback", 30000 + i * 4000);
        must(other, "insert into t(v) values(randomblob(50000))");
        must(db, "select sum(length(v)) from t");
        must(db, "insert into t(v) values(randomblob(9000))");
        check_text(must(other, "pragma integrity_check"), "ok");
    }
    close_db(other);
    close_db(db);
    check_no_log("a.db");
}
END_TEST

/* By stock SQLite, from the bytes of the database and of its log alone. */
static void
check_recovered(sqlite3 *db)
{
    static const char sum[] = "select count(*), sum(k), total(length(v)), total(n) from t, (select count(*) as n from u)";
    sqlite3 *stock;
    char want[200];
    /* First: to read the log is to write what is kept. */
    copy_file("a.db", "b.db");
    copy_file("a.db-wal", "b.db-wal");
    remove("b.db-shm");
    snprintf(want, sizeof want, "%s", must(db, "%s", sum));
    stock = open_stock("b.db");
    check_text(must(stock, "%s", sum), want);
    check_text(must(stock, "pragma integrity_check"), "ok");
    close_db(stock);
}

static const int page_sizes[] = {512, 4096, 65536};
static const char *const levels[] = {"off", "normal", "full"};

/* SQLite reads page 1 back before it lets the lock go, and then what was kept can be written. */
START_TEST(a_commit_that_failed_is_none_after_a_crash_either)
{
    static const struct probe_fault fault = {'f', SQLITE_FULL, 0, 1};
    sqlite3 *db = make(4096);
    must(db, "create table u(k integer primary key, v); insert into t(v) values(zeroblob(20000))");
    probe_break(&fault);
    check_text(sql(db, "insert into t(v) values(zeroblob(30000))"), "error 13: database or disk is full");
    ck_assert_uint_eq(probe_hits(), 1);
    check_text(must(db, "select count(*) from t"), "2");
    check_recovered(db);
    must(db, "insert into t(v) values(zeroblob(10000))");
    check_recovered(db);
    close_db(db);
    check_no_log("a.db");
}
END_TEST

/* A cache of a few pages: a transaction writes pages to the log before it ends, takes them back and writes them again. */
START_TEST(the_log_is_whole_after_pages_that_were_written_twice)
{
    int page_size = page_sizes[_i / 3], bytes = page_size / 5, round;
    sqlite3 *db = make(page_size);
    must(db, "pragma synchronous = %s; pragma cache_size = 5; create table u(k integer primary key, v)", levels[_i % 3]);
    for (round = 0; round < 4; round++) {
        must(db, "begin");
        must(db, "with recursive n(i) as (select 1 union all select i + 1 from n where i < 100)"
                 " insert into t(v) select randomblob(%d) from n", bytes);
        must(db, "update t set v = randomblob(%d) where k %% 3 = %d", bytes, round % 3);
        must(db, "savepoint s; delete from t where k %% 2 = 0; update t set v = randomblob(%d)", bytes);
        must(db, round % 2 == 0 ? "rollback to s" : "release s");
        must(db, "update t set v = randomblob(%d) where k %% 5 = 1", bytes);
        must(db, "insert into u(v) values(randomblob(%d)); commit", bytes);
        check_recovered(db);
        must(db, "begin; update t set v = randomblob(%d); rollback", bytes);
        check_recovered(db);
        must(db, "insert into u(v) values(%d)", round);
        check_recovered(db);
    }
    check_text(must(db, "pragma integrity_check"), "ok");
    close_db(db);
    check_no_log("a.db");
}
END_TEST

START_TEST(a_read_mark_that_is_near_is_not_moved_on)
{
    sqlite3 *db = make(4096), *other;
    unsigned before;
    int busy, frames, done, i;
    other = open_ours("a.db", "worker=off");
    must(db, "pragma wal_autocheckpoint = 0; pragma synchronous = full; update t set v = -1");
    must(other, "select * from t");
    before = probe_total('m');
    for (i = 0; i < 60; i++)
        must(db, "update t set v = %d", i);
    ck_assert_uint_le(probe_total('m') - before, 2);
    for (; i < 300; i++)
        must(db, "update t set v = %d", i);
    ck_assert_uint_le(probe_total('m') - before, 10);
    /* But it is when it is far behind: who reads now holds a checkpoint back by little. */
    must(db, "begin; select * from t");
    ck_assert_int_eq(sscanf(must(other, "pragma wal_checkpoint(passive)"), "%d|%d|%d", &busy, &frames, &done), 3);
    ck_assert_int_ge(frames, 300);
    ck_assert_int_ge(done, frames - 64);
    must(db, "commit");
    close_db(other);
    check_text(must(db, "select v from t"), "299");
    close_db(db);
    check_no_log("a.db");
}
END_TEST

/* ------------------------------------------------------------------------------------------------
 * Waiting awake: the processor is given away, which here is told
 * --------------------------------------------------------------------------------------------- */

static sqlite3 *owner;
static unsigned yields, snapshots;

int
sched_yield(void)
{
    yields++;
    if (owner != NULL && yields == 3) {
        sqlite3 *db = owner;
        owner = NULL;
        must(db, "insert into t(v) values('of the owner'); commit");
    }
    return 0;
}

static void
count_snapshot(void)
{
    snapshots++;
}

/* Another connection has the lock. */
static void
take(sqlite3 *db)
{
    must(db, "begin immediate");
    owner = db;
    yields = 0;
}

START_TEST(who_waits_for_the_disk_waits_awake_and_without_a_read_lock)
{
    sqlite3 *db = make(4096), *other = open_ours("a.db", "worker=off");
    must(other, "pragma synchronous = full");
    must(db, "pragma synchronous = full");
    sqlite3_busy_timeout(db, 20);
    /* It has a busy timeout: that is known when it was used. */
    take(other);
    check_text(sql(db, "insert into t(v) values(1)"), "error 5: database is locked");
    ck_assert_uint_eq(yields, 0);
    owner = NULL;
    must(other, "commit");
    must(db, "insert into t(v) values(2)");

    take(other);
    probe_before_snapshots(count_snapshot);
    snapshots = 0;
    must(db, "begin immediate");
    probe_before_snapshots(NULL);
    ck_assert_uint_eq(yields, 3);
    ck_assert_uint_eq(snapshots, 1);
    check_text(must(db, "select count(*) from t where v = 'of the owner'"), "1");
    must(db, "insert into t(v) values(3); commit");

    /* A statement that reads has nothing to wait for. */
    take(other);
    check_text(must(db, "select count(*) from t"), "4");
    ck_assert_uint_eq(yields, 0);
    owner = NULL;
    must(other, "rollback");

    must(db, "pragma synchronous = normal; insert into t(v) values(4)");
    take(other);
    check_text(sql(db, "insert into t(v) values(5)"), "error 5: database is locked");
    ck_assert_uint_eq(yields, 0);
    owner = NULL;
    must(other, "rollback");
    close_db(other);
    close_db(db);
    check_no_log("a.db");
}
END_TEST

static Suite *
make_suite(void)
{
    Suite *suite = suite_create("wal frames");
    TCase *tcase = vfstest_case(suite, "wal frames");
    tcase_add_test(tcase, a_commit_is_one_write);
    tcase_add_test(tcase, what_was_rolled_back_is_not_written);
    tcase_add_test(tcase, a_commit_that_failed_is_none_after_a_crash_either);
    tcase_add_loop_test(tcase, the_log_is_whole_after_pages_that_were_written_twice, 0,
                        (int)(sizeof page_sizes / sizeof page_sizes[0]) * 3);
    tcase_add_test(tcase, a_read_mark_that_is_near_is_not_moved_on);
    tcase_add_test(tcase, who_waits_for_the_disk_waits_awake_and_without_a_read_lock);
    return suite;
}

int
main(int argc, char **argv)
{
    return vfstest_main(argc, argv, make_suite);
}
