/*
 * Made to fail by: raising `durable` to what `committed` is after the sync; not looking at the poison after a sync that
 * succeeded; sleeping at once beside a leader; not sleeping on a slow disk; leading though another's
 * commit is the first; a lag_since() that returns pending_since_ns as it is.
 */
#include "coord/groupsync.h"

#include <errno.h>
#include <sched.h>
#include <setjmp.h>
#include <string.h>

#include "base/clock.h"
#include "base/crashpoint.h"

#include "coord/coordtest.h"
#include "os/file.h"

/* What happens while the sync is under way. */
struct disk {
    struct lockstep_db *db;
    int syncs;
    uint64_t drawn; /* in mid-sync */
    bool draw, note, fail, poison;
};

static enum lockstep_status
sync_disk(void *arg)
{
    struct disk *disk = arg;
    disk->syncs++;
    if (disk->draw)
        disk->drawn = lks_groupsync_draw(disk->db);
    if (disk->draw && disk->note)
        lks_groupsync_note(disk->db, disk->drawn);
    if (disk->poison)
        lks_groupsync_poison(disk->db, EIO);
    lks_os_set_errno(EIO);
    return disk->fail ? LOCKSTEP_IOERR : LOCKSTEP_OK;
}

START_TEST(what_is_appended_in_mid_sync_is_not_durable_by_it)
{
    struct lockstep_db *db = memory_db(12);
    struct disk disk = {.db = db, .draw = true};
    uint64_t ticket = lks_groupsync_draw(db);
    ck_assert_int_eq(lks_groupsync_wait(db, ticket, -1, sync_disk, &disk), LOCKSTEP_OK);
    ck_assert_int_eq(disk.syncs, 1);
    ck_assert_uint_eq(lks_a64_relaxed(&db->shm->state.durable), ticket);
    ck_assert_uint_gt(disk.drawn, ticket);
    disk.draw = false;
    ck_assert_int_eq(lks_groupsync_wait(db, disk.drawn, -1, sync_disk, &disk), LOCKSTEP_OK);
    ck_assert_int_eq(disk.syncs, 2);
    memory_db_free(db);
}
END_TEST

START_TEST(one_sync_serves_all_who_came_before)
{
    struct lockstep_db *db = memory_db(12);
    struct disk disk = {.db = db};
    uint64_t first = lks_groupsync_draw(db), last;
    lks_groupsync_draw(db);
    last = lks_groupsync_draw(db);
    ck_assert_int_eq(lks_groupsync_wait(db, last + 1, -1, sync_disk, &disk), LOCKSTEP_MISUSE);
    ck_assert_int_eq(lks_groupsync_wait(db, first, -1, sync_disk, &disk), LOCKSTEP_OK);
    ck_assert_int_eq(lks_groupsync_wait(db, last, 0, NULL, NULL), LOCKSTEP_OK);
    ck_assert_int_eq(disk.syncs, 1);
    memory_db_free(db);
}
END_TEST

START_TEST(a_failed_sync_poisons_and_a_later_one_proves_nothing)
{
    struct lockstep_db *db = memory_db(12);
    struct disk disk = {.db = db, .fail = true};
    uint64_t ticket = lks_groupsync_draw(db);
    ck_assert_int_eq(lks_groupsync_wait(db, ticket, -1, sync_disk, &disk), LOCKSTEP_IOERR);
    ck_assert_int_eq(lks_groupsync_poisoned(db), EIO);
    disk.fail = false;
    ck_assert_int_eq(lks_groupsync_wait(db, ticket, -1, sync_disk, &disk), LOCKSTEP_IOERR);
    ck_assert_int_eq(lks_groupsync_run(db, sync_disk, &disk), LOCKSTEP_IOERR);
    ck_assert_int_eq(disk.syncs, 1);
    ck_assert_uint_lt(lks_a64_relaxed(&db->shm->state.durable), ticket);
    lks_groupsync_heal(db);
    ck_assert_int_eq(lks_groupsync_wait(db, ticket, -1, sync_disk, &disk), LOCKSTEP_OK);
    memory_db_free(db);
}
END_TEST

