/* coord.h with files that are no SQLite databases. */
#include <lockstep/coord.h>

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "coord/coordtest.h"

static struct lockstep_db *
open_file(void)
{
    struct lockstep_db *db = NULL;
    ck_assert_int_eq(lockstep_db_open("db", NULL, &db), LOCKSTEP_OK);
    ck_assert_int_eq(lockstep_db_attach(db), LOCKSTEP_OK);
    return db;
}

static struct lockstep_conn *
connect_to(struct lockstep_db *db)
{
    struct lockstep_conn *conn = NULL;
    ck_assert_int_eq(lockstep_conn_open(db, &conn), LOCKSTEP_OK);
    return conn;
}

static void
write_text(struct lockstep_conn *conn, uint64_t at, const char *text)
{
    ck_assert_int_eq(lockstep_conn_write(conn, at, text, strlen(text)), LOCKSTEP_OK);
}

static const char *
read_text(struct lockstep_conn *conn, uint64_t at, size_t size)
{
    static char text[256];
    size_t got = 0;
    memset(text, 0, sizeof text);
    ck_assert_int_eq(lockstep_conn_read(conn, at, text, size, &got), LOCKSTEP_OK);
    text[got] = '\0';
    return text;
}

static uint64_t
size_of(struct lockstep_conn *conn)
{
    uint64_t size = UINT64_MAX;
    ck_assert_int_eq(lockstep_conn_size(conn, &size), LOCKSTEP_OK);
    return size;
}

static void
begin_writing(struct lockstep_conn *conn)
{
    ck_assert_int_eq(lockstep_conn_begin(conn), LOCKSTEP_OK);
    ck_assert_int_eq(lockstep_conn_write_begin(conn, 10000), LOCKSTEP_OK);
}

static void
commit(struct lockstep_conn *conn, enum lockstep_durability durability)
{
    ck_assert_int_eq(lockstep_conn_commit(conn, durability, NULL), LOCKSTEP_OK);
    lockstep_conn_end(conn);
}

START_TEST(what_is_committed_is_read_and_ends_up_in_the_file)
{
    struct lockstep_db *db = open_file();
    struct lockstep_conn *conn = connect_to(db);
    char got[12] = "";
    int fd;
    begin_writing(conn);
    write_text(conn, 4090, "across units");
    ck_assert_str_eq(read_text(conn, 4090, 12), "across units");
    commit(conn, LOCKSTEP_FULL_SYNC);
    ck_assert_int_eq(lockstep_conn_begin(conn), LOCKSTEP_OK);
    ck_assert_str_eq(read_text(conn, 4090, 12), "across units");
    ck_assert_uint_eq(size_of(conn), 10000);
    lockstep_conn_end(conn);
    lockstep_conn_close(conn);
    ck_assert_int_eq(lockstep_db_close(db), LOCKSTEP_OK);
    fd = open("db", O_RDONLY | O_CLOEXEC);
    ck_assert_int_eq(pread(fd, got, 12, 4090), 12);
    ck_assert_int_eq(memcmp(got, "across units", 12), 0);
    close(fd);
    ck_assert(!file_exists("db-lockstep"));
    ck_assert(!file_exists("db-journal"));
}
END_TEST

START_TEST(a_file_grows_and_shrinks_and_new_bytes_are_zero)
{
    struct lockstep_db *db = open_file();
    struct lockstep_conn *conn = connect_to(db);
    size_t got = 99, i;
    char bytes[8192];
    begin_writing(conn);
    write_text(conn, 50000, "far");
    ck_assert_uint_eq(size_of(conn), 50003);
    ck_assert_str_eq(read_text(conn, 50000, 100), "far");
    ck_assert_int_eq(lockstep_conn_read(conn, 20000, bytes, sizeof bytes, &got), LOCKSTEP_OK);
    ck_assert_uint_eq(got, sizeof bytes);
    for (i = 0; i < got; i++)
        ck_assert_int_eq(bytes[i], 0);
    commit(conn, LOCKSTEP_ASYNC);
    begin_writing(conn);
    write_text(conn, 3000, "kept");
    ck_assert_int_eq(lockstep_conn_truncate(conn, 3002), LOCKSTEP_OK);
    commit(conn, LOCKSTEP_ASYNC);
    ck_assert_int_eq(lockstep_conn_begin(conn), LOCKSTEP_OK);
    ck_assert_uint_eq(size_of(conn), 3002);
    ck_assert_str_eq(read_text(conn, 3000, 100), "ke");
    ck_assert_int_eq(lockstep_conn_read(conn, 60000, bytes, 10, &got), LOCKSTEP_OK);
    ck_assert_uint_eq(got, 0);
    lockstep_conn_end(conn);
    lockstep_conn_close(conn);
    ck_assert_int_eq(lockstep_db_close(db), LOCKSTEP_OK);
    ck_assert_int_eq(access("db", F_OK), 0);
    {
        int fd = open("db", O_RDONLY | O_CLOEXEC);
        ck_assert_int_eq(lseek(fd, 0, SEEK_END), 3002);
        close(fd);
    }
}
END_TEST

