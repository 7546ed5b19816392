/*
 * Clients that only read a database that nobody is connected to: they see what killed processes committed, and write nothing.
 *
 * Made to fail by: lay_commits() left out, or taking blocks beyond `committed`, or the oldest of a unit; the journal not
 * played back (read_base); a journal that is played back into the file; no SHARED lock, or one for the first of two
 * only (lks_lockset_stock_read); not looking for who is connected (hold_still, lks_private_open), or not again (look_locked);
 * closing the coordination file where another thread has attached; reading on with another's format; leaving byte 18 as
 * it is; keeping the copy of the list of free blocks when somebody has come (of_view).
 */
#include "api/enginetest.h"

#include <fcntl.h>
#include <grp.h>
#include <pthread.h>
#include <sqlite3.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <lockstep/lockstep.h>

#include "base/clock.h"
#include "base/crashpoint.h"
#include "coord/lockset.h"

static const struct lockstep_options reading = {.readonly = 1};

/* All that there may be beside the database, and how it is. */
struct picture {
    uint64_t sums[4];
};

static struct picture
take_picture(void)
{
    struct picture picture = {{disk_sum("db"), disk_sum("db-lockstep"), disk_sum("db-journal"),
                               disk_sum("db-lockstep.orphan-1")}};
    return picture;
}

static void
expect_picture(const struct picture *before)
{
    struct picture now = take_picture();
    ck_assert_mem_eq(&now, before, sizeof now);
}

static bool
is_live(const struct lockstep_db *db)
{
    return lks_a32_acquire(&db->attached) != 0;
}

static void
close_reader(struct lockstep_db *db, struct lockstep_conn *conn)
{
    lockstep_conn_close(conn);
    ck_assert_int_eq(lockstep_db_close(db), LOCKSTEP_OK);
}

static struct lockstep_db *
stand_by(struct lockstep_conn **out_conn)
{
    struct lockstep_db *db = api_open(&reading);
    ck_assert(!is_live(db));
    *out_conn = api_connect(db);
    return db;
}

/* Commits that nobody writes behind but the first, "one" to "three" over each other and across units; then a write that is not one. */
static void
leave_commits(struct child *self)
{
    struct lockstep_options options = {.no_worker = 1};
    struct lockstep_db *db;
    struct lockstep_conn *conn;
    child_step(self, 's');
    db = api_open(&options);
    conn = api_connect(db);
    api_write(conn, 4094, "one..", LOCKSTEP_FULL_SYNC);
    api_write(conn, 4094, "two..", LOCKSTEP_ASYNC);
    /* For its sake that version stays behind the newest. */
    child_check(lockstep_conn_begin(api_connect(db)) == LOCKSTEP_OK);
    api_write(conn, 4094, "three", LOCKSTEP_OFF);
    api_write(conn, 20000, "far", LOCKSTEP_ASYNC);
    api_begin_writing(conn);
    child_check(lockstep_conn_write(conn, 4094, "never", 5) == LOCKSTEP_OK);
    child_check(lockstep_conn_write(conn, 0, "never", 5) == LOCKSTEP_OK);
    child_step(self, 'a');
}

static void
run_and_kill(void (*run)(struct child *self))
{
    struct child child;
    child_start(&child, run);
    child_await(&child, 's');
    child_go(&child);
    child_await(&child, 'a');
    child_kill(&child);
}

START_TEST(where_nothing_is_beside_the_file_it_is_read_as_it_is)
{
    struct picture before;
    struct lockstep_db_info info;
    struct lockstep_conn *conn;
    struct lockstep_db *db;
    uint64_t size = 0;
    disk_write("db", 100, "content", 7);
    before = take_picture();
    db = stand_by(&conn);
    ck_assert_str_eq(api_read(conn, 100, 7), "content");
    ck_assert_int_eq(lockstep_conn_begin(conn), LOCKSTEP_OK);
    ck_assert_int_eq(lockstep_conn_size(conn, &size), LOCKSTEP_OK);
    ck_assert_uint_eq(size, 10000);
    ck_assert_uint_eq(lockstep_conn_snapshot(conn), 1);
    ck_assert_int_eq(lockstep_conn_write_begin(conn, 0), LOCKSTEP_READONLY);
    lockstep_conn_end(conn);
    ck_assert_int_eq(lockstep_db_info(db, &info), LOCKSTEP_READONLY);
    ck_assert_int_eq(lockstep_db_wait(db, 1, 0), LOCKSTEP_READONLY);
    ck_assert_int_eq(lockstep_db_run(db), LOCKSTEP_READONLY);
    ck_assert_int_eq(lockstep_db_checkpoint(db, NULL), LOCKSTEP_READONLY);
    close_reader(db, conn);
    expect_picture(&before);
}
END_TEST

