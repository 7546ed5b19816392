/*
 * Times in logarithmic buckets: 32 to each power of two, so that a percentile is at most 1/32 too
 * high.  Exact below 64 ns.  Plain data: it is sent through pipes and added up.
 */
#ifndef BENCH_HISTOGRAM_H
#define BENCH_HISTOGRAM_H

#include <stdint.h>

#define BENCH_HISTOGRAM_SUB_BITS 5
#define BENCH_HISTOGRAM_MAX_BITS 42 /* an hour and more; longer times count in the last bucket */
#define BENCH_HISTOGRAM_BUCKETS \
    ((BENCH_HISTOGRAM_MAX_BITS - BENCH_HISTOGRAM_SUB_BITS + 1) << BENCH_HISTOGRAM_SUB_BITS)

struct bench_histogram {
    uint64_t count;
    uint64_t sum_ns;
    uint64_t min_ns; /* 0 while empty */
    uint64_t max_ns; /* exact, not a bucket's bound */
    uint64_t bucket[BENCH_HISTOGRAM_BUCKETS];
};

void bench_histogram_clear(struct bench_histogram *h);
void bench_histogram_add(struct bench_histogram *h, uint64_t ns);
void bench_histogram_merge(struct bench_histogram *into, const struct bench_histogram *from);

/*
 * The smallest time in ns that at least `share` (0 to 1) of all values do not exceed, rounded up to
 * its bucket's end but never above the maximum.  0 for an empty histogram.
 */
uint64_t bench_histogram_at(const struct bench_histogram *h, double share);
double bench_histogram_mean(const struct bench_histogram *h);

#endif
