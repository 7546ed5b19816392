/*
 * shm=copy with multi_process=0: the WAL-index on the heap, all locks in the process.
 *
 * Made to fail by: a lock that looks at its neighbour's holders; an unlock that leaves the last of a range; not letting go
 * of the lock on the file with the last connection; keeping memory for who comes first.
 */
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "vfs/shm_heap.h"
#include "vfs/peer.h"
#include "vfs/vfstest.h"

#define HEAP "shm=copy&multi_process=0"
#define LOCKS 8

/* ------------------------------------------------------------------------------------------------
 * The locks
 * --------------------------------------------------------------------------------------------- */

static struct lks_shm_heap *
open_heap(void)
{
    struct lks_shm_heap *heap;
    write_file("a.db", 0, "", 1);
    ck_assert_int_eq(lks_shm_heap_open("a.db", &heap), LOCKSTEP_OK);
    return heap;
}

START_TEST(each_lock_is_by_itself)
{
    struct lks_shm_heap *heap = open_heap();
    for (int mine = 0; mine < LOCKS; mine++)
        for (int other = 0; other < LOCKS; other++)
            for (int kind = 0; kind < 4; kind++) {
                struct lks_shm_heap_locks a = {0}, b = {0};
                bool a_exclusive = (kind & 1) != 0, b_exclusive = (kind & 2) != 0;
                bool meet = mine == other && kind != 0;
                ck_assert_int_eq(lks_shm_heap_lock(heap, &a, mine, 1, a_exclusive), LOCKSTEP_OK);
                ck_assert_int_eq(lks_shm_heap_lock(heap, &b, other, 1, b_exclusive), meet ? LOCKSTEP_BUSY : LOCKSTEP_OK);
                lks_shm_heap_unlock(heap, &a, mine, 1);
                if (meet)
                    ck_assert_int_eq(lks_shm_heap_lock(heap, &b, other, 1, b_exclusive), LOCKSTEP_OK);
                lks_shm_heap_unlock(heap, &b, other, 1);
                ck_assert_uint_eq(a.shared | a.exclusive | b.shared | b.exclusive, 0);
            }
}
END_TEST

START_TEST(a_range_is_had_whole_or_not_at_all)
{
    struct lks_shm_heap *heap = open_heap();
    for (int first = 0; first < LOCKS; first++)
        for (int n = 1; first + n <= LOCKS; n++)
            for (int other = 0; other < LOCKS; other++) {
                struct lks_shm_heap_locks a = {0}, b = {0}, c = {0};
                bool within = other >= first && other < first + n;
                ck_assert_int_eq(lks_shm_heap_lock(heap, &b, other, 1, false), LOCKSTEP_OK);
                ck_assert_int_eq(lks_shm_heap_lock(heap, &a, first, n, true), within ? LOCKSTEP_BUSY : LOCKSTEP_OK);
                lks_shm_heap_unlock(heap, &b, other, 1);
                if (within)
                    ck_assert_int_eq(lks_shm_heap_lock(heap, &a, first, n, true), LOCKSTEP_OK);
                ck_assert_uint_eq(a.exclusive, ((1u << n) - 1) << first);
                lks_shm_heap_unlock(heap, &a, first, n);
                ck_assert_int_eq(lks_shm_heap_lock(heap, &c, 0, LOCKS, true), LOCKSTEP_OK);
                lks_shm_heap_unlock(heap, &c, 0, LOCKS);
            }
}
END_TEST

START_TEST(the_last_of_many_readers_lets_a_writer_in)
{
    struct lks_shm_heap *heap = open_heap();
    struct lks_shm_heap_locks readers[3] = {{0}}, writer = {0};
    for (int i = 0; i < 3; i++)
        ck_assert_int_eq(lks_shm_heap_lock(heap, &readers[i], 4, 1, false), LOCKSTEP_OK);
    for (int i = 0; i < 3; i++) {
        ck_assert_int_eq(lks_shm_heap_lock(heap, &writer, 4, 1, true), LOCKSTEP_BUSY);
        lks_shm_heap_unlock(heap, &readers[i], 4, 1);
    }
    ck_assert_int_eq(lks_shm_heap_lock(heap, &writer, 4, 1, true), LOCKSTEP_OK);
    lks_shm_heap_unlock(heap, &writer, 4, 1);
}
END_TEST

