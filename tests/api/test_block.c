/*
 * Blocks of the file: who gets which, and what becomes of the list.
 *
 * Made to fail by: a limit that leaves out the snapshots, or `durable` (limit_of, settled_commit); not clearing dead readers;
 * a copy that is kept after a rollback or another's commit; a node that is given away; an entry or a node that is dropped
 * where nodes are made, emptied or moved; links that are not written again; `life` ignored; not growing or cutting the file;
 * calls from within a walk.  (Lists that are damaged: test_block_damage.c.)
 */
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "api/blocktest.h"
#include "store/blocknode.h"

#define MANY 700

START_TEST(a_freed_block_is_not_handed_out_while_an_older_snapshot_is_read)
{
    struct lockstep_conn *reader;
    uint64_t block, ticket, size = 0;
    make_list();
    reader = api_connect(db);
    api_begin_writing(conn);
    block = take(0);
    ck_assert_uint_eq(block, FIRST);
    ck_assert_uint_eq(take(0), FIRST + 1);
    api_commit(conn, LOCKSTEP_ASYNC);
    OK(lockstep_conn_begin(reader));
    OK(lockstep_conn_size(reader, &size));
    ck_assert_uint_eq(size, (FIRST + 2) * SIZE); /* they are of the file, though nothing was written to them */
    api_begin_writing(conn);
    OK(lockstep_conn_block_free(conn, block));
    ck_assert_uint_eq(take(0), FIRST + 3); /* FIRST + 2 is the list's first node */
    ticket = api_commit(conn, LOCKSTEP_ASYNC);
    durable(ticket);
    api_begin_writing(conn);
    ck_assert_uint_eq(walk(0).blocks[0], block);
    ck_assert_uint_eq(walk(0).freed[0], ticket);
    ck_assert_uint_eq(info().usable, 0);
    ck_assert_uint_eq(take(0), FIRST + 4);
    OK(lockstep_conn_rollback(conn));
    lockstep_conn_end(conn);
    lockstep_conn_end(reader);
    api_begin_writing(conn);
    ck_assert_uint_eq(info().usable, 1);
    ck_assert_uint_eq(take(0), block);
    api_commit(conn, LOCKSTEP_ASYNC);
    lockstep_conn_close(reader);
    close_all();
}
END_TEST

START_TEST(a_freed_block_is_not_handed_out_before_its_commit_is_durable)
{
    /* Nothing is written behind but when the test says so. */
    struct lockstep_options options = {.no_worker = 1, .max_lag_ms = 3600000};
    uint64_t block, ticket;
    db = api_open(&options);
    conn = api_connect(db);
    api_begin_writing(conn);
    OK(lockstep_conn_block_format(conn, ROOT, SIZE));
    block = take(0);
    api_commit(conn, LOCKSTEP_ASYNC);
    OK(lockstep_db_run(db));
    api_begin_writing(conn);
    OK(lockstep_conn_block_free(conn, block));
    ticket = api_commit(conn, LOCKSTEP_ASYNC);
    ck_assert_uint_ne(would_take(), block);
    OK(lockstep_db_run(db));
    durable(ticket);
    api_begin_writing(conn);
    ck_assert_uint_eq(take(0), block);
    /* Of commits that nobody wants synced it is enough that they are in the file. */
    ck_assert_int_eq(lockstep_conn_block_free(conn, FIRST + 1), LOCKSTEP_MISUSE); /* the list's node */
    api_commit(conn, LOCKSTEP_ASYNC);
    OK(lockstep_db_run(db));
    api_begin_writing(conn);
    OK(lockstep_conn_block_free(conn, block));
    api_commit(conn, LOCKSTEP_OFF);
    ck_assert_uint_ne(would_take(), block);
    OK(lockstep_db_run(db));
    ck_assert_uint_eq(would_take(), block);
    /* But not of one of these when a later one is to be synced. */
    api_write_byte(conn, 5, 'x', LOCKSTEP_ASYNC);
    ck_assert_uint_ne(would_take(), block);
    OK(lockstep_db_run(db));
    ck_assert_uint_eq(would_take(), block);
    close_all();
}
END_TEST

