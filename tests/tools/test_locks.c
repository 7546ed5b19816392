/* Tests "lockstep locks" and "lockstep status" on stock databases: real processes hold each lock. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <sqlite3.h>

#include "tools/holder.h"

#define HEAD "LOCK MODE STATE PID PROGRAM PSTATE DETAIL\n"
#define SQLITE_LOCK_BYTES 0x40000000ll

static void
two_rows(char who)
{
    holder_sql(who, "CREATE TABLE IF NOT EXISTS t(a)", SQLITE_OK);
    holder_sql(who, "INSERT INTO t VALUES(1), (2)", SQLITE_OK);
}

START_TEST(a_reader_holds_shared)
{
    char a = holder_start();
    two_rows(a);
    holder_sql(a, "BEGIN; SELECT * FROM t", SQLITE_OK);
    tool_expect("locks db", 0, HEAD "SHARED READ held A holder sleeping reads\n", "");
}
END_TEST

START_TEST(a_writer_holds_reserved_while_others_read)
{
    char a = holder_start(), b = holder_start();
    two_rows(a);
    holder_sql(a, "BEGIN; SELECT * FROM t", SQLITE_OK);
    holder_sql(b, "BEGIN IMMEDIATE; INSERT INTO t VALUES(3)", SQLITE_OK);
    tool_expect("locks db", 0,
                HEAD "RESERVED WRITE held B holder sleeping writes; others may read\n"
                     "SHARED READ held A holder sleeping reads\n"
                     "SHARED READ held B holder sleeping reads\n",
                "");
}
END_TEST

START_TEST(a_writer_that_waits_for_a_reader_holds_pending)
{
    char a = holder_start(), b = holder_start();
    two_rows(a);
    holder_sql(a, "BEGIN; SELECT * FROM t", SQLITE_OK);
    holder_sql(b, "BEGIN; INSERT INTO t VALUES(3)", SQLITE_OK);
    holder_sql(b, "COMMIT", SQLITE_BUSY);
    tool_expect("locks db", 0,
                HEAD "PENDING WRITE held B holder sleeping no new readers; waits until those inside "
                     "have left\n"
                     "RESERVED WRITE held B holder sleeping writes\n"
                     "SHARED READ held A holder sleeping reads\n"
                     "SHARED READ held B holder sleeping reads\n",
                "");
}
END_TEST

START_TEST(exclusive_is_shown_with_what_it_includes)
{
    char a = holder_start();
    two_rows(a);
    holder_sql(a, "BEGIN EXCLUSIVE", SQLITE_OK);
    tool_expect("locks db", 0,
                HEAD "PENDING WRITE held A holder sleeping no new readers\n"
                     "RESERVED WRITE held A holder sleeping writes\n"
                     "EXCLUSIVE WRITE held A holder sleeping writes the database file; nobody else "
                     "may read\n",
                "");
}
END_TEST

START_TEST(every_holder_is_shown_not_only_the_first)
{
    char first = holder_start();
    two_rows(first);
    for (int i = 0; i < 5; i++)
        holder_sql(holder_start(), "BEGIN; SELECT * FROM t", SQLITE_OK);
    tool_expect("locks -n -o LOCK,PID db", 0, "SHARED B\nSHARED C\nSHARED D\nSHARED E\nSHARED F\n", "");
    holder_kill('D');
    tool_expect("locks -n -o LOCK,PID db", 0, "SHARED B\nSHARED C\nSHARED E\nSHARED F\n", "");
}
END_TEST

START_TEST(wal_locks_are_shown_by_name)
{
    char a = holder_start(), b = holder_start();
    holder_sql(a, "PRAGMA journal_mode=WAL", SQLITE_OK);
    two_rows(a);
    holder_sql(a, "BEGIN; SELECT * FROM t", SQLITE_OK);
    holder_sql(b, "BEGIN IMMEDIATE; INSERT INTO t VALUES(3)", SQLITE_OK);
    tool_expect("locks db", 0,
                HEAD "SHARED READ held A holder sleeping connected, in WAL mode\n"
                     "SHARED READ held B holder sleeping connected, in WAL mode\n"
                     "WRITE WRITE held B holder sleeping writes to the WAL\n"
                     "READ1 READ held A holder sleeping reads a snapshot\n"
                     "READ1 READ held B holder sleeping reads a snapshot\n"
                     "DMS READ held A holder sleeping connected\n"
                     "DMS READ held B holder sleeping connected\n",
                "");
}
END_TEST

START_TEST(a_checkpoint_that_waits_for_a_reader_is_seen)
{
    char a = holder_start(), b = holder_start();
    holder_sql(a, "PRAGMA journal_mode=WAL", SQLITE_OK);
    two_rows(a);
    holder_sql(a, "BEGIN; SELECT * FROM t", SQLITE_OK);
    holder_sql(b, "INSERT INTO t VALUES(3)", SQLITE_OK);
    holder_sql_stops(b, "PRAGMA wal_checkpoint(RESTART)");
    tool_expect("locks -n -o LOCK,MODE,PID,DETAIL,FILE db", 0,
                "SHARED READ A connected, in WAL mode database\n"
                "SHARED READ B connected, in WAL mode database\n"
                "WRITE WRITE B writes to the WAL shm\n"
                "CKPT WRITE B checkpoints shm\n"
                "READ1 READ A reads a snapshot; keeps 1 newer frame from being written back shm\n"
                "DMS READ A connected shm\n"
                "DMS READ B connected shm\n",
                "");
    holder_goes(b, SQLITE_OK);
    tool_expect("locks -n -o LOCK,PID db", 0, "SHARED A\nSHARED B\nREAD1 A\nDMS A\nDMS B\n", "");
}
END_TEST

/* Locks that touch are one line for the kernel. */
START_TEST(each_byte_of_the_wal_index_has_its_name)
{
    char a = holder_start();
    holder_lock(a, "db-shm", 'P', 'w', 120, 9);
    tool_expect("locks -n -o LOCK,MODE,START,END db", 0,
                "WRITE WRITE 120 120\nCKPT WRITE 121 121\nRECOVER WRITE 122 122\n"
                "READ0 WRITE 123 123\nREAD1 WRITE 124 124\nREAD2 WRITE 125 125\n"
                "READ3 WRITE 126 126\nREAD4 WRITE 127 127\nDMS WRITE 128 128\n",
                "");
}
END_TEST

