/*
 * The name of what an application keeps in the file: who has another one is not let in.
 *
 * Made to fail by: leaving lks_format_check() out of prepare_joining() or out of lks_coordfile_prepare(); not replacing the file of
 * another name in which nothing waits; leaving lks_format_make() out; "SQLite" in lib/vfs/uri.c; a process that takes all
 * callbacks for one; keeping the file that a callback refused; what lies behind a name's end as part of it.
 */
#include "api/enginetest.h"

#include <sqlite3.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <lockstep/lockstep.h>

#include "base/crashpoint.h"

static struct lockstep_options
named(const char *name)
{
    struct lockstep_options options = {.max_lag_ms = 3600000};
    snprintf(options.format, sizeof options.format, "%s", name);
    return options;
}

static enum lockstep_status
try_attach(const struct lockstep_options *options)
{
    struct lockstep_db *db = NULL;
    enum lockstep_status status = lockstep_db_open("db", options, &db);
    if (status != LOCKSTEP_OK)
        return status;
    status = lockstep_db_attach(db);
    ck_assert_int_eq(lockstep_db_close(db), LOCKSTEP_OK);
    return status;
}

/* Attaches in the format "books 2" and commits; then is let go or killed.  Without a thread that might write behind. */
static void
keep_books(struct child *self)
{
    struct lockstep_options options = named("books 2");
    struct lockstep_db *db;
    struct lockstep_conn *conn;
    options.no_worker = 1;
    child_step(self, 's');
    db = api_open(&options);
    conn = api_connect(db);
    api_write(conn, 0, "books", LOCKSTEP_ASYNC);
    child_step(self, 'a');
    lockstep_conn_close(conn);
    child_check(lockstep_db_close(db) == LOCKSTEP_OK);
}

/* Started ahead of our own threads: only later may it attach. */
static void
let_keep_books(struct child *child)
{
    child_await(child, 's');
    child_go(child);
    child_await(child, 'a');
}

static void
start_books(struct child *child)
{
    child_start(child, keep_books);
    let_keep_books(child);
}

START_TEST(beside_a_live_one_the_same_name_joins_and_another_is_refused)
{
    struct lockstep_options same = named("books 2"), other = named("books 1");
    struct child child;
    start_books(&child);
    ck_assert_int_eq(try_attach(&other), LOCKSTEP_FORMAT);
    ck_assert(logged("'books 2'") && logged("'books 1'"));
    ck_assert_int_eq(try_attach(NULL), LOCKSTEP_FORMAT);
    ck_assert_int_eq(try_attach(&same), LOCKSTEP_OK);
    child_go(&child);
    child_end(&child);
    /* Nobody is there: it is whoever's who comes. */
    ck_assert_int_eq(try_attach(&other), LOCKSTEP_OK);
    ck_assert(!file_exists("db-lockstep"));
}
END_TEST

START_TEST(commits_that_wait_are_for_the_name_that_made_them)
{
    struct lockstep_options same = named("books 2"), other = named("books 1");
    char got[6] = "";
    struct child child;
    start_books(&child);
    child_kill(&child);
    ck_assert_int_eq(try_attach(&other), LOCKSTEP_FORMAT);
    ck_assert(logged("were killed and left commits use it in the format 'books 2', and this program's is 'books 1'"));
    ck_assert(file_exists("db-lockstep") && !file_exists("db-lockstep.orphan-1"));
    ck_assert_int_eq(try_attach(&same), LOCKSTEP_OK);
    disk_read("db", 0, got, 5);
    ck_assert_str_eq(got, "books");
    ck_assert_int_eq(try_attach(&other), LOCKSTEP_OK);
}
END_TEST

#ifdef LKS_DEBUG
/* Dies when the file is made and has no name yet, or when it has one and nothing is committed. */
static const char *const deaths[] = {"attach:made", "attach:connected"};
static const char *death;

static void
die_while_connecting(struct child *self)
{
    struct lockstep_options options = named("books 2");
    (void)self;
    lks_crash_arm(death, 1);
    (void)api_open(&options);
}

START_TEST(one_in_which_nothing_waits_is_replaced_whatever_its_name)
{
    struct lockstep_options other = named("books 1");
    struct child child;
    char byte;
    death = deaths[_i];
    child_start(&child, die_while_connecting);
    ck_assert_int_eq(read(child.fd, &byte, 1), 0);
    child_kill(&child);
    ck_assert(file_exists("db-lockstep"));
    ck_assert_int_eq(try_attach(&other), LOCKSTEP_OK);
    ck_assert(!file_exists("db-lockstep") && !file_exists("db-lockstep.orphan-1"));
    ck_assert(!logged("'books 1'"));
}
END_TEST
#endif

/* ------------------------------------------------------------------------------------------- the callback */