/* Reads the newest snapshot, until it is killed. */
static void
read_on(struct child *self)
{
    child_step(self, 's');
    child_check(lockstep_conn_begin(api_connect(api_open(NULL))) == LOCKSTEP_OK);
    child_step(self, 'r');
}

START_TEST(a_reader_that_has_died_holds_no_block_back)
{
    struct child child;
    uint64_t block;
    child_start(&child, read_on);
    child_await(&child, 's');
    make_list();
    api_begin_writing(conn);
    block = take(0);
    api_commit(conn, LOCKSTEP_ASYNC);
    child_go(&child);
    child_await(&child, 'r');
    api_begin_writing(conn);
    OK(lockstep_conn_block_free(conn, block));
    durable(api_commit(conn, LOCKSTEP_ASYNC));
    ck_assert_uint_ne(would_take(), block);
    child_kill(&child);
    ck_assert_uint_eq(would_take(), block);
    close_all();
}
END_TEST

START_TEST(a_block_given_back_in_its_transaction_is_usable_at_once)
{
    uint64_t a, b;
    make_list();
    api_begin_writing(conn);
    a = take(0);
    b = take(0);
    ck_assert(lockstep_conn_block_is_new(conn, a));
    ck_assert_int_eq(lockstep_conn_block_refree(conn, 3), LOCKSTEP_MISUSE);
    OK(lockstep_conn_block_refree(conn, a));
    ck_assert(!lockstep_conn_block_is_new(conn, a));
    ck_assert_int_eq(lockstep_conn_block_refree(conn, a), LOCKSTEP_MISUSE);
    ck_assert_uint_eq(walk(0).freed[0], 0);
    ck_assert_uint_eq(take(0), a);
    OK(lockstep_conn_block_free(conn, b)); /* of this transaction too: nobody has seen it */
    ck_assert_uint_eq(take(0), b);
    OK(lockstep_conn_block_refree(conn, b));
    api_commit(conn, LOCKSTEP_ASYNC);
    ck_assert(!lockstep_conn_block_is_new(conn, a));
    api_begin_writing(conn);
    ck_assert_int_eq(lockstep_conn_block_refree(conn, a), LOCKSTEP_MISUSE);
    ck_assert_uint_eq(take(0), b); /* and not before it is durable, for there was nothing in it */
    api_commit(conn, LOCKSTEP_ASYNC);
    close_all();
}
END_TEST

/* Whatever has been handed out. */
START_TEST(block_0_is_never_the_lists_to_give)
{
    uint64_t i;
    make_list();
    api_begin_writing(conn);
    for (i = 0; i < 20; i++) {
        ck_assert(!lockstep_conn_block_is_new(conn, 0));
        ck_assert_int_eq(lockstep_conn_block_free(conn, 0), LOCKSTEP_MISUSE);
        ck_assert_int_eq(lockstep_conn_block_refree(conn, 0), LOCKSTEP_MISUSE);
        ck_assert_uint_eq(info().free, 0);
        ck_assert_uint_eq(take(0), FIRST + i);
    }
    api_commit(conn, LOCKSTEP_ASYNC);
    close_all();
}
END_TEST

START_TEST(allocation_below_a_block_gives_a_lower_one_or_none)
{
    uint64_t blocks[4], none = 99;
    int i;
    make_list();
    api_begin_writing(conn);
    for (i = 0; i < 4; i++)
        blocks[i] = take(0);
    OK(lockstep_conn_block_refree(conn, blocks[1]));
    OK(lockstep_conn_block_refree(conn, blocks[3]));
    OK(lockstep_conn_block_alloc(conn, blocks[1], &none));
    ck_assert_uint_eq(none, 0);
    ck_assert_uint_eq(take(blocks[1] + 1), blocks[1]);
    ck_assert_uint_eq(take(blocks[3]), 0);
    ck_assert_uint_eq(take(blocks[3] + 1), blocks[3]);
    ck_assert_uint_eq(info().free, 0);
    OK(lockstep_conn_rollback(conn));
    lockstep_conn_end(conn);
    close_all();
}
END_TEST

