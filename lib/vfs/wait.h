/*
 * Waiting in SQLite's clothes.
 *
 * xLock must not wait, so a refused RESERVED is remembered in the thread.  SQLite's busy timeout then calls
 * xSleep: there the thread sleeps in the writer queue and comes back early once the lock is reserved for
 * its retry, which takes a fresh snapshot and succeeds.  A busy handler of the application's own never calls
 * xSleep: there the retry's xLock(SHARED) waits, up to lock_wait ms, before it takes its snapshot.
 */
#ifndef LKS_VFS_WAIT_H
#define LKS_VFS_WAIT_H

#include "vfs/vfs.h"

/* xLock(RESERVED) was refused. */
void lks_wait_refused(struct lks_file *file);
/* xLock(RESERVED) was granted. */
void lks_wait_granted(struct lks_file *file);
/* Before xLock(SHARED) takes its snapshot. */
void lks_wait_before_begin(struct lks_file *file);
/* xSleep.  False: this thread waits for no lock of ours, let the parent sleep. */
bool lks_wait_sleep(uint64_t wait_ns);
/* Who holds the writer lock, in words. */
void lks_wait_describe(struct lks_file *file, char *out, size_t capacity);

#endif
