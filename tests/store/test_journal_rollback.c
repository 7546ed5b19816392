/* Hot journals of stock SQLite, and odd ones: we leave the same files behind as it does. */
#include <check.h>
#include <signal.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/crashpoint.h"
#include "store/journal.h"
#include "store/journal_files.h"
#include "store/journal_format.h"

#define OK(CALL) ck_assert_int_eq((CALL), LOCKSTEP_OK)

START_TEST(a_transaction_of_stock_sqlite_that_died_is_rolled_back)
{
    const struct stock_case *c = &stock_cases[_i];
    uint32_t records, sector;
    make_hot("a", c);
    ck_assert_uint_ge(count_headers("a", &records, &sector), c->min_headers);
    ck_assert_uint_eq(sector, c->sector);
    ck_assert((records == LKS_JOURNAL_TO_THE_END) == (strstr(c->pragmas, "OFF") != NULL));
    assert_same_as_stock("a", c->pragmas);
    ck_assert(our_rollback(&lks_io_os, "a"));
    assert_original("a");
    ck_assert(!file_exists("a-journal"));
    stock_check("a");
    ck_assert(!our_rollback(&lks_io_os, "a"));
}
END_TEST

START_TEST(a_journal_of_an_sqlite_that_wrote_no_page_size_is_rolled_back)
{
    make_hot("a", &stock_cases[_i]);
    file_patch_u32("a-journal", 24, 0);
    assert_same_as_stock("a", "page size 0");
    ck_assert(our_rollback(&lks_io_os, "a"));
    assert_original("a");
}
END_TEST

static void
put_header(unsigned char *p, uint32_t records, uint32_t pages, uint32_t sector)
{
    memcpy(p, lks_journal_magic, 8);
    lks_journal_put(p + 8, records);
    lks_journal_put(p + 12, 7);
    lks_journal_put(p + 16, pages);
    lks_journal_put(p + 20, sector);
    lks_journal_put(p + 24, 512);
}

static size_t
put_record(unsigned char *p, uint32_t no, int fill)
{
    lks_journal_put(p, no);
    memset(p + 4, fill, 512);
    lks_journal_put(p + 516, lks_journal_checksum(7, p + 4, 512));
    return 520;
}

/* Journals that no SQLite of today writes, or only by bad luck, with what has to come of them. */
START_TEST(odd_journals_are_played_back_as_far_as_stock_sqlite_does)
{
    static unsigned char j[200000], db[10 * 512];
    struct bytes got;
    size_t end;
    /* Sectors of 32 bytes, a header without records, one whose records are all that follow. */
    memset(j, 0, sizeof j);
    memset(db, 1, sizeof db);
    put_header(j, 0, 10, 32);
    put_header(j + 32, 2, 99, 32);
    end = 64 + put_record(j + 64, 2, 'b');
    end += put_record(j + end, 12, 'x'); /* behind the database: passed over */
    put_header(j + (end = (end + 31) / 32 * 32), 0xffffffff, 99, 32);
    end += 32;
    end += put_record(j + end, 4, 'd');
    end += put_record(j + end, 2, 'B'); /* once more: the later one stays */
    file_write("d", db, sizeof db);
    file_write("d-journal", j, end);
    assert_same_as_stock("d", "small sectors");
    ck_assert(our_rollback(&lks_io_os, "d"));
    got = file_read("d");
    ck_assert_uint_eq(got.size, sizeof db);
    ck_assert_int_eq(got.data[512], 'B');
    ck_assert_int_eq(got.data[3 * 512], 'd');
    bytes_free(&got);

    /* Sectors of 65536; the page of the lock bytes, far behind the end, ends the journal. */
    memset(j, 0, sizeof j);
    put_header(j, 3, 10, 65536);
    end = 65536 + put_record(j + 65536, 1, 'a');
    end += put_record(j + end, lks_journal_lock_page(512), 'l');
    end += put_record(j + end, 3, 'c');
    file_write("d", db, sizeof db);
    file_write("d-journal", j, end);
    assert_same_as_stock("d", "large sectors");
    ck_assert(our_rollback(&lks_io_os, "d"));
    got = file_read("d");
    ck_assert_int_eq(got.data[0], 'a');
    ck_assert_int_eq(got.data[2 * 512], 1);
    bytes_free(&got);

    /* So does page 0. */
    lks_journal_put(j + 65536 + 520, 0);
    file_write("d", db, sizeof db);
    file_write("d-journal", j, end);
    assert_same_as_stock("d", "page 0");

    /* A database that had half a page at its end, and a page less than it should have. */
    file_write("d", db, sizeof db - 256);
    file_write("d-journal", j, end);
    assert_same_as_stock("d", "half a page");
    file_write("d", db, sizeof db - 512);
    file_write("d-journal", j, end);
    assert_same_as_stock("d", "a page less");
}
END_TEST

