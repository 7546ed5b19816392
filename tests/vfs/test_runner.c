/* sqlite3async_run(): when it writes, when it halts, and whom it holds up. */
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "harness/clock.h"
#include "vfs/asynctest.h"
#include "vfs/runner.h"

static int
threads(void)
{
    DIR *dir = opendir("/proc/self/task");
    const struct dirent *entry;
    int n = 0;
    ck_assert_ptr_nonnull(dir);
    while ((entry = readdir(dir)) != NULL)
        n += entry->d_name[0] != '.';
    closedir(dir);
    return n;
}

/* Made to fail by a store that starts its thread: something is written, and there are two. */
START_TEST(nothing_is_written_until_somebody_runs)
{
    int before = threads(), i; /* a sanitizer has its own */
    sqlite3 *db = make_async("a.db", "max_lag=1");
    for (i = 0; i < 100; i++)
        must(db, "insert into t values(%d)", i);
    ck_assert_uint_eq(waiting(db), 100);
    ck_assert_int_eq(threads(), before);
    ck_assert_int_eq(stock_count("a.db"), 0);
    check_text(must(db, "select count(*) from t"), "100");
    run_idle();
    ck_assert_uint_eq(waiting(db), 0);
    ck_assert_uint_eq(info(db).durable, info(db).committed);
    ck_assert_int_eq(stock_count("a.db"), 100);
    close_db(db);
    check_ordinary("a.db");
}
END_TEST

/* Made to fail by leaving out lks_runner_notice(): the sleep lasts 10 s. */
START_TEST(a_run_that_never_halts_writes_what_comes)
{
    pthread_t thread;
    sqlite3 *db = make_async("a.db", "max_lag=20"), *late;
    uint64_t begin;
    int i;
    start_run(&thread);
    begin = now_ms();
    for (i = 0; i < 20; i++) {
        must(db, "insert into t values(%d)", i);
        until_written(db);
    }
    /* A database that comes while it runs. */
    late = make_async("late.db", "max_lag=20");
    must(late, "insert into t values(1)");
    until_written(late);
    ck_assert_int_lt(now_ms() - begin, 8000);
    end_run(thread, SQLITEASYNC_HALT_NOW);
    must(db, "insert into t values(%d)", i);
    ck_assert_uint_eq(waiting(db), 1);
    close_db(db);
    close_db(late);
}
END_TEST

/* Made to fail by a batch that gathers for all of max_lag whoever waits. */
START_TEST(a_store_that_fills_up_is_written_before_its_time)
{
    pthread_t thread;
    sqlite3 *db = make_async("a.db", "max_lag=3600000&store_limit=1048576");
    int i;
    start_run(&thread);
    sqlite3_busy_timeout(db, 10000);
    for (i = 0; i < 400; i++)
        must(db, "insert into t values(zeroblob(8000))");
    ck_assert_uint_lt(info(db).pending_bytes, 1048576);
    end_run(thread, SQLITEASYNC_HALT_IDLE);
    ck_assert_int_eq(stock_count("a.db"), 400);
    close_db(db);
}
END_TEST

/* Made to fail by a run that looks at `halt` only when there is nothing to do. */
START_TEST(halt_now_stops_after_the_batch_and_the_rest_stays)
{
    pthread_t thread;
    sqlite3 *a = make_async("a.db", "max_lag=1"), *b = make_async("b.db", "max_lag=1");
    must(a, "insert into t values(1)");
    must(b, "insert into t values(1)");
    /* Whichever comes first. */
    gate_close(".db");
    start_run(&thread);
    gate_reached();
    halt(SQLITEASYNC_HALT_NOW);
    gate_open();
    ck_assert_int_eq(pthread_join(thread, NULL), 0);
    ck_assert_uint_eq(waiting(a) + waiting(b), 1);
    ck_assert_int_eq(stock_count("a.db") + stock_count("b.db"), 1);
    /* As long as that is said, a run writes nothing. */
    sqlite3async_run();
    ck_assert_uint_eq(waiting(a) + waiting(b), 1);
    run_idle();
    ck_assert_uint_eq(waiting(a) + waiting(b), 0);
    close_db(a);
    close_db(b);
}
END_TEST

