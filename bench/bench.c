#include "bench/bench.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "bench/machine.h"
#include "bench/trial.h"
#include "bench/worker.h"
#include "bench/workload.h"

enum { EXIT_DONE = 0, EXIT_WRONG = 1, EXIT_USAGE = 2 };

static const struct bench_workload *const workloads[] = {
    &bench_workload_write,      &bench_workload_read,      &bench_workload_write_many,
    &bench_workload_full,       &bench_workload_full_many, &bench_workload_scan_write,
    &bench_workload_slow_disk,  &bench_workload_long_reader,
    &bench_workload_wal_full,   &bench_workload_wal_full_many,
    &bench_workload_wal_normal_many, &bench_workload_wal_normal_tail,
    &bench_workload_wal_read,
    &bench_workload_shm_read,
    &bench_workload_shm_write,
    &bench_workload_shm_write_many,
};

#define WORKLOADS (sizeof(workloads) / sizeof(workloads[0]))

struct request {
    struct bench_options options;
    bool wanted[WORKLOADS];
};

/* ---- the command line ---- */

enum {
    OPTION_HELP = 'h',
    OPTION_FULL = 256,
    OPTION_QUICK,
    OPTION_LIST,
    OPTION_JSON,
    OPTION_STRICT,
    OPTION_CALIBRATE,
    OPTION_KEEP,
    OPTION_DIR,
    OPTION_ROUNDS,
    OPTION_DURATION,
    OPTION_PROCESSES,
    OPTION_ROWS,
    OPTION_CACHE,
    OPTION_RATE,
    OPTION_SYNC_LATENCY
};

static const struct option options[] = {
    {"help", no_argument, NULL, OPTION_HELP},
    {"full", no_argument, NULL, OPTION_FULL},
    {"quick", no_argument, NULL, OPTION_QUICK},
    {"list", no_argument, NULL, OPTION_LIST},
    {"json", no_argument, NULL, OPTION_JSON},
    {"strict", no_argument, NULL, OPTION_STRICT},
    {"calibrate", no_argument, NULL, OPTION_CALIBRATE},
    {"keep", no_argument, NULL, OPTION_KEEP},
    {"dir", required_argument, NULL, OPTION_DIR},
    {"rounds", required_argument, NULL, OPTION_ROUNDS},
    {"duration", required_argument, NULL, OPTION_DURATION},
    {"processes", required_argument, NULL, OPTION_PROCESSES},
    {"rows", required_argument, NULL, OPTION_ROWS},
    {"cache", required_argument, NULL, OPTION_CACHE},
    {"rate", required_argument, NULL, OPTION_RATE},
    {"sync-latency", required_argument, NULL, OPTION_SYNC_LATENCY},
    {NULL, 0, NULL, 0},
};

static void
print_help(void)
{
    fputs("Usage: lockstep bench [OPTION...] [WORKLOAD...]\n"
          "\n"
          "Runs each workload on SQLite's own VFS and on Lockstep, in turn, on copies of one\n"
          "database, and prints how they compare. Without a WORKLOAD all of them are run.\n"
          "\n"
          "      --list             the workloads\n"
          "      --quick            short runs, about a minute in all (the default)\n"
          "      --full             long ones, about a quarter of an hour\n"
          "      --rounds N         rounds of each side (1 to 32)\n"
          "      --duration S       seconds a run\n"
          "      --processes N      processes in the workloads that have many (2 to 250)\n"
          "      --rows N           rows in the table\n"
          "      --cache KIB        SQLite's page cache a connection, on both sides\n"
          "      --rate N           N operations a second on a schedule, latency counted from\n"
          "                         there, in place of as many as possible\n"
          "      --sync-latency MS  a slow disk under both sides: every sync takes MS longer\n"
          "      --calibrate        stock SQLite on both sides: how far chance takes the ratios\n"
          "                         from 1\n"
          "      --dir DIR          where the databases are made ($TMPDIR, else here)\n"
          "      --keep             leave them there\n"
          "      --json             all results as JSON, in place of tables\n"
          "      --strict           exit with 1 when a target is missed\n"
          "  -h, --help             this\n"
          "\n"
          "Exit status: 0 all ran and every database was right, 1 something failed, 2 usage.\n",
          stdout);
}

