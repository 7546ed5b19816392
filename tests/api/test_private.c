/*
 * Clients that only read a database that nobody is connected to: they see what killed processes committed, and write nothing.
 * Who comes meanwhile is test_private_company's.
 *
 * Made to fail by: lay_commits() left out, or taking blocks beyond `committed`, or the oldest of a unit; the journal not
 * played back (read_base); a journal that is played back into the file; reading on with another's format; leaving byte 18 as
 * it is; keeping the copy of the list of free blocks when somebody has come (of_view); begin_at or work_begin that say MISUSE
 * where nobody is connected.
 */
#include "api/privatetest.h"

#include <grp.h>
#include <sqlite3.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <lockstep/lockstep.h>

#include "base/crashpoint.h"
#include "shm/layout.h"

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

/* What is asked of the memory that clients share: there is none. */
START_TEST(where_nobody_is_connected_there_is_nobody_to_ask_about)
{
    struct lockstep_lock_holder holder;
    struct lockstep_conn *conn;
    struct lockstep_db *db = stand_by(&conn);
    uint64_t snapshot = 0;
    size_t count = 0;
    int used = 0;
    char line[40];
    ck_assert_uint_eq(lockstep_db_slot(db), UINT32_MAX);
    ck_assert_int_eq(lockstep_db_clients(db, NULL, 0, &count), LOCKSTEP_READONLY);
    ck_assert_int_eq(lockstep_db_snapshot_in_use(db, 1, &used), LOCKSTEP_READONLY);
    ck_assert_int_eq(lockstep_db_snapshot_oldest(db, &snapshot), LOCKSTEP_READONLY);
    ck_assert_int_eq(lockstep_db_lock_test(db, LOCKSTEP_LOCK_WRITER, LOCKSTEP_SHARED, &holder), LOCKSTEP_READONLY);
    ck_assert_int_eq(lockstep_conn_begin_at(conn, 1), LOCKSTEP_READONLY);
    ck_assert_int_eq(lockstep_conn_work_begin(conn), LOCKSTEP_READONLY);
    ck_assert_int_eq(lockstep_conn_work_end(conn), LOCKSTEP_MISUSE);
    ck_assert_int_eq(lockstep_conn_begin(conn), LOCKSTEP_OK);
    ck_assert_int_eq(lockstep_conn_begin_at(conn, 1), LOCKSTEP_MISUSE);
    ck_assert_int_eq(lockstep_conn_work_begin(conn), LOCKSTEP_READONLY);
    ck_assert_int_eq(lockstep_conn_holds(conn, LOCKSTEP_LOCK_SNAPSHOT), LOCKSTEP_UNLOCKED);
    ck_assert_uint_gt(lockstep_conn_locks(conn, line, sizeof line), 0);
    ck_assert_str_eq(line, "no connection");
    close_reader(db, conn);
}
END_TEST

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

static void
run_to_its_death(void (*run)(struct child *self))
{
    struct child child;
    child_start(&child, run);
    child_await(&child, 's');
    child_go(&child);
    child_killed(&child);
}

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
    tcase_add_test(tcase, where_nobody_is_connected_there_is_nobody_to_ask_about);
    tcase_add_test(tcase, it_sees_every_commit_of_killed_processes_and_writes_nothing);
    tcase_add_test(tcase, it_walks_the_list_of_free_blocks_of_which_none_is_usable);
    tcase_add_test(tcase, it_needs_no_permission_to_write_anything);
    tcase_add_test(tcase, without_permission_to_read_the_coordination_file_it_says_so);
#ifdef LKS_DEBUG
    tcase_add_loop_test(tcase, a_reader_that_dies_leaves_nothing, 0, READING_POINTS);
    tcase_add_loop_test(tcase, beside_a_hot_journal_it_sees_every_commit_and_writes_nothing, 0, 4);
    tcase_add_loop_test(tcase, with_the_journal_alone_it_sees_what_was_before_the_batch, 0, 3);
#endif
    tcase = coordtest_case(suite, "what does not apply");
    tcase_add_loop_test(tcase, a_coordination_file_that_is_of_no_use_is_passed_over_loudly, 0,
                        sizeof damages / sizeof *damages);
    tcase_add_test(tcase, commits_of_another_format_are_refused);
    tcase_add_loop_test(tcase, of_a_sqlite_database_it_sees_the_commits_and_not_the_tripwire, 0, 2);
    return coordtest_main(suite);
}
