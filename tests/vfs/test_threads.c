/* Several threads with several connections in one process; for ThreadSanitizer too. */
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "vfs/vfstest.h"

#define WRITERS 3
#define READERS 3
#define ACCOUNTS 20

static int writer_rounds = 150;
static int stop_readers;

static const char *
run_one(sqlite3 *db, const char *text)
{
    char *message = NULL;
    if (sqlite3_exec(db, text, NULL, NULL, &message) == SQLITE_OK)
        return NULL;
    return message != NULL ? message : "no message"; /* leaks in a test that has failed */
}

/* Moves money between accounts; the sum never changes. */
static void *
transfer(void *arg)
{
    int i, self = *(int *)arg;
    sqlite3 *db;
    const char *error = NULL;
    if (open_code("a.db", self % 2 ? "vfs=lockstep&durability=async" : "vfs=lockstep", SQLITE_OPEN_READWRITE,
                  &db) != SQLITE_OK)
        return "open";
    sqlite3_busy_timeout(db, 60000);
    for (i = 0; i < writer_rounds && error == NULL; i++) {
        char text[300];
        snprintf(text, sizeof text,
                 "begin immediate;"
                 "update t set v = v - 1, pad = printf('%%0500d', %d) where k = %d;"
                 "update t set v = v + 1 where k = %d; %s",
                 i, (i * 7 + self) % ACCOUNTS + 1, (i * 13 + self * 3) % ACCOUNTS + 1,
                 i % 5 == 4 ? "rollback" : "commit");
        error = run_one(db, text);
    }
    if (sqlite3_close(db) != SQLITE_OK && error == NULL)
        error = "close";
    return (void *)(uintptr_t)error;
}

/* Opens anew now and then, so that connections come and go beside the others. */
static void *
audit(void *arg)
{
    const char *error = NULL;
    int rounds = 0;
    (void)arg;
    while (error == NULL && !__atomic_load_n(&stop_readers, __ATOMIC_ACQUIRE)) {
        sqlite3 *db;
        sqlite3_stmt *sum;
        int i;
        if (open_code("a.db", "vfs=lockstep", SQLITE_OPEN_READWRITE, &db) != SQLITE_OK)
            return "open";
        if (sqlite3_prepare_v2(db, "select sum(v), count(*) from t", -1, &sum, NULL) != SQLITE_OK)
            error = "prepare";
        for (i = 0; i < 20 && error == NULL; i++) {
            if (sqlite3_step(sum) != SQLITE_ROW)
                error = "step";
            else if (sqlite3_column_int(sum, 0) != 100 * ACCOUNTS ||
                     sqlite3_column_int(sum, 1) != ACCOUNTS)
                error = "a reader saw half a transaction";
            sqlite3_reset(sum);
        }
        sqlite3_finalize(sum);
        if (rounds++ % 3 == 0 && lockstep_flush(db) != SQLITE_OK)
            error = "flush";
        sqlite3_close(db);
    }
    return (void *)(uintptr_t)error;
}

START_TEST(threads_read_and_write_whole_transactions)
{
    pthread_t writers[WRITERS], readers[READERS];
    int selves[WRITERS], i;
    void *result;
    sqlite3 *db = open_ours("a.db", "max_lag=5");
    must(db, "create table t(k integer primary key, v, pad)");
    must(db, "with recursive c(x) as (select 1 union all select x + 1 from c where x < %d) "
             "insert into t select x, 100, printf('%%0500d', 0) from c", ACCOUNTS);
    if (vfstest_soak())
        writer_rounds = 5000;
    for (i = 0; i < WRITERS; i++) {
        selves[i] = i;
        ck_assert_int_eq(pthread_create(&writers[i], NULL, transfer, &selves[i]), 0);
    }
    for (i = 0; i < READERS; i++)
        ck_assert_int_eq(pthread_create(&readers[i], NULL, audit, NULL), 0);
    for (i = 0; i < WRITERS; i++) {
        ck_assert_int_eq(pthread_join(writers[i], &result), 0);
        ck_assert_msg(result == NULL, "%s", (const char *)result);
    }
    __atomic_store_n(&stop_readers, 1, __ATOMIC_RELEASE);
    for (i = 0; i < READERS; i++) {
        ck_assert_int_eq(pthread_join(readers[i], &result), 0);
        ck_assert_msg(result == NULL, "%s", (const char *)result);
    }
    check_text(must(db, "pragma integrity_check"), "ok");
    close_db(db);
    check_ordinary("a.db");
}
END_TEST

/* The database is connected and left by the first and the last, over and over, in several threads. */
static void *
come_and_go(void *arg)
{
    int i;
    (void)arg;
    for (i = 0; i < writer_rounds / 5; i++) {
        sqlite3 *db;
        const char *error;
        if (open_code("a.db", "vfs=lockstep&durability=async", SQLITE_OPEN_READWRITE, &db) != SQLITE_OK)
            return "open";
        sqlite3_busy_timeout(db, 60000);
        error = run_one(db, "begin immediate; update t set v = v + 1; commit");
        if (error != NULL)
            return (void *)(uintptr_t)error;
        sqlite3_close(db);
    }
    return NULL;
}

START_TEST(threads_connect_and_leave_at_the_same_time)
{
    pthread_t threads[4];
    char want[16];
    void *result;
    int i;
    sqlite3 *db = open_ours("a.db", "");
    must(db, "create table t(v); insert into t values(0)");
    close_db(db);
    for (i = 0; i < 4; i++)
        ck_assert_int_eq(pthread_create(&threads[i], NULL, come_and_go, NULL), 0);
    for (i = 0; i < 4; i++) {
        ck_assert_int_eq(pthread_join(threads[i], &result), 0);
        ck_assert_msg(result == NULL, "%s", (const char *)result);
    }
    check_ordinary("a.db");
    db = open_stock("a.db");
    snprintf(want, sizeof want, "%d", 4 * (writer_rounds / 5));
    check_text(must(db, "select v from t"), want);
    close_db(db);
}
END_TEST

static Suite *
make_suite(void)
{
    Suite *suite = suite_create("threads");
    TCase *tcase = vfstest_case(suite, "threads");
    tcase_add_test(tcase, threads_read_and_write_whole_transactions);
    tcase_add_test(tcase, threads_connect_and_leave_at_the_same_time);
    return suite;
}

int
main(int argc, char **argv)
{
    return vfstest_main(argc, argv, make_suite);
}
