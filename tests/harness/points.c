#include "harness/points.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "harness/actor.h"

#define LANES 4
#define MOST_POINTS 512

static char text[16384];
static const char *points[MOST_POINTS];
static int count;

const char *
points_name(int i)
{
    return points[i];
}

/*
 * By the actor, for it has the whole library in it; there is no test yet that could use one.  -1: it was built without
 * any.
 */
static int
list_points(bool (*is_wanted)(const char *point))
{
    const char *only = getenv("LKS_POINT");
    char command[640];
    char *word;
    FILE *actor;
    size_t got;
    int n = 0;
    snprintf(command, sizeof command, "echo points | '%s' 0 3>/dev/null", actor_program());
    actor = popen(command, "r");
    got = actor != NULL ? fread(text, 1, sizeof text - 1, actor) : 0;
    text[got] = '\0';
    if (actor == NULL || pclose(actor) != 0)
        return 0;
    /* Two answers: to its start, and to the order. */
    word = strchr(text, '\n');
    if (word == NULL)
        return 0;
    word = strtok(word + 1, " \n");
    if (word == NULL || strcmp(word, "0") != 0)
        return -1;
    while ((word = strtok(NULL, " \n")) != NULL && n < MOST_POINTS)
        if (is_wanted(word) && (only == NULL || strcmp(only, word) == 0))
            points[n++] = word;
    return n;
}

/* Every LANES-th point. */
static int
run_lane(int lane, const char *name, void (*add)(TCase *tcase, int n), int timeout_s)
{
    Suite *suite = suite_create(name);
    TCase *tcase = tcase_create("crash points");
    SRunner *runner;
    int failed, n = 0, i;
    for (i = lane; i < count; i += LANES)
        points[n++] = points[i];
    tcase_set_timeout(tcase, timeout_s);
    add(tcase, n);
    suite_add_tcase(suite, tcase);
    runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

int
points_main(const char *suite, void (*add)(TCase *tcase, int n), bool (*is_wanted)(const char *point),
            int timeout_s)
{
    int result = EXIT_SUCCESS, lane, status;
    count = list_points(is_wanted);
    if (count == 0) {
        printf("%s does not tell its crash points\n", actor_program());
        return EXIT_FAILURE;
    }
    if (count < 0) {
        puts("no crash points in this build; configure with --enable-debug");
        return 77;
    }
    fflush(stdout);
    for (lane = 0; lane < LANES && lane < count; lane++) {
        pid_t child = fork();
        if (child == 0)
            exit(run_lane(lane, suite, add, timeout_s));
        if (child < 0)
            result = EXIT_FAILURE;
    }
    while (wait(&status) > 0)
        if (!WIFEXITED(status) || WEXITSTATUS(status) != EXIT_SUCCESS)
            result = EXIT_FAILURE;
    return result;
}
