/*
 * The `-wal` of a database whose wal-index is a copy: the parent's file, call for call, but that it is not truncated once
 * the copy has failed.  A reset that could not be published is followed by frames of others, who have the old header and
 * append behind its last frame: in a log that was cut off meanwhile they would stand without its header, and be lost in a
 * crash.  Under Lockstep's own log, and under the checkpointer's, whose connection is over copy_vfs.c.
 */
#ifndef LKS_VFS_COPY_LOG_H
#define LKS_VFS_COPY_LOG_H

#include "vfs/sqlite.h"

/* xOpen of the log of `main`, a file of copy_file.c, into `file`, of lks_copy_log_bytes() and the parent's szOsFile. */
int lks_copy_log_open(sqlite3_file *main, const char *name, sqlite3_file *file, int flags, int *out_flags);
int lks_copy_log_bytes(void);

#endif
