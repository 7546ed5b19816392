#include "vfs/copy_log.h"

#include "vfs/vfs.h"

struct copy_log {
    sqlite3_file base;
    sqlite3_file *real; /* follows */
    sqlite3_file *main; /* which is closed after it */
};

static struct copy_log *
of(sqlite3_file *file)
{
    return (struct copy_log *)file;
}

static const sqlite3_io_methods *
below(sqlite3_file *file)
{
    return of(file)->real->pMethods;
}

static int
log_close(sqlite3_file *file)
{
    int rc = below(file)->xClose(of(file)->real);
    file->pMethods = NULL;
    return rc;
}

static int
log_read(sqlite3_file *file, void *buf, int amount, sqlite3_int64 offset)
{
    return below(file)->xRead(of(file)->real, buf, amount, offset);
}

static int
log_write(sqlite3_file *file, const void *buf, int amount, sqlite3_int64 offset)
{
    return below(file)->xWrite(of(file)->real, buf, amount, offset);
}

/* SQLite has written the header of the reset, with a barrier between its copies: what that published is known here. */
static int
log_truncate(sqlite3_file *file, sqlite3_int64 size)
{
    if (lks_copy_file_has_failed(of(file)->main))
        return SQLITE_IOERR_TRUNCATE;
    return below(file)->xTruncate(of(file)->real, size);
}

static int
log_sync(sqlite3_file *file, int flags)
{
    return below(file)->xSync(of(file)->real, flags);
}

static int
log_size(sqlite3_file *file, sqlite3_int64 *out_size)
{
    return below(file)->xFileSize(of(file)->real, out_size);
}

static int
log_lock(sqlite3_file *file, int level)
{
    return below(file)->xLock(of(file)->real, level);
}

static int
log_unlock(sqlite3_file *file, int level)
{
    return below(file)->xUnlock(of(file)->real, level);
}

static int
log_reserved(sqlite3_file *file, int *out)
{
    return below(file)->xCheckReservedLock(of(file)->real, out);
}

static int
log_control(sqlite3_file *file, int op, void *arg)
{
    return below(file)->xFileControl(of(file)->real, op, arg);
}

static int
log_sector(sqlite3_file *file)
{
    return below(file)->xSectorSize(of(file)->real);
}

static int
log_characteristics(sqlite3_file *file)
{
    return below(file)->xDeviceCharacteristics(of(file)->real);
}

static const sqlite3_io_methods log_methods = {
    .iVersion = 1,
    .xClose = log_close,
    .xRead = log_read,
    .xWrite = log_write,
    .xTruncate = log_truncate,
    .xSync = log_sync,
    .xFileSize = log_size,
    .xLock = log_lock,
    .xUnlock = log_unlock,
    .xCheckReservedLock = log_reserved,
    .xFileControl = log_control,
    .xSectorSize = log_sector,
    .xDeviceCharacteristics = log_characteristics,
};

int
lks_copy_log_bytes(void)
{
    return (int)sizeof(struct copy_log);
}

int
lks_copy_log_open(sqlite3_file *main, const char *name, sqlite3_file *file, int flags, int *out_flags)
{
    struct copy_log *log = of(file);
    int rc;
    log->base.pMethods = NULL;
    log->main = main;
    log->real = (sqlite3_file *)(log + 1);
    log->real->pMethods = NULL;
    rc = lks_vfs_parent()->xOpen(lks_vfs_parent(), name, log->real, flags, out_flags);
    if (rc != SQLITE_OK) {
        if (log->real->pMethods != NULL)
            (void)log->real->pMethods->xClose(log->real);
        return rc;
    }
    log->base.pMethods = &log_methods;
    return SQLITE_OK;
}
