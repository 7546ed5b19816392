/*
 * A main database file.
 *
 * SQLite's pager believes that it runs a rollback journal.  In store mode its locks become these:
 *
 *   SHARED               begin: claim the newest snapshot
 *   RESERVED             become the writer, if the snapshot is the newest; never waits (see wait.h)
 *   PENDING, EXCLUSIVE   granted: readers do not block writers
 *   COMMIT_PHASETWO      publish, let the next writer in, then wait if durability was asked for
 *   unlock to SHARED     what was not published is discarded
 *   unlock to NONE       end of the transaction
 *
 * A file that is in WAL mode, or that Lockstep cannot coordinate, goes to the parent, call for call; that is
 * decided anew each time the file is locked.
 */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "os/map.h"
#include "store/dbfile.h"
#include "store/ticket.h"
#include "vfs/runner.h"
#include "vfs/vfs.h"
#include "vfs/wait.h"
#include "vfs/wal_pages.h"

#define VERSION_OFFSET 24

static struct lks_file *
of(sqlite3_file *file)
{
    return (struct lks_file *)file;
}

struct lks_file *
lks_file_of(sqlite3_file *file)
{
    return file != NULL && file->pMethods == &lks_store_file_methods ? of(file) : NULL;
}

static bool
forked(const struct lks_file *f)
{
    return *f->fork_guard == 0;
}

static int
store_close(sqlite3_file *file)
{
    struct lks_file *f = of(file);
    int rc;
    lks_files_remove(f);
    lks_wal_detach(f); /* SQLite has unmapped its wal-index; but if it has not */
    /* Somebody of this thread's past may be sleeping for us: see lks_wait_sleep(). */
    lks_wait_bar(f);
    lks_wait_unbar(f);
    pthread_mutex_destroy(&f->sleep_mutex);
    rc = SQLITE_OK;
    lks_file_drop_connection(f);
    if (f->real->pMethods != NULL)
        rc = f->real->pMethods->xClose(f->real);
    lks_lock_note_close(f->note);
    free(f->journal_buffer);
    lks_wal_pages_free(f->wal.pages);
    file->pMethods = NULL;
    return rc;
}

/* The bytes that SQLite reads at each begin to see whether its cache still holds. */
static int
read_version(struct lks_file *f, void *buf)
{
    size_t got = 0;
    enum lockstep_status status;
    if (!f->conn->writing && f->version_snapshot == f->conn->reader.snapshot) {
        memcpy(buf, f->version, sizeof f->version);
        return SQLITE_OK;
    }
    status = lks_conn_read(f->conn, VERSION_OFFSET, buf, sizeof f->version, &got);
    if (status != LOCKSTEP_OK)
        return lks_sqlite_code(status, SQLITE_IOERR_READ);
    if (got < sizeof f->version) {
        memset((char *)buf + got, 0, sizeof f->version - got);
        return SQLITE_IOERR_SHORT_READ;
    }
    if (!f->conn->writing) {
        memcpy(f->version, buf, sizeof f->version);
        f->version_snapshot = f->conn->reader.snapshot;
    }
    return SQLITE_OK;
}

static int
store_read(sqlite3_file *file, void *buf, int amount, sqlite3_int64 offset)
{
    struct lks_file *f = of(file);
    size_t got = 0;
    enum lockstep_status status;
    if (!f->store) {
        int rc;
        if (lks_wal_pages_find(f, LKS_WAL_DATABASE, buf, amount, offset))
            return SQLITE_OK;
        rc = f->real->pMethods->xRead(f->real, buf, amount, offset);
        if (rc == SQLITE_OK)
            lks_wal_pages_keep(f, LKS_WAL_DATABASE, buf, amount, offset);
        /* A file that could be written is to be found read-only, as stock SQLite finds it: commits wait. */
        if (rc == SQLITE_OK && f->readonly)
            lks_dbfile_hide_tripwire((uint64_t)offset, buf, (size_t)amount);
        return rc;
    }
    if (forked(f))
        return SQLITE_MISUSE;
    if (offset == VERSION_OFFSET && amount == (int)sizeof f->version)
        return read_version(f, buf);
    status = lks_conn_read(f->conn, (uint64_t)offset, buf, (size_t)amount, &got);
    if (status != LOCKSTEP_OK)
        return lks_sqlite_code(status, SQLITE_IOERR_READ);
    if (got == (size_t)amount)
        return SQLITE_OK;
    memset((char *)buf + got, 0, (size_t)amount - got);
    return SQLITE_IOERR_SHORT_READ;
}

