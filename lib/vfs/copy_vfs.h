/*
 * The VFS of a connection that has a copied wal-index and nothing else of Lockstep's: the checkpointer's.
 */
#ifndef LKS_VFS_COPY_VFS_H
#define LKS_VFS_COPY_VFS_H

#include "vfs/copy_file.h"

/* "lockstep-copy" or "lockstep-heap", registered over the parent when it is asked for first; NATIVE: the parent. */
sqlite3_vfs *lks_copy_vfs(enum lks_shm_kind kind);
void lks_copy_vfs_unregister(void);

#endif
