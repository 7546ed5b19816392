/* WAL mode, exclusive locking, read-only and other ways to open, names of one file. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "vfs/peer.h"
#include "vfs/vfstest.h"

#define URI(NAME) "file:" NAME "?vfs=lockstep"

static sqlite3 *
make(const char *name)
{
    sqlite3 *db = open_ours(name, "");
    must(db, "create table t(k integer primary key, v); insert into t(v) values('one')");
    return db;
}

START_TEST(one_client_may_switch_to_wal_and_back)
{
    sqlite3 *stock, *db = make("a.db");
    struct peer peer;
    check_text(must(db, "pragma journal_mode = wal"), "wal");
    must(db, "insert into t(v) values('two')");
    ck_assert(file_exists("a.db-wal"));
    ck_assert(file_exists("a.db-lockstep"));
    /* In WAL mode others read and write, of both kinds. */
    stock = open_stock("a.db");
    must(stock, "insert into t(v) values('three')");
    peer_start(&peer);
    check_text(peer_ask(&peer, "open 0 " URI("a.db")), "");
    check_text(peer_ask(&peer, "sql 0 insert into t(v) values('four'); select count(*) from t"), "4");
    check_text(peer_ask(&peer, "sql 0 pragma journal_mode"), "wal");
    check_text(must(db, "select count(*) from t"), "4");
    check_text(peer_ask(&peer, "close 0"), "");
    peer_exit(&peer);
    close_db(stock);
    check_text(must(db, "pragma journal_mode = delete"), "delete");
    must(db, "insert into t(v) values('five')");
    ck_assert(!file_exists("a.db-wal"));
    ck_assert(file_exists("a.db-lockstep"));
    check_text(must(db, "select group_concat(v) from t"), "one,two,three,four,five");
    close_db(db);
    check_ordinary("a.db");
}
END_TEST

START_TEST(with_two_clients_the_mode_stays_and_the_log_says_so)
{
    sqlite3 *db = make("a.db"), *other;
    struct peer peer;
    peer_start(&peer);
    check_text(peer_ask(&peer, "open 0 " URI("a.db")), "");
    check_text(peer_ask(&peer, "sql 0 select v from t"), "one");
    check_text(must(db, "pragma journal_mode = wal"), "delete");
    ck_assert(logged("stays in store mode"));
    must(db, "insert into t(v) values('two')");
    check_text(peer_ask(&peer, "sql 0 select count(*) from t"), "2");
    peer_exit(&peer);
    other = open_ours("a.db", "");
    check_text(must(other, "select count(*) from t"), "2");
    check_text(must(db, "pragma journal_mode = wal"), "delete");
    close_db(other);
    check_text(must(db, "pragma journal_mode = wal"), "wal");
    check_text(must(db, "select count(*) from t"), "2");
    check_text(must(db, "pragma integrity_check"), "ok");
    close_db(db);
}
END_TEST

START_TEST(stock_sqlite_is_welcome_at_a_database_in_wal_mode)
{
    sqlite3 *stock = open_stock("a.db"), *db;
    must(stock, "pragma journal_mode = wal; create table t(v); insert into t values('stock')");
    db = open_ours("a.db", "durability=async");
    check_text(must(db, "select v from t"), "stock");
    must(db, "insert into t values('ours')");
    check_text(must(stock, "select count(*) from t"), "2");
    must(stock, "begin immediate");
    ck_assert_int_eq(code(db, "insert into t values('refused')"), SQLITE_BUSY);
    must(stock, "commit");
    ck_assert(strstr(must(db, "pragma lockstep_status"), "\"wal_frames\"") != NULL);
    ck_assert_int_eq(lockstep_flush(db), SQLITE_OK);
    ck_assert(file_exists("a.db-lockstep"));
    close_db(stock);
    check_text(must(db, "pragma wal_checkpoint(truncate)"), "0|0|0");
    close_db(db);
    ck_assert(!file_exists("a.db-wal"));
    ck_assert(!file_exists("a.db-lockstep"));
}
END_TEST

START_TEST(exclusive_locking_keeps_other_writers_out_and_loses_nothing)
{
    sqlite3 *db = make("a.db");
    struct peer peer;
    peer_start(&peer);
    check_text(peer_ask(&peer, "open 0 " URI("a.db")), "");
    check_text(must(db, "pragma locking_mode = exclusive"), "exclusive");
    must(db, "insert into t(v) values('two')");
    check_text(peer_ask(&peer, "sql 0 insert into t(v) values('refused')"),
               "error 5: database is locked");
    must(db, "insert into t(v) values('three')");
    must(db, "begin; delete from t; rollback; update t set v = v || '.' where k = 3");
    check_text(peer_ask(&peer, "sql 0 insert into t(v) values('refused')"),
               "error 5: database is locked");
    check_text(must(db, "pragma locking_mode = normal"), "normal");
    /* The lock goes with the next use of the file, as SQLite documents. */
    check_text(must(db, "select group_concat(v) from t"), "one,two,three.");
    check_text(peer_ask(&peer, "sql 0 insert into t(v) values('four')"), "");
    must(db, "insert into t(v) values('five')");
    check_text(peer_ask(&peer, "sql 0 select group_concat(v) from t"), "one,two,three.,four,five");
    close_db(db);
    peer_exit(&peer);
    check_ordinary("a.db");
}
END_TEST

