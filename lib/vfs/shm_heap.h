/*
 * The heap of one process as a shared area, for multi_process=0: no `-shm` file, no system call.
 *
 * One for each database file, found by device and inode, shared by the process's connections that go through here.  All
 * of SQLite's locks are arbitrated here: the eight of the wal-index, and those of the database file, which the parent does
 * not see.  While a connection has any of the latter, an open-file-description lock for writing is on the bytes that
 * SQLite locks of the file: it meets everybody else, stock connections of this very process included, who are told BUSY.
 *
 * Death: the memory and the lock go together.  The next to come finds the log, and no index, and recovers.
 */
#ifndef LKS_VFS_SHM_HEAP_H
#define LKS_VFS_SHM_HEAP_H

#include <stdbool.h>
#include <stdint.h>

#include "vfs/shm_area.h"

struct lks_shm_heap;

/* Of the database file of that name, which exists.  It is never closed: see the descriptors of the registry. */
enum lockstep_status lks_shm_heap_open(const char *path, struct lks_shm_heap **out_heap);
struct lks_shm_area *lks_shm_heap_area(struct lks_shm_heap *heap);

/*
 * A connection's wal-index mapping and its end: with the last one the memory is forgotten, as a `-shm` file's content is
 * when the next comes first.
 */
void lks_shm_heap_join(struct lks_shm_heap *heap);
void lks_shm_heap_leave(struct lks_shm_heap *heap);

/* What one connection has of the locks. */
struct lks_shm_heap_locks {
    uint32_t shared, exclusive; /* of the wal-index: a bit each */
    int level;                  /* SQLITE_LOCK_* of the database */
};

/* xShmLock for locks [offset, offset + n): OK or BUSY.  Shared: one. */
enum lockstep_status lks_shm_heap_lock(struct lks_shm_heap *heap, struct lks_shm_heap_locks *mine, int offset,
                                       int n, bool exclusive);
void lks_shm_heap_unlock(struct lks_shm_heap *heap, struct lks_shm_heap_locks *mine, int offset, int n);

/* xLock, xUnlock and xCheckReservedLock of the database.  BUSY; IOERR. */
enum lockstep_status lks_shm_heap_lock_database(struct lks_shm_heap *heap, struct lks_shm_heap_locks *mine,
                                                int level);
void lks_shm_heap_unlock_database(struct lks_shm_heap *heap, struct lks_shm_heap_locks *mine, int level);
bool lks_shm_heap_is_reserved(struct lks_shm_heap *heap);

#endif
