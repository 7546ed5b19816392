/*
 * Byte-range locks, in both of Linux's kinds.
 *
 * LKS_LOCK_PROCESS: POSIX record locks.  Owned by the process; dropped when it dies or closes ANY
 * descriptor of the file; F_GETLK names the holder.  They never conflict within one process.
 * LKS_LOCK_DESCRIPTION: open-file-description locks.  Owned by the open(); conflict with POSIX locks
 * of everybody, the same process included; F_GETLK says -1 for the holder.
 *
 * None of these calls waits.  fcntl() orders no memory.
 */
#ifndef LKS_OS_BYTELOCK_H
#define LKS_OS_BYTELOCK_H

#include <stdbool.h>
#include <stdint.h>

#include "base/status.h"

enum lks_lock_kind { LKS_LOCK_PROCESS, LKS_LOCK_DESCRIPTION };
enum lks_lock_type { LKS_LOCK_SHARED, LKS_LOCK_EXCLUSIVE };

/* OK, BUSY (held by another), or an error. */
enum lockstep_status lks_bytelock_try(int fd, enum lks_lock_kind kind, enum lks_lock_type type,
                                      uint64_t offset, uint64_t size);
void lks_bytelock_release(int fd, enum lks_lock_kind kind, uint64_t offset, uint64_t size);
/*
 * Who would refuse a lock of this type: *out_pid is 0 (nobody), a process id as seen from this pid
 * namespace, or -1 (an open file description, or a process outside the namespace).  Takes nothing.
 */
enum lockstep_status lks_bytelock_holder(int fd, enum lks_lock_kind kind, enum lks_lock_type type,
                                         uint64_t offset, uint64_t size, int32_t *out_pid);

#endif
