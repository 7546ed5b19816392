/*
 * The `-wal` file of a main database file: the parent's, or copy_log.c's over it, call for call, but that the sync of a
 * commit may be put off until after the write lock is let go.
 *
 * SQLite syncs its log on three occasions:
 *
 *   after the header, when the log begins anew    a barrier: frames must not reach the disk before it
 *   at the end of a commit, with FULL             the commit's: may be put off
 *   before a checkpoint copies pages              a barrier: the database must not be ahead of the log
 *
 * Which one it is, is told by state: only a commit holds WRITE and not CKPT and has written a frame last.  What
 * cannot be told (exclusive locking mode, where SQLite asks for no locks; a file that is not attached) is done at
 * once.
 *
 * A transaction over several databases in a rollback mode has a super-journal, and then SQLite passes over errors of
 * COMMIT_PHASETWO; so there nothing is put off.  The super-journal is opened through the VFS of the main
 * database, so of a connection whose main database is another VFS's nothing is put off either.
 *
 * SQLite writes a frame in two, its header and its page, and the frames of a commit one after the other.  Those that are
 * put behind the last one are kept here, and written in one when the frame that ends a commit has its page: its header
 * says that it does.  The result of that write is the page's.  (Headers alone are written over older frames only, where a
 * page that was written twice changes the checksums.)  What is kept is nobody's yet: a frame counts when the wal-index
 * says so, and that is after the frame that ends the commit.  Before anything else is done with the file what is kept is
 * written; if that fails it stays kept, so that a commit without it fails too, but for the frame that would have ended
 * one.  When WRITE is let go it is forgotten: the transaction was rolled back, and the place is another's.
 */
#include <stdlib.h>
#include <string.h>

#include "base/crashpoint.h"
#include "coord/groupsync.h"
#include "vfs/copy_log.h"
#include "vfs/vfs.h"
#include "vfs/wal_pages.h"

/* So much is kept at most, or one frame. */
#define KEPT_BYTES (64 * 1024)

struct wal_file {
    sqlite3_file base;
    sqlite3_file *real; /* follows */
    struct lks_file *main;
    unsigned char *kept; /* main->wal.kept_bytes of it */
    int room;            /* bytes, of kept */
    bool half;           /* the last that is kept is a header, without its page yet */
    bool ends;           /* the frame of that header ends a commit */
    int page_bytes;      /* of the last page that was kept */
};

static struct wal_file *
of(sqlite3_file *file)
{
    return (struct wal_file *)file;
}

static bool
forked(const struct wal_file *w)
{
    return (w->main->wal.attached || w->main->uri.shm != LKS_SHM_NATIVE) && *w->main->fork_guard == 0;
}

/* ------------------------------------------------------------------------------------------------
 * Frames
 * --------------------------------------------------------------------------------------------- */

static int
real_write(struct wal_file *w, const void *buf, int amount, sqlite3_int64 offset)
{
    return w->real->pMethods->xWrite(w->real, buf, amount, offset);
}

/* Where the next frame goes. */
static sqlite3_int64
log_end(const struct lks_wal *wal)
{
    if (wal->log_end != 0)
        return wal->log_end;
    return LKS_LOG_HEADER_BYTES + (sqlite3_int64)lks_wal_index_word(wal->index, LKS_INDEX_MAX_FRAME) *
                                      (LKS_FRAME_HEADER_BYTES + lks_wal_index_page(wal->index));
}

/* Before anything else is done with the file. */
static int
write_kept(struct wal_file *w)
{
    struct lks_wal *wal = &w->main->wal;
    int rc = SQLITE_OK;
    if (*w->main->fork_guard == 0 || !wal->owns_writer)
        wal->kept_bytes = 0; /* its parent's, or rolled back */
    if (wal->kept_bytes != 0)
        rc = real_write(w, w->kept, wal->kept_bytes, wal->log_end - wal->kept_bytes);
    if (rc == SQLITE_OK)
        wal->kept_bytes = 0;
    return rc;
}

static bool
has_room(struct wal_file *w, int bytes)
{
    unsigned char *kept;
    if (bytes <= w->room)
        return true;
    kept = realloc(w->kept, (size_t)bytes);
    if (kept == NULL)
        return false;
    w->kept = kept;
    w->room = bytes;
    return true;
}

