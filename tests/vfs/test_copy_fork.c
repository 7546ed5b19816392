/*
 * fork() with a connection whose wal-index is a copy, of the `-shm` file or of the heap: the child is refused, what the parent has
 * is whole, and when the child may open its own.
 *
 * Made to fail by: the fork guard in xShmLock, or of the log, not looked at; no look for connections that are carried.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "vfs/copy_vfs.h"
#include "vfs/peer.h"
#include "vfs/vfstest.h"

/* In a child: the exit status is the line that failed, 0 for none. */
#define CHILD_CHECK(CONDITION)                                                                            \
    do {                                                                                                  \
        if (!(CONDITION)) {                                                                               \
            fprintf(stderr, "child, line %d: %s\n%s", __LINE__, #CONDITION, log_text());                  \
            _exit(1);                                                                                     \
        }                                                                                                 \
    } while (0)

enum { BARE, OURS, HEAP, KINDS };

static sqlite3 *
open_kind(int kind)
{
    sqlite3 *db;
    if (kind == OURS)
        return open_ours("a.db", "shm=copy&worker=0"); /* a thread may be anywhere at fork() */
    if (kind == HEAP)
        return open_ours("a.db", "shm=copy&multi_process=0&worker=0");
    ck_assert_ptr_nonnull(lks_copy_vfs(LKS_SHM_COPY));
    ck_assert_int_eq(sqlite3_open_v2("a.db", &db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE, "lockstep-copy"), SQLITE_OK);
    return db;
}

static void
make(sqlite3 *db)
{
    check_text(must(db, "pragma journal_mode = wal"), "wal");
    must(db, "pragma wal_autocheckpoint = 0; create table t(v); insert into t values(1)");
}

static void
child_passed(pid_t pid)
{
    int status = -1;
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    ck_assert_int_eq(status, 0);
}

/* The child has no locks that reading and closing a file could drop. */
static size_t
read_whole(const char *name, char *to, size_t size)
{
    FILE *file = fopen(name, "rb");
    size_t n = file != NULL ? fread(to, 1, size, file) : 0;
    if (file != NULL)
        fclose(file);
    return n;
}

static void
use_carried(sqlite3 *db, sqlite3 *reader, bool in_transaction)
{
    static char index[2][65536], log[2][65536];
    size_t index_size = read_whole("a.db-shm", index[0], sizeof index[0]);
    size_t log_size = read_whole("a.db-wal", log[0], sizeof log[0]);
    CHILD_CHECK(log_size > 0);
    if (in_transaction) {
        CHILD_CHECK(code(db, "insert into t values('child')") != SQLITE_OK || code(db, "commit") != SQLITE_OK);
        (void)code(db, "rollback");
    } else {
        CHILD_CHECK(code(db, "select v from t") == SQLITE_MISUSE);
        CHILD_CHECK(code(db, "begin immediate") == SQLITE_MISUSE);
        CHILD_CHECK(code(db, "insert into t values('child')") == SQLITE_MISUSE);
        CHILD_CHECK(code(db, "pragma wal_checkpoint(truncate)") != SQLITE_OK);
    }
    (void)code(reader, "commit");
    CHILD_CHECK(code(reader, "select v from t") == SQLITE_MISUSE);
    CHILD_CHECK(sqlite3_close(db) == SQLITE_OK);
    CHILD_CHECK(sqlite3_close(reader) == SQLITE_OK);
    CHILD_CHECK(read_whole("a.db-shm", index[1], sizeof index[1]) == index_size && memcmp(index[0], index[1], index_size) == 0);
    CHILD_CHECK(read_whole("a.db-wal", log[1], sizeof log[1]) == log_size && memcmp(log[0], log[1], log_size) == 0);
    _exit(0);
}

START_TEST(a_connection_carried_across_fork_is_refused_and_the_parent_s_is_whole)
{
    int kind = _i % KINDS;
    bool in_transaction = _i >= KINDS;
    sqlite3 *db = open_kind(kind), *reader;
    const char *answer;
    struct peer peer;
    pid_t pid;
    make(db);
    reader = open_kind(kind);
    must(reader, "begin; select v from t");
    must(db, "insert into t values(2)");
    if (in_transaction)
        must(db, "begin immediate; insert into t values(3)");
    pid = fork();
    if (pid == 0)
        use_carried(db, reader, in_transaction);
    child_passed(pid);
    /* The locks are whole: READ, and WRITE or the queue; of the heap the one that keeps everybody out. */
    peer_start(&peer);
    check_text(peer_ask(&peer, "open 0 file:a.db"), "");
    answer = peer_ask(&peer, kind == HEAP ? "sql 0 select v from t" : "sql 0 pragma wal_checkpoint(truncate)");
    ck_assert_msg(strncmp(answer, kind == HEAP ? "error 5" : "1|", kind == HEAP ? 7 : 2) == 0, "%s", answer);
    if (in_transaction)
        check_text(peer_ask(&peer, "sql 0 begin immediate"), "error 5: database is locked");
    /* So is what was copied. */
    check_text(must(reader, "select group_concat(v) from t"), "1");
    if (in_transaction)
        must(db, "commit");
    must(reader, "commit");
    must(db, "insert into t values(4)");
    check_text(must(reader, "select group_concat(v) from t"), in_transaction ? "1,2,3,4" : "1,2,4");
    if (kind != HEAP)
        check_text(peer_ask(&peer, "sql 0 select group_concat(v) from t"), in_transaction ? "1,2,3,4" : "1,2,4");
    close_db(reader);
    close_db(db);
    check_text(peer_ask(&peer, "sql 0 insert into t values(5); select max(v) from t; pragma integrity_check"), "5\nok");
    peer_exit(&peer);
}
END_TEST

static void
open_own(sqlite3 *carried, int to, int from)
{
    sqlite3 *own = open_kind(BARE);
    char byte = 'r';
    CHILD_CHECK(code(own, "select v from t") == SQLITE_MISUSE);
    CHILD_CHECK(logged("carried across fork()"));
    CHILD_CHECK(sqlite3_close(own) == SQLITE_OK);
    CHILD_CHECK(sqlite3_close(carried) == SQLITE_OK);
    own = open_kind(BARE);
    CHILD_CHECK(code(own, "begin; select v from t") == SQLITE_OK);
    CHILD_CHECK(write(to, &byte, 1) == 1 && read(from, &byte, 1) == 1);
    CHILD_CHECK(code(own, "commit; insert into t values(3)") == SQLITE_OK);
    CHILD_CHECK(sqlite3_close(own) == SQLITE_OK);
    _exit(0);
}

/* The parent closes meanwhile: without the child's locks whoever comes next would truncate the index under it. */
START_TEST(its_own_has_locks_once_the_carried_one_is_closed)
{
    sqlite3 *db = open_kind(BARE);
    int to_child[2], to_parent[2];
    char byte;
    pid_t pid;
    make(db);
    ck_assert_int_eq(pipe(to_child), 0);
    ck_assert_int_eq(pipe(to_parent), 0);
    pid = fork();
    if (pid == 0)
        open_own(db, to_parent[1], to_child[0]);
    close(to_parent[1]);
    ck_assert_int_eq(read(to_parent[0], &byte, 1), 1);
    check_text(must(db, "insert into t values(2); pragma wal_checkpoint(truncate)"), "1|4|3");
    close_db(db);
    check_reads_wal("a.db", pid);
    ck_assert_int_eq(write(to_child[1], &byte, 1), 1);
    child_passed(pid);
    db = open_stock("a.db");
    check_text(must(db, "select group_concat(v) from t; pragma integrity_check"), "1,2,3\nok");
    close_db(db);
}
END_TEST

/* As the background thread's cannot be. */
START_TEST(as_long_as_one_is_not_closed_the_child_is_refused)
{
    sqlite3 *db = open_kind(OURS), *other = open_kind(BARE);
    pid_t pid;
    make(db);
    must(other, "select v from t");
    pid = fork();
    if (pid == 0) {
        sqlite3 *own;
        CHILD_CHECK(sqlite3_close(db) == SQLITE_OK);
        own = open_kind(OURS);
        CHILD_CHECK(code(own, "select v from t") == SQLITE_MISUSE);
        CHILD_CHECK(logged("carried across fork()"));
        CHILD_CHECK(sqlite3_close(own) == SQLITE_OK);
        _exit(0);
    }
    child_passed(pid);
    must(db, "insert into t values(3)");
    check_text(must(other, "select max(v) from t; pragma integrity_check"), "3\nok");
    close_db(other);
    close_db(db);
}
END_TEST

/* All of it is Lockstep's, so the child has none of the parent's: it is told that the database is in use. */
START_TEST(of_the_heap_a_child_has_its_own_when_the_parent_has_left)
{
    sqlite3 *db = open_kind(HEAP);
    int to_child[2], to_parent[2];
    char byte = 'c';
    pid_t pid;
    make(db);
    ck_assert_int_eq(pipe(to_child), 0);
    ck_assert_int_eq(pipe(to_parent), 0);
    pid = fork();
    if (pid == 0) {
        sqlite3 *own = open_kind(HEAP);
        CHILD_CHECK(code(own, "select v from t") == SQLITE_BUSY);
        CHILD_CHECK(write(to_parent[1], &byte, 1) == 1 && read(to_child[0], &byte, 1) == 1);
        CHILD_CHECK(code(own, "insert into t values(2)") == SQLITE_OK);
        CHILD_CHECK(sqlite3_close(own) == SQLITE_OK);
        _exit(0);
    }
    close(to_parent[1]);
    ck_assert_int_eq(read(to_parent[0], &byte, 1), 1);
    close_db(db);
    ck_assert_int_eq(write(to_child[1], &byte, 1), 1);
    child_passed(pid);
    db = open_stock("a.db");
    check_text(must(db, "select group_concat(v) from t; pragma integrity_check"), "1,2\nok");
    close_db(db);
}
END_TEST

static Suite *
make_suite(void)
{
    Suite *suite = suite_create("shm=copy, fork");
    TCase *tcase = vfstest_case(suite, "fork");
    tcase_add_loop_test(tcase, a_connection_carried_across_fork_is_refused_and_the_parent_s_is_whole, 0, KINDS);
    /* The log of a bare one is the parent VFS's own file, and its one user a thread that no child has. */
    tcase_add_loop_test(tcase, a_connection_carried_across_fork_is_refused_and_the_parent_s_is_whole, KINDS + OURS, 2 * KINDS);
    tcase_add_test(tcase, its_own_has_locks_once_the_carried_one_is_closed);
    tcase_add_test(tcase, as_long_as_one_is_not_closed_the_child_is_refused);
    tcase_add_test(tcase, of_the_heap_a_child_has_its_own_when_the_parent_has_left);
    return suite;
}

int
main(int argc, char **argv)
{
    return vfstest_main(argc, argv, make_suite);
}
