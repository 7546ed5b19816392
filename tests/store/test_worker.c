/*
 * The thread that writes behind, and whom it is woken by when a client leaves.
 *
 * Made to fail by lks_worker_stop() that rings whether or not this process is the worker (the first test), or that never
 * rings (both hang at the end).
 */
#include "coord/coordtest.h"

#include <stdio.h>

#include <lockstep/coord.h>

#include "base/clock.h"
#include "store/worker.h"

#define HOUR_MS 3600000u

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

int
main(void)
{
    Suite *suite = suite_create("worker");
    TCase *tcase = coordtest_case(suite, "leaving");
    tcase_add_test(tcase, a_client_that_leaves_does_not_wake_another_process_that_gathers_commits);
    tcase_add_test(tcase, the_worker_that_leaves_wakes_its_own_thread);
    return coordtest_main(suite);
}
