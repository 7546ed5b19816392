#include "base/clock.h"

#include <errno.h>
#include <sched.h>
#include <time.h>

static uint64_t
read_clock(clockid_t which)
{
    struct timespec t;
    clock_gettime(which, &t);
    return (uint64_t)t.tv_sec * 1000000000ull + (uint64_t)t.tv_nsec;
}

uint64_t
lks_clock_ns(void)
{
    return read_clock(CLOCK_MONOTONIC);
}

uint64_t
lks_clock_coarse_ns(void)
{
    return read_clock(CLOCK_MONOTONIC_COARSE);
}

void
lks_clock_nap_ms(uint32_t ms)
{
    struct timespec t = {.tv_sec = ms / 1000, .tv_nsec = (long)(ms % 1000) * 1000000l};
    while (nanosleep(&t, &t) != 0 && errno == EINTR)
        ;
}

void
lks_clock_yield(void)
{
    (void)sched_yield();
}
