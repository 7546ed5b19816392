/* URI parameters, pragmas and the calls of lockstep.h: values and errors. */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "vfs/vfstest.h"

static sqlite3 *
make(const char *parameters)
{
    sqlite3 *db = open_ours("a.db", parameters);
    must(db, "create table if not exists t(v)");
    return db;
}

START_TEST(uri_parameters_set_what_they_say)
{
    sqlite3 *db = make("durability=async&max_lag=250&store_limit=8388608&hard_limit=1073741824");
    check_text(must(db, "pragma lockstep_durability"), "async");
    check_text(must(db, "pragma lockstep_max_lag"), "250");
    check_text(must(db, "pragma lockstep_store_limit"), "8388608");
    ck_assert_uint_eq(info(db).hard_limit, 1073741824);
    close_db(db);
    db = make("");
    check_text(must(db, "pragma lockstep_durability"), "default");
    check_text(must(db, "pragma lockstep_max_lag"), "100");
    check_text(must(db, "pragma lockstep_store_limit"), "67108864");
    close_db(db);
}
END_TEST

START_TEST(a_uri_parameter_out_of_range_is_ignored_and_logged)
{
    sqlite3 *db = make("durability=maybe&max_lag=-5&store_limit=-1");
    check_text(must(db, "pragma lockstep_durability"), "default");
    check_text(must(db, "pragma lockstep_max_lag"), "100");
    check_text(must(db, "pragma lockstep_store_limit"), "67108864");
    ck_assert(logged("durability=maybe"));
    ck_assert(logged("max_lag=-5"));
    ck_assert(logged("store_limit=-1"));
    close_db(db);
    log_clear();
    db = make("max_lag=soon&lock_wait=late&worker=maybe&multi_process=perhaps&checkpoint=never&unsafe_fs=off");
    check_text(must(db, "pragma lockstep_max_lag"), "100");
    ck_assert(logged("max_lag=soon is no number"));
    ck_assert(logged("lock_wait=late is no number"));
    ck_assert(logged("worker=maybe is none of"));
    ck_assert(logged("multi_process=perhaps is none of"));
    ck_assert(logged("checkpoint=never is none of"));
    ck_assert(!logged("unsafe_fs"));
    /* That of a database that is shared. */
    ck_assert_uint_eq(info(db).hard_limit, sizeof(void *) < 8 ? 256ull << 20 : 32ull << 30);
    close_db(db);
    log_clear();
    db = make("max_lag=100&lock_wait=50&worker=1&multi_process=yes&store_limit=0");
    ck_assert(!logged("ignored"));
    close_db(db);
}
END_TEST

START_TEST(each_durability_is_what_it_says)
{
    static const struct {
        const char *parameters, *pragma;
        bool durable;
    } cases[] = {
        {"worker=0&max_lag=60000&durability=full", "select 1", true},
        {"max_lag=60000&durability=async", "select 1", false},
        {"max_lag=60000&durability=normal", "select 1", false},
        {"max_lag=60000&durability=off", "select 1", false},
        {"max_lag=60000", "pragma synchronous = full", true},
        {"max_lag=60000", "pragma synchronous = extra", true},
        {"max_lag=60000", "pragma synchronous = normal", false},
        {"max_lag=60000", "pragma synchronous = off", false},
        {"max_lag=60000", "select 1", true}, /* SQLite's default is FULL */
        {"max_lag=60000&durability=async", "pragma synchronous = full", false},
        {"max_lag=60000&durability=full", "pragma synchronous = off", true},
    };
    size_t i;
    for (i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        sqlite3 *db = make(cases[i].parameters);
        must(db, "pragma lockstep_flush");
        must(db, "%s", cases[i].pragma);
        must(db, "insert into t values(1)");
        ck_assert_msg((info(db).durable == info(db).committed) == cases[i].durable, "%s; %s: durable %llu of %llu",
                      cases[i].parameters, cases[i].pragma, (unsigned long long)info(db).durable,
                      (unsigned long long)info(db).committed);
        close_db(db);
    }
    check_ordinary("a.db");
}
END_TEST

