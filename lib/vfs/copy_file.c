/*
 * The parent keeps what it is good at: with the `-shm` file it opens it, truncates it as the first to come, holds the dead
 * man's switch, and arbitrates the eight locks between processes and between all connections of this one, stock
 * ones too, which it could not with ours if we had a table of our own (POSIX locks do not conflict in a
 * process).  It locks only what it has opened, and opens when it is asked for a region.  So it is asked for one that is
 * not there: FAR_REGION, without leave to make it.  The answer is "no memory", and nothing is mapped.
 *
 * Where xShmLock changes what may be written, and when copies are made: shm_copy.h.
 */
#include "vfs/copy_file.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/atomic.h"
#include "base/log.h"
#include "os/map.h"
#include "vfs/shm_copy.h"
#include "vfs/shm_file.h"
#include "vfs/shm_heap.h"
#include "vfs/vfs.h"

/*
 * os_unix.c computes the size of the file up to a region as an int, and keeps their number in 16 bits: no `-shm` file has
 * this one (it would be of a log of 268 million frames).  Even, for systems whose pages have two regions.
 */
#define FAR_REGION 65532

struct copy_file {
    sqlite3_file base;
    sqlite3_file *real; /* follows */
    const char *name;
    enum lks_shm_kind kind;
    const volatile char *fork_guard;
    unsigned measure;
    struct lks_shm_copy copy;
    struct lks_shm_file *file; /* of COPY, while mapped */
    struct lks_shm_heap *heap; /* of HEAP, since the first lock */
    bool joined;               /* ... and mapped */
    struct lks_shm_heap_locks locks;
    unsigned char header[LKS_INDEX_HEADER_BYTES]; /* that SQLite has read last without a lock */
    bool header_known;                            /* ... and since then it has read or made none otherwise */
    bool begins;     /* the last lock is that of a snapshot, and SQLite has not yet compared the header */
    bool again;      /* it has, and found another */
    unsigned rounds; /* in which it looked for a snapshot, since it had one */
};

/*
 * The file for which this thread is in SQLite's loop that looks for a snapshot, and is about to begin another round:
 * the next thing it does is to sleep, or to read the header.  So nobody else uses the file, nor closes it.
 */
static __thread struct copy_file *begins_again;

/* SQLite gives up after 100, and then the thread may do anything. */
#define MAX_ROUNDS 90

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

/* What is asked for next. */
static void
forget_round(struct copy_file *c)
{
    if (begins_again == c)
        begins_again = NULL;
}

/* May it write hash words? */
static bool
may_write(const struct copy_file *c)
{
    return (c->locks.exclusive & LKS_WAL_BIT(LKS_WAL_WRITE)) != 0 || c->locks.level == SQLITE_LOCK_EXCLUSIVE;
}

static bool
may_change(const struct copy_file *c)
{
    return c->locks.exclusive != 0 || may_write(c) || (c->measure & LKS_SHM_RELEASE_ALWAYS) != 0;
}

/* ------------------------------------------------------------------------------------------------
 * Mapping
 * --------------------------------------------------------------------------------------------- */

/* Any other might map, or keep its wal-index elsewhere: unix-excl would make all the regions on the heap. */
static bool
is_over_unix(struct copy_file *c)
{
    char *names = NULL;
    const char *last;
    bool is;
    if (c->real->pMethods->xFileControl(c->real, SQLITE_FCNTL_VFSNAME, &names) != SQLITE_OK || names == NULL)
        return false;
    last = strrchr(names, '/');
    is = strcmp(last != NULL ? last + 1 : names, "unix") == 0;
    sqlite3_free(names);
    return is;
}

/* The parent opens the file and locks the switch.  READONLY is an answer: it is open. */
static int
open_at_parent(struct copy_file *c)
{
    void volatile *memory = NULL;
    int rc = c->real->pMethods->xShmMap(c->real, FAR_REGION, (int)LKS_INDEX_REGION_BYTES, 0, &memory);
    if (rc == SQLITE_OK && memory != NULL)
        return SQLITE_IOERR_SHMMAP;
    return rc;
}

