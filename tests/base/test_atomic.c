#include "base/atomic.h"

#include <check.h>
#include <pthread.h>
#include <stdlib.h>

#define THREADS 4
#define ROUNDS 20000

static struct lks_a64 sum, largest, swapped, own;

static void *
work(void *arg)
{
    uint64_t i, self = (uint64_t)(uintptr_t)arg;
    for (i = 0; i < ROUNDS; i++) {
        uint64_t seen;
        lks_a64_add(&sum, 1);
        lks_a64_max(&largest, i * THREADS + self);
        do
            seen = lks_a64_relaxed(&own);
        while (!lks_a64_cas(&own, seen, seen + 3));
    }
    return NULL;
}

START_TEST(concurrent_updates_are_all_there)
{
    pthread_t threads[THREADS];
    uintptr_t i;
    for (i = 0; i < THREADS; i++)
        ck_assert_int_eq(pthread_create(&threads[i], NULL, work, (void *)i), 0);
    for (i = 0; i < THREADS; i++)
        ck_assert_int_eq(pthread_join(threads[i], NULL), 0);
    ck_assert_uint_eq(lks_a64_seq(&sum), THREADS * ROUNDS);
    ck_assert_uint_eq(lks_a64_seq(&largest), (ROUNDS - 1) * THREADS + THREADS - 1);
    ck_assert_uint_eq(lks_a64_seq(&own), 3 * THREADS * ROUNDS);
}
END_TEST

START_TEST(each_operation_returns_what_it_says)
{
    struct lks_a32 small = {5};
    ck_assert_uint_eq(lks_a32_add(&small, 2), 5);
    ck_assert_uint_eq(lks_a32_swap(&small, 9), 7);
    ck_assert(!lks_a32_cas(&small, 7, 1));
    ck_assert(lks_a32_cas(&small, 9, 1));
    lks_a32_max(&small, 0);
    ck_assert_uint_eq(lks_a32_relaxed(&small), 1);
    lks_a32_max(&small, UINT32_MAX);
    ck_assert_uint_eq(lks_a32_acquire(&small), UINT32_MAX);
    lks_a64_set_release(&swapped, UINT64_MAX - 1);
    ck_assert_uint_eq(lks_a64_swap(&swapped, 1), UINT64_MAX - 1);
}
END_TEST

/* Stores of one, loads of the other: with the fence at least one of two sees the other's store. */
static struct lks_a64 flags[2];
static pthread_barrier_t together, apart;
static uint64_t saw[2];

static void *
look(void *arg)
{
    uintptr_t self = (uintptr_t)arg;
    int i;
    for (i = 0; i < 5000; i++) {
        pthread_barrier_wait(&together);
        lks_a64_set_relaxed(&flags[self], 1);
        lks_fence();
        saw[self] = lks_a64_relaxed(&flags[1 - self]);
        pthread_barrier_wait(&apart);
        if (self == 0 && saw[0] == 0 && saw[1] == 0)
            return "neither saw the other";
        pthread_barrier_wait(&together);
        lks_a64_set_relaxed(&flags[self], 0);
        pthread_barrier_wait(&apart);
    }
    return NULL;
}

START_TEST(a_fence_keeps_a_store_ahead_of_a_load)
{
    pthread_t other;
    void *result;
    pthread_barrier_init(&together, NULL, 2);
    pthread_barrier_init(&apart, NULL, 2);
    ck_assert_int_eq(pthread_create(&other, NULL, look, (void *)1), 0);
    result = look((void *)0);
    ck_assert_msg(result == NULL, "%s", (const char *)result);
    ck_assert_int_eq(pthread_join(other, NULL), 0);
}
END_TEST

int
main(void)
{
    Suite *suite = suite_create("atomic");
    TCase *tcase = tcase_create("atomic");
    SRunner *runner = srunner_create(suite);
    int failed;
    suite_add_tcase(suite, tcase);
    tcase_add_test(tcase, concurrent_updates_are_all_there);
    tcase_add_test(tcase, each_operation_returns_what_it_says);
    tcase_add_test(tcase, a_fence_keeps_a_store_ahead_of_a_load);
    srunner_run_all(runner, CK_ENV);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
