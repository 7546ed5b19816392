#include "os/map.h"

#include <check.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

static void
child_ends(pid_t pid, int want)
{
    int status = -1;
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    ck_assert(WIFEXITED(status));
    ck_assert_int_eq(WEXITSTATUS(status), want);
}

START_TEST(the_guard_is_lost_in_a_child_which_may_have_its_own)
{
    const volatile char *guard = lks_map_fork_guard();
    pid_t pid;
    ck_assert_int_eq(*guard, 1);
    ck_assert(lks_map_fork_guard() == guard);
    pid = fork();
    ck_assert_int_ge(pid, 0);
    if (pid == 0) {
        const volatile char *own;
        pid_t grandchild;
        if (*guard != 0)
            _exit(1);
        own = lks_map_fork_guard();
        if (own == guard || *own != 1 || *guard != 0 || lks_map_fork_guard() != own)
            _exit(2);
        grandchild = fork();
        if (grandchild == 0)
            _exit(*own == 0 && *guard == 0 && *lks_map_fork_guard() == 1 ? 0 : 1);
        child_ends(grandchild, 0);
        _exit(*own == 1 ? 0 : 3);
    }
    child_ends(pid, 0);
    ck_assert_int_eq(*guard, 1);
    ck_assert(lks_map_fork_guard() == guard);
}
END_TEST

START_TEST(a_mapping_grows_with_its_file)
{
    char name[] = "/tmp/lockstep-map-XXXXXX";
    int fd = mkstemp(name);
    void *base = NULL;
    char got[6] = "";
    ck_assert_int_ge(fd, 0);
    unlink(name);
    ck_assert_int_eq(lks_map_file(fd, 1 << 20, true, &base), LOCKSTEP_OK);
    ck_assert_int_eq(ftruncate(fd, 8192), 0);
    memcpy((char *)base + 8000, "hello", 5);
    ck_assert_int_eq(pread(fd, got, 5, 8000), 5);
    ck_assert_str_eq(got, "hello");
    lks_map_release(base, 1 << 20);
    close(fd);
}
END_TEST

/* qemu-user takes any advice, also one that there is not, and follows none about fork(). */
static bool
advice_is_heard(void)
{
    void *page = NULL;
    bool heard = posix_memalign(&page, 65536, 65536) != 0 || madvise(page, 65536, -1) != 0;
    free(page);
    return heard;
}

START_TEST(a_mapping_does_not_enter_a_child)
{
    void *base = NULL;
    unsigned char page;
    pid_t pid;
    ck_assert_int_eq(lks_map_file(-1, 1 << 16, true, &base), LOCKSTEP_OK);
    memset(base, 7, 4096);
    pid = fork();
    ck_assert_int_ge(pid, 0);
    if (pid == 0) {
        /* A system call on memory that is not there fails instead of killing. */
        int fds[2];
        if (pipe(fds) != 0)
            _exit(1);
        _exit(write(fds[1], base, 1) == -1 ? 0 : 2);
    }
    child_ends(pid, 0);
    page = *(unsigned char *)base;
    ck_assert_uint_eq(page, 7);
    lks_map_release(base, 1 << 16);
}
END_TEST

int
main(void)
{
    Suite *suite = suite_create("map");
    TCase *tcase = tcase_create("map");
    SRunner *runner = srunner_create(suite);
    int failed;
    suite_add_tcase(suite, tcase);
    tcase_add_test(tcase, the_guard_is_lost_in_a_child_which_may_have_its_own);
    tcase_add_test(tcase, a_mapping_grows_with_its_file);
    if (advice_is_heard())
        tcase_add_test(tcase, a_mapping_does_not_enter_a_child);
    else
        printf("a_mapping_does_not_enter_a_child: skipped, madvise() does nothing here (qemu-user?)\n");
    srunner_run_all(runner, CK_ENV);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