static int
open_file(struct copy_file *c)
{
    char *path;
    enum lockstep_status status;
    int rc;
    if (!is_over_unix(c)) {
        lks_log(LKS_ERROR, "%s: shm=copy is for SQLite's VFS \"unix\" and what lies over it", c->name);
        return SQLITE_CANTOPEN;
    }
    rc = open_at_parent(c);
    if (rc != SQLITE_OK && rc != SQLITE_READONLY)
        return rc;
    path = sqlite3_mprintf("%s-shm", c->name);
    if (path == NULL)
        return SQLITE_NOMEM;
    c->copy.readonly = rc == SQLITE_READONLY;
    status = lks_shm_file_open(path, c->copy.readonly, &c->file);
    if (status != LOCKSTEP_OK)
        lks_log(LKS_ERROR, "%s: cannot be opened, or is not the file that is locked (%s)", path,
                lks_status_name(status));
    sqlite3_free(path);
    if (status != LOCKSTEP_OK) /* READONLY would say that it is there */
        return status == LOCKSTEP_READONLY ? SQLITE_CANTOPEN : lks_sqlite_code(status, SQLITE_IOERR_SHMOPEN);
    c->copy.area = lks_shm_file_area(c->file);
    return rc;
}

static int
open_heap(struct copy_file *c)
{
    if (c->heap == NULL)
        return SQLITE_IOERR_SHMMAP; /* SQLite has a lock on the database */
    lks_shm_heap_join(c->heap);
    c->joined = true;
    c->copy.area = lks_shm_heap_area(c->heap);
    return SQLITE_OK;
}

static int
copy_shm_map(sqlite3_file *file, int region, int size, int extend, void volatile **out)
{
    struct copy_file *c = of(file);
    enum lockstep_status status;
    int rc = SQLITE_OK;
    *out = NULL;
    if (*c->fork_guard == 0)
        return SQLITE_MISUSE;
    if (size != (int)LKS_INDEX_REGION_BYTES || region < 0 || region >= FAR_REGION)
        return SQLITE_IOERR_SHMMAP;
    if (c->copy.area == NULL)
        rc = c->kind == LKS_SHM_HEAP ? open_heap(c) : open_file(c);
    if (rc != SQLITE_OK && rc != SQLITE_READONLY)
        return rc;
    if (may_write(c))
        (void)!lks_shm_copy_begin_write(&c->copy); /* the lock is older than the mapping; failed tells */
    if (c->copy.failed)
        return SQLITE_IOERR_SHMMAP;
    status = lks_shm_copy_map(&c->copy, (uint32_t)region, extend != 0, out);
    if (status != LOCKSTEP_OK)
        return lks_sqlite_code(status, SQLITE_IOERR_SHMMAP);
    return c->copy.readonly ? SQLITE_READONLY : SQLITE_OK;
}

static int
copy_shm_unmap(sqlite3_file *file, int delete_flag)
{
    struct copy_file *c = of(file);
    int rc = SQLITE_OK;
    forget_round(c);
    if (*c->fork_guard == 0)
        return SQLITE_OK; /* the parent's memory and descriptors */
    if (may_change(c))
        (void)!lks_shm_copy_end_write(&c->copy);
    lks_shm_copy_clear(&c->copy);
    c->copy.area = NULL;
    if (c->joined) {
        lks_shm_heap_unlock(c->heap, &c->locks, 0, SQLITE_SHM_NLOCK);
        lks_shm_heap_leave(c->heap);
    }
    c->joined = false;
    if (c->kind == LKS_SHM_COPY)
        rc = below(file)->xShmUnmap(c->real, delete_flag);
    lks_shm_file_close(c->file);
    c->file = NULL;
    return rc;
}

/* ------------------------------------------------------------------------------------------------
 * Locks
 * --------------------------------------------------------------------------------------------- */

static uint32_t
bits_of(int offset, int n)
{
    return ((1u << n) - 1) << offset;
}

static int
take(struct copy_file *c, int offset, int n, int flags)
{
    bool exclusive = (flags & SQLITE_SHM_EXCLUSIVE) != 0;
    int rc;
    if (c->kind == LKS_SHM_HEAP)
        return c->joined ? lks_sqlite_code(lks_shm_heap_lock(c->heap, &c->locks, offset, n, exclusive),
                                           SQLITE_IOERR_SHMLOCK)
                         : SQLITE_IOERR_SHMLOCK;
    rc = c->real->pMethods->xShmLock(c->real, offset, n, flags);
    if (rc == SQLITE_OK)
        *(exclusive ? &c->locks.exclusive : &c->locks.shared) |= bits_of(offset, n);
    return rc;
}