START_TEST(the_database_s_locks_are_sqlite_s)
{
    struct lks_shm_heap *heap = open_heap();
    struct lks_shm_heap_locks a = {0}, b = {0}, c = {0};
    ck_assert_int_eq(lks_shm_heap_lock_database(heap, &a, SQLITE_LOCK_SHARED), LOCKSTEP_OK);
    ck_assert_int_eq(lks_shm_heap_lock_database(heap, &b, SQLITE_LOCK_SHARED), LOCKSTEP_OK);
    ck_assert(!lks_shm_heap_is_reserved(heap));
    ck_assert_int_eq(lks_shm_heap_lock_database(heap, &a, SQLITE_LOCK_RESERVED), LOCKSTEP_OK);
    ck_assert(lks_shm_heap_is_reserved(heap));
    ck_assert_int_eq(lks_shm_heap_lock_database(heap, &b, SQLITE_LOCK_RESERVED), LOCKSTEP_BUSY);
    ck_assert_int_eq(lks_shm_heap_lock_database(heap, &b, SQLITE_LOCK_EXCLUSIVE), LOCKSTEP_BUSY);
    ck_assert_int_eq(b.level, SQLITE_LOCK_SHARED);
    ck_assert_int_eq(lks_shm_heap_lock_database(heap, &a, SQLITE_LOCK_EXCLUSIVE), LOCKSTEP_BUSY);
    ck_assert_int_eq(a.level, SQLITE_LOCK_PENDING);
    ck_assert_int_eq(lks_shm_heap_lock_database(heap, &c, SQLITE_LOCK_SHARED), LOCKSTEP_BUSY);
    lks_shm_heap_unlock_database(heap, &b, SQLITE_LOCK_NONE);
    ck_assert_int_eq(lks_shm_heap_lock_database(heap, &a, SQLITE_LOCK_EXCLUSIVE), LOCKSTEP_OK);
    lks_shm_heap_unlock_database(heap, &a, SQLITE_LOCK_SHARED);
    ck_assert_int_eq(lks_shm_heap_lock_database(heap, &c, SQLITE_LOCK_SHARED), LOCKSTEP_OK);
    lks_shm_heap_unlock_database(heap, &a, SQLITE_LOCK_NONE);
    lks_shm_heap_unlock_database(heap, &c, SQLITE_LOCK_NONE);
    ck_assert(!lks_shm_heap_is_reserved(heap));
}
END_TEST

/* ------------------------------------------------------------------------------------------------
 * With SQLite
 * --------------------------------------------------------------------------------------------- */

static sqlite3 *
make(void)
{
    sqlite3 *db = open_ours("a.db", HEAP);
    check_text(must(db, "pragma journal_mode = wal"), "wal");
    must(db, "create table t(k integer primary key, v); insert into t(v) values(1)");
    return db;
}

START_TEST(there_is_no_index_file_and_nobody_else_comes_in)
{
    struct peer peer;
    sqlite3 *db = make(), *other = open_ours("a.db", HEAP), *stock;
    ck_assert(file_exists("a.db-wal"));
    ck_assert(!file_exists("a.db-shm"));
    ck_assert_ptr_nonnull(strstr(must(db, "pragma lockstep_status"), "\"shm\":\"heap\""));
    must(other, "insert into t(v) values(2)");
    check_text(must(db, "select sum(v) from t"), "3");
    must(db, "begin; select * from t");
    must(other, "insert into t(v) values(3)");
    ck_assert_int_eq(code(db, "insert into t(v) values(4)"), SQLITE_BUSY);
    must(db, "rollback");
    /* Another process, and one that does not know of it in this process. */
    peer_start(&peer);
    check_text(peer_ask(&peer, "open 0 file:a.db"), "");
    check_text(peer_ask(&peer, "sql 0 select * from t"), "error 5: database is locked");
    stock = open_stock("a.db");
    ck_assert_int_eq(code(stock, "select * from t"), SQLITE_BUSY);
    close_db(stock);
    must(db, "insert into t(v) values(5)");
    check_text(peer_ask(&peer, "sql 0 select * from t"), "error 5: database is locked");
    close_db(db);
    check_text(peer_ask(&peer, "sql 0 select * from t"), "error 5: database is locked");
    close_db(other);
    check_text(peer_ask(&peer, "sql 0 select sum(v) from t"), "11");
    /* And the other way round. */
    check_text(peer_ask(&peer, "sql 0 insert into t(v) values(6)"), "");
    db = open_ours("a.db", HEAP);
    ck_assert_int_eq(code(db, "select * from t"), SQLITE_BUSY);
    ck_assert(logged("cannot be used alone"));
    check_text(peer_ask(&peer, "close 0"), "");
    check_text(must(db, "select sum(v) from t"), "17");
    close_db(db);
    check_no_log("a.db");
    peer_exit(&peer);
}
END_TEST

