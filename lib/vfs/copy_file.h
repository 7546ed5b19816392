/*
 * A main database file of the parent's whose wal-index is shared by copying: shm=copy.  Nothing else is changed, call for
 * call, so Lockstep's own file lies over it as over the parent's.
 *
 *   LKS_SHM_COPY   the area is the `-shm` file; the parent keeps the locks and the dead man's switch, without mapping
 *   LKS_SHM_HEAP   the area is memory of the process, and so are all locks: multi_process=0
 *
 * The checkpointer's connection, which does without the rest of Lockstep, uses the VFS of the same name.
 */
#ifndef LKS_VFS_COPY_FILE_H
#define LKS_VFS_COPY_FILE_H

#include <stdbool.h>

#include "vfs/sqlite.h"

enum lks_shm_kind { LKS_SHM_NATIVE, LKS_SHM_COPY, LKS_SHM_HEAP };

/* "lockstep-copy" or "lockstep-heap", registered over the parent when it is asked for first; NATIVE: the parent. */
sqlite3_vfs *lks_copy_vfs(enum lks_shm_kind kind);
void lks_copy_vfs_unregister(void);
/* xOpen of a main database file into `file`, of lks_copy_file_bytes() and the parent's szOsFile. */
int lks_copy_file_open(enum lks_shm_kind kind, const char *name, sqlite3_file *file, int flags, int *out_flags);
int lks_copy_file_bytes(void);
/* Could WRITE be had?  The copy is not touched: the thread may be one that only sleeps for the connection. */
bool lks_copy_file_write_is_free(sqlite3_file *file);
/* An acquire: the copy as others have it now, at any time. */
void lks_copy_file_refresh(sqlite3_file *file);
/* The thread has slept in xSleep, perhaps between two attempts at a snapshot: C13. */
void lks_copy_file_slept(void);

#endif