/* The pager thinks that it still has the lock that COMMIT_PHASETWO gave up: locking_mode was not seen. */
static int
regain_writer(struct lks_file *f)
{
    enum lockstep_status status;
    if (f->conn->writing)
        return SQLITE_OK;
    f->exclusive = true;
    status = lks_conn_write_begin(f->conn);
    return lks_sqlite_code(status, SQLITE_IOERR_LOCK);
}

static int
store_write(sqlite3_file *file, const void *buf, int amount, sqlite3_int64 offset)
{
    struct lks_file *f = of(file);
    enum lockstep_status status;
    int rc;
    if (!f->store)
        return f->real->pMethods->xWrite(f->real, buf, amount, offset);
    if (forked(f))
        return SQLITE_MISUSE;
    rc = regain_writer(f);
    if (rc != SQLITE_OK)
        return rc;
    status = lks_conn_write(f->conn, (uint64_t)offset, buf, (size_t)amount);
    return lks_sqlite_code(status, SQLITE_IOERR_WRITE);
}

static int
store_truncate(sqlite3_file *file, sqlite3_int64 size)
{
    struct lks_file *f = of(file);
    int rc;
    if (!f->store)
        return f->real->pMethods->xTruncate(f->real, size);
    if (forked(f))
        return SQLITE_MISUSE;
    rc = regain_writer(f);
    if (rc != SQLITE_OK)
        return rc;
    return lks_sqlite_code(lks_conn_truncate(f->conn, (uint64_t)size), SQLITE_IOERR_TRUNCATE);
}

static int
store_sync(sqlite3_file *file, int flags)
{
    struct lks_file *f = of(file);
    if (!f->store)
        return f->real->pMethods->xSync(f->real, flags);
    f->database_synced = true;
    return SQLITE_OK;
}

static int
store_size(sqlite3_file *file, sqlite3_int64 *out_size)
{
    struct lks_file *f = of(file);
    if (!f->store)
        return f->real->pMethods->xFileSize(f->real, out_size);
    *out_size = (sqlite3_int64)f->conn->size;
    return SQLITE_OK;
}

enum lockstep_durability
lks_file_durability(const struct lks_file *f)
{
    if (f->uri.durability != LKS_DURABILITY_AS_ASKED)
        return (enum lockstep_durability)f->uri.durability;
    /* synchronous=OFF: the pager syncs nothing. */
    if (!f->database_synced)
        return LOCKSTEP_OFF;
    /* FULL: it syncs its journal twice, before the header and after.  NORMAL: once. */
    if (f->journal_syncs >= 2)
        return LOCKSTEP_FULL_SYNC;
    if (f->journal_syncs == 1)
        return LOCKSTEP_ASYNC;
    /* journal_mode is MEMORY or OFF: what the pragma said last. */
    return f->synchronous >= 2 ? LOCKSTEP_FULL_SYNC : LOCKSTEP_ASYNC;
}

/* Waits for the ticket as long as it takes, and says why when it takes long. */
static int
wait_durable(struct lks_file *f, uint64_t ticket)
{
    enum lockstep_status status = LOCKSTEP_TIMEOUT;
    if (f->conn->writing) {
        status = lks_ticket_wait_lending(f->db, ticket, 1000);
        /* Another process is the worker and cannot borrow: rather share for a moment than wait for ever. */
        if (status == LOCKSTEP_TIMEOUT)
            lks_conn_write_end(f->conn);
    }
    while (status == LOCKSTEP_TIMEOUT &&
           (status = lks_ticket_wait(f->db, ticket, 5000)) == LOCKSTEP_TIMEOUT)
        lks_log(LKS_WARNING,
                "%s: a commit waits for more than 5 s to become durable: a stock SQLite reader that stays "
                "open, a stopped worker process or a slow disk; see `lockstep locks`",
                f->name);
    if (status != LOCKSTEP_OK)
        /* SQLite does not pass it on when several databases are committed at once. */
        lks_log(LKS_ERROR,
                "%s: commit %llu is visible but not durable: the disk failed (%s); it is written when the disk "
                "recovers",
                f->name, (unsigned long long)ticket, lks_status_name(status));
    /* The pager knows only FULL and IOERR here. */
    return status == LOCKSTEP_OK     ? SQLITE_OK
           : status == LOCKSTEP_FULL ? SQLITE_FULL
                                     : SQLITE_IOERR_FSYNC;
}

