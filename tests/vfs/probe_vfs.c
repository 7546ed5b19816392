#include "vfs/probe_vfs.h"

#include <pthread.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct probe_file {
    sqlite3_file base;
    sqlite3_file *real; /* follows */
    bool checkpoints;   /* it has CKPT */
    char kind;          /* 'd' the database, 'f' the log, 0 another */
    struct log *log;    /* of a log */
};

/* A log, by its name; never freed. */
struct log {
    char name[200];
    unsigned unsynced; /* writes since its last sync, under fault_mutex */
};
#define LOGS 8

static sqlite3_vfs probe;
static sqlite3_vfs *below;
static _Thread_local char events[4096], told[4096];
static _Thread_local size_t count;
static _Atomic unsigned totals[256];
static pthread_mutex_t fault_mutex = PTHREAD_MUTEX_INITIALIZER;
static struct probe_fault fault;
static unsigned passed, hits;
static struct log logs[LOGS];
static int super_journal = -1;
static void (*in_checkpoint)(void), (*before_snapshots)(void), (*after_snapshots)(void);
static void (*instead_of_sleeps)(void);

static char at_event;
static void (*at)(void);

static struct probe_file *
of(sqlite3_file *file)
{
    return (struct probe_file *)file;
}

static void
note(char event)
{
    totals[(unsigned char)event]++;
    if (event != 0 && count + 1 < sizeof events)
        events[count++] = event;
    if (event != 0 && event == at_event && at != NULL)
        at();
}

void
probe_at(char event, void (*callback)(void))
{
    at_event = event;
    at = callback;
}

const char *
probe_events(void)
{
    memcpy(told, events, count);
    told[count] = '\0';
    count = 0;
    return told;
}

unsigned
probe_total(char event)
{
    return totals[(unsigned char)event];
}

static struct log *
find_log(const char *name)
{
    size_t i;
    for (i = 0; i < LOGS - 1 && logs[i].name[0] != '\0' && strcmp(logs[i].name, name) != 0; i++)
        ;
    snprintf(logs[i].name, sizeof logs[i].name, "%s", name);
    return &logs[i];
}

/* Of all logs; under fault_mutex. */
static unsigned
count_unsynced(void)
{
    unsigned n = 0;
    size_t i;
    for (i = 0; i < LOGS; i++)
        n += logs[i].unsynced;
    return n;
}

unsigned
probe_unsynced(void)
{
    unsigned n;
    pthread_mutex_lock(&fault_mutex);
    n = count_unsynced();
    pthread_mutex_unlock(&fault_mutex);
    return n;
}

int
probe_at_super_journal(void)
{
    int n;
    pthread_mutex_lock(&fault_mutex);
    n = super_journal;
    super_journal = -1;
    pthread_mutex_unlock(&fault_mutex);
    return n;
}

static void
note_unsynced(struct log *log, bool synced)
{
    if (log == NULL)
        return;
    pthread_mutex_lock(&fault_mutex);
    log->unsynced = synced ? 0 : log->unsynced + 1;
    pthread_mutex_unlock(&fault_mutex);
}

void
probe_break(const struct probe_fault *what)
{
    pthread_mutex_lock(&fault_mutex);
    fault = *what;
    passed = hits = 0;
    pthread_mutex_unlock(&fault_mutex);
}

void
probe_mend(void)
{
    probe_break(&(struct probe_fault){.event = 0});
}

unsigned
probe_hits(void)
{
    unsigned n;
    pthread_mutex_lock(&fault_mutex);
    n = hits;
    pthread_mutex_unlock(&fault_mutex);
    return n;
}

void
probe_fail_syncs(int times)
{
    probe_break(&(struct probe_fault){.event = 's', .code = SQLITE_IOERR_FSYNC, .times = (unsigned)times});
}

/* SQLITE_OK, or the code with which this operation fails. */
static int
strikes(char event)
{
    int rc = SQLITE_OK;
    pthread_mutex_lock(&fault_mutex);
    if (event != 0 && event == fault.event && passed++ >= fault.after &&
        (fault.times == 0 || hits < fault.times)) {
        rc = fault.code;
        hits++;
    }
    pthread_mutex_unlock(&fault_mutex);
    return rc;
}

void
probe_in_checkpoint(void (*callback)(void))
{
    in_checkpoint = callback;
}

void
probe_before_snapshots(void (*callback)(void))
{
    before_snapshots = callback;
}

