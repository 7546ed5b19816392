/* Memory that processes share: one mapping of a file, with room for it to grow. */
#ifndef LKS_OS_MAP_H
#define LKS_OS_MAP_H

#include <stdbool.h>
#include <stddef.h>

#include "base/status.h"

/*
 * Maps `fd` from its start with size_bytes of address space, which may reach beyond the end of the file:
 * pages become usable as the file grows.  fd < 0: private memory of the same shape.  The mapping does
 * not enter a fork()ed child.
 */
enum lockstep_status lks_map_file(int fd, size_t size_bytes, bool writable, void **out_base);
/* The first size_bytes of `fd`, open for reading at least, copied when they are written: nothing gets into the file. */
enum lockstep_status lks_map_copy(int fd, size_t size_bytes, void **out_base);
void lks_map_release(void *base, size_t size_bytes);
/* Private memory that is not needed now: it reads as zeros and takes no space until it is written again. */
void lks_map_forget(void *start, size_t size_bytes);

/*
 * A byte that is 1 here and 0 in a child of fork(), however the fork was made.  It costs one load.
 */
const volatile char *lks_map_fork_guard(void);

#endif
