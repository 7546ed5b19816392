/* lockstep top DB: status and locks, again and again, with what has happened in between. */
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include <lockstep/inspect.h>

#include "tools/commands.h"
#include "tools/render.h"
#include "tools/subject.h"

#define DEFAULT_DELAY_S 1.0
#define CLEAR_SCREEN "\033[H\033[2J"

struct moment {
    struct timespec when;
    uint64_t committed, batches;
};

static void
print_help(void)
{
    printf("Usage: lockstep top [options] DB\n\n"
           "What \"lockstep status\" and \"lockstep locks\" print, again and again until interrupted.\n"
           "\nOptions:\n"
           "  -c, --count NUMBER   look so many times\n"
           "  -d, --delay SECONDS  time between two looks (1)\n"
           "  -h, --help           print this and exit\n"
           "  -V, --version        print the version and exit\n");
}

/* A number above 0 that is all of `word`. */
static bool
parse_positive(const char *word, double *out_value)
{
    char *end;
    double value = strtod(word, &end);
    if (end == word || *end != '\0' || !(value > 0 && value < 1e6))
        return false;
    *out_value = value;
    return true;
}

static void
nap(double seconds)
{
    struct timespec left = {.tv_sec = (time_t)seconds};
    left.tv_nsec = (long)((seconds - (double)left.tv_sec) * 1e9);
    while (nanosleep(&left, &left) != 0 && errno == EINTR)
        ;
}

/* A coordination file that was made anew begins to count again. */
static void
print_rates(const struct lockstep_db_info *info, struct moment *before)
{
    struct moment now = {.committed = info->committed, .batches = info->batches};
    double seconds;
    clock_gettime(CLOCK_MONOTONIC, &now.when);
    seconds = (double)(now.when.tv_sec - before->when.tv_sec) +
              (double)(now.when.tv_nsec - before->when.tv_nsec) / 1e9;
    if (before->committed != 0 && now.committed >= before->committed && now.batches >= before->batches)
        printf("%.0f commits/s, %.1f batches/s\n\n", (double)(now.committed - before->committed) / seconds,
               (double)(now.batches - before->batches) / seconds);
    *before = now;
}

static int
look(const char *path, struct moment *before)
{
    const struct lks_render_options options = {0};
    struct lockstep_inspection *inspection = lks_subject_open(path);
    int status;
    if (inspection == NULL)
        return LKS_EXIT_FAILURE;
    if (isatty(STDOUT_FILENO))
        fputs(CLEAR_SCREEN, stdout);
    else if (before->when.tv_sec != 0)
        putchar('\n');
    print_rates(&lockstep_inspect_database(inspection)->info, before);
    status = lks_status_print(inspection, &options);
    putchar('\n');
    if (status == LKS_EXIT_OK)
        status = lks_locks_print(inspection, &options);
    lockstep_inspect_close(inspection);
    return status;
}

int
lks_cmd_top(int argc, char **argv)
{
    static const struct option longs[] = {
        {"count", required_argument, NULL, 'c'},
        {"delay", required_argument, NULL, 'd'},
        {"help", no_argument, NULL, 'h'},
        {"version", no_argument, NULL, 'V'},
        {NULL, 0, NULL, 0},
    };
    struct moment before = {0};
    double delay_s = DEFAULT_DELAY_S, count = 0;
    int c, status;
    while ((c = getopt_long(argc, argv, "c:d:hV", longs, NULL)) != -1)
        switch (c) {
        case 'c':
        case 'd':
            if (parse_positive(optarg, c == 'c' ? &count : &delay_s))
                break;
            lks_complain("top: %s is not a number above 0", optarg);
            return lks_usage_error("top");
        case 'h': print_help(); return lks_close_stdout();
        case 'V': return lks_print_version();
        default: return lks_usage_error("top");
        }
    if (argc - optind != 1) {
        lks_complain("top: give the name of one database file");
        return lks_usage_error("top");
    }
    for (double i = 1;; i++) {
        status = look(argv[optind], &before);
        if (status != LKS_EXIT_OK || (count > 0 && i >= count))
            return status;
        nap(delay_s);
    }
}
