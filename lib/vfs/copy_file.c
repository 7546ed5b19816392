#include "vfs/copy_file.h"

#include <string.h>

#include "vfs/vfs.h"

struct copy_file {
    sqlite3_file base;
    sqlite3_file *real; /* follows */
    struct lks_copy_index index;
};

static struct copy_file *
of(sqlite3_file *file)
{
    return (struct copy_file *)file;
}

static const sqlite3_io_methods *
below(sqlite3_file *file)
{
    return of(file)->real->pMethods;
}

static int
copy_close(sqlite3_file *file)
{
    struct copy_file *c = of(file);
    if (c->index.copy.area != NULL)
        (void)lks_copy_index_unmap(&c->index, 0);
    if (c->index.kind == LKS_SHM_HEAP)
        (void)lks_copy_index_unlock_database(&c->index, SQLITE_LOCK_NONE);
    file->pMethods = NULL;
    return c->real->pMethods->xClose(c->real);
}

static int
copy_read(sqlite3_file *file, void *buf, int amount, sqlite3_int64 offset)
{
    return below(file)->xRead(of(file)->real, buf, amount, offset);
}

static int
copy_write(sqlite3_file *file, const void *buf, int amount, sqlite3_int64 offset)
{
    return below(file)->xWrite(of(file)->real, buf, amount, offset);
}

static int
copy_truncate(sqlite3_file *file, sqlite3_int64 size)
{
    return below(file)->xTruncate(of(file)->real, size);
}

static int
copy_sync(sqlite3_file *file, int flags)
{
    return below(file)->xSync(of(file)->real, flags);
}

static int
copy_size(sqlite3_file *file, sqlite3_int64 *out_size)
{
    return below(file)->xFileSize(of(file)->real, out_size);
}

static int
copy_control(sqlite3_file *file, int op, void *arg)
{
    struct copy_file *c = of(file);
    if (op == SQLITE_FCNTL_COMMIT_PHASETWO && lks_copy_index_has_failed(&c->index))
        return SQLITE_IOERR_SHMMAP;
    if (op == SQLITE_FCNTL_LOCKSTATE) {
        *(int *)arg = c->index.locks.level;
        return SQLITE_OK;
    }
    return below(file)->xFileControl(c->real, op, arg);
}

static int
copy_sector(sqlite3_file *file)
{
    return below(file)->xSectorSize(of(file)->real);
}

static int
copy_characteristics(sqlite3_file *file)
{
    return below(file)->xDeviceCharacteristics(of(file)->real);
}

static int
copy_fetch(sqlite3_file *file, sqlite3_int64 offset, int amount, void **out)
{
    *out = NULL;
    return below(file)->iVersion >= 3 ? below(file)->xFetch(of(file)->real, offset, amount, out) : SQLITE_OK;
}

static int
copy_unfetch(sqlite3_file *file, sqlite3_int64 offset, void *page)
{
    return below(file)->iVersion >= 3 ? below(file)->xUnfetch(of(file)->real, offset, page) : SQLITE_OK;
}

static int
copy_lock(sqlite3_file *file, int level)
{
    return lks_copy_index_lock_database(&of(file)->index, level);
}

static int
copy_unlock(sqlite3_file *file, int level)
{
    return lks_copy_index_unlock_database(&of(file)->index, level);
}

static int
copy_reserved(sqlite3_file *file, int *out_reserved)
{
    return lks_copy_index_reserved(&of(file)->index, out_reserved);
}

static int
copy_shm_map(sqlite3_file *file, int region, int size, int extend, void volatile **out)
{
    return lks_copy_index_map(&of(file)->index, region, size, extend, out);
}

static int
copy_shm_lock(sqlite3_file *file, int offset, int n, int flags)
{
    return lks_copy_index_lock(&of(file)->index, offset, n, flags);
}

static void
copy_shm_barrier(sqlite3_file *file)
{
    lks_copy_index_barrier(&of(file)->index);
}

static int
copy_shm_unmap(sqlite3_file *file, int delete_flag)
{
    return lks_copy_index_unmap(&of(file)->index, delete_flag);
}

#define METHODS(VERSION)                                                                                       \
    {                                                                                                          \
        .iVersion = VERSION, .xClose = copy_close, .xRead = copy_read, .xWrite = copy_write,                   \
        .xTruncate = copy_truncate, .xSync = copy_sync, .xFileSize = copy_size, .xLock = copy_lock,            \
        .xUnlock = copy_unlock, .xCheckReservedLock = copy_reserved, .xFileControl = copy_control,             \
        .xSectorSize = copy_sector, .xDeviceCharacteristics = copy_characteristics, .xShmMap = copy_shm_map,   \
        .xShmLock = copy_shm_lock, .xShmBarrier = copy_shm_barrier, .xShmUnmap = copy_shm_unmap,               \
        .xFetch = copy_fetch, .xUnfetch = copy_unfetch,                                                        \
    }

/* Where the parent has no shared memory, neither have we. */
static const sqlite3_io_methods with_shm = METHODS(3), without_shm = METHODS(1);

int
lks_copy_file_bytes(void)
{
    return (int)sizeof(struct copy_file);
}

int
lks_copy_file_open(enum lks_shm_kind kind, const char *name, sqlite3_file *file, int flags, int *out_flags)
{
    struct copy_file *c = of(file);
    int rc;
    memset(c, 0, sizeof *c);
    c->real = (sqlite3_file *)(c + 1);
    c->real->pMethods = NULL;
    rc = lks_vfs_parent()->xOpen(lks_vfs_parent(), name, c->real, flags, out_flags);
    if (rc != SQLITE_OK) {
        if (c->real->pMethods != NULL)
            (void)c->real->pMethods->xClose(c->real);
        return rc;
    }
    lks_copy_index_init(&c->index, kind, name, file, c->real);
    c->base.pMethods = c->real->pMethods->iVersion >= 2 && c->real->pMethods->xShmMap != NULL ? &with_shm : &without_shm;
    return SQLITE_OK;
}

bool
lks_copy_file_write_is_free(sqlite3_file *file)
{
    return lks_copy_index_write_is_free(&of(file)->index);
}

void
lks_copy_file_refresh(sqlite3_file *file)
{
    lks_copy_index_refresh(&of(file)->index);
}

bool
lks_copy_file_has_failed(sqlite3_file *file)
{
    return lks_copy_index_has_failed(&of(file)->index);
}

void
lks_copy_file_slept(void)
{
    sqlite3_file *file = lks_copy_round_slept();
    if (file != NULL)
        lks_copy_file_refresh(file);
}