static int
commit(struct lks_file *f)
{
    enum lockstep_durability durability = lks_file_durability(f);
    uint64_t ticket = 0;
    bool dirty, must_wait;
    enum lockstep_status status;

    if (!f->conn->writing)
        return SQLITE_OK;
    dirty = f->conn->dirty;
    /*
     * A file that is still empty has no byte 18 for the tripwire: if all were killed now, stock SQLite could
     * make a database of its own there.  The first commits are therefore in the file before COMMIT returns.
     */
    must_wait = durability == LOCKSTEP_FULL_SYNC ||
                lks_a64_relaxed(&f->db->shm->state.file_size) == 0;
    status = lks_conn_publish(f->conn, durability, &ticket);
    if (status != LOCKSTEP_OK)
        return lks_sqlite_code(status, SQLITE_IOERR_WRITE);
    f->ticket = ticket;
    f->journal_syncs = 0;
    f->database_synced = false;
    lks_runner_notice(f->db, ticket);
    if (f->exclusive)
        lks_conn_renew(f->conn);
    else
        lks_conn_write_end(f->conn);
    return dirty && must_wait ? wait_durable(f, ticket) : SQLITE_OK;
}

static int
become_writer(struct lks_file *f)
{
    enum lockstep_status status;
    if (f->conn->writing)
        return SQLITE_OK;
    if (f->readonly || f->db->readonly)
        return SQLITE_READONLY;
    status = lks_conn_write_begin(f->conn);
    if (status == LOCKSTEP_BUSY || status == LOCKSTEP_STALE) {
        lks_wait_refused(f);
        return SQLITE_BUSY;
    }
    if (status == LOCKSTEP_OK) {
        lks_wait_granted(f);
        f->journal_syncs = 0;
        f->database_synced = false;
    }
    return lks_sqlite_code(status, SQLITE_IOERR_LOCK);
}

static int
begin(struct lks_file *f)
{
    enum lockstep_status status;
    int rc = lks_store_file_connect(f);
    if (rc == SQLITE_NOTFOUND)
        return lks_file_begin_at_parent(f);
    if (rc != SQLITE_OK)
        return rc;
    lks_wait_before_begin(f);
    status = lks_conn_begin(f->conn);
    if (status != LOCKSTEP_OK)
        return lks_sqlite_code(status, SQLITE_IOERR_LOCK);
    f->store = true;
    if (f->exclusive && !f->readonly) {
        /* Nobody else may change the database from the first read on. */
        rc = become_writer(f);
        if (rc != SQLITE_OK) {
            lks_conn_end(f->conn);
            f->store = false;
        }
    }
    return rc;
}

static int
store_lock(sqlite3_file *file, int level)
{
    struct lks_file *f = of(file);
    int rc = SQLITE_OK;
    if (level <= f->lock)
        return SQLITE_OK;
    if (forked(f))
        return SQLITE_MISUSE;
    lks_wait_before_lock(f);
    if (f->lock == SQLITE_LOCK_NONE) {
        rc = begin(f);
        if (rc != SQLITE_OK)
            return rc;
        lks_vfs_note_file(f);
        f->lock = SQLITE_LOCK_SHARED;
    }
    if (level == SQLITE_LOCK_SHARED)
        return SQLITE_OK;
    if (f->store)
        rc = become_writer(f);
    else
        rc = level == SQLITE_LOCK_EXCLUSIVE ? lks_wal_lock_exclusive(f)
                                            : f->real->pMethods->xLock(f->real, level);
    if (rc == SQLITE_OK)
        f->lock = level;
    return rc;
}

static int
store_unlock(sqlite3_file *file, int level)
{
    struct lks_file *f = of(file);
    int rc = SQLITE_OK;
    /* A refused EXCLUSIVE may have left the parent at PENDING, and SQLite then unlocks to what it had. */
    if (level > f->lock || (level == f->lock && !f->real_locked))
        return SQLITE_OK;
    if (f->real_locked)
        rc = f->real->pMethods->xUnlock(f->real, level);
    else if (f->store && !forked(f)) {
        if (level == SQLITE_LOCK_NONE) {
            lks_conn_end(f->conn);
        } else if (f->conn->writing) {
            lks_conn_discard(f->conn);
            lks_conn_write_end(f->conn);
        }
    }
    f->lock = level;
    if (level == SQLITE_LOCK_NONE) {
        f->store = f->real_locked = false;
        lks_file_drop_note(f);
    }
    return rc;
}

