/* Transactions of every kind, judged by stock SQLite doing the same. */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "vfs/pair.h"
#include "vfs/vfstest.h"

static void
fill(struct pair *pair)
{
    pair_sql(pair, "create table t(k integer primary key, v); create table u(k integer primary key, v)");
    pair_sql(pair, "with recursive c(x) as (select 1 union all select x + 1 from c where x < 2000) "
                   "insert into t select x, printf('%%0200d', x) from c");
}

static void
judge(struct pair *pair)
{
    pair_sql(pair, "select count(*), sum(k), sum(length(v)), min(v), max(v) from t");
    pair_sql(pair, "select count(*), sum(k), sum(length(v)), min(v), max(v) from u");
    pair_sql(pair, "pragma integrity_check; pragma page_count; pragma freelist_count");
}

START_TEST(rollback_leaves_no_trace)
{
    struct pair pair;
    pair_open(&pair, "");
    fill(&pair);
    pair_sql(&pair, "begin; delete from t; create table w(x); drop table u");
    pair_sql(&pair, "rollback");
    judge(&pair);
    pair_sql(&pair, "begin; update t set v = 'x'; rollback");
    judge(&pair);
    pair_sql(&pair, "insert or rollback into t select k, 1 from t");
    judge(&pair);
    pair_finish(&pair);
}
END_TEST

/* Ten pages of cache: pages are written to the store in mid-transaction, and read back. */
START_TEST(nested_savepoints_roll_back_though_the_cache_spilled)
{
    struct pair pair;
    pair_open(&pair, "");
    fill(&pair);
    pair_sql(&pair, "pragma cache_size = 10; pragma cache_spill = 5");
    pair_sql(&pair, "begin");
    pair_sql(&pair, "update t set v = v || 'a' where k %% 2 = 0");
    pair_sql(&pair, "savepoint one; update t set v = v || 'b' where k %% 3 = 0; insert into u select * from t");
    pair_sql(&pair, "savepoint two; delete from t where k %% 5 = 0; create index iv on t(v)");
    judge(&pair);
    pair_sql(&pair, "savepoint three; delete from u; drop index iv");
    judge(&pair);
    pair_sql(&pair, "rollback to three");
    judge(&pair);
    pair_sql(&pair, "rollback to two");
    judge(&pair);
    pair_sql(&pair, "update t set v = v || 'c' where k %% 7 = 0; release two");
    judge(&pair);
    if (_i == 0)
        pair_sql(&pair, "release one; commit");
    else
        pair_sql(&pair, "rollback to one; rollback");
    judge(&pair);
    pair_finish(&pair);
}
END_TEST

START_TEST(a_statement_that_fails_in_the_middle_undoes_itself_only)
{
    struct pair pair;
    pair_open(&pair, "");
    fill(&pair);
    pair_sql(&pair, "pragma cache_size = 10");
    pair_sql(&pair, "begin; insert into u select k, v from t where k > 500");
    pair_sql(&pair, "insert into u select k, v from t");
    pair_sql(&pair, "insert or fail into u select k, 'again' from t");
    judge(&pair);
    pair_sql(&pair, "update t set k = k + 1");
    pair_sql(&pair, "commit");
    judge(&pair);
    pair_finish(&pair);
}
END_TEST

static const char *const modes[] = {"delete", "truncate", "persist", "memory", "off"};

START_TEST(every_rollback_journal_mode_commits_rolls_back_and_answers_as_stock_does)
{
    struct pair pair;
    int spill = _i / 5;
    pair_open(&pair, "");
    pair_sql(&pair, "pragma journal_mode = %s", modes[_i % 5]);
    fill(&pair);
    if (spill)
        pair_sql(&pair, "pragma cache_size = 10");
    pair_sql(&pair, "pragma journal_mode");
    pair_sql(&pair, "begin; update t set v = 'x' || v where k %% 3 = 0; insert into u select * from t; commit");
    judge(&pair);
    /* With journal_mode=OFF stock SQLite cannot roll back what it wrote; nobody compares that. */
    if (_i % 5 != 4) {
        pair_sql(&pair, "begin; delete from t where k > 100; savepoint s; delete from u; rollback to s");
        judge(&pair);
        pair_sql(&pair, "rollback");
        judge(&pair);
    }
    pair_sql(&pair, "pragma journal_mode = %s", modes[(_i + 2) % 5]);
    pair_sql(&pair, "insert into u(v) values('after')");
    judge(&pair);
    pair_sql(&pair, "pragma journal_mode = delete");
    pair_finish(&pair);
}
END_TEST

