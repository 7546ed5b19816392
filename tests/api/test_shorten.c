/*
 * The last client that leaves cuts the file at the last byte that the application uses.
 *
 * Made to fail by: leaving lks_shorten() out; cutting beside DMS3, or without excluding stock readers; cutting before what
 * was committed with OFF is durable; taking what a callback says that fails; asking at exit().
 */
#include "api/enginetest.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/crashpoint.h"
#include "shm/layout.h"

#define LONG_BYTES 100000u
#define USED_BYTES 21000u

/* An engine that keeps the end of what it uses in a record, and its own count of how often it was asked. */
static const struct lockstep_meta places = {{0, 512}, 64};
static unsigned asked;
static enum lockstep_status answer;

static enum lockstep_status
last_used(void *arg, struct lockstep_conn *conn, uint64_t *out_bytes)
{
    unsigned char buf[64 - LOCKSTEP_META_HEADER];
    uint64_t sequence = 0, used = 0;
    size_t size = 0, i;
    enum lockstep_status status = lockstep_conn_meta_read(conn, &places, buf, sizeof buf, &size, &sequence);
    (void)arg;
    asked++;
    if (status == LOCKSTEP_OK && sequence == 0)
        return LOCKSTEP_STALE; /* not ours yet */
    for (i = 0; i < size; i++)
        used = used << 8 | buf[i];
    if (status == LOCKSTEP_OK)
        *out_bytes = used;
    return status != LOCKSTEP_OK ? status : answer;
}

static const struct lockstep_options engine = {.max_lag_ms = 3600000, .last_used_fn = last_used};

static void
note_used(struct lockstep_conn *conn, uint64_t used)
{
    unsigned char bytes[3] = {(unsigned char)(used >> 16), (unsigned char)(used >> 8), (unsigned char)used};
    ck_assert_int_eq(lockstep_conn_meta_write(conn, &places, bytes, sizeof bytes, NULL), LOCKSTEP_OK);
}

/* A file of LONG_BYTES, all in use; then a commit with OFF that needs only the beginning. */
static void
fill(struct lockstep_db *db)
{
    struct lockstep_conn *conn = api_connect(db);
    api_begin_writing(conn);
    ck_assert_int_eq(lockstep_conn_write(conn, LONG_BYTES - 4, "end!", 4), LOCKSTEP_OK);
    ck_assert_int_eq(lockstep_conn_write(conn, USED_BYTES - 4, "old!", 4), LOCKSTEP_OK);
    note_used(conn, LONG_BYTES);
    api_commit(conn, LOCKSTEP_FULL_SYNC);
    api_begin_writing(conn);
    ck_assert_int_eq(lockstep_conn_write(conn, USED_BYTES - 4, "last", 4), LOCKSTEP_OK);
    note_used(conn, USED_BYTES);
    api_commit(conn, LOCKSTEP_OFF);
    lockstep_conn_close(conn);
}

static void
close_db_ok(struct lockstep_db *db)
{
    ck_assert_int_eq(lockstep_db_close(db), LOCKSTEP_OK);
}

static void
expect_size(uint64_t size)
{
    char last[5] = "";
    ck_assert_uint_eq(disk_size("db"), size);
    disk_read("db", USED_BYTES - 4, last, 4);
    ck_assert_str_eq(last, "last");
}

static void
expect_cut(void)
{
    expect_size(USED_BYTES);
    ck_assert(!file_exists("db-lockstep") && !file_exists("db-journal") && !file_exists("db-lockstep.orphan-1"));
}

START_TEST(the_last_one_that_leaves_cuts_it_and_what_grows_again_is_zeros)
{
    struct lockstep_db *db = api_open(&engine);
    struct lockstep_conn *conn;
    fill(db);
    ck_assert_uint_eq(asked, 0);
    close_db_ok(db);
    ck_assert_uint_eq(asked, 1);
    expect_cut();
    db = api_open(NULL);
    conn = api_connect(db);
    api_write(conn, LONG_BYTES + 10, "x", LOCKSTEP_ASYNC);
    ck_assert_str_eq(api_read(conn, LONG_BYTES - 4, 4), "");
    lockstep_conn_close(conn);
    close_db_ok(db);
    expect_size(LONG_BYTES + 11);
}
END_TEST

static void
stay_a_while(struct child *self)
{
    struct lockstep_db *db;
    child_step(self, 's');
    db = api_open(&engine);
    child_step(self, 'a');
    close_db_ok(db);
    child_check(asked == 1);
}

START_TEST(one_of_several_that_leaves_is_not_asked)
{
    struct lockstep_db *db;
    struct child child;
    child_start(&child, stay_a_while);
    child_await(&child, 's');
    db = api_open(&engine);
    fill(db);
    child_go(&child);
    child_await(&child, 'a');
    ck_assert_int_eq(lockstep_db_checkpoint(db, NULL), LOCKSTEP_OK);
    close_db_ok(db);
    ck_assert_uint_eq(asked, 0);
    expect_size(LONG_BYTES);
    child_go(&child);
    child_end(&child);
    expect_cut();
}
END_TEST

