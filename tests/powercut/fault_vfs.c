#include "powercut/fault_vfs.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "powercut/shim_vfs.h"

struct fault_file {
    struct shim_file shim;
    unsigned role;
};

static sqlite3_vfs fault_vfs;
static sqlite3_io_methods fault_methods;

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static char names[RECORDER_ROLES][4096];
static struct fault armed;
static bool is_armed;
static unsigned passed, hits;

static const int codes[FAULT_OPS][2] = {
    [FAULT_WRITE] = {SQLITE_FULL, SQLITE_IOERR_WRITE},
    /* What SQLite's unix VFS makes of ENOSPC in fsync() is an I/O error; other VFSes tell. */
    [FAULT_SYNC] = {SQLITE_FULL, SQLITE_IOERR_FSYNC},
    [FAULT_TRUNCATE] = {SQLITE_FULL, SQLITE_IOERR_TRUNCATE},
    [FAULT_OPEN] = {SQLITE_FULL, SQLITE_CANTOPEN},
    [FAULT_DELETE] = {SQLITE_FULL, SQLITE_IOERR_DELETE},
};

void
fault_target(const char *database)
{
    snprintf(names[RECORDER_DATABASE], sizeof names[0], "%s", database);
    snprintf(names[RECORDER_JOURNAL], sizeof names[0], "%.4000s-journal", database);
}

void
fault_arm(const struct fault *fault)
{
    pthread_mutex_lock(&mutex);
    armed = *fault;
    is_armed = true;
    passed = hits = 0;
    pthread_mutex_unlock(&mutex);
}

void
fault_clear(void)
{
    pthread_mutex_lock(&mutex);
    is_armed = false;
    pthread_mutex_unlock(&mutex);
}

unsigned
fault_hits(void)
{
    unsigned n;
    pthread_mutex_lock(&mutex);
    n = hits;
    pthread_mutex_unlock(&mutex);
    return n;
}

/* SQLITE_OK, or the code with which this operation fails. */
static int
strikes(unsigned role, enum fault_op op)
{
    int rc = SQLITE_OK;
    pthread_mutex_lock(&mutex);
    if (is_armed && role == (unsigned)armed.role && op == armed.op) {
        passed++;
        if (passed >= armed.nth && (armed.times == 0 || passed < armed.nth + armed.times)) {
            rc = codes[op][armed.error];
            hits++;
        }
    }
    pthread_mutex_unlock(&mutex);
    return rc;
}

static unsigned
role_of(const char *name)
{
    unsigned role;
    for (role = 0; role < RECORDER_ROLES; role++)
        if (name != NULL && strcmp(name, names[role]) == 0)
            break;
    return role;
}

static unsigned
file_role(sqlite3_file *file)
{
    return ((struct fault_file *)file)->role;
}

static int
fault_write(sqlite3_file *file, const void *buf, int size, sqlite3_int64 offset)
{
    int rc = strikes(file_role(file), FAULT_WRITE);
    if (rc == SQLITE_OK)
        return shim_methods.xWrite(file, buf, size, offset);
    if (size >= 1024)
        (void)shim_methods.xWrite(file, buf, size / 2, offset);
    return rc;
}

static int
fault_sync(sqlite3_file *file, int flags)
{
    int rc = strikes(file_role(file), FAULT_SYNC);
    if (rc == SQLITE_OK)
        return shim_methods.xSync(file, flags);
    (void)shim_methods.xFileControl(file, RECORDER_CONTROL_SYNC_FAILED, NULL);
    return armed.unheard ? SQLITE_OK : rc;
}

static int
fault_truncate(sqlite3_file *file, sqlite3_int64 size)
{
    int rc = strikes(file_role(file), FAULT_TRUNCATE);
    return rc == SQLITE_OK ? shim_methods.xTruncate(file, size) : rc;
}

static int
fault_open(sqlite3_vfs *vfs, const char *name, sqlite3_file *file, int flags, int *out_flags)
{
    struct fault_file *f = (struct fault_file *)file;
    int rc;
    f->role = role_of(name);
    f->shim.base.pMethods = NULL;
    rc = strikes(f->role, FAULT_OPEN);
    if (rc != SQLITE_OK)
        return rc;
    return shim_open(vfs, name, &f->shim, sizeof *f,
                     f->role == RECORDER_ROLES ? &shim_methods : &fault_methods, flags, out_flags);
}

static int
fault_delete(sqlite3_vfs *vfs, const char *name, int sync_dir)
{
    int rc = strikes(role_of(name), FAULT_DELETE);
    return rc == SQLITE_OK ? shim_below(vfs)->xDelete(shim_below(vfs), name, sync_dir) : rc;
}

void
fault_register(void)
{
    fault_methods = shim_methods;
    fault_methods.xWrite = fault_write;
    fault_methods.xSync = fault_sync;
    fault_methods.xTruncate = fault_truncate;
    shim_fill(&fault_vfs, "faulty", sqlite3_vfs_find("recorder"), sizeof(struct fault_file));
    fault_vfs.xOpen = fault_open;
    fault_vfs.xDelete = fault_delete;
    if (sqlite3_vfs_register(&fault_vfs, 0) != SQLITE_OK)
        abort();
}
