/* Sleeping on a word that processes share.  A doorbell only: whoever wakes looks at the state again. */
#ifndef LKS_OS_FUTEX_H
#define LKS_OS_FUTEX_H

#include <stdbool.h>
#include <stdint.h>

#include "base/atomic.h"

/* Sleeps while *word == seen, at most wait_ns; wakes early for signals and without reason. */
void lks_futex_wait(struct lks_a32 *word, uint32_t seen, uint64_t wait_ns);
void lks_futex_wake(struct lks_a32 *word, uint32_t count);

/*
 * The same until an instant of lks_clock_ns(), for sleepers of several kinds on one word: woken are those with a bit
 * among `bits`, which is not 0.  lks_futex_wake() wakes all kinds.
 */
void lks_futex_wait_bits(struct lks_a32 *word, uint32_t seen, uint64_t end_ns, uint32_t bits);
/* True: somebody was woken. */
bool lks_futex_wake_bits(struct lks_a32 *word, uint32_t count, uint32_t bits);

#endif
