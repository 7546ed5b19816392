/*
 * Who holds and who waits for locks on a file, and what is to be learnt of the holders: /proc/locks,
 * /proc/PID/fdinfo, /proc/PID/stat.
 *
 * The files themselves are never opened: closing any descriptor of a file drops all the POSIX locks that
 * the calling process has on it.  `proc` is where procfs is mounted, "/proc" but in tests.
 *
 * The kernel lists locks a page at a time, and when locks are dropped meanwhile it leaves out some that stay.  Where the list
 * is longer than that, the descriptors of all processes are asked as well: a lock that a process which we may look at holds
 * all the while is there.  Who waits, and what processes of others hold, may be missing where many locks come and go.
 * Holders outside our pid namespace are not listed by it (Linux 4.14), or as process 0.
 */
#ifndef LKS_OS_PROCLOCKS_H
#define LKS_OS_PROCLOCKS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"
#include "os/file.h"
#include "os/lockline.h"
#include "os/process.h"

/*
 * All locks on the files of these names, waiters after the holders they wait for.  A description's lock is
 * listed once for each process that has the description and that may be looked at.  free() *out_locks.
 * Names that lead nowhere are passed over.  IOERR or CANTOPEN: /proc is missing; NOMEM.
 */
LKS_CHECKED enum lockstep_status lks_proclocks_collect(const char *proc, const char *const *paths,
                                                       size_t path_count,
                                                       struct lks_proclock **out_locks,
                                                       size_t *out_count);

/*
 * Has this process a record lock of its own on the file, at byte `first` or behind it?  Asks no list, only the process's
 * descriptors, so it is exact.  False if /proc is missing.
 */
bool lks_proclocks_own(const struct lks_file_id *file, uint64_t first);

struct lks_proclocks_process {
    char program[LKS_PROGRAM_SIZE]; /* as the kernel has it: 15 bytes */
    char state;                     /* 'R', 'S', 'D', 'T', ... */
    uint64_t start_time;            /* clock ticks since boot */
};

/* False if there is no such process, or we may not know. */
bool lks_proclocks_look(const char *proc, int32_t pid, struct lks_proclocks_process *out_process);

#endif