/* The pages were lost by another's sync, and this one had nothing to do. */
START_TEST(a_sync_beside_one_that_fails_proves_nothing)
{
    struct lockstep_db *db = memory_db(12);
    struct disk disk = {.db = db, .poison = true};
    uint64_t ticket = lks_groupsync_draw(db);
    ck_assert_int_eq(lks_groupsync_wait(db, ticket, -1, sync_disk, &disk), LOCKSTEP_IOERR);
    ck_assert_uint_lt(lks_a64_relaxed(&db->shm->state.durable), ticket);
    memory_db_free(db);
}
END_TEST

START_TEST(the_lag_begins_with_the_first_who_does_not_wait_and_ends_with_a_sync)
{
    struct lockstep_db *db = memory_db(12);
    struct disk disk = {.db = db};
    struct lks_shm_state *state = &db->shm->state;
    uint64_t ticket = lks_groupsync_draw(db), since;
    lks_groupsync_note(db, ticket);
    since = lks_a64_relaxed(&state->pending_since_ns);
    ck_assert_uint_ne(since, 0);
    lks_groupsync_note(db, lks_groupsync_draw(db));
    ck_assert_uint_eq(lks_a64_relaxed(&state->pending_since_ns), since);
    ck_assert_int_eq(lks_groupsync_run(db, sync_disk, &disk), LOCKSTEP_OK);
    ck_assert_uint_eq(lks_a64_relaxed(&state->pending_since_ns), 0);
    /* One that comes in mid-sync waits on. */
    lks_groupsync_note(db, lks_groupsync_draw(db));
    lks_a64_max(&state->sync_needed, lks_a64_relaxed(&state->committed) + 1);
    ck_assert_int_eq(lks_groupsync_run(db, sync_disk, &disk), LOCKSTEP_OK);
    ck_assert_uint_ne(lks_a64_relaxed(&state->pending_since_ns), 0);
    memory_db_free(db);
}
END_TEST

#ifdef LKS_DEBUG
static jmp_buf dead;

static void
die_while_settling(const char *name)
{
    if (strcmp(name, "groupsync:settling") == 0)
        longjmp(dead, 1);
}

/* It goes no further: to the others that is a death. */
START_TEST(who_dies_while_he_settles_the_lag_does_not_end_it_for_others)
{
    struct lockstep_db *db = memory_db(12);
    struct disk disk = {.db = db, .draw = true, .note = true};
    struct lks_shm_state *state = &db->shm->state;
    lks_groupsync_note(db, lks_groupsync_draw(db));
    lks_crash_hook = die_while_settling;
    if (setjmp(dead) == 0)
        (void)!lks_groupsync_run(db, sync_disk, &disk);
    lks_crash_hook = NULL;
    /* The second commit, made in mid-sync, is not durable, and nobody has said that it is late. */
    ck_assert_uint_lt(lks_a64_relaxed(&state->durable), lks_a64_relaxed(&state->sync_needed));
    ck_assert_uint_eq(lks_a64_relaxed(&state->pending_since_ns), 0);
    ck_assert_uint_ne(lks_groupsync_lag_since(state), 0);
    ck_assert_uint_ne(lks_a64_relaxed(&state->pending_since_ns), 0);
    disk.draw = false;
    ck_assert_int_eq(lks_groupsync_run(db, sync_disk, &disk), LOCKSTEP_OK);
    ck_assert_uint_eq(lks_groupsync_lag_since(state), 0);
    memory_db_free(db);
}
END_TEST
#endif

/* Who waits gives the processor away, which here is told.  (A sanitizer's runtime gives it away too, at the very end.) */
static struct lockstep_db *led;
static unsigned yields;

int
sched_yield(void)
{
    struct lockstep_db *db = led;
    if (db != NULL && ++yields == 3) {
        led = NULL;
        lks_a64_max(&db->shm->state.durable, lks_a64_relaxed(&db->shm->state.committed));
    }
    return 0;
}

/* Another has just begun to sync. */
static void
let_lead(struct lockstep_db *db, uint64_t took_ns)
{
    struct lks_shm_state *state = &db->shm->state;
    lks_a64_set_relaxed(&state->sync_took_ns, took_ns);
    lks_a64_set_relaxed(&state->sync_since_ns, lks_clock_ns());
    lks_a64_set_relaxed(&state->sync_leader, (uint64_t)1 << 12 | (db->client + 2));
    led = db;
    yields = 0;
}

