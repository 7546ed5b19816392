/* Time, in the clock that all processes of one boot share (CLOCK_MONOTONIC). */
#ifndef LKS_BASE_CLOCK_H
#define LKS_BASE_CLOCK_H

#include <stdint.h>

#define LKS_NS_PER_MS 1000000ull

uint64_t lks_clock_ns(void);
/* To some milliseconds, for "since when": a few nanoseconds a call. */
uint64_t lks_clock_coarse_ns(void);
/* Sleeps at least this long, through signals.  For back-off in paths that other processes hold up. */
void lks_clock_nap_ms(uint32_t ms);
/* Lets others have the processor that wait for it; comes back at once if there are none. */
void lks_clock_yield(void);

#endif