static void
expect_all_commits(struct lockstep_conn *conn)
{
    uint64_t size = 0;
    ck_assert_str_eq(api_read(conn, 4094, 5), "three");
    ck_assert_str_eq(api_read(conn, 0, 5), "");
    ck_assert_str_eq(api_read(conn, 20000, 10), "far");
    ck_assert_int_eq(lockstep_conn_begin(conn), LOCKSTEP_OK);
    ck_assert_int_eq(lockstep_conn_size(conn, &size), LOCKSTEP_OK);
    ck_assert_uint_eq(size, 20003);
    lockstep_conn_end(conn);
}

START_TEST(it_sees_every_commit_of_killed_processes_and_writes_nothing)
{
    struct picture before;
    struct lockstep_conn *conn;
    struct lockstep_db *db;
    run_and_kill(leave_commits);
    before = take_picture();
    db = stand_by(&conn);
    expect_all_commits(conn);
    ck_assert(logged("reading 3 commits"));
    close_reader(db, conn);
    expect_picture(&before);
    /* Who writes finds all that they left, and the same. */
    db = api_open(NULL);
    conn = api_connect(db);
    expect_all_commits(conn);
    close_reader(db, conn);
    db = stand_by(&conn);
    expect_all_commits(conn);
    close_reader(db, conn);
}
END_TEST

/* A list of free blocks with an entry of the last commit; then it dies, with all of it in the store. */
static void
leave_free_blocks(struct child *self)
{
    struct lockstep_options options = {.no_worker = 1};
    struct lockstep_conn *conn;
    child_step(self, 's');
    conn = api_connect(api_open(&options));
    api_begin_writing(conn);
    child_check(lockstep_conn_block_format(conn, 100, 512) == LOCKSTEP_OK);
    api_commit(conn, LOCKSTEP_ASYNC);
    api_begin_writing(conn);
    child_check(lockstep_conn_block_free(conn, 7) == LOCKSTEP_OK);
    child_check(lockstep_conn_block_free(conn, 9) == LOCKSTEP_OK);
    api_commit(conn, LOCKSTEP_ASYNC);
    child_step(self, 'a');
}

/* Connects, and waits for its end. */
static void
stay(struct child *self)
{
    child_step(self, 's');
    (void)api_connect(api_open(NULL));
    child_step(self, 'a');
}

struct walk {
    uint64_t blocks, freed;
};

static int
add_block(void *arg, uint64_t block, uint64_t freed)
{
    struct walk *walk = arg;
    walk->blocks = walk->blocks * 100 + block;
    walk->freed += freed;
    return 0;
}

/* Blocks 7 and 9, and what may be used of them. */
static void
expect_free_blocks(struct lockstep_conn *conn, uint64_t freed, uint64_t usable)
{
    struct lockstep_block_info info;
    struct walk up = {0, 0}, down = {0, 0};
    ck_assert_int_eq(lockstep_conn_begin(conn), LOCKSTEP_OK);
    ck_assert_int_eq(lockstep_conn_block_info(conn, &info), LOCKSTEP_OK);
    ck_assert_uint_eq(info.free, 2);
    ck_assert_uint_eq(info.usable, usable);
    ck_assert_int_eq(lockstep_conn_block_walk(conn, 0, add_block, &up), LOCKSTEP_OK);
    ck_assert_int_eq(lockstep_conn_block_walk(conn, 1, add_block, &down), LOCKSTEP_OK);
    ck_assert_uint_eq(up.blocks, 709);
    ck_assert_uint_eq(down.blocks, 907);
    ck_assert_uint_eq(up.freed, freed);
    lockstep_conn_end(conn);
    ck_assert_int_eq(lockstep_conn_block_walk(conn, 0, add_block, &up), LOCKSTEP_MISUSE);
}