void
probe_after_snapshots(void (*callback)(void))
{
    after_snapshots = callback;
}

void
probe_instead_of_sleeps(void (*callback)(void))
{
    instead_of_sleeps = callback;
}

static int
probe_close(sqlite3_file *file)
{
    int rc = of(file)->real->pMethods->xClose(of(file)->real);
    file->pMethods = NULL;
    return rc;
}

static int
probe_read(sqlite3_file *file, void *buf, int amount, sqlite3_int64 offset)
{
    int rc = strikes(of(file)->kind == 'f' ? 'r' : 0);
    if (amount >= 512) /* of the database also shorter pieces are read */
        totals['p']++;
    if (rc == SQLITE_IOERR_SHORT_READ) {
        memset(buf, 0, (size_t)amount);
        (void)of(file)->real->pMethods->xRead(of(file)->real, buf, amount / 2, offset);
    }
    return rc != SQLITE_OK ? rc : of(file)->real->pMethods->xRead(of(file)->real, buf, amount, offset);
}

static int
probe_write(sqlite3_file *file, const void *buf, int amount, sqlite3_int64 offset)
{
    char event = of(file)->kind == 'f' && offset == 0 ? 'h' : of(file)->kind;
    int rc = strikes(event);
    note(event);
    note_unsynced(of(file)->log, false);
    if (rc != SQLITE_OK && amount > 1)
        (void)of(file)->real->pMethods->xWrite(of(file)->real, buf, amount / 2, offset);
    return rc != SQLITE_OK ? rc : of(file)->real->pMethods->xWrite(of(file)->real, buf, amount, offset);
}

static int
probe_truncate(sqlite3_file *file, sqlite3_int64 size)
{
    int rc = strikes(of(file)->kind == 'f' ? 't' : 0);
    return rc != SQLITE_OK ? rc : of(file)->real->pMethods->xTruncate(of(file)->real, size);
}

static int
probe_sync(sqlite3_file *file, int flags)
{
    char event = of(file)->kind == 'f' ? 's' : of(file)->kind == 'd' ? 'D' : 0;
    int rc = strikes(event);
    note(event);
    if (rc == SQLITE_OK)
        rc = of(file)->real->pMethods->xSync(of(file)->real, flags);
    if (rc == SQLITE_OK)
        note_unsynced(of(file)->log, true);
    return rc;
}

static int
probe_size(sqlite3_file *file, sqlite3_int64 *out)
{
    return of(file)->real->pMethods->xFileSize(of(file)->real, out);
}

static int
probe_lock(sqlite3_file *file, int level)
{
    return of(file)->real->pMethods->xLock(of(file)->real, level);
}

static int
probe_unlock(sqlite3_file *file, int level)
{
    return of(file)->real->pMethods->xUnlock(of(file)->real, level);
}

static int
probe_reserved(sqlite3_file *file, int *out)
{
    return of(file)->real->pMethods->xCheckReservedLock(of(file)->real, out);
}

static int
probe_control(sqlite3_file *file, int op, void *arg)
{
    return of(file)->real->pMethods->xFileControl(of(file)->real, op, arg);
}

static int
probe_sector(sqlite3_file *file)
{
    return of(file)->real->pMethods->xSectorSize(of(file)->real);
}

static int
probe_characteristics(sqlite3_file *file)
{
    return of(file)->real->pMethods->xDeviceCharacteristics(of(file)->real);
}

static int
probe_shm_map(sqlite3_file *file, int region, int size, int extend, void volatile **out)
{
    return of(file)->real->pMethods->xShmMap(of(file)->real, region, size, extend, out);
}

static int
probe_shm_lock(sqlite3_file *file, int offset, int n, int flags)
{
    bool lock = (flags & SQLITE_SHM_LOCK) != 0;
    int rc;
    void (*callback)(void) = lock ? before_snapshots : after_snapshots;
    if (lock && (flags & SQLITE_SHM_EXCLUSIVE) != 0 && offset >= 4 && n == 1)
        totals['m']++;
    if ((flags & SQLITE_SHM_SHARED) != 0 && offset >= 3 && callback != NULL)
        callback();
    rc = of(file)->real->pMethods->xShmLock(of(file)->real, offset, n, flags);
    if (rc == SQLITE_OK && (flags & SQLITE_SHM_EXCLUSIVE) != 0) {
        if (offset == 1 && n == 1)
            of(file)->checkpoints = lock;
        if (offset == 0 && n == 1)
            note(lock ? 'W' : 'w');
        else if (offset == 1 && n == 1)
            note(lock ? 'C' : 'c');
        else if (offset == 4 && n == 4 && lock)
            note('R');
    }
    return rc;
}

