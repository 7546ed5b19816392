#include "coord/freelist.h"

#include <string.h>

#include "coord/coordtest.h"

static struct lockstep_db *db;
static const struct lks_geometry *g;
static struct lks_horizon horizon;

static void
begin(void)
{
    db = memory_db(12);
    g = lks_geometry_of(12);
    ck_assert_int_eq(lks_chunk_grow(db->shm, g, -1, db->map_bytes), LOCKSTEP_OK);
    memory_commit(db, 10, 0);
}

static uint32_t
take(void)
{
    lks_horizon_scan(db->shm, &horizon);
    return lks_freelist_take(db->shm, g, horizon.walking);
}

struct seen {
    uint32_t blocks[16];
    uint64_t gates[16];
    uint32_t count, most;
};

static bool
see(void *arg, uint32_t block, uint64_t gate)
{
    struct seen *seen = arg;
    if (seen->count == seen->most)
        return false;
    seen->blocks[seen->count] = block;
    seen->gates[seen->count++] = gate;
    return true;
}

START_TEST(fresh_blocks_come_in_order_until_the_chunks_end)
{
    uint32_t i, n;
    begin();
    n = lks_chunk_blocks(g, 1);
    ck_assert_uint_eq(n, 256);
    for (i = 1; i <= n; i++)
        ck_assert_uint_eq(lks_freelist_take_fresh(db->shm, g), i);
    ck_assert_uint_eq(lks_freelist_take_fresh(db->shm, g), 0);
    ck_assert_uint_eq(lks_a32_relaxed(&db->shm->state.blocks_fresh), n);
    ck_assert_int_eq(lks_chunk_grow(db->shm, g, -1, db->map_bytes), LOCKSTEP_OK);
    ck_assert_uint_eq(lks_freelist_take_fresh(db->shm, g), n + 1);
}
END_TEST

START_TEST(a_freed_block_is_handed_out_only_after_the_commit_that_freed_it)
{
    uint32_t block;
    begin();
    block = lks_freelist_take_fresh(db->shm, g);
    lks_freelist_give(db->shm, g, block);
    ck_assert_uint_eq(take(), 0); /* gate 10, committed 10 */
    memory_commit(db, 11, 0);
    ck_assert_uint_eq(take(), block);
    ck_assert_uint_eq(take(), 0);
}
END_TEST

START_TEST(a_freed_block_waits_for_every_walk_that_may_stand_on_it)
{
    uint32_t block;
    begin();
    block = lks_freelist_take_fresh(db->shm, g);
    lks_a32_max(&db->shm->state.slots_high, 4);
    lks_a64_set_release(&db->shm->slots[4].walk, 10);
    lks_freelist_give(db->shm, g, block);
    memory_commit(db, 12, 0);
    ck_assert_uint_eq(take(), 0);
    lks_a64_set_release(&db->shm->slots[4].walk, 11);
    ck_assert_uint_eq(take(), block);
}
END_TEST

START_TEST(blocks_come_back_oldest_gate_first)
{
    uint32_t i;
    begin();
    for (i = 0; i < 5; i++)
        (void)lks_freelist_take_fresh(db->shm, g);
    for (i = 0; i < 5; i++) {
        lks_freelist_give(db->shm, g, 5 - i);
        memory_commit(db, 11 + i, 0);
    }
    for (i = 0; i < 5; i++)
        ck_assert_uint_eq(take(), 5 - i);
    ck_assert_uint_eq(lks_a32_relaxed(&db->shm->state.free_count), 0);
    /* The tail is right after the list ran empty. */
    lks_freelist_give(db->shm, g, 3);
    lks_freelist_give(db->shm, g, 1);
    memory_commit(db, 20, 0);
    ck_assert_uint_eq(take(), 3);
    ck_assert_uint_eq(take(), 1);
}
END_TEST

START_TEST(a_refreed_block_is_usable_at_once)
{
    uint32_t a, b;
    begin();
    a = lks_freelist_take_fresh(db->shm, g);
    b = lks_freelist_take_fresh(db->shm, g);
    lks_freelist_give(db->shm, g, a);
    lks_freelist_return(db->shm, g, b);
    ck_assert_uint_eq(take(), b);
    ck_assert_uint_eq(take(), 0);
    lks_freelist_return(db->shm, g, b);
    memory_commit(db, 11, 0);
    ck_assert_uint_eq(take(), b);
    ck_assert_uint_eq(take(), a);
}
END_TEST

