/*
 * A fleet of worker processes: all are started, all get ready, all begin at the same instant, all
 * report.
 */
#ifndef BENCH_WORKERS_H
#define BENCH_WORKERS_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "bench/job.h"

/* Something to look at while they run. */
struct bench_watch {
    uint32_t every_ms;
    void (*look)(void *context, const pid_t *pids, size_t n, uint64_t since_start_ns);
    void *context;
};

struct bench_fleet {
    const struct bench_job *jobs; /* one a process */
    size_t n;
    const struct bench_watch *watch; /* NULL: nobody looks */
    const char *strace_output;       /* NULL, or run the workers under strace -c, summary to here */
};

/*
 * Runs the fleet to its end and fills results[0..n).  False when a worker failed, died or did not
 * report in time: the reason has been printed and no worker is left.
 */
bool bench_fleet_run(const struct bench_fleet *fleet, struct bench_result *results);

/* SIGINT and SIGTERM end the fleet that runs, and every later one at once. */
void bench_fleet_catch_signals(void);
/* The signal that was caught, or 0. */
int bench_fleet_signal(void);

#endif