START_TEST(every_synchronous_setting_gives_the_same_database)
{
    static const char *const levels[] = {"off", "normal", "full", "extra"};
    struct pair pair;
    pair_open(&pair, "");
    pair_sql(&pair, "pragma synchronous = %s; pragma synchronous", levels[_i]);
    fill(&pair);
    pair_sql(&pair, "update t set v = k");
    judge(&pair);
    pair_finish(&pair);
}
END_TEST

START_TEST(a_transaction_spans_attached_databases)
{
    struct pair pair;
    pair_open(&pair, "");
    fill(&pair);
    pair_sql(&pair, "attach '@-2.db' as two; attach '@-3.db' as three; attach ':memory:' as m");
    pair_sql(&pair, "create table two.x as select * from t where k < 100; create table three.y(k, v)");
    pair_sql(&pair, "create table m.z(k)");
    pair_sql(&pair, "begin; insert into two.x select * from t; delete from t where k > 10;"
                    "insert into three.y select * from two.x; insert into m.z select k from t; commit");
    pair_sql(&pair, "select count(*) from two.x union all select count(*) from three.y union all "
                    "select count(*) from m.z union all select count(*) from t");
    pair_sql(&pair, "begin; delete from two.x; delete from three.y; delete from t; rollback");
    pair_sql(&pair, "select count(*) from two.x union all select count(*) from three.y");
    pair_sql(&pair, "begin; savepoint s; delete from two.x; rollback to s; delete from three.y; commit");
    pair_sql(&pair, "select count(*) from two.x union all select count(*) from three.y");
    judge(&pair);
    pair_sql(&pair, "detach two; detach m");
    pair_sql(&pair, "select * from two.x");
    pair_finish(&pair);
    check_ordinary("ours-2.db");
    check_ordinary("ours-3.db");
    check_same_file("stock-2.db", "ours-2.db");
    check_same_file("stock-3.db", "ours-3.db");
}
END_TEST

START_TEST(temporary_tables_and_files_work_and_leave_nothing)
{
    struct pair pair;
    pair_open(&pair, "");
    fill(&pair);
    pair_sql(&pair, "pragma temp_store = file; pragma cache_size = 10");
    pair_sql(&pair, "create temp table s as select * from t; create index temp.si on s(v)");
    pair_sql(&pair, "pragma temp.cache_size = 10");
    pair_sql(&pair, "begin; update s set v = v || 'x'; delete from s where k %% 2; insert into t(v) select v from s;"
                    "rollback");
    pair_sql(&pair, "select count(*), max(v) from s");
    pair_sql(&pair, "select v, count(*) from (select * from t union all select * from s) group by v "
                    "order by v desc limit 20");
    pair_sql(&pair, "create temp trigger tr after insert on t begin insert into s(v) values(new.v); end");
    pair_sql(&pair, "insert into t(v) values('trigger'); select max(v) from s");
    judge(&pair);
    pair_finish(&pair);
}
END_TEST

START_TEST(a_transaction_larger_than_the_cache_and_the_soft_limit_commits_and_rolls_back)
{
    struct pair pair;
    pair_open(&pair, "store_limit=2000000&durability=async");
    fill(&pair);
    pair_sql(&pair, "pragma cache_size = 20");
    pair_sql(&pair, "begin; with recursive c(x) as (select 1 union all select x + 1 from c where x < 20000) "
                    "insert into u select x, printf('%%0500d', x) from c");
    pair_sql(&pair, "rollback");
    judge(&pair);
    pair_sql(&pair, "begin; with recursive c(x) as (select 1 union all select x + 1 from c where x < 20000) "
                    "insert into u select x, printf('%%0500d', x) from c");
    pair_sql(&pair, "commit");
    judge(&pair);
    sqlite3_busy_timeout(pair.ours, 5000);
    pair_sql(&pair, "update u set v = v || 'x'");
    judge(&pair);
    pair_finish(&pair);
}
END_TEST

