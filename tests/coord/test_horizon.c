#include "coord/horizon.h"

#include <stdlib.h>

#include "coord/coordtest.h"

static void
use(struct lockstep_db *db, uint32_t slot, uint64_t snapshot, enum lks_slot_state state)
{
    lks_a32_max(&db->shm->state.slots_high, slot);
    lks_a64_set_release(&db->shm->slots[slot].word, lks_slot_word(snapshot, 3, state));
}

START_TEST(without_readers_the_horizon_is_the_newest_commit)
{
    struct lks_horizon h;
    struct lockstep_db *db = memory_db(12);
    memory_commit(db, 50, 0);
    lks_horizon_scan(db->shm, &h);
    ck_assert_uint_eq(h.floor, 50);
    ck_assert_uint_eq(h.lowest, 50);
    ck_assert_uint_eq(h.walking, 50);
    ck_assert_uint_eq(h.count, 0);
    ck_assert(!lks_horizon_used(&h, 0, 50));
    memory_db_free(db);
}
END_TEST

START_TEST(a_used_snapshot_is_found_in_exactly_its_range)
{
    struct lks_horizon h;
    uint64_t from, below;
    struct lockstep_db *db = memory_db(12);
    memory_commit(db, 30, 0);
    use(db, 1, 20, LKS_SLOT_ACTIVE);
    use(db, 5, 10, LKS_SLOT_ACTIVE);
    use(db, 9, 20, LKS_SLOT_ACTIVE);
    use(db, 1023, 15, LKS_SLOT_ACTIVE);
    use(db, 4, 30, LKS_SLOT_ACTIVE); /* at the floor: of no age */
    lks_horizon_scan(db->shm, &h);
    ck_assert_uint_eq(h.lowest, 10);
    ck_assert_uint_eq(h.count, 3);
    for (from = 0; from <= 30; from++)
        for (below = from; below <= 30; below++) {
            bool want = (from <= 10 && 10 < below) || (from <= 15 && 15 < below) || (from <= 20 && 20 < below);
            ck_assert_int_eq(lks_horizon_used(&h, from, below), want);
        }
    memory_db_free(db);
}
END_TEST

START_TEST(a_claiming_slot_counts_as_used)
{
    struct lks_horizon h;
    struct lockstep_db *db = memory_db(12);
    memory_commit(db, 30, 0);
    use(db, 2, 12, LKS_SLOT_CLAIMING);
    lks_horizon_scan(db->shm, &h);
    ck_assert(lks_horizon_used(&h, 12, 13));
    ck_assert_uint_eq(h.lowest, 12);
    lks_a64_set_release(&db->shm->slots[2].word, 0);
    lks_horizon_scan(db->shm, &h);
    ck_assert(!lks_horizon_used(&h, 0, 30));
    memory_db_free(db);
}
END_TEST

START_TEST(the_workers_slot_counts_like_any_other)
{
    struct lks_horizon h;
    struct lockstep_db *db = memory_db(12);
    memory_commit(db, 30, 0);
    use(db, LKS_WORKER_SLOT, 8, LKS_SLOT_ACTIVE);
    lks_horizon_scan(db->shm, &h);
    ck_assert_uint_eq(h.lowest, 8);
    memory_db_free(db);
}
END_TEST

START_TEST(a_walk_holds_blocks_back_though_its_snapshot_is_the_newest)
{
    struct lks_horizon h;
    struct lockstep_db *db = memory_db(12);
    memory_commit(db, 30, 0);
    use(db, 3, 30, LKS_SLOT_ACTIVE);
    lks_a64_set_release(&db->shm->slots[3].walk, 25);
    lks_horizon_scan(db->shm, &h);
    ck_assert_uint_eq(h.walking, 25);
    ck_assert_uint_eq(h.lowest, 30);
    memory_db_free(db);
}
END_TEST

START_TEST(all_slots_in_use_at_different_snapshots_come_out_sorted)
{
    struct lks_horizon h;
    uint32_t i;
    struct lockstep_db *db = memory_db(12);
    memory_commit(db, 5000, 0);
    for (i = 0; i < LKS_MAX_SLOTS; i++)
        use(db, i, 100 + (i * 577) % LKS_MAX_SLOTS, LKS_SLOT_ACTIVE);
    lks_horizon_scan(db->shm, &h);
    ck_assert_uint_eq(h.count, LKS_MAX_SLOTS);
    for (i = 0; i < LKS_MAX_SLOTS; i++)
        ck_assert_uint_eq(h.used[i], 100 + i);
    memory_db_free(db);
}
END_TEST

START_TEST(a_scribbled_bound_does_not_lead_out_of_the_slots)
{
    struct lks_horizon h;
    struct lockstep_db *db = memory_db(12);
    memory_commit(db, 30, 0);
    lks_a32_set_relaxed(&db->shm->state.slots_high, UINT32_MAX);
    lks_a64_set_release(&db->shm->slots[LKS_MAX_SLOTS - 1].word, lks_slot_word(4, 3, LKS_SLOT_ACTIVE));
    lks_horizon_scan(db->shm, &h);
    ck_assert_uint_eq(h.lowest, 4);
    ck_assert_uint_eq(h.count, 1);
    memory_db_free(db);
}
END_TEST

int
main(void)
{
    Suite *suite = suite_create("horizon");
    TCase *tcase = coordtest_case(suite, "horizon");
    tcase_add_test(tcase, without_readers_the_horizon_is_the_newest_commit);
    tcase_add_test(tcase, a_used_snapshot_is_found_in_exactly_its_range);
    tcase_add_test(tcase, a_claiming_slot_counts_as_used);
    tcase_add_test(tcase, the_workers_slot_counts_like_any_other);
    tcase_add_test(tcase, a_walk_holds_blocks_back_though_its_snapshot_is_the_newest);
    tcase_add_test(tcase, all_slots_in_use_at_different_snapshots_come_out_sorted);
    tcase_add_test(tcase, a_scribbled_bound_does_not_lead_out_of_the_slots);
    return coordtest_main(suite);
}
