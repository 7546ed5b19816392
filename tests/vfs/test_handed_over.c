/*
 * A connection that one thread gives to another.  SQLite does not tell its VFS for which connection a thread sleeps, so
 * the one that was refused the writer lock might sleep in the other's place in the queue.
 * Fails without lks_wait_before_lock(): the lock is then reserved for one who does not want it, and ThreadSanitizer sees
 * two threads at one place.  A child of fork() that took sleep_mutex as it came along would wait for good.
 */
#include <pthread.h>
#include <sched.h>
#include <sys/wait.h>
#include <unistd.h>

#include "harness/clock.h"
#include "vfs/vfstest.h"

#define ROUNDS 20

static const char *const modes[] = {"delete", "wal"};

struct use {
    sqlite3 *db;
    const char *sql;
    int code;
};

static void *
use(void *arg)
{
    struct use *u = arg;
    u->code = sqlite3_exec(u->db, u->sql, NULL, NULL, NULL);
    return NULL;
}

static int
use_elsewhere(sqlite3 *db, const char *text)
{
    struct use u = {db, text, -1};
    pthread_t thread;
    ck_assert_int_eq(pthread_create(&thread, NULL, use, &u), 0);
    ck_assert_int_eq(pthread_join(thread, NULL), 0);
    return u.code;
}

static void
open_both(const char *mode, sqlite3 **out_db, sqlite3 **out_other)
{
    *out_db = open_ours("a.db", "durability=async");
    must(*out_db, "pragma journal_mode = %s; create table t(v); insert into t values(0)", mode);
    *out_other = open_ours("a.db", "durability=async");
    must(*out_other, "select v from t");
}

/* As SQLite's busy timeout calls it. */
static void
sleep_ms(int ms)
{
    sqlite3_vfs *vfs = sqlite3_vfs_find("lockstep");
    ck_assert_int_eq(vfs->xSleep(vfs, ms * 1000), ms * 1000);
}

static int64_t
slept_ms(int ms)
{
    int64_t begin = now_ms();
    sleep_ms(ms);
    return now_ms() - begin;
}

START_TEST(a_thread_sleeps_for_no_connection_that_another_has_used_since)
{
    sqlite3 *db, *other;
    open_both(modes[_i], &db, &other);
    must(other, "begin immediate");
    check_text(sql(db, "begin immediate"), "error 5: database is locked");
    must(other, "commit");
    ck_assert_int_eq(use_elsewhere(db, "begin immediate; update t set v = 1; commit"), SQLITE_OK);
    ck_assert_int_ge(slept_ms(250), 250);
    must(other, "begin immediate; update t set v = 2; commit");

    /* Nor for longer than it asked for, however long another has the lock. */
    must(other, "begin immediate");
    check_text(sql(db, "begin immediate"), "error 5: database is locked");
    ck_assert_int_ge(slept_ms(250), 250);
    must(other, "commit");
    must(db, "begin immediate; commit"); /* it is reserved for it */

    /* But for one that is its own still. */
    must(other, "begin immediate");
    check_text(sql(db, "begin immediate"), "error 5: database is locked");
    must(other, "commit");
    ck_assert_int_lt(slept_ms(20000), 20000);
    check_text(sql(other, "begin immediate"), "error 5: database is locked");
    must(db, "begin immediate; commit");
    check_text(must(db, "pragma integrity_check"), "ok");
    close_db(other);
    close_db(db);
}
END_TEST

START_TEST(who_uses_a_connection_waits_until_nobody_sleeps_for_it)
{
    sqlite3 *db, *other;
    int i;
    open_both(modes[_i], &db, &other);
    for (i = 0; i < ROUNDS; i++) {
        struct use u = {db, "begin immediate; update t set v = v + 1; commit", -1};
        pthread_t thread;
        must(other, "begin immediate");
        check_text(sql(db, "begin immediate"), "error 5: database is locked");
        must(other, "commit");
        ck_assert_int_eq(pthread_create(&thread, NULL, use, &u), 0);
        sleep_ms(1);
        ck_assert_int_eq(pthread_join(thread, NULL), 0);
        ck_assert_int_eq(u.code, SQLITE_OK);
    }
    check_text(must(db, "select v from t"), "20");
    check_text(must(db, "pragma integrity_check"), "ok");
    close_db(other);
    close_db(db);
}
END_TEST

static void *
be_refused_and_sleep(void *arg)
{
    struct use u = {arg, "begin immediate", -1};
    use(&u);
    ck_assert_int_eq(u.code, SQLITE_BUSY);
    sleep_ms(300);
    return NULL;
}

/* The mutex comes along as it is, and nobody is there who could let go of it. */
START_TEST(a_child_of_fork_waits_for_nobody_who_sleeps)
{
    sqlite3 *db, *other;
    pthread_t thread;
    int status = -1;
    pid_t pid;
    open_both(modes[_i], &db, &other);
    must(other, "begin immediate");
    ck_assert_int_eq(pthread_create(&thread, NULL, be_refused_and_sleep, db), 0);
    while (info(other).waiters == 0)
        sched_yield();
    pid = fork();
    if (pid == 0)
        _exit(sqlite3_close(db) == SQLITE_OK ? 0 : 1);
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    ck_assert_int_eq(status, 0);
    ck_assert_int_eq(pthread_join(thread, NULL), 0);
    must(other, "commit");
    close_db(other);
    close_db(db);
}
END_TEST

static Suite *
make_suite(void)
{
    Suite *suite = suite_create("handed over");
    TCase *tcase = vfstest_case(suite, "handed over");
    tcase_add_loop_test(tcase, a_thread_sleeps_for_no_connection_that_another_has_used_since, 0, 2);
    tcase_add_loop_test(tcase, a_child_of_fork_waits_for_nobody_who_sleeps, 0, 2);
    tcase_add_loop_test(tcase, who_uses_a_connection_waits_until_nobody_sleeps_for_it, 0, 2);
    return suite;
}

int
main(int argc, char **argv)
{
    return vfstest_main(argc, argv, make_suite);
}
