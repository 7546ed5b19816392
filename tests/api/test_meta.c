/*
 * lockstep_db_checkpoint() and the records that are kept twice.
 *
 * Made to fail by: writing every record into the same place; taking the larger sequence without the sum; leaving the payload,
 * or the 16 bytes ahead of the sum, out of it; beginning with 1 again while one is valid; counting no bytes in
 * write_changes(); a checkpoint that does not wait; hiding the tripwire where the file is not SQLite's; taking a record for
 * sound that is in the other's place, or larger than its own.
 */
#include "api/enginetest.h"

#include <string.h>
#include <unistd.h>

#define PAYLOAD 40u

/* Apart, at odd offsets, and the second one across a boundary of units. */
static const struct lockstep_meta places = {{11, 8180}, LOCKSTEP_META_HEADER + PAYLOAD};

struct seen {
    enum lockstep_status status;
    uint64_t sequence;
    size_t size;
    char payload[PAYLOAD + 1];
};

static struct seen
look(struct lockstep_conn *conn)
{
    struct seen seen = {.sequence = 999, .size = 999};
    ck_assert_int_eq(lockstep_conn_begin(conn), LOCKSTEP_OK);
    seen.status = lockstep_conn_meta_read(conn, &places, seen.payload, PAYLOAD, &seen.size, &seen.sequence);
    lockstep_conn_end(conn);
    if (seen.status != LOCKSTEP_OK)
        ck_assert(seen.size == 999 && seen.sequence == 999);
    else
        seen.payload[seen.size] = '\0';
    return seen;
}

static void
expect(struct lockstep_conn *conn, uint64_t sequence, const char *payload)
{
    struct seen seen = look(conn);
    ck_assert_int_eq(seen.status, LOCKSTEP_OK);
    ck_assert_uint_eq(seen.sequence, sequence);
    ck_assert_str_eq(seen.payload, payload);
}

static uint64_t
keep(struct lockstep_conn *conn, const char *payload)
{
    uint64_t sequence = 0;
    api_begin_writing(conn);
    ck_assert_int_eq(lockstep_conn_meta_write(conn, &places, payload, strlen(payload), &sequence), LOCKSTEP_OK);
    api_commit(conn, LOCKSTEP_ASYNC);
    return sequence;
}

/* Opened, looked at and closed again: from the disk, not from the store. */
static struct seen
look_again(void)
{
    struct lockstep_db *db = api_open(NULL);
    struct lockstep_conn *conn = api_connect(db);
    struct seen seen = look(conn);
    lockstep_conn_close(conn);
    ck_assert_int_eq(lockstep_db_close(db), LOCKSTEP_OK);
    return seen;
}

/* Records 4, in place 0, and 5, the newest, in place 1. */
static void
make_five(void)
{
    struct lockstep_db *db = api_open(NULL);
    struct lockstep_conn *conn = api_connect(db);
    static const char *const payloads[] = {"one", "two", "three", "four, the last but one", "five, the newest of all"};
    size_t i;
    for (i = 0; i < 5; i++)
        ck_assert_uint_eq(keep(conn, payloads[i]), i + 1);
    lockstep_conn_close(conn);
    ck_assert_int_eq(lockstep_db_close(db), LOCKSTEP_OK);
}

