#include "coord/reader.h"

#include <stdlib.h>
#include <string.h>

#include "base/crashpoint.h"
#include "coord/coordtest.h"

static struct lockstep_db *db;
static struct lks_reader reader;

static uint64_t
word_of(uint32_t slot)
{
    return lks_a64_acquire(&db->shm->slots[slot].word);
}

START_TEST(a_claim_is_of_the_newest_commit_and_its_size)
{
    db = memory_db(12);
    memory_commit(db, 9, 123456);
    ck_assert_int_eq(lks_reader_claim(db, &reader), LOCKSTEP_OK);
    ck_assert_uint_eq(reader.snapshot, 9);
    ck_assert_uint_eq(reader.size, 123456);
    ck_assert_uint_ne(reader.slot, LKS_WORKER_SLOT);
    ck_assert_uint_eq(word_of(reader.slot), lks_slot_word(9, 7, LKS_SLOT_ACTIVE));
    ck_assert_uint_ge(lks_a32_relaxed(&db->shm->state.slots_high), reader.slot);
    lks_reader_release(db, &reader);
    ck_assert_uint_eq(word_of(reader.slot), 0);
    ck_assert_uint_eq(reader.snapshot, 0);
    lks_reader_release(db, &reader); /* nothing to let go of */
}
END_TEST

START_TEST(the_slot_that_was_used_last_is_used_again)
{
    uint32_t slot;
    struct lks_reader other = {0};
    db = memory_db(12);
    ck_assert_int_eq(lks_reader_claim(db, &other), LOCKSTEP_OK);
    ck_assert_int_eq(lks_reader_claim(db, &reader), LOCKSTEP_OK);
    slot = reader.slot;
    ck_assert_uint_ne(slot, other.slot);
    lks_reader_release(db, &reader);
    lks_reader_release(db, &other);
    ck_assert_int_eq(lks_reader_claim(db, &reader), LOCKSTEP_OK);
    ck_assert_uint_eq(reader.slot, slot);
}
END_TEST

START_TEST(with_all_slots_taken_a_claim_is_busy)
{
    uint32_t i;
    db = memory_db(12);
    for (i = 1; i < LKS_MAX_SLOTS; i++)
        lks_a64_set_relaxed(&db->shm->slots[i].word, lks_slot_word(1, 3, LKS_SLOT_ACTIVE));
    ck_assert_int_eq(lks_reader_claim(db, &reader), LOCKSTEP_BUSY);
    ck_assert_uint_eq(reader.snapshot, 0);
    ck_assert_uint_eq(word_of(LKS_WORKER_SLOT), 0);
    lks_a64_set_relaxed(&db->shm->slots[700].word, 0);
    ck_assert_int_eq(lks_reader_claim(db, &reader), LOCKSTEP_OK);
    ck_assert_uint_eq(reader.slot, 700);
}
END_TEST

START_TEST(the_workers_slot_is_claimed_by_one_only)
{
    struct lks_reader other = {0};
    db = memory_db(12);
    ck_assert_int_eq(lks_reader_claim_slot(db, LKS_WORKER_SLOT, &reader), LOCKSTEP_OK);
    ck_assert_int_eq(lks_reader_claim_slot(db, LKS_WORKER_SLOT, &other), LOCKSTEP_BUSY);
    lks_reader_release(db, &reader);
    ck_assert_int_eq(lks_reader_claim_slot(db, LKS_WORKER_SLOT, &other), LOCKSTEP_OK);
}
END_TEST

/* R1. */
START_TEST(an_advance_raises_the_snapshot_in_the_slot)
{
    db = memory_db(12);
    ck_assert_int_eq(lks_reader_claim(db, &reader), LOCKSTEP_OK);
    memory_commit(db, 2, 20000);
    lks_reader_advance(db, &reader, 2, 20000);
    ck_assert_uint_eq(word_of(reader.slot), lks_slot_word(2, 7, LKS_SLOT_ACTIVE));
    ck_assert_uint_eq(lks_a64_relaxed(&db->shm->slots[reader.slot].size), 20000);
    ck_assert_uint_eq(reader.snapshot, 2);
}
END_TEST

#ifdef LKS_DEBUG
static unsigned looks, commits;

static void
commit_meanwhile(const char *name)
{
    if (strcmp(name, "reader:claiming") != 0)
        return;
    /* The claim is seen, and says that it is not to be leaned on. */
    ck_assert_int_eq(lks_slot_state_of(word_of(1)), LKS_SLOT_CLAIMING);
    if (looks++ < commits)
        memory_commit(db, looks + 1, 1000 * (looks + 1));
}

START_TEST(a_commit_between_claim_and_second_look_moves_the_claim_up)
{
    db = memory_db(12);
    looks = 0;
    commits = (unsigned)_i;
    lks_crash_hook = commit_meanwhile;
    ck_assert_int_eq(lks_reader_claim(db, &reader), LOCKSTEP_OK);
    lks_crash_hook = NULL;
    ck_assert_uint_eq(looks, commits + 1);
    ck_assert_uint_eq(reader.snapshot, commits + 1);
    ck_assert_uint_eq(reader.snapshot, lks_a64_relaxed(&db->shm->state.committed));
    ck_assert_uint_eq(reader.size, commits == 0 ? 10000 : 1000 * (commits + 1));
    ck_assert_uint_eq(word_of(reader.slot), lks_slot_word(commits + 1, 7, LKS_SLOT_ACTIVE));
}
END_TEST
#endif

START_TEST(a_commit_whose_ring_entry_is_gone_is_never_believed)
{
    db = memory_db(12);
    memory_commit(db, 5, 500);
    lks_a64_set_relaxed(&db->shm->ring[5].id, 5 + LKS_RING_SIZE);
    ck_assert_int_eq(lks_reader_claim(db, &reader), LOCKSTEP_BUSY);
    ck_assert_uint_eq(reader.snapshot, 0);
    ck_assert_uint_eq(word_of(1), 0);
}
END_TEST

int
main(void)
{
    Suite *suite = suite_create("reader");
    TCase *tcase = coordtest_case(suite, "reader");
    tcase_add_test(tcase, a_claim_is_of_the_newest_commit_and_its_size);
    tcase_add_test(tcase, the_slot_that_was_used_last_is_used_again);
    tcase_add_test(tcase, with_all_slots_taken_a_claim_is_busy);
    tcase_add_test(tcase, the_workers_slot_is_claimed_by_one_only);
    tcase_add_test(tcase, an_advance_raises_the_snapshot_in_the_slot);
#ifdef LKS_DEBUG
    tcase_add_loop_test(tcase, a_commit_between_claim_and_second_look_moves_the_claim_up, 0, 4);
#endif
    tcase_add_test(tcase, a_commit_whose_ring_entry_is_gone_is_never_believed);
    return coordtest_main(suite);
}