START_TEST(a_walk_visits_from_the_oldest_and_stops_when_told)
{
    struct seen seen = {.most = 16};
    begin();
    (void)lks_freelist_take_fresh(db->shm, g);
    (void)lks_freelist_take_fresh(db->shm, g);
    (void)lks_freelist_take_fresh(db->shm, g);
    lks_freelist_give(db->shm, g, 2);
    memory_commit(db, 11, 0);
    lks_freelist_give(db->shm, g, 3);
    lks_freelist_return(db->shm, g, 1);
    ck_assert(lks_freelist_walk(db->shm, g, see, &seen));
    ck_assert_uint_eq(seen.count, 3);
    ck_assert_uint_eq(seen.blocks[0], 1);
    ck_assert_uint_eq(seen.gates[0], 0);
    ck_assert_uint_eq(seen.blocks[1], 2);
    ck_assert_uint_eq(seen.gates[1], 10);
    ck_assert_uint_eq(seen.blocks[2], 3);
    ck_assert_uint_eq(seen.gates[2], 11);
    seen.count = 0;
    seen.most = 2;
    ck_assert(!lks_freelist_walk(db->shm, g, see, &seen));
    ck_assert_uint_eq(seen.count, 2);
    lks_freelist_clear(db->shm);
    ck_assert(lks_freelist_walk(db->shm, g, see, &seen));
    ck_assert_uint_eq(take(), 0);
}
END_TEST

START_TEST(warm_blocks_are_used_first_and_are_few)
{
    uint32_t i, n;
    begin();
    for (i = 1; i <= 256; i++)
        (void)lks_freelist_take_fresh(db->shm, g);
    ck_assert_int_eq(lks_chunk_grow(db->shm, g, -1, db->map_bytes), LOCKSTEP_OK);
    for (i = 257; i <= 260; i++)
        (void)lks_freelist_take_fresh(db->shm, g);
    lks_freelist_give(db->shm, g, 1);
    lks_freelist_give(db->shm, g, 2);
    lks_freelist_give_warm(db->shm, g, 3);
    memory_commit(db, 11, 0);
    lks_freelist_give_warm(db->shm, g, 4);
    ck_assert_uint_eq(take(), 3);
    ck_assert_uint_eq(take(), 1); /* 4 was given after commit 11 */
    memory_commit(db, 12, 0);
    ck_assert_uint_eq(take(), 4);
    ck_assert_uint_eq(take(), 2);
    ck_assert_uint_eq(take(), 0);
    /* The oldest of too many go behind the others. */
    for (i = 1; i <= 260; i++)
        lks_freelist_give_warm(db->shm, g, i);
    ck_assert_uint_eq(lks_a32_relaxed(&db->shm->state.free_count), 260);
    memory_commit(db, 13, 0);
    for (i = 5; i <= 260; i++)
        ck_assert_uint_eq(take(), i);
    for (i = 1; i <= 4; i++)
        ck_assert_uint_eq(take(), i);
    n = lks_a32_relaxed(&db->shm->state.free_count);
    ck_assert_uint_eq(n, 0);
    ck_assert_uint_eq(take(), 0);
    lks_freelist_give_warm(db->shm, g, 7);
    memory_commit(db, 14, 0);
    ck_assert_uint_eq(take(), 7);
}
END_TEST

START_TEST(a_damaged_list_ends_the_walk_and_hands_out_nothing_wild)
{
    struct seen seen = {.most = 16};
    begin();
    (void)lks_freelist_take_fresh(db->shm, g);
    (void)lks_freelist_take_fresh(db->shm, g);
    lks_freelist_give(db->shm, g, 1);
    lks_freelist_give(db->shm, g, 2);
    lks_a32_set_relaxed(&lks_chunk_block(db->shm, g, 2)->free_next, 1); /* a ring */
    ck_assert(!lks_freelist_walk(db->shm, g, see, &seen));
    ck_assert_uint_le(seen.count, 2);
    lks_a32_set_relaxed(&lks_chunk_block(db->shm, g, 1)->free_next, 0x7fffffff);
    ck_assert(!lks_freelist_walk(db->shm, g, see, &seen));
    lks_a32_set_relaxed(&db->shm->state.free_head, 257);
    memory_commit(db, 12, 0);
    ck_assert_uint_eq(take(), 0);
    lks_a32_set_relaxed(&db->shm->state.blocks_fresh, 0xfffffff0);
    ck_assert_uint_eq(lks_freelist_take_fresh(db->shm, g), 0);
}
END_TEST

int
main(void)
{
    Suite *suite = suite_create("freelist");
    TCase *tcase = coordtest_case(suite, "freelist");
    tcase_add_test(tcase, fresh_blocks_come_in_order_until_the_chunks_end);
    tcase_add_test(tcase, a_freed_block_is_handed_out_only_after_the_commit_that_freed_it);
    tcase_add_test(tcase, a_freed_block_waits_for_every_walk_that_may_stand_on_it);
    tcase_add_test(tcase, blocks_come_back_oldest_gate_first);
    tcase_add_test(tcase, a_refreed_block_is_usable_at_once);
    tcase_add_test(tcase, a_walk_visits_from_the_oldest_and_stops_when_told);
    tcase_add_test(tcase, warm_blocks_are_used_first_and_are_few);
    tcase_add_test(tcase, a_damaged_list_ends_the_walk_and_hands_out_nothing_wild);
    return coordtest_main(suite);
}
