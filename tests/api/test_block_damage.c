/*
 * A list of blocks that is damaged, forged, has failed, or is not there.
 *
 * Made to fail by: an entry that is a node, or freed by a commit to come, taken for sound; a commit after a failure.
 */
#include <stdlib.h>
#include <string.h>

#include "api/blocktest.h"
#include "store/blocknode.h"

/* Scribbles into one byte of the list, commits that, and asks a new connection for a block and a walk. */
static void
damage(uint64_t at, int by)
{
    struct lockstep_conn *fresh = api_connect(db);
    struct walked w = {.count = 0};
    enum lockstep_status status;
    uint64_t block = 0;
    unsigned char byte;
    size_t got;
    OK(lockstep_conn_block_open(fresh, ROOT));
    api_begin_writing(conn);
    OK(lockstep_conn_read(conn, at, &byte, 1, &got));
    byte = (unsigned char)(byte + by);
    OK(lockstep_conn_write(conn, at, &byte, 1));
    api_commit(conn, LOCKSTEP_ASYNC);
    api_begin_writing(fresh);
    status = lockstep_conn_block_alloc(fresh, 0, &block);
    ck_assert_msg(status == LOCKSTEP_CORRUPT || (status == LOCKSTEP_FORMAT && at < ROOT + 8), "byte %u + %d: %d",
                  (unsigned)at, by, status);
    ck_assert_int_eq(lockstep_conn_block_walk(fresh, 0, note, &w), (int)status);
    ck_assert_int_eq(lockstep_conn_block_free(fresh, 5), (int)status);
    ck_assert_int_eq(w.count, 0);
    OK(lockstep_conn_rollback(fresh));
    lockstep_conn_end(fresh);
    api_begin_writing(conn);
    byte = (unsigned char)(byte - by);
    OK(lockstep_conn_write(conn, at, &byte, 1));
    api_commit(conn, LOCKSTEP_ASYNC);
    api_begin_writing(fresh);
    OK(lockstep_conn_block_walk(fresh, 0, note, &w));
    ck_assert_int_gt(w.count, 0);
    OK(lockstep_conn_rollback(fresh));
    lockstep_conn_close(fresh);
}

START_TEST(a_damaged_list_is_an_error_and_never_a_loop)
{
    uint64_t first, i;
    make_list();
    api_begin_writing(conn);
    for (i = 0; i < 100; i++)
        (void)take(0);
    for (i = 0; i < 40; i++)
        OK(lockstep_conn_block_free(conn, FIRST + 2 * i));
    api_commit(conn, LOCKSTEP_ASYNC);
    {
        unsigned char root[LKS_BLOCK_ROOT_BYTES];
        struct lks_block_root decoded;
        size_t got;
        OK(lockstep_conn_begin(conn));
        OK(lockstep_conn_read(conn, ROOT, root, sizeof root, &got));
        lockstep_conn_end(conn);
        OK(lks_block_root_decode(root, &decoded));
        ck_assert_uint_ge(decoded.nodes, 2);
        first = decoded.first;
    }
    for (i = 0; i < LKS_BLOCK_ROOT_BYTES; i++)
        damage(ROOT + i, 1);
    for (i = 0; i < LKS_BLOCK_NODE_HEAD + 3 * LKS_BLOCK_ENTRY_BYTES; i++)
        damage(first * SIZE + i, 1 + (int)i % 200);
    close_all();
}
END_TEST

/* A sound checksum over numbers that are wrong. */
static enum lockstep_status
forged(const struct lks_block_root *root, struct lks_block_node *const *nodes)
{
    unsigned char bytes[SIZE];
    struct walked w = {.count = 0};
    struct lockstep_conn *fresh = api_connect(db);
    enum lockstep_status status;
    uint32_t i;
    OK(lockstep_conn_block_open(fresh, ROOT));
    api_begin_writing(fresh);
    for (i = 0; nodes[i] != NULL; i++) {
        memset(bytes, 0, sizeof bytes);
        (void)lks_block_node_encode(nodes[i], bytes);
        OK(lockstep_conn_write(fresh, nodes[i]->block * SIZE, bytes, sizeof bytes));
    }
    lks_block_root_encode(root, bytes);
    OK(lockstep_conn_write(fresh, ROOT, bytes, LKS_BLOCK_ROOT_BYTES));
    status = lockstep_conn_block_walk(fresh, 0, note, &w);
    lockstep_conn_close(fresh);
    return status;
}