static int
store_reserved(sqlite3_file *file, int *out_reserved)
{
    struct lks_file *f = of(file);
    uint64_t since;
    if (!f->store)
        return f->real->pMethods->xCheckReservedLock(f->real, out_reserved);
    *out_reserved = lks_queue_owner(f->db, &since) < LKS_MAX_CLIENTS;
    return SQLITE_OK;
}

struct joining {
    struct lks_file *file;
    sqlite3 *connection;
};

/* Under the list's mutex, for every thread's files are looked at. */
static bool
join_connection(struct lks_file *other, void *arg)
{
    struct joining *joining = arg;
    if (other == joining->file)
        other->connection = joining->connection;
    else if (other->connection == joining->connection && other->exclusive)
        /* ATTACH inherits the connection's locking mode. */
        joining->file->exclusive = true;
    return false;
}

static int
vfs_name(struct lks_file *f, char **out_name)
{
    char *below = NULL;
    int rc = f->real->pMethods->xFileControl(f->real, SQLITE_FCNTL_VFSNAME, &below);
    if (rc != SQLITE_OK)
        below = NULL;
    *out_name = sqlite3_mprintf("%s/%s", f->async ? "sqlite3async" : "lockstep", below != NULL ? below : lks_vfs_parent()->zName);
    sqlite3_free(below);
    return SQLITE_OK;
}

/* What means something else, or nothing, while a transaction goes through the store. */
static int
store_mode_control(struct lks_file *f, int op, void *arg)
{
    switch (op) {
    case SQLITE_FCNTL_COMMIT_PHASETWO: return forked(f) ? SQLITE_MISUSE : commit(f);
    case SQLITE_FCNTL_HAS_MOVED:
        /* The worker looks before each batch. */
        *(int *)arg = 0;
        return SQLITE_OK;
    case SQLITE_FCNTL_SYNC:
    case SQLITE_FCNTL_SIZE_HINT:
    case SQLITE_FCNTL_OVERWRITE:
    case SQLITE_FCNTL_CHUNK_SIZE: return SQLITE_OK;
    case SQLITE_FCNTL_BEGIN_ATOMIC_WRITE:
    case SQLITE_FCNTL_COMMIT_ATOMIC_WRITE:
    case SQLITE_FCNTL_ROLLBACK_ATOMIC_WRITE:
    case SQLITE_FCNTL_MMAP_SIZE: return SQLITE_NOTFOUND;
    default: return f->real->pMethods->xFileControl(f->real, op, arg);
    }
}

static int
store_control(sqlite3_file *file, int op, void *arg)
{
    struct lks_file *f = of(file);
    switch (op) {
    case SQLITE_FCNTL_PDB: {
        struct joining joining = {f, *(sqlite3 **)arg};
        (void)lks_files_find(join_connection, &joining);
        f->user = arg;
        break;
    }
    case SQLITE_FCNTL_PRAGMA: {
        int rc = lks_pragma(f, arg);
        if (rc != SQLITE_NOTFOUND)
            return rc;
        break;
    }
    case SQLITE_FCNTL_LOCKSTATE: *(int *)arg = f->lock; return SQLITE_OK;
    case SQLITE_FCNTL_VFSNAME: return vfs_name(f, arg);
    default: break;
    }
    if (f->store)
        return store_mode_control(f, op, arg);
    if (op == SQLITE_FCNTL_COMMIT_PHASETWO && f->wal.log != NULL) {
        int rc = forked(f) ? SQLITE_MISUSE : lks_wal_commit(f);
        if (rc != SQLITE_OK)
            return rc;
    }
    return f->real->pMethods->xFileControl(f->real, op, arg);
}

static int
store_sector(sqlite3_file *file)
{
    return of(file)->real->pMethods->xSectorSize(of(file)->real);
}

static int
store_characteristics(sqlite3_file *file)
{
    struct lks_file *f = of(file);
    int all = f->real->pMethods->xDeviceCharacteristics(f->real);
    /*
     * An atomic batch would pass the store by, and with SAFE_APPEND or SEQUENTIAL the pager syncs its journal less
     * often, which tells FULL from NORMAL.
     */
    return f->store ? all & SQLITE_IOCAP_POWERSAFE_OVERWRITE
                    : all & ~(SQLITE_IOCAP_BATCH_ATOMIC | SQLITE_IOCAP_SEQUENTIAL);
}

