/* The journals that we write, judged by stock SQLite and by our own rollback. */
#include "store/journal.h"

#include <check.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "store/journal_files.h"
#include "store/journal_format.h"

#define OK(CALL) ck_assert_int_eq((CALL), LOCKSTEP_OK)

/* Journals page `no` of the image `before`. */
static void
add_page(struct lks_journal *j, const struct bytes *before, uint32_t page_size, uint32_t no)
{
    OK(lks_journal_add(j, no, before->data + (size_t)(no - 1) * page_size));
}

static struct lks_journal *
open_journal(const struct lks_io *io, const char *name)
{
    char path[128];
    struct lks_journal *j;
    snprintf(path, sizeof path, "%s-journal", name);
    OK(lks_journal_open(io, path, &j));
    return j;
}

/* Stock SQLite and we, each on a copy of `name`, put back just `want`, and remove the journal. */
static void
assert_rolls_back(const char *name, const struct bytes *want, const char *uri_parameters)
{
    struct bytes got;
    pair_copy(name, "by-stock");
    stock_visit("by-stock", uri_parameters);
    got = file_read("by-stock");
    ck_assert_msg(bytes_same(&got, want), "stock SQLite restored something else");
    ck_assert(!file_exists("by-stock-journal"));
    bytes_free(&got);

    pair_copy(name, "by-us");
    ck_assert(our_rollback(&lks_io_os, "by-us"));
    got = file_read("by-us");
    ck_assert_msg(bytes_same(&got, want), "we restored something else");
    ck_assert(!file_exists("by-us-journal"));
    bytes_free(&got);
}

/* Neither stock SQLite nor we take the journal of `name` for hot. */
static void
assert_cold(const char *name)
{
    struct bytes before = file_read(name), got;
    pair_copy(name, "by-stock");
    stock_visit("by-stock", "");
    got = file_read("by-stock");
    ck_assert(bytes_same(&got, &before));
    bytes_free(&got);

    pair_copy(name, "by-us");
    ck_assert(!our_rollback(&lks_io_os, "by-us"));
    got = file_read("by-us");
    ck_assert(bytes_same(&got, &before));
    bytes_free(&got);
    bytes_free(&before);
}

/*
 * A sealed batch over the database `name`, its pages scribbled over as the worker would write them:
 * one page in three changed, the file then new_pages long.  Returns the open journal.
 */
static struct lks_journal *
scribble(const struct lks_io *io, const char *name, const struct bytes *before,
         uint32_t page_size, uint32_t new_pages, bool sync, struct dice *dice)
{
    struct lks_journal *j = open_journal(io, name);
    uint32_t old_pages = (uint32_t)(before->size / page_size), no;
    unsigned char *page = malloc(page_size);
    OK(lks_journal_begin(j, page_size, before->size));
    for (no = 1; no <= old_pages; no++)
        if (no % 3 == 1 || no > new_pages)
            add_page(j, before, page_size, no);
    OK(lks_journal_seal(j, sync));
    for (no = 1; no <= new_pages; no++)
        if (no % 3 == 1 || no > old_pages) {
            dice_fill(dice, page, page_size);
            file_patch(name, (size_t)(no - 1) * page_size, page, page_size);
        }
    ck_assert_int_eq(truncate(name, (off_t)new_pages * page_size), 0);
    free(page);
    return j;
}

static const uint32_t page_sizes[] = {512, 1024, 4096, 65536};

START_TEST(a_sealed_batch_is_undone_by_stock_sqlite_and_by_us)
{
    struct dice dice = dice_new("sealed batch");
    uint32_t page_size = page_sizes[_i / 6], old_pages, new_pages;
    bool sync = _i % 2 == 0;
    struct bytes before;
    stock_make("a", page_size, 30);
    before = file_read("a");
    old_pages = (uint32_t)(before.size / page_size);
    new_pages = _i / 2 % 3 == 0 ? old_pages : _i / 2 % 3 == 1 ? old_pages + 11 : old_pages - 13;
    lks_journal_close(scribble(&lks_io_os, "a", &before, page_size, new_pages, sync, &dice));
    assert_rolls_back("a", &before, "");
    assert_rolls_back("a", &before, "psow=0");
    pair_copy("a", "b");
    stock_visit("b", "");
    stock_check("b");
    bytes_free(&before);
}
END_TEST

