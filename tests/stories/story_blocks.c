/*
 * Promise: a process that dies at any instant of a write transaction over coord.h leaves the list of free
 * blocks whole: none is lost, none is in use twice, in the file and in the store; and who goes on is not kept
 * waiting.
 *
 * The application keeps its own books: a byte for each block that it has, in block 0, written in the same
 * transaction as the list.  A victim takes, writes, frees and commits until it dies at a crash point; a
 * survivor that was connected, or who opens the file when nobody is left, compares the books with the list,
 * and goes on.
 *
 * Made to fail by: leaving out lks_recovery_repair() when WRITER is taken over (blocks of the store are
 * lost); writing the list outside of the transaction that frees (books and list differ); publishing before
 * the list is written.
 */
#include <stdlib.h>
#include <unistd.h>

#include "api/enginetest.h"
#include "base/crashpoint.h"
#include "shm/layout.h"

#define ROOT 16
#define BOOKS 128
#define SIZE 4096
#define BLOCKS (SIZE - BOOKS)

#ifdef LKS_DEBUG

static const char *const points[] = {
    "transaction:filled",  "pagetable:linking",      "pagetable:linked",      "sweep:pruned",    "blocklist:node",
    "blocklist:root",      "transaction:marked",     "transaction:committing", "transaction:committed",
    "reader:claiming",     "reader:active",
};

static struct lockstep_db *db;
static struct lockstep_conn *conn;
static unsigned char books[BLOCKS];
static unsigned seed;

static const char *victim_point;
static unsigned victim_nth;

static bool
read_books(void)
{
    size_t got;
    return lockstep_conn_read(conn, BOOKS, books, sizeof books, &got) == LOCKSTEP_OK && got == sizeof books;
}

/* One transaction that takes some, writes into them, and frees some; false: a call failed. */
static bool
transact(void)
{
    uint64_t taken[4], i;
    char page[SIZE];
    if (lockstep_conn_begin(conn) != LOCKSTEP_OK || lockstep_conn_write_begin(conn, 20000) != LOCKSTEP_OK ||
        !read_books())
        return false;
    for (i = 0; i < 4; i++) {
        if (lockstep_conn_block_alloc(conn, 0, &taken[i]) != LOCKSTEP_OK || taken[i] >= BLOCKS ||
            books[taken[i]] != 0)
            return false;
        memset(page, (int)taken[i], sizeof page);
        books[taken[i]] = 1;
        if (lockstep_conn_write(conn, taken[i] * SIZE, page, sizeof page) != LOCKSTEP_OK)
            return false;
    }
    books[taken[3]] = 0;
    if (lockstep_conn_block_refree(conn, taken[3]) != LOCKSTEP_OK)
        return false;
    for (i = 0; i < 40; i++) {
        unsigned block = 1 + (unsigned)rand_r(&seed) % 200;
        if (books[block] != 0 && i < 30) {
            books[block] = 0;
            if (lockstep_conn_block_free(conn, block) != LOCKSTEP_OK)
                return false;
        }
    }
    if (lockstep_conn_write(conn, BOOKS, books, sizeof books) != LOCKSTEP_OK ||
        lockstep_conn_commit(conn, LOCKSTEP_ASYNC, NULL) != LOCKSTEP_OK)
        return false;
    lockstep_conn_end(conn);
    return true;
}

static void
enter(void)
{
    db = api_open(NULL);
    conn = api_connect(db);
    OK(lockstep_conn_block_open(conn, ROOT));
}

static void
leave(void)
{
    lockstep_conn_close(conn);
    OK(lockstep_db_close(db));
}

static void
victim(struct child *self)
{
    int i;
    child_step(self, 's');
    child_check(lockstep_db_open("db", NULL, &db) == LOCKSTEP_OK && lockstep_db_attach(db) == LOCKSTEP_OK);
    child_check(lockstep_conn_open(db, &conn) == LOCKSTEP_OK);
    child_check(lockstep_conn_block_open(conn, ROOT) == LOCKSTEP_OK);
    seed = 5;
    for (i = 0; i < 10; i++)
        child_check(transact());
    child_step(self, 'r');
    lks_crash_arm(victim_point, victim_nth);
    for (i = 0; i < 200; i++)
        child_check(transact());
    child_check(false); /* it was to die */
}