START_TEST(bytes_that_are_not_sqlites_are_shown_as_such)
{
    char a = holder_start(), b = holder_start();
    holder_lock(a, "db", 'P', 'r', 7, 0);
    holder_lock(b, "db-shm", 'P', 'w', 0, 1);
    tool_expect("locks -n -o LOCK,MODE,PID,START,END,DETAIL db", 0,
                "BYTES READ A 7 1073741823 bytes 7 to 1073741823\n"
                "PENDING READ A 1073741824 1073741824 about to read\n"
                "RESERVED READ A 1073741825 1073741825 keeps writers out\n"
                "SHARED READ A 1073741826 1073742335 reads\n"
                "BYTES READ A 1073742336 bytes 1073742336 to the end\n"
                "BYTES WRITE B 0 0 bytes 0 to 0\n",
                "");
}
END_TEST

START_TEST(the_holder_of_a_description_lock_is_named)
{
    char a = holder_start();
    holder_lock(a, "db", 'O', 'w', SQLITE_LOCK_BYTES + 1, 1);
    tool_expect("locks db", 0, HEAD "RESERVED WRITE held A holder sleeping writes; others may read\n",
                "");
}
END_TEST

START_TEST(who_waits_stands_behind_who_holds)
{
    char a = holder_start(), b = holder_start();
    holder_sql(a, "BEGIN IMMEDIATE", SQLITE_OK);
    holder_waits(b, "db", 'w', SQLITE_LOCK_BYTES + 1, 1);
    tool_expect("locks -n -o LOCK,MODE,STATE,PID db", 0,
                "RESERVED WRITE held A\nRESERVED WRITE waiting B\nSHARED READ held A\n", "");
}
END_TEST

