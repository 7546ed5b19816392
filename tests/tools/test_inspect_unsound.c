/*
 * Tests lib/coord/inspect.c and census.c where nobody is there, or the coordination file is not sound: what
 * the command says of that, and that nothing in it does harm.
 */
#include <lockstep/inspect.h>

#include <check.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "shm/header.h"
#include "tools/handmade.h"
#include "tools/holder.h"

#define FUZZ_ROUNDS 300

START_TEST(what_was_left_by_all_says_how_to_recover)
{
    const char *problem =
        "All processes that used this database have died, and 2 commits are still to be written to it: "
        "\"lockstep recover\" or the next connection through Lockstep does that";
    char text[400];
    snprintf(text, sizeof text, "lockstep: %s\n", problem);
    tool_expect("locks -n db", 0, "", text);
    lks_a32_set_relaxed(&shm->state.tripwire, 1);
    snprintf(text, sizeof text, "%s; until then stock SQLite may read but not write it\n", problem);
    tool_expect("status -n -o PROBLEM db", 0, text, "");
    lks_a64_set_relaxed(&shm->state.flushed, 42);
    tool_expect("status -n -o COORDINATION,PENDING,PROBLEM db", 0,
                "Lockstep, left by processes that died 3 All processes that used this database have "
                "died; all commits are in it, and \"lockstep recover\" or the next connection through "
                "Lockstep clears up\n",
                "");
}
END_TEST

enum spoil {
    SPOIL_EMPTY, SPOIL_ZEROS, SPOIL_SHORT, SPOIL_TRUNCATED, SPOIL_TEXT, SPOIL_CHECKSUM, SPOIL_FORMAT,
    SPOIL_BOOT, SPOIL_FILE, SPOILS
};

static const struct {
    const char *words; /* after the file's name; NULL: nothing is wrong */
    int status;
} spoils[SPOILS] = {
    [SPOIL_EMPTY] = {"is empty", 0},
    [SPOIL_ZEROS] = {"is empty", 0},
    [SPOIL_SHORT] = {"is damaged (truncated, or overwritten by something else)", 1},
    [SPOIL_TRUNCATED] = {"is damaged (truncated, or overwritten by something else)", 1},
    [SPOIL_TEXT] = {"is damaged (truncated, or overwritten by something else)", 1},
    [SPOIL_CHECKSUM] = {"is damaged (truncated, or overwritten by something else)", 1},
    [SPOIL_FORMAT] = {"was made by another version or another kind of build of Lockstep", 1},
    [SPOIL_BOOT] = {"is from before the last reboot", 0},
    [SPOIL_FILE] = {"belongs to another database file (was it copied?)", 0},
};

static void
spoil(enum spoil how)
{
    struct lks_file_id id = database_id();
    char other_boot[LKS_BOOT_ID_SIZE] = "00000000-0000-0000-0000-000000000000";
    const char *path = holder_path("db-lockstep");
    switch (how) {
    case SPOIL_EMPTY: ck_assert_int_eq(truncate(path, 0), 0); break;
    case SPOIL_ZEROS: memset((void *)shm, 0, LKS_SHM_BYTES); break;
    case SPOIL_SHORT: ck_assert_int_eq(truncate(path, 20), 0); break;
    case SPOIL_TRUNCATED: ck_assert_int_eq(truncate(path, LKS_SHM_BYTES - 4096), 0); break;
    case SPOIL_TEXT: memset((void *)shm, 'x', LKS_SHM_BYTES); break;
    case SPOIL_CHECKSUM: shm->identity.made_ns++; break;
    case SPOIL_FORMAT: shm->identity.format++; break;
    case SPOIL_BOOT: lks_header_make(shm, &id, other_boot, 12); break;
    case SPOIL_FILE:
        id.inode++;
        lks_header_make(shm, &id, boot_id, 12);
        break;
    case SPOILS: break;
    }
}

START_TEST(a_coordination_file_that_is_not_sound_is_explained)
{
    char expect[256], list[512];
    spoil((enum spoil)_i);
    snprintf(expect, sizeof expect, "lockstep: DIR/db-lockstep %s\n", spoils[_i].words);
    tool_expect("locks -n db", spoils[_i].status, "", expect);
    snprintf(list, sizeof list, "DIR/db-lockstep %s\n", spoils[_i].words);
    tool_expect("status -n -o COMMITTED,PROBLEM db", spoils[_i].status, list, "");
}
END_TEST

