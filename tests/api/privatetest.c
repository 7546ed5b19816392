#include "api/privatetest.h"

const struct lockstep_options reading = {.readonly = 1};

struct picture
take_picture(void)
{
    struct picture picture = {{disk_sum("db"), disk_sum("db-lockstep"), disk_sum("db-journal"),
                               disk_sum("db-lockstep.orphan-1")}};
    return picture;
}

void
expect_picture(const struct picture *before)
{
    struct picture now = take_picture();
    ck_assert_mem_eq(&now, before, sizeof now);
}

bool
is_live(const struct lockstep_db *db)
{
    return lks_a32_acquire(&db->attached) != 0;
}

void
close_reader(struct lockstep_db *db, struct lockstep_conn *conn)
{
    lockstep_conn_close(conn);
    ck_assert_int_eq(lockstep_db_close(db), LOCKSTEP_OK);
}

struct lockstep_db *
stand_by(struct lockstep_conn **out_conn)
{
    struct lockstep_db *db = api_open(&reading);
    ck_assert(!is_live(db));
    *out_conn = api_connect(db);
    return db;
}

void
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

void
run_and_kill(void (*run)(struct child *self))
{
    struct child child;
    child_start(&child, run);
    child_await(&child, 's');
    child_go(&child);
    child_await(&child, 'a');
    child_kill(&child);
}

void
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