START_TEST(an_asynchronous_commit_is_durable_after_max_lag_by_itself)
{
    sqlite3 *db = make("durability=async&max_lag=50");
    sqlite3_int64 ticket;
    must(db, "insert into t values(1)");
    ticket = lockstep_ticket(db);
    ck_assert_int_gt(ticket, 0);
    /* Nobody asks for it: not flush, not wait. */
    while (info(db).durable < (uint64_t)ticket)
        sqlite3_sleep(5);
    ck_assert_uint_ge(info(db).flushed, (uint64_t)ticket);
    close_db(db);
}
END_TEST

START_TEST(pragmas_answer_and_refuse_bad_values)
{
    sqlite3 *db = make("durability=async&max_lag=60000");
    const char *status;
    char want[64];
    check_text(must(db, "pragma lockstep_durability = full"), "full");
    check_text(must(db, "pragma lockstep_durability = off"), "off");
    check_text(must(db, "pragma lockstep_durability = normal"), "async");
    check_text(must(db, "pragma lockstep_durability = default"), "default");
    check_text(sql(db, "pragma lockstep_durability = sometimes"),
               "error 1: lockstep_durability: off, async, normal, full or default");
    check_text(must(db, "pragma lockstep_durability = async"), "async");
    check_text(must(db, "pragma lockstep_max_lag = 7000"), "7000");
    check_text(must(db, "pragma lockstep_max_lag"), "7000");
    ck_assert_int_eq(code(db, "pragma lockstep_max_lag = 0"), SQLITE_ERROR);
    ck_assert_int_eq(code(db, "pragma lockstep_max_lag = -1"), SQLITE_ERROR);
    ck_assert_int_eq(code(db, "pragma lockstep_max_lag = '12x'"), SQLITE_ERROR);
    ck_assert_int_eq(code(db, "pragma lockstep_max_lag = 99999999999999999999"), SQLITE_ERROR);
    check_text(must(db, "pragma lockstep_store_limit = 2000000"), "2000000");
    ck_assert_int_eq(code(db, "pragma lockstep_store_limit = 5"), SQLITE_ERROR);
    ck_assert_int_eq(code(db, "pragma lockstep_store_limit = 'all'"), SQLITE_ERROR);
    must(db, "insert into t values(1)");
    snprintf(want, sizeof want, "%lld", lockstep_ticket(db));
    check_text(must(db, "pragma lockstep_ticket"), want);
    ck_assert_uint_lt(info(db).durable, info(db).committed);
    check_text(must(db, "pragma lockstep_wait"), want);
    ck_assert_uint_eq(info(db).durable, info(db).committed);
    check_text(must(db, "pragma lockstep_wait = %s", want), want);
    ck_assert_int_eq(code(db, "pragma lockstep_wait = 'soon'"), SQLITE_ERROR);
    ck_assert_int_eq(code(db, "pragma lockstep_wait = -3"), SQLITE_ERROR);
    check_text(sql(db, "pragma lockstep_wait = 1000000"), "error 1: lockstep_wait: no such commit");
    must(db, "insert into t values(2)");
    snprintf(want, sizeof want, "%lld", lockstep_ticket(db));
    check_text(must(db, "pragma lockstep_flush"), want);
    check_text(must(db, "pragma lockstep_blocker"), "nobody");
    status = must(db, "pragma lockstep_status");
    check_text(must(db, "select json_valid('%s'), json_extract('%s', '$.max_lag_ms')", status, status), "1|7000");
    /* SQLite ignores pragmas that nobody knows. */
    check_text(must(db, "pragma lockstep_nothing"), "");
    close_db(db);
}
END_TEST

