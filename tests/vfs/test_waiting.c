/* Waiting for the writer lock, stale snapshots, isolation. */
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "harness/clock.h"
#include "vfs/peer.h"
#include "vfs/vfstest.h"

#define URI(NAME) "file:" NAME "?vfs=lockstep&durability=async"
#define WRITERS 4

static sqlite3 *
make(const char *name)
{
    sqlite3 *db = open_ours(name, "durability=async");
    must(db, "create table t(k integer primary key, v); insert into t values(1, 0)");
    return db;
}

START_TEST(without_a_timeout_a_taken_lock_is_busy_at_once)
{
    sqlite3 *db = make("a.db"), *other = open_ours("a.db", "");
    must(db, "begin immediate");
    check_text(sql(other, "begin immediate"), "error 5: database is locked");
    check_text(must(other, "select v from t"), "0");
    must(db, "commit");
    must(other, "begin immediate; commit");
    close_db(other);
    close_db(db);
}
END_TEST

START_TEST(a_busy_timeout_waits_for_the_other_process_and_then_writes)
{
    sqlite3 *db = make("a.db");
    struct peer peer;
    peer_start(&peer);
    check_text(peer_ask(&peer, "open 0 " URI("a.db")), "");
    check_text(peer_ask(&peer, _i == 0 ? "timeout 0 20000" : "handler 0"), "");
    must(db, "begin immediate; update t set v = 1");
    peer_tell(&peer, "sql 0 update t set v = v + 1; select v from t");
    ck_assert(!peer_answers(&peer, 200));
    if (_i == 0)
        ck_assert_uint_eq(info(db).waiters, 1);
    must(db, "commit");
    check_text(peer_answer(&peer), "2");
    check_text(must(db, "select v from t"), "2");
    peer_exit(&peer);
    close_db(db);
    check_ordinary("a.db");
}
END_TEST

START_TEST(a_busy_timeout_ends_and_the_log_and_the_pragma_name_the_holder)
{
    sqlite3 *db = make("a.db");
    struct peer peer;
    long long begin, passed;
    char holder[32];
    const char *blocker;
    peer_start(&peer);
    check_text(peer_ask(&peer, "open 0 " URI("a.db")), "");
    check_text(peer_ask(&peer, "sql 0 begin immediate"), "");
    sqlite3_busy_timeout(db, 400);
    begin = now_ms();
    check_text(sql(db, "begin immediate"), "error 5: database is locked");
    passed = now_ms() - begin;
    ck_assert_int_ge(passed, 300);
    ck_assert_int_lt(passed, 5000);
    snprintf(holder, sizeof holder, "(pid %ld)", (long)peer.pid);
    ck_assert_msg(logged(holder), "%s", log_text());
    blocker = must(db, "pragma lockstep_blocker");
    ck_assert_msg(strstr(blocker, holder) != NULL, "%s", blocker);
    check_text(peer_ask(&peer, "sql 0 commit"), "");
    /* It may have been handed to us, who asked: take it and give it back. */
    must(db, "begin immediate; commit");
    check_text(must(db, "pragma lockstep_blocker"), "nobody");
    peer_exit(&peer);
    close_db(db);
}
END_TEST

START_TEST(the_lock_of_a_killed_process_goes_to_the_one_who_waits)
{
    sqlite3 *db = make("a.db");
    struct peer peer;
    peer_start(&peer);
    check_text(peer_ask(&peer, "open 0 " URI("a.db")), "");
    check_text(peer_ask(&peer, "sql 0 begin immediate; update t set v = 'dead'"), "");
    sqlite3_busy_timeout(db, 10000);
    peer_kill(&peer);
    must(db, "update t set v = v + 1");
    check_text(must(db, "select v from t"), "1");
    close_db(db);
    check_ordinary("a.db");
}
END_TEST

START_TEST(a_stale_snapshot_is_refused_at_once_whatever_the_timeout)
{
    sqlite3 *db = make("a.db"), *other = open_ours("a.db", "durability=async");
    long long begin;
    sqlite3_busy_timeout(other, 20000);
    must(other, "begin; select v from t");
    must(db, "update t set v = 1");
    begin = now_ms();
    ck_assert_int_eq(code(other, "update t set v = v + 1"), SQLITE_BUSY);
    ck_assert_int_lt(now_ms() - begin, 5000);
    check_text(must(other, "select v from t"), "0");
    must(other, "rollback; update t set v = v + 1");
    check_text(must(db, "select v from t"), "2");
    close_db(other);
    close_db(db);
}
END_TEST