static bool
is_next_header(const struct wal_file *w, int amount, sqlite3_int64 offset)
{
    const struct lks_wal *wal = &w->main->wal;
    return amount == LKS_FRAME_HEADER_BYTES && wal->attached && wal->owns_writer && offset == log_end(wal);
}

static bool
is_its_page(const struct wal_file *w, int amount, sqlite3_int64 offset)
{
    const struct lks_wal *wal = &w->main->wal;
    return wal->kept_bytes != 0 && w->half && offset == wal->log_end && amount >= 512;
}

static void
keep(struct wal_file *w, const void *buf, int amount, sqlite3_int64 offset)
{
    struct lks_wal *wal = &w->main->wal;
    memcpy(w->kept + wal->kept_bytes, buf, (size_t)amount);
    wal->kept_bytes += amount;
    wal->log_end = offset + amount;
}

/* A header that goes behind the last frame.  False: it cannot be kept, and nothing was done. */
static bool
keep_header(struct wal_file *w, const void *buf, sqlite3_int64 offset)
{
    struct lks_wal *wal = &w->main->wal;
    const unsigned char *pages = (const unsigned char *)buf + sizeof(uint32_t); /* of the database, after a commit */
    int frame = LKS_FRAME_HEADER_BYTES + w->page_bytes;
    if (wal->kept_bytes + frame > KEPT_BYTES && write_kept(w) != SQLITE_OK)
        return false;
    if (!has_room(w, wal->kept_bytes + frame))
        return false;
    keep(w, buf, LKS_FRAME_HEADER_BYTES, offset);
    w->half = true;
    w->ends = (pages[0] | pages[1] | pages[2] | pages[3]) != 0;
    return true;
}

/* The frame that ends a commit which fails: in the log it would be found after a crash. */
static void
forget_last(struct wal_file *w)
{
    struct lks_wal *wal = &w->main->wal;
    int frame = LKS_FRAME_HEADER_BYTES + w->page_bytes;
    wal->kept_bytes -= frame;
    wal->log_end -= frame;
}

/* False: it cannot be kept, and nothing was done. */
static bool
keep_page(struct wal_file *w, const void *page, int amount, sqlite3_int64 offset, int *out_rc)
{
    if (!has_room(w, w->main->wal.kept_bytes + amount))
        return false;
    keep(w, page, amount, offset);
    w->page_bytes = amount;
    w->half = false;
    *out_rc = w->ends ? write_kept(w) : SQLITE_OK;
    if (*out_rc != SQLITE_OK)
        forget_last(w);
    return true;
}

/* ------------------------------------------------------------------------------------------------
 * Methods
 * --------------------------------------------------------------------------------------------- */

static int
wal_close(sqlite3_file *file)
{
    struct wal_file *w = of(file);
    if (w->main->wal.log == w->real)
        w->main->wal.log = NULL;
    free(w->kept);
    file->pMethods = NULL;
    return w->real->pMethods->xClose(w->real);
}

static int
wal_read(sqlite3_file *file, void *buf, int amount, sqlite3_int64 offset)
{
    struct wal_file *w = of(file);
    int rc = write_kept(w);
    if (rc != SQLITE_OK || lks_wal_pages_find(w->main, LKS_WAL_LOG, buf, amount, offset))
        return rc;
    rc = w->real->pMethods->xRead(w->real, buf, amount, offset);
    if (rc == SQLITE_OK)
        lks_wal_pages_keep(w->main, LKS_WAL_LOG, buf, amount, offset);
    return rc;
}

static int
wal_write(sqlite3_file *file, const void *buf, int amount, sqlite3_int64 offset)
{
    struct wal_file *w = of(file);
    struct lks_wal *wal = &w->main->wal;
    int rc = SQLITE_OK;
    if (forked(w))
        return SQLITE_MISUSE;
    wal->written = true;
    wal->synced = false;
    wal->header_last = offset == 0 && amount == LKS_LOG_HEADER_BYTES;
    if (is_its_page(w, amount, offset) ? keep_page(w, buf, amount, offset, &rc)
                                       : is_next_header(w, amount, offset) && keep_header(w, buf, offset))
        return rc;
    rc = write_kept(w);
    if (rc != SQLITE_OK)
        return rc;
    wal->log_end = offset + amount;
    return real_write(w, buf, amount, offset);
}