static int
store_shm_map(sqlite3_file *file, int region, int size, int extend, void volatile **out)
{
    struct lks_file *f = of(file);
    int rc;
    if (f->store || f->real->pMethods->iVersion < 2)
        return SQLITE_IOERR_SHMMAP;
    rc = f->real->pMethods->xShmMap(f->real, region, size, extend, out);
    if (region == 0 && rc == SQLITE_OK && *out != NULL) {
        f->wal.index = *out;
        lks_wal_attach(f);
    }
    return rc;
}

static int
store_shm_lock(sqlite3_file *file, int offset, int n, int flags)
{
    struct lks_file *f = of(file);
    return f->wal.attached && forked(f) ? SQLITE_MISUSE : lks_wal_lock(f, offset, n, flags);
}

static void
store_shm_barrier(sqlite3_file *file)
{
    if (of(file)->wal.snapshot.begins)
        lks_wal_barrier(of(file));
    of(file)->real->pMethods->xShmBarrier(of(file)->real);
}

static int
store_shm_unmap(sqlite3_file *file, int delete_flag)
{
    struct lks_file *f = of(file);
    if (f->real->pMethods->iVersion < 2)
        return SQLITE_OK;
    lks_wal_detach(f);
    f->wal.index = NULL;
    return f->real->pMethods->xShmUnmap(f->real, delete_flag);
}

static int
store_fetch(sqlite3_file *file, sqlite3_int64 offset, int amount, void **out)
{
    struct lks_file *f = of(file);
    *out = NULL;
    if (f->store || f->real->pMethods->iVersion < 3)
        return SQLITE_OK;
    return f->real->pMethods->xFetch(f->real, offset, amount, out);
}

static int
store_unfetch(sqlite3_file *file, sqlite3_int64 offset, void *page)
{
    struct lks_file *f = of(file);
    if (f->real->pMethods->iVersion < 3)
        return SQLITE_OK;
    return f->real->pMethods->xUnfetch(f->real, offset, page);
}

const sqlite3_io_methods lks_store_file_methods = {
    .iVersion = 3,
    .xClose = store_close,
    .xRead = store_read,
    .xWrite = store_write,
    .xTruncate = store_truncate,
    .xSync = store_sync,
    .xFileSize = store_size,
    .xLock = store_lock,
    .xUnlock = store_unlock,
    .xCheckReservedLock = store_reserved,
    .xFileControl = store_control,
    .xSectorSize = store_sector,
    .xDeviceCharacteristics = store_characteristics,
    .xShmMap = store_shm_map,
    .xShmLock = store_shm_lock,
    .xShmBarrier = store_shm_barrier,
    .xShmUnmap = store_shm_unmap,
    .xFetch = store_fetch,
    .xUnfetch = store_unfetch,
};

static int
default_synchronous(void)
{
    int level;
    char option[32];
    for (level = 0; level <= 3; level++) {
        sqlite3_snprintf(sizeof option, option, "DEFAULT_SYNCHRONOUS=%d", level);
        if (sqlite3_compileoption_used(option))
            return level;
    }
    return 2;
}

int
lks_store_file_open(sqlite3_vfs *vfs, const char *name, struct lks_file *f, int flags, int *out_flags)
{
    static struct lks_a64 serials;
    int rc, given = flags;
    (void)vfs;
    memset(f, 0, sizeof *f);
    f->real = (sqlite3_file *)(f + 1);
    f->real->pMethods = NULL;
    lks_uri_parse(name, &f->uri);
    rc = f->uri.shm != LKS_SHM_NATIVE
             ? lks_copy_file_open(f->uri.shm, name, f->real, flags, &given)
             : lks_vfs_parent()->xOpen(lks_vfs_parent(), name, f->real, flags, &given);
    if (rc != SQLITE_OK)
        return rc;
    f->name = name;
    f->journal_name = sqlite3_filename_journal(name);
    f->wal_name = sqlite3_filename_wal(name);
    f->serial = lks_a64_add(&serials, 1) + 1;
    f->readonly = (given & SQLITE_OPEN_READONLY) != 0;
    f->fork_guard = lks_map_fork_guard();
    f->synchronous = default_synchronous();
    pthread_mutex_init(&f->sleep_mutex, NULL);
    f->base.pMethods = &lks_store_file_methods;
    lks_files_add(f);
    if (out_flags != NULL)
        *out_flags = given;
    return SQLITE_OK;
}
