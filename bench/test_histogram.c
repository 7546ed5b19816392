/* Tests of bench/histogram.c. */
#include "bench/histogram.h"

#include <check.h>
#include <stdlib.h>

#define VALUES 20000

static uint64_t state = 88172645463325252ull;

/* Evenly over the powers of two up to 2^40. */
static uint64_t
random_time(void)
{
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return state >> (24 + state % 40);
}

static int
compare(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a;
    uint64_t y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

START_TEST(an_empty_one_has_no_times)
{
    static struct bench_histogram h;
    ck_assert_uint_eq(bench_histogram_at(&h, 0.5), 0);
    ck_assert_uint_eq(h.max_ns, 0);
}
END_TEST

START_TEST(small_times_are_exact)
{
    static struct bench_histogram h;
    bench_histogram_clear(&h);
    for (uint64_t ns = 1; ns <= 50; ns++)
        bench_histogram_add(&h, ns);
    ck_assert_uint_eq(bench_histogram_at(&h, 0.5), 25);
    ck_assert_uint_eq(bench_histogram_at(&h, 0.02), 1);
    ck_assert_uint_eq(bench_histogram_at(&h, 1), 50);
    ck_assert_uint_eq(h.min_ns, 1);
    ck_assert_double_eq(bench_histogram_mean(&h), 25.5);
}
END_TEST

START_TEST(a_percentile_is_never_too_low_and_at_most_a_32nd_too_high)
{
    static struct bench_histogram h;
    static uint64_t values[VALUES];
    static const double shares[] = {0.001, 0.1, 0.5, 0.9, 0.99, 0.999, 0.9999, 1};
    bench_histogram_clear(&h);
    for (size_t i = 0; i < VALUES; i++) {
        values[i] = random_time();
        bench_histogram_add(&h, values[i]);
    }
    qsort(values, VALUES, sizeof(*values), compare);
    for (size_t i = 0; i < sizeof(shares) / sizeof(shares[0]); i++) {
        size_t rank = (size_t)(shares[i] * VALUES);
        uint64_t exact = values[rank < 1 ? 0 : rank - 1];
        uint64_t found = bench_histogram_at(&h, shares[i]);
        ck_assert_uint_ge(found, exact);
        ck_assert_uint_le(found, exact + exact / 32);
    }
    ck_assert_uint_eq(bench_histogram_at(&h, 1), values[VALUES - 1]);
}
END_TEST

START_TEST(every_power_of_two_starts_a_bucket)
{
    static struct bench_histogram h;
    for (unsigned bits = 6; bits < 42; bits++) {
        bench_histogram_clear(&h);
        bench_histogram_add(&h, (1ull << bits) - 1);
        bench_histogram_add(&h, 1ull << bits);
        ck_assert_uint_eq(bench_histogram_at(&h, 0.5), (1ull << bits) - 1);
        ck_assert_uint_eq(bench_histogram_at(&h, 1), 1ull << bits);
    }
}
END_TEST

START_TEST(times_beyond_the_range_keep_their_maximum)
{
    static struct bench_histogram h;
    bench_histogram_clear(&h);
    bench_histogram_add(&h, 1);
    bench_histogram_add(&h, UINT64_MAX / 2);
    ck_assert_uint_eq(bench_histogram_at(&h, 1), UINT64_MAX / 2);
    ck_assert_uint_eq(bench_histogram_at(&h, 0.5), 1);
}
END_TEST

START_TEST(merging_is_the_same_as_adding_all_to_one)
{
    static struct bench_histogram all;
    static struct bench_histogram parts[2];
    for (size_t i = 0; i < VALUES; i++) {
        uint64_t ns = random_time();
        bench_histogram_add(&all, ns);
        bench_histogram_add(&parts[i % 2], ns);
    }
    static struct bench_histogram merged;
    bench_histogram_merge(&merged, &parts[0]);
    bench_histogram_merge(&merged, &parts[1]);
    ck_assert_mem_eq(&merged, &all, sizeof(all));
}
END_TEST

int
main(void)
{
    TCase *tcase = tcase_create("histogram");
    tcase_add_test(tcase, an_empty_one_has_no_times);
    tcase_add_test(tcase, small_times_are_exact);
    tcase_add_test(tcase, a_percentile_is_never_too_low_and_at_most_a_32nd_too_high);
    tcase_add_test(tcase, every_power_of_two_starts_a_bucket);
    tcase_add_test(tcase, times_beyond_the_range_keep_their_maximum);
    tcase_add_test(tcase, merging_is_the_same_as_adding_all_to_one);
    Suite *suite = suite_create("bench/histogram");
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
