/* Single-process mode, multi_process=0: who may connect, where the memory is, what is left. */
#include <fcntl.h>
#include <lockstep/inspect.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "vfs/pair.h"
#include "vfs/peer.h"
#include "vfs/vfstest.h"

#define ALONE "multi_process=0&durability=async"
#define URI "file:a.db?vfs=lockstep"

static bool
peer_logged(struct peer *peer, const char *words)
{
    return strstr(peer_ask(peer, "log"), words) != NULL;
}

START_TEST(its_memory_is_its_own_and_nothing_is_left)
{
    sqlite3 *db = open_ours("a.db", ALONE), *second;
    struct stat st;
    int i;
    must(db, "create table t(v)");
    for (i = 0; i < 100; i++)
        must(db, "insert into t values(%d)", i);
    /* A mark, and no memory. */
    ck_assert_int_eq(stat("a.db-lockstep", &st), 0);
    ck_assert_int_lt((int)st.st_size, 100);
    /* Other connections of this process take part. */
    second = open_ours("a.db", "");
    check_text(must(second, "select count(*) from t"), "100");
    must(second, "insert into t values(100)");
    check_text(must(db, "select count(*) from t"), "101");
    ck_assert_uint_eq(info(db).clients, 1);
    ck_assert_uint_eq(info(db).hard_limit, sizeof(void *) < 8 ? 256ull << 20 : 1ull << 30);
    must(db, "pragma lockstep_flush");
    ck_assert_uint_eq(info(db).durable, info(db).committed);
    close_db(second);
    close_db(db);
    check_ordinary("a.db");
}
END_TEST

START_TEST(the_tables_show_what_is_in_its_memory)
{
    sqlite3 *db = open_ours("a.db", ALONE);
    must(db, "create table t(v); pragma lockstep_flush; begin immediate");
    check_text(must(db, "select lock, mode, detail, pid=%d from lockstep_locks where file<>'database' order by 1",
                    (int)getpid()),
               "DMS2|WRITE|connected, alone|1\nSNAPSHOT|READ|newest|1\nWRITER|WRITE|writes|1");
    check_text(must(db, "select client, alive, connections, pid=%d from lockstep_clients", (int)getpid()),
               "0|1|1|1");
    must(db, "commit");
    close_db(db);
}
END_TEST

START_TEST(nobody_else_may_connect_and_the_log_says_who_is_there)
{
    struct peer peer;
    sqlite3 *db;
    char who[64];
    peer_start(&peer);
    check_text(peer_ask(&peer, "open 0 " URI "&" ALONE), "");
    check_text(peer_ask(&peer, "sql 0 create table t(v); insert into t values(1)"), "");
    db = open_ours("a.db", "");
    check_text(sql(db, "select * from t"), "error 5: database is locked");
    sqlite3_snprintf(sizeof who, who, "(pid %d); close it there", (int)peer.pid);
    ck_assert_msg(logged("is used alone (multi_process=0) by"), "%s", log_text());
    ck_assert_msg(logged(who), "%s", log_text());
    close_db(db);
    /* Alone, too. */
    db = open_ours("a.db", ALONE);
    check_text(sql(db, "select * from t"), "error 5: database is locked");
    close_db(db);
    /* Stock SQLite reads what is written behind, and may not write. */
    check_text(peer_ask(&peer, "sql 0 pragma lockstep_flush"), "3");
    db = open_stock("a.db");
    sqlite3_busy_timeout(db, 5000); /* the batch may just be ending */
    check_text(must(db, "select * from t"), "1");
    sqlite3_busy_timeout(db, 0);
    ck_assert_int_eq(code(db, "insert into t values(2)") & 0xff, SQLITE_BUSY);
    close_db(db);
    ck_assert_int_eq(open_code("a.db", "vfs=lockstep&mode=ro", SQLITE_OPEN_READONLY, &db), SQLITE_OK);
    sqlite3_busy_timeout(db, 5000);
    check_text(must(db, "select * from t"), "1");
    close_db(db);
    /* It has not noticed. */
    check_text(peer_ask(&peer, "sql 0 insert into t values(3); select count(*) from t"), "2");
    check_text(peer_ask(&peer, "close 0"), "");
    db = open_ours("a.db", "");
    check_text(must(db, "select count(*) from t"), "2");
    close_db(db);
    peer_exit(&peer);
    check_ordinary("a.db");
}
END_TEST

