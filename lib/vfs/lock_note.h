/*
 * Notes of the files that this process has locked at the parent VFS, for its children of fork().
 *
 * SQLite has a table of the locks of its process, one entry a file, and asks the kernel for a lock only if the table does not
 * have it.  A child inherits the table, but no lock: as long as it carries a connection that had the database locked, one
 * of its own on the same file has no SHARED lock and no dead man's switch, and a read lock only by chance.  The last of the
 * others to close takes the database for his own then, and removes the log under the child, whose commits are lost
 * (test_wal_fork).  A connection in WAL mode has SHARED as long as it is open.  So the child's own is refused until what it
 * carries is closed; the checkpointer's connection it cannot close.  Stock connections are not seen here.
 *
 * field       changed under
 * the list    the mutex, which a fork waits for
 * locked      the mutex: before the lock is taken, after it was given up
 * the others  nobody, once the note is in the list
 *
 * Any thread.  The mutex is a leaf.
 */
#ifndef LKS_VFS_LOCK_NOTE_H
#define LKS_VFS_LOCK_NOTE_H

#include <stdbool.h>

#include "base/status.h"

struct lks_lock_note;

/* Of the file that `path` leads to now.  NOMEM; or what stat() says. */
enum lockstep_status lks_lock_note_open(const char *path, struct lks_lock_note **out_note);
/* Also one that was carried across fork().  NULL is nobody. */
void lks_lock_note_close(struct lks_lock_note *note);
void lks_lock_note_set(struct lks_lock_note *note, bool locked);
/* Does this process carry a lock of its parent's on the file that `path` leads to? */
bool lks_lock_note_is_carried(const char *path);

#endif
