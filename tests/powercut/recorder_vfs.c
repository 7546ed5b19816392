#include "powercut/recorder_vfs.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "powercut/shim_vfs.h"

#define RECORD_BYTES ((size_t)1 << 31)

/* Shared between processes; `entries` are recorder_op with their data, each on a multiple of 8. */
struct record {
    pthread_mutex_t mutex;
    uint64_t used;
    uint32_t inodes;
    uint32_t current[RECORDER_ROLES]; /* what the names lead to; 0: nothing */
    _Alignas(16) unsigned char entries[];
};

struct recorder_file {
    struct shim_file shim;
    uint32_t role;
    uint32_t inode;
    int sync_dir; /* the next sync syncs the directory */
};

static sqlite3_vfs recorder_vfs;
static struct record *record;
static char names[RECORDER_ROLES][4096];

static void
fail(const char *what)
{
    fprintf(stderr, "recorder: %s\n", what);
    abort();
}

static void
lock(void)
{
    int rc = pthread_mutex_lock(&record->mutex);
    if (rc == EOWNERDEAD)
        rc = pthread_mutex_consistent(&record->mutex);
    if (rc != 0)
        fail("the mutex is lost");
}

static void
unlock(void)
{
    pthread_mutex_unlock(&record->mutex);
}

/* Holding the mutex. */
static void
append(enum recorder_kind kind, uint32_t role, uint32_t inode, uint64_t offset, const void *data,
       uint32_t size)
{
    struct recorder_op op = {
        .kind = kind, .role = role, .inode = inode, .size = size, .offset = offset};
    uint64_t used = record->used;
    if (used + sizeof op + size + 8 > RECORD_BYTES - sizeof *record)
        fail("the record is full");
    memcpy(record->entries + used, &op, sizeof op);
    if (size > 0)
        memcpy(record->entries + used + sizeof op, data, size);
    record->used = used + ((sizeof op + size + 7) & ~(uint64_t)7);
}

const struct recorder_op *
recorder_next(const struct recorder_op *op)
{
    const unsigned char *next = record->entries;
    if (op != NULL)
        next = (const unsigned char *)op + ((sizeof *op + op->size + 7) & ~(size_t)7);
    return next < record->entries + record->used ? (const void *)next : NULL;
}

const unsigned char *
recorder_data(const struct recorder_op *op)
{
    return (const unsigned char *)(op + 1);
}

void
recorder_durable(int64_t n)
{
    lock();
    append(RECORDER_DURABLE, RECORDER_DATABASE, 0, (uint64_t)n, NULL, 0);
    unlock();
}

void
recorder_die(void)
{
    lock();
    for (;;)
        kill(getpid(), SIGKILL);
}

void
recorder_start(const char *database)
{
    pthread_mutexattr_t attributes;
    if (record != NULL)
        munmap(record, RECORD_BYTES);
    record = mmap(NULL, RECORD_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE,
                  -1, 0);
    if (record == MAP_FAILED)
        fail("no memory");
    pthread_mutexattr_init(&attributes);
    pthread_mutexattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED);
    pthread_mutexattr_setrobust(&attributes, PTHREAD_MUTEX_ROBUST);
    pthread_mutex_init(&record->mutex, &attributes);
    pthread_mutexattr_destroy(&attributes);
    snprintf(names[RECORDER_DATABASE], sizeof names[0], "%s", database);
    snprintf(names[RECORDER_JOURNAL], sizeof names[0], "%.4000s-journal", database);
    if (access(names[RECORDER_DATABASE], F_OK) == 0 || access(names[RECORDER_JOURNAL], F_OK) == 0)
        fail("the database exists");
}

/* RECORDER_ROLES: not one of ours. */
static uint32_t
role_of(const char *name)
{
    uint32_t role;
    if (record == NULL || name == NULL)
        return RECORDER_ROLES;
    for (role = 0; role < RECORDER_ROLES && strcmp(name, names[role]) != 0; role++)
        ;
    return role;
}

static struct recorder_file *
of(sqlite3_file *file)
{
    return (struct recorder_file *)file;
}

