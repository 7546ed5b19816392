/*
 * The thread that writes behind: whom it is woken by when a client leaves, and how soon another takes its place when it
 * leaves or dies.
 *
 * Who stands by looks by itself after a second, so each of these tests lets it begin its sleep anew and then gives it
 * LATE_MS.  Made to fail by:
 *   lks_worker_stop() that rings whether or not this process is the worker (the first test), or that never rings (hangs);
 *   lks_detach() without hand_over()                                           a_worker_that_leaves_is
 *   hand_over() without lks_standby_call(), or one that rings nobody           a_commit_that_is_left
 *   lks_worker_notice() without lks_standby_notice()                           a_dead_worker
 *   lks_worker_await() without lks_standby_wake()                              a_writer_before_a_full_store
 *   lks_office_take() without lks_standby_wake()                               a_place_that_a_waiter_took
 *   work() that keeps its back-off though nothing is pending any more          a_worker_that_found
 *   IDLE_NS of ten seconds                                                     whoever_dies_while_he_rings
 *   stand_by() that takes WORKER before it arms its bell                       a_worker_that_leaves_in_between
 */
#include "coord/coordtest.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <lockstep/coord.h>

#include "base/clock.h"
#include "base/crashpoint.h"
#include "coord/standby.h"
#include "store/batch.h"
#include "store/store.h"
#include "store/worker.h"

#define HOUR_MS 3600000u
#define PATIENCE_MS 20000u
/* Sooner than who stands by looks by itself. */
#define LATE_MS 700u

static void
come_and_leave(struct child *self)
{
    child_step(self, 's');
    close_db(attached_db());
}

/* Attached as the worker, with one commit that is not due for long, and its thread asleep over it. */
static struct lockstep_db *
sleep_over_a_commit(void)
{
    struct lockstep_options options = {.max_lag_ms = HOUR_MS};
    uint64_t deadline = lks_clock_ns() + 10000 * LKS_NS_PER_MS;
    struct lockstep_db *db = NULL;
    struct lockstep_conn *conn = NULL;
    ck_assert_int_eq(lockstep_db_open("db", &options, &db), LOCKSTEP_OK);
    ck_assert_int_eq(lockstep_db_attach(db), LOCKSTEP_OK);
    ck_assert_int_eq(lockstep_conn_open(db, &conn), LOCKSTEP_OK);
    ck_assert_int_eq(lockstep_conn_begin(conn), LOCKSTEP_OK);
    ck_assert_int_eq(lockstep_conn_write_begin(conn, 0), LOCKSTEP_OK);
    ck_assert_int_eq(lockstep_conn_write(conn, 5000, "late", 4), LOCKSTEP_OK);
    ck_assert_int_eq(lockstep_conn_commit(conn, LOCKSTEP_ASYNC, NULL), LOCKSTEP_OK);
    lockstep_conn_close(conn);
    while (lks_a32_seq(&db->shm->state.worker_asleep) != LKS_WORKER_NAPPING) {
        ck_assert_uint_lt(lks_clock_ns(), deadline);
        lks_clock_nap_ms(1);
    }
    return db;
}

START_TEST(a_client_that_leaves_does_not_wake_another_process_that_gathers_commits)
{
    const struct lks_shm_state *state;
    struct lockstep_db *db;
    struct child other;
    uint32_t bell;
    child_start(&other, come_and_leave);
    child_await(&other, 's');
    db = sleep_over_a_commit();
    state = &db->shm->state;
    bell = lks_a32_seq(&state->work_bell);
    child_go(&other);
    child_end(&other);
    ck_assert_uint_eq(lks_a32_seq(&state->work_bell), bell);
    ck_assert_uint_eq(lks_a32_seq(&state->worker_asleep), LKS_WORKER_NAPPING);
    ck_assert(lks_worker_is_pending(state));
    close_db(db);
}
END_TEST

START_TEST(the_worker_that_leaves_wakes_its_own_thread)
{
    char byte = 0;
    FILE *file;
    struct lockstep_db *db = sleep_over_a_commit();
    ck_assert(lks_lockset_holds(&db->locks, LKS_BYTE_WORKER));
    close_db(db);
    file = fopen("db", "rb");
    ck_assert_ptr_nonnull(file);
    ck_assert_int_eq(fseek(file, 5000, SEEK_SET), 0);
    ck_assert_uint_eq(fread(&byte, 1, 1, file), 1);
    ck_assert_int_eq(byte, 'l');
    fclose(file);
}
END_TEST

static struct lockstep_db *
attach_with(uint32_t max_lag_ms, uint64_t store_limit)
{
    struct lockstep_options options = {.max_lag_ms = max_lag_ms, .store_limit = store_limit};
    struct lockstep_db *db = NULL;
    child_check(lockstep_db_open("db", &options, &db) == LOCKSTEP_OK);
    child_check(lockstep_db_attach(db) == LOCKSTEP_OK);
    return db;
}