static void
print_list(void)
{
    for (size_t i = 0; i < WORKLOADS; i++)
        printf("%-12s %s\n", workloads[i]->name, workloads[i]->summary);
}

/* A number in a range; the whole argument. */
static bool
parse_number(const char *option, const char *text, double low, double high, double *out_number)
{
    char *end;
    errno = 0;
    double number = strtod(text, &end);
    if (errno != 0 || end == text || *end != '\0' || !(number >= low && number <= high))
        return bench_error("--%s: %s is not a number from %.10g to %.10g", option, text, low, high);
    *out_number = number;
    return true;
}

static bool
parse_count(const char *option, const char *text, double low, double high, uint32_t *out_count)
{
    double number;
    if (!parse_number(option, text, low, high, &number))
        return false;
    if (number != (uint32_t)number)
        return bench_error("--%s: %s is not a whole number", option, text);
    *out_count = (uint32_t)number;
    return true;
}

static bool
parse_option(int option, const char *argument, struct bench_options *o)
{
    double milliseconds;
    switch (option) {
    case OPTION_FULL:
        o->full = true;
        return true;
    case OPTION_QUICK:
        o->full = false;
        return true;
    case OPTION_JSON:
        o->json = true;
        return true;
    case OPTION_STRICT:
        o->strict = true;
        return true;
    case OPTION_CALIBRATE:
        o->calibrate = true;
        return true;
    case OPTION_KEEP:
        o->keep = true;
        return true;
    case OPTION_DIR:
        o->parent_directory = argument;
        return true;
    case OPTION_ROUNDS:
        return parse_count("rounds", argument, 1, BENCH_ROUNDS_MAX, &o->rounds);
    case OPTION_DURATION:
        return parse_number("duration", argument, 0.05, 3600, &o->seconds);
    case OPTION_PROCESSES:
        return parse_count("processes", argument, 2, 250, &o->processes);
    case OPTION_ROWS:
        return parse_count("rows", argument, 1, 1e8, &o->rows);
    case OPTION_CACHE:
        return parse_count("cache", argument, 1, 1e7, &o->cache_kib);
    case OPTION_RATE:
        return parse_number("rate", argument, 0.1, 1e7, &o->rate);
    case OPTION_SYNC_LATENCY:
        if (!parse_number("sync-latency", argument, 0.01, 10000, &milliseconds))
            return false;
        o->sync_latency_us = (uint32_t)(milliseconds * 1000 + 0.5);
        return true;
    default:
        return false; /* getopt has said why */
    }
}

static bool
want(const char *name, struct request *request)
{
    for (size_t i = 0; i < WORKLOADS; i++) {
        if (strcmp(workloads[i]->name, name) == 0) {
            request->wanted[i] = true;
            return true;
        }
    }
    return bench_error("there is no workload %s; --list names them", name);
}

/* True: go on with the request.  False: end with *out_status. */
static bool
parse(int argc, char **argv, struct request *request, int *out_status)
{
    int option;
    *out_status = EXIT_USAGE;
    optind = 0; /* glibc and musl: start anew, whoever used getopt before */
    while ((option = getopt_long(argc, argv, "h", options, NULL)) != -1) {
        if (option == OPTION_HELP || option == OPTION_LIST) {
            option == OPTION_HELP ? print_help() : print_list();
            *out_status = fflush(stdout) == 0 ? EXIT_DONE : EXIT_WRONG;
            return false;
        }
        if (!parse_option(option, optarg, &request->options)) {
            fputs("Try 'lockstep bench --help'.\n", stderr);
            return false;
        }
    }
    for (int i = optind; i < argc; i++) {
        if (!want(argv[i], request))
            return false;
    }
    for (size_t i = 0; i < WORKLOADS && optind == argc; i++)
        request->wanted[i] = true;
    return true;
}

/* ---- running ---- */

static bool
make_directory(struct bench_context *context)
{
    const char *parent = context->options.parent_directory;
    if (parent == NULL)
        parent = getenv("TMPDIR");
    if (parent == NULL || *parent == '\0')
        parent = ".";
    /* Leaves room for the names of files. */
    int length = snprintf(context->directory, sizeof(context->directory),
                          "%s/lockstep-bench-XXXXXX", parent);
    if (length < 0 || (size_t)length >= sizeof(context->directory))
        return bench_error("%s: the path is too long", parent);
    if (mkdtemp(context->directory) == NULL)
        return bench_error("%s: %s", context->directory, strerror(errno));
    snprintf(context->database, sizeof(context->database), "%s/test.db", context->directory);
    return true;
}

