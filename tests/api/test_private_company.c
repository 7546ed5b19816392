/*
 * Clients that only read a database that nobody is connected to, and who comes meanwhile: a writer, one who adopts, stock
 * SQLite, one who uses it alone, other threads, a child of fork().
 *
 * Made to fail by: no SHARED lock, or one for the first of two only (lks_lockset_stock_read); not looking for who is
 * connected (hold_still, lks_private_open), or not again (look_locked); closing the coordination file where another thread has
 * attached; leaving DMS1 to the close (let_go); a private view that counts as a claim (lockstep_conn_holds, _locks).
 */
#include "api/privatetest.h"

#include <fcntl.h>
#include <pthread.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/crashpoint.h"
#include "coord/lockset.h"

/* Comes when it is let, commits "new" at 5000; 'w': it has waited in vain; 'd': it is durable. */
static void
write_behind(struct child *self)
{
    struct lockstep_db *db;
    struct lockstep_conn *conn;
    uint64_t ticket = 0;
    child_step(self, 's');
    db = api_open(NULL);
    conn = api_connect(db);
    api_begin_writing(conn);
    child_check(lockstep_conn_write(conn, 5000, "new", 3) == LOCKSTEP_OK);
    child_check(lockstep_conn_commit(conn, LOCKSTEP_ASYNC, &ticket) == LOCKSTEP_OK);
    lockstep_conn_end(conn);
    child_check(lockstep_db_wait(db, ticket, 300) == LOCKSTEP_TIMEOUT);
    child_step(self, 'w');
    child_check(lockstep_db_wait(db, ticket, 10000) == LOCKSTEP_OK);
    child_step(self, 'd');
    close_reader(db, conn);
}

/* In a transaction on a private view, of a process that is connected by now: what nobody protects it does not hold. */
static void
expect_no_claim(struct lockstep_conn *conn)
{
    char line[100];
    ck_assert_int_eq(lockstep_conn_holds(conn, LOCKSTEP_LOCK_SNAPSHOT), LOCKSTEP_UNLOCKED);
    ck_assert_int_eq(lockstep_conn_holds(conn, LOCKSTEP_LOCK_DMS3), LOCKSTEP_SHARED);
    ck_assert_uint_gt(lockstep_conn_locks(conn, line, sizeof line), 0);
    ck_assert_ptr_nonnull(strstr(line, "DMS3=shared"));
    ck_assert_ptr_null(strstr(line, "snapshot"));
    ck_assert_int_eq(lockstep_conn_begin_at(conn, 1), LOCKSTEP_MISUSE);
    ck_assert_int_eq(lockstep_conn_write_begin(conn, 0), LOCKSTEP_READONLY);
    ck_assert_int_eq(lockstep_conn_work_begin(conn), LOCKSTEP_READONLY);
}

START_TEST(a_writer_that_comes_commits_and_nothing_is_written_behind_under_a_reader)
{
    struct lockstep_conn *first, *second;
    struct lockstep_db *db;
    struct child writer;
    char bytes[4] = "";
    size_t got = 0;
    uint64_t before;
    disk_write("db", 5000, "old", 3);
    child_start(&writer, write_behind);
    child_await(&writer, 's');
    db = stand_by(&first);
    second = api_connect(db);
    ck_assert_int_eq(lockstep_conn_begin(first), LOCKSTEP_OK);
    ck_assert_int_eq(lockstep_conn_begin(second), LOCKSTEP_OK);
    lockstep_conn_end(first); /* the other one still reads */
    before = disk_sum("db");
    child_go(&writer);
    child_await(&writer, 'w');
    ck_assert_uint_eq(disk_sum("db"), before);
    ck_assert_int_eq(lockstep_conn_read(second, 5000, bytes, 3, &got), LOCKSTEP_OK);
    ck_assert_str_eq(bytes, "old");
    /* The next transaction is among them, while the other one goes on. */
    ck_assert_str_eq(api_read(first, 5000, 3), "new");
    ck_assert(is_live(db) && lks_lockset_holds(&db->locks, LKS_BYTE_DMS3));
    ck_assert_int_eq(lockstep_conn_read(second, 5000, bytes, 3, &got), LOCKSTEP_OK);
    expect_no_claim(second);
    ck_assert_str_eq(bytes, "old");
    ck_assert_uint_eq(disk_sum("db"), before);
    lockstep_conn_end(second);
    child_go(&writer);
    child_await(&writer, 'd');
    disk_read("db", 5000, bytes, 3);
    ck_assert_str_eq(bytes, "new");
    ck_assert_str_eq(api_read(second, 5000, 3), "new");
    child_go(&writer);
    child_end(&writer);
    ck_assert_str_eq(api_read(second, 5000, 3), "new");
    lockstep_conn_close(first);
    close_reader(db, second);
}
END_TEST

