/*
 * The VFS "sqlite3async" and its calls: what programs for SQLite's extension of that name rely on, and what that could
 * not do.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "vfs/asynctest.h"
#include "vfs/peer.h"

#define URI "file:a.db?vfs=sqlite3async"

static int
get(int op)
{
    int value = -1;
    ck_assert_int_eq(sqlite3async_control(op, &value), SQLITE_OK);
    return value;
}

/* Made to fail by values that are taken as they come. */
START_TEST(names_values_and_results_are_those_of_the_old_calls)
{
    ck_assert_str_eq(SQLITEASYNC_VFSNAME, "sqlite3async");
    ck_assert_int_eq(SQLITEASYNC_HALT * 100000 + SQLITEASYNC_GET_HALT * 10000 + SQLITEASYNC_DELAY * 1000 +
                         SQLITEASYNC_GET_DELAY * 100 + SQLITEASYNC_LOCKFILES * 10 + SQLITEASYNC_GET_LOCKFILES,
                     123456);
    ck_assert_int_eq(SQLITEASYNC_HALT_NEVER * 100 + SQLITEASYNC_HALT_NOW * 10 + SQLITEASYNC_HALT_IDLE, 12);
    ck_assert_int_eq(get(SQLITEASYNC_GET_HALT), SQLITEASYNC_HALT_NEVER);
    ck_assert_int_eq(get(SQLITEASYNC_GET_DELAY), 0);
    ck_assert_int_eq(get(SQLITEASYNC_GET_LOCKFILES), 1);
    ck_assert_int_eq(sqlite3async_control(SQLITEASYNC_HALT, SQLITEASYNC_HALT_IDLE), SQLITE_OK);
    ck_assert_int_eq(sqlite3async_control(SQLITEASYNC_DELAY, 7), SQLITE_OK);
    ck_assert_int_eq(sqlite3async_control(SQLITEASYNC_HALT, 3), SQLITE_MISUSE);
    ck_assert_int_eq(sqlite3async_control(SQLITEASYNC_HALT, -1), SQLITE_MISUSE);
    ck_assert_int_eq(sqlite3async_control(SQLITEASYNC_DELAY, -1), SQLITE_MISUSE);
    ck_assert_int_eq(sqlite3async_control(SQLITEASYNC_LOCKFILES, 2), SQLITE_MISUSE);
    ck_assert_int_eq(sqlite3async_control(SQLITEASYNC_TRACE, 2), SQLITE_MISUSE);
    ck_assert_int_eq(sqlite3async_control(0, 0), SQLITE_ERROR);
    ck_assert_int_eq(sqlite3async_control(9, 0), SQLITE_ERROR);
    ck_assert_int_eq(get(SQLITEASYNC_GET_HALT), SQLITEASYNC_HALT_IDLE);
    ck_assert_int_eq(get(SQLITEASYNC_GET_DELAY), 7);
    ck_assert_int_eq(get(SQLITEASYNC_GET_LOCKFILES), 1);
    /* Nothing is open: idle. */
    sqlite3async_run();
}
END_TEST

static const char *
vfs_of(sqlite3 *db)
{
    static char copy[64];
    char *name = NULL;
    ck_assert_int_eq(sqlite3_file_control(db, "main", SQLITE_FCNTL_VFSNAME, &name), SQLITE_OK);
    snprintf(copy, sizeof copy, "%s", name);
    sqlite3_free(name);
    return copy;
}

