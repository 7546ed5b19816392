/*
 * Clients that only read a database that is live: DMS3.
 *
 * Made to fail by: taking DMS2 in place of DMS3 (attach_locked); removing the coordination file beside DMS3 (leave_last);
 * setting it aside or removing it beside DMS3 (replace_unfit); leaving preserve() out of lks_announce(); adopting nothing
 * where only readers are connected; starting the worker thread for a client that only reads.
 */
#include "api/enginetest.h"

#include <grp.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/crashpoint.h"
#include "coord/lockset.h"

static const struct lockstep_options reading = {.readonly = 1};

/* The steps of a writer: 'a' it is connected and has committed the first; at each 'c' one more; then it leaves. */
static void
write_letters(struct child *self)
{
    struct lockstep_options options = {.max_lag_ms = 3600000};
    struct lockstep_db *db;
    struct lockstep_conn *conn;
    int i;
    child_step(self, 's');
    db = api_open(&options);
    conn = api_connect(db);
    api_write(conn, 5000, "a", LOCKSTEP_ASYNC);
    child_step(self, 'a');
    for (i = 1; i < 4; i++) {
        char text[2] = {(char)('a' + i), '\0'};
        api_write(conn, 5000, text, LOCKSTEP_ASYNC);
        child_step(self, 'c');
    }
    lockstep_conn_close(conn);
    child_check(lockstep_db_close(db) == LOCKSTEP_OK);
}

static void
start(struct child *child, void (*run)(struct child *self))
{
    child_start(child, run);
    child_await(child, 's');
}

static void
let_to(struct child *child, char letter)
{
    child_go(child);
    child_await(child, letter);
}

static bool
is_live(const struct lockstep_db *db)
{
    return lks_a32_acquire(&db->attached) != 0;
}

/* Joins as one who only reads: it is of DMS3, and of nothing else. */
static struct lockstep_db *
join_reading(void)
{
    struct lockstep_db *db = api_open(&reading);
    ck_assert(is_live(db));
    ck_assert(lks_lockset_holds(&db->locks, LKS_BYTE_DMS3));
    ck_assert(!lks_lockset_holds(&db->locks, LKS_BYTE_DMS2));
    ck_assert(!lks_lockset_holds(&db->locks, LKS_BYTE_WORKER));
    return db;
}

START_TEST(it_sees_each_commit_and_stays_when_the_last_writer_leaves)
{
    struct lockstep_db *db;
    struct lockstep_conn *conn;
    struct child writer, next;
    start(&writer, write_letters);
    start(&next, write_letters);
    let_to(&writer, 'a');
    db = join_reading();
    conn = api_connect(db);
    ck_assert_str_eq(api_read(conn, 5000, 1), "a");
    ck_assert_int_eq(lockstep_conn_begin(conn), LOCKSTEP_OK);
    ck_assert_int_eq(lockstep_conn_write_begin(conn, 0), LOCKSTEP_READONLY);
    lockstep_conn_end(conn);
    ck_assert_int_eq(lockstep_db_run(db), LOCKSTEP_READONLY);
    ck_assert_int_eq(lockstep_db_checkpoint(db, NULL), LOCKSTEP_READONLY);
    let_to(&writer, 'c');
    ck_assert_str_eq(api_read(conn, 5000, 1), "b");
    let_to(&writer, 'c');
    let_to(&writer, 'c');
    child_go(&writer);
    child_end(&writer);
    /* The last that writes has left: all is in the file, and the reader reads on. */
    ck_assert(file_exists("db-lockstep") && !file_exists("db-journal"));
    ck_assert_str_eq(api_read(conn, 5000, 1), "d");
    /* The next that writes joins the same coordination file, and the reader sees that, too. */
    let_to(&next, 'a');
    ck_assert_str_eq(api_read(conn, 5000, 1), "a");
    let_to(&next, 'c');
    ck_assert_str_eq(api_read(conn, 5000, 1), "b");
    lockstep_conn_close(conn);
    ck_assert_int_eq(lockstep_db_close(db), LOCKSTEP_OK);
    let_to(&next, 'c');
    let_to(&next, 'c');
    child_go(&next);
    child_end(&next);
    /* Nobody reads now. */
    ck_assert(!file_exists("db-lockstep"));
}
END_TEST