/* Attaches, again and again while a reader is in the way. */
static struct lockstep_db *
attach_patiently(void)
{
    struct lockstep_db *db = NULL;
    enum lockstep_status status;
    child_check(lockstep_db_open("db", NULL, &db) == LOCKSTEP_OK);
    do
        status = lockstep_db_attach(db);
    while (status == LOCKSTEP_BUSY);
    child_check(status == LOCKSTEP_OK);
    return db;
}

/* Comes and commits 50 pairs, each written behind, while the threads below read. */
static void
write_pairs(struct child *self)
{
    struct lockstep_db *db;
    struct lockstep_conn *conn;
    uint64_t i;
    child_step(self, 's');
    db = attach_patiently();
    conn = api_connect(db);
    for (i = 1; i <= 50; i++) {
        api_begin_writing(conn);
        child_check(lockstep_conn_write(conn, 8, &i, 8) == LOCKSTEP_OK);
        child_check(lockstep_conn_write(conn, 9000, &i, 8) == LOCKSTEP_OK);
        api_commit(conn, LOCKSTEP_FULL_SYNC);
    }
    close_reader(db, conn);
}

static struct lockstep_db *shared_db;

/* Reads pairs until the last one is there; each is whole, and none is older than the one before. */
static void *
read_pairs(void *failed)
{
    struct lockstep_conn *conn = NULL;
    uint64_t pair[2] = {0, 0}, before = 0;
    size_t got = 0;
    if (lockstep_conn_open(shared_db, &conn) != LOCKSTEP_OK)
        return failed;
    while (pair[0] < 50) {
        enum lockstep_status status = lockstep_conn_begin(conn);
        if (status == LOCKSTEP_BUSY)
            continue;
        if (status != LOCKSTEP_OK || lockstep_conn_read(conn, 8, &pair[0], 8, &got) != LOCKSTEP_OK ||
            lockstep_conn_read(conn, 9000, &pair[1], 8, &got) != LOCKSTEP_OK || pair[0] != pair[1] || pair[0] < before)
            return failed;
        before = pair[0];
        lockstep_conn_end(conn);
    }
    lockstep_conn_close(conn);
    return NULL;
}

START_TEST(threads_on_standby_read_whole_commits_and_join_who_comes)
{
    pthread_t threads[4];
    struct child writer;
    size_t i;
    child_start(&writer, write_pairs);
    child_await(&writer, 's');
    shared_db = api_open(&reading);
    ck_assert(!is_live(shared_db));
    for (i = 0; i < 4; i++)
        ck_assert_int_eq(pthread_create(&threads[i], NULL, read_pairs, &shared_db), 0);
    child_go(&writer);
    for (i = 0; i < 4; i++) {
        void *failed = NULL;
        ck_assert_int_eq(pthread_join(threads[i], &failed), 0);
        ck_assert_ptr_null(failed);
    }
    child_end(&writer);
    ck_assert_int_eq(lockstep_db_close(shared_db), LOCKSTEP_OK);
}
END_TEST

/* In a child of fork() the handles are dead, and to close them takes nothing from the parent. */
START_TEST(a_view_that_is_carried_across_fork_is_of_no_use_there_and_kept_here)
{
    struct lockstep_conn *conn;
    struct lockstep_db *db = stand_by(&conn);
    int fd = open("db", O_RDWR | O_CLOEXEC), status = -1;
    char byte;
    size_t got;
    pid_t pid;
    ck_assert_int_eq(lockstep_conn_begin(conn), LOCKSTEP_OK);
    pid = fork();
    ck_assert_int_ge(pid, 0);
    if (pid == 0) {
        bool dead = lockstep_conn_read(conn, 0, &byte, 1, &got) == LOCKSTEP_MISUSE &&
                    lockstep_conn_begin(conn) == LOCKSTEP_MISUSE;
        lockstep_conn_end(conn);
        lockstep_conn_close(conn);
        _exit(dead && lockstep_db_close(db) == LOCKSTEP_MISUSE ? 0 : 1);
    }
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    ck_assert_int_eq(status, 0);
    ck_assert_int_eq(lks_bytelock_try(fd, LKS_LOCK_DESCRIPTION, LKS_LOCK_EXCLUSIVE, LKS_SQLITE_SHARED_FIRST, 1),
                     LOCKSTEP_BUSY);
    ck_assert_int_eq(lockstep_conn_read(conn, 0, &byte, 1, &got), LOCKSTEP_OK);
    close_reader(db, conn);
    close(fd);
}
END_TEST

