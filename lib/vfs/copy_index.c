/*
 * The parent keeps what it is good at: with the `-shm` file it opens it, truncates it as the first to come, holds the dead
 * man's switch, and arbitrates the eight locks between processes and between all connections of this one, stock
 * ones too, which it could not with ours if we had a table of our own (POSIX locks do not conflict in a
 * process).  It locks only what it has opened, and opens when it is asked for a region.  So it is asked for one that is
 * not there: FAR_REGION, without leave to make it.  The answer is "no memory", and nothing is mapped.
 *
 * Where xShmLock changes what may be written, and when copies are made: shm_copy.h.
 */
#include "vfs/copy_index.h"

#include <string.h>

#include "base/atomic.h"
#include "base/log.h"
#include "os/map.h"
#include "vfs/wal.h"

/*
 * os_unix.c computes the size of the file up to a region as an int, and keeps their number in 16 bits: no `-shm` file has
 * this one (it would be of a log of 268 million frames).  Even, for systems whose pages have two regions.
 */
#define FAR_REGION 65532

void
lks_copy_index_init(struct lks_copy_index *c, enum lks_shm_kind kind, const char *name, sqlite3_file *self,
                    sqlite3_file *real)
{
    memset(c, 0, sizeof *c);
    c->self = self;
    c->real = real;
    c->name = name;
    c->kind = kind;
    c->fork_guard = lks_map_fork_guard();
    lks_shm_copy_init(&c->copy, (unsigned)sqlite3_uri_int64(name, "shm_measure", 0));
}

/* May it write hash words? */
static bool
may_write(const struct lks_copy_index *c)
{
    return (c->locks.exclusive & LKS_WAL_BIT(LKS_WAL_WRITE)) != 0 || c->locks.level == SQLITE_LOCK_EXCLUSIVE;
}

static bool
may_change(const struct lks_copy_index *c)
{
    return c->locks.exclusive != 0 || may_write(c) || (c->copy.measure & LKS_SHM_RELEASE_ALWAYS) != 0;
}

/* ------------------------------------------------------------------------------------------------
 * Mapping
 * --------------------------------------------------------------------------------------------- */

/* Any other might map, or keep its wal-index elsewhere: unix-excl would make all the regions on the heap. */
static bool
is_over_unix(struct lks_copy_index *c)
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
open_at_parent(struct lks_copy_index *c)
{
    void volatile *memory = NULL;
    int rc = c->real->pMethods->xShmMap(c->real, FAR_REGION, (int)LKS_INDEX_REGION_BYTES, 0, &memory);
    if (rc == SQLITE_OK && memory != NULL)
        return SQLITE_IOERR_SHMMAP;
    return rc;
}

static int
open_file(struct lks_copy_index *c)
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
    if (status == LOCKSTEP_MISUSE)
        lks_log(LKS_ERROR, "%s: connections to it were carried across fork(), and SQLite takes their locks for this "
                           "process's; shm=copy can be used once they are closed, or after exec()", path);
    else if (status != LOCKSTEP_OK)
        lks_log(LKS_ERROR, "%s: cannot be opened, or is not the file that is locked (%s)", path,
                lks_status_name(status));
    sqlite3_free(path);
    if (status != LOCKSTEP_OK) /* READONLY would say that it is there */
        return status == LOCKSTEP_READONLY ? SQLITE_CANTOPEN : lks_sqlite_code(status, SQLITE_IOERR_SHMOPEN);
    c->copy.area = lks_shm_file_area(c->file);
    return rc;
}

static int
open_heap(struct lks_copy_index *c)
{
    if (c->heap == NULL)
        return SQLITE_IOERR_SHMMAP; /* SQLite has a lock on the database */
    lks_shm_heap_join(c->heap);
    c->joined = true;
    c->copy.area = lks_shm_heap_area(c->heap);
    return SQLITE_OK;
}