START_TEST(records_take_turns_and_the_newest_is_read)
{
    struct lockstep_db *db = api_open(NULL);
    struct lockstep_conn *conn = api_connect(db), *old = api_connect(db);
    struct seen seen = look(conn);
    char disk[5] = "";
    ck_assert_int_eq(seen.status, LOCKSTEP_OK);
    ck_assert(seen.sequence == 0 && seen.size == 0);
    ck_assert_uint_eq(keep(conn, "one"), 1);
    expect(conn, 1, "one");
    ck_assert_int_eq(lockstep_conn_begin(old), LOCKSTEP_OK);
    ck_assert_uint_eq(keep(conn, "2222"), 2);
    expect(conn, 2, "2222");
    /* A snapshot has the record of its time. */
    ck_assert_int_eq(lockstep_conn_meta_read(old, &places, seen.payload, PAYLOAD, &seen.size, &seen.sequence),
                     LOCKSTEP_OK);
    ck_assert_uint_eq(seen.sequence, 1);
    lockstep_conn_end(old);
    /* What is not committed is not there. */
    api_begin_writing(conn);
    ck_assert_int_eq(lockstep_conn_meta_write(conn, &places, "lost", 4, NULL), LOCKSTEP_OK);
    ck_assert_int_eq(lockstep_conn_rollback(conn), LOCKSTEP_OK);
    lockstep_conn_end(conn);
    expect(conn, 2, "2222");
    ck_assert_uint_eq(keep(conn, ""), 3);
    expect(conn, 3, "");
    lockstep_conn_close(conn);
    lockstep_conn_close(old);
    ck_assert_int_eq(lockstep_db_close(db), LOCKSTEP_OK);
    disk_read("db", places.offset[0], disk, 4);
    ck_assert_str_eq(disk, "LkMr");
    disk_read("db", places.offset[0] + LOCKSTEP_META_HEADER, disk, 4);
    ck_assert_str_eq(disk, "2222");
}
END_TEST

/* The format: it is the same on every machine. */
START_TEST(a_record_is_big_endian)
{
    static const unsigned char first[LOCKSTEP_META_HEADER + 3] = {
        'L', 'k', 'M', 'r', 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0, 1,
        0x4b, 0x10, 0xc9, 0xf7, 0xd8, 0xe4, 0x80, 0x5f, 'o', 'n', 'e'};
    unsigned char disk[sizeof first];
    struct lockstep_db *db = api_open(NULL);
    struct lockstep_conn *conn = api_connect(db);
    (void)keep(conn, "one");
    lockstep_conn_close(conn);
    ck_assert_int_eq(lockstep_db_close(db), LOCKSTEP_OK);
    disk_read("db", places.offset[1], disk, sizeof disk);
    ck_assert_mem_eq(disk, first, sizeof first);
}
END_TEST

START_TEST(whatever_byte_is_damaged_the_other_record_is_taken)
{
    size_t i;
    make_five();
    for (i = 0; i < 2 * (LOCKSTEP_META_HEADER + sizeof "five, the newest of all" - 1); i++) {
        unsigned char right, wrong;
        struct seen seen;
        uint64_t at = places.offset[1] + i / 2;
        disk_read("db", at, &right, 1);
        wrong = (unsigned char)(right ^ (i % 2 ? 0x80 : 0x01));
        disk_write("db", at, &wrong, 1);
        seen = look_again();
        ck_assert_msg(seen.status == LOCKSTEP_OK && seen.sequence == 4, "byte %zu", i / 2);
        ck_assert_str_eq(seen.payload, "four, the last but one");
        disk_write("db", at, &right, 1);
    }
    ck_assert_uint_eq(look_again().sequence, 5);
}
END_TEST

START_TEST(a_damaged_older_one_is_no_matter)
{
    make_five();
    disk_write("db", places.offset[0] + 9, "x", 1);
    ck_assert_uint_eq(look_again().sequence, 5);
}
END_TEST

/* The newest is the last thing in the file, here, and loses its end, then all of it. */
START_TEST(of_a_file_that_is_cut_short_the_other_is_taken)
{
    uint64_t end, at;
    make_five();
    end = places.offset[1] + LOCKSTEP_META_HEADER + sizeof "five, the newest of all" - 1;
    for (at = end; at-- > places.offset[1];) {
        struct seen seen;
        ck_assert_int_eq(truncate("db", (off_t)at), 0);
        seen = look_again();
        ck_assert_msg(seen.status == LOCKSTEP_OK && seen.sequence == 4, "cut at %ju", (uintmax_t)at);
    }
}
END_TEST