START_TEST(a_stopped_holder_is_shown_as_stopped_with_the_cure)
{
    char a = holder_start();
    holder_sql(a, "BEGIN IMMEDIATE", SQLITE_OK);
    holder_stop(a);
    tool_expect("locks db", 0,
                HEAD "RESERVED WRITE held A holder stopped writes; others may read; stopped; "
                     "\"kill -CONT A\" lets it go on\n"
                     "SHARED READ held A holder stopped reads\n",
                "");
    holder_continue(a);
    tool_expect("locks -n -o LOCK,PSTATE db", 0, "RESERVED sleeping\nSHARED sleeping\n", "");
}
END_TEST

START_TEST(looking_disturbs_nobody)
{
    char a = holder_start(), b = holder_start();
    two_rows(a);
    holder_sql(a, "BEGIN EXCLUSIVE; INSERT INTO t VALUES(3)", SQLITE_OK);
    for (int i = 0; i < 3; i++) {
        char *out, *err;
        ck_assert_int_eq(tool_run("locks db", &out, &err), 0);
        free(out);
        free(err);
        ck_assert_int_eq(tool_run("status db", &out, &err), 0);
        free(out);
        free(err);
    }
    holder_sql(b, "SELECT * FROM t", SQLITE_BUSY);
    holder_sql(a, "COMMIT", SQLITE_OK);
    holder_sql(b, "SELECT * FROM t", SQLITE_OK);
}
END_TEST

START_TEST(a_symbolic_link_leads_to_the_files_beside_its_target)
{
    char a = holder_start();
    holder_sql(a, "PRAGMA journal_mode=WAL; CREATE TABLE t(a); BEGIN; SELECT * FROM t", SQLITE_OK);
    ck_assert_int_eq(symlink("db", holder_path("link")), 0);
    tool_expect("locks -n -o LOCK link", 0, "SHARED\nREAD1\nDMS\n", "");
}
END_TEST

START_TEST(no_locks_are_a_heading_alone)
{
    holder_kill(holder_start());
    ck_assert_int_eq(truncate(holder_path("db"), 0), 0);
    tool_expect("locks db", 0, HEAD, "");
    tool_expect("locks -n db", 0, "", "");
    tool_expect("locks -J db", 0, "{\n\"locks\": []\n}\n", "");
}
END_TEST

START_TEST(json_has_numbers_where_numbers_are)
{
    char a = holder_start();
    two_rows(a);
    holder_sql(a, "BEGIN; SELECT * FROM t", SQLITE_OK);
    tool_expect("locks --json --output lock,mode,state,pid,program,pstate,conn,since,file,start db", 0,
                "{\n\"locks\": [\n{\n"
                "\"lock\": \"SHARED\",\n"
                "\"mode\": \"READ\",\n"
                "\"state\": \"held\",\n"
                "\"pid\": A,\n"
                "\"program\": \"holder\",\n"
                "\"pstate\": \"sleeping\",\n"
                "\"conn\": null,\n"
                "\"since\": null,\n"
                "\"file\": \"database\",\n"
                "\"start\": 1073741826\n"
                "}\n]\n}\n",
                "");
}
END_TEST

START_TEST(output_adds_to_the_default_columns)
{
    char a = holder_start();
    two_rows(a);
    holder_sql(a, "BEGIN; SELECT * FROM t", SQLITE_OK);
    tool_expect("locks -o +START,end db", 0,
                "LOCK MODE STATE PID PROGRAM PSTATE DETAIL START END\n"
                "SHARED READ held A holder sleeping reads 1073741826 1073742335\n",
                "");
    tool_expect("locks --raw --noheadings -o lock,detail db", 0, "SHARED reads\n", "");
    tool_expect("locks -n --output-all db", 0,
                "SHARED READ held A holder sleeping reads database 1073741826 1073742335\n", "");
}
END_TEST

