/*
 * SQLite's attempts at a snapshot as they are seen from below, without SQLite: which are lost, and that the last of the 100,
 * after which the thread may do anything, is taken for one that another follows by nobody (with SQLite: test_copy_file.c).
 *
 * Made to fail by: a mark that is not compared; a count that a lost round sets back; a round that is not counted, or not
 * where the index is not there.
 */
#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "vfs/copy_round.h"
#include "vfs/wal.h"

#define SQLITE_ROUNDS 100

static uint32_t head[LKS_INDEX_HEAD_WORDS];
static struct lks_copy_round attempt;
static sqlite3_file file;

enum { FINDS_IT, ANOTHER_HEADER, ANOTHER_MARK };

/* One of walTryBeginRead(); `reader`: the lock that it takes. */
static bool
round_of(int found, int reader)
{
    lks_copy_round_asked(&file);
    lks_copy_round_begin(&attempt, head);
    lks_copy_round_locked(&attempt, LKS_WAL_READ0 + reader, false, head);
    if (found == ANOTHER_HEADER)
        head[LKS_INDEX_CHANGE]++;
    if (found == ANOTHER_MARK)
        head[LKS_INDEX_READ_MARK + reader]++;
    lks_copy_round_compared(&attempt, head);
    return lks_copy_round_lost(&attempt, &file);
}

START_TEST(a_round_is_lost_for_a_header_and_for_a_mark)
{
    ck_assert(!round_of(FINDS_IT, 1));
    ck_assert_ptr_null(lks_copy_round_slept());
    ck_assert(round_of(ANOTHER_HEADER, 1));
    ck_assert_ptr_eq(lks_copy_round_slept(), &file);
    ck_assert_ptr_null(lks_copy_round_slept());
    ck_assert(round_of(ANOTHER_MARK, 4));
    ck_assert_ptr_eq(lks_copy_round_slept(), &file);
    ck_assert(!round_of(ANOTHER_MARK, 0)); /* SQLite does not look at that */
    /* Whoever asks something of the file is no longer about to begin. */
    ck_assert(round_of(ANOTHER_HEADER, 0));
    lks_copy_round_asked(&file);
    ck_assert_ptr_null(lks_copy_round_slept());
}
END_TEST

START_TEST(nobody_follows_the_last_round)
{
    for (int i = 1; i <= SQLITE_ROUNDS; i++)
        ck_assert(round_of(i <= _i ? ANOTHER_MARK : ANOTHER_HEADER, 1));
    ck_assert_ptr_null(lks_copy_round_slept());
    /* A snapshot begins the count anew. */
    ck_assert(!round_of(FINDS_IT, 1));
    ck_assert(round_of(ANOTHER_HEADER, 1));
    ck_assert_ptr_eq(lks_copy_round_slept(), &file);
}
END_TEST

/* Somebody else makes the index, and then goes on to hold us up. */
START_TEST(rounds_without_an_index_count)
{
    for (int i = 1; i < SQLITE_ROUNDS; i++) {
        lks_copy_round_begin(&attempt, NULL);
        ck_assert(!lks_copy_round_lost(&attempt, &file));
    }
    ck_assert(round_of(ANOTHER_HEADER, 1));
    ck_assert_ptr_null(lks_copy_round_slept());
}
END_TEST

/* sqlite3_snapshot_open() has CKPT, so its barriers are not under no lock; the writer is stopped between the copies. */
START_TEST(what_cannot_be_counted_is_not_waited_for)
{
    lks_copy_round_locked(&attempt, LKS_WAL_CKPT, false, head);
    for (int i = 1; i <= SQLITE_ROUNDS; i++) {
        lks_copy_round_compared(&attempt, head);
        lks_copy_round_locked(&attempt, LKS_WAL_RECOVER, false, head);
        ck_assert(lks_copy_round_lost(&attempt, &file));
    }
    ck_assert_ptr_null(lks_copy_round_slept());
}
END_TEST

/* Between its parts something was acquired for somebody else. */
START_TEST(what_is_not_known_is_not_judged)
{
    ck_assert(round_of(ANOTHER_HEADER, 1));
    lks_copy_round_begin(&attempt, head);
    lks_copy_round_locked(&attempt, LKS_WAL_READ0 + 1, false, head);
    lks_copy_round_unknown(&attempt);
    lks_copy_round_compared(&attempt, head);
    ck_assert(!lks_copy_round_lost(&attempt, &file));
    ck_assert_uint_eq(attempt.rounds, 2);
}
END_TEST

int
main(void)
{
    Suite *suite = suite_create("shm=copy, rounds");
    TCase *tcase = tcase_create("without SQLite");
    SRunner *runner;
    int failed;
    tcase_add_test(tcase, a_round_is_lost_for_a_header_and_for_a_mark);
    tcase_add_loop_test(tcase, nobody_follows_the_last_round, 0, SQLITE_ROUNDS);
    tcase_add_test(tcase, rounds_without_an_index_count);
    tcase_add_test(tcase, what_cannot_be_counted_is_not_waited_for);
    tcase_add_test(tcase, what_is_not_known_is_not_judged);
    suite_add_tcase(suite, tcase);
    runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
