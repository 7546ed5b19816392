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
 * SQLite writes a frame in two: its header, then its page.  The header of a frame that is put behind the last one is kept
 * here until its page comes, which is the next call; one write takes both, and its result is the page's.  (Headers
 * alone are written over older frames only, where a page that was written twice changes the checksums.)  What is kept is
 * nobody's yet: a frame counts when the wal-index says so.
 */
#include <stdlib.h>
#include <string.h>

#include "base/crashpoint.h"
#include "coord/groupsync.h"
#include "vfs/copy_log.h"
#include "vfs/vfs.h"

#define LOG_HEADER_BYTES 32

struct wal_file {
    sqlite3_file base;
    sqlite3_file *real; /* follows */
    struct lks_file *main;
    unsigned char *frame;   /* room for one; its header, while it is kept */
    int frame_bytes;        /* that there is room for */
    sqlite3_int64 kept_at;  /* where the header goes that is kept; 0: none is */
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
    return LOG_HEADER_BYTES + (sqlite3_int64)lks_wal_index_word(wal->index, LKS_INDEX_MAX_FRAME) *
                                  (LKS_FRAME_HEADER_BYTES + lks_wal_index_page(wal->index));
}

static bool
keep_header(struct wal_file *w, const void *buf, int amount, sqlite3_int64 offset)
{
    const struct lks_wal *wal = &w->main->wal;
    if (amount != LKS_FRAME_HEADER_BYTES || !wal->attached || !wal->owns_writer || offset != log_end(wal) ||
        w->frame == NULL)
        return false;
    memcpy(w->frame, buf, LKS_FRAME_HEADER_BYTES);
    w->kept_at = offset;
    return true;
}

/* Before anything else is done with the file. */
static int
write_kept(struct wal_file *w)
{
    sqlite3_int64 at = w->kept_at;
    w->kept_at = 0;
    return at == 0 ? SQLITE_OK : real_write(w, w->frame, LKS_FRAME_HEADER_BYTES, at);
}

/* The page of the header that is kept: both in one. */
static int
write_frame(struct wal_file *w, const void *page, int amount)
{
    sqlite3_int64 at = w->kept_at;
    w->kept_at = 0;
    memcpy(w->frame + LKS_FRAME_HEADER_BYTES, page, (size_t)amount);
    return real_write(w, w->frame, LKS_FRAME_HEADER_BYTES + amount, at);
}

/* For the next frame; without it headers are written by themselves. */
static void
make_room(struct wal_file *w, int page_bytes)
{
    unsigned char *frame;
    if (page_bytes + LKS_FRAME_HEADER_BYTES <= w->frame_bytes)
        return;
    frame = realloc(w->frame, (size_t)page_bytes + LKS_FRAME_HEADER_BYTES);
    if (frame == NULL)
        return;
    w->frame = frame;
    w->frame_bytes = page_bytes + LKS_FRAME_HEADER_BYTES;
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
    free(w->frame);
    file->pMethods = NULL;
    return w->real->pMethods->xClose(w->real);
}

static int
wal_read(sqlite3_file *file, void *buf, int amount, sqlite3_int64 offset)
{
    struct wal_file *w = of(file);
    int rc = write_kept(w);
    return rc == SQLITE_OK ? w->real->pMethods->xRead(w->real, buf, amount, offset) : rc;
}

static int
wal_write(sqlite3_file *file, const void *buf, int amount, sqlite3_int64 offset)
{
    struct wal_file *w = of(file);
    struct lks_wal *wal = &w->main->wal;
    bool page = w->kept_at != 0 && offset == w->kept_at + LKS_FRAME_HEADER_BYTES;
    int rc = SQLITE_OK;
    if (forked(w))
        return SQLITE_MISUSE;
    wal->written = true;
    wal->synced = false;
    wal->header_last = offset == 0 && amount == LOG_HEADER_BYTES;
    if (page && amount + LKS_FRAME_HEADER_BYTES <= w->frame_bytes) {
        rc = write_frame(w, buf, amount);
    } else {
        rc = write_kept(w);
        if (rc == SQLITE_OK && !keep_header(w, buf, amount, offset))
            rc = real_write(w, buf, amount, offset);
        if (amount >= 512)
            make_room(w, amount);
    }
    wal->log_end = offset + amount;
    return rc;
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
    w->frame = NULL;
    w->frame_bytes = 0;
    w->kept_at = 0;
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