/* 300 MB by default, 4 GB under LKS_SOAK; where pointers have 32 bits, less than the default hard limit, 256 MiB. */
START_TEST(one_huge_transaction_commits)
{
    long long rows = sizeof(void *) < 8 ? 200 : vfstest_soak() ? 4000 : 300, i;
    char want[64];
    sqlite3_stmt *insert;
    sqlite3 *db = open_ours("huge.db", "durability=async");
    must(db, "create table t(k integer primary key, v blob); begin");
    ck_assert_int_eq(sqlite3_prepare_v2(db, "insert into t(v) values(zeroblob(1000000))", -1, &insert, NULL),
                     SQLITE_OK);
    for (i = 0; i < rows; i++) {
        ck_assert_int_eq(sqlite3_step(insert), SQLITE_DONE);
        sqlite3_reset(insert);
    }
    sqlite3_finalize(insert);
    must(db, "commit");
    snprintf(want, sizeof want, "%lld|%lld", rows, rows * 1000000);
    check_text(must(db, "select count(*), sum(length(v)) from t"), want);
    sqlite3_busy_timeout(db, 60000);
    must(db, "insert into t(v) values('after')");
    close_db(db);
    check_ordinary("huge.db");
    ck_assert_int_gt(file_size("huge.db"), rows * 1000000);
}
END_TEST

START_TEST(a_backup_out_of_and_into_a_database_copies_it)
{
    struct pair pair;
    sqlite3 *copy, *into;
    sqlite3_backup *backup;
    int rc, steps = 0;
    pair_open(&pair, "");
    fill(&pair);
    /* Out, in steps, with a commit of the source's own connection in between. */
    copy = open_stock("copy.db");
    backup = sqlite3_backup_init(copy, "main", pair.ours, "main");
    ck_assert_ptr_nonnull(backup);
    while ((rc = sqlite3_backup_step(backup, 20)) == SQLITE_OK)
        if (++steps == 3)
            must(pair.ours, "update t set v = 'changed' where k = 1");
    ck_assert_int_eq(rc, SQLITE_DONE);
    ck_assert_int_eq(sqlite3_backup_finish(backup), SQLITE_OK);
    ck_assert_int_gt(steps, 3);
    check_text(must(copy, "select count(*), (select v from t where k = 1) from t"), "2000|changed");
    check_text(must(copy, "pragma integrity_check"), "ok");
    /* In, over a database of another page size. */
    into = open_ours("into.db", "");
    must(into, "pragma page_size = 8192; create table old(x)");
    backup = sqlite3_backup_init(into, "main", pair.stock, "main");
    ck_assert_ptr_nonnull(backup);
    rc = sqlite3_backup_step(backup, -1);
    ck_assert_int_eq(sqlite3_backup_finish(backup), rc == SQLITE_DONE ? SQLITE_OK : rc);
    ck_assert_int_eq(rc, SQLITE_DONE);
    check_text(must(into, "select count(*) from t"), "2000");
    check_text(must(into, "pragma integrity_check"), "ok");
    check_text(must(into, "select max(v) from t"), must(pair.stock, "select max(v) from t"));
    must(into, "insert into t(v) values('more')");
    close_db(into);
    close_db(copy);
    pair_close(&pair);
    check_ordinary("into.db");
    check_ordinary("ours.db");
}
END_TEST

START_TEST(blobs_are_read_and_written_in_place)
{
    struct pair pair;
    sqlite3_blob *blob[2];
    char bytes[1000], got[1000];
    int i;
    memset(bytes, 'b', sizeof bytes);
    pair_open(&pair, "");
    pair_sql(&pair, "create table b(k integer primary key, v blob); insert into b values(1, zeroblob(500000))");
    for (i = 0; i < 2; i++) {
        sqlite3 *db = i == 0 ? pair.stock : pair.ours;
        int at;
        ck_assert_int_eq(sqlite3_blob_open(db, "main", "b", "v", 1, 1, &blob[i]), SQLITE_OK);
        for (at = 0; at < 500000; at += 70001 - 20000 * (at % 2))
            ck_assert_int_eq(sqlite3_blob_write(blob[i], bytes, (int)sizeof bytes,
                                                at > 499000 ? 499000 : at),
                             SQLITE_OK);
        ck_assert_int_eq(sqlite3_blob_read(blob[i], got, (int)sizeof got, 70001), SQLITE_OK);
        ck_assert_int_eq(memcmp(got, bytes, sizeof got), 0);
        ck_assert_int_eq(sqlite3_blob_close(blob[i]), SQLITE_OK);
    }
    pair_sql(&pair, "select hex(substr(v, 70001, 2000)), length(v) from b");
    pair_finish(&pair);
}
END_TEST