START_TEST(it_walks_the_list_of_free_blocks_of_which_none_is_usable)
{
    struct picture before;
    struct lockstep_conn *conn;
    struct lockstep_db *db;
    uint64_t snapshot, block = 0;
    struct child child;
    run_and_kill(leave_free_blocks);
    before = take_picture();
    db = stand_by(&conn);
    ck_assert_int_eq(lockstep_conn_block_open(conn, 100), LOCKSTEP_OK);
    ck_assert_int_eq(lockstep_conn_begin(conn), LOCKSTEP_OK);
    snapshot = lockstep_conn_snapshot(conn);
    ck_assert_int_eq(lockstep_conn_block_alloc(conn, 0, &block), LOCKSTEP_MISUSE);
    lockstep_conn_end(conn);
    expect_free_blocks(conn, 2 * snapshot, 0);
    close_reader(db, conn);
    expect_picture(&before);
    /* The last one leaves; whose count the numbers are of is not known now. */
    db = api_open(NULL);
    close_reader(db, api_connect(db));
    db = stand_by(&conn);
    ck_assert_int_eq(lockstep_conn_block_open(conn, 100), LOCKSTEP_OK);
    expect_free_blocks(conn, 2 * snapshot, 0);
    /* Somebody comes, and the reader joins: the same root, and another life. */
    child_start(&child, stay);
    child_await(&child, 's');
    child_go(&child);
    child_await(&child, 'a');
    expect_free_blocks(conn, 0, 2);
    ck_assert(is_live(db));
    child_kill(&child);
    close_reader(db, conn);
}
END_TEST

static void
become_nobody(void)
{
    if (geteuid() == 0)
        child_check(setgroups(0, NULL) == 0 && setgid(65534) == 0 && setuid(65534) == 0);
}

static void
read_as_nobody(struct child *self)
{
    struct lockstep_db *db;
    struct lockstep_conn *conn;
    become_nobody();
    child_step(self, 's');
    db = stand_by(&conn);
    expect_all_commits(conn);
    ck_assert_int_ne(access("db", W_OK), 0);
    ck_assert_int_ne(access("db-lockstep", W_OK), 0);
    ck_assert_int_ne(access(".", W_OK), 0);
    child_step(self, 'r');
    close_reader(db, conn);
}

START_TEST(it_needs_no_permission_to_write_anything)
{
    struct picture before;
    struct child nobody;
    run_and_kill(leave_commits);
    ck_assert_int_eq(chmod("..", 0755), 0);
    ck_assert(chmod("db", 0444) == 0 && chmod("db-lockstep", 0444) == 0);
    if (file_exists("db-journal"))
        ck_assert_int_eq(chmod("db-journal", 0444), 0);
    ck_assert_int_eq(chmod(".", 0555), 0);
    before = take_picture();
    child_start(&nobody, read_as_nobody);
    child_await(&nobody, 's');
    child_go(&nobody);
    child_await(&nobody, 'r');
    child_go(&nobody);
    child_end(&nobody);
    expect_picture(&before);
    ck_assert_int_eq(chmod(".", 0755), 0);
}
END_TEST

START_TEST(without_permission_to_read_the_coordination_file_it_says_so)
{
    struct lockstep_db *db = NULL;
    if (geteuid() == 0)
        return; /* root reads everything */
    run_and_kill(leave_commits);
    ck_assert_int_eq(chmod("db-lockstep", 0), 0);
    ck_assert_int_eq(lockstep_db_open("db", &reading, &db), LOCKSTEP_OK);
    ck_assert_int_eq(lockstep_db_attach(db), LOCKSTEP_CANTOPEN);
    ck_assert(logged("cannot be read"));
    ck_assert_int_eq(lockstep_db_close(db), LOCKSTEP_OK);
}
END_TEST

/* ---------------------------------------------------------------------------------------- a hot journal */

#ifdef LKS_DEBUG
static const char *const reading_points[] = {"private:nobody", "private:looked", "private:rolled-back", "private:read"};
#define READING_POINTS 4
static int reading_point;

static void
die_reading(struct child *self)
{
    struct lockstep_conn *conn;
    child_step(self, 's');
    lks_crash_arm(reading_points[reading_point], 1);
    (void)stand_by(&conn);
}

static void run_to_its_death(void (*run)(struct child *self));

START_TEST(a_reader_that_dies_leaves_nothing)
{
    struct picture before;
    struct lockstep_conn *conn;
    struct lockstep_db *db;
    run_and_kill(leave_commits);
    before = take_picture();
    reading_point = _i;
    run_to_its_death(die_reading);
    expect_picture(&before);
    db = api_open(NULL);
    conn = api_connect(db);
    expect_all_commits(conn);
    close_reader(db, conn);
}
END_TEST

static const char *const batch_points[] = {"batch:wrote-run", "batch:wrote-all", "batch:synced", "batch:invalidated"};
static int batch_point;