START_TEST(after_a_damage_the_next_record_replaces_the_damaged_one)
{
    struct lockstep_db *db;
    struct lockstep_conn *conn;
    make_five();
    disk_write("db", places.offset[1] + 30, "x", 1);
    db = api_open(NULL);
    conn = api_connect(db);
    ck_assert_uint_eq(keep(conn, "anew"), 5);
    expect(conn, 5, "anew");
    lockstep_conn_close(conn);
    ck_assert_int_eq(lockstep_db_close(db), LOCKSTEP_OK);
    /* The one that was valid is untouched. */
    disk_write("db", places.offset[1] + 24, "x", 1);
    ck_assert_uint_eq(look_again().sequence, 4);
}
END_TEST

START_TEST(with_both_damaged_reading_says_so_and_writing_begins_anew)
{
    struct lockstep_db *db;
    struct lockstep_conn *conn;
    make_five();
    disk_write("db", places.offset[0] + 25, "x", 1);
    disk_write("db", places.offset[1] + 12, "x", 1);
    ck_assert_int_eq(look_again().status, LOCKSTEP_CORRUPT);
    /* Also where one place was never written, or is gone. */
    disk_write("db", places.offset[0], (char[LOCKSTEP_META_HEADER]){0}, LOCKSTEP_META_HEADER);
    ck_assert_int_eq(look_again().status, LOCKSTEP_CORRUPT);
    db = api_open(NULL);
    conn = api_connect(db);
    ck_assert_uint_eq(keep(conn, "saved"), 1);
    expect(conn, 1, "saved");
    lockstep_conn_close(conn);
    ck_assert_int_eq(lockstep_db_close(db), LOCKSTEP_OK);
}
END_TEST

START_TEST(a_sound_record_in_the_wrong_place_is_none)
{
    char copy[LOCKSTEP_META_HEADER + PAYLOAD];
    make_five();
    disk_read("db", places.offset[1], copy, sizeof copy);
    disk_write("db", places.offset[0], copy, sizeof copy);
    ck_assert_str_eq(look_again().payload, "five, the newest of all");
    disk_write("db", places.offset[1] + LOCKSTEP_META_HEADER, "F", 1);
    ck_assert_int_eq(look_again().status, LOCKSTEP_CORRUPT);
}
END_TEST

/* By somebody who takes the places to be larger. */
START_TEST(a_record_that_is_larger_than_its_place_is_not_taken)
{
    static const struct lockstep_meta larger = {{11, 8180}, LOCKSTEP_META_HEADER + 3 * PAYLOAD};
    char payload[3 * PAYLOAD] = "larger", buf[3 * PAYLOAD];
    struct lockstep_db *db;
    struct lockstep_conn *conn;
    uint64_t sequence = 0;
    size_t size = 0;
    make_five();
    db = api_open(NULL);
    conn = api_connect(db);
    api_begin_writing(conn);
    ck_assert_int_eq(lockstep_conn_meta_write(conn, &larger, payload, PAYLOAD + 1, &sequence), LOCKSTEP_OK);
    ck_assert_uint_eq(sequence, 6);
    ck_assert_int_eq(lockstep_conn_meta_read(conn, &larger, buf, sizeof buf, &size, &sequence), LOCKSTEP_OK);
    ck_assert_uint_eq(sequence, 6);
    ck_assert_int_eq(lockstep_conn_meta_read(conn, &places, buf, sizeof buf, &size, &sequence), LOCKSTEP_OK);
    ck_assert_uint_eq(sequence, 5);
    lockstep_conn_close(conn);
    ck_assert_int_eq(lockstep_db_close(db), LOCKSTEP_OK);
}
END_TEST