static void *
insert_many(void *arg)
{
    sqlite3 *db = open_ours("a.db", HEAP "&durability=async");
    (void)arg;
    sqlite3_busy_timeout(db, 20000);
    for (int i = 0; i < 300; i++)
        /* Not must(), whose texts are the thread's and never freed. */
        ck_assert_int_eq(sqlite3_exec(db, "begin immediate; insert into t(v) values(1);"
                                          "update t set v = v + 1 where k = 1; commit", NULL, NULL, NULL),
                         SQLITE_OK);
    close_db(db);
    return NULL;
}

START_TEST(threads_lose_no_update)
{
    pthread_t threads[4];
    sqlite3 *db = make();
    for (int i = 0; i < 4; i++)
        ck_assert_int_eq(pthread_create(&threads[i], NULL, insert_many, NULL), 0);
    for (int i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    check_text(must(db, "select count(*) from t; select v from t where k = 1; pragma integrity_check"),
               "1201\n1201\nok");
    close_db(db);
    check_no_log("a.db");
}
END_TEST

/* Many regions, a checkpoint, and the modes in turn. */
START_TEST(the_log_may_be_long_and_the_mode_be_switched)
{
    sqlite3 *db = make(), *other;
    must(db, "pragma wal_autocheckpoint = 0; pragma synchronous = off");
    must(db, "with recursive c(i) as (select 1 union all select i+1 from c where i<9000) "
             "insert into t(v) select zeroblob(3000) from c");
    other = open_ours("a.db", HEAP);
    check_text(must(other, "select count(*) from t; pragma integrity_check"), "9001\nok");
    must(other, "update t set v = 7 where k %% 2 = 0");
    check_text(must(db, "select count(*) from t where v = 7"), "4500");
    close_db(other);
    check_text(must(db, "pragma wal_checkpoint(truncate)"), "0|0|0");
    check_text(must(db, "pragma journal_mode = delete"), "delete");
    must(db, "insert into t(v) values(8)");
    check_text(must(db, "pragma journal_mode = wal"), "wal");
    must(db, "insert into t(v) values(9)");
    check_text(must(db, "select count(*) from t; pragma integrity_check"), "9003\nok");
    close_db(db);
    check_no_log("a.db");
}
END_TEST

/* The log is all that is left of it. */
START_TEST(after_a_kill_whoever_comes_recovers)
{
    struct peer peer;
    sqlite3 *db;
    for (int i = 0; i < 2; i++) {
        peer_start(&peer);
        check_text(peer_ask(&peer, "open 0 file:a.db?vfs=lockstep&" HEAP), "");
        (void)peer_ask(&peer, "sql 0 pragma journal_mode = wal");
        check_text(peer_ask(&peer, "sql 0 create table if not exists t(v); insert into t values(1), (2)"), "");
        peer_kill(&peer);
        db = i == 0 ? open_stock("a.db") : open_ours("a.db", HEAP);
        check_text(must(db, "select count(*) from t; pragma integrity_check"), i == 0 ? "2\nok" : "4\nok");
        close_db(db);
    }
}
END_TEST

/* Others may have used the log since: the next to come looks at it anew. */
START_TEST(with_the_last_connection_the_index_is_forgotten)
{
    sqlite3 *db = make(), *stock;
    ck_assert_int_eq(sqlite3_db_config(db, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, NULL), SQLITE_OK);
    must(db, "insert into t(v) values(2)");
    close_db(db);
    ck_assert(file_exists("a.db-wal"));
    stock = open_stock("a.db");
    must(stock, "insert into t(v) values(3)");
    close_db(stock);
    db = open_ours("a.db", HEAP);
    check_text(must(db, "select group_concat(v) from t"), "1,2,3");
    close_db(db);
    check_no_log("a.db");
}
END_TEST

static Suite *
make_suite(void)
{
    Suite *suite = suite_create("shm=copy, multi_process=0");
    TCase *locks = vfstest_case(suite, "locks"), *with = vfstest_case(suite, "with SQLite");
    tcase_add_test(locks, each_lock_is_by_itself);
    tcase_add_test(locks, a_range_is_had_whole_or_not_at_all);
    tcase_add_test(locks, the_last_of_many_readers_lets_a_writer_in);
    tcase_add_test(locks, the_database_s_locks_are_sqlite_s);
    tcase_add_test(with, there_is_no_index_file_and_nobody_else_comes_in);
    tcase_add_test(with, threads_lose_no_update);
    tcase_add_test(with, the_log_may_be_long_and_the_mode_be_switched);
    tcase_add_test(with, with_the_last_connection_the_index_is_forgotten);
    tcase_add_test(with, after_a_kill_whoever_comes_recovers);
    return suite;
}

int
main(int argc, char **argv)
{
    return vfstest_main(argc, argv, make_suite);
}
