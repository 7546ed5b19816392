/*
 * fork() in WAL mode, with the wal-index mapped or copied: what a child may not do that carries a connection, and that its own
 * has the kernel's locks once that is closed.
 *
 * Stock SQLite is the reason: there the child's own has none, the parent removes the log under it, and its commit, which was
 * acknowledged, is lost.
 *
 * Made to fail by: no look for what is carried; no note of the background thread's connection; fork handlers of the notes, or
 * of the `-shm` files, that come with the first of them.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/atomic.h"
#include "vfs/vfstest.h"

/* In a child: the exit status is not 0 if one failed. */
#define CHILD_CHECK(CONDITION)                                                                            \
    do {                                                                                                  \
        if (!(CONDITION)) {                                                                               \
            fprintf(stderr, "child, line %d: %s\n%s", __LINE__, #CONDITION, log_text());                  \
            _exit(1);                                                                                     \
        }                                                                                                 \
    } while (0)

static const char *const kinds[] = {"worker=off", "worker=off&shm=copy"};
#define KINDS ((int)(sizeof kinds / sizeof kinds[0]))

static int to_child[2], to_parent[2];
static pid_t child;

static void
make(sqlite3 *db)
{
    check_text(must(db, "pragma journal_mode = wal"), "wal");
    must(db, "create table t(v); insert into t values(1)");
}

/* Each end in one process only: who waits for one that has died sees the end. */
static bool
fork_child(void)
{
    ck_assert_int_eq(pipe(to_child), 0);
    ck_assert_int_eq(pipe(to_parent), 0);
    child = fork();
    ck_assert_int_ge(child, 0);
    close(child == 0 ? to_child[1] : to_child[0]);
    close(child == 0 ? to_parent[0] : to_parent[1]);
    return child == 0;
}

static void
child_says_and_waits(void)
{
    char byte = 'c';
    CHILD_CHECK(write(to_parent[1], &byte, 1) == 1 && read(to_child[0], &byte, 1) == 1);
}

static void
wait_for_child(void)
{
    char byte;
    ck_assert_int_eq(read(to_parent[0], &byte, 1), 1);
}

static void
let_child_end(void)
{
    char byte = 'p';
    int status = -1;
    ck_assert_int_eq(write(to_child[1], &byte, 1), 1);
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    ck_assert_int_eq(status, 0);
}

START_TEST(stock_sqlite_loses_a_commit_of_a_child_that_carries_a_connection)
{
    sqlite3 *db = open_stock("a.db");
    make(db);
    if (fork_child()) {
        sqlite3 *own = open_stock("a.db");
        CHILD_CHECK(code(own, "select v from t") == SQLITE_OK);
        child_says_and_waits();
        CHILD_CHECK(code(own, "insert into t values(2)") == SQLITE_OK);
        _exit(0); /* acknowledged; then it dies, as any process may */
    }
    wait_for_child();
    close_db(db);
    ck_assert(!file_exists("a.db-wal"));
    let_child_end();
    db = open_stock("a.db");
    check_text(must(db, "select group_concat(v) from t"), "1");
    close_db(db);
}
END_TEST

START_TEST(its_own_is_refused_until_what_it_carries_is_closed_and_then_has_locks)
{
    const char *kind = kinds[_i];
    sqlite3 *db = open_ours("a.db", kind), *other = open_ours("a.db", kind);
    make(db);
    must(other, "select v from t");
    if (fork_child()) {
        sqlite3 *own = open_ours("a.db", kind);
        CHILD_CHECK(code(own, "select v from t") == SQLITE_MISUSE);
        CHILD_CHECK(logged("carried across fork()"));
        CHILD_CHECK(sqlite3_close(db) == SQLITE_OK);
        CHILD_CHECK(code(own, "insert into t values(0)") == SQLITE_MISUSE);
        CHILD_CHECK(sqlite3_close(other) == SQLITE_OK);
        CHILD_CHECK(code(own, "begin; select v from t") == SQLITE_OK);
        child_says_and_waits();
        CHILD_CHECK(code(own, "commit; insert into t values(3)") == SQLITE_OK);
        _exit(0);
    }
    wait_for_child();
    must(db, "insert into t values(2)");
    close_db(other);
    close_db(db);
    check_reads_wal("a.db", child);
    let_child_end();
    db = open_stock("a.db");
    check_text(must(db, "select group_concat(v) from t; pragma integrity_check"), "1,2,3\nok");
    close_db(db);
}
END_TEST

/* The background thread's connection cannot be closed in the child. */
START_TEST(after_a_checkpoint_in_the_background_the_child_is_refused)
{
    sqlite3 *db = open_ours("a.db", "max_lag=20");
    make(db);
    must(db, "pragma synchronous = normal; insert into t values(2)");
    while (info(db).durable < info(db).committed) /* the thread has its connection */
        usleep(1000);
    if (fork_child()) {
        sqlite3 *own;
        CHILD_CHECK(sqlite3_close(db) == SQLITE_OK);
        own = open_ours("a.db", "");
        CHILD_CHECK(code(own, "select v from t") == SQLITE_MISUSE);
        CHILD_CHECK(logged("carried across fork()"));
        CHILD_CHECK(sqlite3_close(own) == SQLITE_OK);
        /* Another database is another matter. */
        own = open_ours("b.db", "worker=off");
        CHILD_CHECK(code(own, "pragma journal_mode = wal; create table t(v)") == SQLITE_OK);
        CHILD_CHECK(sqlite3_close(own) == SQLITE_OK);
        child_says_and_waits();
        _exit(0);
    }
    wait_for_child();
    let_child_end();
    must(db, "insert into t values(3)");
    close_db(db);
    check_no_log("a.db");
}
END_TEST

/* When the parent had none open there is nothing to carry. */
START_TEST(a_child_of_a_parent_that_has_closed_opens_its_own)
{
    sqlite3 *db = open_ours("a.db", _i == 0 ? "" : "shm=copy");
    make(db);
    close_db(db);
    if (fork_child()) {
        sqlite3 *own = open_ours("a.db", kinds[_i]);
        CHILD_CHECK(code(own, "insert into t values(2)") == SQLITE_OK);
        CHILD_CHECK(sqlite3_close(own) == SQLITE_OK);
        child_says_and_waits();
        _exit(0);
    }
    wait_for_child();
    let_child_end();
    db = open_stock("a.db");
    check_text(must(db, "select group_concat(v) from t"), "1,2");
    close_db(db);
}
END_TEST

/* ------------------------------------------------------------------------------------------------
 * What a fork waits for
 * --------------------------------------------------------------------------------------------- */

static sem_t closing, forking;
static pthread_t closer;
static struct lks_a32 is_closing;
static int (*real_fcntl)(int, int, ...);

/* The background thread closes its connection: it asks for EXCLUSIVE.  Whoever closes waits for it, under the registry. */
static int
fork_meanwhile(int fd, int command, ...)
{
    struct flock *lock;
    va_list args;
    va_start(args, command);
    lock = va_arg(args, struct flock *);
    va_end(args);
    if (!pthread_equal(pthread_self(), closer) && lks_a32_cas(&is_closing, 1, 2)) {
        sem_post(&closing);
        sem_wait(&forking);
    }
    return real_fcntl(fd, command, lock);
}

/* Handlers are called last to first: after those that were there later, before the registry's. */
static void
on_fork(void)
{
    sem_post(&forking);
}

static void *
forker(void *arg)
{
    pid_t pid;
    (void)arg;
    sem_wait(&closing);
    pid = fork();
    if (pid == 0)
        _exit(0);
    ck_assert_int_eq(waitpid(pid, NULL, 0), pid);
    return NULL;
}

START_TEST(a_fork_and_a_close_do_not_wait_for_each_other)
{
    sqlite3 *first = open_ours("b.db", ""), *db;
    sqlite3_vfs *unix_vfs = sqlite3_vfs_find("unix");
    pthread_t thread;
    must(first, "create table t(v)");
    ck_assert_int_eq(pthread_atfork(on_fork, NULL, NULL), 0);
    db = open_ours("a.db", _i == 0 ? "max_lag=20" : "max_lag=20&shm=copy");
    make(db);
    must(db, "pragma synchronous = normal; insert into t values(2)");
    while (info(db).durable < info(db).committed)
        usleep(1000);
    closer = pthread_self();
    sem_init(&closing, 0, 0);
    sem_init(&forking, 0, 0);
    ck_assert_int_eq(pthread_create(&thread, NULL, forker, NULL), 0);
    real_fcntl = (int (*)(int, int, ...))unix_vfs->xGetSystemCall(unix_vfs, "fcntl");
    ck_assert_int_eq(unix_vfs->xSetSystemCall(unix_vfs, "fcntl", (sqlite3_syscall_ptr)fork_meanwhile), SQLITE_OK);
    /* Else the thread has ended by then. */
    ck_assert_int_eq(sqlite3_db_config(db, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, NULL), SQLITE_OK);
    lks_a32_set_relaxed(&is_closing, 1);
    close_db(db);
    ck_assert_int_eq(pthread_join(thread, NULL), 0);
    ck_assert_uint_eq(lks_a32_relaxed(&is_closing), 2);
    unix_vfs->xSetSystemCall(unix_vfs, "fcntl", NULL);
    close_db(first);
}
END_TEST

static Suite *
make_suite(void)
{
    Suite *suite = suite_create("WAL mode, fork");
    TCase *tcase = vfstest_case(suite, "fork");
    tcase_add_test(tcase, stock_sqlite_loses_a_commit_of_a_child_that_carries_a_connection);
    tcase_add_loop_test(tcase, its_own_is_refused_until_what_it_carries_is_closed_and_then_has_locks, 0, KINDS);
    tcase_add_test(tcase, after_a_checkpoint_in_the_background_the_child_is_refused);
    tcase_add_loop_test(tcase, a_fork_and_a_close_do_not_wait_for_each_other, 0, KINDS);
    tcase_add_loop_test(tcase, a_child_of_a_parent_that_has_closed_opens_its_own, 0, KINDS);
    return suite;
}

int
main(int argc, char **argv)
{
    return vfstest_main(argc, argv, make_suite);
}