/* Made to fail by filling in the registered VFS anew: SQLite loses the others. */
START_TEST(it_is_registered_once_and_over_what_is_named)
{
    sqlite3_vfs *before = sqlite3_vfs_find(NULL);
    sqlite3 *db = open_async("a.db", "");
    ck_assert_str_eq(vfs_of(db), "sqlite3async/unix"); /* "gate" says what is below */
    /* No change, not even of the default. */
    ck_assert_int_eq(sqlite3async_initialize("no such", 1), SQLITE_OK);
    ck_assert_ptr_eq(sqlite3_vfs_find(NULL), before);
    /* Both use one parent. */
    ck_assert_int_eq(lockstep_initialize("unix", 0), SQLITE_MISUSE);
    ck_assert_int_eq(lockstep_shutdown(), SQLITE_OK);
    ck_assert_int_eq(lockstep_initialize(NULL, 0), SQLITE_OK);
    ck_assert_int_eq(lockstep_initialize(NULL, 1), SQLITE_OK);
    ck_assert_int_eq(lockstep_initialize(NULL, 1), SQLITE_OK);
    ck_assert_ptr_nonnull(sqlite3_vfs_find("gate"));
    ck_assert_int_eq(sqlite3_vfs_register(before, 1), SQLITE_OK);
    sqlite3async_shutdown();
    sqlite3async_shutdown();
    ck_assert_ptr_null(sqlite3_vfs_find(SQLITEASYNC_VFSNAME));
    /* What is open stays open. */
    must(db, "create table t(v); insert into t values(1)");
    close_db(db);
    ck_assert_int_eq(sqlite3async_initialize("no such", 0), SQLITE_ERROR);
    ck_assert_int_eq(sqlite3async_initialize("lockstep", 0), SQLITE_ERROR);
    ck_assert_int_eq(sqlite3async_initialize("unix", 0), SQLITE_MISUSE);
    ck_assert_int_eq(lockstep_shutdown(), SQLITE_OK);
    ck_assert_int_eq(sqlite3async_initialize("unix", 1), SQLITE_OK);
    ck_assert_str_eq(sqlite3_vfs_find(NULL)->zName, SQLITEASYNC_VFSNAME);
    ck_assert_int_eq(sqlite3_open("a.db", &db), SQLITE_OK);
    ck_assert_str_eq(vfs_of(db), "sqlite3async/unix");
    check_text(must(db, "insert into t values(2); select count(*) from t; pragma lockstep_durability"), "2\nasync");
    close_db(db);
    ck_assert_int_eq(stock_count("a.db"), 2);
}
END_TEST

/* Made to fail by a store without a limit; with BUSY at once; with a wait without an end. */
START_TEST(while_nobody_runs_memory_is_bounded_and_writers_are_told)
{
    sqlite3 *db = make_async("a.db", "store_limit=1048576");
    int rc = SQLITE_OK, n = 0;
    sqlite3_busy_timeout(db, 200);
    while (n < 1000 && (rc = code(db, "insert into t values(zeroblob(8000))")) == SQLITE_OK)
        n++;
    ck_assert_int_eq(rc & 0xff, SQLITE_BUSY);
    ck_assert_int_ge(n, 20);
    ck_assert_uint_le(info(db).pending_bytes, 1048576);
    ck_assert_uint_le(info(db).store_bytes, 1048576);
    /* Nobody is kept from reading, and nothing that was committed is lost. */
    ck_assert_int_eq(atoi(must(db, "select count(*) from t")), n);
    ck_assert_int_eq(sqlite3_get_autocommit(db), 1);
    run_idle();
    must(db, "insert into t values(1)");
    close_db(db);
    ck_assert_int_eq(stock_count("a.db"), n + 1);
}
END_TEST

/* Made to fail by a wait without an end. */
START_TEST(an_exclusive_connection_waits_a_while_and_goes_on_to_the_hard_limit)
{
    sqlite3 *db = make_async("a.db", "store_limit=1048576&hard_limit=4194304");
    sqlite3_int64 begin = 0, end = 0;
    sqlite3_vfs *vfs = sqlite3_vfs_find("unix");
    int n = 0;
    must(db, "pragma locking_mode=exclusive");
    while (n < 1000 && end - begin < 1000) {
        vfs->xCurrentTimeInt64(vfs, &begin);
        must(db, "insert into t values(zeroblob(8000))");
        vfs->xCurrentTimeInt64(vfs, &end);
        n++;
    }
    ck_assert_int_lt(n, 1000);
    ck_assert_int_eq(code(db, "insert into t values(zeroblob(8000000))") & 0xff, SQLITE_FULL);
    close_db(db);
    ck_assert_int_eq(stock_count("a.db"), n);
}
END_TEST

