#include "base/mutex.h"

#include <check.h>
#include <signal.h>
#include <stdlib.h>

static struct lks_mutex low = LKS_MUTEX_INITIALIZER(LKS_RANK_REGISTRY);
static struct lks_mutex high = LKS_MUTEX_INITIALIZER(LKS_RANK_FILES);

START_TEST(rising_ranks_are_taken_and_given_back_in_any_order)
{
    lks_mutex_lock(&low);
    lks_mutex_lock(&high);
    lks_mutex_unlock(&low);
    lks_mutex_unlock(&high);
    lks_mutex_lock(&low);
    lks_mutex_unlock(&low);
}
END_TEST

START_TEST(trying_may_go_against_the_order)
{
    lks_mutex_lock(&high);
    ck_assert(lks_mutex_trylock(&low));
    lks_mutex_unlock(&low);
    lks_mutex_unlock(&high);
}
END_TEST

#ifdef LKS_DEBUG
START_TEST(falling_ranks_abort)
{
    lks_mutex_lock(&high);
    lks_mutex_lock(&low);
}
END_TEST

START_TEST(two_of_one_rank_abort)
{
    struct lks_mutex other;
    lks_mutex_init(&other, LKS_RANK_FILES);
    lks_mutex_lock(&high);
    lks_mutex_lock(&other);
}
END_TEST
#endif

int
main(void)
{
    Suite *suite = suite_create("mutex");
    TCase *tcase = tcase_create("mutex");
    SRunner *runner = srunner_create(suite);
    int failed;
    suite_add_tcase(suite, tcase);
    tcase_add_test(tcase, rising_ranks_are_taken_and_given_back_in_any_order);
    tcase_add_test(tcase, trying_may_go_against_the_order);
#ifdef LKS_DEBUG
    tcase_add_test_raise_signal(tcase, falling_ranks_abort, SIGABRT);
    tcase_add_test_raise_signal(tcase, two_of_one_rank_abort, SIGABRT);
#endif
    srunner_run_all(runner, CK_ENV);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