/* Made to fail by a halt that is not told to a sleeping run. */
START_TEST(a_halt_reaches_a_run_that_has_nothing_to_do)
{
    pthread_t first, second;
    sqlite3 *db = make_async("a.db", "");
    int64_t begin = now_ms();
    start_run(&first);
    start_run(&second);
    must(db, "insert into t values(1)");
    until_written(db);
    halt(SQLITEASYNC_HALT_IDLE);
    ck_assert_int_eq(pthread_join(first, NULL), 0);
    ck_assert_int_eq(pthread_join(second, NULL), 0);
    ck_assert_int_lt(now_ms() - begin, 8000);
    close_db(db);
}
END_TEST

/* Made to fail by a run that stops for a database that fails. */
START_TEST(an_error_in_one_database_does_not_stop_another)
{
    pthread_t thread;
    sqlite3 *bad = make_async("bad.db", "max_lag=1"), *good = make_async("good.db", "max_lag=1");
    int64_t begin = now_ms();
    int i;
    gate_fail("bad.db");
    start_run(&thread);
    must(bad, "insert into t values(1)");
    for (i = 0; i < 20; i++) {
        must(good, "insert into t values(%d)", i);
        until_written(good);
    }
    for (i = 0; i < 10000 && info(bad).failed_batches < 3; i++)
        usleep(1000);
    ck_assert_uint_ge(info(bad).failed_batches, 3);
    /* It backs off: 5 ms, 10, 20 and so on. */
    ck_assert_uint_le(info(bad).failed_batches, 4 + (uint64_t)(now_ms() - begin) / 10);
    ck_assert_uint_eq(info(good).failed_batches, 0);
    ck_assert_uint_eq(waiting(bad), 1);
    ck_assert(logged("bad.db: cannot write the commits that wait"));
    /* Nor does it keep a run from becoming idle; it is tried once more. */
    end_run(thread, SQLITEASYNC_HALT_IDLE);
    ck_assert_uint_eq(waiting(bad), 1);
    /* And it is not refused anything. */
    must(bad, "insert into t values(2)");
    gate_fail(NULL);
    run_idle();
    ck_assert_uint_eq(waiting(bad), 0);
    ck_assert_int_eq(stock_count("bad.db"), 2);
    close_db(bad);
    close_db(good);
}
END_TEST

/* Made to fail by patience without an end. */
START_TEST(a_stock_reader_does_not_hold_up_a_halt_for_ever)
{
    sqlite3 *db = make_async("a.db", ""), *other = make_async("b.db", ""), *stock = open_stock("a.db");
    must(db, "insert into t values(1)");
    must(other, "insert into t values(1)");
    must(stock, "begin; select * from t");
    lks_runner_patience_ms = 100;
    run_idle();
    ck_assert_uint_eq(waiting(db), 1);
    ck_assert_uint_eq(waiting(other), 0);
    must(stock, "commit");
    run_idle();
    ck_assert_uint_eq(waiting(db), 0);
    close_db(stock);
    close_db(db);
    close_db(other);
}
END_TEST

static unsigned
traced(const char *what)
{
    const char *at = log_text();
    unsigned n = 0;
    for (; (at = strstr(at, what)) != NULL; at++)
        n++;
    return n;
}

