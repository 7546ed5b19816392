/* Page sizes, VACUUM and automatic vacuum: the same file as stock SQLite makes, byte for byte. */
#include "vfs/pair.h"
#include "vfs/peer.h"
#include "vfs/vfstest.h"

static const int sizes[] = {512, 1024, 2048, 4096, 8192, 16384, 32768, 65536};
#define SIZES ((int)(sizeof sizes / sizeof sizes[0]))

static void
fill(struct pair *pair, int rows)
{
    pair_sql(pair, "create table t(k integer primary key, a, b)");
    pair_sql(pair, "create index i on t(a)");
    pair_sql(pair,
             "with recursive c(x) as (select 1 union all select x + 1 from c where x < %d) "
             "insert into t select x, (x * 7919) %% 10007, printf('%%0*d', 100 + x %% 300, x) from c",
             rows);
}

static void
judge(struct pair *pair)
{
    pair_sql(pair, "pragma page_size; pragma page_count; pragma freelist_count; pragma auto_vacuum");
    pair_sql(pair, "select count(*), sum(k), sum(a), sum(length(b)), max(b) from t");
    pair_sql(pair, "select k, b from t where a between 100 and 200 order by a, k");
    pair_sql(pair, "pragma integrity_check");
}

START_TEST(a_new_database_has_the_page_size_that_was_asked_for)
{
    struct pair pair;
    pair_open(&pair, "");
    pair_sql(&pair, "pragma page_size = %d", sizes[_i]);
    fill(&pair, 500);
    judge(&pair);
    pair_sql(&pair, "delete from t where k %% 3 = 0; update t set b = b || 'x' where k %% 5 = 0");
    judge(&pair);
    pair_finish(&pair);
    pair_open(&pair, "");
    judge(&pair);
    pair_sql(&pair, "insert into t(a, b) values(1, 2); delete from t where k < 50");
    judge(&pair);
    pair_finish(&pair);
}
END_TEST

START_TEST(an_existing_database_of_any_page_size_is_read_and_written)
{
    struct pair pair;
    sqlite3 *db = open_stock("stock.db");
    must(db, "pragma page_size = %d; create table t(k integer primary key, a, b)", sizes[_i]);
    must(db, "with recursive c(x) as (select 1 union all select x + 1 from c where x < 300) "
             "insert into t select x, x %% 7, hex(zeroblob(x)) from c");
    close_db(db);
    copy_file("stock.db", "ours.db");
    pair_open(&pair, "durability=async");
    judge(&pair);
    pair_sql(&pair, "update t set a = a + 1 where k %% 2 = 0");
    pair_sql(&pair, "insert into t(a, b) select a, b || 'y' from t");
    judge(&pair);
    pair_finish(&pair);
}
END_TEST

START_TEST(vacuum_changes_the_page_size_up_and_down)
{
    int to;
    struct pair pair;
    pair_open(&pair, "");
    pair_sql(&pair, "pragma page_size = %d", sizes[_i]);
    fill(&pair, 300);
    for (to = 0; to < SIZES; to++) {
        pair_sql(&pair, "pragma page_size = %d; vacuum", sizes[(_i + to * 3) % SIZES]);
        judge(&pair);
        pair_sql(&pair, "insert into t(a, b) values(%d, 'after')", to);
        pair_sql(&pair, "delete from t where k = %d", to * 10);
        judge(&pair);
    }
    pair_finish(&pair);
}
END_TEST

START_TEST(another_process_follows_a_change_of_the_page_size)
{
    struct peer peer;
    sqlite3 *db = open_ours("a.db", "");
    int i;
    must(db, "pragma page_size = 4096; create table t(k integer primary key, v)");
    must(db, "with recursive c(x) as (select 1 union all select x + 1 from c where x < 200) "
             "insert into t select x, hex(zeroblob(200)) from c");
    peer_start(&peer);
    check_text(peer_ask(&peer, "open 0 file:a.db?vfs=lockstep"), "");
    check_text(peer_ask(&peer, "timeout 0 5000"), "");
    for (i = 0; i < SIZES; i++) {
        check_text(peer_ask(&peer, "sql 0 select count(*) from t"),
                   must(db, "select count(*) from t"));
        sqlite3_busy_timeout(db, 5000);
        must(db, "pragma page_size = %d", sizes[i]);
        must(db, "vacuum");
        check_text(peer_ask(&peer, "sql 0 insert into t(v) values('peer')"), "");
        check_text(peer_ask(&peer, "sql 0 pragma integrity_check"), "ok");
        check_text(must(db, "pragma integrity_check"), "ok");
        check_text(must(db, "select count(*) from t where v = 'peer'"),
                   peer_ask(&peer, "sql 0 select %d", i + 1));
    }
    check_text(must(db, "pragma page_size"), "65536");
    close_db(db);
    peer_exit(&peer);
    check_ordinary("a.db");
}
END_TEST

START_TEST(vacuum_shrinks_the_file)
{
    struct pair pair;
    pair_open(&pair, "");
    fill(&pair, 3000);
    pair_sql(&pair, "delete from t where k %% 10 != 0");
    judge(&pair);
    pair_sql(&pair, "vacuum");
    judge(&pair);
    pair_sql(&pair, "vacuum into '@-copy.db'");
    judge(&pair);
    pair_finish(&pair);
    check_ordinary("ours-copy.db");
    check_same_file("stock-copy.db", "ours-copy.db");
}
END_TEST

START_TEST(automatic_and_incremental_vacuum_move_the_same_pages)
{
    int i;
    struct pair pair;
    pair_open(&pair, "");
    pair_sql(&pair, "pragma page_size = 1024; pragma auto_vacuum = %s", _i == 0 ? "full" : "incremental");
    fill(&pair, 1000);
    for (i = 0; i < 8; i++) {
        pair_sql(&pair, "delete from t where k between %d and %d", i * 100, i * 100 + 90);
        pair_sql(&pair, "pragma incremental_vacuum(%d)", i * 7);
        judge(&pair);
    }
    pair_sql(&pair, "begin; delete from t where k > 500; pragma incremental_vacuum; rollback");
    judge(&pair);
    pair_sql(&pair, "begin; delete from t where k > 300; pragma incremental_vacuum; commit");
    judge(&pair);
    pair_finish(&pair);
}
END_TEST

static Suite *
make_suite(void)
{
    Suite *suite = suite_create("page sizes");
    TCase *tcase = vfstest_case(suite, "page sizes");
    tcase_add_loop_test(tcase, a_new_database_has_the_page_size_that_was_asked_for, 0, SIZES);
    tcase_add_loop_test(tcase, an_existing_database_of_any_page_size_is_read_and_written, 0, SIZES);
    tcase_add_loop_test(tcase, vacuum_changes_the_page_size_up_and_down, 0, SIZES);
    tcase_add_test(tcase, another_process_follows_a_change_of_the_page_size);
    tcase_add_test(tcase, vacuum_shrinks_the_file);
    tcase_add_loop_test(tcase, automatic_and_incremental_vacuum_move_the_same_pages, 0, 2);
    return suite;
}

int
main(int argc, char **argv)
{
    return vfstest_main(argc, argv, make_suite);
}