START_TEST(it_is_refused_while_others_are_connected)
{
    struct peer peer;
    sqlite3 *db;
    char who[64];
    peer_start(&peer);
    check_text(peer_ask(&peer, "open 0 " URI), "");
    check_text(peer_ask(&peer, "sql 0 create table t(v); insert into t values(1)"), "");
    db = open_ours("a.db", ALONE);
    check_text(sql(db, "select * from t"), "error 5: database is locked");
    sqlite3_snprintf(sizeof who, who, "(pid %d); close it there", (int)peer.pid);
    ck_assert_msg(logged("cannot be used alone (multi_process=0): it is also used by"), "%s", log_text());
    ck_assert_msg(logged(who), "%s", log_text());
    /* Busy, not broken: when the other has left, the next try succeeds. */
    peer_exit(&peer);
    check_text(must(db, "select * from t"), "1");
    close_db(db);
    check_ordinary("a.db");
}
END_TEST

START_TEST(a_busy_timeout_waits_for_it)
{
    struct peer peer;
    sqlite3 *db = open_ours("a.db", ALONE);
    must(db, "create table t(v)");
    peer_start(&peer);
    check_text(peer_ask(&peer, "open 0 " URI), "");
    check_text(peer_ask(&peer, "timeout 0 20000"), "");
    peer_tell(&peer, "sql 0 insert into t values(1); select count(*) from t");
    ck_assert(!peer_answers(&peer, 50));
    close_db(db);
    check_text(peer_answer(&peer), "1");
    ck_assert(peer_logged(&peer, "is used alone"));
    peer_exit(&peer);
    check_ordinary("a.db");
}
END_TEST

START_TEST(what_dead_processes_left_is_written_first)
{
    struct peer peer;
    sqlite3 *db;
    peer_start(&peer);
    check_text(peer_ask(&peer, "open 0 " URI "&durability=async&max_lag=3600000"), "");
    check_text(peer_ask(&peer, "sql 0 create table t(v); insert into t values(1); insert into t values(2)"), "");
    peer_kill(&peer);
    db = open_ours("a.db", ALONE);
    check_text(must(db, "select count(*) from t"), "2");
    must(db, "insert into t values(3)");
    close_db(db);
    ck_assert(!logged("orphan"));
    check_ordinary("a.db");
}
END_TEST

START_TEST(from_outside_it_is_said_that_one_process_is_alone)
{
    struct lockstep_inspection *picture;
    struct peer peer;
    peer_start(&peer);
    check_text(peer_ask(&peer, "open 0 " URI "&" ALONE), "");
    check_text(peer_ask(&peer, "sql 0 create table t(v)"), "");
    ck_assert_int_eq(lockstep_inspect_open("a.db", &picture), LOCKSTEP_OK);
    ck_assert_int_eq(lockstep_inspect_database(picture)->coordination, LOCKSTEP_COORD_LIVE);
    ck_assert_ptr_nonnull(strstr(lockstep_inspect_database(picture)->problem, "alone"));
    ck_assert_str_eq(lockstep_inspect_lock(picture, 0)->name, "DMS2");
    ck_assert_int_eq(lockstep_inspect_lock(picture, 0)->process.pid, peer.pid);
    lockstep_inspect_close(picture);
    peer_kill(&peer);
    ck_assert_int_eq(lockstep_inspect_open("a.db", &picture), LOCKSTEP_OK);
    ck_assert_int_eq(lockstep_inspect_database(picture)->coordination, LOCKSTEP_COORD_LEFT);
    ck_assert_ptr_nonnull(strstr(lockstep_inspect_database(picture)->problem, "did not come to close it"));
    lockstep_inspect_close(picture);
}
END_TEST