START_TEST(what_is_not_hot_changes_nothing)
{
    static const unsigned char garbage[3000] = {'g'}, zeros[3000];
    static const struct {
        const unsigned char *data;
        size_t size;
        bool stays;
    } journals[] = {
        {zeros, 0, true},    {zeros, 1, true},    {zeros, 3000, true},
        {garbage, 1, false}, {garbage, 3000, false},
    };
    struct bytes before, after;
    stock_make("a", 1024, 10);
    before = file_read("a");
    ck_assert(!our_rollback(&lks_io_os, "a"));
    file_write("a-journal", journals[_i].data, journals[_i].size);
    assert_same_as_stock("a", "not hot");
    ck_assert(!our_rollback(&lks_io_os, "a"));
    ck_assert(file_exists("a-journal") == journals[_i].stays);
    after = file_read("a");
    ck_assert(bytes_same(&before, &after));
    bytes_free(&before);
    bytes_free(&after);
}
END_TEST

START_TEST(the_journal_of_an_empty_database_is_removed)
{
    make_hot("a", &stock_cases[0]);
    ck_assert_int_eq(truncate("a", _i), 0);
    assert_same_as_stock("a", "empty");
    ck_assert(!our_rollback(&lks_io_os, "a"));
    ck_assert(!file_exists("a-journal"));
    file_write("a-journal", "", 0);
    assert_same_as_stock("a", "both empty");
}
END_TEST

/* ---- super-journals ------------------------------------------------------------------------- */

static sqlite3_vfs deadly_vfs;
static int (*real_delete)(sqlite3_vfs *vfs, const char *name, int sync);

static int
deadly_delete(sqlite3_vfs *vfs, const char *name, int sync)
{
    if (strstr(name, "-mj") != NULL)
        kill(getpid(), SIGKILL);
    return real_delete(vfs, name, sync);
}

/* A transaction over databases "a" and "b", killed when all but the commit is done. */
static void
stock_dies_in_commit_of_two(void)
{
    pid_t child = fork();
    ck_assert_int_ge(child, 0);
    if (child == 0) {
        sqlite3 *db;
        deadly_vfs = *sqlite3_vfs_find(NULL);
        deadly_vfs.zName = "deadly";
        real_delete = deadly_vfs.xDelete;
        deadly_vfs.xDelete = deadly_delete;
        if (sqlite3_vfs_register(&deadly_vfs, 1) != SQLITE_OK ||
            sqlite3_open_v2("a", &db, SQLITE_OPEN_READWRITE, "deadly") != SQLITE_OK)
            _exit(1);
        stock_run(db, "ATTACH 'b' AS b; BEGIN;"
                      "UPDATE main.t SET data = zeroblob(300);"
                      "UPDATE b.t SET data = zeroblob(200); COMMIT");
        _exit(2);
    }
    assert_killed(child);
}

/* The super-journal that the journal of `name` names; free() it. */
static char *
super_name(const char *journal)
{
    struct bytes b = file_read(journal);
    uint32_t length;
    char *name;
    ck_assert_uint_gt(b.size, 16);
    ck_assert_mem_eq(b.data + b.size - 8, lks_journal_magic, 8);
    length = lks_journal_get(b.data + b.size - 16);
    ck_assert_uint_le(length, 512);
    name = strndup((const char *)b.data + b.size - 16 - length, length);
    ck_assert_ptr_nonnull(strstr(name, "-mj"));
    bytes_free(&b);
    return name;
}

START_TEST(a_transaction_over_two_files_is_rolled_back_unless_its_super_journal_is_gone)
{
    struct bytes committed;
    char *super;
    stock_make("a", 1024, 20);
    stock_make("b", 1024, 20);
    file_copy("a", "original");
    stock_dies_in_commit_of_two();
    committed = file_read("a");
    super = super_name("a-journal");
    ck_assert(file_exists(super));
    assert_same_as_stock("a", "super-journal there");
    assert_same_as_stock("b", "super-journal there");
    if (_i == 0) {
        ck_assert(our_rollback(&lks_io_os, "a"));
        assert_original("a");
        ck_assert(!file_exists("a-journal"));
        /* b still needs it. */
        ck_assert(file_exists(super));
        ck_assert(our_rollback(&lks_io_os, "b"));
    } else {
        struct bytes after;
        ck_assert_int_eq(unlink(super), 0);
        assert_same_as_stock("a", "super-journal gone");
        ck_assert(!our_rollback(&lks_io_os, "a"));
        ck_assert(!file_exists("a-journal"));
        after = file_read("a");
        ck_assert(bytes_same(&committed, &after));
        bytes_free(&after);
    }
    stock_check("a");
    free(super);
    bytes_free(&committed);
}
END_TEST

/* ---- errors, syncs, death ------------------------------------------------------------------- */

static enum lockstep_status
rollback_with(struct probe *probe, bool *out_rolled_back)
{
    struct lks_io_file *db;
    enum lockstep_status status;
    size_t fail_at = probe->fail_at;
    probe->fail_at = SIZE_MAX;
    OK(probe->io.open(probe, "d", LKS_IO_DATABASE, &db));
    probe->fail_at = fail_at == SIZE_MAX ? fail_at : probe->call_count + fail_at;
    status = lks_journal_rollback(&probe->io, "d-journal", db, out_rolled_back);
    probe->io.close(db);
    return status;
}