/* Made to fail by keeping WORKER, or a lock on the file, from one batch to the next. */
START_TEST(another_process_is_not_locked_out_while_commits_wait)
{
    struct peer peer;
    sqlite3 *db = make_async("a.db", "");
    must(db, "insert into t values(1)");
    ck_assert_uint_eq(waiting(db), 1);
    peer_start(&peer);
    check_text(peer_ask(&peer, "open 0 " URI), "");
    check_text(peer_ask(&peer, "sql 0 select count(*) from t; insert into t values(2)"), "1");
    check_text(must(db, "select count(*) from t"), "2");
    must(db, "begin; insert into t values(3)");
    check_text(peer_ask(&peer, "sql 0 select count(*) from t"), "2");
    must(db, "commit");
    check_text(peer_ask(&peer, "sql 0 select count(*) from t"), "3");
    ck_assert_uint_eq(waiting(db), 3);
    /* Stock SQLite reads what was written behind. */
    ck_assert_int_eq(stock_count("a.db"), 0);
    /* Nobody runs here: who needs it durable does it. */
    check_text(peer_ask(&peer, "sql 0 pragma lockstep_flush; select 'done'"), "5\ndone");
    ck_assert_uint_eq(waiting(db), 0);
    ck_assert_int_eq(stock_count("a.db"), 3);
    check_text(peer_ask(&peer, "sql 0 insert into t values(4)"), "");
    close_db(db);
    /* We were not the last. */
    ck_assert_int_eq(stock_count("a.db"), 3);
    check_text(peer_ask(&peer, "close 0"), "");
    ck_assert_int_eq(stock_count("a.db"), 4);
    peer_exit(&peer);
    check_ordinary("a.db");
}
END_TEST

/* Made to fail by a run that waits for the commits of its own process alone. */
START_TEST(a_run_writes_what_other_processes_commit)
{
    pthread_t thread;
    struct peer peer;
    sqlite3 *db = make_async("a.db", "max_lag=20");
    peer_start(&peer);
    check_text(peer_ask(&peer, "open 0 " URI), "");
    check_text(peer_ask(&peer, "sql 0 select count(*) from t"), "0");
    start_run(&thread);
    check_text(peer_ask(&peer, "sql 0 insert into t values(1)"), "");
    until_written(db);
    end_run(thread, SQLITEASYNC_HALT_NOW);
    check_text(peer_ask(&peer, "sql 0 insert into t values(2)"), "");
    run_idle();
    ck_assert_uint_eq(waiting(db), 0);
    peer_exit(&peer);
    close_db(db);
}
END_TEST

/* Made to fail by a halt when idle that leaves the other process its time, an hour. */
START_TEST(a_halt_when_idle_hurries_the_worker_of_another_process)
{
    struct peer peer;
    sqlite3 *db;
    peer_start(&peer);
    check_text(peer_ask(&peer, "open 0 file:a.db?vfs=lockstep&max_lag=3600000&durability=async"), "");
    check_text(peer_ask(&peer, "sql 0 create table t(v)"), "");
    db = open_async("a.db", "");
    must(db, "insert into t values(1)");
    ck_assert_uint_eq(waiting(db), 1);
    run_idle();
    ck_assert_uint_eq(waiting(db), 0);
    close_db(db);
    peer_exit(&peer);
    check_ordinary("a.db");
}
END_TEST

/* Made to fail by leaving the option out (the peer comes in); by not looking at what is open. */
START_TEST(without_lockfiles_a_database_is_of_one_process)
{
    struct peer peer;
    sqlite3 *db, *second;
    ck_assert_int_eq(sqlite3async_control(SQLITEASYNC_LOCKFILES, 0), SQLITE_OK);
    ck_assert_int_eq(get(SQLITEASYNC_GET_LOCKFILES), 0);
    db = make_async("a.db", "");
    ck_assert_int_lt((int)file_size("a.db-lockstep"), 100);
    ck_assert_int_eq(sqlite3async_control(SQLITEASYNC_LOCKFILES, 1), SQLITE_MISUSE);
    ck_assert_int_eq(get(SQLITEASYNC_GET_LOCKFILES), 0);
    second = open_async("a.db", "");
    must(second, "insert into t values(1)");
    check_text(must(db, "select count(*) from t"), "1");
    peer_start(&peer);
    check_text(peer_ask(&peer, "open 0 " URI), "");
    check_text(peer_ask(&peer, "sql 0 select count(*) from t"), "error 5: database is locked");
    run_idle();
    ck_assert_uint_eq(waiting(db), 0);
    close_db(db);
    ck_assert_int_eq(sqlite3async_control(SQLITEASYNC_LOCKFILES, 1), SQLITE_MISUSE);
    close_db(second);
    check_ordinary("a.db");
    ck_assert_int_eq(sqlite3async_control(SQLITEASYNC_LOCKFILES, 1), SQLITE_OK);
    db = open_async("a.db", "");
    must(db, "insert into t values(2)");
    check_text(peer_ask(&peer, "sql 0 select count(*) from t"), "2");
    peer_exit(&peer);
    close_db(db);
}
END_TEST