START_TEST(a_snapshot_stays_and_a_stale_one_may_not_write)
{
    struct lockstep_db *db = open_file();
    struct lockstep_conn *a = connect_to(db), *b = connect_to(db);
    ck_assert_int_eq(lockstep_conn_begin(a), LOCKSTEP_OK);
    begin_writing(b);
    write_text(b, 0, "new");
    ck_assert_int_eq(lockstep_conn_write_begin(a, 0), LOCKSTEP_BUSY);
    ck_assert_int_eq(*read_text(a, 0, 1), 0);
    commit(b, LOCKSTEP_ASYNC);
    ck_assert_int_eq(*read_text(a, 0, 1), 0);
    ck_assert_int_eq(lockstep_conn_write_begin(a, 10000), LOCKSTEP_STALE);
    lockstep_conn_end(a);
    begin_writing(a);
    ck_assert_str_eq(read_text(a, 0, 3), "new");
    write_text(a, 0, "lost");
    ck_assert_int_eq(lockstep_conn_rollback(a), LOCKSTEP_OK);
    ck_assert_str_eq(read_text(a, 0, 3), "new");
    lockstep_conn_end(a);
    lockstep_conn_close(a);
    lockstep_conn_close(b);
    ck_assert_int_eq(lockstep_db_close(db), LOCKSTEP_OK);
}
END_TEST

START_TEST(a_ticket_is_durable_after_waiting_for_it)
{
    struct lockstep_db *db = open_file();
    struct lockstep_conn *conn = connect_to(db);
    struct lockstep_db_info i;
    uint64_t ticket = 0;
    begin_writing(conn);
    write_text(conn, 0, "x");
    ck_assert_int_eq(lockstep_conn_commit(conn, LOCKSTEP_ASYNC, &ticket), LOCKSTEP_OK);
    lockstep_conn_end(conn);
    ck_assert_uint_gt(ticket, 1);
    ck_assert_int_eq(lockstep_db_wait(db, ticket + 10, 0), LOCKSTEP_MISUSE);
    ck_assert_int_eq(lockstep_db_wait(db, ticket, 10000), LOCKSTEP_OK);
    ck_assert_int_eq(lockstep_db_info(db, &i), LOCKSTEP_OK);
    ck_assert_uint_ge(i.durable, ticket);
    ck_assert_uint_eq(i.committed, ticket);
    ck_assert_uint_eq(i.clients, 1);
    ck_assert_int_eq(lockstep_db_run(db), LOCKSTEP_OK);
    lockstep_conn_close(conn);
    ck_assert_int_eq(lockstep_db_close(db), LOCKSTEP_OK);
}
END_TEST

START_TEST(wrong_calls_are_misuse)
{
    struct lockstep_db *db = NULL, *attached;
    struct lockstep_conn *conn = NULL;
    struct lockstep_db_info i;
    size_t got;
    char byte = 0;
    uint64_t size;
    ck_assert_int_eq(lockstep_db_open(NULL, NULL, &db), LOCKSTEP_MISUSE);
    ck_assert_int_eq(lockstep_db_open("db", NULL, NULL), LOCKSTEP_MISUSE);
    ck_assert_int_eq(lockstep_db_attach(NULL), LOCKSTEP_MISUSE);
    ck_assert_int_eq(lockstep_db_close(NULL), LOCKSTEP_OK);
    ck_assert_int_eq(lockstep_db_open("db", NULL, &db), LOCKSTEP_OK);
    ck_assert_int_eq(lockstep_conn_open(db, &conn), LOCKSTEP_MISUSE); /* not attached */
    ck_assert_int_eq(lockstep_db_wait(db, 1, 0), LOCKSTEP_MISUSE);
    ck_assert_int_eq(lockstep_db_run(db), LOCKSTEP_MISUSE);
    ck_assert_int_eq(lockstep_db_info(db, &i), LOCKSTEP_MISUSE);
    attached = open_file();
    ck_assert_ptr_eq(attached, db);
    conn = connect_to(db);
    ck_assert_int_eq(lockstep_db_info(db, NULL), LOCKSTEP_MISUSE);
    ck_assert_int_eq(lockstep_conn_read(conn, 0, &byte, 1, &got), LOCKSTEP_MISUSE);
    ck_assert_int_eq(lockstep_conn_size(conn, &size), LOCKSTEP_MISUSE);
    ck_assert_int_eq(lockstep_conn_write_begin(conn, 0), LOCKSTEP_MISUSE);
    ck_assert_uint_eq(lockstep_conn_snapshot(conn), 0);
    ck_assert_int_eq(lockstep_conn_begin(conn), LOCKSTEP_OK);
    ck_assert_int_eq(lockstep_conn_begin(conn), LOCKSTEP_MISUSE);
    ck_assert_uint_ge(lockstep_conn_snapshot(conn), 1);
    ck_assert_int_eq(lockstep_conn_write(conn, 0, &byte, 1), LOCKSTEP_MISUSE);
    ck_assert_int_eq(lockstep_conn_truncate(conn, 0), LOCKSTEP_MISUSE);
    ck_assert_int_eq(lockstep_conn_commit(conn, LOCKSTEP_ASYNC, NULL), LOCKSTEP_MISUSE);
    ck_assert_int_eq(lockstep_conn_rollback(conn), LOCKSTEP_MISUSE);
    ck_assert_int_eq(lockstep_conn_write_begin(conn, -1), LOCKSTEP_MISUSE);
    ck_assert_int_eq(lockstep_conn_read(conn, 0, NULL, 1, &got), LOCKSTEP_MISUSE);
    lockstep_conn_end(conn);
    lockstep_conn_close(conn);
    lockstep_conn_close(NULL);
    ck_assert_int_eq(lockstep_db_close(db), LOCKSTEP_OK);
    ck_assert_int_eq(lockstep_db_close(attached), LOCKSTEP_OK);
    ck_assert_str_ne(lockstep_status_name(LOCKSTEP_BUSY), lockstep_status_name(LOCKSTEP_STALE));
    ck_assert_ptr_nonnull(lockstep_status_name((enum lockstep_status)9999));
}
END_TEST