/* Each peer adds to one counter as often as it is told; nobody fails and nothing is lost. */
START_TEST(several_processes_count_without_a_failure)
{
    static struct peer peers[WRITERS];
    sqlite3 *db = make("a.db");
    char want[16];
    int i, rounds = vfstest_soak() ? 200 : 20;
    for (i = 0; i < WRITERS; i++) {
        peer_start(&peers[i]);
        check_text(peer_ask(&peers[i], "open 0 " URI("a.db")), "");
        /* Half of them by SQLite's timeout, half by a busy handler of their own. */
        check_text(peer_ask(&peers[i], i % 2 ? "timeout 0 20000" : "handler 0"), "");
    }
    for (int round = 0; round < rounds; round++) {
        for (i = 0; i < WRITERS; i++)
            peer_tell(&peers[i], "sql 0 begin immediate; update t set v = v + 1; commit;"
                                 "begin immediate; update t set v = v + 1; commit;"
                                 "begin immediate; update t set v = v + 1; commit");
        for (i = 0; i < WRITERS; i++)
            check_text(peer_answer(&peers[i]), "");
    }
    snprintf(want, sizeof want, "%d", rounds * WRITERS * 3);
    check_text(must(db, "select v from t"), want);
    for (i = 0; i < WRITERS; i++)
        peer_exit(&peers[i]);
    close_db(db);
    check_ordinary("a.db");
}
END_TEST

struct greedy {
    pthread_t thread;
    pthread_barrier_t *start;
    const volatile int *stop;
    int own_handler;
    long commits;
    long failures;
};

static int
again(void *arg, int times)
{
    (void)arg;
    (void)times;
    return 1;
}

static void *
write_greedily(void *arg)
{
    struct greedy *g = arg;
    sqlite3 *db;
    if (open_code("a.db", "vfs=lockstep&durability=async", SQLITE_OPEN_READWRITE, &db) != SQLITE_OK)
        return "open";
    if (g->own_handler)
        sqlite3_busy_handler(db, again, NULL);
    else
        sqlite3_busy_timeout(db, 20000);
    pthread_barrier_wait(g->start);
    while (!__atomic_load_n(g->stop, __ATOMIC_RELAXED)) {
        if (sqlite3_exec(db, "begin immediate; update t set v = v + 1; commit", NULL, NULL, NULL) == SQLITE_OK)
            __atomic_add_fetch(&g->commits, 1, __ATOMIC_RELAXED);
        else
            __atomic_add_fetch(&g->failures, 1, __ATOMIC_RELAXED);
    }
    sqlite3_close(db);
    return NULL;
}

/* One who waits gets the lock though others never stop asking for it. */
START_TEST(nobody_starves_while_others_commit_without_pause)
{
    struct greedy all[WRITERS];
    pthread_barrier_t start;
    int stop = 0, i;
    long sum = 0, least = 0;
    char want[32];
    sqlite3 *db = make("a.db");
    pthread_barrier_init(&start, NULL, WRITERS + 1);
    memset(all, 0, sizeof all);
    for (i = 0; i < WRITERS; i++) {
        all[i].start = &start;
        all[i].stop = &stop;
        all[i].own_handler = _i == 1 && i == 0;
        ck_assert_int_eq(pthread_create(&all[i].thread, NULL, write_greedily, &all[i]), 0);
    }
    pthread_barrier_wait(&start);
    sqlite3_busy_timeout(db, 20000);
    /* Until each of them has had a hundred turns; the test's own timeout is the bound. */
    while (least < 100) {
        must(db, "begin immediate; update t set v = v + 0; commit");
        least = 100;
        for (i = 0; i < WRITERS; i++) {
            long n = __atomic_load_n(&all[i].commits, __ATOMIC_RELAXED);
            least = n < least ? n : least;
        }
    }
    __atomic_store_n(&stop, 1, __ATOMIC_RELAXED);
    for (i = 0; i < WRITERS; i++) {
        void *result;
        ck_assert_int_eq(pthread_join(all[i].thread, &result), 0);
        ck_assert_msg(result == NULL, "%s", (const char *)result);
        ck_assert_int_eq(all[i].failures, 0);
        sum += all[i].commits;
    }
    snprintf(want, sizeof want, "%ld", sum);
    check_text(must(db, "select v from t"), want);
    pthread_barrier_destroy(&start);
    close_db(db);
    check_ordinary("a.db");
}
END_TEST

