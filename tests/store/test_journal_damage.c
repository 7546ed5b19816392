/* Damaged journals of stock SQLite: we leave the same files behind as it does. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "store/journal_files.h"
#include "store/journal_format.h"

/* A length at which something interesting ends, or near one. */
static size_t
roll_cut(struct dice *dice, size_t size, uint32_t page_size, uint32_t sector)
{
    static const size_t marks[] = {0, 1, 2, 7, 8, 12, 27, 28, 29, 511, 512, 513};
    size_t record = page_size + LKS_JOURNAL_RECORD_EXTRA, at;
    switch (dice_roll(dice, 4)) {
    case 0: return marks[dice_roll(dice, sizeof marks / sizeof marks[0])];
    case 1: return dice_roll(dice, (uint32_t)size + 1);
    case 2: at = sector + dice_roll(dice, (uint32_t)(size / record) + 1) * record; break;
    default: at = (size_t)dice_roll(dice, (uint32_t)(size / sector) + 1) * sector; break;
    }
    at += dice_roll(dice, 19);
    at -= at >= 9 ? 9 : 0;
    return at > size ? size : at;
}

/* A number that somebody compares with something. */
static uint32_t
roll_number(struct dice *dice, uint32_t page_size)
{
    const uint32_t numbers[] = {0, 1, 2, 5, 31, 32, 64, 256, 500, 512, 1024, 4096, 65536, 131072,
                                lks_journal_lock_page(page_size), 0x7fffffff, 0xfffffffe,
                                0xffffffff};
    if (dice_roll(dice, 4) == 0)
        return dice_roll(dice, 300);
    return numbers[dice_roll(dice, sizeof numbers / sizeof numbers[0])];
}

/* A name of a super-journal at the end; wrong in some way, or right. */
static void
append_super(struct dice *dice, size_t size)
{
    unsigned char tail[700];
    uint32_t length = (const uint32_t[]){0, 1, 15, 300, 512, 513, 600}[dice_roll(dice, 7)];
    uint32_t sum = 0, i;
    memset(tail, 0, sizeof tail);
    for (i = 0; i < length; i++) {
        tail[i] = (unsigned char)(i % 50 == 0 ? '/' : i % 7 == 0 ? 0xc3 : 'x');
        sum += (uint32_t)(char)tail[i];
    }
    if (length == 15 && dice_roll(dice, 2) == 0)
        tail[dice_roll(dice, 15)] = 0;
    lks_journal_put(tail + length, length + (dice_roll(dice, 8) == 0));
    lks_journal_put(tail + length + 4, sum + (dice_roll(dice, 8) == 0));
    memcpy(tail + length + 8, lks_journal_magic, 8);
    if (dice_roll(dice, 8) == 0)
        tail[length + 9]++;
    file_patch("d-journal", size, tail, length + 16);
}

/* Damages the journal "d-journal" once. */
static void
damage(struct dice *dice, uint32_t page_size, uint32_t sector)
{
    struct bytes b = file_read("d-journal");
    size_t record = page_size + LKS_JOURNAL_RECORD_EXTRA, at;
    uint32_t records = (uint32_t)(b.size / record) + 1, n;
    unsigned char junk[64];
    dice_fill(dice, junk, sizeof junk);
    switch (dice_roll(dice, 9)) {
    case 0: /* cut off */
        ck_assert_int_eq(
            truncate("d-journal", (off_t)roll_cut(dice, b.size, page_size, sector)), 0);
        break;
    case 1: /* a field of the first header; what it says of the size is kept within reason */
        n = (uint32_t)dice_roll(dice, 7) * 4;
        file_patch_u32("d-journal", n,
                       n == 16 ? dice_roll(dice, 400) : roll_number(dice, page_size));
        break;
    case 2: /* the number of records of a header */
        for (at = 0; at + 28 <= b.size; at += sector)
            if (memcmp(b.data + at, lks_journal_magic, 8) == 0 && dice_roll(dice, 3) == 0)
                file_patch_u32("d-journal", at + 8, roll_number(dice, page_size));
        break;
    case 3: /* a page number */
        file_patch_u32("d-journal", sector + dice_roll(dice, records) * record,
                     roll_number(dice, page_size));
        break;
    case 4: /* a byte of a page, often one that the checksum samples */
        n = dice_roll(dice, page_size / 200) * 200 + page_size % 200;
        at = sector + dice_roll(dice, records) * record + 4 + n + dice_roll(dice, 2);
        file_patch("d-journal", at, junk, 1);
        break;
    case 5: /* some bytes anywhere */
        if (b.size > 28)
            file_patch("d-journal", 28 + dice_roll(dice, (uint32_t)b.size - 28), junk,
                       1 + dice_roll(dice, 20));
        break;
    case 6: append_super(dice, b.size); break;
    case 7: /* the first byte, or the first bytes */
        memset(junk, dice_roll(dice, 2) == 0 ? 0 : 0xd9, 28);
        file_patch("d-journal", 0, junk, dice_roll(dice, 2) == 0 ? 1 : 28);
        break;
    default: /* junk behind */
        file_patch("d-journal", b.size, junk, dice_roll(dice, sizeof junk));
        break;
    }
    bytes_free(&b);
}