static void
expect_damage(const char *words)
{
    struct lockstep_inspection *inspection;
    const struct lockstep_database_view *database;
    ck_assert_int_eq(lockstep_inspect_open(holder_path("db"), &inspection), LOCKSTEP_OK);
    database = lockstep_inspect_database(inspection);
    ck_assert_int_eq(database->coordination, LOCKSTEP_COORD_DAMAGED);
    ck_assert_msg(strstr(database->problem, words) != NULL, "%s", database->problem);
    lockstep_inspect_close(inspection);
}

START_TEST(a_number_that_cannot_be_is_damage)
{
    lks_a64_set_relaxed(&shm->slots[17].word, lks_slot_word(40, LKS_MAX_CLIENTS, LKS_SLOT_ACTIVE));
    expect_damage("reader slot 17");
    lks_a64_set_relaxed(&shm->slots[17].word, lks_slot_word(40, 1, 3));
    expect_damage("reader slot 17");
    lks_a64_set_relaxed(&shm->slots[17].word, 0);
    lks_a32_set_relaxed(&shm->waiters[3].word, lks_waiter_word(0xfffffff, LKS_WAITER_WAITING));
    expect_damage("waiter 3");
    lks_a32_set_relaxed(&shm->waiters[3].word, 0);
    lks_a64_set_relaxed(&shm->state.writer, lks_writer_word(1, 0, 0xfff, LKS_WRITER_OWNED));
    expect_damage("the writer lock");
    lks_a64_set_relaxed(&shm->state.writer, 3);
    expect_damage("the writer lock");
    lks_a64_set_relaxed(&shm->state.writer, 0);
    lks_a64_set_relaxed(&shm->state.durable, 43);
    expect_damage("43 durable, but only 42 made");
    lks_a64_set_relaxed(&shm->state.durable, 1);
    lks_a32_set_relaxed(&shm->state.unit_log2, 40);
    expect_damage("size of its blocks");
    lks_a32_set_relaxed(&shm->state.unit_log2, 12);
    lks_a32_set_relaxed(&shm->state.blocks_used, 513);
    expect_damage("513 blocks in use");
}
END_TEST

/* Anything behind a sound identity: no crash, no endless text; run it under the sanitizers. */
START_TEST(random_content_does_no_harm)
{
    unsigned seed = (unsigned)(lks_clock_ns() & 0xffffffff);
    printf("random_content_does_no_harm: seed %u\n", seed);
    handmade_client('A', 3);
    for (int round = 0; round < FUZZ_ROUNDS; round++) {
        struct lockstep_inspection *inspection;
        const struct lockstep_lock_view *lock;
        unsigned char *byte = (unsigned char *)shm;
        /* All of it at first, then single bytes, so that not everything is found damaged at once. */
        size_t count = round < 10 ? LKS_SHM_BYTES : 400;
        for (size_t i = 0; i < count; i++) {
            size_t at = round < 10 ? i : (size_t)rand_r(&seed) % offsetof(struct lks_shm, ring);
            if (at >= sizeof shm->identity_page)
                byte[at] = (unsigned char)rand_r(&seed);
        }
        ck_assert_int_eq(lockstep_inspect_open(holder_path("db"), &inspection), LOCKSTEP_OK);
        for (size_t i = 0; (lock = lockstep_inspect_lock(inspection, i)) != NULL; i++) {
            ck_assert_uint_lt(strnlen(lock->name, sizeof lock->name), sizeof lock->name);
            ck_assert_uint_lt(strnlen(lock->detail, sizeof lock->detail), sizeof lock->detail);
            ck_assert_uint_lt(strnlen(lock->process.program, sizeof lock->process.program),
                              sizeof lock->process.program);
        }
        lockstep_inspect_close(inspection);
    }
}
END_TEST

int
main(void)
{
    Suite *suite = suite_create("tools/inspect unsound");
    TCase *unsound = tcase_create("unsound");
    SRunner *runner = srunner_create(suite);
    int failed;

    tcase_add_checked_fixture(unsound, handmade_begin, handmade_finish);
    tcase_add_test(unsound, what_was_left_by_all_says_how_to_recover);
    tcase_add_loop_test(unsound, a_coordination_file_that_is_not_sound_is_explained, 0, SPOILS);
    tcase_add_test(unsound, a_number_that_cannot_be_is_damage);
    tcase_add_test(unsound, random_content_does_no_harm);
    suite_add_tcase(suite, unsound);
    srunner_run_all(runner, CK_NORMAL);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