/* Made to fail by a wait that leaves the batch to a run. */
START_TEST(a_connection_that_asks_for_full_waits_for_nobody)
{
    sqlite3 *db = make_async("a.db", ""), *full = open_async("a.db", "durability=full"), *ours = open_ours("a.db", "");
    must(db, "insert into t values(1)");
    ck_assert_uint_eq(waiting(db), 1);
    must(full, "insert into t values(2)");
    ck_assert_uint_eq(info(db).durable, info(db).committed);
    must(db, "insert into t values(3)");
    must(ours, "insert into t values(4)");
    ck_assert_uint_eq(info(db).durable, info(db).committed);
    close_db(ours);
    close_db(full);
    close_db(db);
}
END_TEST

/* Made to fail by pending commits that are not adopted. */
START_TEST(commits_survive_the_death_of_their_process)
{
    struct peer peer;
    sqlite3 *db;
    close_db(make_async("a.db", ""));
    peer_start(&peer);
    check_text(peer_ask(&peer, "open 0 " URI), "");
    check_text(peer_ask(&peer, "sql 0 insert into t values(1); insert into t values(2)"), "");
    peer_kill(&peer);
    ck_assert_int_eq(stock_count("a.db"), 0);
    db = open_async("a.db", "");
    check_text(must(db, "select count(*) from t"), "2");
    ck_assert_uint_eq(waiting(db), 0);
    ck_assert(logged("writing 2 commits that processes which died had made"));
    close_db(db);
    check_ordinary("a.db");
}
END_TEST

static int
in_the_child(sqlite3 *carried)
{
    sqlite3 *own;
    if (code(carried, "insert into t values(9)") != SQLITE_MISUSE)
        return 1;
    own = open_async("a.db", "");
    must(own, "insert into t values(2)");
    run_idle();
    if (waiting(own) != 0)
        return 2;
    close_db(own);
    return sqlite3_close(carried) == SQLITE_OK ? 0 : 3;
}

/* Made to fail by a child that takes its parent's run for its own: it waits for it for ever. */
START_TEST(a_child_of_fork_may_run_its_own)
{
    pthread_t thread;
    sqlite3 *db = make_async("a.db", "max_lag=1");
    int status;
    pid_t child;
    start_run(&thread);
    must(db, "insert into t values(1)");
    until_written(db);
    child = fork();
    if (child == 0)
        _exit(in_the_child(db));
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    ck_assert_int_eq(status, 0);
    must(db, "insert into t values(3)");
    until_written(db);
    end_run(thread, SQLITEASYNC_HALT_IDLE);
    close_db(db);
    ck_assert_int_eq(stock_count("a.db"), 3);
}
END_TEST

START_TEST(a_database_in_wal_mode_passes_through)
{
    sqlite3 *db = open_stock("w.db");
    /* "gate" knows no WAL. */
    sqlite3async_shutdown();
    ck_assert_int_eq(lockstep_shutdown(), SQLITE_OK);
    ck_assert_int_eq(sqlite3async_initialize("unix", 0), SQLITE_OK);
    must(db, "pragma journal_mode=wal; create table t(v)");
    close_db(db);
    db = open_async("w.db", "");
    must(db, "insert into t values(1)");
    run_idle();
    close_db(db);
    ck_assert_int_eq(stock_count("w.db"), 1);
}
END_TEST

static Suite *
make_suite(void)
{
    Suite *suite = suite_create("async");
    TCase *tcase = vfstest_case(suite, "async");
    tcase_add_checked_fixture(tcase, async_begin, NULL);
    tcase_add_test(tcase, names_values_and_results_are_those_of_the_old_calls);
    tcase_add_test(tcase, it_is_registered_once_and_over_what_is_named);
    tcase_add_test(tcase, while_nobody_runs_memory_is_bounded_and_writers_are_told);
    tcase_add_test(tcase, an_exclusive_connection_waits_a_while_and_goes_on_to_the_hard_limit);
    tcase_add_test(tcase, another_process_is_not_locked_out_while_commits_wait);
    tcase_add_test(tcase, a_run_writes_what_other_processes_commit);
    tcase_add_test(tcase, a_halt_when_idle_hurries_the_worker_of_another_process);
    tcase_add_test(tcase, without_lockfiles_a_database_is_of_one_process);
    tcase_add_test(tcase, a_connection_that_asks_for_full_waits_for_nobody);
    tcase_add_test(tcase, commits_survive_the_death_of_their_process);
    tcase_add_test(tcase, a_child_of_fork_may_run_its_own);
    tcase_add_test(tcase, a_database_in_wal_mode_passes_through);
    return suite;
}

int
main(int argc, char **argv)
{
    return vfstest_main(argc, argv, make_suite);
}
