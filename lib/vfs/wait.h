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

/*
 * From here on nobody sleeps for the file, until lks_wait_unbar(): waits for who does, 0.1 s at most.  In a child of fork()
 * nobody does, whatever came along.
 */
void lks_wait_bar(struct lks_file *file);
void lks_wait_unbar(struct lks_file *file);
/*
 * A thread is about to lock the file.  SQLite does not say for which connection a thread sleeps; so the one that was
 * refused last may do so for a connection that it has given to this thread.  It is waited for, 0.1 s at most, and does not
 * begin to after this.
 */
void lks_wait_claim(struct lks_file *file);
static inline void
lks_wait_before_lock(struct lks_file *file)
{
    if (file->refused_by != NULL)
        lks_wait_claim(file);
}
/* xLock(RESERVED) was refused. */
void lks_wait_refused(struct lks_file *file);
/* xLock(RESERVED) was granted. */
void lks_wait_granted(struct lks_file *file);
/* Before xLock(SHARED) takes its snapshot. */
void lks_wait_before_begin(struct lks_file *file);
/*
 * xSleep.  For how long the parent is to sleep: this thread waits for no lock of ours, or for one of a connection that
 * another thread uses meanwhile.  0: it has slept.
 */
uint64_t lks_wait_sleep(uint64_t wait_ns);
/* Who holds the writer lock, in words. */
void lks_wait_describe(struct lks_file *file, char *out, size_t capacity);

#endif
