/* Tests "lockstep flush", "recover", "locks" and "status" on databases that are used through Lockstep. */
#include <check.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <sqlite3.h>

#include <lockstep/lockstep.h>

#include "tools/holder.h"

static int
prepare(void)
{
    return lockstep_initialize(NULL, 0);
}

static char
connect(void)
{
    return holder_start_with("lockstep", prepare, "durability=async");
}

/*
 * A table made by stock SQLite; one process with three commits, which are not written behind until somebody
 * asks.
 */
static char
connect_with_pending_commits(void)
{
    char stock = holder_start(), who;
    holder_sql(stock, "CREATE TABLE t(a)", SQLITE_OK);
    holder_kill(stock);
    who = holder_start_with("lockstep", prepare, "durability=async&max_lag=3600000");
    holder_sql(who, "INSERT INTO t VALUES(1)", SQLITE_OK);
    holder_sql(who, "INSERT INTO t VALUES(2)", SQLITE_OK);
    holder_sql(who, "INSERT INTO t VALUES(3)", SQLITE_OK);
    return who;
}

/* What a stock process finds in the file. */
static void
expect_stock(const char *sql)
{
    char stock = holder_start();
    char text[256];
    snprintf(text, sizeof text, "SELECT CASE WHEN (%s) THEN 1 ELSE abs(-9223372036854775808) END", sql);
    holder_sql(stock, text, SQLITE_OK); /* else: integer overflow */
    holder_kill(stock);
}

START_TEST(a_transaction_through_lockstep_is_shown)
{
    char a = connect(), b = connect(), who;
    char *out, *err;
    holder_sql(a, "CREATE TABLE t(a)", SQLITE_OK);
    holder_sql(a, "BEGIN IMMEDIATE; INSERT INTO t VALUES(1)", SQLITE_OK);
    holder_sql(b, "BEGIN; SELECT * FROM t", SQLITE_OK);
    ck_assert_int_eq(tool_run("locks -n -o LOCK,MODE,STATE,PID,PROGRAM,CONN db", &out, &err), 0);
    ck_assert_str_eq(err, "");
    ck_assert_ptr_nonnull(strstr(out, "WRITER WRITE held A holder 1\n"));
    ck_assert_ptr_nonnull(strstr(out, "SNAPSHOT READ held A holder 1\n"));
    ck_assert_ptr_nonnull(strstr(out, "SNAPSHOT READ held B holder 1\n"));
    ck_assert_ptr_nonnull(strstr(out, "DMS2 READ held A holder\n"));
    ck_assert_ptr_nonnull(strstr(out, "DMS2 READ held B holder\n"));
    ck_assert_ptr_nonnull(strstr(out, "CLIENT(0) WRITE held A holder\n"));
    ck_assert_ptr_nonnull(strstr(out, "CLIENT(1) WRITE held B holder\n"));
    free(out);
    free(err);
    holder_sql(b, "COMMIT", SQLITE_OK);
    ck_assert_int_eq(tool_run("locks -n -o LOCK,PID db", &out, &err), 0);
    ck_assert_ptr_null(strstr(out, "SNAPSHOT B"));
    free(out);
    free(err);
    tool_expect("status -n -o COORDINATION,CLIENTS,READERS,WAITERS,WRITER db", 0,
                "Lockstep 2 1 0 A\n", "");
    for (who = 'A'; who <= 'B'; who++)
        holder_kill(who);
}
END_TEST

START_TEST(a_writer_that_waits_is_shown_in_the_queue)
{
    char a = connect(), b = connect();
    char *out, *err;
    holder_sql(a, "CREATE TABLE t(a)", SQLITE_OK);
    holder_sql(a, "BEGIN IMMEDIATE", SQLITE_OK);
    holder_sql_begins(b, "PRAGMA busy_timeout=60000; BEGIN IMMEDIATE");
    for (int look = 0;; look++) {
        ck_assert_int_lt(look, 200);
        ck_assert_int_eq(tool_run("locks -n -o LOCK,STATE,PID,DETAIL db", &out, &err), 0);
        if (strstr(out, "WRITER waiting B next in line\n") != NULL)
            break;
        free(out);
        free(err);
        usleep(10000);
    }
    ck_assert_ptr_nonnull(strstr(out, "WRITER held A writes; 1 waits\n"));
    free(out);
    free(err);
    holder_sql(a, "COMMIT", SQLITE_OK);
    holder_ends(b, SQLITE_OK);
    tool_expect("status -n -o WAITERS,WRITER db", 0, "0 B\n", "");
}
END_TEST

START_TEST(flush_makes_pending_commits_durable)
{
    connect_with_pending_commits();
    tool_expect("status -n -o PENDING db", 0, "3\n", "");
    tool_expect("flush db", 0, "", "");
    tool_expect("status -n -o PENDING db", 0, "0\n", "");
    expect_stock("(SELECT sum(a) FROM t) = 6");
}
END_TEST

