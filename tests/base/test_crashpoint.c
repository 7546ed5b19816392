#include "base/crashpoint.h"

#include <check.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#ifdef LKS_DEBUG

static unsigned passed;
static const char *last;

static void
note(const char *name)
{
    passed++;
    last = name;
}

static void
pass_twice(void)
{
    LKS_CRASH_POINT("test:first");
    LKS_CRASH_POINT("test:second");
}

START_TEST(an_armed_point_kills_at_the_nth_pass)
{
    int i;
    lks_crash_hook = note;
    lks_crash_arm("test:second", 3);
    for (i = 0; i < 2; i++)
        pass_twice();
    ck_assert_uint_eq(passed, 4);
    pass_twice(); /* ends here */
    exit(1);
}
END_TEST

START_TEST(the_environment_arms_it_too)
{
    int i, passes = _i == 0 ? 1 : 4;
    setenv("LOCKSTEP_CRASH", _i == 0 ? "test:first" : "test:first:4", 1);
    for (i = 0; i < passes; i++)
        pass_twice();
    exit(1);
}
END_TEST

START_TEST(a_point_that_is_not_armed_does_nothing)
{
    lks_crash_arm("test:third", 1);
    pass_twice();
}
END_TEST

START_TEST(a_hook_is_told_each_point)
{
    lks_crash_hook = note;
    pass_twice();
    ck_assert_uint_eq(passed, 2);
    ck_assert_str_eq(last, "test:second");
}
END_TEST

START_TEST(every_point_of_the_program_is_listed_once)
{
    const char *names[512];
    size_t i, j, n = lks_crash_points(names, 512);
    int found = 0;
    ck_assert_uint_le(n, 512);
    for (i = 0; i < n; i++) {
        found += strcmp(names[i], "test:first") == 0 || strcmp(names[i], "test:second") == 0;
        for (j = 0; j < i; j++)
            ck_assert_str_ne(names[i], names[j]);
    }
    ck_assert_int_eq(found, 2);
    /* With too little room the number is right nevertheless. */
    ck_assert_uint_ge(lks_crash_points(names, 1), 1);
}
END_TEST

int
main(void)
{
    Suite *suite = suite_create("crashpoint");
    TCase *tcase = tcase_create("crashpoint");
    SRunner *runner = srunner_create(suite);
    int failed;
    suite_add_tcase(suite, tcase);
    tcase_add_test_raise_signal(tcase, an_armed_point_kills_at_the_nth_pass, SIGKILL);
    tcase_add_loop_test_raise_signal(tcase, the_environment_arms_it_too, SIGKILL, 0, 2);
    tcase_add_test(tcase, a_point_that_is_not_armed_does_nothing);
    tcase_add_test(tcase, a_hook_is_told_each_point);
    tcase_add_test(tcase, every_point_of_the_program_is_listed_once);
    srunner_run_all(runner, CK_ENV);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}

#else

/* Release builds have none: skipped. */
int
main(void)
{
    return 77;
}

#endif