static int
drop(struct copy_file *c, int offset, int n, int flags)
{
    if (c->kind == LKS_SHM_HEAP) {
        lks_shm_heap_unlock(c->heap, &c->locks, offset, n);
        return SQLITE_OK;
    }
    c->locks.exclusive &= ~bits_of(offset, n);
    c->locks.shared &= ~bits_of(offset, n);
    return c->real->pMethods->xShmLock(c->real, offset, n, flags);
}

/* ------------------------------------------------------------------------------------------------
 * A snapshot, C13: a round of SQLite's walTryBeginRead() reads the header (which has the barrier under no lock), takes
 * READ(i), has a barrier, compares, and lets go if it is another.  It also begins again when it has had RECOVER, shared,
 * for a moment, which says that nobody recovers.
 * --------------------------------------------------------------------------------------------- */

/* The barrier after copy 1 was read; nothing is acquired yet. */
static void
note_header_read(struct copy_file *c)
{
    const uint32_t *header = lks_shm_copy_header(&c->copy);
    c->begins = c->again = false;
    c->header_known = header != NULL;
    if (header != NULL)
        memcpy(c->header, header, sizeof c->header);
    c->rounds++;
}

static void
note_locked(struct copy_file *c, int offset, bool exclusive)
{
    c->begins = !exclusive && offset >= LKS_WAL_READ0;
    c->again = !exclusive && offset == LKS_WAL_RECOVER;
    /* Under these it reads the header once more, or makes it. */
    if (offset < LKS_WAL_READ0)
        c->header_known = false;
}

/*
 * A barrier under a lock.  The first one under READ(i): SQLite is about to compare, in the same way.  Any other: it may have
 * read the header, or be making it.  What is not known is not judged; then the next round is.
 */
static void
note_compared(struct copy_file *c)
{
    const uint32_t *header = lks_shm_copy_header(&c->copy);
    bool compares = c->begins && c->header_known && header != NULL;
    c->begins = c->header_known = false;
    if (!compares)
        return;
    c->again = memcmp(header, c->header, sizeof c->header) != 0;
    if (!c->again)
        c->rounds = 0;
}

static void
note_unlocked(struct copy_file *c)
{
    if (!c->again)
        return;
    c->again = false;
    lks_copy_file_refresh(&c->base);
    if (c->rounds <= MAX_ROUNDS)
        begins_again = c;
}

void
lks_copy_file_slept(void)
{
    struct copy_file *c = begins_again;
    begins_again = NULL;
    if (c != NULL)
        lks_copy_file_refresh(&c->base);
}

/* After a lock was taken. */
static enum lockstep_status
acquire_for(struct copy_file *c, uint32_t bits, bool exclusive)
{
    if (!exclusive)
        return lks_shm_copy_acquire(&c->copy);
    if ((bits & LKS_WAL_BIT(LKS_WAL_WRITE)) != 0)
        return lks_shm_copy_begin_write(&c->copy);
    if ((bits & LKS_WAL_BIT(LKS_WAL_RECOVER)) != 0)
        lks_shm_copy_recover(&c->copy);
    return lks_shm_copy_acquire(&c->copy);
}

static int
lock_shm(struct copy_file *c, int offset, int n, int flags)
{
    enum lockstep_status status;
    int rc;
    if (c->copy.failed)
        return SQLITE_IOERR_SHMLOCK;
    rc = take(c, offset, n, flags);
    if (rc != SQLITE_OK)
        return rc;
    status = acquire_for(c, bits_of(offset, n), (flags & SQLITE_SHM_EXCLUSIVE) != 0);
    if (status == LOCKSTEP_OK) {
        note_locked(c, offset, (flags & SQLITE_SHM_EXCLUSIVE) != 0);
        return SQLITE_OK;
    }
    (void)drop(c, offset, n, (flags & ~SQLITE_SHM_LOCK) | SQLITE_SHM_UNLOCK);
    return lks_sqlite_code(status, SQLITE_IOERR_SHMLOCK);
}

