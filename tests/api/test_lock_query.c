/*
 * Asking for locks, and the right to work: coord.h.
 *
 * Made to fail by: lks_work_take() without the byte, without work_owner, or that keeps that in vain; a close or a drop that
 * leaves either; a lock_test that does not know our own connection at work, or since when WRITER is held; a shared lock that
 * is called exclusive.
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "api/enginetest.h"

static struct lockstep_db *db;

static enum lockstep_status
test_lock(uint32_t lock, enum lockstep_lock_mode mode, struct lockstep_lock_holder *holder)
{
    memset(holder, 0, sizeof *holder);
    return lockstep_db_lock_test(db, lock, mode, holder);
}

/* Connects and takes what there is: the writer lock, and the right to work. */
static void
take_all(struct child *self)
{
    struct lockstep_conn *conn;
    child_step(self, 's');
    child_check(lockstep_db_open("db", NULL, &db) == LOCKSTEP_OK && lockstep_db_attach(db) == LOCKSTEP_OK);
    child_check(lockstep_conn_open(db, &conn) == LOCKSTEP_OK);
    child_check(lockstep_conn_work_begin(conn) == LOCKSTEP_OK);
    child_step(self, 'w');
    child_check(lockstep_conn_begin(conn) == LOCKSTEP_OK);
    child_check(lockstep_conn_write_begin(conn, 10000) == LOCKSTEP_OK);
    child_step(self, 'x');
    lockstep_conn_end(conn);
    child_check(lockstep_conn_work_end(conn) == LOCKSTEP_OK);
    child_step(self, 'e');
    lockstep_conn_close(conn);
    child_check(lockstep_db_close(db) == LOCKSTEP_OK);
}

START_TEST(a_test_of_a_lock_names_who_is_in_the_way_and_takes_nothing)
{
    struct lockstep_lock_holder h;
    struct child child;
    child_start(&child, take_all);
    child_await(&child, 's');
    db = api_open(NULL);
    OK(test_lock(LOCKSTEP_LOCK_DMS2, LOCKSTEP_EXCLUSIVE, &h));
    OK(test_lock(LOCKSTEP_LOCK_WRITER, LOCKSTEP_EXCLUSIVE, &h));
    child_go(&child);
    child_await(&child, 'w');
    ck_assert_int_eq(test_lock(LOCKSTEP_LOCK_DMS2, LOCKSTEP_EXCLUSIVE, &h), LOCKSTEP_BUSY);
    ck_assert_int_eq(h.pid, child.pid);
    ck_assert_uint_eq(h.slot, 1);
    ck_assert(h.alive);
    OK(test_lock(LOCKSTEP_LOCK_DMS2, LOCKSTEP_SHARED, &h));
    OK(test_lock(LOCKSTEP_LOCK_DMS3, LOCKSTEP_EXCLUSIVE, &h));
    OK(test_lock(LOCKSTEP_LOCK_DMS1, LOCKSTEP_EXCLUSIVE, &h));
    ck_assert_int_eq(test_lock(LOCKSTEP_LOCK_CLIENT + 1, LOCKSTEP_EXCLUSIVE, &h), LOCKSTEP_BUSY);
    ck_assert_int_eq(h.pid, child.pid);
    OK(test_lock(LOCKSTEP_LOCK_CLIENT, LOCKSTEP_EXCLUSIVE, &h)); /* our own */
    ck_assert_int_eq(test_lock(LOCKSTEP_LOCK_WORK, LOCKSTEP_EXCLUSIVE, &h), LOCKSTEP_BUSY);
    ck_assert_int_eq(h.pid, child.pid);
    ck_assert_str_ne(h.program, "");
    OK(test_lock(LOCKSTEP_LOCK_WRITER, LOCKSTEP_EXCLUSIVE, &h));
    child_go(&child);
    child_await(&child, 'x');
    ck_assert_int_eq(test_lock(LOCKSTEP_LOCK_WRITER, LOCKSTEP_EXCLUSIVE, &h), LOCKSTEP_BUSY);
    ck_assert_int_eq(h.pid, child.pid);
    ck_assert_uint_eq(h.connection, 1);
    ck_assert_uint_gt(h.held_ns, 0);
    ck_assert(h.alive);
    ck_assert_int_eq(lockstep_db_lock_test(db, LOCKSTEP_LOCK_WRITER, LOCKSTEP_EXCLUSIVE, NULL), LOCKSTEP_BUSY);
    child_kill(&child);
    /* It holds it still, as far as the word says; who asks is told that he is dead. */
    ck_assert_int_eq(test_lock(LOCKSTEP_LOCK_WRITER, LOCKSTEP_EXCLUSIVE, &h), LOCKSTEP_BUSY);
    ck_assert(!h.alive);
    OK(test_lock(LOCKSTEP_LOCK_WORK, LOCKSTEP_EXCLUSIVE, &h));
    OK(test_lock(LOCKSTEP_LOCK_DMS2, LOCKSTEP_EXCLUSIVE, &h));
    {
        struct lockstep_conn *conn = api_connect(db);
        api_begin_writing(conn); /* takes it over */
        ck_assert_int_eq(test_lock(LOCKSTEP_LOCK_WRITER, LOCKSTEP_EXCLUSIVE, &h), LOCKSTEP_BUSY);
        ck_assert_int_eq(h.pid, getpid());
        lockstep_conn_close(conn);
    }
    ck_assert_int_eq(test_lock(LOCKSTEP_LOCK_SNAPSHOT, LOCKSTEP_SHARED, &h), LOCKSTEP_MISUSE);
    ck_assert_int_eq(test_lock(LOCKSTEP_LOCK_WRITER, LOCKSTEP_UNLOCKED, &h), LOCKSTEP_MISUSE);
    ck_assert_int_eq(test_lock(5, LOCKSTEP_SHARED, &h), LOCKSTEP_MISUSE);
    ck_assert_int_eq(test_lock(3, LOCKSTEP_SHARED, &h), LOCKSTEP_MISUSE);
    ck_assert_int_eq(test_lock(LOCKSTEP_LOCK_CLIENT + 256, LOCKSTEP_SHARED, &h), LOCKSTEP_MISUSE);
    OK(lockstep_db_close(db));
}
END_TEST