static const struct lockstep_options reading = {.readonly = 1};

/* _i 0: connected, DMS3.  1: in a transaction that began while nobody was. */
static void
read_for_long(struct child *self)
{
    struct lockstep_db *db;
    struct lockstep_conn *conn;
    child_step(self, 's');
    db = api_open(&reading);
    conn = api_connect(db);
    child_check(lockstep_conn_begin(conn) == LOCKSTEP_OK);
    child_step(self, 'r');
    lockstep_conn_close(conn);
    close_db_ok(db);
}

START_TEST(beside_one_that_reads_it_stays_and_is_cut_by_the_next)
{
    struct lockstep_db *db;
    struct child reader;
    child_start(&reader, read_for_long);
    child_await(&reader, 's');
    db = api_open(&engine);
    fill(db);
    if (_i == 1) {
        /* Left as long as it is, by one who cannot tell. */
        answer = LOCKSTEP_STALE;
        close_db_ok(db);
        answer = LOCKSTEP_OK;
    }
    child_go(&reader);
    child_await(&reader, 'r');
    if (_i == 1)
        db = api_open(&engine);
    close_db_ok(db);
    expect_size(LONG_BYTES);
    child_go(&reader);
    child_end(&reader);
    db = api_open(&engine);
    close_db_ok(db);
    expect_cut();
}
END_TEST

START_TEST(who_cannot_tell_or_uses_more_than_there_is_leaves_it_as_it_is)
{
    struct lockstep_db *db = api_open(&engine);
    struct lockstep_conn *conn;
    fill(db);
    answer = LOCKSTEP_IOERR;
    close_db_ok(db);
    ck_assert(logged("cannot tell how much of it is in use"));
    answer = LOCKSTEP_OK;
    expect_size(LONG_BYTES);
    db = api_open(&engine);
    conn = api_connect(db);
    api_begin_writing(conn);
    note_used(conn, LONG_BYTES + 1);
    api_commit(conn, LOCKSTEP_ASYNC);
    lockstep_conn_close(conn);
    close_db_ok(db);
    expect_size(LONG_BYTES);
}
END_TEST

static void
exit_without_closing(struct child *self)
{
    child_step(self, 's');
    fill(api_open(&engine));
    exit(0);
}

/* What the application keeps to answer with may be gone. */
START_TEST(at_exit_nobody_is_asked)
{
    struct child child;
    child_start(&child, exit_without_closing);
    child_await(&child, 's');
    child_go(&child);
    child_end(&child);
    expect_size(LONG_BYTES);
    ck_assert(!file_exists("db-lockstep"));
}
END_TEST

#ifdef LKS_DEBUG
static const char *const points[] = {"shorten:durable", "shorten:cut", "shorten:synced", "detach:left"};
#define POINTS (int)(sizeof points / sizeof *points)
static const char *point;

static void
die_shortening(struct child *self)
{
    struct lockstep_db *db;
    child_step(self, 's');
    db = api_open(&engine);
    fill(db);
    lks_crash_arm(point, 1);
    (void)lockstep_db_close(db);
}

static uint64_t
word(size_t offset)
{
    uint64_t value = 0;
    disk_read("db-lockstep", offset, &value, sizeof value);
    return value;
}

/* Even ones: the next that writes cuts, too.  Odd ones: it knows of nothing. */
START_TEST(who_comes_after_a_death_finds_all_that_is_used_and_cuts_it_again)
{
    struct lockstep_options plain = {0};
    struct lockstep_db *db;
    struct lockstep_conn *conn;
    struct child child;
    char byte;
    uint64_t before;
    point = points[_i / 2];
    child_start(&child, die_shortening);
    child_await(&child, 's');
    child_go(&child);
    ck_assert_int_eq(read(child.fd, &byte, 1), 0);
    child_kill(&child);
    ck_assert_uint_eq(word(offsetof(struct lks_shm, state.durable)), word(offsetof(struct lks_shm, state.committed)));
    before = disk_sum("db");
    db = api_open(&reading);
    conn = api_connect(db);
    ck_assert_str_eq(api_read(conn, USED_BYTES - 4, 4), "last");
    lockstep_conn_close(conn);
    close_db_ok(db);
    ck_assert_uint_eq(disk_sum("db"), before);
    db = api_open(_i % 2 ? &plain : &engine);
    conn = api_connect(db);
    ck_assert_str_eq(api_read(conn, USED_BYTES - 4, 4), "last");
    if (_i % 2)
        api_write(conn, 30, "more", LOCKSTEP_ASYNC);
    lockstep_conn_close(conn);
    close_db_ok(db);
    if (_i == 1)
        expect_size(LONG_BYTES);
    else
        expect_cut();
    ck_assert(!file_exists("db-lockstep") && !file_exists("db-journal") && !file_exists("db-lockstep.orphan-1"));
    ck_assert(!logged("does not fit"));
}
END_TEST
#endif