int
lks_copy_index_map(struct lks_copy_index *c, int region, int size, int extend, void volatile **out)
{
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
    if (region == 0 && *out == NULL)
        lks_copy_round_begin(&c->round, NULL);
    if (status != LOCKSTEP_OK)
        return lks_sqlite_code(status, SQLITE_IOERR_SHMMAP);
    return c->copy.readonly ? SQLITE_READONLY : SQLITE_OK;
}

int
lks_copy_index_unmap(struct lks_copy_index *c, int delete_flag)
{
    int rc = SQLITE_OK;
    bool forked = *c->fork_guard == 0;
    lks_copy_round_asked(c->self);
    /* Nothing to release: what may change has a lock, and who unmaps has none, or EXCLUSIVE, and nobody is there. */
    lks_shm_copy_clear(&c->copy);
    c->copy.area = NULL;
    if (c->joined && !forked) {
        lks_shm_heap_unlock(c->heap, &c->locks, 0, SQLITE_SHM_NLOCK);
        lks_shm_heap_leave(c->heap);
    }
    c->joined = false;
    if (c->kind == LKS_SHM_COPY)
        rc = c->real->pMethods->xShmUnmap(c->real, forked ? 0 : delete_flag); /* the child's own table of locks */
    c->locks.shared = c->locks.exclusive = 0; /* gone with it, if SQLite had any */
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
take(struct lks_copy_index *c, int offset, int n, int flags)
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
drop(struct lks_copy_index *c, int offset, int n, int flags)
{
    if (c->kind == LKS_SHM_HEAP) {
        lks_shm_heap_unlock(c->heap, &c->locks, offset, n);
        return SQLITE_OK;
    }
    c->locks.exclusive &= ~bits_of(offset, n);
    c->locks.shared &= ~bits_of(offset, n);
    return c->real->pMethods->xShmLock(c->real, offset, n, flags);
}

/* After a lock was taken. */
static enum lockstep_status
acquire_for(struct lks_copy_index *c, uint32_t bits, bool exclusive)
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
lock_shm(struct lks_copy_index *c, int offset, int n, int flags)
{
    bool exclusive = (flags & SQLITE_SHM_EXCLUSIVE) != 0;
    enum lockstep_status status;
    int rc;
    if (lks_copy_index_has_failed(c))
        return SQLITE_IOERR_SHMLOCK;
    rc = take(c, offset, n, flags);
    if (rc != SQLITE_OK)
        return rc;
    lks_copy_round_locked(&c->round, offset, exclusive, lks_shm_copy_head(&c->copy));
    status = acquire_for(c, bits_of(offset, n), exclusive);
    if (status == LOCKSTEP_OK)
        return SQLITE_OK;
    (void)lks_copy_index_has_failed(c);
    (void)drop(c, offset, n, (flags & ~SQLITE_SHM_LOCK) | SQLITE_SHM_UNLOCK);
    return lks_sqlite_code(status, SQLITE_IOERR_SHMLOCK);
}

/* SQLite looks at no result: what could not be published fails the next lock, and COMMIT_PHASETWO. */
static int
unlock_shm(struct lks_copy_index *c, int offset, int n, int flags)
{
    uint32_t had = c->locks.exclusive & bits_of(offset, n);
    bool ends = (had & LKS_WAL_BIT(LKS_WAL_WRITE)) != 0 && c->locks.level != SQLITE_LOCK_EXCLUSIVE;
    int rc;
    if (ends)
        (void)!lks_shm_copy_end_write(&c->copy);
    else if (had != 0 || (c->copy.measure & LKS_SHM_RELEASE_ALWAYS) != 0)
        (void)!lks_shm_copy_release(&c->copy);
    rc = drop(c, offset, n, flags);
    if (lks_copy_round_lost(&c->round, c->self))
        lks_copy_index_refresh(c); /* C13 */
    return rc;
}

int
lks_copy_index_lock(struct lks_copy_index *c, int offset, int n, int flags)
{
    if (*c->fork_guard == 0)
        return SQLITE_MISUSE;
    lks_copy_round_asked(c->self);
    if (c->copy.area == NULL) /* READONLY_CANTINIT: SQLite makes its own, and locks */
        return c->kind == LKS_SHM_HEAP ? SQLITE_IOERR_SHMLOCK : c->real->pMethods->xShmLock(c->real, offset, n, flags);
    return (flags & SQLITE_SHM_UNLOCK) != 0 ? unlock_shm(c, offset, n, flags) : lock_shm(c, offset, n, flags);
}

void
lks_copy_index_barrier(struct lks_copy_index *c)
{
    lks_fence();
    lks_copy_round_asked(c->self);
    if (*c->fork_guard == 0 || c->copy.area == NULL || c->copy.failed)
        return;
    if ((c->locks.shared | c->locks.exclusive) == 0 && !may_change(c)) {
        lks_copy_round_begin(&c->round, lks_shm_copy_head(&c->copy));
        (void)!lks_shm_copy_look(&c->copy);
        return;
    }
    if (lks_shm_copy_acquire(&c->copy) == LOCKSTEP_OK && may_change(c))
        (void)!lks_shm_copy_release(&c->copy);
    lks_copy_round_compared(&c->round, lks_shm_copy_head(&c->copy));
}

static int
database_lock(struct lks_copy_index *c, int level)
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

int
lks_copy_index_unlock_database(struct lks_copy_index *c, int level)
{
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
    return c->real->pMethods->xUnlock(c->real, level);
}

/* With EXCLUSIVE SQLite changes the wal-index without a lock of its own: locking_mode, and the last close. */
int
lks_copy_index_lock_database(struct lks_copy_index *c, int level)
{
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
    (void)lks_copy_index_unlock_database(c, before);
    return lks_sqlite_code(status, SQLITE_IOERR_LOCK);
}

int
lks_copy_index_reserved(struct lks_copy_index *c, int *out_reserved)
{
    if (c->kind == LKS_SHM_COPY)
        return c->real->pMethods->xCheckReservedLock(c->real, out_reserved);
    *out_reserved = c->heap != NULL && lks_shm_heap_is_reserved(c->heap);
    return SQLITE_OK;
}

/* ------------------------------------------------------------------------------------------------
 * For Lockstep
 * --------------------------------------------------------------------------------------------- */

bool
lks_copy_index_write_is_free(struct lks_copy_index *c)
{
    struct lks_shm_heap_locks nobody = {0};
    bool is_free;
    if (*c->fork_guard == 0 || c->copy.area == NULL)
        return true;
    if (c->kind == LKS_SHM_HEAP) {
        is_free = lks_shm_heap_lock(c->heap, &nobody, LKS_WAL_WRITE, 1, true) == LOCKSTEP_OK;
        lks_shm_heap_unlock(c->heap, &nobody, LKS_WAL_WRITE, 1);
        return is_free;
    }
    is_free = c->real->pMethods->xShmLock(c->real, LKS_WAL_WRITE, 1, SQLITE_SHM_LOCK | SQLITE_SHM_EXCLUSIVE) == SQLITE_OK;
    if (is_free)
        (void)c->real->pMethods->xShmLock(c->real, LKS_WAL_WRITE, 1, SQLITE_SHM_UNLOCK | SQLITE_SHM_EXCLUSIVE);
    return is_free;
}

void
lks_copy_index_refresh(struct lks_copy_index *c)
{
    if (*c->fork_guard == 0 || c->copy.area == NULL || c->copy.failed)
        return;
    lks_copy_round_unknown(&c->round);
    (void)!lks_shm_copy_acquire(&c->copy);
}

bool
lks_copy_index_has_failed(struct lks_copy_index *c)
{
    if (c->copy.failed && !c->told)
        lks_log(LKS_ERROR, "%s: its wal-index could not be read or written; close the connection", c->name);
    c->told = c->told || c->copy.failed;
    return c->copy.failed;
}