/* Dies in a batch that changes the file, makes it longer, and is the second one. */
static void
die_in_a_batch(struct child *self)
{
    struct lockstep_options options = {.no_worker = 1};
    struct lockstep_db *db;
    struct lockstep_conn *conn;
    child_step(self, 's');
    db = api_open(&options);
    conn = api_connect(db);
    api_write(conn, 4094, "old..", LOCKSTEP_FULL_SYNC);
    api_write(conn, 4094, "three", LOCKSTEP_ASYNC);
    api_write(conn, 20000, "far", LOCKSTEP_ASYNC);
    lks_crash_arm(batch_points[batch_point], 1);
    (void)lockstep_db_checkpoint(db, NULL);
}

static void
run_to_its_death(void (*run)(struct child *self))
{
    struct child child;
    char byte;
    child_start(&child, run);
    child_await(&child, 's');
    child_go(&child);
    ck_assert_int_eq(read(child.fd, &byte, 1), 0);
    child_kill(&child);
}

START_TEST(beside_a_hot_journal_it_sees_every_commit_and_writes_nothing)
{
    struct picture before;
    struct lockstep_conn *conn;
    struct lockstep_db *db;
    batch_point = _i;
    run_to_its_death(die_in_a_batch);
    before = take_picture();
    ck_assert_uint_ne(before.sums[2], 0);
    db = stand_by(&conn);
    expect_all_commits(conn);
    close_reader(db, conn);
    expect_picture(&before);
    ck_assert(!logged("passed over"));
}
END_TEST

/* Somebody took the coordination file away: what is left is the state before the batch, whole. */
START_TEST(with_the_journal_alone_it_sees_what_was_before_the_batch)
{
    struct picture before;
    struct lockstep_conn *conn;
    struct lockstep_db *db;
    char torn[6] = "";
    batch_point = _i;
    run_to_its_death(die_in_a_batch);
    disk_read("db", 4094, torn, 5);
    ck_assert_str_ne(torn, "old..");
    ck_assert_int_eq(unlink("db-lockstep"), 0);
    before = take_picture();
    db = stand_by(&conn);
    ck_assert_str_eq(api_read(conn, 4094, 5), "old..");
    ck_assert_str_eq(api_read(conn, 20000, 3), "");
    ck_assert(logged("which stays as it is"));
    close_reader(db, conn);
    expect_picture(&before);
}
END_TEST
#endif

/* ---------------------------------------------------------------------------------------- who comes meanwhile */

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

/* -------------------------------------------------------------------------------------- what does not apply */

static void
scribble(void)
{
    disk_write("db-lockstep", 80, "scribble", 8);
}

static void
cut(void)
{
    ck_assert_int_eq(truncate("db-lockstep", 300000), 0);
}

static void
change_the_database(void)
{
    ck_assert_int_eq(truncate("db", 9000), 0);
}

/* The first bucket that is used leads nowhere. */
static void
break_a_chain(void)
{
    uint32_t bucket, nowhere = 0x7fffffff;
    uint64_t at = offsetof(struct lks_shm, buckets);
    for (bucket = 0; bucket == 0; at += 4)
        disk_read("db-lockstep", at, &bucket, 4);
    disk_write("db-lockstep", at - 4, &nowhere, 4);
}

static void
end_before_the_chunks(void)
{
    ck_assert_int_eq(truncate("db-lockstep", (off_t)LKS_SHM_BYTES + 4096), 0);
}

static const struct {
    void (*damage)(void);
    const char *words;
} damages[] = {
    {scribble, "is passed over"},
    {cut, "is passed over"},
    {change_the_database, "which somebody else has changed since; it is passed over"},
    {break_a_chain, "is damaged inside; it is passed over"},
    {end_before_the_chunks, "is damaged inside; it is passed over"},
};

START_TEST(a_coordination_file_that_is_of_no_use_is_passed_over_loudly)
{
    struct picture before;
    struct lockstep_conn *conn;
    struct lockstep_db *db;
    run_and_kill(leave_commits);
    damages[_i].damage();
    before = take_picture();
    db = stand_by(&conn);
    ck_assert(logged(damages[_i].words));
    ck_assert_str_eq(api_read(conn, 4094, 5), "one..");
    close_reader(db, conn);
    expect_picture(&before);
}
END_TEST

START_TEST(commits_of_another_format_are_refused)
{
    struct lockstep_options other = {.readonly = 1, .format = "other"};
    struct lockstep_db *db = NULL;
    run_and_kill(leave_commits);
    ck_assert_int_eq(lockstep_db_open("db", &other, &db), LOCKSTEP_OK);
    ck_assert_int_eq(lockstep_db_attach(db), LOCKSTEP_FORMAT);
    ck_assert(logged("'other'"));
    ck_assert_int_eq(lockstep_db_close(db), LOCKSTEP_OK);
}
END_TEST

