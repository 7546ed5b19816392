#include "bench/histogram.h"

#include <math.h>
#include <string.h>

#define SUB_COUNT (1u << BENCH_HISTOGRAM_SUB_BITS)

/*
 * A value keeps its SUB_BITS + 1 highest bits.  The number of bits dropped says which power of two
 * it is, and moves the index on by SUB_COUNT each: up to 2 * SUB_COUNT the index is the value.
 */
static uint32_t
bucket_of(uint64_t ns)
{
    if (ns < 2 * SUB_COUNT)
        return (uint32_t)ns;
    uint32_t dropped = 63u - (uint32_t)__builtin_clzll(ns) - BENCH_HISTOGRAM_SUB_BITS;
    uint32_t index = dropped * SUB_COUNT + (uint32_t)(ns >> dropped);
    return index < BENCH_HISTOGRAM_BUCKETS ? index : BENCH_HISTOGRAM_BUCKETS - 1;
}

/* The highest value that falls into a bucket. */
static uint64_t
bucket_end(uint32_t index)
{
    if (index < 2 * SUB_COUNT)
        return index;
    uint32_t dropped = index / SUB_COUNT - 1;
    uint64_t kept = index - (uint64_t)dropped * SUB_COUNT;
    return ((kept + 1) << dropped) - 1;
}

void
bench_histogram_clear(struct bench_histogram *h)
{
    memset(h, 0, sizeof(*h));
}

void
bench_histogram_add(struct bench_histogram *h, uint64_t ns)
{
    if (h->count == 0 || ns < h->min_ns)
        h->min_ns = ns;
    if (ns > h->max_ns)
        h->max_ns = ns;
    h->count++;
    h->sum_ns += ns;
    h->bucket[bucket_of(ns)]++;
}

void
bench_histogram_merge(struct bench_histogram *into, const struct bench_histogram *from)
{
    if (from->count == 0)
        return;
    if (into->count == 0 || from->min_ns < into->min_ns)
        into->min_ns = from->min_ns;
    if (from->max_ns > into->max_ns)
        into->max_ns = from->max_ns;
    into->count += from->count;
    into->sum_ns += from->sum_ns;
    for (uint32_t i = 0; i < BENCH_HISTOGRAM_BUCKETS; i++)
        into->bucket[i] += from->bucket[i];
}

uint64_t
bench_histogram_at(const struct bench_histogram *h, double share)
{
    if (h->count == 0)
        return 0;
    volatile double exact = share * (double)h->count; /* x87 would leave it a little above a whole number */
    double wanted = ceil(exact);
    uint64_t rank = wanted < 1 ? 1 : (uint64_t)wanted;
    uint64_t seen = 0;
    for (uint32_t i = 0; i < BENCH_HISTOGRAM_BUCKETS - 1; i++) {
        seen += h->bucket[i];
        if (seen >= rank) {
            uint64_t end = bucket_end(i);
            return end < h->max_ns ? end : h->max_ns;
        }
    }
    return h->max_ns;
}

double
bench_histogram_mean(const struct bench_histogram *h)
{
    return h->count == 0 ? 0 : (double)h->sum_ns / (double)h->count;
}
