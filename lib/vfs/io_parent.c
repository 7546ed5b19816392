/* The store's own reads, writes and syncs, through the parent VFS. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "os/file.h"
#include "os/io.h"
#include "vfs/runner.h"
#include "vfs/vfs.h"

struct lks_io_file {
    sqlite3_file *file; /* follows this struct in memory, or is lent */
    char *name;         /* as xOpen wants it */
    const char *path;   /* in name: the journal's or the database's */
};

/* The status that a result code of the parent stands for; errno as near as can be told. */
static enum lockstep_status
status_of(int rc)
{
    if (rc == SQLITE_OK)
        return LOCKSTEP_OK;
    switch (rc & 0xff) {
    case SQLITE_FULL: lks_os_set_errno(ENOSPC); return LOCKSTEP_FULL;
    case SQLITE_NOMEM: return LOCKSTEP_NOMEM;
    case SQLITE_READONLY: lks_os_set_errno(EROFS); return LOCKSTEP_READONLY;
    case SQLITE_CANTOPEN: lks_os_set_errno(ENOENT); return LOCKSTEP_CANTOPEN;
    default: lks_os_set_errno(EIO); return LOCKSTEP_IOERR;
    }
}

/* The name of the database of a journal of the same length, in SQLite's own allocation. */
static char *
make_name(const char *path, enum lks_io_role role)
{
    size_t length = strlen(path);
    char *database, *journal, *wal, *name = NULL;
    if (role == LKS_IO_DATABASE) {
        journal = sqlite3_mprintf("%s-journal", path);
        wal = sqlite3_mprintf("%s-wal", path);
        if (journal != NULL && wal != NULL)
            name = (char *)(uintptr_t)sqlite3_create_filename(path, journal, wal, 0, NULL);
        sqlite3_free(journal);
        sqlite3_free(wal);
        return name;
    }
    database = sqlite3_mprintf("%.*s", (int)(length - strlen("-journal")), path);
    wal = sqlite3_mprintf("%s-wal", database);
    if (database != NULL && wal != NULL)
        name = (char *)(uintptr_t)sqlite3_create_filename(database, path, wal, 0, NULL);
    sqlite3_free(database);
    sqlite3_free(wal);
    return name;
}

static enum lockstep_status
parent_open(void *context, const char *path, enum lks_io_role role, struct lks_io_file **out_file)
{
    sqlite3_vfs *parent = lks_vfs_parent();
    int flags = role == LKS_IO_JOURNAL ? SQLITE_OPEN_MAIN_JOURNAL | SQLITE_OPEN_CREATE
                                       : SQLITE_OPEN_MAIN_DB;
    struct lks_io_file *file = calloc(1, sizeof *file + (size_t)parent->szOsFile);
    int rc;
    (void)context;
    if (file == NULL)
        return LOCKSTEP_NOMEM;
    file->file = (sqlite3_file *)(file + 1);
    file->name = make_name(path, role);
    if (file->name == NULL) {
        free(file);
        return LOCKSTEP_NOMEM;
    }
    file->path = role == LKS_IO_JOURNAL ? sqlite3_filename_journal(file->name) : file->name;
    rc = parent->xOpen(parent, file->path, file->file, flags | SQLITE_OPEN_READWRITE, NULL);
    if (rc != SQLITE_OK) {
        sqlite3_free_filename(file->name);
        free(file);
        return status_of(rc);
    }
    lks_runner_trace_file("OPEN", file->path);
    *out_file = file;
    return LOCKSTEP_OK;
}

static void
parent_close(struct lks_io_file *file)
{
    file->file->pMethods->xClose(file->file);
    lks_runner_trace_file("CLOSE", file->path);
    sqlite3_free_filename(file->name);
    free(file);
}

/*
 * SQLite never reads or writes more than a page at a time, and its unix VFS counts on it: it drops all bits of
 * an amount above 128 KiB.
 */
static size_t
part(size_t left)
{
    return left < 65536 ? left : 65536;
}