static void
remove_directory(struct bench_context *context)
{
    if (context->options.keep) {
        fprintf(stderr, "lockstep bench: the databases are in %s\n", context->directory);
        return;
    }
    bench_database_remove(context->database);
    for (size_t i = 0; i < context->n_originals; i++)
        bench_database_remove(context->originals[i].path);
    if (rmdir(context->directory) != 0)
        bench_error("%s: %s", context->directory, strerror(errno));
}

static void
describe_options(struct bench_context *context)
{
    const struct bench_options *o = &context->options;
    struct bench_job job = bench_job_make(context, BENCH_WRITE, 0, 1, 1);
    bench_report_fact(context->report, "database",
                      "%u rows, pages of %d, cache %u KiB a connection",
                      bench_context_contents(context).rows, BENCH_PAGE_BYTES, job.cache_kib);
    if (o->sync_latency_us > 0)
        bench_report_fact(context->report, "sync latency", "%.10g ms more a sync", o->sync_latency_us / 1000.0);
    if (o->rate > 0)
        bench_report_fact(context->report, "rate", "%g operations a second, on a schedule",
                          o->rate);
    if (o->calibrate)
        bench_report_fact(context->report, "calibration", "stock SQLite on both sides");
#ifndef NDEBUG
    bench_report_fact(context->report, "warning", "a build with assertions: it is slower");
#endif
}

static bool
run_workload(struct bench_context *context, const struct bench_workload *workload)
{
    const struct bench_options *o = &context->options;
    struct bench_extent extent = o->full ? workload->full : workload->quick;
    if (o->rounds > 0)
        extent.rounds = o->rounds;
    if (o->seconds > 0)
        extent.seconds = o->seconds;
    context->workload = workload->name;
    bench_report_workload(context->report, workload->name, workload->summary);
    if (!workload->run(context, &extent))
        return false;
    bench_report_note(context->report, "%u rounds of %g s a side", extent.rounds, extent.seconds);
    bench_report_workload_end(context->report);
    return true;
}

/* A workload that fails does not keep the others from being measured; a signal does. */
static bool
run_wanted(struct bench_context *context, const struct request *request)
{
    bool ok = true;
    for (size_t i = 0; i < WORKLOADS; i++)
        context->total += request->wanted[i];
    for (size_t i = 0; i < WORKLOADS && bench_fleet_signal() == 0; i++) {
        if (!request->wanted[i])
            continue;
        context->position++;
        if (!run_workload(context, workloads[i])) {
            bench_error("%s failed", workloads[i]->name);
            ok = false;
        }
    }
    return ok && bench_fleet_signal() == 0;
}

static int
run(const struct request *request)
{
    static struct bench_context context;
    bool ok = false;
    context.options = request->options;
    context.report = bench_report_new(request->options.json);
    if (context.report == NULL) {
        bench_error("out of memory");
        return EXIT_WRONG;
    }
    if (!make_directory(&context))
        goto free_report;
    bench_fleet_catch_signals();
    if (request->options.calibrate)
        bench_report_ignore_targets(context.report);
    if (!bench_machine_describe(context.report, context.directory))
        goto remove_directory;
    describe_options(&context);
    bench_report_start(context.report);
    ok = run_wanted(&context, request);
    if (!bench_report_finish(context.report))
        ok = bench_error("writing the report: %s", strerror(errno));
    if (request->options.strict && bench_report_missed(context.report) > 0)
        ok = false;
remove_directory:
    remove_directory(&context);
free_report:
    bench_report_free(context.report);
    return ok ? EXIT_DONE : EXIT_WRONG;
}

int
lks_cmd_bench(int argc, char **argv)
{
    struct request request = {0};
    int status;
    if (argc == 2 && strcmp(argv[1], "--worker") == 0)
        return bench_worker_main();
    return parse(argc, argv, &request, &status) ? run(&request) : status;
}

#ifdef BENCH_MAIN
/* The benchmark as a program of its own: with or without the subcommand's name. */
int
main(int argc, char **argv)
{
    int skip = argc > 1 && strcmp(argv[1], "bench") == 0;
    return lks_cmd_bench(argc - skip, argv + skip);
}
#endif