START_TEST(a_rollback_restores_the_list_and_a_snapshot_keeps_its_own)
{
    struct lockstep_conn *reader;
    struct walked before, during;
    uint64_t a, b;
    make_list();
    reader = api_connect(db);
    OK(lockstep_conn_block_open(reader, ROOT));
    api_begin_writing(conn);
    a = take(0);
    b = take(0);
    OK(lockstep_conn_block_refree(conn, a));
    api_commit(conn, LOCKSTEP_ASYNC);
    OK(lockstep_conn_begin(reader));
    OK(lockstep_conn_begin(conn));
    before = walk(0);
    ck_assert_int_eq(before.count, 1);
    OK(lockstep_conn_write_begin(conn, 0));
    ck_assert_uint_eq(take(0), a);
    OK(lockstep_conn_block_free(conn, b));
    during = walk(0);
    ck_assert_int_eq(during.count, 1);
    ck_assert_uint_eq(during.blocks[0], b);
    OK(lockstep_conn_rollback(conn));
    during = walk(0);
    ck_assert_int_eq(during.count, 1);
    ck_assert_uint_eq(during.blocks[0], a);
    lockstep_conn_end(conn);
    api_begin_writing(conn);
    ck_assert_uint_eq(take(0), a);
    OK(lockstep_conn_block_free(conn, b));
    api_commit(conn, LOCKSTEP_ASYNC);
    during.count = during.stop_after = 0;
    OK(lockstep_conn_block_walk(reader, 0, note, &during));
    ck_assert_int_eq(during.count, 1);
    ck_assert_uint_eq(during.blocks[0], a);
    lockstep_conn_end(reader);
    /* The next one sees what another connection has made of it. */
    OK(lockstep_conn_begin(reader));
    during.count = 0;
    OK(lockstep_conn_block_walk(reader, 0, note, &during));
    ck_assert_int_eq(during.count, 1);
    ck_assert_uint_eq(during.blocks[0], b);
    lockstep_conn_close(reader);
    close_all();
}
END_TEST

static int
ask_within(void *arg, uint64_t block, uint64_t freed)
{
    struct lockstep_block_info i;
    uint64_t other = 0;
    (void)freed;
    ck_assert_int_eq(lockstep_conn_block_info(conn, &i), LOCKSTEP_MISUSE);
    ck_assert_int_eq(lockstep_conn_block_alloc(conn, 0, &other), LOCKSTEP_MISUSE);
    ck_assert_int_eq(lockstep_conn_block_refree(conn, block), LOCKSTEP_MISUSE);
    ck_assert_int_eq(lockstep_conn_block_open(conn, ROOT), LOCKSTEP_MISUSE);
    ++*(int *)arg;
    return 0;
}

START_TEST(it_is_walked_both_ways_and_a_walk_can_be_ended)
{
    struct walked up, down, part = {.stop_after = 5};
    uint64_t blocks, usable;
    int i, asked = 0;
    make_list();
    api_begin_writing(conn);
    for (i = 0; i < 2 * MANY; i++)
        (void)take(0);
    for (i = 0; i < MANY; i++)
        OK(lockstep_conn_block_refree(conn, FIRST + 2 * (uint64_t)(MANY - 1 - i)));
    api_commit(conn, LOCKSTEP_ASYNC);
    OK(lockstep_conn_begin(conn));
    OK(lockstep_conn_block_walk(conn, 1, ask_within, &asked));
    ck_assert_int_eq(asked, (int)info().free);
    lockstep_conn_end(conn);
    api_begin_writing(conn);
    OK(lockstep_conn_block_free(conn, FIRST + 1)); /* of the current transaction */
    up = walk(0);
    down = walk(1);
    ck_assert_int_eq(up.count, (int)info().free);
    ck_assert_int_eq(down.count, up.count);
    ck_assert_int_ge(up.count, MANY - MANY / 14);
    ck_assert_uint_gt(info().nodes, MANY / 29);
    ck_assert_uint_eq(up.blocks[1], FIRST + 1);
    for (i = 0; i < up.count; i++) {
        ck_assert_uint_eq(up.blocks[i], down.blocks[up.count - 1 - i]);
        ck_assert(i == 0 || up.blocks[i] > up.blocks[i - 1]);
    }
    OK(lockstep_conn_block_walk(conn, 0, note, &part));
    ck_assert_int_eq(part.count, 5);
    asked = 0;
    OK(lockstep_conn_block_walk(conn, 0, ask_within, &asked));
    ck_assert_int_eq(asked, up.count);
    /* What may be used is used, whichever node it is in, before the file grows. */
    blocks = info().blocks;
    for (usable = info().usable; usable > 0; usable--)
        ck_assert_uint_lt(take(0), blocks);
    ck_assert_uint_eq(info().blocks, blocks);
    OK(lockstep_conn_rollback(conn));
    lockstep_conn_end(conn);
    close_all();
}
END_TEST

