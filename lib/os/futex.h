/* Sleeping on a word that processes share.  A doorbell only: whoever wakes looks at the state again. */
#ifndef LKS_OS_FUTEX_H
#define LKS_OS_FUTEX_H

#include <stdint.h>

#include "base/atomic.h"

/* Sleeps while *word == seen, at most wait_ns; wakes early for signals and without reason. */
void lks_futex_wait(struct lks_a32 *word, uint32_t seen, uint64_t wait_ns);
void lks_futex_wake(struct lks_a32 *word, uint32_t count);

#endif