struct asked {
    unsigned times;
    char stored[LOCKSTEP_FORMAT_SIZE];
    size_t head_bytes;
    char head[8];
    const char *answer;
    enum lockstep_status status;
};

static enum lockstep_status
supply(void *arg, const char *stored, const void *head, size_t head_bytes, char out_format[LOCKSTEP_FORMAT_SIZE])
{
    struct asked *asked = arg;
    asked->times++;
    snprintf(asked->stored, sizeof asked->stored, "%s", stored != NULL ? stored : "nobody");
    asked->head_bytes = head_bytes;
    memcpy(asked->head, head, 7);
    if (asked->answer != NULL)
        memcpy(out_format, asked->answer, strlen(asked->answer));
    else if (stored != NULL)
        memcpy(out_format, stored, strlen(stored));
    else
        memcpy(out_format, head, 7); /* as an engine reads its own header */
    return asked->status;
}

START_TEST(the_callback_reads_the_header_where_nobody_is_and_hears_the_name_where_somebody_is)
{
    struct asked asked = {0};
    struct lockstep_options options = {.format_fn = supply, .format_arg = &asked};
    struct lockstep_options from_header = named("ENGINE7");
    struct lockstep_db *db;
    struct child child;
    disk_write("db", 0, "ENGINE7", 7);
    child_start(&child, keep_books);
    db = api_open(&options);
    ck_assert_uint_eq(asked.times, 1);
    ck_assert_str_eq(asked.stored, "nobody");
    ck_assert_uint_eq(asked.head_bytes, 512);
    /* In one process too: the name is known now. */
    ck_assert_int_eq(try_attach(&from_header), LOCKSTEP_OK);
    ck_assert_int_eq(try_attach(NULL), LOCKSTEP_FORMAT);
    ck_assert_int_eq(try_attach(&options), LOCKSTEP_OK);
    ck_assert_uint_eq(asked.times, 1);
    ck_assert_int_eq(lockstep_db_close(db), LOCKSTEP_OK);
    let_keep_books(&child);
    ck_assert_int_eq(try_attach(&options), LOCKSTEP_OK);
    ck_assert_str_eq(asked.stored, "books 2");
    asked.answer = "books 9";
    ck_assert_int_eq(try_attach(&options), LOCKSTEP_FORMAT);
    asked.status = LOCKSTEP_NOMEM;
    ck_assert_int_eq(try_attach(&options), LOCKSTEP_NOMEM);
    asked.status = LOCKSTEP_OK;
    asked.answer = "sixteen bytes ..";
    ck_assert_int_eq(try_attach(&options), LOCKSTEP_MISUSE);
    child_go(&child);
    child_end(&child);
}
END_TEST

START_TEST(a_callback_that_refuses_leaves_nothing_behind)
{
    struct asked asked = {.status = LOCKSTEP_FORMAT};
    struct lockstep_options options = {.format_fn = supply, .format_arg = &asked};
    ck_assert_int_eq(try_attach(&options), LOCKSTEP_FORMAT);
    ck_assert_uint_eq(asked.times, 1);
    ck_assert(!file_exists("db-lockstep"));
    asked.status = LOCKSTEP_OK;
    ck_assert_int_eq(try_attach(&options), LOCKSTEP_OK);
    ck_assert_uint_eq(asked.times, 2);
}
END_TEST

START_TEST(the_option_is_asked_before_the_callback_and_must_end)
{
    struct asked asked = {.answer = "other"};
    struct lockstep_options options = named("books 2");
    struct lockstep_db *db = NULL;
    options.format_fn = supply;
    options.format_arg = &asked;
    db = api_open(&options);
    ck_assert_uint_eq(asked.times, 0);
    ck_assert_int_eq(lockstep_db_close(db), LOCKSTEP_OK);
    memset(options.format, 'x', sizeof options.format);
    ck_assert_int_eq(lockstep_db_open("db", &options, &db), LOCKSTEP_MISUSE);
}
END_TEST

static enum lockstep_status
supply_too(void *arg, const char *stored, const void *head, size_t head_bytes, char out_format[LOCKSTEP_FORMAT_SIZE])
{
    return supply(arg, stored, head, head_bytes, out_format);
}

/* Their names are not known yet, and each would have to hear of the other's. */
START_TEST(in_one_process_another_callback_is_another_format)
{
    struct asked asked = {.answer = "books 2"};
    struct lockstep_options options = {.format_fn = supply, .format_arg = &asked};
    struct lockstep_db *first = NULL, *second = NULL;
    ck_assert_int_eq(lockstep_db_open("db", &options, &first), LOCKSTEP_OK);
    ck_assert_int_eq(lockstep_db_open("db", &options, &second), LOCKSTEP_OK);
    ck_assert_ptr_eq(first, second);
    options.format_fn = supply_too;
    ck_assert_int_eq(lockstep_db_open("db", &options, &second), LOCKSTEP_FORMAT);
    ck_assert_int_eq(lockstep_db_close(first), LOCKSTEP_OK);
    ck_assert_int_eq(lockstep_db_close(first), LOCKSTEP_OK);
}
END_TEST