static int
recorder_write(sqlite3_file *file, const void *buf, int size, sqlite3_int64 offset)
{
    struct recorder_file *f = of(file);
    int rc;
    lock();
    rc = shim_methods.xWrite(file, buf, size, offset);
    if (rc == SQLITE_OK)
        append(RECORDER_WRITE, f->role, f->inode, (uint64_t)offset, buf, (uint32_t)size);
    unlock();
    return rc;
}

static int
recorder_truncate(sqlite3_file *file, sqlite3_int64 size)
{
    struct recorder_file *f = of(file);
    int rc;
    lock();
    rc = shim_methods.xTruncate(file, size);
    if (rc == SQLITE_OK)
        append(RECORDER_TRUNCATE, f->role, f->inode, (uint64_t)size, NULL, 0);
    unlock();
    return rc;
}

static int
recorder_sync(sqlite3_file *file, int flags)
{
    struct recorder_file *f = of(file);
    (void)flags;
    lock();
    append(RECORDER_SYNC, f->role, f->inode, 0, NULL, 0);
    if (f->sync_dir)
        append(RECORDER_SYNC_DIR, f->role, 0, 0, NULL, 0);
    f->sync_dir = 0;
    unlock();
    return SQLITE_OK;
}

static int
recorder_control(sqlite3_file *file, int op, void *arg)
{
    struct recorder_file *f = of(file);
    if (op != RECORDER_CONTROL_SYNC_FAILED)
        return shim_methods.xFileControl(file, op, arg);
    lock();
    append(RECORDER_SYNC_FAILED, f->role, f->inode, 0, NULL, 0);
    unlock();
    return SQLITE_OK;
}

static sqlite3_io_methods recorder_methods, other_methods;

static int
no_sync(sqlite3_file *file, int flags)
{
    (void)file;
    (void)flags;
    return SQLITE_OK;
}

static int
recorder_open(sqlite3_vfs *vfs, const char *name, sqlite3_file *file, int flags, int *out_flags)
{
    struct recorder_file *f = of(file);
    uint32_t role = role_of(name);
    int rc, exists;
    if (role == RECORDER_ROLES)
        return shim_open(vfs, name, &f->shim, sizeof *f, &other_methods, flags, out_flags);
    lock();
    exists = access(name, F_OK) == 0;
    rc = shim_open(vfs, name, &f->shim, sizeof *f, &recorder_methods, flags, out_flags);
    if (rc == SQLITE_OK && !exists) {
        record->current[role] = ++record->inodes;
        append(RECORDER_CREATE, role, record->current[role], 0, NULL, 0);
    }
    f->role = role;
    f->inode = record->current[role];
    f->sync_dir = role == RECORDER_JOURNAL && (flags & SQLITE_OPEN_CREATE) != 0;
    unlock();
    return rc;
}

static int
recorder_delete(sqlite3_vfs *vfs, const char *name, int sync_dir)
{
    uint32_t role = role_of(name);
    int rc;
    if (role == RECORDER_ROLES)
        return shim_below(vfs)->xDelete(shim_below(vfs), name, 0);
    lock();
    rc = shim_below(vfs)->xDelete(shim_below(vfs), name, 0);
    if (rc == SQLITE_OK) {
        record->current[role] = 0;
        append(RECORDER_DELETE, role, 0, 0, NULL, 0);
        if (sync_dir)
            append(RECORDER_SYNC_DIR, role, 0, 0, NULL, 0);
    }
    unlock();
    return rc;
}

void
recorder_register(void)
{
    sqlite3_initialize();
    other_methods = shim_methods;
    other_methods.xSync = no_sync;
    recorder_methods = shim_methods;
    recorder_methods.xWrite = recorder_write;
    recorder_methods.xTruncate = recorder_truncate;
    recorder_methods.xSync = recorder_sync;
    recorder_methods.xFileControl = recorder_control;
    shim_fill(&recorder_vfs, "recorder", sqlite3_vfs_find("unix"), sizeof(struct recorder_file));
    recorder_vfs.xOpen = recorder_open;
    recorder_vfs.xDelete = recorder_delete;
    if (sqlite3_vfs_register(&recorder_vfs, 0) != SQLITE_OK)
        fail("cannot register");
}