static void
probe_shm_barrier(sqlite3_file *file)
{
    of(file)->real->pMethods->xShmBarrier(of(file)->real);
}

static int
probe_shm_unmap(sqlite3_file *file, int delete_flag)
{
    return of(file)->real->pMethods->xShmUnmap(of(file)->real, delete_flag);
}

static int
probe_fetch(sqlite3_file *file, sqlite3_int64 offset, int amount, void **out)
{
    return of(file)->real->pMethods->xFetch(of(file)->real, offset, amount, out);
}

static int
probe_unfetch(sqlite3_file *file, sqlite3_int64 offset, void *page)
{
    void (*callback)(void) = in_checkpoint;
    if (page == NULL && callback != NULL && of(file)->checkpoints) {
        in_checkpoint = NULL;
        callback();
    }
    return of(file)->real->pMethods->xUnfetch(of(file)->real, offset, page);
}

static const sqlite3_io_methods probe_methods = {
    .iVersion = 3,
    .xClose = probe_close,
    .xRead = probe_read,
    .xWrite = probe_write,
    .xTruncate = probe_truncate,
    .xSync = probe_sync,
    .xFileSize = probe_size,
    .xLock = probe_lock,
    .xUnlock = probe_unlock,
    .xCheckReservedLock = probe_reserved,
    .xFileControl = probe_control,
    .xSectorSize = probe_sector,
    .xDeviceCharacteristics = probe_characteristics,
    .xShmMap = probe_shm_map,
    .xShmLock = probe_shm_lock,
    .xShmBarrier = probe_shm_barrier,
    .xShmUnmap = probe_shm_unmap,
    .xFetch = probe_fetch,
    .xUnfetch = probe_unfetch,
};

static int
probe_open(sqlite3_vfs *vfs, const char *name, sqlite3_file *file, int flags, int *out_flags)
{
    struct probe_file *p = of(file);
    int rc;
    (void)vfs;
    p->real = (sqlite3_file *)(p + 1);
    p->real->pMethods = NULL;
    p->checkpoints = false;
    p->kind = (flags & SQLITE_OPEN_WAL) != 0 ? 'f' : (flags & SQLITE_OPEN_MAIN_DB) != 0 ? 'd' : 0;
    pthread_mutex_lock(&fault_mutex);
    p->log = p->kind == 'f' ? find_log(name) : NULL;
    pthread_mutex_unlock(&fault_mutex);
    rc = below->xOpen(below, name, p->real, flags, out_flags);
    file->pMethods = p->real->pMethods != NULL ? &probe_methods : NULL;
    return rc;
}

static int
probe_delete(sqlite3_vfs *vfs, const char *name, int sync_dir)
{
    (void)vfs;
    pthread_mutex_lock(&fault_mutex);
    if (strstr(name, "-mj") != NULL)
        super_journal = (int)count_unsynced();
    pthread_mutex_unlock(&fault_mutex);
    return below->xDelete(below, name, sync_dir);
}

static int
probe_access(sqlite3_vfs *vfs, const char *name, int flags, int *out)
{
    (void)vfs;
    return below->xAccess(below, name, flags, out);
}

static int
probe_full_pathname(sqlite3_vfs *vfs, const char *name, int n, char *out)
{
    (void)vfs;
    return below->xFullPathname(below, name, n, out);
}

static int
probe_sleep(sqlite3_vfs *vfs, int microseconds)
{
    (void)vfs;
    if (instead_of_sleeps == NULL)
        return below->xSleep(below, microseconds);
    instead_of_sleeps();
    return microseconds;
}

void
probe_register(void)
{
    below = sqlite3_vfs_find("unix");
    probe = *below;
    probe.zName = "probe";
    probe.szOsFile = (int)sizeof(struct probe_file) + below->szOsFile;
    probe.pNext = NULL;
    probe.xOpen = probe_open;
    probe.xDelete = probe_delete;
    probe.xAccess = probe_access;
    probe.xFullPathname = probe_full_pathname;
    probe.xSleep = probe_sleep;
    sqlite3_vfs_register(&probe, 0);
}