/* The database, too, is found in any length. */
static void
damage_database(struct dice *dice, uint32_t page_size)
{
    struct bytes b = file_read("d");
    size_t size;
    switch (dice_roll(dice, 10)) {
    case 0: size = dice_roll(dice, 3); break;
    case 1: size = dice_roll(dice, (uint32_t)b.size); break;
    case 2: size = b.size + dice_roll(dice, 3 * page_size); break;
    case 3: size = (size_t)dice_roll(dice, 200) * page_size; break;
    default: size = b.size; break;
    }
    ck_assert_int_eq(truncate("d", (off_t)size), 0);
    bytes_free(&b);
}

/* A size that the header of the journal asks for must not fill the disk of the test. */
static void
keep_reasonable(void)
{
    struct bytes b = file_read("d-journal");
    if (b.size >= 20 && lks_journal_get(b.data + 16) > 100000)
        file_patch_u32("d-journal", 16, 77);
    bytes_free(&b);
}

START_TEST(a_damaged_journal_is_treated_as_stock_sqlite_treats_it)
{
    const struct stock_case *c = &stock_cases[_i % STOCK_CASES];
    struct dice dice = dice_new("damage");
    uint32_t records, sector;
    int round, rounds = c->page_size > 4096 ? 15 : 50;
    make_hot("a", c);
    count_headers("a", &records, &sector);
    for (round = 0; round < rounds; round++) {
        char what[100];
        pair_copy("a", "d");
        damage_database(&dice, c->page_size);
        do
            damage(&dice, c->page_size, sector);
        while (dice_roll(&dice, 3) == 0);
        keep_reasonable();
        snprintf(what, sizeof what, "round %d, %s", round, c->pragmas);
        assert_same_as_stock("d", what);
    }
    pair_remove("d");
}
END_TEST

/* One record after the other, one header after the other: cut a byte before, at, a byte behind. */
START_TEST(a_journal_cut_off_anywhere_is_treated_as_stock_sqlite_treats_it)
{
    const struct stock_case *c = &stock_cases[_i];
    struct bytes b;
    size_t record = c->page_size + LKS_JOURNAL_RECORD_EXTRA, at;
    uint32_t records, sector;
    int around;
    make_hot("a", c);
    count_headers("a", &records, &sector);
    b = file_read("a-journal");
    for (at = 0; at < b.size && at < sector + 12 * record; at += at < sector ? sector : record)
        for (around = -1; around <= 1; around++) {
            size_t size = at + (size_t)around;
            char what[100];
            if (size > b.size)
                continue;
            pair_copy("a", "d");
            ck_assert_int_eq(truncate("d-journal", (off_t)size), 0);
            snprintf(what, sizeof what, "cut at %zu", size);
            assert_same_as_stock("d", what);
        }
    bytes_free(&b);
}
END_TEST

int
main(void)
{
    Suite *suite = suite_create("store/journal, damage");
    TCase *c = tcase_create("damage");
    SRunner *runner;
    int failed;
    tcase_add_checked_fixture(c, in_new_directory, out_of_directory);
    tcase_add_loop_test(c, a_damaged_journal_is_treated_as_stock_sqlite_treats_it, 0,
                        getenv("LKS_SOAK") != NULL ? 40 * STOCK_CASES : STOCK_CASES);
    tcase_add_loop_test(c, a_journal_cut_off_anywhere_is_treated_as_stock_sqlite_treats_it, 0,
                        STOCK_CASES);
    suite_add_tcase(suite, c);
    runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