START_TEST(a_connection_knows_what_it_holds_and_says_so_in_a_line)
{
    struct lockstep_conn *conn, *other;
    char line[200], part[10], expected[200];
    size_t n;
    db = api_open(NULL);
    conn = api_connect(db);
    other = api_connect(db);
    ck_assert_int_eq(lockstep_conn_holds(conn, LOCKSTEP_LOCK_DMS2), LOCKSTEP_SHARED);
    ck_assert_int_eq(lockstep_conn_holds(conn, LOCKSTEP_LOCK_DMS3), LOCKSTEP_UNLOCKED);
    ck_assert_int_eq(lockstep_conn_holds(conn, LOCKSTEP_LOCK_DMS1), LOCKSTEP_UNLOCKED);
    ck_assert_int_eq(lockstep_conn_holds(conn, LOCKSTEP_LOCK_CLIENT), LOCKSTEP_EXCLUSIVE);
    ck_assert_int_eq(lockstep_conn_holds(conn, LOCKSTEP_LOCK_CLIENT + 1), LOCKSTEP_UNLOCKED);
    ck_assert_int_eq(lockstep_conn_holds(conn, LOCKSTEP_LOCK_SNAPSHOT), LOCKSTEP_UNLOCKED);
    api_begin_writing(conn);
    OK(lockstep_conn_work_begin(conn));
    ck_assert_int_eq(lockstep_conn_holds(conn, LOCKSTEP_LOCK_SNAPSHOT), LOCKSTEP_SHARED);
    ck_assert_int_eq(lockstep_conn_holds(conn, LOCKSTEP_LOCK_WRITER), LOCKSTEP_EXCLUSIVE);
    ck_assert_int_eq(lockstep_conn_holds(other, LOCKSTEP_LOCK_WRITER), LOCKSTEP_UNLOCKED);
    ck_assert_int_eq(lockstep_conn_holds(conn, LOCKSTEP_LOCK_WORK), LOCKSTEP_EXCLUSIVE);
    ck_assert_int_eq(lockstep_conn_holds(other, LOCKSTEP_LOCK_WORK), LOCKSTEP_UNLOCKED);
    ck_assert_int_eq(lockstep_conn_holds(NULL, LOCKSTEP_LOCK_DMS2), LOCKSTEP_UNLOCKED);
    ck_assert_int_eq(lockstep_conn_holds(conn, 77777), LOCKSTEP_UNLOCKED);
    ck_assert(lockstep_conn_assert_lock(conn, LOCKSTEP_LOCK_WRITER, LOCKSTEP_EXCLUSIVE));
    ck_assert(lockstep_conn_assert_lock(conn, LOCKSTEP_LOCK_WRITER, LOCKSTEP_SHARED));
    ck_assert(lockstep_conn_assert_lock(other, LOCKSTEP_LOCK_WRITER, LOCKSTEP_UNLOCKED));
    ck_assert(lockstep_conn_assert_lock(conn, LOCKSTEP_LOCK_DMS2, LOCKSTEP_SHARED));
    n = lockstep_conn_locks(conn, line, sizeof line);
    ck_assert_uint_eq(n, strlen(line));
    snprintf(expected, sizeof expected,
             "conn 1: DMS2=shared %sWORK=exclusive CLIENT(0)=exclusive WRITER=exclusive snapshot=%u",
             strstr(line, "WORKER") != NULL ? "WORKER=exclusive " : "", (unsigned)lockstep_conn_snapshot(conn));
    ck_assert_str_eq(line, expected);
    ck_assert_uint_eq(lockstep_conn_locks(conn, part, sizeof part), n);
    ck_assert_str_eq(part, "conn 1: D");
    ck_assert_uint_eq(lockstep_conn_locks(conn, NULL, 0), n);
    lockstep_conn_close(conn);
    lockstep_conn_close(other);
    OK(lockstep_db_close(db));
}
END_TEST