static void
adopt(struct child *self)
{
    struct lockstep_db *db;
    struct lockstep_conn *conn;
    child_step(self, 's');
    db = attach_patiently();
    conn = api_connect(db);
    expect_all_commits(conn);
    api_write(conn, 4094, "four.", LOCKSTEP_FULL_SYNC);
    child_step(self, 'a');
    close_reader(db, conn);
}

/* Until somebody keeps readers out, in order to write. */
static void
await_exclusion(const struct lockstep_db *db)
{
    uint64_t deadline = lks_clock_ns() + 10000 * LKS_NS_PER_MS;
    int32_t pid = 0;
    while (pid == 0) {
        ck_assert_int_eq(lks_bytelock_holder(db->locks.database_fd, LKS_LOCK_DESCRIPTION, LKS_LOCK_SHARED,
                                             LKS_SQLITE_PENDING, 1, &pid),
                         LOCKSTEP_OK);
        ck_assert_uint_lt(lks_clock_ns(), deadline);
    }
}

START_TEST(a_writer_that_adopts_waits_for_a_reader_to_end)
{
    struct picture before;
    struct lockstep_conn *conn;
    struct lockstep_db *db;
    struct child writer;
    char bytes[6] = "";
    size_t got = 0;
    run_and_kill(leave_commits);
    child_start(&writer, adopt);
    child_await(&writer, 's');
    before = take_picture();
    db = stand_by(&conn);
    ck_assert_int_eq(lockstep_conn_begin(conn), LOCKSTEP_OK);
    child_go(&writer);
    await_exclusion(db);
    ck_assert_uint_eq(disk_sum("db"), before.sums[0]);
    ck_assert_int_eq(lockstep_conn_read(conn, 4094, bytes, 5, &got), LOCKSTEP_OK);
    ck_assert_str_eq(bytes, "three");
    lockstep_conn_end(conn);
    child_await(&writer, 'a');
    ck_assert_str_eq(api_read(conn, 4094, 5), "four.");
    ck_assert(is_live(db));
    child_go(&writer);
    child_end(&writer);
    close_reader(db, conn);
}
END_TEST

#ifdef LKS_DEBUG
/* Commits "new", written behind by nobody; then tells whether somebody else has DMS3. */
static void
come_in_between(struct child *self)
{
    struct lockstep_options options = {.max_lag_ms = 3600000};
    struct lockstep_db *db;
    struct lockstep_conn *conn;
    bool readers = false;
    child_step(self, 's');
    db = api_open(&options);
    conn = api_connect(db);
    api_write(conn, 5000, "new", LOCKSTEP_OFF);
    child_step(self, 'a');
    child_check(lks_lockset_others(&db->locks, LKS_BYTE_DMS3, LKS_LOCK_EXCLUSIVE, &readers) == LOCKSTEP_OK);
    child_check(readers);
    child_step(self, 'r');
    close_reader(db, conn);
}

static struct child in_between;
static struct lockstep_db *attach_in_between;
static const char *in_between_at;

static void
let_it_come(const char *name)
{
    if (in_between_at == NULL || strcmp(name, in_between_at) != 0)
        return;
    in_between_at = NULL;
    child_go(&in_between);
    child_await(&in_between, 'a');
    /* As another thread of ours that begins a transaction then. */
    if (attach_in_between != NULL)
        ck_assert_int_eq(lockstep_db_attach(attach_in_between), LOCKSTEP_OK);
}