START_TEST(after_an_error_at_any_call_the_rollback_can_be_done_again)
{
    size_t at;
    bool went_through = false;
    make_hot("a", &stock_cases[2]);
    for (at = 0; !went_through; at++) {
        struct probe probe;
        enum lockstep_status status;
        bool rolled_back = false;
        pair_copy("a", "d");
        probe_init(&probe);
        probe.fail_at = at;
        probe.tear = true;
        status = rollback_with(&probe, &rolled_back);
        went_through = !probe.failed;
        ck_assert((status == LOCKSTEP_OK) == went_through);
        ck_assert(rolled_back == went_through);
        ck_assert(file_exists("d-journal") == !went_through);
        probe_free(&probe);
        ck_assert(our_rollback(quick_io(), "d") == !went_through);
        assert_original("d");
    }
    ck_assert_uint_gt(at, 20);
}
END_TEST

/* Journal synced, then the database written and synced, then the journal removed for good. */
START_TEST(a_rollback_survives_a_power_cut)
{
    struct probe probe;
    bool rolled_back, journal_synced = false, database_synced = false, removed = false;
    size_t i, writes = 0;
    make_hot("d", &stock_cases[0]);
    probe_init(&probe);
    OK(rollback_with(&probe, &rolled_back));
    for (i = 0; i < probe.call_count; i++) {
        const struct probe_call *c = &probe.calls[i];
        bool database = c->role == LKS_IO_DATABASE;
        if (c->kind == PROBE_SYNC && !database)
            journal_synced = true;
        if (c->kind == PROBE_SYNC && database)
            database_synced = true;
        if (database && (c->kind == PROBE_WRITE || c->kind == PROBE_TRUNCATE)) {
            ck_assert(journal_synced);
            database_synced = false;
            writes++;
        }
        ck_assert(database || (c->kind != PROBE_WRITE && c->kind != PROBE_TRUNCATE));
        if (c->kind == PROBE_REMOVE) {
            ck_assert(database_synced);
            ck_assert_uint_eq(c->size, true); /* and the directory synced */
            removed = true;
        }
    }
    ck_assert(removed);
    ck_assert_uint_gt(writes, 20);
    probe_free(&probe);
}
END_TEST

START_TEST(a_cold_journal_is_durably_cold_after_the_rollback)
{
    static const unsigned char zeros[600];
    struct probe probe;
    bool rolled_back, synced = false;
    size_t i;
    stock_make("d", 1024, 5);
    file_write("d-journal", zeros, sizeof zeros);
    probe_init(&probe);
    OK(rollback_with(&probe, &rolled_back));
    ck_assert(!rolled_back);
    for (i = 0; i < probe.call_count; i++)
        synced |= probe.calls[i].kind == PROBE_SYNC && probe.calls[i].role == LKS_IO_JOURNAL;
    ck_assert(synced);
    probe_free(&probe);
}
END_TEST

#ifdef LKS_DEBUG

static const struct {
    const char *name;
    unsigned nth;
} deaths[] = {
    {"journal:rolled-back-page", 1}, {"journal:rolled-back-page", 17},
    {"journal:rolled-back", 1},      {"journal:removed", 1},
};

START_TEST(a_rollback_that_died_is_done_again)
{
    pid_t child;
    make_hot("a", &stock_cases[0]);
    child = fork();
    ck_assert_int_ge(child, 0);
    if (child == 0) {
        lks_crash_arm(deaths[_i].name, deaths[_i].nth);
        our_rollback(&lks_io_os, "a");
        _exit(2);
    }
    assert_killed(child);
    assert_same_as_stock("a", deaths[_i].name);
    our_rollback(&lks_io_os, "a");
    assert_original("a");
    ck_assert(!file_exists("a-journal"));
}
END_TEST

#endif

int
main(void)
{
    Suite *suite = suite_create("store/journal, rollback");
    TCase *c = tcase_create("rollback");
    SRunner *runner;
    int failed;
    tcase_add_checked_fixture(c, in_new_directory, out_of_directory);
    tcase_add_loop_test(c, a_transaction_of_stock_sqlite_that_died_is_rolled_back, 0, STOCK_CASES);
    tcase_add_loop_test(c, a_journal_of_an_sqlite_that_wrote_no_page_size_is_rolled_back, 0, 2);
    tcase_add_test(c, odd_journals_are_played_back_as_far_as_stock_sqlite_does);
    tcase_add_loop_test(c, what_is_not_hot_changes_nothing, 0, 5);
    tcase_add_loop_test(c, the_journal_of_an_empty_database_is_removed, 0, 2);
    tcase_add_loop_test(
        c, a_transaction_over_two_files_is_rolled_back_unless_its_super_journal_is_gone, 0, 2);
    tcase_add_test(c, after_an_error_at_any_call_the_rollback_can_be_done_again);
    tcase_add_test(c, a_rollback_survives_a_power_cut);
    tcase_add_test(c, a_cold_journal_is_durably_cold_after_the_rollback);
#ifdef LKS_DEBUG
    tcase_add_loop_test(c, a_rollback_that_died_is_done_again, 0,
                        sizeof deaths / sizeof deaths[0]);
#endif
    suite_add_tcase(suite, c);
    runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
