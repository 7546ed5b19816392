/*
 * The wal-index of one file, by copies: where it is copied from, who has which lock, and when copies are made
 * (shm_copy.h says how).
 *
 *   LKS_SHM_COPY   the area is the `-shm` file; the parent keeps the locks and the dead man's switch, without mapping
 *   LKS_SHM_HEAP   the area is memory of the process, and so are all locks, those of the database, too: multi_process=0
 *
 * Used by the connection's thread alone, but for lks_copy_index_write_is_free().
 */
#ifndef LKS_VFS_COPY_INDEX_H
#define LKS_VFS_COPY_INDEX_H

#include <stdbool.h>

#include "vfs/copy_round.h"
#include "vfs/shm_copy.h"
#include "vfs/shm_file.h"
#include "vfs/shm_heap.h"

enum lks_shm_kind { LKS_SHM_NATIVE, LKS_SHM_COPY, LKS_SHM_HEAP };

struct lks_copy_index {
    sqlite3_file *self, *real; /* the file that has it, and the parent's */
    const char *name;          /* of the database, as in xOpen */
    enum lks_shm_kind kind;
    const volatile char *fork_guard;
    struct lks_shm_copy copy;
    struct lks_shm_file *file; /* of COPY, while mapped */
    struct lks_shm_heap *heap; /* of HEAP, since the first lock */
    bool joined;               /* ... and mapped */
    bool told;                 /* that the copy has failed */
    struct lks_shm_heap_locks locks;
    struct lks_copy_round round;
};

/* Of a file that was just opened; `name` must live as long. */
void lks_copy_index_init(struct lks_copy_index *c, enum lks_shm_kind kind, const char *name, sqlite3_file *self,
                         sqlite3_file *real);

/* The methods of sqlite3_io_methods; result codes are SQLite's. */
int lks_copy_index_map(struct lks_copy_index *c, int region, int size, int extend, void volatile **out);
int lks_copy_index_unmap(struct lks_copy_index *c, int delete_flag);
int lks_copy_index_lock(struct lks_copy_index *c, int offset, int n, int flags);
void lks_copy_index_barrier(struct lks_copy_index *c);
int lks_copy_index_lock_database(struct lks_copy_index *c, int level);
int lks_copy_index_unlock_database(struct lks_copy_index *c, int level);
int lks_copy_index_reserved(struct lks_copy_index *c, int *out_reserved);

/* Could WRITE be had?  The copy is not touched: the thread may be one that only sleeps for the connection. */
bool lks_copy_index_write_is_free(struct lks_copy_index *c);
/* An acquire: the copy as others have it now, at any time. */
void lks_copy_index_refresh(struct lks_copy_index *c);
/* Has reading or writing the area failed?  Then nothing may be acknowledged, nor done to the log, on the copy's word. */
bool lks_copy_index_has_failed(struct lks_copy_index *c);

#endif
