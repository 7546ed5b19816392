#include "powercut/shim_vfs.h"

static sqlite3_file *
real(sqlite3_file *file)
{
    return ((struct shim_file *)file)->real;
}

static int
shim_close(sqlite3_file *file)
{
    return real(file)->pMethods->xClose(real(file));
}

static int
shim_read(sqlite3_file *file, void *buf, int size, sqlite3_int64 offset)
{
    return real(file)->pMethods->xRead(real(file), buf, size, offset);
}

static int
shim_write(sqlite3_file *file, const void *buf, int size, sqlite3_int64 offset)
{
    return real(file)->pMethods->xWrite(real(file), buf, size, offset);
}

static int
shim_truncate(sqlite3_file *file, sqlite3_int64 size)
{
    return real(file)->pMethods->xTruncate(real(file), size);
}

static int
shim_sync(sqlite3_file *file, int flags)
{
    return real(file)->pMethods->xSync(real(file), flags);
}

static int
shim_size(sqlite3_file *file, sqlite3_int64 *out_size)
{
    return real(file)->pMethods->xFileSize(real(file), out_size);
}

static int
shim_lock(sqlite3_file *file, int level)
{
    return real(file)->pMethods->xLock(real(file), level);
}

static int
shim_unlock(sqlite3_file *file, int level)
{
    return real(file)->pMethods->xUnlock(real(file), level);
}

static int
shim_reserved(sqlite3_file *file, int *out_reserved)
{
    return real(file)->pMethods->xCheckReservedLock(real(file), out_reserved);
}

static int
shim_control(sqlite3_file *file, int op, void *arg)
{
    return real(file)->pMethods->xFileControl(real(file), op, arg);
}

static int
shim_sector(sqlite3_file *file)
{
    return real(file)->pMethods->xSectorSize(real(file));
}

static int
shim_characteristics(sqlite3_file *file)
{
    return real(file)->pMethods->xDeviceCharacteristics(real(file));
}

const sqlite3_io_methods shim_methods = {
    .iVersion = 1,
    .xClose = shim_close,
    .xRead = shim_read,
    .xWrite = shim_write,
    .xTruncate = shim_truncate,
    .xSync = shim_sync,
    .xFileSize = shim_size,
    .xLock = shim_lock,
    .xUnlock = shim_unlock,
    .xCheckReservedLock = shim_reserved,
    .xFileControl = shim_control,
    .xSectorSize = shim_sector,
    .xDeviceCharacteristics = shim_characteristics,
};

sqlite3_vfs *
shim_below(sqlite3_vfs *vfs)
{
    return vfs->pAppData;
}

int
shim_open(sqlite3_vfs *vfs, const char *name, struct shim_file *file, size_t file_bytes,
          const sqlite3_io_methods *methods, int flags, int *out_flags)
{
    int rc;
    file->base.pMethods = NULL;
    file->real = (sqlite3_file *)((char *)file + file_bytes);
    file->real->pMethods = NULL;
    rc = shim_below(vfs)->xOpen(shim_below(vfs), name, file->real, flags, out_flags);
    if (rc == SQLITE_OK)
        file->base.pMethods = methods;
    return rc;
}

static int
vfs_open(sqlite3_vfs *vfs, const char *name, sqlite3_file *file, int flags, int *out_flags)
{
    return shim_open(vfs, name, (struct shim_file *)file, sizeof(struct shim_file), &shim_methods, flags,
                     out_flags);
}

static int
vfs_delete(sqlite3_vfs *vfs, const char *name, int sync_dir)
{
    return shim_below(vfs)->xDelete(shim_below(vfs), name, sync_dir);
}

static int
vfs_access(sqlite3_vfs *vfs, const char *name, int flags, int *out)
{
    return shim_below(vfs)->xAccess(shim_below(vfs), name, flags, out);
}

static int
vfs_full_pathname(sqlite3_vfs *vfs, const char *name, int size, char *out)
{
    return shim_below(vfs)->xFullPathname(shim_below(vfs), name, size, out);
}

static int
vfs_randomness(sqlite3_vfs *vfs, int size, char *out)
{
    return shim_below(vfs)->xRandomness(shim_below(vfs), size, out);
}

static int
vfs_sleep(sqlite3_vfs *vfs, int microseconds)
{
    return shim_below(vfs)->xSleep(shim_below(vfs), microseconds);
}

static int
vfs_current_time(sqlite3_vfs *vfs, double *out)
{
    return shim_below(vfs)->xCurrentTime(shim_below(vfs), out);
}

static int
vfs_last_error(sqlite3_vfs *vfs, int size, char *out)
{
    return shim_below(vfs)->xGetLastError(shim_below(vfs), size, out);
}

static int
vfs_current_time_int64(sqlite3_vfs *vfs, sqlite3_int64 *out)
{
    return shim_below(vfs)->xCurrentTimeInt64(shim_below(vfs), out);
}

void
shim_fill(sqlite3_vfs *vfs, const char *name, sqlite3_vfs *below, size_t file_bytes)
{
    *vfs = (sqlite3_vfs){
        .iVersion = 2,
        .szOsFile = (int)file_bytes + below->szOsFile,
        .mxPathname = below->mxPathname,
        .zName = name,
        .pAppData = below,
        .xOpen = vfs_open,
        .xDelete = vfs_delete,
        .xAccess = vfs_access,
        .xFullPathname = vfs_full_pathname,
        .xRandomness = vfs_randomness,
        .xSleep = vfs_sleep,
        .xCurrentTime = vfs_current_time,
        .xGetLastError = vfs_last_error,
        .xCurrentTimeInt64 = vfs_current_time_int64,
    };
}