START_TEST(places_that_cannot_be_are_misuse)
{
    static const struct lockstep_meta wrong[] = {
        {{0, 63}, 64}, {{63, 0}, 64}, {{0, 4096}, LOCKSTEP_META_HEADER}, {{0, UINT64_MAX - 10}, 64}};
    struct lockstep_db *db = api_open(NULL);
    struct lockstep_conn *conn = api_connect(db);
    char buf[PAYLOAD];
    uint64_t sequence;
    size_t size, i;
    ck_assert_int_eq(lockstep_conn_meta_read(conn, &places, buf, sizeof buf, &size, &sequence), LOCKSTEP_MISUSE);
    api_begin_writing(conn);
    for (i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        ck_assert_int_eq(lockstep_conn_meta_read(conn, &wrong[i], buf, sizeof buf, &size, &sequence), LOCKSTEP_MISUSE);
        ck_assert_int_eq(lockstep_conn_meta_write(conn, &wrong[i], "", 0, NULL), LOCKSTEP_MISUSE);
    }
    ck_assert_int_eq(lockstep_conn_meta_read(conn, &places, buf, PAYLOAD - 1, &size, &sequence), LOCKSTEP_MISUSE);
    ck_assert_int_eq(lockstep_conn_meta_write(conn, &places, buf, PAYLOAD + 1, NULL), LOCKSTEP_MISUSE);
    ck_assert_int_eq(lockstep_conn_meta_write(conn, NULL, buf, 1, NULL), LOCKSTEP_MISUSE);
    lockstep_conn_end(conn);
    ck_assert_int_eq(lockstep_conn_begin(conn), LOCKSTEP_OK);
    ck_assert_int_eq(lockstep_conn_meta_write(conn, &places, buf, 1, NULL), LOCKSTEP_MISUSE);
    lockstep_conn_end(conn);
    lockstep_conn_close(conn);
    ck_assert_int_eq(lockstep_db_checkpoint(NULL, NULL), LOCKSTEP_MISUSE);
    ck_assert_int_eq(lockstep_db_close(db), LOCKSTEP_OK);
}
END_TEST

/* The sequence's last byte is byte 18 of the file, which the store hides from SQLite when it is 3: not here. */
START_TEST(a_record_may_be_where_a_sqlite_file_has_its_write_version)
{
    static const struct lockstep_meta early = {{100, 3}, LOCKSTEP_META_HEADER + PAYLOAD};
    char buf[PAYLOAD];
    uint64_t sequence = 0;
    size_t size = 0;
    int i;
    struct lockstep_db *db = api_open(NULL);
    struct lockstep_conn *conn = api_connect(db);
    for (i = 0; i < 3; i++) {
        api_begin_writing(conn);
        ck_assert_int_eq(lockstep_conn_meta_write(conn, &early, "x", 1, NULL), LOCKSTEP_OK);
        api_commit(conn, LOCKSTEP_ASYNC);
    }
    lockstep_conn_close(conn);
    ck_assert_int_eq(lockstep_db_close(db), LOCKSTEP_OK);
    db = api_open(NULL);
    conn = api_connect(db);
    ck_assert_int_eq(lockstep_conn_begin(conn), LOCKSTEP_OK);
    ck_assert_int_eq(lockstep_conn_meta_read(conn, &early, buf, PAYLOAD, &size, &sequence), LOCKSTEP_OK);
    ck_assert_uint_eq(sequence, 3);
    lockstep_conn_close(conn);
    ck_assert_int_eq(lockstep_db_close(db), LOCKSTEP_OK);
}
END_TEST

/* ------------------------------------------------------------------------------------------- checkpoints */

static uint64_t
checkpoint(struct lockstep_db *db)
{
    struct lockstep_db_info info;
    uint64_t bytes = 777;
    ck_assert_int_eq(lockstep_db_checkpoint(db, &bytes), LOCKSTEP_OK);
    ck_assert_int_eq(lockstep_db_info(db, &info), LOCKSTEP_OK);
    ck_assert_uint_eq(info.durable, info.committed);
    ck_assert_uint_eq(info.flushed, info.committed);
    return bytes;
}