START_TEST(the_file_that_a_reader_leaves_behind_goes_with_the_next_writer)
{
    struct lockstep_db *db;
    struct child writer;
    start(&writer, write_letters);
    let_to(&writer, 'a');
    db = join_reading();
    let_to(&writer, 'c');
    let_to(&writer, 'c');
    let_to(&writer, 'c');
    child_go(&writer);
    child_end(&writer);
    ck_assert_int_eq(lockstep_db_close(db), LOCKSTEP_OK);
    ck_assert(file_exists("db-lockstep"));
    db = api_open(NULL);
    ck_assert_int_eq(lockstep_db_close(db), LOCKSTEP_OK);
    ck_assert(!file_exists("db-lockstep"));
}
END_TEST

/* A snapshot that is older than the writer's death, and than the batch of who comes after it. */
START_TEST(when_the_last_writer_dies_it_reads_on_and_the_next_writer_adopts_beside_it)
{
    struct lockstep_db *db;
    struct lockstep_conn *conn, *old;
    struct child writer, next;
    char byte = 0;
    size_t got = 0;
    start(&writer, write_letters);
    start(&next, write_letters);
    let_to(&writer, 'a');
    db = join_reading();
    conn = api_connect(db);
    old = api_connect(db);
    ck_assert_int_eq(lockstep_conn_begin(old), LOCKSTEP_OK);
    let_to(&writer, 'c');
    let_to(&writer, 'c');
    child_kill(&writer);
    ck_assert_str_eq(api_read(conn, 5000, 1), "c");
    let_to(&next, 'a');
    disk_read("db", 5000, &byte, 1); /* adopted: "c" was written when it connected */
    ck_assert_int_eq(byte, 'c');
    ck_assert_str_eq(api_read(conn, 5000, 1), "a");
    ck_assert_int_eq(lockstep_conn_read(old, 5000, &byte, 1, &got), LOCKSTEP_OK);
    ck_assert_int_eq(byte, 'a');
    lockstep_conn_end(old);
    let_to(&next, 'c');
    let_to(&next, 'c');
    let_to(&next, 'c');
    child_go(&next);
    child_end(&next);
    ck_assert_str_eq(api_read(conn, 5000, 1), "d");
    ck_assert(file_exists("db-lockstep") && !file_exists("db-lockstep.orphan-1"));
    lockstep_conn_close(old);
    lockstep_conn_close(conn);
    ck_assert_int_eq(lockstep_db_close(db), LOCKSTEP_OK);
}
END_TEST

#ifdef LKS_DEBUG
static const char *const batch_points[] = {"batch:announced", "batch:wrote-run", "batch:synced", "batch:invalidated"};
static int batch_point;

/* Dies in a batch of its own. */
static void
die_in_a_batch(struct child *self)
{
    struct lockstep_options options = {.max_lag_ms = 3600000};
    struct lockstep_db *db;
    struct lockstep_conn *conn;
    child_step(self, 's');
    db = api_open(&options);
    conn = api_connect(db);
    api_write(conn, 5000, "1", LOCKSTEP_FULL_SYNC);
    child_step(self, 'a');
    api_write(conn, 5000, "2", LOCKSTEP_ASYNC);
    api_write(conn, 0, "!", LOCKSTEP_ASYNC);
    lks_crash_arm(batch_points[batch_point], 1);
    (void)lockstep_db_checkpoint(db, NULL);
}

START_TEST(when_the_worker_dies_in_a_batch_both_snapshots_are_whole)
{
    struct lockstep_db *db;
    struct lockstep_conn *conn, *old;
    struct child worker, next;
    char byte = 0;
    size_t got = 0;
    batch_point = _i;
    /* Of this no version is in the store when the batch comes. */
    disk_write("db", 0, "z", 1);
    start(&worker, die_in_a_batch);
    start(&next, write_letters);
    let_to(&worker, 'a');
    db = join_reading();
    conn = api_connect(db);
    old = api_connect(db);
    ck_assert_int_eq(lockstep_conn_begin(old), LOCKSTEP_OK);
    child_go(&worker);
    ck_assert_int_eq(read(worker.fd, &byte, 1), 0);
    child_kill(&worker);
    ck_assert_str_eq(api_read(conn, 5000, 1), "2");
    ck_assert_str_eq(api_read(conn, 0, 1), "!");
    ck_assert_int_eq(lockstep_conn_read(old, 5000, &byte, 1, &got), LOCKSTEP_OK);
    ck_assert_int_eq(byte, '1');
    ck_assert_int_eq(lockstep_conn_read(old, 0, &byte, 1, &got), LOCKSTEP_OK);
    ck_assert_int_eq(byte, 'z');
    let_to(&next, 'a');
    ck_assert_str_eq(api_read(conn, 5000, 1), "a");
    ck_assert_int_eq(lockstep_conn_read(old, 0, &byte, 1, &got), LOCKSTEP_OK);
    ck_assert_int_eq(byte, 'z');
    lockstep_conn_close(old);
    lockstep_conn_close(conn);
    ck_assert_int_eq(lockstep_db_close(db), LOCKSTEP_OK);
    child_kill(&next);
}
END_TEST
#endif

