#include "bench/delay_vfs.h"

#include <sqlite3.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/prctl.h>

#include "bench/moment.h"

/* The base VFS's own file follows in the same allocation; SQLite gives szOsFile bytes. */
struct delay_file {
    sqlite3_file file;
    sqlite3_io_methods methods; /* of the version that the base file has */
};

static sqlite3_vfs *base_vfs;
static uint32_t delay_us;
static _Atomic uint64_t delayed_syncs;

static sqlite3_file *
base_of(sqlite3_file *file)
{
    return (sqlite3_file *)((struct delay_file *)file + 1);
}

static void
delay(void)
{
    atomic_fetch_add_explicit(&delayed_syncs, 1, memory_order_relaxed);
    bench_moment_sleep_until(bench_moment_ns() + delay_us * 1000ull);
}

/* ---- the file ---- */

static int
file_close(sqlite3_file *f)
{
    return base_of(f)->pMethods->xClose(base_of(f));
}

static int
file_read(sqlite3_file *f, void *buf, int size, sqlite3_int64 offset)
{
    return base_of(f)->pMethods->xRead(base_of(f), buf, size, offset);
}

static int
file_write(sqlite3_file *f, const void *buf, int size, sqlite3_int64 offset)
{
    return base_of(f)->pMethods->xWrite(base_of(f), buf, size, offset);
}

static int
file_truncate(sqlite3_file *f, sqlite3_int64 size)
{
    return base_of(f)->pMethods->xTruncate(base_of(f), size);
}

static int
file_sync(sqlite3_file *f, int flags)
{
    delay();
    return base_of(f)->pMethods->xSync(base_of(f), flags);
}

static int
file_size(sqlite3_file *f, sqlite3_int64 *out_size)
{
    return base_of(f)->pMethods->xFileSize(base_of(f), out_size);
}

static int
file_lock(sqlite3_file *f, int level)
{
    return base_of(f)->pMethods->xLock(base_of(f), level);
}

static int
file_unlock(sqlite3_file *f, int level)
{
    return base_of(f)->pMethods->xUnlock(base_of(f), level);
}

static int
file_check_reserved(sqlite3_file *f, int *out_reserved)
{
    return base_of(f)->pMethods->xCheckReservedLock(base_of(f), out_reserved);
}

static int
file_control(sqlite3_file *f, int op, void *arg)
{
    return base_of(f)->pMethods->xFileControl(base_of(f), op, arg);
}

static int
file_sector_size(sqlite3_file *f)
{
    return base_of(f)->pMethods->xSectorSize(base_of(f));
}

static int
file_characteristics(sqlite3_file *f)
{
    return base_of(f)->pMethods->xDeviceCharacteristics(base_of(f));
}

static int
file_shm_map(sqlite3_file *f, int region, int size, int extend, void volatile **out_map)
{
    return base_of(f)->pMethods->xShmMap(base_of(f), region, size, extend, out_map);
}

static int
file_shm_lock(sqlite3_file *f, int offset, int n, int flags)
{
    return base_of(f)->pMethods->xShmLock(base_of(f), offset, n, flags);
}

static void
file_shm_barrier(sqlite3_file *f)
{
    base_of(f)->pMethods->xShmBarrier(base_of(f));
}

static int
file_shm_unmap(sqlite3_file *f, int delete_flag)
{
    return base_of(f)->pMethods->xShmUnmap(base_of(f), delete_flag);
}

static int
file_fetch(sqlite3_file *f, sqlite3_int64 offset, int size, void **out_page)
{
    return base_of(f)->pMethods->xFetch(base_of(f), offset, size, out_page);
}

static int
file_unfetch(sqlite3_file *f, sqlite3_int64 offset, void *page)
{
    return base_of(f)->pMethods->xUnfetch(base_of(f), offset, page);
}

static const sqlite3_io_methods delay_methods = {
    .iVersion = 3,
    .xClose = file_close,
    .xRead = file_read,
    .xWrite = file_write,
    .xTruncate = file_truncate,
    .xSync = file_sync,
    .xFileSize = file_size,
    .xLock = file_lock,
    .xUnlock = file_unlock,
    .xCheckReservedLock = file_check_reserved,
    .xFileControl = file_control,
    .xSectorSize = file_sector_size,
    .xDeviceCharacteristics = file_characteristics,
    .xShmMap = file_shm_map,
    .xShmLock = file_shm_lock,
    .xShmBarrier = file_shm_barrier,
    .xShmUnmap = file_shm_unmap,
    .xFetch = file_fetch,
    .xUnfetch = file_unfetch,
};

/* ---- the VFS ---- */