/* SQLite looks at no result: what could not be published fails the next lock, and COMMIT_PHASETWO. */
static int
unlock_shm(struct copy_file *c, int offset, int n, int flags)
{
    uint32_t had = c->locks.exclusive & bits_of(offset, n);
    bool ends = (had & LKS_WAL_BIT(LKS_WAL_WRITE)) != 0 && c->locks.level != SQLITE_LOCK_EXCLUSIVE;
    int rc;
    if (ends)
        (void)!lks_shm_copy_end_write(&c->copy);
    else if (had != 0 || (c->measure & LKS_SHM_RELEASE_ALWAYS) != 0)
        (void)!lks_shm_copy_release(&c->copy);
    rc = drop(c, offset, n, flags);
    note_unlocked(c);
    return rc;
}

static int
copy_shm_lock(sqlite3_file *file, int offset, int n, int flags)
{
    struct copy_file *c = of(file);
    if (*c->fork_guard == 0)
        return SQLITE_MISUSE;
    forget_round(c);
    if (c->copy.area == NULL) /* READONLY_CANTINIT: SQLite makes its own, and locks */
        return c->kind == LKS_SHM_HEAP ? SQLITE_IOERR_SHMLOCK : below(file)->xShmLock(c->real, offset, n, flags);
    return (flags & SQLITE_SHM_UNLOCK) != 0 ? unlock_shm(c, offset, n, flags) : lock_shm(c, offset, n, flags);
}

static void
copy_shm_barrier(sqlite3_file *file)
{
    struct copy_file *c = of(file);
    lks_fence();
    forget_round(c);
    if (*c->fork_guard == 0 || c->copy.area == NULL || c->copy.failed)
        return;
    if ((c->locks.shared | c->locks.exclusive) == 0 && !may_change(c)) {
        note_header_read(c);
        (void)!lks_shm_copy_look(&c->copy);
        return;
    }
    if (lks_shm_copy_acquire(&c->copy) == LOCKSTEP_OK && may_change(c))
        (void)!lks_shm_copy_release(&c->copy);
    note_compared(c);
}

static int
database_lock(struct copy_file *c, int level)
{
    enum lockstep_status status = LOCKSTEP_OK;
    int rc;
    if (c->kind == LKS_SHM_COPY) {
        rc = c->real->pMethods->xLock(c->real, level);
        if (rc == SQLITE_OK && level > c->locks.level)
            c->locks.level = level;
        return rc;
    }
    if (c->heap == NULL)
        status = lks_shm_heap_open(c->name, &c->heap);
    if (c->heap == NULL && status == LOCKSTEP_READONLY) {
        lks_log(LKS_ERROR, "%s: cannot be used alone (multi_process=0, shm=copy): it may not be written", c->name);
        status = LOCKSTEP_CANTOPEN;
    }
    if (status == LOCKSTEP_OK)
        status = lks_shm_heap_lock_database(c->heap, &c->locks, level);
    return lks_sqlite_code(status, SQLITE_IOERR_LOCK);
}

static int
copy_unlock(sqlite3_file *file, int level)
{
    struct copy_file *c = of(file);
    if (*c->fork_guard == 0)
        return SQLITE_MISUSE;
    if (c->locks.level == SQLITE_LOCK_EXCLUSIVE && level < SQLITE_LOCK_EXCLUSIVE && c->copy.area != NULL) {
        if ((c->locks.exclusive & LKS_WAL_BIT(LKS_WAL_WRITE)) != 0)
            (void)!lks_shm_copy_release(&c->copy);
        else
            (void)!lks_shm_copy_end_write(&c->copy);
    }
    if (c->kind == LKS_SHM_HEAP) {
        if (c->heap != NULL)
            lks_shm_heap_unlock_database(c->heap, &c->locks, level);
        return SQLITE_OK;
    }
    if (level < c->locks.level)
        c->locks.level = level;
    return below(file)->xUnlock(c->real, level);
}