START_TEST(flush_of_a_stock_database_has_nothing_to_do)
{
    char a = holder_start();
    holder_sql(a, "CREATE TABLE t(a); INSERT INTO t VALUES(6)", SQLITE_OK);
    tool_expect("flush db", 0, "", "");
    expect_stock("(SELECT sum(a) FROM t) = 6");
    ck_assert_int_ne(access(holder_path("db-lockstep"), F_OK), 0);
}
END_TEST

START_TEST(recover_writes_what_the_dead_had_committed)
{
    holder_kill(connect_with_pending_commits());
    expect_stock("(SELECT count(*) FROM t) = 0");
    tool_expect("status -n -o COORDINATION,PENDING db", 0,
                "Lockstep, left by processes that died 3\n", "");
    tool_expect("recover db", 0,
                "db: left by processes that died, 3 commits pending\n"
                "db: all commits are in the database and durable\n",
                "");
    expect_stock("(SELECT sum(a) FROM t) = 6 AND (SELECT * FROM pragma_integrity_check) = 'ok'");
    ck_assert_int_ne(access(holder_path("db-lockstep"), F_OK), 0);
    tool_expect("recover db", 0, "db: nothing to recover\n", "");
}
END_TEST

START_TEST(recover_beside_living_processes_flushes)
{
    connect_with_pending_commits();
    tool_expect("recover db", 0,
                "db: in use by 1 process, which will recover what there is\n"
                "db: all commits are in the database and durable\n",
                "");
    expect_stock("(SELECT sum(a) FROM t) = 6");
}
END_TEST

START_TEST(what_cannot_be_recovered_is_set_aside_and_named)
{
    char *out, *err;
    int fd;
    holder_kill(connect_with_pending_commits());
    fd = open(holder_path("db-lockstep"), O_WRONLY);
    ck_assert_int_eq(pwrite(fd, "scribble", 8, 24), 8);
    close(fd);
    ck_assert_int_eq(tool_run("status db", &out, &err), 1);
    ck_assert_ptr_nonnull(strstr(out, "DIR/db-lockstep "));
    free(out);
    free(err);
    ck_assert_int_eq(tool_run("recover db", &out, &err), 1);
    ck_assert_ptr_nonnull(strstr(out, "DIR/db-lockstep.orphan-1 was set aside: its commits are not in the "
                                      "database\n"));
    ck_assert_ptr_nonnull(strstr(err, "DIR/db-lockstep.orphan-1"));
    free(out);
    free(err);
    ck_assert_int_eq(access(holder_path("db-lockstep.orphan-1"), F_OK), 0);
    tool_expect("status -n -o ORPHANS db", 0, "1\n", "");
    expect_stock("(SELECT count(*) FROM t) = 0");
    tool_expect("recover db", 0,
                "db: nothing to recover\n"
                "DIR/db-lockstep.orphan-1 was set aside: its commits are not in the database\n",
                "");
}
END_TEST

START_TEST(recover_after_single_process_mode_says_what_is_lost)
{
    char stock = holder_start(), who;
    char *out, *err;
    holder_sql(stock, "CREATE TABLE t(a)", SQLITE_OK);
    holder_kill(stock);
    who = holder_start_with("lockstep", prepare, "durability=async&max_lag=3600000&multi_process=0");
    holder_sql(who, "INSERT INTO t VALUES(1)", SQLITE_OK);
    ck_assert_int_eq(tool_run("status -n -o COORDINATION,PROBLEM db", &out, &err), 0);
    ck_assert_ptr_nonnull(strstr(out, "Lockstep A process uses this database alone (multi_process=0)"));
    free(out);
    free(err);
    ck_assert_int_eq(tool_run("locks -n -o LOCK,MODE,PID,DETAIL db", &out, &err), 0);
    ck_assert_str_eq(out, "DMS2 WRITE B connected, alone\n"
                          "RESERVED WRITE B Lockstep refuses stock writers at once\n"
                          "SHARED READ B Lockstep keeps stock writers out\n");
    free(out);
    free(err);
    holder_kill(who);
    ck_assert_int_eq(tool_run("recover db", &out, &err), 0);
    ck_assert_str_eq(out, "db: left by a process that used it alone; commits that it had not written are lost\n"
                          "db: all other commits are in the database and durable\n");
    ck_assert_ptr_nonnull(strstr(err, "did not come to close it"));
    free(out);
    free(err);
    tool_expect("recover db", 0, "db: nothing to recover\n", "");
    expect_stock("(SELECT count(*) FROM t) = 0");
}
END_TEST