static int
wal_truncate(sqlite3_file *file, sqlite3_int64 size)
{
    struct wal_file *w = of(file);
    int rc;
    if (forked(w))
        return SQLITE_MISUSE;
    rc = write_kept(w);
    return rc == SQLITE_OK ? w->real->pMethods->xTruncate(w->real, size) : rc;
}

static bool
may_put_off(const struct lks_wal *wal)
{
    return wal->attached && wal->owns_writer && !wal->foreign_main && (wal->exclusive & LKS_WAL_BIT(LKS_WAL_CKPT)) == 0 &&
           wal->written && !wal->header_last && !lks_vfs_in_super_journal();
}

static int
wal_sync(sqlite3_file *file, int flags)
{
    struct wal_file *w = of(file);
    struct lks_file *f = w->main;
    int rc;
    f->wal.sync_flags = flags;
    if (forked(w))
        return SQLITE_MISUSE;
    rc = write_kept(w);
    if (rc != SQLITE_OK)
        return rc;
    if (f->wal.attached) {
        if (lks_groupsync_poisoned(f->db) != 0)
            return SQLITE_IOERR_FSYNC;
        if (may_put_off(&f->wal)) {
            f->wal.put_off = true;
            LKS_CRASH_POINT("wal:put-off");
            return SQLITE_OK;
        }
        rc = lks_groupsync_run(f->db, lks_wal_sync_log, f) == LOCKSTEP_OK ? SQLITE_OK
                                                                        : SQLITE_IOERR_FSYNC;
    } else {
        rc = w->real->pMethods->xSync(w->real, flags);
    }
    f->wal.synced = rc == SQLITE_OK;
    return rc;
}

static int
wal_size(sqlite3_file *file, sqlite3_int64 *out_size)
{
    struct wal_file *w = of(file);
    int rc = write_kept(w);
    return rc == SQLITE_OK ? w->real->pMethods->xFileSize(w->real, out_size) : rc;
}

static int
wal_os_lock(sqlite3_file *file, int level)
{
    return of(file)->real->pMethods->xLock(of(file)->real, level);
}

static int
wal_os_unlock(sqlite3_file *file, int level)
{
    return of(file)->real->pMethods->xUnlock(of(file)->real, level);
}

static int
wal_reserved(sqlite3_file *file, int *out)
{
    return of(file)->real->pMethods->xCheckReservedLock(of(file)->real, out);
}

static int
wal_control(sqlite3_file *file, int op, void *arg)
{
    return of(file)->real->pMethods->xFileControl(of(file)->real, op, arg);
}

static int
wal_sector(sqlite3_file *file)
{
    return of(file)->real->pMethods->xSectorSize(of(file)->real);
}

static int
wal_characteristics(sqlite3_file *file)
{
    return of(file)->real->pMethods->xDeviceCharacteristics(of(file)->real);
}

static const sqlite3_io_methods wal_methods = {
    .iVersion = 1,
    .xClose = wal_close,
    .xRead = wal_read,
    .xWrite = wal_write,
    .xTruncate = wal_truncate,
    .xSync = wal_sync,
    .xFileSize = wal_size,
    .xLock = wal_os_lock,
    .xUnlock = wal_os_unlock,
    .xCheckReservedLock = wal_reserved,
    .xFileControl = wal_control,
    .xSectorSize = wal_sector,
    .xDeviceCharacteristics = wal_characteristics,
};

int
lks_wal_file_open(struct lks_file *main, const char *name, sqlite3_file *file, int flags, int *out_flags)
{
    struct wal_file *w = of(file);
    int rc;
    w->real = (sqlite3_file *)(w + 1);
    w->real->pMethods = NULL;
    w->main = main;
    w->base.pMethods = NULL;
    w->kept = NULL;
    w->room = w->page_bytes = 0;
    w->half = w->ends = false;
    rc = main->uri.shm != LKS_SHM_NATIVE
             ? lks_copy_log_open(main->real, name, w->real, flags, out_flags)
             : lks_vfs_parent()->xOpen(lks_vfs_parent(), name, w->real, flags, out_flags);
    if (rc != SQLITE_OK) {
        if (w->real->pMethods != NULL)
            (void)w->real->pMethods->xClose(w->real);
        return rc;
    }
    w->base.pMethods = &wal_methods;
    main->wal.log = w->real;
    return SQLITE_OK;
}

int
lks_wal_file_bytes(void)
{
    return (int)sizeof(struct wal_file);
}