/* Every block is the application's, an entry or a node, and only one of these: L2, counted. */
static void
check_whole(const unsigned char *mine)
{
    struct lockstep_block_info i = info();
    struct walked w = walk(0);
    uint64_t used = 0, b;
    int n;
    for (b = 1; b < i.blocks; b++)
        used += mine[b];
    for (n = 0; n < w.count; n++)
        ck_assert_msg(!mine[w.blocks[n]], "block %u is free and in use", (unsigned)w.blocks[n]);
    ck_assert_uint_eq(i.blocks, 1 + used + (uint64_t)w.count + i.nodes);
}

START_TEST(no_block_is_lost_or_handed_out_twice)
{
    static unsigned char mine[20000];
    unsigned seed = 7, step;
    uint64_t top = FIRST, ticket = 0;
    memset(mine, 0, sizeof mine);
    memset(mine + 1, 1, FIRST - 1);
    make_list();
    for (step = 0; step < 400; step++) {
        static unsigned char before[20000], fresh[20000];
        unsigned n = (unsigned)rand_r(&seed) % 40;
        uint64_t b;
        bool grows = step / 50 % 2 == 0;
        memcpy(before, mine, sizeof mine);
        memset(fresh, 0, sizeof fresh);
        api_begin_writing(conn);
        while (n-- > 0) {
            if ((unsigned)rand_r(&seed) % 10 < (grows ? 7u : 3u)) {
                uint64_t block = take(0);
                ck_assert(block > 0 && block < sizeof mine && !mine[block]);
                mine[block] = fresh[block] = 1;
                top = block > top ? block : top;
            } else {
                uint64_t block = 1 + (unsigned)rand_r(&seed) % top;
                enum lockstep_status status = lockstep_conn_block_free(conn, block);
                ck_assert_int_eq(status, mine[block] ? LOCKSTEP_OK : LOCKSTEP_MISUSE);
                mine[block] = fresh[block] = 0;
            }
        }
        check_whole(mine);
        for (b = 0; b <= top; b++)
            ck_assert_int_eq(lockstep_conn_block_is_new(conn, b), fresh[b]);
        if (rand_r(&seed) % 5 == 0) {
            OK(lockstep_conn_rollback(conn));
            memcpy(mine, before, sizeof mine);
        } else if (rand_r(&seed) % 8 == 0) {
            uint64_t blocks;
            OK(lockstep_conn_block_trim(conn, &blocks));
            ck_assert_uint_eq(blocks, info().blocks);
        }
        check_whole(mine);
        if (lockstep_conn_commit(conn, LOCKSTEP_ASYNC, &ticket) != LOCKSTEP_OK)
            ck_assert_int_eq(lockstep_conn_commit(conn, LOCKSTEP_ASYNC, &ticket), LOCKSTEP_MISUSE);
        lockstep_conn_end(conn);
        if (step % 20 == 0) {
            /* From the file, by a connection that has no copy. */
            lockstep_conn_close(conn);
            durable(ticket);
            conn = api_connect(db);
            OK(lockstep_conn_block_open(conn, ROOT));
            OK(lockstep_conn_begin(conn));
            check_whole(mine);
            lockstep_conn_end(conn);
        }
    }
    close_all();
    /* In another life all that is free may be used at once. */
    db = api_open(NULL);
    conn = api_connect(db);
    OK(lockstep_conn_block_open(conn, ROOT));
    api_begin_writing(conn);
    check_whole(mine);
    ck_assert_uint_gt(info().free, 50);
    ck_assert_uint_eq(info().usable, info().free);
    OK(lockstep_conn_rollback(conn));
    lockstep_conn_end(conn);
    close_all();
}
END_TEST