static int
count_entry(void *arg, uint64_t block, uint64_t freed)
{
    (void)freed;
    ck_assert_msg(books[block] == 0, "block %u is free and in use", (unsigned)block);
    ++*(uint64_t *)arg;
    return 0;
}

/*
 * In a transaction: every block is in the books, an entry, or the list's own; and the store has lost none of
 * its blocks.
 */
static void
audit(void)
{
    struct lockstep_block_info info;
    uint64_t mine = 0, entries = 0, i;
    const struct lks_shm_state *state = &db->shm->state;
    ck_assert(read_books());
    for (i = 1; i < BLOCKS; i++)
        mine += books[i];
    OK(lockstep_conn_block_walk(conn, 0, count_entry, &entries));
    OK(lockstep_conn_block_info(conn, &info));
    ck_assert_uint_eq(entries, info.free);
    ck_assert_uint_eq(info.blocks, 1 + mine + entries + info.nodes);
    ck_assert_uint_gt(mine, 5);
    for (i = 1; i < BLOCKS; i++)
        if (books[i])
            ck_assert_int_eq(api_read_byte(conn, i * SIZE + 7), (unsigned char)i);
    ck_assert_uint_eq(lks_a32_relaxed(&state->blocks_used) + lks_a32_relaxed(&state->free_count),
                      lks_a32_relaxed(&state->blocks_fresh));
}

static void
found(void)
{
    enter();
    api_begin_writing(conn);
    OK(lockstep_conn_block_format(conn, ROOT, SIZE));
    OK(lockstep_conn_write(conn, BOOKS, books, sizeof books));
    /* The three blocks of the file of 10000 bytes are given to the list. */
    OK(lockstep_conn_block_free(conn, 1));
    OK(lockstep_conn_block_free(conn, 2));
    api_commit(conn, LOCKSTEP_FULL_SYNC);
}

static void
play(const char *point, unsigned nth, bool survived)
{
    struct child child;
    int i;
    victim_point = point;
    victim_nth = nth;
    child_start(&child, victim);
    child_await(&child, 's');
    found();
    child_go(&child);
    child_await(&child, 'r');
    if (survived) {
        OK(lockstep_conn_begin(conn));
        audit();
        lockstep_conn_end(conn);
    } else {
        leave();
    }
    child_go(&child);
    child_killed(&child);
    if (!survived)
        enter();
    api_begin_writing(conn);
    audit();
    OK(lockstep_conn_rollback(conn));
    lockstep_conn_end(conn);
    seed = 9;
    for (i = 0; i < 30; i++)
        ck_assert(transact());
    api_begin_writing(conn);
    audit();
    lockstep_conn_end(conn);
    leave();
    ck_assert(!file_exists("db-lockstep"));
    enter();
    api_begin_writing(conn);
    audit();
    lockstep_conn_end(conn);
    leave();
}

START_TEST(a_survivor_finds_the_list_whole)
{
    play(points[_i], 1, true);
}
END_TEST

START_TEST(a_survivor_finds_the_list_whole_after_a_later_death)
{
    play(points[_i], 7, true);
}
END_TEST

START_TEST(who_comes_when_nobody_is_left_finds_the_list_whole)
{
    play(points[_i], 3, false);
}
END_TEST

int
main(void)
{
    int count = sizeof points / sizeof points[0];
    Suite *suite = suite_create("story_blocks");
    TCase *tcase = coordtest_case(suite, "deaths");
    tcase_add_loop_test(tcase, a_survivor_finds_the_list_whole, 0, count);
    tcase_add_loop_test(tcase, a_survivor_finds_the_list_whole_after_a_later_death, 0, count);
    tcase_add_loop_test(tcase, who_comes_when_nobody_is_left_finds_the_list_whole, 0, count);
    return coordtest_main(suite);
}

#else

int
main(void)
{
    return 77;
}

#endif