#define TRY "Try 'lockstep locks --help' for more information.\n"

START_TEST(wrong_usage_is_exit_2_and_says_what_is_right)
{
    holder_start();
    tool_expect("locks", 2, "", "lockstep: locks: which database? Give the name of its file\n" TRY);
    tool_expect("locks db db", 2, "", "lockstep: locks: one database at a time\n" TRY);
    tool_expect("locks -o LOCK,WHAT db", 2, "", "lockstep: unknown column: WHAT\n" TRY);
    tool_expect("locks -o '' db", 2, "", "lockstep: unknown column:\n" TRY);
    tool_expect("locks -J -r db", 2, "", "lockstep: --json and --raw exclude each other\n" TRY);
    tool_expect("lock db", 2, "",
                "lockstep: lock: no such subcommand\nTry 'lockstep --help' for more information.\n");
}
END_TEST

START_TEST(a_database_that_is_not_there_is_exit_1)
{
    const char *missing = "lockstep: gone: No such file or directory; give the name of the database "
                          "file\n";
    const char *folder = "lockstep: . is not a file, so no database; give the name of the database "
                         "file\n";
    tool_expect("locks gone", 1, "", missing);
    tool_expect("status gone", 1, "", missing);
    tool_expect("flush gone", 1, "", missing);
    tool_expect("recover gone", 1, "", missing);
    tool_expect("locks .", 1, "", folder);
}
END_TEST

START_TEST(output_that_cannot_be_written_is_exit_1)
{
    char *out, *err;
    holder_start();
    ck_assert_int_eq(tool_run("locks db >/dev/full", &out, &err), 1);
    ck_assert_str_eq(err, "lockstep: standard output: No space left on device\n");
    free(out);
    free(err);
}
END_TEST

START_TEST(status_of_a_stock_database_says_that_nobody_coordinates)
{
    char a = holder_start();
    two_rows(a);
    tool_expect("status db", 0,
                "Database: DIR/db\nJournal mode: rollback journal\n"
                "Coordination: none: nobody uses it through Lockstep\nLocks: 0\n",
                "");
    holder_sql(a, "PRAGMA journal_mode=WAL; BEGIN IMMEDIATE", SQLITE_OK);
    tool_expect("status db", 0,
                "Database: DIR/db\nJournal mode: WAL\n"
                "Coordination: none: nobody uses it through Lockstep\n"
                "Frames in the log: 0\nNot written back: 0\nLocks: 4\n",
                "");
    tool_expect("status --json -o journal,committed,clients,tripwire,orphans db", 0,
                "{\n\"status\": [\n{\n\"journal\": \"WAL\",\n\"committed\": null,\n"
                "\"clients\": null,\n\"tripwire\": false,\n\"orphans\": 0\n}\n]\n}\n",
                "");
}
END_TEST

START_TEST(status_knows_a_file_that_is_no_database)
{
    holder_kill(holder_start());
    ck_assert_int_eq(truncate(holder_path("db"), 0), 0);
    tool_expect("status -n -o JOURNAL db", 0, "none yet: the file is empty\n", "");
    ck_assert_int_eq(truncate(holder_path("db"), 5000), 0);
    tool_expect("status -n -o JOURNAL db", 0,
                "unknown: not a SQLite database, or an encrypted one\n", "");
}
END_TEST

START_TEST(top_looks_again_and_again)
{
    char a = holder_start();
    two_rows(a);
    holder_sql(a, "BEGIN; SELECT * FROM t", SQLITE_OK);
#define LOOK                                                                                     \
    "Database: DIR/db\nJournal mode: rollback journal\n"                                         \
    "Coordination: none: nobody uses it through Lockstep\nLocks: 1\n\n" HEAD                     \
    "SHARED READ held A holder sleeping reads\n"
    tool_expect("top --count 2 --delay 0.01 db", 0, LOOK "\n" LOOK, "");
    tool_expect("top -d 0 db", 2, "",
                "lockstep: top: 0 is not a number above 0\n"
                "Try 'lockstep top --help' for more information.\n");
}
END_TEST

