#include "bench/workload.h"

/* Holds the database: nothing is read from the file but what a transaction must look at. */
#define READ_CACHE_KIB 65536
/* Little time is spent on the clock. */
#define READ_TIME_EVERY 16

struct bench_job
bench_read_job(const struct bench_context *context, double seconds)
{
    struct bench_job job = bench_job_make(context, BENCH_READ, 0, 1, seconds);
    if (context->options.cache_kib == 0)
        job.cache_kib = READ_CACHE_KIB;
    if (job.interval_ns == 0)
        job.time_every = READ_TIME_EVERY;
    return job;
}

bool
bench_compare_sides(struct bench_context *context, const struct bench_extent *extent, enum bench_role role,
                    const struct bench_side *sides, size_t n_sides, uint32_t processes, struct bench_row *rows)
{
    struct bench_comparison comparison = {
        .sides = sides,
        .n_sides = n_sides,
        .job = role == BENCH_READ ? bench_read_job(context, extent->seconds)
                                  : bench_job_make(context, role, 0, processes, extent->seconds),
        .processes = processes,
        .rounds = extent->rounds,
        .contents = bench_context_contents(context),
    };
    return bench_compare(context, &comparison, rows);
}