/* With EXCLUSIVE SQLite changes the wal-index without a lock of its own: locking_mode, and the last close. */
static int
copy_lock(sqlite3_file *file, int level)
{
    struct copy_file *c = of(file);
    int before = c->locks.level, rc;
    enum lockstep_status status;
    if (*c->fork_guard == 0)
        return SQLITE_MISUSE;
    rc = database_lock(c, level);
    if (rc != SQLITE_OK || level != SQLITE_LOCK_EXCLUSIVE || before == level || c->copy.area == NULL)
        return rc;
    status = c->copy.failed ? LOCKSTEP_IOERR : lks_shm_copy_begin_write(&c->copy);
    if (status == LOCKSTEP_OK)
        return SQLITE_OK;
    (void)copy_unlock(file, before);
    return lks_sqlite_code(status, SQLITE_IOERR_LOCK);
}

static int
copy_reserved(sqlite3_file *file, int *out_reserved)
{
    struct copy_file *c = of(file);
    if (c->kind == LKS_SHM_COPY)
        return below(file)->xCheckReservedLock(c->real, out_reserved);
    *out_reserved = c->heap != NULL && lks_shm_heap_is_reserved(c->heap);
    return SQLITE_OK;
}

/* ------------------------------------------------------------------------------------------------
 * The rest
 * --------------------------------------------------------------------------------------------- */

static int
copy_close(sqlite3_file *file)
{
    struct copy_file *c = of(file);
    if (c->copy.area != NULL)
        (void)copy_shm_unmap(file, 0);
    if (c->kind == LKS_SHM_HEAP)
        (void)copy_unlock(file, SQLITE_LOCK_NONE);
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
    if (op == SQLITE_FCNTL_COMMIT_PHASETWO && c->copy.failed) {
        lks_log(LKS_ERROR, "%s: its wal-index could not be read or written; close the connection", c->name);
        return SQLITE_IOERR_SHMMAP;
    }
    if (op == SQLITE_FCNTL_LOCKSTATE) {
        *(int *)arg = c->locks.level;
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
    c->name = name;
    c->kind = kind;
    c->fork_guard = lks_map_fork_guard();
    c->measure = (unsigned)sqlite3_uri_int64(name, "shm_measure", 0);
    lks_shm_copy_init(&c->copy, c->measure);
    c->base.pMethods = c->real->pMethods->iVersion >= 2 && c->real->pMethods->xShmMap != NULL ? &with_shm : &without_shm;
    return SQLITE_OK;
}

bool
lks_copy_file_write_is_free(sqlite3_file *file)
{
    struct copy_file *c = of(file);
    struct lks_shm_heap_locks nobody = {0};
    bool is_free;
    if (*c->fork_guard == 0 || c->copy.area == NULL)
        return true;
    if (c->kind == LKS_SHM_HEAP) {
        is_free = lks_shm_heap_lock(c->heap, &nobody, LKS_WAL_WRITE, 1, true) == LOCKSTEP_OK;
        lks_shm_heap_unlock(c->heap, &nobody, LKS_WAL_WRITE, 1);
        return is_free;
    }
    is_free = below(file)->xShmLock(c->real, LKS_WAL_WRITE, 1, SQLITE_SHM_LOCK | SQLITE_SHM_EXCLUSIVE) == SQLITE_OK;
    if (is_free)
        (void)below(file)->xShmLock(c->real, LKS_WAL_WRITE, 1, SQLITE_SHM_UNLOCK | SQLITE_SHM_EXCLUSIVE);
    return is_free;
}

void
lks_copy_file_refresh(sqlite3_file *file)
{
    struct copy_file *c = of(file);
    if (*c->fork_guard != 0 && c->copy.area != NULL && !c->copy.failed)
        (void)!lks_shm_copy_acquire(&c->copy);
}

/* ------------------------------------------------------------------------------------------------
 * The VFS of the name
 * --------------------------------------------------------------------------------------------- */

static sqlite3_vfs copy_vfs, heap_vfs;

static int
vfs_open(sqlite3_vfs *vfs, const char *name, sqlite3_file *file, int flags, int *out_flags)
{
    if (name != NULL && (flags & SQLITE_OPEN_MAIN_DB) != 0)
        return lks_copy_file_open(vfs == &heap_vfs ? LKS_SHM_HEAP : LKS_SHM_COPY, name, file, flags, out_flags);
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