/* Made to fail by a delay once a batch only. */
START_TEST(a_delay_slows_each_operation_and_a_trace_shows_it)
{
    sqlite3 *db = make_async("a.db", "");
    uint64_t begin, took;
    unsigned writes, syncs;
    int value = 0;
    ck_assert_int_eq(traced("sqlite3async: "), 0);
    ck_assert_int_eq(sqlite3async_control(SQLITEASYNC_TRACE, 1), SQLITE_OK);
    ck_assert_int_eq(sqlite3async_control(SQLITEASYNC_GET_TRACE, &value), SQLITE_OK);
    ck_assert_int_eq(value, 1);
    ck_assert_int_eq(sqlite3async_control(SQLITEASYNC_DELAY, 15), SQLITE_OK);
    begin = now_ms();
    must(db, "insert into t values(zeroblob(20000))");
    ck_assert_int_lt(now_ms() - begin, 15 * 5);
    log_clear();
    begin = now_ms();
    run_idle();
    took = now_ms() - begin;
    writes = traced("sqlite3async: WRITE ");
    syncs = traced("sqlite3async: SYNC ");
    ck_assert_msg(writes >= 3 && syncs >= 3, "%s", log_text());
    ck_assert_uint_ge(took, 15 * (writes + syncs));
    ck_assert_msg(logged("/a.db-journal") && logged(" bytes at 0"), "%s", log_text());
    ck_assert(logged("sqlite3async: BATCH "));
    ck_assert_int_eq(sqlite3async_control(SQLITEASYNC_TRACE, 0), SQLITE_OK);
    ck_assert_int_eq(sqlite3async_control(SQLITEASYNC_DELAY, 0), SQLITE_OK);
    log_clear();
    close_db(db);
    ck_assert_int_eq(traced("sqlite3async: "), 0);
}
END_TEST

static void
run_into_an_hour(pthread_t *out_thread)
{
    ck_assert_int_eq(sqlite3async_control(SQLITEASYNC_DELAY, 0), SQLITE_OK);
    gate_close("a.db");
    start_run(out_thread);
    gate_reached();
    ck_assert_int_eq(sqlite3async_control(SQLITEASYNC_DELAY, 3600000), SQLITE_OK);
    gate_open();
}

/* Made to fail by a pause that nobody can end: an hour for each operation. */
START_TEST(a_long_delay_holds_up_neither_a_halt_nor_a_close)
{
    pthread_t thread;
    sqlite3 *db = make_async("a.db", "max_lag=1");
    must(db, "insert into t values(1)");
    run_into_an_hour(&thread);
    end_run(thread, SQLITEASYNC_HALT_NOW);
    ck_assert_uint_eq(waiting(db), 0);
    must(db, "insert into t values(2)");
    run_into_an_hour(&thread);
    close_db(db);
    ck_assert_int_eq(stock_count("a.db"), 2);
    check_ordinary("a.db");
    end_run(thread, SQLITEASYNC_HALT_NOW);
}
END_TEST

struct closer {
    sqlite3 *db;
    int closed;
};

static void *
close_main(void *arg)
{
    struct closer *closer = arg;
    int rc = sqlite3_close(closer->db);
    __atomic_store_n(&closer->closed, 1, __ATOMIC_RELEASE);
    return (void *)(intptr_t)rc;
}

/* Made to fail by a close that does not wait for the batch: the database is gone under the run. */
START_TEST(a_close_waits_for_the_batch_that_is_being_made)
{
    pthread_t runner, thread;
    struct closer closer = {.db = make_async("a.db", "max_lag=1")};
    sqlite3 *other = make_async("b.db", "max_lag=1");
    void *rc;
    must(closer.db, "insert into t values(1)");
    gate_close("a.db");
    start_run(&runner);
    gate_reached();
    ck_assert_int_eq(pthread_create(&thread, NULL, close_main, &closer), 0);
    /* Another database is not concerned. */
    must(other, "insert into t values(1)");
    close_db(other);
    ck_assert_int_eq(stock_count("b.db"), 1);
    ck_assert_int_eq(__atomic_load_n(&closer.closed, __ATOMIC_ACQUIRE), 0);
    gate_open();
    ck_assert_int_eq(pthread_join(thread, &rc), 0);
    ck_assert_int_eq((int)(intptr_t)rc, SQLITE_OK);
    check_ordinary("a.db");
    ck_assert_int_eq(stock_count("a.db"), 1);
    end_run(runner, SQLITEASYNC_HALT_IDLE);
}
END_TEST