START_TEST(a_snapshot_stays_while_others_commit_and_the_store_stays_bounded)
{
    sqlite3 *db = make("a.db"), *reader;
    sqlite3_stmt *update;
    int i, commits = 10000;
    unsigned long long after_hundred = 0, most = 0;
    must(db, "with recursive c(x) as (select 2 union all select x + 1 from c where x < 500) "
             "insert into t select x, printf('%%0300d', 0) from c");
    reader = open_ours("a.db", "");
    must(reader, "begin; select count(*) from t");
    ck_assert_int_eq(sqlite3_prepare_v2(db, "update t set v = printf('%0300d', ?1) where k = ?1 % 500 + 1", -1,
                                        &update, NULL),
                     SQLITE_OK);
    sqlite3_busy_timeout(db, 5000);
    for (i = 1; i <= commits; i++) {
        unsigned long long used;
        sqlite3_bind_int(update, 1, i);
        ck_assert_int_eq(sqlite3_step(update), SQLITE_DONE);
        sqlite3_reset(update);
        if (i % 100 != 0)
            continue;
        used = info(db).pending_bytes;
        if (i == 1000)
            after_hundred = used; /* every page has been changed twice */
        most = used > most ? used : most;
        check_text(must(reader, "select count(*), sum(v) from t"), "500|0");
    }
    sqlite3_finalize(update);
    /* A version for the reader, one that is newest and one that is being written: a constant a page. */
    ck_assert_uint_le(most, 4 * after_hundred);
    check_text(must(reader, "pragma integrity_check"), "ok");
    must(reader, "commit");
    check_text(must(reader, "select max(v) = printf('%%0300d', %d) from t", commits), "1");
    close_db(reader);
    close_db(db);
    check_ordinary("a.db");
}
END_TEST

START_TEST(an_uncommitted_change_is_seen_by_nobody_else)
{
    sqlite3 *db = make("a.db"), *other = open_ours("a.db", "");
    struct peer peer;
    peer_start(&peer);
    check_text(peer_ask(&peer, "open 0 " URI("a.db")), "");
    must(db, "pragma cache_size = 5; begin; insert into t select k + 1, v from t; update t set v = 'dirty'");
    must(db, "with recursive c(x) as (select 10 union all select x + 1 from c where x < 5000) "
             "insert into t select x, printf('%%0100d', x) from c");
    check_text(must(other, "select count(*), max(v) from t"), "1|0");
    check_text(peer_ask(&peer, "sql 0 select count(*), max(v) from t"), "1|0");
    must(db, "rollback");
    check_text(peer_ask(&peer, "sql 0 select count(*), max(v) from t"), "1|0");
    must(db, "update t set v = 7");
    check_text(must(other, "select v from t"), "7");
    check_text(peer_ask(&peer, "sql 0 select v from t"), "7");
    peer_exit(&peer);
    close_db(other);
    close_db(db);
    check_ordinary("a.db");
}
END_TEST

static Suite *
make_suite(void)
{
    Suite *suite = suite_create("waiting");
    TCase *tcase = vfstest_case(suite, "waiting");
    tcase_add_test(tcase, without_a_timeout_a_taken_lock_is_busy_at_once);
    tcase_add_loop_test(tcase, a_busy_timeout_waits_for_the_other_process_and_then_writes, 0, 2);
    tcase_add_test(tcase, a_busy_timeout_ends_and_the_log_and_the_pragma_name_the_holder);
    tcase_add_test(tcase, the_lock_of_a_killed_process_goes_to_the_one_who_waits);
    tcase_add_test(tcase, a_stale_snapshot_is_refused_at_once_whatever_the_timeout);
    tcase_add_test(tcase, several_processes_count_without_a_failure);
    tcase_add_loop_test(tcase, nobody_starves_while_others_commit_without_pause, 0, 2);
    tcase_add_test(tcase, a_snapshot_stays_while_others_commit_and_the_store_stays_bounded);
    tcase_add_test(tcase, an_uncommitted_change_is_seen_by_nobody_else);
    return suite;
}

int
main(int argc, char **argv)
{
    return vfstest_main(argc, argv, make_suite);
}
