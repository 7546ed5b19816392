/*
 * A main database file of the parent's whose wal-index is shared by copying: shm=copy.  Nothing else is changed, call for
 * call, so Lockstep's own file lies over it as over the parent's.
 */
#ifndef LKS_VFS_COPY_FILE_H
#define LKS_VFS_COPY_FILE_H

#include <stdbool.h>

#include "vfs/copy_index.h"
#include "vfs/sqlite.h"

/* xOpen of a main database file into `file`, of lks_copy_file_bytes() and the parent's szOsFile. */
int lks_copy_file_open(enum lks_shm_kind kind, const char *name, sqlite3_file *file, int flags, int *out_flags);
int lks_copy_file_bytes(void);
/* Of such a file: see lks_copy_index_write_is_free(), lks_copy_index_refresh(), lks_copy_index_has_failed(). */
bool lks_copy_file_write_is_free(sqlite3_file *file);
void lks_copy_file_refresh(sqlite3_file *file);
bool lks_copy_file_has_failed(sqlite3_file *file);
/* The thread has slept in xSleep, perhaps between two attempts at a snapshot: C13. */
void lks_copy_file_slept(void);

#endif