START_TEST(a_forged_list_is_an_error_and_never_a_loop)
{
    struct lks_block_root root = {.block_size = SIZE, .nodes = 2, .blocks = 20, .first = 3, .entries = 3};
    struct lks_block_node *a = calloc(1, sizeof *a + 2 * sizeof a->entries[0]);
    struct lks_block_node *b = calloc(1, sizeof *b + 2 * sizeof b->entries[0]);
    struct lks_block_node *const nodes[] = {a, b, NULL};
    make_list();
    a->block = 3, a->next = 4, a->count = 2, a->entries[0].block = 7, a->entries[1].block = 9;
    b->block = 4, b->count = 1, b->entries[0].block = 12;
    OK(forged(&root, nodes));
#define FORGE(LVALUE, VALUE)                                        \
    do {                                                            \
        uint64_t kept_ = (LVALUE);                                  \
        (LVALUE) = (VALUE);                                         \
        ck_assert_int_eq(forged(&root, nodes), LOCKSTEP_CORRUPT);   \
        (LVALUE) = (__typeof__(LVALUE))kept_;                       \
    } while (0)
    FORGE(b->next, 3);                 /* a ring */
    FORGE(a->next, 3);                 /* a smaller one */
    FORGE(a->next, 0);                 /* a chain cut short */
    FORGE(a->next, 21);                /* beyond the file */
    FORGE(a->next, 1ull << 60);
    FORGE(root.first, 0);
    FORGE(root.nodes, 1);
    FORGE(root.nodes, 19);
    FORGE(root.entries, 2);
    FORGE(root.entries, 4);
    FORGE(root.blocks, 12);            /* an entry beyond the file */
    FORGE(root.blocks, UINT64_MAX / 4);
    FORGE(root.block_size, 500);
    FORGE(root.block_size, 1024);      /* not the size of its blocks */
    FORGE(a->entries[1].block, 7);     /* twice */
    FORGE(a->entries[1].block, 6);     /* falling */
    FORGE(b->entries[0].block, 8);     /* falling from node to node */
    FORGE(a->entries[0].block, 4);     /* an entry that is a node */
    FORGE(a->entries[0].block, 0);
    FORGE(a->count, 0);                /* reads as entries of 0 */
    b->life = lks_block_life(db->shm);
    FORGE(b->entries[0].freed, 1000);  /* by a commit that was not made */
    free(a);
    free(b);
    close_all();
}
END_TEST

START_TEST(a_commit_is_refused_when_the_list_failed_half_way)
{
    struct lks_block_root root = {.block_size = SIZE, .blocks = UINT64_MAX / SIZE / 2 - 1};
    unsigned char bytes[LKS_BLOCK_ROOT_BYTES];
    uint64_t block = 0;
    make_list();
    lks_block_root_encode(&root, bytes);
    api_begin_writing(conn);
    OK(lockstep_conn_write(conn, ROOT, bytes, sizeof bytes));
    /* The last number that there is; then there is none for the list's first node. */
    OK(lockstep_conn_block_open(conn, ROOT));
    ck_assert_uint_eq(take(0), UINT64_MAX / SIZE / 2 - 1);
    ck_assert_int_eq(lockstep_conn_block_free(conn, 5), LOCKSTEP_FULL);
    ck_assert_int_eq(lockstep_conn_block_alloc(conn, 0, &block), LOCKSTEP_FULL);
    ck_assert_int_eq(lockstep_conn_commit(conn, LOCKSTEP_ASYNC, NULL), LOCKSTEP_FULL);
    OK(lockstep_conn_rollback(conn));
    lockstep_conn_end(conn);
    api_begin_writing(conn);
    ck_assert_uint_eq(take(0), FIRST);
    api_commit(conn, LOCKSTEP_ASYNC);
    close_all();
}
END_TEST

START_TEST(a_list_that_is_not_there_is_said_to_be_of_another_format)
{
    uint64_t block = 0;
    db = api_open(NULL);
    conn = api_connect(db);
    ck_assert_int_eq(lockstep_conn_block_alloc(conn, 0, &block), LOCKSTEP_MISUSE);
    OK(lockstep_conn_block_open(conn, ROOT));
    ck_assert_int_eq(lockstep_conn_block_open(conn, UINT64_MAX - 3), LOCKSTEP_MISUSE);
    api_begin_writing(conn);
    ck_assert_int_eq(lockstep_conn_block_alloc(conn, 0, &block), LOCKSTEP_FORMAT);
    ck_assert_int_eq(lockstep_conn_block_format(conn, 0, 1000), LOCKSTEP_MISUSE);
    ck_assert_int_eq(lockstep_conn_block_format(conn, 460, 512), LOCKSTEP_MISUSE);
    ck_assert_int_eq(lockstep_conn_block_format(conn, 0, 1u << 27), LOCKSTEP_MISUSE);
    lockstep_conn_end(conn);
    OK(lockstep_conn_begin(conn));
    ck_assert_int_eq(lockstep_conn_block_alloc(conn, 0, &block), LOCKSTEP_MISUSE);
    ck_assert_int_eq(lockstep_conn_block_free(conn, 1), LOCKSTEP_MISUSE);
    lockstep_conn_end(conn);
    close_all();
}
END_TEST

int
main(void)
{
    Suite *suite = suite_create("damaged blocks");
    TCase *tcase = coordtest_case(suite, "damaged blocks");
    tcase_add_test(tcase, a_damaged_list_is_an_error_and_never_a_loop);
    tcase_add_test(tcase, a_forged_list_is_an_error_and_never_a_loop);
    tcase_add_test(tcase, a_commit_is_refused_when_the_list_failed_half_way);
    tcase_add_test(tcase, a_list_that_is_not_there_is_said_to_be_of_another_format);
    return coordtest_main(suite);
}