/* No record at all: the shortest journal that there is. */
START_TEST(a_batch_that_only_grows_the_file_is_undone)
{
    static const unsigned char page[4096];
    struct lks_journal *j = open_journal(&lks_io_os, "a");
    struct bytes before;
    stock_make("a", 4096, 3);
    before = file_read("a");
    OK(lks_journal_begin(j, 4096, before.size));
    OK(lks_journal_seal(j, true));
    file_patch("a", before.size, page, sizeof page);
    assert_rolls_back("a", &before, "");
    assert_rolls_back("a", &before, "psow=0");
    lks_journal_close(j);
    bytes_free(&before);
}
END_TEST

START_TEST(a_batch_larger_than_the_buffer_is_undone)
{
    struct dice dice = dice_new("large batch");
    struct bytes before;
    stock_make("a", 4096, 2500);
    before = file_read("a");
    lks_journal_close(scribble(&lks_io_os, "a", &before, 4096, 20, true, &dice));
    assert_rolls_back("a", &before, "");
    bytes_free(&before);
}
END_TEST

START_TEST(a_batch_that_is_not_sealed_is_cold)
{
    struct bytes before;
    struct lks_journal *j;
    uint32_t no;
    stock_make("a", 4096, 600);
    before = file_read("a");
    j = open_journal(&lks_io_os, "a");
    assert_cold("a");
    OK(lks_journal_begin(j, 4096, before.size));
    for (no = 1; no <= 600; no++) /* more than is kept in memory */
        add_page(j, &before, 4096, no);
    assert_cold("a");
    lks_journal_close(j);
    assert_cold("a");
    bytes_free(&before);
}
END_TEST

START_TEST(an_invalidated_batch_is_cold)
{
    static const unsigned char zeros[LKS_JOURNAL_HEADER_BYTES];
    struct dice dice = dice_new("invalidated batch");
    struct bytes before, after;
    struct lks_journal *j;
    stock_make("a", 1024, 20);
    before = file_read("a");
    j = scribble(&lks_io_os, "a", &before, 1024, 25, true, &dice);
    OK(lks_journal_invalidate(j, _i == 0));
    assert_cold("a");
    after = file_read("a-journal");
    ck_assert_uint_ge(after.size, sizeof zeros);
    ck_assert_mem_eq(after.data, zeros, sizeof zeros);
    OK(lks_journal_trim(j, after.size));
    bytes_free(&after);
    after = file_read("a-journal");
    ck_assert_uint_ne(after.size, 0);
    bytes_free(&after);
    OK(lks_journal_trim(j, 1000));
    after = file_read("a-journal");
    ck_assert_uint_eq(after.size, 0);
    assert_cold("a");
    lks_journal_close(j);
    bytes_free(&after);
    bytes_free(&before);
}
END_TEST

START_TEST(batches_follow_each_other_in_one_file)
{
    struct dice dice = dice_new("batches");
    struct lks_journal *j = open_journal(&lks_io_os, "a");
    unsigned round;
    for (round = 0; round < 12; round++) {
        uint32_t page_size = page_sizes[dice_roll(&dice, 3)], no = 0;
        struct bytes before;
        unsigned char *page = malloc(page_size);
        stock_make("b", page_size, 10 + dice_roll(&dice, 40));
        file_copy("b", "a");
        before = file_read("a");
        OK(lks_journal_begin(j, page_size, before.size));
        while ((no += 1 + dice_roll(&dice, 9)) <= before.size / page_size)
            add_page(j, &before, page_size, no);
        OK(lks_journal_seal(j, round % 3 != 0));
        ck_assert_int_eq(lks_journal_begin(j, page_size, before.size), LOCKSTEP_MISUSE);
        ck_assert_int_eq(lks_journal_trim(j, 0), LOCKSTEP_MISUSE);
        no = 1;
        dice_fill(&dice, page, page_size);
        file_patch("a", before.size, page, page_size);
        assert_rolls_back("a", &before, "");
        OK(lks_journal_invalidate(j, round % 2 == 0));
        if (dice_roll(&dice, 4) == 0)
            OK(lks_journal_trim(j, 0));
        assert_cold("a");
        free(page);
        bytes_free(&before);
    }
    lks_journal_close(j);
}
END_TEST

