#include "store/batch.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#include "base/crashpoint.h"
#include "coord/attach.h"
#include "coord/coordtest.h"
#include "store/store.h"
#include "store/transaction.h"

#define UNIT 4096u

/* Its worker does nothing unasked: batches are the test's. */
static struct lockstep_db *
quiet_db(void)
{
    struct lockstep_options options = {.max_lag_ms = 3600000};
    struct lockstep_db *db = NULL;
    ck_assert_int_eq(lks_store_open("db", &options, &lks_io_os, &db), LOCKSTEP_OK);
    ck_assert_int_eq(lks_attach(db, false), LOCKSTEP_OK);
    return db;
}

static struct lockstep_conn *
connect_to(struct lockstep_db *db)
{
    struct lockstep_conn *conn = NULL;
    ck_assert_int_eq(lks_conn_open(db, NULL, &conn), LOCKSTEP_OK);
    return conn;
}

static void
commit_unit(struct lockstep_conn *conn, uint32_t unit_no, int fill)
{
    char data[UNIT];
    uint64_t ticket;
    memset(data, fill, sizeof data);
    ck_assert_int_eq(lks_conn_begin(conn), LOCKSTEP_OK);
    ck_assert_int_eq(lks_conn_write_begin(conn), LOCKSTEP_OK);
    ck_assert_int_eq(lks_conn_write(conn, (uint64_t)unit_no * UNIT, data, sizeof data), LOCKSTEP_OK);
    ck_assert_int_eq(lks_conn_publish(conn, LOCKSTEP_OFF, &ticket), LOCKSTEP_OK);
    lks_conn_write_end(conn);
    lks_conn_end(conn);
}

/* The byte that unit `unit_no` begins with in the file. */
static int
in_file(uint32_t unit_no)
{
    unsigned char byte = 0;
    FILE *file = fopen("db", "r");
    ck_assert_ptr_nonnull(file);
    ck_assert_int_eq(fseek(file, (long)unit_no * (long)UNIT, SEEK_SET), 0);
    ck_assert_uint_eq(fread(&byte, 1, 1, file), 1);
    fclose(file);
    return byte;
}

static void
run_batch(struct lockstep_db *db)
{
    enum lockstep_status status;
    /* BUSY: the worker thread looks whether there is anything to do. */
    while ((status = lks_batch_run(db, NULL)) == LOCKSTEP_BUSY)
        continue;
    ck_assert_int_eq(status, LOCKSTEP_OK);
    ck_assert_uint_eq(lks_a64_acquire(&db->shm->state.flushed),
                      lks_a64_acquire(&db->shm->state.committed));
}

#ifdef LKS_DEBUG
static const char *point;
static struct lockstep_db *hooked;

static void
run_batch_here(const char *name)
{
    if (point == NULL || strcmp(name, point) != 0)
        return;
    point = NULL;
    run_batch(hooked);
}

static const char *const points[] = {"pagetable:linking", "pagetable:linked", "transaction:marked",
                                     "transaction:committing"};

START_TEST(what_is_written_while_a_batch_runs_is_in_the_next_one)
{
    struct lockstep_db *db = quiet_db();
    struct lockstep_conn *conn = connect_to(db);
    commit_unit(conn, 0, 'a');
    run_batch(db); /* from here on only marked buckets are looked at */
    commit_unit(conn, 1, 'b');
    hooked = db;
    point = points[_i];
    lks_crash_hook = run_batch_here;
    commit_unit(conn, 2, 'c');
    ck_assert_ptr_null(point);
    lks_crash_hook = NULL;
    ck_assert_int_eq(in_file(1), 'b');
    run_batch(db);
    ck_assert_int_eq(in_file(2), 'c');
    lks_conn_close(conn);
    close_db(db);
}
END_TEST
#endif

/* What a stock reader holds during its transaction. */
static void
read_as_stock_does(struct child *self)
{
    struct flock lock = {.l_type = F_RDLCK,
                         .l_whence = SEEK_SET,
                         .l_start = (off_t)LKS_SQLITE_SHARED_FIRST,
                         .l_len = (off_t)LKS_SQLITE_SHARED_SIZE};
    int fd = open("db", O_RDONLY);
    child_step(self, 'w');
    child_check(fcntl(fd, F_SETLK, &lock) == 0);
    child_step(self, 'r');
}

START_TEST(a_batch_after_one_that_failed_looks_everywhere)
{
    struct child reader;
    struct lockstep_db *db;
    struct lockstep_conn *conn;
    child_start(&reader, read_as_stock_does);
    child_await(&reader, 'w');
    db = quiet_db();
    conn = connect_to(db);
    commit_unit(conn, 0, 'a');
    run_batch(db);
    commit_unit(conn, 1, 'b');
    child_go(&reader);
    child_await(&reader, 'r');
    ck_assert_int_eq(lks_batch_run(db, NULL), LOCKSTEP_BUSY);
    ck_assert_int_ne(in_file(1), 'b');
    child_kill(&reader);
    run_batch(db);
    ck_assert_int_eq(in_file(1), 'b');
    lks_conn_close(conn);
    close_db(db);
}
END_TEST

#ifdef LKS_DEBUG
static struct child stock_reader;

static void
let_read_here(const char *name)
{
    if (point == NULL || strcmp(name, point) != 0)
        return;
    point = NULL;
    child_go(&stock_reader);
    child_await(&stock_reader, 'r');
}

/* Whoever waits for a commit to be durable may let a stock reader look as soon as it is. */
START_TEST(stock_readers_are_let_in_before_a_batch_is_announced)
{
    struct lockstep_db *db;
    struct lockstep_conn *conn;
    child_start(&stock_reader, read_as_stock_does);
    child_await(&stock_reader, 'w');
    db = quiet_db();
    conn = connect_to(db);
    commit_unit(conn, 1, 'a');
    point = "batch:publishing";
    lks_crash_hook = let_read_here;
    run_batch(db);
    lks_crash_hook = NULL;
    ck_assert_ptr_null(point);
    child_kill(&stock_reader);
    lks_conn_close(conn);
    close_db(db);
}
END_TEST
#endif

int
main(void)
{
    Suite *suite = suite_create("batch");
    TCase *tcase = coordtest_case(suite, "batch");
#ifdef LKS_DEBUG
    tcase_add_loop_test(tcase, what_is_written_while_a_batch_runs_is_in_the_next_one, 0,
                        sizeof points / sizeof points[0]);
#endif
    tcase_add_test(tcase, a_batch_after_one_that_failed_looks_everywhere);
#ifdef LKS_DEBUG
    tcase_add_test(tcase, stock_readers_are_let_in_before_a_batch_is_announced);
#endif
    return coordtest_main(suite);
}