START_TEST(a_checkpoint_tells_how_much_it_wrote)
{
    /* Nobody but the checkpoint writes behind. */
    struct lockstep_options options = {.max_lag_ms = 3600000, .no_worker = (uint32_t)_i};
    struct lockstep_db *db = api_open(&options);
    struct lockstep_conn *conn = api_connect(db);
    char text[4] = "";
    ck_assert_uint_eq(checkpoint(db), 0);
    api_write(conn, 5000, "new", LOCKSTEP_OFF);
    api_write(conn, 5003, "er", LOCKSTEP_ASYNC);
    disk_read("db", 5000, text, 3);
    ck_assert_int_eq(text[0], 0);
    ck_assert_uint_eq(checkpoint(db), 4096);
    disk_read("db", 5000, text, 3);
    ck_assert_str_eq(text, "new");
    ck_assert_uint_eq(checkpoint(db), 0);
    /* The file has 10000 bytes: its last unit is written as far as it goes; two others are whole. */
    api_write(conn, 9999, "!", LOCKSTEP_OFF);
    ck_assert_uint_eq(checkpoint(db), 10000 - 8192);
    api_write(conn, 4090, "across units", LOCKSTEP_OFF);
    ck_assert_uint_eq(checkpoint(db), 8192);
    ck_assert_int_eq(lockstep_db_checkpoint(db, NULL), LOCKSTEP_OK);
    lockstep_conn_close(conn);
    ck_assert_int_eq(lockstep_db_close(db), LOCKSTEP_OK);
}
END_TEST

static void
be_the_worker(struct child *self)
{
    struct lockstep_options options = {.max_lag_ms = 3600000};
    struct lockstep_db *db;
    child_step(self, 's');
    db = api_open(&options);
    child_step(self, 'a');
    child_check(lockstep_db_close(db) == LOCKSTEP_OK);
}

START_TEST(where_another_process_writes_behind_it_waits_and_tells_the_same)
{
    struct lockstep_db *db;
    struct lockstep_conn *conn;
    struct child child;
    child_start(&child, be_the_worker);
    child_await(&child, 's');
    child_go(&child);
    child_await(&child, 'a');
    db = api_open(NULL);
    conn = api_connect(db);
    ck_assert_int_eq(lockstep_db_run(db), LOCKSTEP_BUSY);
    api_write(conn, 0, "x", LOCKSTEP_ASYNC);
    ck_assert_uint_eq(checkpoint(db), 4096);
    ck_assert_uint_eq(checkpoint(db), 0);
    lockstep_conn_close(conn);
    ck_assert_int_eq(lockstep_db_close(db), LOCKSTEP_OK);
    child_go(&child);
    child_end(&child);
}
END_TEST

int
main(void)
{
    Suite *suite = suite_create("meta");
    TCase *tcase = coordtest_case(suite, "records");
    /* Each damage is looked at by a library that opens the file anew, which takes an emulator a third of a second. */
    tcase_set_timeout(tcase, 120);
    tcase_add_test(tcase, records_take_turns_and_the_newest_is_read);
    tcase_add_test(tcase, a_record_is_big_endian);
    tcase_add_test(tcase, whatever_byte_is_damaged_the_other_record_is_taken);
    tcase_add_test(tcase, a_damaged_older_one_is_no_matter);
    tcase_add_test(tcase, of_a_file_that_is_cut_short_the_other_is_taken);
    tcase_add_test(tcase, after_a_damage_the_next_record_replaces_the_damaged_one);
    tcase_add_test(tcase, with_both_damaged_reading_says_so_and_writing_begins_anew);
    tcase_add_test(tcase, a_sound_record_in_the_wrong_place_is_none);
    tcase_add_test(tcase, a_record_that_is_larger_than_its_place_is_not_taken);
    tcase_add_test(tcase, places_that_cannot_be_are_misuse);
    tcase_add_test(tcase, a_record_may_be_where_a_sqlite_file_has_its_write_version);
    tcase = coordtest_case(suite, "checkpoint");
    tcase_add_loop_test(tcase, a_checkpoint_tells_how_much_it_wrote, 0, 2);
    tcase_add_test(tcase, where_another_process_writes_behind_it_waits_and_tells_the_same);
    return coordtest_main(suite);
}