START_TEST(exclusive_locking_on_an_attached_database_spares_nobody)
{
    sqlite3 *db = make("a.db");
    struct peer peer;
    must(db, "attach 'b.db' as b; create table b.u(v)");
    check_text(must(db, "pragma locking_mode = exclusive"), "exclusive");
    must(db, "begin; insert into t(v) values(2); insert into u values(2); commit");
    must(db, "insert into u values(3)");
    peer_start(&peer);
    check_text(peer_ask(&peer, "open 0 " URI("b.db")), "");
    check_text(peer_ask(&peer, "sql 0 insert into u values('refused')"), "error 5: database is locked");
    check_text(must(db, "select count(*) from u"), "2");
    close_db(db);
    check_text(peer_ask(&peer, "sql 0 insert into u values('now'); select count(*) from u"), "3");
    peer_exit(&peer);
    check_ordinary("b.db");
}
END_TEST

START_TEST(a_read_only_connection_reads_and_is_refused_writing)
{
    sqlite3 *db = make("a.db"), *reader;
    int live = _i;
    must(db, "pragma lockstep_flush");
    if (!live)
        close_db(db);
    ck_assert_int_eq(open_code("a.db", "vfs=lockstep", SQLITE_OPEN_READONLY, &reader), SQLITE_OK);
    check_text(must(reader, "select v from t"), "one");
    ck_assert_int_eq(code(reader, "insert into t(v) values('no')"), SQLITE_READONLY);
    if (live) {
        must(db, "pragma lockstep_durability = async; insert into t(v) values('fresh')");
        check_text(must(reader, "select count(*) from t"), "2");
        close_db(db);
    }
    check_text(must(reader, "select v from t where k = 1"), "one");
    close_db(reader);
    check_ordinary("a.db");
}
END_TEST

/* As another user, who may read the database but not write it or its directory. */
START_TEST(without_permission_to_write_a_database_can_be_read)
{
    sqlite3 *db;
    struct peer peer;
    int live = _i;
    if (geteuid() != 0)
        return;
    db = make("a.db");
    must(db, "pragma lockstep_flush");
    ck_assert_int_eq(chmod("a.db", 0644), 0);
    ck_assert_int_eq(chmod(".", 0755), 0);
    if (!live)
        close_db(db);
    peer_start(&peer);
    check_text(peer_ask(&peer, "become 65534"), "");
    check_text(peer_ask(&peer, "open 0 " URI("a.db")), "");
    check_text(peer_ask(&peer, "sql 0 select v from t"), "one");
    check_text(peer_ask(&peer, "sql 0 insert into t(v) values('no')"),
               "error 8: attempt to write a readonly database");
    check_text(peer_ask(&peer, "sql 0 pragma integrity_check"), "ok");
    check_text(peer_ask(&peer, "close 0"), "");
    peer_exit(&peer);
    if (live) {
        must(db, "insert into t(v) values('on')");
        close_db(db);
    }
    check_ordinary("a.db");
}
END_TEST

START_TEST(in_a_read_only_directory_a_writer_is_told_so)
{
    struct peer peer;
    sqlite3 *db;
    if (geteuid() != 0)
        return;
    ck_assert_int_eq(mkdir("d", 0755), 0);
    db = make("d/a.db");
    close_db(db);
    ck_assert_int_eq(chmod("d/a.db", 0666), 0);
    peer_start(&peer);
    check_text(peer_ask(&peer, "become 65534"), "");
    check_text(peer_ask(&peer, "open 0 " URI("d/a.db")), "");
    /* Stock SQLite can read such a database, and cannot write it for want of a journal. */
    check_text(peer_ask(&peer, "sql 0 select v from t"), "one");
    ck_assert(strncmp(peer_ask(&peer, "sql 0 insert into t(v) values('no')"), "error ", 6) == 0);
    check_text(peer_ask(&peer, "sql 0 select count(*) from t"), "1");
    peer_exit(&peer);
    check_ordinary("d/a.db");
}
END_TEST

START_TEST(immutable_nolock_and_memory_go_to_the_base_vfs)
{
    sqlite3 *db = make("a.db");
    close_db(db);
    ck_assert_int_eq(open_code("a.db", "vfs=lockstep&immutable=1", SQLITE_OPEN_READONLY, &db), SQLITE_OK);
    check_text(must(db, "select v from t"), "one");
    ck_assert_int_eq(lockstep_flush(db), SQLITE_MISUSE);
    ck_assert(!file_exists("a.db-lockstep"));
    close_db(db);
    db = open_ours("a.db", "nolock=1");
    must(db, "insert into t(v) values('two')");
    ck_assert(!file_exists("a.db-lockstep"));
    close_db(db);
    check_ordinary("a.db");
    ck_assert_int_eq(sqlite3_open_v2(":memory:", &db, SQLITE_OPEN_READWRITE, "lockstep"), SQLITE_OK);
    must(db, "create table t(v); insert into t values(1)");
    ck_assert_int_eq(lockstep_flush(db), SQLITE_MISUSE);
    close_db(db);
    ck_assert_int_eq(sqlite3_open_v2("", &db, SQLITE_OPEN_READWRITE, "lockstep"), SQLITE_OK);
    must(db, "pragma cache_size = 1; create table t(v); insert into t values(zeroblob(1000000))");
    close_db(db);
}
END_TEST