static bool flushed;

static void
leave_sql(struct child *self)
{
    sqlite3 *db = NULL;
    child_step(self, 's');
    child_check(unlink("db") == 0);
    child_check(lockstep_initialize(NULL, 0) == SQLITE_OK);
    child_check(sqlite3_open_v2("file:db?vfs=lockstep&durability=async&worker=off", &db,
                                SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_URI, NULL) == SQLITE_OK);
    child_check(sqlite3_exec(db, "CREATE TABLE t(v); PRAGMA lockstep_flush; INSERT INTO t VALUES('pending row')", NULL,
                             NULL, NULL) == SQLITE_OK);
    if (flushed)
        child_check(sqlite3_exec(db, "PRAGMA lockstep_flush", NULL, NULL, NULL) == SQLITE_OK);
    child_step(self, 'a');
}

START_TEST(of_a_sqlite_database_it_sees_the_commits_and_not_the_tripwire)
{
    struct lockstep_options options = {.readonly = 1, .format = "SQLite"};
    struct lockstep_conn *conn;
    struct lockstep_db *db;
    char page[4096], disk[2];
    size_t got = 0;
    flushed = _i == 1;
    run_and_kill(leave_sql);
    disk_read("db", 18, disk, 1);
    ck_assert_int_eq(disk[0], 3);
    db = api_open(&options);
    conn = api_connect(db);
    ck_assert_int_eq(lockstep_conn_begin(conn), LOCKSTEP_OK);
    ck_assert_int_eq(lockstep_conn_read(conn, 18, page, 1, &got), LOCKSTEP_OK);
    ck_assert_int_eq(page[0], 1);
    ck_assert_int_eq(lockstep_conn_read(conn, 4096, page, sizeof page, &got), LOCKSTEP_OK);
    ck_assert_ptr_nonnull(memmem(page, got, "pending row", 11));
    close_reader(db, conn);
}
END_TEST

int
main(void)
{
    Suite *suite = suite_create("private");
    TCase *tcase = coordtest_case(suite, "nobody is there");
    tcase_add_test(tcase, where_nothing_is_beside_the_file_it_is_read_as_it_is);
    tcase_add_test(tcase, it_sees_every_commit_of_killed_processes_and_writes_nothing);
    tcase_add_test(tcase, it_walks_the_list_of_free_blocks_of_which_none_is_usable);
    tcase_add_test(tcase, it_needs_no_permission_to_write_anything);
    tcase_add_test(tcase, without_permission_to_read_the_coordination_file_it_says_so);
#ifdef LKS_DEBUG
    tcase_add_loop_test(tcase, a_reader_that_dies_leaves_nothing, 0, READING_POINTS);
    tcase_add_loop_test(tcase, beside_a_hot_journal_it_sees_every_commit_and_writes_nothing, 0, 4);
    tcase_add_loop_test(tcase, with_the_journal_alone_it_sees_what_was_before_the_batch, 0, 3);
#endif
    tcase = coordtest_case(suite, "somebody comes");
    tcase_add_test(tcase, a_writer_that_comes_commits_and_nothing_is_written_behind_under_a_reader);
    tcase_add_test(tcase, threads_on_standby_read_whole_commits_and_join_who_comes);
    tcase_add_test(tcase, a_view_that_is_carried_across_fork_is_of_no_use_there_and_kept_here);
    tcase_add_test(tcase, a_writer_that_adopts_waits_for_a_reader_to_end);
#ifdef LKS_DEBUG
    tcase_add_loop_test(tcase, who_comes_between_two_looks_is_found, 0, 2);
#endif
    tcase_add_test(tcase, it_keeps_stock_writers_out_like_a_stock_reader_and_gives_way_like_one);
    tcase_add_test(tcase, beside_one_that_uses_it_alone_it_is_busy);
    tcase = coordtest_case(suite, "what does not apply");
    tcase_add_loop_test(tcase, a_coordination_file_that_is_of_no_use_is_passed_over_loudly, 0,
                        sizeof damages / sizeof *damages);
    tcase_add_test(tcase, commits_of_another_format_are_refused);
    tcase_add_loop_test(tcase, of_a_sqlite_database_it_sees_the_commits_and_not_the_tripwire, 0, 2);
    return coordtest_main(suite);
}