static void
make_file(const char *name, const char *content, size_t size, mode_t mode)
{
    int fd = open(holder_path(name), O_WRONLY | O_CREAT | O_TRUNC, 0666);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(write(fd, content, size), (ssize_t)size);
    ck_assert_int_eq(fchmod(fd, mode), 0);
    close(fd);
}

#define NEEDS "this needs a user who may read and write the database\n"

START_TEST(a_wrong_operand_gets_one_line_that_says_what_is_wrong)
{
    static const char *const commands[] = {"locks", "status", "top", "flush", "recover"};
    char text[200], args[64], want[256];
    size_t i;
    memset(text, 'x', sizeof text);
    make_file("text", text, sizeof text, 0644);
    ck_assert_int_eq(mkfifo(holder_path("fifo"), 0600), 0);
    for (i = 0; i < sizeof commands / sizeof commands[0]; i++) {
        snprintf(args, sizeof args, "%s ''", commands[i]);
        tool_expect(args, 1, "",
                    "lockstep: the name of the database is empty; give the name of its file\n");
        snprintf(args, sizeof args, "%s gone", commands[i]);
        tool_expect(args, 1, "",
                    "lockstep: gone: No such file or directory; give the name of the database file\n");
        snprintf(args, sizeof args, "%s .", commands[i]);
        tool_expect(args, 1, "",
                    "lockstep: . is not a file, so no database; give the name of the database file\n");
        snprintf(args, sizeof args, "%s fifo", commands[i]);
        tool_expect(args, 1, "",
                    "lockstep: fifo is not a file, so no database; give the name of the database file\n");
        snprintf(args, sizeof args, "%s --bogus db", commands[i]);
        snprintf(want, sizeof want,
                 "lockstep: %s: unrecognized option '--bogus'\n"
                 "Try 'lockstep %s --help' for more information.\n",
                 commands[i], commands[i]);
        tool_expect(args, 2, "", want);
    }
    /* Of what SQLite logs nothing is repeated. */
    tool_expect("flush text", 1, "", "lockstep: text: file is not a database\n");
    tool_expect("recover text", 0, "text: nothing to recover\n", "");
}
END_TEST

START_TEST(flush_works_in_wal_mode_and_says_what_permission_is_missing)
{
    char a = holder_start();
    holder_sql(a, "CREATE TABLE t(a)", SQLITE_OK);
    holder_kill(a);
    if (geteuid() == 0) {
        /* Skipped where that user cannot reach the program. */
        char drop[] = "setpriv --reuid 65534 --clear-groups \"${LKS_BUILDDIR:-.}/lockstep\" --version >/dev/null 2>&1";
        ck_assert_int_eq(chmod(holder_path(""), 0777), 0);
        ck_assert_int_eq(chmod(holder_path("db"), 0600), 0);
        if (system(drop) == 0) {
            tool_expect_as_nobody("flush db", 1, "", "lockstep: db: Permission denied; " NEEDS);
            tool_expect_as_nobody("recover db", 1, "", "lockstep: db: Permission denied; " NEEDS);
            ck_assert_int_eq(chmod(holder_path("db"), 0644), 0);
            tool_expect_as_nobody("flush db", 1, "", "lockstep: db: Permission denied; " NEEDS);
            tool_expect_as_nobody("recover db", 0, "db: nothing to recover\n", "");
        }
    }
    a = holder_start();
    holder_sql(a, "PRAGMA journal_mode=WAL", SQLITE_OK);
    tool_expect("flush db", 0, "", "");
}
END_TEST

int
main(void)
{
    Suite *suite = suite_create("tools/commands");
    TCase *shown = tcase_create("shown");
    TCase *done = tcase_create("done");
    SRunner *runner = srunner_create(suite);
    int failed;

    tcase_add_checked_fixture(shown, holder_begin, holder_finish);
    tcase_add_test(shown, a_transaction_through_lockstep_is_shown);
    tcase_add_test(shown, a_writer_that_waits_is_shown_in_the_queue);
    tcase_add_checked_fixture(done, holder_begin, holder_finish);
    tcase_add_test(done, flush_makes_pending_commits_durable);
    tcase_add_test(done, flush_of_a_stock_database_has_nothing_to_do);
    tcase_add_test(done, recover_writes_what_the_dead_had_committed);
    tcase_add_test(done, recover_beside_living_processes_flushes);
    tcase_add_test(done, what_cannot_be_recovered_is_set_aside_and_named);
    tcase_add_test(done, recover_after_single_process_mode_says_what_is_lost);
    tcase_add_test(done, a_wrong_operand_gets_one_line_that_says_what_is_wrong);
    tcase_add_test(done, flush_works_in_wal_mode_and_says_what_permission_is_missing);
    suite_add_tcase(suite, shown);
    suite_add_tcase(suite, done);
    srunner_run_all(runner, CK_NORMAL);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
