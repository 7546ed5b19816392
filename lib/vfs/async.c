/*
 * The VFS "sqlite3async": the VFS "lockstep" for files whose commits are asynchronous and are written behind by a
 * thread of the application's (see runner.h), under the calls of SQLite's extension of that name.
 */
#include "vfs/vfs.h"

#ifndef LKS_LOADABLE

#include <lockstep/sqlite3async.h>
#include <stdarg.h>

#include "vfs/runner.h"

static sqlite3_vfs async_vfs;
static bool registered;
static struct lks_a32 without_locks;

static int
async_open(sqlite3_vfs *vfs, const char *name, sqlite3_file *file, int flags, int *out_flags)
{
    int rc = lks_vfs_open(vfs, name, file, flags, out_flags);
    struct lks_file *f = rc == SQLITE_OK ? lks_file_of(file) : NULL;
    if (f == NULL)
        return rc;
    f->async = true;
    f->uri.options.no_worker = true;
    if (f->uri.durability == LKS_DURABILITY_AS_ASKED)
        f->uri.durability = LOCKSTEP_ASYNC;
    if (lks_a32_relaxed(&without_locks) != 0)
        f->uri.options.single_process = true;
    return SQLITE_OK;
}

int
sqlite3async_initialize(const char *parent_name, int is_default)
{
    int rc = sqlite3_initialize();
    if (rc != SQLITE_OK || registered)
        return rc;
    rc = lks_vfs_take_parent(parent_name, LKS_VFS_ASYNC);
    if (rc != SQLITE_OK)
        return rc;
    lks_vfs_fill(&async_vfs, SQLITEASYNC_VFSNAME);
    async_vfs.xOpen = async_open;
    rc = sqlite3_vfs_register(&async_vfs, is_default != 0);
    if (rc != SQLITE_OK)
        lks_vfs_drop_parent(LKS_VFS_ASYNC);
    registered = rc == SQLITE_OK;
    return rc;
}

void
sqlite3async_shutdown(void)
{
    if (!registered)
        return;
    registered = false;
    (void)sqlite3_vfs_unregister(&async_vfs);
    lks_vfs_drop_parent(LKS_VFS_ASYNC);
}

void
sqlite3async_run(void)
{
    lks_runner_run();
}

static bool
is_async(struct lks_file *file, void *arg)
{
    (void)arg;
    return file->async;
}

static int
set(int op, int value)
{
    switch (op) {
    case SQLITEASYNC_HALT:
        if (value < SQLITEASYNC_HALT_NEVER || value > SQLITEASYNC_HALT_IDLE)
            return SQLITE_MISUSE;
        lks_runner_set_halt((enum lks_halt)value);
        return SQLITE_OK;
    case SQLITEASYNC_DELAY:
        if (value < 0)
            return SQLITE_MISUSE;
        lks_runner_set_delay((uint32_t)value);
        return SQLITE_OK;
    case SQLITEASYNC_LOCKFILES:
        /* A file that is being opened now may still have what was said before; each database is of one kind. */
        if ((value & ~1) != 0 || lks_files_find(is_async, NULL))
            return SQLITE_MISUSE;
        lks_a32_set_relaxed(&without_locks, value == 0);
        return SQLITE_OK;
    default: /* TRACE */
        if ((value & ~1) != 0)
            return SQLITE_MISUSE;
        lks_runner_set_trace(value != 0);
        return SQLITE_OK;
    }
}

int
sqlite3async_control(int op, ...)
{
    int rc = SQLITE_OK;
    va_list args;
    va_start(args, op);
    switch (op) {
    case SQLITEASYNC_HALT:
    case SQLITEASYNC_DELAY:
    case SQLITEASYNC_LOCKFILES:
    case SQLITEASYNC_TRACE: rc = set(op, va_arg(args, int)); break;
    case SQLITEASYNC_GET_HALT: *va_arg(args, int *) = (int)lks_runner_halt(); break;
    case SQLITEASYNC_GET_DELAY: *va_arg(args, int *) = (int)lks_runner_delay(); break;
    case SQLITEASYNC_GET_LOCKFILES: *va_arg(args, int *) = lks_a32_relaxed(&without_locks) == 0; break;
    case SQLITEASYNC_GET_TRACE: *va_arg(args, int *) = lks_runner_trace(); break;
    default: rc = SQLITE_ERROR; break;
    }
    va_end(args);
    return rc;
}

#endif