static void
commit_bytes(struct lockstep_db *db, uint64_t offset, size_t size, enum lockstep_durability durability)
{
    struct lockstep_conn *conn = NULL;
    char *bytes = malloc(size);
    child_check(bytes != NULL);
    memset(bytes, 'b', size);
    child_check(lockstep_conn_open(db, &conn) == LOCKSTEP_OK);
    child_check(lockstep_conn_begin(conn) == LOCKSTEP_OK);
    child_check(lockstep_conn_write_begin(conn, 0) == LOCKSTEP_OK);
    child_check(lockstep_conn_write(conn, offset, bytes, size) == LOCKSTEP_OK);
    child_check(lockstep_conn_commit(conn, durability, NULL) == LOCKSTEP_OK);
    lockstep_conn_close(conn);
    free(bytes);
}

static bool
by_then(uint64_t since_ns, unsigned ms)
{
    lks_clock_nap_ms(1);
    return lks_clock_ns() > since_ns + ms * LKS_NS_PER_MS;
}

/* The thread of this process stands by, and has only just begun to sleep. */
static void
fall_asleep(struct lockstep_db *db)
{
    const struct lks_a32 *standby = &db->shm->clients[db->client].standby;
    uint64_t begun = lks_clock_ns();
    while (lks_a32_seq(standby) == LKS_STANDBY_NONE)
        child_check(!by_then(begun, PATIENCE_MS));
    lks_standby_wake(db);
    while (lks_a32_seq(standby) == LKS_STANDBY_NONE)
        child_check(!by_then(begun, PATIENCE_MS));
    child_check(!lks_lockset_holds(&db->locks, LKS_BYTE_WORKER));
}

static bool
is_worker(struct lockstep_db *db)
{
    return lks_lockset_holds(&db->locks, LKS_BYTE_WORKER);
}

/* Beside a worker, whose commits are not due for long; then it is gone. */
static void
come_next(struct child *self)
{
    struct lockstep_db *db;
    uint64_t begun;
    child_step(self, 's');
    db = attach_with(HOUR_MS, 0);
    fall_asleep(db);
    child_step(self, 'a');
    begun = lks_clock_ns();
    while (!is_worker(db))
        child_check(!by_then(begun, LATE_MS));
    while (lks_worker_is_pending(&db->shm->state))
        child_check(!by_then(begun, PATIENCE_MS));
    child_step(self, 'w');
    close_db(db);
}

static void
hold_dms1(struct child *self)
{
    int fd;
    child_step(self, 's');
    child_check(lks_file_open("db-lockstep", LKS_OPEN_WRITE, 0, &fd) == LOCKSTEP_OK);
    child_check(lks_bytelock_try(fd, LKS_LOCK_PROCESS, LKS_LOCK_EXCLUSIVE, LKS_LOCK_BASE + LKS_BYTE_DMS1, 1) ==
                LOCKSTEP_OK);
    child_step(self, 'd');
}

START_TEST(a_worker_that_leaves_is_followed_at_once)
{
    struct lockstep_db *db;
    struct child next, connecting;
    child_start(&connecting, hold_dms1);
    child_await(&connecting, 's');
    child_start(&next, come_next);
    child_await(&next, 's');
    db = sleep_over_a_commit();
    child_go(&next);
    child_await(&next, 'a');
    ck_assert(is_worker(db));
    /* Somebody takes his time in connecting. */
    child_go(&connecting);
    child_await(&connecting, 'd');
    child_go(&next);
    (void)lks_store_close(db); /* waits for DMS1 in vain */
    child_go(&connecting);
    child_end(&connecting);
    child_await(&next, 'w');
    child_go(&next);
    child_end(&next);
}
END_TEST

/* The worker, until it is killed or let go. */
static void
be_the_worker(struct child *self)
{
    struct lockstep_db *db = attach_with(HOUR_MS, 0);
    child_check(is_worker(db));
    child_step(self, 's');
    close_db(db);
}

static void
written_by_then(struct lockstep_db *db, uint64_t since_ns, unsigned ms)
{
    while (lks_worker_is_pending(&db->shm->state))
        ck_assert(!by_then(since_ns, ms));
}

START_TEST(a_dead_worker_is_found_by_who_commits)
{
    struct lockstep_db *db;
    struct child worker;
    uint64_t begun;
    child_start(&worker, be_the_worker);
    child_await(&worker, 's');
    db = attach_with(100, 0);
    fall_asleep(db);
    begun = lks_clock_ns();
    child_kill(&worker);
    commit_bytes(db, 5000, 4, LOCKSTEP_ASYNC);
    written_by_then(db, begun, LATE_MS);
    ck_assert(is_worker(db));
    close_db(db);
}
END_TEST