START_TEST(what_lies_behind_the_end_of_a_name_is_no_part_of_it)
{
    struct lockstep_options options = named("books 2");
    char stored[LOCKSTEP_FORMAT_SIZE], expected[LOCKSTEP_FORMAT_SIZE] = "books 2";
    struct lockstep_db *db;
    memset(options.format + 8, 'x', 8);
    db = api_open(&options);
    memcpy(stored, db->shm->state.app_format, sizeof stored);
    ck_assert_mem_eq(stored, expected, sizeof stored);
    ck_assert_int_eq(lockstep_db_close(db), LOCKSTEP_OK);
}
END_TEST

/* ------------------------------------------------------------------------------------------------- SQLite */

static void
use_sqlite(struct child *self)
{
    sqlite3 *db = NULL;
    child_step(self, 's');
    child_check(lockstep_initialize(NULL, 0) == SQLITE_OK);
    child_check(sqlite3_open_v2("file:sql.db?vfs=lockstep&durability=async&worker=off", &db,
                                SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_URI, NULL) == SQLITE_OK);
    child_check(sqlite3_exec(db, "CREATE TABLE t(v); INSERT INTO t VALUES(1)", NULL, NULL, NULL) == SQLITE_OK);
    child_step(self, 'a');
    sqlite3_close(db);
}

static enum lockstep_status
open_sql_db(const struct lockstep_options *options)
{
    struct lockstep_db *db = NULL;
    enum lockstep_status status;
    ck_assert_int_eq(lockstep_db_open("sql.db", options, &db), LOCKSTEP_OK);
    status = lockstep_db_attach(db);
    ck_assert_int_eq(lockstep_db_close(db), LOCKSTEP_OK);
    return status;
}

START_TEST(a_sqlite_database_is_not_for_another_engine)
{
    struct lockstep_options mine = named("books 2"), sqlites = named("SQLite");
    struct child child;
    child_start(&child, use_sqlite);
    child_await(&child, 's');
    child_go(&child);
    child_await(&child, 'a');
    ck_assert_int_eq(open_sql_db(&mine), LOCKSTEP_FORMAT);
    ck_assert(logged("'SQLite'") && logged("'books 2'"));
    ck_assert_int_eq(open_sql_db(NULL), LOCKSTEP_FORMAT);
    /* Nobody was let in, and there is no thread that writes behind: a commit waits. */
    child_kill(&child);
    ck_assert_int_eq(open_sql_db(&mine), LOCKSTEP_FORMAT);
    ck_assert_int_eq(open_sql_db(&sqlites), LOCKSTEP_OK);
}
END_TEST

START_TEST(another_engines_file_is_not_for_sqlite)
{
    struct child child;
    sqlite3 *db = NULL;
    start_books(&child);
    ck_assert_int_eq(lockstep_initialize(NULL, 0), SQLITE_OK);
    ck_assert_int_eq(sqlite3_open_v2("file:db?vfs=lockstep", &db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_URI, NULL),
                     SQLITE_OK);
    ck_assert_int_eq(sqlite3_exec(db, "CREATE TABLE t(v)", NULL, NULL, NULL), SQLITE_CANTOPEN);
    sqlite3_close(db);
    child_go(&child);
    child_end(&child);
}
END_TEST

int
main(void)
{
    Suite *suite = suite_create("format");
    TCase *tcase = coordtest_case(suite, "format");
    tcase_add_test(tcase, beside_a_live_one_the_same_name_joins_and_another_is_refused);
    tcase_add_test(tcase, commits_that_wait_are_for_the_name_that_made_them);
#ifdef LKS_DEBUG
    tcase_add_loop_test(tcase, one_in_which_nothing_waits_is_replaced_whatever_its_name, 0, 2);
#endif
    tcase_add_test(tcase, the_callback_reads_the_header_where_nobody_is_and_hears_the_name_where_somebody_is);
    tcase_add_test(tcase, a_callback_that_refuses_leaves_nothing_behind);
    tcase_add_test(tcase, the_option_is_asked_before_the_callback_and_must_end);
    tcase_add_test(tcase, in_one_process_another_callback_is_another_format);
    tcase_add_test(tcase, what_lies_behind_the_end_of_a_name_is_no_part_of_it);
    tcase_add_test(tcase, a_sqlite_database_is_not_for_another_engine);
    tcase_add_test(tcase, another_engines_file_is_not_for_sqlite);
    return coordtest_main(suite);
}