START_TEST(calls_work_and_misuse_is_told)
{
    sqlite3 *db = make("durability=async&max_lag=60000"), *stock;
    struct lockstep_db_info i;
    sqlite3_int64 ticket;
    must(db, "insert into t values(1)");
    ticket = lockstep_ticket(db);
    ck_assert_int_eq(lockstep_wait(db, ticket, 10000), SQLITE_OK);
    ck_assert_int_eq(lockstep_wait(db, ticket, 0), SQLITE_OK);
    ck_assert_int_eq(lockstep_wait(db, -1, 0), SQLITE_MISUSE);
    ck_assert_int_eq(lockstep_wait(db, ticket + 1000, 0), SQLITE_MISUSE);
    must(db, "insert into t values(2)");
    ck_assert_int_eq(lockstep_flush(db), SQLITE_OK);
    ck_assert_uint_eq(info(db).flushed, info(db).committed);
    ck_assert_int_eq(lockstep_status(db, NULL), SQLITE_MISUSE);
    ck_assert_int_eq(lockstep_shutdown(), SQLITE_BUSY);
    ck_assert_int_eq(lockstep_initialize("unix", 0), SQLITE_OK);
    ck_assert_int_ne(lockstep_initialize("no such vfs", 0), SQLITE_OK);
    ck_assert_int_eq(lockstep_initialize("unix-none", 0), SQLITE_MISUSE);
    stock = open_stock("b.db");
    ck_assert_int_eq(lockstep_ticket(stock), 0);
    ck_assert_int_eq(lockstep_wait(stock, 1, 0), SQLITE_MISUSE);
    ck_assert_int_eq(lockstep_flush(stock), SQLITE_MISUSE);
    ck_assert_int_eq(lockstep_run(stock), SQLITE_MISUSE);
    ck_assert_int_eq(lockstep_status(stock, &i), SQLITE_MISUSE);
    ck_assert_int_eq(lockstep_flush(NULL), SQLITE_MISUSE);
    ck_assert_int_eq(lockstep_ticket(NULL), 0);
    close_db(stock);
    close_db(db);
    ck_assert_int_eq(lockstep_shutdown(), SQLITE_OK);
    ck_assert_ptr_null(sqlite3_vfs_find("lockstep"));
    ck_assert_int_eq(lockstep_initialize(NULL, 1), SQLITE_OK);
    check_text(sqlite3_vfs_find(NULL)->zName, "lockstep");
}
END_TEST

START_TEST(without_a_worker_the_program_writes_behind_itself)
{
    sqlite3 *db = make("durability=async&max_lag=1&worker=0");
    uint64_t committed;
    must(db, "insert into t values(1)");
    committed = info(db).committed;
    sqlite3_sleep(30); /* longer than max_lag: nothing may happen by itself */
    ck_assert_uint_lt(info(db).flushed, committed);
    ck_assert_int_eq(lockstep_run(db), SQLITE_OK);
    ck_assert_uint_ge(info(db).flushed, committed);
    must(db, "insert into t values(2); pragma lockstep_flush");
    ck_assert_uint_eq(info(db).durable, info(db).committed);
    must(db, "pragma synchronous = full; pragma lockstep_durability = default; insert into t values(3)");
    ck_assert_uint_eq(info(db).durable, info(db).committed);
    close_db(db);
    check_ordinary("a.db");
}
END_TEST

START_TEST(the_status_counts_clients_readers_and_writers)
{
    sqlite3 *db = make("durability=async"), *other = open_ours("a.db", "");
    ck_assert_uint_eq(info(db).clients, 1);
    ck_assert_uint_eq(info(db).readers, 0);
    must(other, "begin; select * from t");
    ck_assert_uint_eq(info(db).readers, 1);
    must(db, "insert into t values(1)");
    ck_assert_uint_lt(info(db).oldest_snapshot, info(db).committed);
    must(other, "commit");
    must(db, "begin immediate");
    ck_assert_int_eq(info(other).writer_pid, (int)getpid());
    must(db, "commit");
    ck_assert_int_eq(info(other).writer_pid, 0);
    close_db(other);
    close_db(db);
}
END_TEST

static Suite *
make_suite(void)
{
    Suite *suite = suite_create("interface");
    TCase *tcase = vfstest_case(suite, "interface");
    tcase_add_test(tcase, uri_parameters_set_what_they_say);
    tcase_add_test(tcase, a_uri_parameter_out_of_range_is_ignored_and_logged);
    tcase_add_test(tcase, each_durability_is_what_it_says);
    tcase_add_test(tcase, an_asynchronous_commit_is_durable_after_max_lag_by_itself);
    tcase_add_test(tcase, pragmas_answer_and_refuse_bad_values);
    tcase_add_test(tcase, calls_work_and_misuse_is_told);
    tcase_add_test(tcase, without_a_worker_the_program_writes_behind_itself);
    tcase_add_test(tcase, the_status_counts_clients_readers_and_writers);
    return suite;
}

int
main(int argc, char **argv)
{
    return vfstest_main(argc, argv, make_suite);
}