/* Between the look for who is connected and the lock that keeps the file as it is. */
START_TEST(who_comes_between_two_looks_is_found)
{
    struct lockstep_conn *conn;
    struct lockstep_db *db;
    child_start(&in_between, come_in_between);
    child_await(&in_between, 's');
    disk_write("db", 5000, "old", 3);
    db = stand_by(&conn);
    ck_assert_str_eq(api_read(conn, 5000, 3), "old");
    if (_i == 1)
        attach_in_between = db;
    in_between_at = _i == 1 ? "private:nobody" : "private:looked";
    lks_crash_hook = let_it_come;
    ck_assert_str_eq(api_read(conn, 5000, 3), "new");
    lks_crash_hook = NULL;
    ck_assert_ptr_null(in_between_at);
    ck_assert(is_live(db));
    child_go(&in_between);
    child_await(&in_between, 'r');
    child_go(&in_between);
    child_end(&in_between);
    close_reader(db, conn);
}
END_TEST

static int stay_open[2];

/* As another thread of the application that forks just then. */
static void *
fork_a_child(void *out_pid)
{
    char byte;
    pid_t pid = fork();
    if (pid == 0) {
        close(stay_open[1]);
        _exit(read(stay_open[0], &byte, 1) == 0 ? 0 : 1);
    }
    *(pid_t *)out_pid = pid;
    return NULL;
}

static pid_t forked;

static void
fork_meanwhile(const char *name)
{
    pthread_t thread;
    if (strcmp(name, "private:read") != 0 || forked != 0)
        return;
    ck_assert_int_eq(pthread_create(&thread, NULL, fork_a_child, &forked), 0);
    ck_assert_int_eq(pthread_join(thread, NULL), 0);
}

/* It has the descriptor, through which DMS1 was held. */
START_TEST(a_child_that_is_forked_while_it_looks_keeps_nobody_from_connecting)
{
    struct lockstep_conn *conn;
    struct lockstep_db *db;
    int fd, status = -1;
    run_and_kill(leave_commits);
    ck_assert_int_eq(pipe(stay_open), 0);
    lks_crash_hook = fork_meanwhile;
    db = stand_by(&conn);
    lks_crash_hook = NULL;
    ck_assert_int_gt(forked, 0);
    fd = open("db-lockstep", O_RDWR | O_CLOEXEC);
    ck_assert_int_eq(lks_bytelock_try(fd, LKS_LOCK_DESCRIPTION, LKS_LOCK_EXCLUSIVE, LKS_LOCK_BASE + LKS_BYTE_DMS1, 1),
                     LOCKSTEP_OK);
    close(fd);
    close(stay_open[1]);
    ck_assert_int_eq(waitpid(forked, &status, 0), forked);
    ck_assert_int_eq(status, 0);
    close(stay_open[0]);
    close_reader(db, conn);
}
END_TEST

/* Killed while it looks, and its child lives on. */
static void
look_and_die(struct child *self)
{
    struct lockstep_db *db = NULL;
    struct lockstep_conn *conn = NULL;
    lks_crash_hook = fork_meanwhile;
    lks_crash_arm("private:read", 1);
    child_step(self, 'l');
    (void)lockstep_db_open("db", &reading, &db);
    (void)lockstep_db_attach(db);
    (void)lockstep_conn_open(db, &conn);
    child_step(self, 'x');
}

START_TEST(a_child_that_outlives_who_was_killed_while_it_looked_keeps_nobody_from_connecting)
{
    uint64_t begun = lks_clock_ns();
    enum lockstep_status status;
    struct child looker;
    int fd;
    run_and_kill(leave_commits);
    ck_assert_int_eq(pipe(stay_open), 0);
    child_start(&looker, look_and_die);
    child_await(&looker, 'l');
    child_go(&looker);
    child_killed(&looker);
    close(stay_open[0]);
    fd = open("db-lockstep", O_RDWR | O_CLOEXEC);
    /* The child may be in the middle of its fork() still, with the handlers to come. */
    while ((status = lks_bytelock_try(fd, LKS_LOCK_DESCRIPTION, LKS_LOCK_EXCLUSIVE, LKS_LOCK_BASE + LKS_BYTE_DMS1, 1)) ==
               LOCKSTEP_BUSY &&
           lks_clock_ns() < begun + 3000 * LKS_NS_PER_MS)
        lks_clock_nap_ms(1);
    ck_assert_int_eq(status, LOCKSTEP_OK);
    close(fd);
    /* All the while it was there: it has the other end. */
    ck_assert_int_eq(write(stay_open[1], "", 1), 1);
    close(stay_open[1]);
}
END_TEST
#endif