/* ------------------------------------------------------------------------------- with the list of free blocks */

#define ROOT 100
#define BLOCK 512u
#define BLOCKS 100u

/* While the list goes on from its end without a gap. */
static int
step_back(void *arg, uint64_t block, uint64_t freed)
{
    uint64_t *end = arg;
    (void)freed;
    if (block != *end - 1)
        return 1;
    --*end;
    return 0;
}

static enum lockstep_status
last_block(void *arg, struct lockstep_conn *conn, uint64_t *out_bytes)
{
    struct lockstep_block_info info;
    enum lockstep_status status = lockstep_conn_block_open(conn, ROOT);
    if (status == LOCKSTEP_OK)
        status = lockstep_conn_block_info(conn, &info);
    if (status == LOCKSTEP_OK)
        status = lockstep_conn_block_walk(conn, 1, step_back, &info.blocks);
    if (status == LOCKSTEP_OK)
        *out_bytes = *(uint64_t *)arg = info.blocks * BLOCK;
    return status;
}

/* Blocks that are free at the end are cut off and stay on the list: who gets one gets zeros, and the file its length. */
START_TEST(free_blocks_that_were_cut_off_may_be_handed_out_again)
{
    uint64_t used = 0, block = 0, size = 0, i;
    struct lockstep_options options = {.last_used_fn = last_block, .last_used_arg = &used};
    struct lockstep_block_info info;
    struct lockstep_db *db = api_open(&options);
    struct lockstep_conn *conn = api_connect(db);
    char page[BLOCK], zeros[BLOCK] = {0};
    size_t got = 0;
    memset(page, 'x', sizeof page);
    api_begin_writing(conn);
    OK(lockstep_conn_block_format(conn, ROOT, BLOCK));
    while (block < BLOCKS - 1) {
        OK(lockstep_conn_block_alloc(conn, 0, &block));
        OK(lockstep_conn_write(conn, block * BLOCK, page, sizeof page));
    }
    api_commit(conn, LOCKSTEP_ASYNC);
    api_begin_writing(conn);
    for (i = 50; i < BLOCKS; i++)
        OK(lockstep_conn_block_free(conn, i));
    api_commit(conn, LOCKSTEP_OFF);
    lockstep_conn_close(conn);
    close_db_ok(db);
    ck_assert_uint_gt(used, 0);
    /* Up to the last of the list's own nodes, which lie behind what was free. */
    ck_assert_uint_eq(disk_size("db"), used);
    /* Of the nodes, these move to the front: then there is something to cut. */
    db = api_open(&options);
    conn = api_connect(db);
    OK(lockstep_conn_block_open(conn, ROOT));
    api_begin_writing(conn);
    OK(lockstep_conn_block_trim(conn, &i));
    api_commit(conn, LOCKSTEP_ASYNC);
    lockstep_conn_close(conn);
    close_db_ok(db);
    ck_assert_uint_lt(used, i * BLOCK);
    ck_assert_uint_eq(disk_size("db"), used);
    db = api_open(NULL);
    conn = api_connect(db);
    OK(lockstep_conn_block_open(conn, ROOT));
    api_begin_writing(conn);
    OK(lockstep_conn_block_info(conn, &info));
    ck_assert_uint_eq(info.blocks, i);
    ck_assert_uint_eq(info.usable, info.free);
    do
        OK(lockstep_conn_block_alloc(conn, 0, &block));
    while (block < used / BLOCK);
    ck_assert_uint_lt(block, i);
    api_commit(conn, LOCKSTEP_ASYNC);
    OK(lockstep_conn_begin(conn));
    OK(lockstep_conn_size(conn, &size));
    ck_assert_uint_eq(size, i * BLOCK);
    OK(lockstep_conn_read(conn, block * BLOCK, page, sizeof page, &got));
    ck_assert_mem_eq(page, zeros, sizeof page);
    lockstep_conn_close(conn);
    close_db_ok(db);
    ck_assert_uint_eq(disk_size("db"), i * BLOCK);
}
END_TEST

int
main(void)
{
    Suite *suite = suite_create("shorten");
    TCase *tcase = coordtest_case(suite, "shorten");
    tcase_add_test(tcase, the_last_one_that_leaves_cuts_it_and_what_grows_again_is_zeros);
    tcase_add_test(tcase, one_of_several_that_leaves_is_not_asked);
    tcase_add_loop_test(tcase, beside_one_that_reads_it_stays_and_is_cut_by_the_next, 0, 2);
    tcase_add_test(tcase, who_cannot_tell_or_uses_more_than_there_is_leaves_it_as_it_is);
    tcase_add_test(tcase, at_exit_nobody_is_asked);
#ifdef LKS_DEBUG
    tcase_add_loop_test(tcase, who_comes_after_a_death_finds_all_that_is_used_and_cuts_it_again, 0, 2 * POINTS);
#endif
    tcase_add_test(tcase, free_blocks_that_were_cut_off_may_be_handed_out_again);
    return coordtest_main(suite);
}