START_TEST(beside_a_leader_one_looks_again_awake_if_the_disk_is_fast)
{
    struct lockstep_db *db = memory_db(12);
    struct disk disk = {.db = db};
    uint64_t ticket = lks_groupsync_draw(db);
    let_lead(db, LKS_GROUPSYNC_FAST_NS);
    ck_assert_int_eq(lks_groupsync_wait(db, ticket, -1, sync_disk, &disk), LOCKSTEP_OK);
    ck_assert_uint_eq(yields, 3);
    ck_assert_int_eq(disk.syncs, 0);

    /* Else it sleeps, and syncs by itself when that leader has had his time. */
    ticket = lks_groupsync_draw(db);
    let_lead(db, LKS_GROUPSYNC_FAST_NS + 1);
    ck_assert_int_eq(lks_groupsync_wait(db, ticket, -1, sync_disk, &disk), LOCKSTEP_OK);
    ck_assert_uint_eq(yields, 0);
    ck_assert_int_eq(disk.syncs, 1);
    led = NULL;
    memory_db_free(db);
}
END_TEST

/* Two commits, neither durable, and nobody leads; the disk is as fast as that. */
static uint64_t
draw_two(struct lockstep_db *db, uint64_t took_ns)
{
    uint64_t first = lks_groupsync_draw(db);
    (void)lks_groupsync_draw(db);
    lks_a64_set_relaxed(&db->shm->state.sync_took_ns, took_ns);
    led = db;
    yields = 0;
    return first;
}

START_TEST(the_first_commit_that_is_not_durable_leads)
{
    struct lockstep_db *db = memory_db(12);
    struct disk disk = {.db = db};
    uint64_t first = draw_two(db, LKS_GROUPSYNC_FAST_NS);
    unsigned i;
    ck_assert_int_eq(lks_groupsync_wait(db, first + 1, -1, sync_disk, &disk), LOCKSTEP_OK);
    ck_assert_uint_eq(yields, 3);
    ck_assert_int_eq(disk.syncs, 0);
    first = draw_two(db, LKS_GROUPSYNC_FAST_NS);
    ck_assert_int_eq(lks_groupsync_wait(db, first, -1, sync_disk, &disk), LOCKSTEP_OK);
    ck_assert_uint_eq(yields, 0);
    ck_assert_int_eq(disk.syncs, 1);
    /* A slow disk is not kept waiting. */
    first = draw_two(db, LKS_GROUPSYNC_FAST_NS + 1);
    ck_assert_int_eq(lks_groupsync_wait(db, first + 1, -1, sync_disk, &disk), LOCKSTEP_OK);
    ck_assert_uint_eq(yields, 0);
    ck_assert_int_eq(disk.syncs, 2);
    /* Nobody waits for the first: the second does not wait for good, and the next ones not at all for some time. */
    first = draw_two(db, LKS_GROUPSYNC_FAST_NS);
    led = NULL;
    ck_assert_int_eq(lks_groupsync_wait(db, first + 1, -1, sync_disk, &disk), LOCKSTEP_OK);
    ck_assert_int_eq(disk.syncs, 3);
    for (i = 0; yields == 0; i++) {
        ck_assert_uint_lt(i, 100);
        first = draw_two(db, LKS_GROUPSYNC_FAST_NS);
        ck_assert_int_eq(lks_groupsync_wait(db, first + 1, -1, sync_disk, &disk), LOCKSTEP_OK);
    }
    ck_assert_uint_gt(i, 2);
    ck_assert_int_eq(disk.syncs, 2 + (int)i);
    led = NULL;
    memory_db_free(db);
}
END_TEST

int
main(void)
{
    Suite *suite = suite_create("groupsync");
    TCase *tcase = coordtest_case(suite, "groupsync");
    tcase_add_test(tcase, what_is_appended_in_mid_sync_is_not_durable_by_it);
    tcase_add_test(tcase, one_sync_serves_all_who_came_before);
    tcase_add_test(tcase, a_failed_sync_poisons_and_a_later_one_proves_nothing);
    tcase_add_test(tcase, a_sync_beside_one_that_fails_proves_nothing);
    tcase_add_test(tcase, the_lag_begins_with_the_first_who_does_not_wait_and_ends_with_a_sync);
#ifdef LKS_DEBUG
    tcase_add_test(tcase, who_dies_while_he_settles_the_lag_does_not_end_it_for_others);
#endif
    tcase_add_test(tcase, beside_a_leader_one_looks_again_awake_if_the_disk_is_fast);
    tcase_add_test(tcase, the_first_commit_that_is_not_durable_leads);
    return coordtest_main(suite);
}