/* W3: page content that looks like a journal, left behind the batch by the one before. */
START_TEST(what_an_earlier_batch_left_behind_is_not_played_back)
{
    unsigned char page[1024], fake[1024];
    struct lks_journal *j = open_journal(&lks_io_os, "a");
    struct bytes before;
    uint32_t no;
    size_t at;
    stock_make("a", 1024, 30);
    before = file_read("a");
    /*
     * Batch 2 will have one record and end at 512 + 1032 = 1544, so SQLite looks for a header at
     * 2048.  There is record 2 of batch 1, its page at 1548: the fake header is put there.  The
     * fake record is a sector behind it, at 2560, and goes on into record 3.
     */
    memset(fake, 0x5a, sizeof fake);
    memset(page, 0, sizeof page);
    at = 2048 - 1548;
    memcpy(page + at, lks_journal_magic, 8);
    lks_journal_put(page + at + 8, 0xffffffff);
    lks_journal_put(page + at + 12, 0);
    lks_journal_put(page + at + 16, (uint32_t)(before.size / 1024));
    lks_journal_put(page + at + 20, 512);
    lks_journal_put(page + at + 24, 1024);
    lks_journal_put(page + at + 512, 5); /* page 5 */
    OK(lks_journal_begin(j, 1024, before.size));
    add_page(j, &before, 1024, 1);
    OK(lks_journal_add(j, 2, page));
    for (no = 3; no <= 20; no++)
        OK(lks_journal_add(j, no, fake));
    OK(lks_journal_seal(j, true));
    OK(lks_journal_invalidate(j, true));
    {
        /* The fake is what it is meant to be: as the header of a file it is played back. */
        struct bytes journal = file_read("a-journal"), got;
        uint32_t sum;
        memcpy(page, journal.data + 2564, 1024);
        sum = lks_journal_checksum(0, page, 1024);
        lks_journal_put(journal.data + 2564 + 1024, sum);
        file_patch("a-journal", 2564 + 1024, journal.data + 2564 + 1024, 4);
        file_copy("a", "fake");
        file_write("fake-journal", journal.data + 2048, journal.size - 2048);
        stock_visit("fake", "");
        got = file_read("fake");
        ck_assert(!bytes_same(&got, &before));
        bytes_free(&got);
        bytes_free(&journal);
    }
    OK(lks_journal_begin(j, 1024, before.size));
    add_page(j, &before, 1024, 9);
    OK(lks_journal_seal(j, true));
    file_patch("a", 8 * 1024, fake, 1024);
    assert_rolls_back("a", &before, "");
    lks_journal_close(j);
    bytes_free(&before);
}
END_TEST

/* W4: a persistent journal of stock SQLite that ends with the name of a super-journal. */
START_TEST(a_journal_found_with_a_super_journal_at_its_end_is_made_ours)
{
    static const char name[] = "/nonexistent/super";
    unsigned char old[200000];
    struct dice dice = dice_new("found journal");
    struct bytes before;
    uint32_t sum = 0, i;
    memset(old, 0, sizeof old);
    for (i = 0; i < sizeof name - 1; i++)
        sum += (uint32_t)name[i];
    memcpy(old + sizeof old - 16 - (sizeof name - 1), name, sizeof name - 1);
    lks_journal_put(old + sizeof old - 16, sizeof name - 1);
    lks_journal_put(old + sizeof old - 12, sum);
    memcpy(old + sizeof old - 8, lks_journal_magic, 8);
    file_write("a-journal", old, sizeof old);
    stock_make("b", 1024, 20);
    file_copy("b", "a");
    before = file_read("a");
    lks_journal_close(scribble(&lks_io_os, "a", &before, 1024, 25, true, &dice));
    assert_rolls_back("a", &before, "");
    bytes_free(&before);
}
END_TEST

START_TEST(a_hot_journal_is_not_begun_over)
{
    struct dice dice = dice_new("hot journal");
    struct bytes before;
    struct lks_journal *j;
    stock_make("a", 1024, 20);
    before = file_read("a");
    lks_journal_close(scribble(&lks_io_os, "a", &before, 1024, 25, true, &dice));
    j = open_journal(&lks_io_os, "a");
    ck_assert_int_eq(lks_journal_begin(j, 1024, before.size), LOCKSTEP_MISUSE);
    assert_rolls_back("a", &before, "");
    /* Rolled back, the file is gone: the same handle makes a new one. */
    ck_assert(our_rollback(&lks_io_os, "a"));
    OK(lks_journal_begin(j, 1024, before.size));
    add_page(j, &before, 1024, 2);
    OK(lks_journal_seal(j, true));
    file_patch("a", 1024, before.data, 1024);
    assert_rolls_back("a", &before, "");
    lks_journal_close(j);
    bytes_free(&before);
}
END_TEST

