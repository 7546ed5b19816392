/* fork(), exit(), death, and two copies of the library in one process. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "shm/layout.h"
#include "vfs/peer.h"
#include "vfs/vfstest.h"

#define URI(NAME) "file:" NAME "?vfs=lockstep"

/* In a child: the exit status is the line that failed, 0 for none. */
#define CHILD_CHECK(CONDITION)                                                                            \
    do {                                                                                                  \
        if (!(CONDITION)) {                                                                               \
            fprintf(stderr, "child, line %d: %s\n%s", __LINE__, #CONDITION, log_text());                  \
            _exit(1);                                                                                     \
        }                                                                                                 \
    } while (0)

/*
 * A child of fork() has no thread but its own, yet the parent's stacks are copied. LeakSanitizer, asked at exit(), takes
 * what a batch of the parent's worker had in its registers for lost, and now and then waits for ever.
 */
static bool carried;
int __lsan_is_turned_off(void);

int
__lsan_is_turned_off(void)
{
    return carried;
}

static void
child_passed(pid_t pid)
{
    int status = -1;
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    ck_assert_int_eq(status, 0);
}

START_TEST(a_connection_carried_across_fork_fails_and_the_parent_goes_on)
{
    sqlite3 *db = open_ours("a.db", "durability=async");
    sqlite3_stmt *select;
    struct peer peer;
    pid_t pid;
    int in_transaction = _i;
    must(db, "create table t(v); insert into t values(1)");
    ck_assert_int_eq(sqlite3_prepare_v2(db, "select v from t", -1, &select, NULL), SQLITE_OK);
    if (in_transaction)
        must(db, "begin immediate; insert into t values(2)");
    pid = fork();
    ck_assert_int_ge(pid, 0);
    if (pid == 0) {
        struct lockstep_db_info i;
        carried = true;
        if (!in_transaction) {
            CHILD_CHECK(sqlite3_step(select) == SQLITE_MISUSE);
            CHILD_CHECK(code(db, "select v from t") == SQLITE_MISUSE);
            CHILD_CHECK(code(db, "begin immediate") == SQLITE_MISUSE);
        } else {
            CHILD_CHECK(code(db, "commit") != SQLITE_OK);
            (void)code(db, "rollback");
        }
        CHILD_CHECK(code(db, "pragma lockstep_flush") == SQLITE_MISUSE);
        CHILD_CHECK(lockstep_flush(db) == SQLITE_MISUSE);
        CHILD_CHECK(lockstep_run(db) == SQLITE_MISUSE);
        CHILD_CHECK(lockstep_wait(db, 1, 0) == SQLITE_MISUSE);
        CHILD_CHECK(lockstep_status(db, &i) == SQLITE_MISUSE);
        CHILD_CHECK(lockstep_ticket(db) == 0);
        sqlite3_finalize(select);
        CHILD_CHECK(sqlite3_close(db) == SQLITE_OK);
        exit(0); /* with the library's exit handler */
    }
    child_passed(pid);
    if (in_transaction)
        must(db, "commit");
    must(db, "insert into t values(3)");
    /* Our locks are whole: another process finds us connected and the lock taken. */
    must(db, "begin immediate");
    peer_start(&peer);
    check_text(peer_ask(&peer, "open 0 " URI("a.db")), "");
    check_text(peer_ask(&peer, "sql 0 begin immediate"), "error 5: database is locked");
    must(db, "commit");
    check_text(peer_ask(&peer, "sql 0 begin immediate; insert into t values(4); commit"), "");
    peer_exit(&peer);
    check_text(must(db, "select count(*) from t"), in_transaction ? "4" : "3");
    sqlite3_finalize(select);
    close_db(db);
    check_ordinary("a.db");
}
END_TEST

START_TEST(a_child_of_fork_may_open_its_own)
{
    sqlite3 *db = open_ours("a.db", "durability=async");
    pid_t pid;
    must(db, "create table t(v); insert into t values(1)");
    pid = fork();
    ck_assert_int_ge(pid, 0);
    if (pid == 0) {
        sqlite3 *own = NULL;
        carried = true;
        CHILD_CHECK(open_code("a.db", "vfs=lockstep", SQLITE_OPEN_READWRITE, &own) == SQLITE_OK);
        sqlite3_busy_timeout(own, 5000);
        CHILD_CHECK(code(own, "insert into t values(2)") == SQLITE_OK);
        CHILD_CHECK(code(db, "insert into t values(0)") == SQLITE_MISUSE);
        CHILD_CHECK(info(own).clients == 2);
        CHILD_CHECK(sqlite3_close(own) == SQLITE_OK);
        exit(0);
    }
    child_passed(pid);
    check_text(must(db, "select group_concat(v) from t"), "1,2");
    must(db, "insert into t values(3)");
    ck_assert_uint_eq(info(db).clients, 1);
    close_db(db);
    check_ordinary("a.db");
}
END_TEST

START_TEST(a_child_outlives_its_parent_without_holding_its_locks)
{
    struct peer peer;
    int go[2];
    pid_t parent, other;
    char byte;
    ck_assert_int_eq(pipe(go), 0);
    parent = fork();
    ck_assert_int_ge(parent, 0);
    if (parent == 0) {
        sqlite3 *db = open_ours("a.db", "durability=async");
        must(db, "create table t(v); insert into t values(1); begin immediate");
        other = fork();
        if (other == 0) {
            /* From here on: what fork() has to close in a child is closed. */
            other = getpid();
            if (write(go[1], &other, sizeof other) != (ssize_t)sizeof other)
                _exit(1);
        }
        for (;;)
            pause(); /* until the test kills both */
    }
    ck_assert_int_eq(read(go[0], &other, sizeof other), (ssize_t)sizeof other);
    ck_assert_int_eq(kill(parent, SIGKILL), 0);
    ck_assert_int_eq(waitpid(parent, NULL, 0), parent);
    peer_start(&peer);
    check_text(peer_ask(&peer, "open 0 " URI("a.db")), "");
    check_text(peer_ask(&peer, "sql 0 insert into t values(2); select count(*) from t"), "2");
    check_text(peer_ask(&peer, "close 0"), "");
    check_ordinary("a.db");
    peer_exit(&peer);
    kill(other, SIGKILL);
    close(go[1]);
    /* The last writer of the pipe is gone when the child is. */
    ck_assert_int_eq(read(go[0], &byte, 1), 0);
}
END_TEST

START_TEST(exit_with_an_old_snapshot_open_writes_everything)
{
    sqlite3 *db;
    pid_t pid = fork();
    ck_assert_int_ge(pid, 0);
    if (pid == 0) {
        sqlite3 *writer = open_ours("a.db", "durability=async&max_lag=60000");
        sqlite3 *reader = open_ours("a.db", "");
        must(writer, "create table t(v); insert into t values(1); pragma lockstep_flush");
        must(reader, "begin; select * from t");
        must(writer, "update t set v = 2");
        alarm(5); /* it took ten seconds, and then kept the commit aside */
        exit(0);
    }
    child_passed(pid);
    check_ordinary("a.db");
    db = open_stock("a.db");
    check_text(must(db, "select v from t"), "2");
    close_db(db);
}
END_TEST

START_TEST(exit_without_close_leaves_an_ordinary_database)
{
    struct peer peer;
    sqlite3 *db;
    peer_start(&peer);
    check_text(peer_ask(&peer, "open 0 " URI("a.db") "&durability=async&max_lag=60000"), "");
    check_text(peer_ask(&peer, "sql 0 create table t(v); insert into t values(1)"), "");
    check_text(peer_ask(&peer, "open 1 " URI("a.db")), "");
    check_text(peer_ask(&peer, "sql 1 insert into t values(2); begin; insert into t values('not committed')"),
               "");
    peer_exit(&peer);
    check_ordinary("a.db");
    db = open_stock("a.db");
    check_text(must(db, "select group_concat(v) from t"), "1,2");
    close_db(db);
}
END_TEST

START_TEST(what_a_killed_process_committed_is_adopted)
{
    struct peer peer;
    sqlite3 *stock, *db = open_ours("a.db", "");
    must(db, "create table t(v); insert into t values(0)");
    close_db(db);
    peer_start(&peer);
    check_text(peer_ask(&peer, "open 0 " URI("a.db") "&durability=async&max_lag=60000&worker=0"), "");
    check_text(peer_ask(&peer, "sql 0 insert into t values(1)"), "");
    check_text(peer_ask(&peer, "sql 0 begin; insert into t values('not committed')"), "");
    peer_kill(&peer);
    ck_assert(file_exists("a.db-lockstep"));
    /* Stock SQLite may not write now: it would lose the commits. */
    stock = open_stock("a.db");
    ck_assert_int_ne(code(stock, "create table other(x)"), SQLITE_OK);
    close_db(stock);
    db = open_ours("a.db", "");
    check_text(must(db, "select group_concat(v) from t"), "0,1");
    close_db(db);
    check_ordinary("a.db");
}
END_TEST

/*
 * What another copy of the library holds in this process is seen before the coordination file is opened, for to close that
 * again would drop it.  Made to fail by: lks_proclocks_own() says no.
 */
START_TEST(locks_of_another_copy_in_this_process_are_noticed)
{
    struct flock lock = {.l_type = F_RDLCK, .l_whence = SEEK_SET, .l_start = LKS_LOCK_BASE + LKS_BYTE_DMS2, .l_len = 1};
    struct peer peer;
    sqlite3 *db;
    int fd;
    peer_start(&peer);
    check_text(peer_ask(&peer, "open 0 " URI("a.db")), "");
    check_text(peer_ask(&peer, "sql 0 create table t(v)"), "");
    fd = open("a.db-lockstep", O_RDWR | O_CLOEXEC);
    ck_assert_int_eq(fcntl(fd, F_SETLK, &lock), 0);
    db = open_ours("a.db", "");
    ck_assert_int_eq(code(db, "insert into t values(1)"), SQLITE_MISUSE);
    ck_assert(logged("another copy of the Lockstep library in this process"));
    ck_assert_int_eq(sqlite3_close(db), SQLITE_OK);
    close(fd);
    db = open_ours("a.db", "");
    must(db, "insert into t values(1)");
    close_db(db);
    peer_exit(&peer);
}
END_TEST

/* The loadable extension has all of Lockstep inside: a second copy beside the one that is linked here. */
START_TEST(a_second_copy_of_the_library_is_refused_and_the_first_works_on)
{
    const char *path = getenv("LKS_LOADABLE");
    const char *sanitizers = getenv("LKS_SANITIZERS");
    sqlite3 *db, *loader, *second;
    struct peer peer;
    char *error = NULL;
    int rc;
    if (path == NULL || access(path, R_OK) != 0 || (sanitizers != NULL && *sanitizers != '\0'))
        return;
    db = open_ours("a.db", "durability=async");
    must(db, "create table t(v); insert into t values(1)");
    ck_assert_int_eq(sqlite3_open(":memory:", &loader), SQLITE_OK);
    sqlite3_enable_load_extension(loader, 1);
    rc = sqlite3_load_extension(loader, path, "sqlite3_lockstep_init", &error);
    if (rc == SQLITE_OK) {
        /* Its VFS has our name, and the newest registration is found. */
        ck_assert_int_eq(sqlite3_open_v2("a.db", &second, SQLITE_OPEN_READWRITE, "lockstep"), SQLITE_OK);
        ck_assert_int_eq(code(second, "insert into t values('second')"), SQLITE_MISUSE);
        ck_assert(logged("another copy of the Lockstep library in this process"));
        sqlite3_close(second);
    } else {
        ck_assert_ptr_nonnull(error);
    }
    sqlite3_free(error);
    close_db(loader);
    /* The first is connected still, and holds its locks. */
    must(db, "insert into t values(2); begin immediate");
    peer_start(&peer);
    check_text(peer_ask(&peer, "open 0 " URI("a.db")), "");
    check_text(peer_ask(&peer, "sql 0 begin immediate"), "error 5: database is locked");
    must(db, "commit");
    check_text(peer_ask(&peer, "sql 0 insert into t values(3); select count(*) from t"), "3");
    peer_exit(&peer);
    ck_assert_uint_eq(info(db).clients, 1);
    close_db(db);
    check_ordinary("a.db");
}
END_TEST

static Suite *
make_suite(void)
{
    Suite *suite = suite_create("process");
    TCase *tcase = vfstest_case(suite, "process");
    tcase_add_loop_test(tcase, a_connection_carried_across_fork_fails_and_the_parent_goes_on, 0, 2);
    tcase_add_test(tcase, a_child_of_fork_may_open_its_own);
    tcase_add_test(tcase, a_child_outlives_its_parent_without_holding_its_locks);
    tcase_add_test(tcase, exit_with_an_old_snapshot_open_writes_everything);
    tcase_add_test(tcase, exit_without_close_leaves_an_ordinary_database);
    tcase_add_test(tcase, what_a_killed_process_committed_is_adopted);
    tcase_add_test(tcase, locks_of_another_copy_in_this_process_are_noticed);
    tcase_add_test(tcase, a_second_copy_of_the_library_is_refused_and_the_first_works_on);
    return suite;
}

int
main(int argc, char **argv)
{
    return vfstest_main(argc, argv, make_suite);
}