static void
commit_and_leave(struct child *self)
{
    struct lockstep_db *db;
    child_step(self, 's');
    db = attach_with(HOUR_MS, 0);
    fall_asleep(db);
    child_step(self, 'a');
    commit_bytes(db, 5000, 4, LOCKSTEP_ASYNC);
    child_step(self, 'c');
    close_db(db);
}

/* Its process has no worker to leave it to, and does not know. */
START_TEST(a_commit_that_is_left_behind_is_not_forgotten)
{
    struct child worker, other;
    struct lockstep_db *db;
    uint64_t begun;
    child_start(&other, commit_and_leave);
    child_await(&other, 's');
    child_start(&worker, be_the_worker);
    child_await(&worker, 's');
    child_go(&other);
    child_await(&other, 'a');
    db = attach_with(HOUR_MS, 0);
    fall_asleep(db);
    begun = lks_clock_ns();
    child_go(&other);
    child_await(&other, 'c');
    child_kill(&worker);
    ck_assert(lks_worker_is_pending(&db->shm->state));
    child_go(&other);
    child_end(&other);
    written_by_then(db, begun, LATE_MS);
    close_db(db);
}
END_TEST

static void
commit_soon(struct child *self)
{
    struct lockstep_db *db;
    child_step(self, 's');
    db = attach_with(100, 0);
    commit_bytes(db, 5000, 4, LOCKSTEP_ASYNC);
    child_step(self, 'c');
    close_db(db);
}

/* A thread that waits for its commit takes the place; the thread that stands by would sleep on over it, for long. */
START_TEST(a_place_that_a_waiter_took_is_filled_by_its_thread)
{
    struct child worker, other;
    struct lockstep_db *db;
    child_start(&other, commit_soon);
    child_await(&other, 's');
    child_start(&worker, be_the_worker);
    child_await(&worker, 's');
    db = attach_with(HOUR_MS, 0);
    commit_bytes(db, 5000, 4, LOCKSTEP_ASYNC);
    fall_asleep(db);
    child_kill(&worker);
    ck_assert_int_eq(lockstep_db_wait(db, lks_a64_acquire(&db->shm->state.committed), -1), LOCKSTEP_OK);
    ck_assert(is_worker(db));
    child_go(&other);
    child_await(&other, 'c');
    written_by_then(db, lks_clock_ns(), LATE_MS);
    child_go(&other);
    child_end(&other);
    close_db(db);
}
END_TEST

#ifdef LKS_DEBUG

#define LIMIT (4u << 20)

/* Dies over a store that is full, before it has written any of it. */
static void
fill_and_die(struct child *self)
{
    struct lockstep_db *db = attach_with(HOUR_MS, LIMIT);
    child_step(self, 's');
    lks_crash_arm("batch:pinned", 1);
    commit_bytes(db, 0, LIMIT / 8 * 7, LOCKSTEP_ASYNC);
    child_step(self, 'x');
}

START_TEST(a_writer_before_a_full_store_finds_that_the_worker_is_dead)
{
    struct lockstep_conn *conn = NULL;
    struct lockstep_db *db;
    struct child worker;
    uint64_t begun;
    child_start(&worker, fill_and_die);
    child_await(&worker, 's');
    db = attach_with(HOUR_MS, LIMIT);
    fall_asleep(db);
    begun = lks_clock_ns();
    child_go(&worker);
    while (!lks_worker_is_pending(&db->shm->state))
        lks_clock_nap_ms(1);
    child_killed(&worker);
    ck_assert_int_eq(lockstep_conn_open(db, &conn), LOCKSTEP_OK);
    ck_assert_int_eq(lockstep_conn_begin(conn), LOCKSTEP_OK);
    ck_assert_int_eq(lockstep_conn_write_begin(conn, 0), LOCKSTEP_BUSY);
    ck_assert_int_eq(lockstep_conn_write_begin(conn, LATE_MS), LOCKSTEP_OK);
    ck_assert(!by_then(begun, LATE_MS));
    lockstep_conn_close(conn);
    close_db(db);
}
END_TEST

static struct lockstep_db *beside;
static struct lks_a32 beside_is_set, paused;