START_TEST(a_journal_file_that_was_removed_is_made_anew)
{
    struct dice dice = dice_new("removed journal");
    struct probe probe;
    struct bytes before;
    struct lks_journal *j;
    size_t i;
    bool named = false;
    stock_make("a", 1024, 20);
    before = file_read("a");
    probe_init(&probe);
    j = scribble(&probe.io, "a", &before, 1024, 20, true, &dice);
    OK(lks_journal_invalidate(j, true));
    file_write("a", before.data, before.size);
    ck_assert_int_eq(unlink("a-journal"), 0);
    i = probe.call_count;
    OK(lks_journal_begin(j, 1024, before.size));
    add_page(j, &before, 1024, 2);
    OK(lks_journal_seal(j, true));
    for (; i < probe.call_count; i++)
        named |= probe.calls[i].kind == PROBE_SYNC_DIR;
    ck_assert(named);
    file_patch("a", 1024, before.data, 1024);
    assert_rolls_back("a", &before, "");
    lks_journal_close(j);
    probe_free(&probe);
    bytes_free(&before);
}
END_TEST

/* ---- order ---------------------------------------------------------------------------------- */

/* The calls from `from` on that change or sync something, one letter each. */
static void
spell(const struct probe *probe, size_t from, char *out)
{
    size_t i;
    for (i = from; i < probe->call_count; i++) {
        const struct probe_call *c = &probe->calls[i];
        if (c->kind == PROBE_SYNC)
            *out++ = 's';
        else if (c->kind == PROBE_SYNC_DIR)
            *out++ = 'd';
        else if (c->kind == PROBE_TRUNCATE)
            *out++ = 't';
        else if (c->kind == PROBE_WRITE && c->offset != 0)
            *out++ = 'w';
        else if (c->kind == PROBE_WRITE && c->data[0] == 0)
            *out++ = 'z';
        else if (c->kind == PROBE_WRITE)
            *out++ = 'H';
        if (c->kind == PROBE_WRITE && c->offset == 0)
            ck_assert_uint_eq(c->size, LKS_JOURNAL_HEADER_BYTES);
        ck_assert(c->kind != PROBE_WRITE || c->offset == 0 ||
                  c->offset >= LKS_JOURNAL_SECTOR_BYTES);
    }
    *out = '\0';
}

START_TEST(syncs_are_where_they_have_to_be_and_nowhere_else)
{
    static const unsigned char page[1024];
    struct probe probe;
    struct lks_journal *j;
    char order[64];
    size_t from = 0;
    unsigned round;
    /* seal with, then invalidate with sync; the expected order.  The first also makes the file. */
    static const struct {
        bool seal, invalidate;
        const char *order;
    } rounds[] = {
        {true, true, "swwwsdHszs"}, {true, true, "wwHszs"}, {true, false, "wwHsz"},
        {true, false, "swsHsz"},    {false, false, "wHz"},  {false, false, "wHz"},
        {true, true, "swsHszs"},    {false, true, "wHzs"},  {true, true, "wwHszs"},
    };
    probe_init(&probe);
    j = open_journal(&probe.io, "a");
    for (round = 0; round < sizeof rounds / sizeof rounds[0]; round++) {
        OK(lks_journal_begin(j, 1024, 10240));
        OK(lks_journal_add(j, 1 + round, page));
        OK(lks_journal_seal(j, rounds[round].seal));
        OK(lks_journal_invalidate(j, rounds[round].invalidate));
        spell(&probe, from, order);
        ck_assert_str_eq(order, rounds[round].order);
        from = probe.call_count;
    }
    /* Once more with sync: nothing left to do.  After an unsynced one: the sync alone. */
    OK(lks_journal_invalidate(j, true));
    spell(&probe, from, order);
    ck_assert_str_eq(order, "");
    OK(lks_journal_begin(j, 1024, 10240));
    OK(lks_journal_seal(j, false));
    OK(lks_journal_invalidate(j, false));
    from = probe.call_count;
    OK(lks_journal_invalidate(j, true));
    spell(&probe, from, order);
    ck_assert_str_eq(order, "s");
    lks_journal_close(j);
    probe_free(&probe);
}
END_TEST