START_TEST(two_names_of_one_file_are_one_database)
{
    sqlite3 *db = make("a.db"), *other;
    struct peer peer;
    ck_assert_int_eq(_i == 0 ? symlink("a.db", "b.db") : link("a.db", "b.db"), 0);
    other = open_ours("b.db", "");
    must(db, "pragma lockstep_durability = async; insert into t(v) values('two')");
    check_text(must(other, "select count(*) from t"), "2");
    must(db, "begin immediate");
    ck_assert_int_eq(code(other, "begin immediate"), SQLITE_BUSY);
    must(db, "commit");
    must(other, "insert into t(v) values('three')");
    check_text(must(db, "select count(*) from t"), "3");
    /* Another process by the second name: a symbolic link works, a hard link at worst is refused. */
    peer_start(&peer);
    check_text(peer_ask(&peer, "open 0 " URI("b.db")), "");
    if (_i == 0)
        check_text(peer_ask(&peer, "sql 0 insert into t(v) values('four'); select count(*) from t"), "4");
    else
        ck_assert(strcmp(peer_ask(&peer, "sql 0 select count(*) from t"), "3") == 0 ||
                  strncmp(peer_ask(&peer, "sql 0 select count(*) from t"), "error ", 6) == 0);
    peer_exit(&peer);
    close_db(other);
    check_text(must(db, "pragma integrity_check"), "ok");
    close_db(db);
    check_ordinary("a.db");
}
END_TEST

START_TEST(a_stock_connection_reads_beside_and_is_refused_writing)
{
    sqlite3 *db = make("a.db"), *stock;
    must(db, "pragma lockstep_flush");
    stock = open_stock("a.db");
    check_text(must(stock, "select v from t"), "one");
    ck_assert_int_ne(code(stock, "insert into t(v) values('no')"), SQLITE_OK);
    must(db, "insert into t(v) values('two')");
    check_text(must(stock, "select count(*) from t"), "2");
    close_db(db);
    /* A stock connection that has met the tripwire takes the file for read-only until it is opened anew. */
    close_db(stock);
    stock = open_stock("a.db");
    must(stock, "insert into t(v) values('three')");
    close_db(stock);
    check_ordinary("a.db");
}
END_TEST

START_TEST(a_schema_change_is_seen_by_another_process)
{
    sqlite3 *db = make("a.db");
    struct peer peer;
    int i;
    peer_start(&peer);
    check_text(peer_ask(&peer, "open 0 " URI("a.db")), "");
    check_text(peer_ask(&peer, "sql 0 select v from t"), "one");
    for (i = 0; i < 5; i++) {
        must(db, "alter table t add column c%d default %d", i, i);
        must(db, "create table n%d(x)", i);
        check_text(peer_ask(&peer, "sql 0 select c%d from t where k = 1", i),
                   must(db, "select %d", i));
        check_text(peer_ask(&peer, "sql 0 insert into n%d values(1); drop table n%d", i, i), "");
        ck_assert_int_eq(code(db, "select * from n%d", i), SQLITE_ERROR);
    }
    close_db(db);
    peer_exit(&peer);
    check_ordinary("a.db");
}
END_TEST

static Suite *
make_suite(void)
{
    Suite *suite = suite_create("modes");
    TCase *tcase = vfstest_case(suite, "modes");
    tcase_add_test(tcase, one_client_may_switch_to_wal_and_back);
    tcase_add_test(tcase, with_two_clients_the_mode_stays_and_the_log_says_so);
    tcase_add_test(tcase, stock_sqlite_is_welcome_at_a_database_in_wal_mode);
    tcase_add_test(tcase, exclusive_locking_keeps_other_writers_out_and_loses_nothing);
    tcase_add_test(tcase, exclusive_locking_on_an_attached_database_spares_nobody);
    tcase_add_loop_test(tcase, a_read_only_connection_reads_and_is_refused_writing, 0, 2);
    tcase_add_loop_test(tcase, without_permission_to_write_a_database_can_be_read, 0, 2);
    tcase_add_test(tcase, in_a_read_only_directory_a_writer_is_told_so);
    tcase_add_test(tcase, immutable_nolock_and_memory_go_to_the_base_vfs);
    tcase_add_loop_test(tcase, two_names_of_one_file_are_one_database, 0, 2);
    tcase_add_test(tcase, a_stock_connection_reads_beside_and_is_refused_writing);
    tcase_add_test(tcase, a_schema_change_is_seen_by_another_process);
    return suite;
}

int
main(int argc, char **argv)
{
    return vfstest_main(argc, argv, make_suite);
}