static const char *const subcommands[] = {"locks", "status", "top", "flush", "recover", "run"};

START_TEST(each_subcommand_has_help_and_version)
{
    char args[64], want[64], *out, *err, *by_help;
    static const char *const version[] = {"--version", "-V"};
    snprintf(args, sizeof args, "%s --help", subcommands[_i]);
    ck_assert_int_eq(tool_run(args, &out, &err), 0);
    snprintf(want, sizeof want, "Usage: lockstep %s ", subcommands[_i]);
    ck_assert_msg(strncmp(out, want, strlen(want)) == 0, "%s", out);
    ck_assert_str_eq(err, "");
    free(err);
    snprintf(args, sizeof args, "help %s", subcommands[_i]);
    ck_assert_int_eq(tool_run(args, &by_help, &err), 0);
    ck_assert_str_eq(by_help, out);
    free(by_help);
    free(out);
    free(err);
    for (int i = 0; i < 2; i++) {
        snprintf(args, sizeof args, "%s %s", subcommands[_i], version[i]);
        tool_expect(args, 0, "lockstep (Lockstep) " PACKAGE_VERSION "\n", "");
    }
    snprintf(args, sizeof args, "%s --nonsense", subcommands[_i]);
    ck_assert_int_eq(tool_run(args, &out, &err), 2);
    ck_assert_str_eq(out, "");
    free(out);
    free(err);
}
END_TEST

int
main(void)
{
    Suite *suite = suite_create("tools/locks");
    TCase *stock = tcase_create("stock");
    TCase *output = tcase_create("output");
    SRunner *runner = srunner_create(suite);
    int failed;

    tcase_add_checked_fixture(stock, holder_begin, holder_finish);
    tcase_add_test(stock, a_reader_holds_shared);
    tcase_add_test(stock, a_writer_holds_reserved_while_others_read);
    tcase_add_test(stock, a_writer_that_waits_for_a_reader_holds_pending);
    tcase_add_test(stock, exclusive_is_shown_with_what_it_includes);
    tcase_add_test(stock, every_holder_is_shown_not_only_the_first);
    tcase_add_test(stock, wal_locks_are_shown_by_name);
    tcase_add_test(stock, a_checkpoint_that_waits_for_a_reader_is_seen);
    tcase_add_test(stock, each_byte_of_the_wal_index_has_its_name);
    tcase_add_test(stock, bytes_that_are_not_sqlites_are_shown_as_such);
    tcase_add_test(stock, the_holder_of_a_description_lock_is_named);
    tcase_add_test(stock, who_waits_stands_behind_who_holds);
    tcase_add_test(stock, a_stopped_holder_is_shown_as_stopped_with_the_cure);
    tcase_add_test(stock, looking_disturbs_nobody);
    tcase_add_test(stock, a_symbolic_link_leads_to_the_files_beside_its_target);
    tcase_add_test(stock, status_of_a_stock_database_says_that_nobody_coordinates);
    tcase_add_test(stock, status_knows_a_file_that_is_no_database);
    tcase_add_checked_fixture(output, holder_begin, holder_finish);
    tcase_add_test(output, no_locks_are_a_heading_alone);
    tcase_add_test(output, json_has_numbers_where_numbers_are);
    tcase_add_test(output, output_adds_to_the_default_columns);
    tcase_add_test(output, wrong_usage_is_exit_2_and_says_what_is_right);
    tcase_add_test(output, a_database_that_is_not_there_is_exit_1);
    tcase_add_test(output, top_looks_again_and_again);
    tcase_add_loop_test(output, each_subcommand_has_help_and_version, 0,
                        sizeof subcommands / sizeof subcommands[0]);
    tcase_add_test(output, output_that_cannot_be_written_is_exit_1);
    suite_add_tcase(suite, stock);
    suite_add_tcase(suite, output);
    srunner_run_all(runner, CK_NORMAL);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