/* In the middle of this thread's batch the worker's thread has to write at once, is told BUSY, and pauses. */
static void
meet_the_worker(const char *name)
{
    static struct lks_a32 once;
    struct lks_shm_state *state;
    uint64_t begun = lks_clock_ns();
    if (lks_a32_acquire(&beside_is_set) == 0)
        return;
    if (strcmp(name, "worker:pausing") == 0)
        lks_a32_set_release(&paused, 1);
    if (strcmp(name, "batch:pinned") != 0 || !lks_a32_cas(&once, 0, 1))
        return;
    state = &beside->shm->state;
    lks_a64_max(&state->sync_wanted, lks_a64_acquire(&state->committed));
    lks_worker_ring(beside);
    while (lks_a32_acquire(&paused) == 0)
        child_check(!by_then(begun, PATIENCE_MS));
}

START_TEST(a_worker_that_found_another_thread_at_it_sleeps_when_nothing_is_left)
{
    uint64_t begun;
    lks_crash_hook = meet_the_worker; /* before there is a thread */
    beside = sleep_over_a_commit();
    lks_a32_set_release(&beside_is_set, 1);
    ck_assert_int_eq(lks_batch_run(beside, NULL), LOCKSTEP_OK);
    ck_assert(!lks_worker_is_pending(&beside->shm->state));
    begun = lks_clock_ns();
    while (lks_a32_seq(&beside->shm->state.worker_asleep) != LKS_WORKER_IDLE)
        ck_assert(!by_then(begun, PATIENCE_MS));
    close_db(beside);
}
END_TEST

static void
ring_and_die(struct child *self)
{
    struct lockstep_db *db;
    child_step(self, 's');
    db = attach_with(100, 0);
    child_step(self, 'a');
    lks_crash_arm("worker:ringing", 1);
    lks_worker_ring(db);
}

/* The worker is asleep, and those who commit take it to be awake. */
START_TEST(whoever_dies_while_he_rings_makes_no_commit_later_than_a_second)
{
    struct lockstep_db *db;
    struct child ringer;
    uint64_t begun;
    child_start(&ringer, ring_and_die);
    child_await(&ringer, 's');
    db = attach_with(100, 0);
    child_go(&ringer);
    child_await(&ringer, 'a');
    commit_bytes(db, 5000, 4, LOCKSTEP_FULL_SYNC);
    begun = lks_clock_ns();
    while (lks_a32_seq(&db->shm->state.worker_asleep) != LKS_WORKER_IDLE)
        ck_assert(!by_then(begun, PATIENCE_MS));
    child_go(&ringer);
    child_killed(&ringer);
    ck_assert_uint_eq(lks_a32_seq(&db->shm->state.worker_asleep), LKS_WORKER_AWAKE);
    commit_bytes(db, 5000, 4, LOCKSTEP_ASYNC);
    written_by_then(db, begun, 3000);
    close_db(db);
}
END_TEST

static struct child leaver;

/* In the thread that stands by, which has found the place taken and does not sleep yet. */
static void
leave_meanwhile(const char *name)
{
    static struct lks_a32 once;
    if (strcmp(name, "worker:standing-by") != 0 || !lks_a32_cas(&once, 0, 1))
        return;
    child_go(&leaver);
    child_end(&leaver);
}

START_TEST(a_worker_that_leaves_in_between_is_followed_at_once)
{
    struct lockstep_db *db;
    uint64_t begun;
    child_start(&leaver, be_the_worker);
    child_await(&leaver, 's');
    lks_crash_hook = leave_meanwhile;
    begun = lks_clock_ns();
    db = attach_with(HOUR_MS, 0);
    while (!is_worker(db))
        ck_assert(!by_then(begun, LATE_MS));
    close_db(db);
}
END_TEST

#endif

int
main(void)
{
    Suite *suite = suite_create("worker");
    TCase *tcase = coordtest_case(suite, "leaving");
    tcase_add_test(tcase, a_client_that_leaves_does_not_wake_another_process_that_gathers_commits);
    tcase_add_test(tcase, the_worker_that_leaves_wakes_its_own_thread);
    tcase = coordtest_case(suite, "following");
    tcase_set_timeout(tcase, 30);
    tcase_add_test(tcase, a_worker_that_leaves_is_followed_at_once);
    tcase_add_test(tcase, a_dead_worker_is_found_by_who_commits);
    tcase_add_test(tcase, a_commit_that_is_left_behind_is_not_forgotten);
    tcase_add_test(tcase, a_place_that_a_waiter_took_is_filled_by_its_thread);
#ifdef LKS_DEBUG
    tcase_add_test(tcase, a_writer_before_a_full_store_finds_that_the_worker_is_dead);
    tcase_add_test(tcase, a_worker_that_leaves_in_between_is_followed_at_once);
    tcase_add_test(tcase, a_worker_that_found_another_thread_at_it_sleeps_when_nothing_is_left);
    tcase_add_test(tcase, whoever_dies_while_he_rings_makes_no_commit_later_than_a_second);
#endif
    return coordtest_main(suite);
}