/* As the stock SQLite of another process would: with a description of its own. */
START_TEST(it_keeps_stock_writers_out_like_a_stock_reader_and_gives_way_like_one)
{
    struct lockstep_conn *conn, *late;
    struct lockstep_db *db = stand_by(&conn);
    int fd = open("db", O_RDWR | O_CLOEXEC);
    late = api_connect(db);
    ck_assert_int_eq(lockstep_conn_begin(conn), LOCKSTEP_OK);
    ck_assert_int_eq(lks_bytelock_try(fd, LKS_LOCK_DESCRIPTION, LKS_LOCK_EXCLUSIVE, LKS_SQLITE_PENDING, 1),
                     LOCKSTEP_OK);
    ck_assert_int_eq(lks_bytelock_try(fd, LKS_LOCK_DESCRIPTION, LKS_LOCK_EXCLUSIVE, LKS_SQLITE_SHARED_FIRST,
                                      LKS_SQLITE_SHARED_SIZE),
                     LOCKSTEP_BUSY);
    ck_assert_int_eq(lockstep_conn_begin(late), LOCKSTEP_BUSY);
    lockstep_conn_end(conn);
    ck_assert_int_eq(lks_bytelock_try(fd, LKS_LOCK_DESCRIPTION, LKS_LOCK_EXCLUSIVE, LKS_SQLITE_SHARED_FIRST,
                                      LKS_SQLITE_SHARED_SIZE),
                     LOCKSTEP_OK);
    ck_assert_int_eq(lockstep_conn_begin(conn), LOCKSTEP_BUSY);
    close(fd);
    ck_assert_int_eq(lockstep_conn_begin(conn), LOCKSTEP_OK);
    lockstep_conn_close(late);
    close_reader(db, conn);
}
END_TEST

static void
be_alone(struct child *self)
{
    struct lockstep_options options = {.single_process = 1};
    struct lockstep_db *db;
    child_step(self, 's');
    db = api_open(&options);
    child_step(self, 'a');
    child_check(lockstep_db_close(db) == LOCKSTEP_OK);
}

START_TEST(beside_one_that_uses_it_alone_it_is_busy)
{
    struct lockstep_db *db = NULL;
    struct lockstep_conn *conn;
    struct child child;
    child_start(&child, be_alone);
    child_await(&child, 's');
    child_go(&child);
    child_await(&child, 'a');
    ck_assert_int_eq(lockstep_db_open("db", &reading, &db), LOCKSTEP_OK);
    ck_assert_int_eq(lockstep_db_attach(db), LOCKSTEP_BUSY);
    child_kill(&child);
    /* Its mark says that there is nothing to be had of it. */
    ck_assert_int_eq(lockstep_db_attach(db), LOCKSTEP_OK);
    conn = api_connect(db);
    ck_assert_str_eq(api_read(conn, 0, 5), "");
    close_reader(db, conn);
}
END_TEST

int
main(void)
{
    Suite *suite = suite_create("private views and others");
    TCase *tcase = coordtest_case(suite, "somebody comes");
    tcase_add_test(tcase, a_writer_that_comes_commits_and_nothing_is_written_behind_under_a_reader);
    tcase_add_test(tcase, threads_on_standby_read_whole_commits_and_join_who_comes);
    tcase_add_test(tcase, a_view_that_is_carried_across_fork_is_of_no_use_there_and_kept_here);
    tcase_add_test(tcase, a_writer_that_adopts_waits_for_a_reader_to_end);
#ifdef LKS_DEBUG
    tcase_add_loop_test(tcase, who_comes_between_two_looks_is_found, 0, 2);
    tcase_add_test(tcase, a_child_that_is_forked_while_it_looks_keeps_nobody_from_connecting);
    tcase_add_test(tcase, a_child_that_outlives_who_was_killed_while_it_looked_keeps_nobody_from_connecting);
#endif
    tcase_add_test(tcase, it_keeps_stock_writers_out_like_a_stock_reader_and_gives_way_like_one);
    tcase_add_test(tcase, beside_one_that_uses_it_alone_it_is_busy);
    return coordtest_main(suite);
}
