#include "os/futex.h"

#include <limits.h>
#include <linux/futex.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

/* 32-bit machines with 64-bit time have another number for it. */
#if !defined(SYS_futex) && defined(SYS_futex_time64)
#define SYS_futex SYS_futex_time64
#endif

void
lks_futex_wait(struct lks_a32 *word, uint32_t seen, uint64_t wait_ns)
{
    struct {
        long seconds;
        long nanoseconds;
    } t = {(long)(wait_ns / 1000000000ull), (long)(wait_ns % 1000000000ull)};
    (void)syscall(SYS_futex, &word->word, FUTEX_WAIT, seen, &t, NULL, 0);
}

void
lks_futex_wake(struct lks_a32 *word, uint32_t count)
{
    (void)syscall(SYS_futex, &word->word, FUTEX_WAKE, count > INT_MAX ? INT_MAX : (int)count, NULL, NULL,
                  0);
}

void
lks_futex_wait_bits(struct lks_a32 *word, uint32_t seen, uint64_t end_ns, uint32_t bits)
{
    struct {
        long seconds;
        long nanoseconds;
    } t = {(long)(end_ns / 1000000000ull), (long)(end_ns % 1000000000ull)};
    /* Unlike FUTEX_WAIT it takes an instant, of CLOCK_MONOTONIC. */
    (void)syscall(SYS_futex, &word->word, FUTEX_WAIT_BITSET, seen, &t, NULL, bits);
}

void
lks_futex_wake_bits(struct lks_a32 *word, uint32_t count, uint32_t bits)
{
    (void)syscall(SYS_futex, &word->word, FUTEX_WAKE_BITSET, count > INT_MAX ? INT_MAX : (int)count, NULL,
                  NULL, bits);
}
