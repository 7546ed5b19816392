#include "vfs/copy_vfs.h"

#include <pthread.h>

#include "vfs/copy_log.h"
#include "vfs/vfs.h"

static sqlite3_vfs copy_vfs, heap_vfs;

static int
vfs_open(sqlite3_vfs *vfs, const char *name, sqlite3_file *file, int flags, int *out_flags)
{
    if (name != NULL && (flags & SQLITE_OPEN_MAIN_DB) != 0)
        return lks_copy_file_open(vfs == &heap_vfs ? LKS_SHM_HEAP : LKS_SHM_COPY, name, file, flags, out_flags);
    if (name != NULL && (flags & SQLITE_OPEN_WAL) != 0)
        return lks_copy_log_open(sqlite3_database_file_object(name), name, file, flags, out_flags);
    return lks_vfs_parent()->xOpen(lks_vfs_parent(), name, file, flags, out_flags);
}

static int
vfs_delete(sqlite3_vfs *vfs, const char *name, int sync_dir)
{
    (void)vfs;
    return lks_vfs_parent()->xDelete(lks_vfs_parent(), name, sync_dir);
}

static int
vfs_access(sqlite3_vfs *vfs, const char *name, int flags, int *out)
{
    (void)vfs;
    return lks_vfs_parent()->xAccess(lks_vfs_parent(), name, flags, out);
}

static int
vfs_sleep(sqlite3_vfs *vfs, int microseconds)
{
    int slept = lks_vfs_parent()->xSleep(lks_vfs_parent(), microseconds);
    (void)vfs;
    lks_copy_file_slept();
    return slept;
}

sqlite3_vfs *
lks_copy_vfs(enum lks_shm_kind kind)
{
    static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER; /* two checkpointers may be the first */
    sqlite3_vfs *vfs = kind == LKS_SHM_HEAP ? &heap_vfs : &copy_vfs;
    const char *name = kind == LKS_SHM_HEAP ? "lockstep-heap" : "lockstep-copy";
    bool there;
    if (kind == LKS_SHM_NATIVE)
        return lks_vfs_parent();
    pthread_mutex_lock(&mutex);
    there = sqlite3_vfs_find(name) == vfs;
    if (!there) {
        lks_vfs_fill(vfs, name);
        vfs->xOpen = vfs_open;
        vfs->xDelete = vfs_delete;
        vfs->xAccess = vfs_access;
        vfs->xSleep = vfs_sleep;
        there = sqlite3_vfs_register(vfs, 0) == SQLITE_OK;
    }
    pthread_mutex_unlock(&mutex);
    return there ? vfs : NULL;
}

void
lks_copy_vfs_unregister(void)
{
    (void)sqlite3_vfs_unregister(&copy_vfs);
    (void)sqlite3_vfs_unregister(&heap_vfs);
}