static void
add_many(struct child *self)
{
    struct lockstep_db *db;
    struct lockstep_conn *conn;
    int i;
    child_step(self, 's');
    db = open_file();
    conn = connect_to(db);
    child_step(self, 'r');
    for (i = 0; i < 300; i++) {
        uint64_t value = 0;
        size_t got;
        enum lockstep_status status;
        do {
            child_check(lockstep_conn_begin(conn) == LOCKSTEP_OK);
            status = lockstep_conn_write_begin(conn, 10000);
            if (status != LOCKSTEP_OK)
                lockstep_conn_end(conn);
        } while (status == LOCKSTEP_STALE);
        child_check(status == LOCKSTEP_OK);
        child_check(lockstep_conn_read(conn, 8, &value, sizeof value, &got) == LOCKSTEP_OK);
        value++;
        child_check(lockstep_conn_write(conn, 8, &value, sizeof value) == LOCKSTEP_OK);
        child_check(lockstep_conn_write(conn, 9000, &value, sizeof value) == LOCKSTEP_OK);
        child_check(lockstep_conn_commit(conn, LOCKSTEP_ASYNC, NULL) == LOCKSTEP_OK);
        lockstep_conn_end(conn);
    }
    lockstep_conn_close(conn);
    child_check(lockstep_db_close(db) == LOCKSTEP_OK);
}

START_TEST(two_processes_and_a_reader_agree)
{
    struct child children[2];
    struct lockstep_db *db;
    struct lockstep_conn *conn;
    uint64_t pair[2] = {0, 0};
    int i;
    for (i = 0; i < 2; i++)
        child_start(&children[i], add_many);
    db = open_file();
    conn = connect_to(db);
    for (i = 0; i < 2; i++) {
        child_await(&children[i], 's');
        child_go(&children[i]);
    }
    for (i = 0; i < 2; i++)
        child_await(&children[i], 'r');
    for (i = 0; i < 2; i++)
        child_go(&children[i]);
    while (pair[0] < 600) {
        uint64_t before = pair[0];
        size_t got;
        ck_assert_int_eq(lockstep_conn_begin(conn), LOCKSTEP_OK);
        ck_assert_int_eq(lockstep_conn_read(conn, 8, &pair[0], 8, &got), LOCKSTEP_OK);
        ck_assert_int_eq(lockstep_conn_read(conn, 9000, &pair[1], 8, &got), LOCKSTEP_OK);
        lockstep_conn_end(conn);
        ck_assert_uint_eq(pair[0], pair[1]);
        ck_assert_uint_ge(pair[0], before);
    }
    for (i = 0; i < 2; i++)
        child_end(&children[i]);
    lockstep_conn_close(conn);
    ck_assert_int_eq(lockstep_db_close(db), LOCKSTEP_OK);
    {
        int fd = open("db", O_RDONLY | O_CLOEXEC);
        ck_assert_int_eq(pread(fd, &pair[0], 8, 8), 8);
        ck_assert_uint_eq(pair[0], 600);
        close(fd);
    }
}
END_TEST

int
main(void)
{
    Suite *suite = suite_create("coord.h");
    TCase *tcase = coordtest_case(suite, "coord.h");
    tcase_add_test(tcase, what_is_committed_is_read_and_ends_up_in_the_file);
    tcase_add_test(tcase, a_file_grows_and_shrinks_and_new_bytes_are_zero);
    tcase_add_test(tcase, a_snapshot_stays_and_a_stale_one_may_not_write);
    tcase_add_test(tcase, a_ticket_is_durable_after_waiting_for_it);
    tcase_add_test(tcase, wrong_calls_are_misuse);
    tcase_add_test(tcase, two_processes_and_a_reader_agree);
    return coordtest_main(suite);
}