static enum lockstep_status
parent_read(struct lks_io_file *file, uint64_t offset, void *buf, size_t size, size_t *out_read)
{
    sqlite3_int64 end;
    size_t done = 0;
    int rc = SQLITE_OK;
    while (done < size && rc == SQLITE_OK) {
        size_t n = part(size - done);
        rc = file->file->pMethods->xRead(file->file, (char *)buf + done, (int)n,
                                         (sqlite3_int64)(offset + done));
        done += n;
    }
    if (rc == SQLITE_OK) {
        *out_read = size;
        return LOCKSTEP_OK;
    }
    if (rc != SQLITE_IOERR_SHORT_READ)
        return status_of(rc);
    /* How much there was is told by the size. */
    rc = file->file->pMethods->xFileSize(file->file, &end);
    if (rc != SQLITE_OK)
        return status_of(rc);
    *out_read = (uint64_t)end <= offset          ? 0
                : (uint64_t)end - offset >= size ? size
                                                 : (size_t)((uint64_t)end - offset);
    return LOCKSTEP_OK;
}

static enum lockstep_status
parent_write(struct lks_io_file *file, uint64_t offset, const void *buf, size_t size)
{
    size_t done = 0;
    int rc = SQLITE_OK;
    while (done < size && rc == SQLITE_OK) {
        size_t n = part(size - done);
        rc = file->file->pMethods->xWrite(file->file, (const char *)buf + done, (int)n,
                                          (sqlite3_int64)(offset + done));
        done += n;
    }
    lks_runner_trace_range("WRITE", file->path, size, offset);
    lks_runner_pause();
    return status_of(rc);
}

static enum lockstep_status
parent_truncate(struct lks_io_file *file, uint64_t size)
{
    sqlite3_int64 now = 0;
    int rc = file->file->pMethods->xFileSize(file->file, &now);
    if (rc == SQLITE_OK && (uint64_t)now < size)
        /* xTruncate need not extend a file. */
        rc = file->file->pMethods->xWrite(file->file, "", 1, (sqlite3_int64)size - 1);
    else if (rc == SQLITE_OK)
        rc = file->file->pMethods->xTruncate(file->file, (sqlite3_int64)size);
    lks_runner_trace_range("TRUNCATE", file->path, 0, size);
    lks_runner_pause();
    return status_of(rc);
}

static enum lockstep_status
parent_sync(struct lks_io_file *file)
{
    int rc = file->file->pMethods->xSync(file->file, SQLITE_SYNC_NORMAL);
    lks_runner_trace_file("SYNC", file->path);
    lks_runner_pause();
    return status_of(rc);
}

static enum lockstep_status
parent_size(struct lks_io_file *file, uint64_t *out_size)
{
    sqlite3_int64 size = 0;
    enum lockstep_status status = status_of(file->file->pMethods->xFileSize(file->file, &size));
    if (status == LOCKSTEP_OK)
        *out_size = (uint64_t)size;
    return status;
}

static enum lockstep_status
parent_sync_dir(void *context, const char *path)
{
    (void)context;
    /* The first xSync of a journal that xOpen created does it, in every VFS that has directories. */
    (void)path;
    return LOCKSTEP_OK;
}

static enum lockstep_status
parent_remove(void *context, const char *path, bool sync_dir)
{
    sqlite3_vfs *parent = lks_vfs_parent();
    int rc = parent->xDelete(parent, path, sync_dir);
    (void)context;
    lks_runner_trace_file("DELETE", path);
    lks_runner_pause();
    return rc == SQLITE_IOERR_DELETE_NOENT ? LOCKSTEP_OK : status_of(rc);
}

static enum lockstep_status
parent_exists(void *context, const char *path, bool *out_exists)
{
    sqlite3_vfs *parent = lks_vfs_parent();
    int found = 0;
    enum lockstep_status status =
        status_of(parent->xAccess(parent, path, SQLITE_ACCESS_READWRITE, &found));
    (void)context;
    /*
     * EXISTS passes over empty files; but that a journal was emptied must be made durable like the rest.  And it looks
     * at the file's times, which makes the next sync dearer: see look_at_file(), store/batch.c.
     */
    if (status == LOCKSTEP_OK && !found)
        status = status_of(parent->xAccess(parent, path, SQLITE_ACCESS_EXISTS, &found));
    if (status == LOCKSTEP_OK)
        *out_exists = found != 0;
    return status;
}

const struct lks_io lks_io_parent = {
    .open = parent_open,
    .close = parent_close,
    .read = parent_read,
    .write = parent_write,
    .truncate = parent_truncate,
    .sync = parent_sync,
    .size = parent_size,
    .sync_dir = parent_sync_dir,
    .remove = parent_remove,
    .exists = parent_exists,
};