/* The child neither writes into its parent's memory nor connects beside it. */
START_TEST(a_child_of_fork_is_refused)
{
    sqlite3 *db = open_ours("a.db", ALONE), *own;
    int status;
    pid_t child;
    must(db, "create table t(v); insert into t values(1)");
    child = fork();
    if (child == 0) {
        own = open_ours("a.db", "");
        _exit(code(db, "insert into t values(2)") == SQLITE_MISUSE &&
                      (code(own, "insert into t values(3)") & 0xff) == SQLITE_BUSY
                  ? 0
                  : 1);
    }
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    ck_assert_int_eq(status, 0);
    /* That the child ended took no lock away. */
    check_text(must(db, "select count(*) from lockstep_locks where lock='DMS2' and mode='WRITE'"), "1");
    must(db, "insert into t values(4)");
    check_text(must(db, "select group_concat(v) from t"), "1,4");
    close_db(db);
    check_ordinary("a.db");
}
END_TEST

START_TEST(exit_without_close_writes_everything)
{
    struct peer peer;
    sqlite3 *db;
    peer_start(&peer);
    check_text(peer_ask(&peer, "open 0 " URI "&" ALONE "&max_lag=3600000"), "");
    check_text(peer_ask(&peer, "sql 0 create table t(v); insert into t values(1); insert into t values(2)"), "");
    peer_exit(&peer);
    db = open_stock("a.db");
    check_text(must(db, "select count(*) from t"), "2");
    close_db(db);
    check_ordinary("a.db");
}
END_TEST

START_TEST(it_answers_as_stock_sqlite_does)
{
    struct pair pair;
    pair_open(&pair, "multi_process=0");
    pair_sql(&pair, "create table t(a integer primary key, b); create index i on t(b)");
    pair_sql(&pair, "with recursive c(x) as (select 1 union all select x+1 from c where x<5000) "
                    "insert into t select x, x*7919 %% 5000 from c");
    pair_sql(&pair, "begin; delete from t where a %% 3=0; savepoint s; update t set b=b+1; rollback to s; commit");
    pair_sql(&pair, "pragma page_size=8192; vacuum");
    pair_sql(&pair, "select count(*), sum(a), sum(b) from t; pragma integrity_check");
    pair_finish(&pair);
}
END_TEST

START_TEST(a_huge_transaction_is_bounded_and_its_memory_is_given_back)
{
    sqlite3 *db = open_ours("a.db", ALONE "&store_limit=1048576&hard_limit=33554432");
    must(db, "create table t(v)");
    must(db, "insert into t select zeroblob(1000000) from (values(1),(1),(1),(1),(1),(1),(1),(1),(1),(1))");
    ck_assert_uint_gt(info(db).store_bytes, 8 << 20);
    /* The next writer after all of it is written finds much more than it needs. */
    must(db, "pragma lockstep_flush; delete from t where 0; insert into t values(1); pragma lockstep_flush");
    must(db, "insert into t values(2); pragma lockstep_flush; insert into t values(3)");
    ck_assert_uint_le(info(db).store_bytes, 2 << 20);
    ck_assert_int_eq(code(db, "insert into t select zeroblob(1000000) from t, t, t") & 0xff, SQLITE_FULL);
    check_text(must(db, "select count(*), sum(length(v)) > 10000000 from t; pragma integrity_check"), "13|1\nok");
    close_db(db);
    check_ordinary("a.db");
}
END_TEST

static Suite *
make_suite(void)
{
    Suite *suite = suite_create("alone");
    TCase *tcase = vfstest_case(suite, "alone");
    tcase_add_test(tcase, its_memory_is_its_own_and_nothing_is_left);
    tcase_add_test(tcase, the_tables_show_what_is_in_its_memory);
    tcase_add_test(tcase, nobody_else_may_connect_and_the_log_says_who_is_there);
    tcase_add_test(tcase, it_is_refused_while_others_are_connected);
    tcase_add_test(tcase, a_busy_timeout_waits_for_it);
    tcase_add_test(tcase, what_dead_processes_left_is_written_first);
    tcase_add_test(tcase, from_outside_it_is_said_that_one_process_is_alone);
    tcase_add_test(tcase, a_child_of_fork_is_refused);
    tcase_add_test(tcase, exit_without_close_writes_everything);
    tcase_add_test(tcase, it_answers_as_stock_sqlite_does);
    tcase_add_test(tcase, a_huge_transaction_is_bounded_and_its_memory_is_given_back);
    return suite;
}

int
main(int argc, char **argv)
{
    return vfstest_main(argc, argv, make_suite);
}
