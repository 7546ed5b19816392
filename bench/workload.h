/* The workloads. */
#ifndef BENCH_WORKLOAD_H
#define BENCH_WORKLOAD_H

#include <stdbool.h>

#include "bench/trial.h"

/* How long a workload takes: rounds of so many seconds a side. */
struct bench_extent {
    uint32_t rounds;
    double seconds;
};

struct bench_workload {
    const char *name;
    const char *summary;
    struct bench_extent quick;
    struct bench_extent full;
    /* Fills the report's current section.  False after a message. */
    bool (*run)(struct bench_context *context, const struct bench_extent *extent);
};

/* The job of one process that reads by key from a database that is in its cache. */
struct bench_job bench_read_job(const struct bench_context *context, double seconds);
/* `processes` that all do the same, or one that reads, bench_read_job().  See bench_compare(). */
bool bench_compare_sides(struct bench_context *context, const struct bench_extent *extent, enum bench_role role,
                         const struct bench_side *sides, size_t n_sides, uint32_t processes,
                         struct bench_row *rows);

extern const struct bench_workload bench_workload_write;
extern const struct bench_workload bench_workload_write_many;
extern const struct bench_workload bench_workload_full;
extern const struct bench_workload bench_workload_full_many;
extern const struct bench_workload bench_workload_read;
extern const struct bench_workload bench_workload_scan_write;
extern const struct bench_workload bench_workload_slow_disk;
extern const struct bench_workload bench_workload_long_reader;
extern const struct bench_workload bench_workload_wal_full;
extern const struct bench_workload bench_workload_wal_full_many;
extern const struct bench_workload bench_workload_wal_normal_many;
extern const struct bench_workload bench_workload_wal_normal_tail;
extern const struct bench_workload bench_workload_wal_read;
extern const struct bench_workload bench_workload_shm_read;
extern const struct bench_workload bench_workload_shm_write;
extern const struct bench_workload bench_workload_shm_write_many;

/* The sides that several workloads compare. */
extern const struct bench_side bench_side_wal_off;
extern const struct bench_side bench_side_wal_normal;
extern const struct bench_side bench_side_delete_full;
extern const struct bench_side bench_side_lockstep_async;
extern const struct bench_side bench_side_lockstep_full;

#endif