static void
be_refused(struct child *self)
{
    struct lockstep_db *db = NULL;
    child_step(self, 's');
    child_check(lockstep_db_open("db", NULL, &db) == LOCKSTEP_OK);
    child_check(lockstep_db_attach(db) == LOCKSTEP_CORRUPT);
    child_check(logged("read-only clients are connected through it"));
    child_check(lockstep_db_close(db) == LOCKSTEP_OK);
}

/* With a new file of the name the reader would be alone with the old one, and what it reads unprotected. */
START_TEST(a_coordination_file_that_does_not_fit_is_not_taken_away_from_a_reader)
{
    struct lockstep_db *db;
    struct lockstep_conn *conn;
    struct child writer, next;
    struct stat before, after;
    start(&writer, write_letters);
    start(&next, be_refused);
    let_to(&writer, 'a');
    db = join_reading();
    conn = api_connect(db);
    child_kill(&writer);
    ck_assert_int_eq(truncate("db", 9000), 0);
    ck_assert_int_eq(stat("db-lockstep", &before), 0);
    child_go(&next);
    child_end(&next);
    ck_assert_int_eq(stat("db-lockstep", &after), 0);
    ck_assert_uint_eq(after.st_ino, before.st_ino);
    ck_assert_str_eq(api_read(conn, 5000, 1), "a");
    lockstep_conn_close(conn);
    ck_assert_int_eq(lockstep_db_close(db), LOCKSTEP_OK);
}
END_TEST

/* The user nobody, or, where we are not root, ourselves without the permission. */
static void
become_nobody(void)
{
    if (geteuid() != 0)
        return;
    child_check(setgroups(0, NULL) == 0 && setgid(65534) == 0 && setuid(65534) == 0);
}

static void
read_as_nobody(struct child *self)
{
    struct lockstep_db *db = NULL;
    become_nobody();
    child_step(self, 's');
    child_check(lockstep_db_open("db", &reading, &db) == LOCKSTEP_OK);
    child_check(lockstep_db_attach(db) == LOCKSTEP_READONLY);
    child_check(logged("cannot write") && logged("db-lockstep"));
    child_step(self, 'r');
    /* Nobody is there now. */
    child_check(lockstep_db_attach(db) == LOCKSTEP_OK);
    child_check(lockstep_db_close(db) == LOCKSTEP_OK);
}

START_TEST(one_who_may_not_write_the_coordination_file_is_told_so)
{
    struct child writer, nobody;
    ck_assert_int_eq(chmod("..", 0755), 0);
    start(&writer, write_letters);
    let_to(&writer, 'a');
    ck_assert_int_eq(chmod("db-lockstep", 0444), 0);
    start(&nobody, read_as_nobody);
    let_to(&nobody, 'r');
    let_to(&writer, 'c');
    let_to(&writer, 'c');
    let_to(&writer, 'c');
    child_go(&writer);
    child_end(&writer);
    child_go(&nobody);
    child_end(&nobody);
}
END_TEST

int
main(void)
{
    Suite *suite = suite_create("readonly");
    TCase *tcase = coordtest_case(suite, "readonly");
    tcase_add_test(tcase, it_sees_each_commit_and_stays_when_the_last_writer_leaves);
    tcase_add_test(tcase, the_file_that_a_reader_leaves_behind_goes_with_the_next_writer);
    tcase_add_test(tcase, when_the_last_writer_dies_it_reads_on_and_the_next_writer_adopts_beside_it);
#ifdef LKS_DEBUG
    tcase_add_loop_test(tcase, when_the_worker_dies_in_a_batch_both_snapshots_are_whole, 0, 4);
#endif
    tcase_add_test(tcase, a_coordination_file_that_does_not_fit_is_not_taken_away_from_a_reader);
    tcase_add_test(tcase, one_who_may_not_write_the_coordination_file_is_told_so);
    return coordtest_main(suite);
}