START_TEST(free_blocks_at_the_end_are_given_back_to_the_file_system)
{
    uint64_t blocks = 0, size, i;
    make_list();
    api_begin_writing(conn);
    for (i = 0; i < 200; i++)
        (void)take(0);
    api_commit(conn, LOCKSTEP_ASYNC);
    api_begin_writing(conn);
    for (i = 30; i < 200; i++)
        OK(lockstep_conn_block_free(conn, FIRST + i));
    OK(lockstep_conn_block_trim(conn, &blocks));
    ck_assert_uint_ge(blocks, FIRST + 200); /* they are read by older snapshots still */
    durable(api_commit(conn, LOCKSTEP_ASYNC));
    for (i = 0; i < 2; i++) {
        api_begin_writing(conn);
        OK(lockstep_conn_block_trim(conn, &blocks));
        durable(api_commit(conn, LOCKSTEP_ASYNC));
    }
    /* The list's nodes stay, in the first of the free ones. */
    ck_assert_uint_le(blocks, FIRST + 40);
    OK(lockstep_conn_begin(conn));
    OK(lockstep_conn_size(conn, &size));
    ck_assert_uint_eq(size, blocks * SIZE);
    lockstep_conn_end(conn);
    close_all();
    {
        int fd = open("db", O_RDONLY | O_CLOEXEC);
        ck_assert_int_eq(lseek(fd, 0, SEEK_END), (off_t)(blocks * SIZE));
        close(fd);
    }
}
END_TEST

/* The node that is to move lies last in the file, and all that it holds is the block that it would move to. */
START_TEST(a_node_that_would_move_to_its_only_entry_is_freed_and_so_is_that)
{
    static unsigned char mine[100];
    struct lockstep_conn *reader;
    uint64_t blocks = 0, a, b, i;
    make_list();
    reader = api_connect(db);
    api_begin_writing(conn);
    for (i = 0; i < 60; i++)
        (void)take(0);
    api_commit(conn, LOCKSTEP_ASYNC);
    OK(lockstep_conn_begin(reader));
    memset(mine + 1, 1, FIRST + 59);
    api_begin_writing(conn);
    for (i = 0; i < lks_block_node_capacity(SIZE) - 1; i++) {
        OK(lockstep_conn_block_free(conn, FIRST + i)); /* nobody may have them while it is read */
        mine[FIRST + i] = 0;
    }
    a = take(0);
    b = take(0);
    OK(lockstep_conn_block_refree(conn, b));
    OK(lockstep_conn_block_refree(conn, a)); /* b becomes a node for it */
    ck_assert_uint_eq(info().nodes, 2);
    ck_assert_uint_eq(info().usable, 1);
    ck_assert_uint_eq(info().blocks, b + 1);
    check_whole(mine);
    OK(lockstep_conn_block_trim(conn, &blocks));
    check_whole(mine);
    api_commit(conn, LOCKSTEP_ASYNC);
    lockstep_conn_close(reader);
    close_all();
}
END_TEST

int
main(void)
{
    Suite *suite = suite_create("blocks");
    TCase *tcase = coordtest_case(suite, "blocks");
    tcase_add_test(tcase, a_freed_block_is_not_handed_out_while_an_older_snapshot_is_read);
    tcase_add_test(tcase, a_freed_block_is_not_handed_out_before_its_commit_is_durable);
    tcase_add_test(tcase, a_reader_that_has_died_holds_no_block_back);
    tcase_add_test(tcase, a_block_given_back_in_its_transaction_is_usable_at_once);
    tcase_add_test(tcase, block_0_is_never_the_lists_to_give);
    tcase_add_test(tcase, allocation_below_a_block_gives_a_lower_one_or_none);
    tcase_add_test(tcase, a_rollback_restores_the_list_and_a_snapshot_keeps_its_own);
    tcase_add_test(tcase, it_is_walked_both_ways_and_a_walk_can_be_ended);
    tcase_add_test(tcase, no_block_is_lost_or_handed_out_twice);
    tcase_add_test(tcase, free_blocks_at_the_end_are_given_back_to_the_file_system);
    tcase_add_test(tcase, a_node_that_would_move_to_its_only_entry_is_freed_and_so_is_that);
    return coordtest_main(suite);
}