static int
delay_open(sqlite3_vfs *vfs, const char *name, sqlite3_file *f, int flags, int *out_flags)
{
    struct delay_file *file = (struct delay_file *)f;
    (void)vfs;
    memset(file, 0, sizeof(*file));
    int rc = base_vfs->xOpen(base_vfs, name, base_of(f), flags, out_flags);
    const sqlite3_io_methods *base = base_of(f)->pMethods;
    if (base == NULL)
        return rc; /* SQLite must not close it */
    file->methods = delay_methods;
    file->methods.iVersion = base->iVersion < 3 ? base->iVersion : 3;
    file->file.pMethods = &file->methods;
    return rc;
}

static int
delay_delete(sqlite3_vfs *vfs, const char *name, int sync_directory)
{
    (void)vfs;
    if (sync_directory)
        delay();
    return base_vfs->xDelete(base_vfs, name, sync_directory);
}

static int
delay_access(sqlite3_vfs *vfs, const char *name, int flags, int *out_result)
{
    (void)vfs;
    return base_vfs->xAccess(base_vfs, name, flags, out_result);
}

static int
delay_full_pathname(sqlite3_vfs *vfs, const char *name, int size, char *out_path)
{
    (void)vfs;
    return base_vfs->xFullPathname(base_vfs, name, size, out_path);
}

static void *
delay_dl_open(sqlite3_vfs *vfs, const char *name)
{
    (void)vfs;
    return base_vfs->xDlOpen(base_vfs, name);
}

static void
delay_dl_error(sqlite3_vfs *vfs, int size, char *out_message)
{
    (void)vfs;
    base_vfs->xDlError(base_vfs, size, out_message);
}

static void (*delay_dl_sym(sqlite3_vfs *vfs, void *library, const char *symbol))(void)
{
    (void)vfs;
    return base_vfs->xDlSym(base_vfs, library, symbol);
}

static void
delay_dl_close(sqlite3_vfs *vfs, void *library)
{
    (void)vfs;
    base_vfs->xDlClose(base_vfs, library);
}

static int
delay_randomness(sqlite3_vfs *vfs, int size, char *out_bytes)
{
    (void)vfs;
    return base_vfs->xRandomness(base_vfs, size, out_bytes);
}

static int
delay_sleep(sqlite3_vfs *vfs, int microseconds)
{
    (void)vfs;
    return base_vfs->xSleep(base_vfs, microseconds);
}

static int
delay_current_time(sqlite3_vfs *vfs, double *out_julian)
{
    (void)vfs;
    return base_vfs->xCurrentTime(base_vfs, out_julian);
}

static int
delay_last_error(sqlite3_vfs *vfs, int size, char *out_message)
{
    (void)vfs;
    return base_vfs->xGetLastError(base_vfs, size, out_message);
}

static int
delay_current_time_64(sqlite3_vfs *vfs, sqlite3_int64 *out_ms)
{
    (void)vfs;
    return base_vfs->xCurrentTimeInt64(base_vfs, out_ms);
}

static sqlite3_vfs delay_vfs = {
    .iVersion = 2,
    .zName = BENCH_DELAY_VFS_NAME,
    .xOpen = delay_open,
    .xDelete = delay_delete,
    .xAccess = delay_access,
    .xFullPathname = delay_full_pathname,
    .xDlOpen = delay_dl_open,
    .xDlError = delay_dl_error,
    .xDlSym = delay_dl_sym,
    .xDlClose = delay_dl_close,
    .xRandomness = delay_randomness,
    .xSleep = delay_sleep,
    .xCurrentTime = delay_current_time,
    .xGetLastError = delay_last_error,
    .xCurrentTimeInt64 = delay_current_time_64,
};

int
bench_delay_vfs_register(uint32_t sync_us)
{
    int rc = sqlite3_initialize();
    if (rc != SQLITE_OK)
        return rc;
    base_vfs = sqlite3_vfs_find("unix");
    if (base_vfs == NULL || base_vfs->iVersion < 2)
        return SQLITE_NOTFOUND;
    delay_us = sync_us;
    /* The kernel lets a sleep be 50 us longer, which counts here; threads that are made later inherit it. */
    if (sync_us < 1000)
        (void)prctl(PR_SET_TIMERSLACK, 1);
    delay_vfs.szOsFile = (int)sizeof(struct delay_file) + base_vfs->szOsFile;
    delay_vfs.mxPathname = base_vfs->mxPathname;
    return sqlite3_vfs_register(&delay_vfs, 0);
}

uint64_t
bench_delay_vfs_syncs(void)
{
    return atomic_load_explicit(&delayed_syncs, memory_order_relaxed);
}