/* One sync for records and header, if the loss of any sector would be found out, and there is room (W5). */
START_TEST(only_small_batches_that_guard_each_sector_are_sealed_by_one_sync)
{
    static unsigned char page[1024];
    struct probe probe;
    struct lks_journal *j;
    char order[64];
    size_t from = 0;
    unsigned round;
    static const struct {
        uint32_t pages;
        int fill;
        const char *order;
    } rounds[] = {
        {1, 0, "swwwsdHszs"}, {1, 0, "wwHszs"},  {62, 0, "wwHszs"},    {63, 0, "wwHszs"},
        {63, 0, "wsHszs"},    {1, 0, "wwsHszs"}, {3, 0xff, "wsHszs"}, {3, 0xfe, "wwHszs"},
        {70, 0, "wsHszs"},    {0, 0, "wwsHszs"}, {0, 0, "wHszs"},
    };
    probe_init(&probe);
    j = open_journal(&probe.io, "a");
    for (round = 0; round < sizeof rounds / sizeof rounds[0]; round++) {
        uint32_t no;
        memset(page, rounds[round].fill, sizeof page);
        OK(lks_journal_begin(j, 1024, 102400));
        for (no = 1; no <= rounds[round].pages; no++)
            OK(lks_journal_add(j, no, page));
        OK(lks_journal_seal(j, true));
        OK(lks_journal_invalidate(j, true));
        spell(&probe, from, order);
        ck_assert_msg(strcmp(order, rounds[round].order) == 0, "%u: %s", round, order);
        from = probe.call_count;
    }
    lks_journal_close(j);
    probe_free(&probe);
}
END_TEST

/* After a sync that failed the zeros of an invalidated header may never reach the disk. */
START_TEST(zeros_whose_sync_failed_are_written_again)
{
    static const unsigned char page[1024];
    struct probe probe;
    struct lks_journal *j;
    char order[64];
    size_t from;
    probe_init(&probe);
    j = open_journal(&probe.io, "a");
    OK(lks_journal_begin(j, 1024, 10240));
    OK(lks_journal_seal(j, true));
    OK(lks_journal_invalidate(j, false));
    probe.fail_sync = 1;
    OK(lks_journal_begin(j, 1024, 10240));
    OK(lks_journal_add(j, 1, page));
    ck_assert_int_eq(lks_journal_seal(j, true), LOCKSTEP_IOERR);
    ck_assert_int_eq(lks_journal_seal(j, true), LOCKSTEP_MISUSE);
    from = probe.call_count;
    OK(lks_journal_begin(j, 1024, 10240));
    OK(lks_journal_add(j, 1, page));
    OK(lks_journal_seal(j, true));
    spell(&probe, from, order);
    ck_assert_str_eq(order, "zswwsHs");
    from = probe.call_count;
    probe.fail_sync = 1;
    ck_assert_int_eq(lks_journal_invalidate(j, true), LOCKSTEP_IOERR);
    OK(lks_journal_invalidate(j, true));
    spell(&probe, from, order);
    ck_assert_str_eq(order, "zszs");
    lks_journal_close(j);
    probe_free(&probe);
}
END_TEST

START_TEST(each_batch_has_its_own_nonce)
{
    struct lks_journal *j = open_journal(&lks_io_os, "a");
    uint32_t nonces[8];
    unsigned i, k;
    for (i = 0; i < 8; i++) {
        struct bytes b;
        OK(lks_journal_begin(j, 512, 512));
        OK(lks_journal_seal(j, false));
        b = file_read("a-journal");
        nonces[i] = lks_journal_get(b.data + 12);
        bytes_free(&b);
        OK(lks_journal_invalidate(j, false));
        for (k = 0; k < i; k++)
            ck_assert_uint_ne(nonces[k], nonces[i]);
    }
    lks_journal_close(j);
}
END_TEST

int
main(void)
{
    Suite *suite = suite_create("store/journal");
    TCase *c = tcase_create("journal");
    SRunner *runner;
    int failed;
    tcase_add_checked_fixture(c, in_new_directory, out_of_directory);
    tcase_add_loop_test(c, a_sealed_batch_is_undone_by_stock_sqlite_and_by_us, 0, 24);
    tcase_add_test(c, a_batch_that_only_grows_the_file_is_undone);
    tcase_add_test(c, a_batch_larger_than_the_buffer_is_undone);
    tcase_add_test(c, a_batch_that_is_not_sealed_is_cold);
    tcase_add_loop_test(c, an_invalidated_batch_is_cold, 0, 2);
    tcase_add_test(c, batches_follow_each_other_in_one_file);
    tcase_add_test(c, what_an_earlier_batch_left_behind_is_not_played_back);
    tcase_add_test(c, a_journal_found_with_a_super_journal_at_its_end_is_made_ours);
    tcase_add_test(c, a_hot_journal_is_not_begun_over);
    tcase_add_test(c, a_journal_file_that_was_removed_is_made_anew);
    tcase_add_test(c, syncs_are_where_they_have_to_be_and_nowhere_else);
    tcase_add_test(c, only_small_batches_that_guard_each_sector_are_sealed_by_one_sync);
    tcase_add_test(c, zeros_whose_sync_failed_are_written_again);
    tcase_add_test(c, each_batch_has_its_own_nonce);
    suite_add_tcase(suite, c);
    runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