#ifdef LKS_DEBUG
START_TEST(an_assertion_that_does_not_hold_aborts)
{
    struct lockstep_conn *conn;
    db = api_open(NULL);
    conn = api_connect(db);
    if (freopen("/dev/null", "w", stderr) == NULL)
        _exit(1);
    (void)lockstep_conn_assert_lock(conn, LOCKSTEP_LOCK_WRITER, LOCKSTEP_EXCLUSIVE);
}
END_TEST
#endif

START_TEST(work_is_of_one_connection_among_all_processes)
{
    struct lockstep_conn *conn, *other;
    struct child child;
    child_start(&child, take_all);
    child_await(&child, 's');
    db = api_open(NULL);
    conn = api_connect(db);
    other = api_connect(db);
    ck_assert_int_eq(lockstep_conn_work_end(conn), LOCKSTEP_MISUSE);
    OK(lockstep_conn_work_begin(conn));
    ck_assert_int_eq(lockstep_conn_work_begin(conn), LOCKSTEP_MISUSE);
    ck_assert_int_eq(lockstep_conn_work_begin(other), LOCKSTEP_BUSY);
    ck_assert_int_eq(lockstep_conn_work_end(other), LOCKSTEP_MISUSE);
    OK(lockstep_conn_work_end(conn));
    OK(lockstep_conn_work_begin(other));
    lockstep_conn_close(other); /* with the connection the right ends */
    OK(lockstep_conn_work_begin(conn));
    OK(lockstep_conn_work_end(conn));
    child_go(&child);
    child_await(&child, 'w');
    ck_assert_int_eq(lockstep_conn_work_begin(conn), LOCKSTEP_BUSY);
    /* Who works keeps no writer out. */
    api_write_byte(conn, 100, 'w', LOCKSTEP_FULL_SYNC);
    child_kill(&child);
    OK(lockstep_conn_work_begin(conn));
    OK(lockstep_conn_work_end(conn));
    lockstep_conn_close(conn);
    OK(lockstep_db_close(db));
}
END_TEST

START_TEST(work_is_handed_from_process_to_process)
{
    struct lockstep_conn *conn;
    struct child child;
    child_start(&child, take_all);
    child_await(&child, 's');
    db = api_open(NULL);
    conn = api_connect(db);
    child_go(&child);
    child_await(&child, 'w');
    child_go(&child);
    child_await(&child, 'x');
    ck_assert_int_eq(lockstep_conn_work_begin(conn), LOCKSTEP_BUSY);
    child_go(&child);
    child_await(&child, 'e');
    OK(lockstep_conn_work_begin(conn));
    child_go(&child);
    child_end(&child);
    lockstep_conn_close(conn);
    OK(lockstep_db_close(db));
}
END_TEST

START_TEST(a_process_that_is_alone_may_work_and_ask)
{
    struct lockstep_options options = {.single_process = 1};
    struct lockstep_lock_holder h;
    struct lockstep_conn *conn, *other;
    db = api_open(&options);
    conn = api_connect(db);
    other = api_connect(db);
    OK(lockstep_conn_work_begin(conn));
    ck_assert_int_eq(lockstep_conn_work_begin(other), LOCKSTEP_BUSY);
    ck_assert_int_eq(lockstep_conn_holds(conn, LOCKSTEP_LOCK_DMS2), LOCKSTEP_EXCLUSIVE);
    ck_assert_int_eq(test_lock(LOCKSTEP_LOCK_WORK, LOCKSTEP_EXCLUSIVE, &h), LOCKSTEP_BUSY);
    ck_assert_uint_eq(h.connection, 1);
    OK(test_lock(LOCKSTEP_LOCK_WORKER, LOCKSTEP_EXCLUSIVE, &h));
    OK(lockstep_conn_work_end(conn));
    lockstep_conn_close(conn);
    lockstep_conn_close(other);
    OK(lockstep_db_close(db));
}
END_TEST

int
main(void)
{
    Suite *suite = suite_create("locks");
    TCase *tcase = coordtest_case(suite, "locks");
    tcase_add_test(tcase, a_test_of_a_lock_names_who_is_in_the_way_and_takes_nothing);
    tcase_add_test(tcase, a_connection_knows_what_it_holds_and_says_so_in_a_line);
#ifdef LKS_DEBUG
    tcase_add_test_raise_signal(tcase, an_assertion_that_does_not_hold_aborts, SIGABRT);
#endif
    tcase_add_test(tcase, work_is_of_one_connection_among_all_processes);
    tcase_add_test(tcase, work_is_handed_from_process_to_process);
    tcase_add_test(tcase, a_process_that_is_alone_may_work_and_ask);
    return coordtest_main(suite);
}
