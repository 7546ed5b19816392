#include "os/futex.h"

#include <limits.h>
#include <linux/futex.h>
#include <linux/posix_types.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

/*
 * The kernel's struct, not libc's, which may have 64-bit times where this call has not.  Newer 32-bit machines have
 * only the call with 64-bit times.
 */
#ifdef SYS_futex
typedef __kernel_long_t futex_time;
#else
#define SYS_futex SYS_futex_time64
typedef int64_t futex_time;
#endif

void
lks_futex_wait(struct lks_a32 *word, uint32_t seen, uint64_t wait_ns)
{
    struct {
        futex_time seconds;
        futex_time nanoseconds;
    } t = {(futex_time)(wait_ns / 1000000000ull), (futex_time)(wait_ns % 1000000000ull)};
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
        futex_time seconds;
        futex_time nanoseconds;
    } t = {(futex_time)(end_ns / 1000000000ull), (futex_time)(end_ns % 1000000000ull)};
    /* Unlike FUTEX_WAIT it takes an instant, of CLOCK_MONOTONIC. */
    (void)syscall(SYS_futex, &word->word, FUTEX_WAIT_BITSET, seen, &t, NULL, bits);
}

bool
lks_futex_wake_bits(struct lks_a32 *word, uint32_t count, uint32_t bits)
{
    return syscall(SYS_futex, &word->word, FUTEX_WAKE_BITSET, count > INT_MAX ? INT_MAX : (int)count, NULL, NULL,
                   bits) > 0;
}