/* Made to fail by a close that leaves it to a run. */
START_TEST(the_last_close_writes_what_waits_whoever_runs)
{
    sqlite3 *a = make_async("a.db", ""), *b;
    halt(SQLITEASYNC_HALT_NOW);
    b = open_async("a.db", "");
    must(b, "insert into t values(1)");
    close_db(b);
    ck_assert_uint_eq(waiting(a), 1);
    close_db(a);
    check_ordinary("a.db");
    ck_assert_int_eq(stock_count("a.db"), 1);
    halt(SQLITEASYNC_HALT_NEVER);
}
END_TEST

#define WRITERS 3

static void *
write_main(void *arg)
{
    const char *error = NULL;
    int round, i;
    for (round = 0; round < 12 && error == NULL; round++) {
        sqlite3 *db;
        char name[20];
        snprintf(name, sizeof name, "%c.db", 'a' + (round + *(int *)arg) % 2);
        if (open_code(name, "vfs=sqlite3async&max_lag=1", SQLITE_OPEN_READWRITE, &db) != SQLITE_OK)
            error = "open";
        sqlite3_busy_timeout(db, 20000);
        for (i = 0; i < 10 && error == NULL; i++)
            if (sqlite3_exec(db, "insert into t values(1)", NULL, NULL, NULL) != SQLITE_OK)
                error = sqlite3_errmsg(db);
        if (sqlite3_close(db) != SQLITE_OK)
            error = "close";
    }
    return (void *)(uintptr_t)error;
}

START_TEST(databases_come_and_go_beside_a_run)
{
    pthread_t runner, writers[WRITERS];
    int numbers[WRITERS], i;
    close_db(make_async("a.db", ""));
    close_db(make_async("b.db", ""));
    start_run(&runner);
    for (i = 0; i < WRITERS; i++) {
        numbers[i] = i;
        ck_assert_int_eq(pthread_create(&writers[i], NULL, write_main, &numbers[i]), 0);
    }
    for (i = 0; i < WRITERS; i++) {
        void *error;
        ck_assert_int_eq(pthread_join(writers[i], &error), 0);
        ck_assert_msg(error == NULL, "%s", (const char *)error);
    }
    end_run(runner, SQLITEASYNC_HALT_IDLE);
    check_ordinary("a.db");
    check_ordinary("b.db");
    ck_assert_int_eq(stock_count("a.db") + stock_count("b.db"), WRITERS * 12 * 10);
}
END_TEST

static Suite *
make_suite(void)
{
    Suite *suite = suite_create("runner");
    TCase *tcase = vfstest_case(suite, "runner");
    tcase_add_checked_fixture(tcase, async_begin, NULL);
    tcase_add_test(tcase, nothing_is_written_until_somebody_runs);
    tcase_add_test(tcase, a_run_that_never_halts_writes_what_comes);
    tcase_add_test(tcase, a_store_that_fills_up_is_written_before_its_time);
    tcase_add_test(tcase, halt_now_stops_after_the_batch_and_the_rest_stays);
    tcase_add_test(tcase, a_halt_reaches_a_run_that_has_nothing_to_do);
    tcase_add_test(tcase, an_error_in_one_database_does_not_stop_another);
    tcase_add_test(tcase, a_stock_reader_does_not_hold_up_a_halt_for_ever);
    tcase_add_test(tcase, a_delay_slows_each_operation_and_a_trace_shows_it);
    tcase_add_test(tcase, a_long_delay_holds_up_neither_a_halt_nor_a_close);
    tcase_add_test(tcase, a_close_waits_for_the_batch_that_is_being_made);
    tcase_add_test(tcase, the_last_close_writes_what_waits_whoever_runs);
    tcase_add_test(tcase, databases_come_and_go_beside_a_run);
    return suite;
}

int
main(int argc, char **argv)
{
    return vfstest_main(argc, argv, make_suite);
}