START_TEST(pragmas_that_change_the_header_are_kept)
{
    struct pair pair;
    pair_open(&pair, "");
    pair_sql(&pair, "pragma encoding = 'UTF-16le'; pragma user_version = 17; pragma application_id = 4711");
    pair_sql(&pair, "create table t(x); insert into t values('text'); pragma secure_delete = on");
    pair_sql(&pair, "delete from t; pragma user_version; pragma application_id; pragma schema_version");
    pair_sql(&pair, "pragma data_version");
    pair_finish(&pair);
    pair_open(&pair, "");
    pair_sql(&pair, "pragma encoding; pragma user_version; pragma application_id; pragma journal_mode");
    pair_finish(&pair);
}
END_TEST

/* Allocated blocks of the coordination file, in bytes. */
static long long
coordination_blocks(void)
{
    struct stat st;
    ck_assert_int_eq(stat("a.db-lockstep", &st), 0);
    return (long long)st.st_blocks * 512;
}

static bool
holes_can_be_punched(void)
{
    int fd = open("probe", O_RDWR | O_CREAT, 0600);
    bool can = fd >= 0 && ftruncate(fd, 1 << 20) == 0 &&
               fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 1 << 20) == 0;
    close(fd);
    return can;
}

START_TEST(the_disk_space_of_a_huge_transaction_is_given_back_when_it_is_written)
{
    sqlite3 *db = open_ours("a.db", "store_limit=1048576&durability=async");
    long long before, peak, after;
    if (!holes_can_be_punched()) {
        close_db(db);
        return;
    }
    must(db, "create table t(v); insert into t values(0); pragma lockstep_flush");
    before = coordination_blocks();
    must(db, "insert into t select zeroblob(1000000) from (values(1),(1),(1),(1),(1),(1),(1),(1),(1),(1)), "
             "(values(1),(1),(1))");
    peak = coordination_blocks();
    ck_assert_msg(peak > before + (25 << 20), "%lld, then %lld", before, peak);
    must(db, "pragma lockstep_flush");
    /* The next writer does it, unless a walk is in its way. */
    must(db, "insert into t values(1); pragma lockstep_flush");
    must(db, "insert into t values(2); pragma lockstep_flush");
    after = coordination_blocks();
    ck_assert_msg(after <= before + (4 << 20), "%lld, then %lld, then %lld", before, peak, after);
    /* What was given back is used again. */
    must(db, "insert into t select zeroblob(1000000) from (values(1),(1),(1),(1),(1),(1),(1),(1),(1),(1))");
    check_text(must(db, "select count(*), sum(length(v)) from t; pragma integrity_check"), "43|40000003\nok");
    close_db(db);
    check_ordinary("a.db");
}
END_TEST

static Suite *
make_suite(void)
{
    Suite *suite = suite_create("transactions");
    TCase *tcase = vfstest_case(suite, "transactions");
    tcase_add_test(tcase, rollback_leaves_no_trace);
    tcase_add_loop_test(tcase, nested_savepoints_roll_back_though_the_cache_spilled, 0, 2);
    tcase_add_test(tcase, a_statement_that_fails_in_the_middle_undoes_itself_only);
    tcase_add_loop_test(tcase, every_rollback_journal_mode_commits_rolls_back_and_answers_as_stock_does, 0,
                        10);
    tcase_add_loop_test(tcase, every_synchronous_setting_gives_the_same_database, 0, 4);
    tcase_add_test(tcase, a_transaction_spans_attached_databases);
    tcase_add_test(tcase, temporary_tables_and_files_work_and_leave_nothing);
    tcase_add_test(tcase, a_transaction_larger_than_the_cache_and_the_soft_limit_commits_and_rolls_back);
    tcase_add_test(tcase, one_huge_transaction_commits);
    tcase_add_test(tcase, the_disk_space_of_a_huge_transaction_is_given_back_when_it_is_written);
    tcase_add_test(tcase, a_backup_out_of_and_into_a_database_copies_it);
    tcase_add_test(tcase, blobs_are_read_and_written_in_place);
    tcase_add_test(tcase, pragmas_that_change_the_header_are_kept);
    return suite;
}

int
main(int argc, char **argv)
{
    return vfstest_main(argc, argv, make_suite);
}
