/* Instants in ns of CLOCK_MONOTONIC, which all processes of the machine share. */
#ifndef BENCH_MOMENT_H
#define BENCH_MOMENT_H

#include <errno.h>
#include <stdint.h>
#include <time.h>

#define BENCH_NS_PER_MS 1000000ull
#define BENCH_NS_PER_S 1000000000ull

static inline uint64_t
bench_moment_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * BENCH_NS_PER_S + (uint64_t)now.tv_nsec;
}

static inline void
bench_moment_sleep_until(uint64_t ns)
{
    struct timespec when = {.tv_sec = (time_t)(ns / BENCH_NS_PER_S),
                            .tv_nsec = (long)(ns % BENCH_NS_PER_S)};
    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &when, NULL) == EINTR)
        ;
}

#endif
