#include "coord/attach.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/crashpoint.h"
#include "base/log.h"
#include "coord/client.h"
#include "coord/format.h"
#include "coord/queue.h"
#include "coord/standby.h"
#include "os/filesystem.h"
#include "os/map.h"
#include "os/proclocks.h"
#include "shm/header.h"

#define DMS1_WAIT_MS 2000u
#define STOCK_WAIT_MS 20u
#define EXIT_WAIT_NS (200 * LKS_NS_PER_MS)
#define MAX_REOPENS 100
/* A file that is set aside gets the first free number. */
#define MAX_ORPHANS 10000

/* Private memory has no file that it can be paged out to. */
static uint64_t
default_hard_limit(const struct lockstep_db *db)
{
    return sizeof(void *) < 8 ? 256ull << 20 : db->alone ? 1ull << 30 : 32ull << 30;
}

static enum lockstep_status
lock_dms1(struct lockstep_db *db)
{
    uint32_t waited_ms = 0;
    enum lockstep_status status;
    while ((status = lks_lockset_take(&db->locks, LKS_BYTE_DMS1, LKS_LOCK_EXCLUSIVE)) ==
               LOCKSTEP_BUSY &&
           waited_ms++ < DMS1_WAIT_MS)
        lks_clock_nap_ms(1);
    return status;
}

static void
close_coord(struct lockstep_db *db)
{
    /* Drops every POSIX lock on it, in one go. */
    lks_file_close(db->locks.coord_fd);
    db->locks.coord_fd = -1;
    db->locks.held = 0;
    db->locks.alone = db->alone = false;
}

/* Step 1.  On OK the file is open, DMS1 is held and the name leads to it. */
static enum lockstep_status
open_coord(struct lockstep_db *db, const struct lks_file_stat *database, bool join_only)
{
    enum lks_open_mode how = join_only || db->readonly ? LKS_OPEN_WRITE : LKS_OPEN_CREATE;
    enum lockstep_status status;
    int i;
    for (i = 0; i < MAX_REOPENS; i++) {
        struct lks_file_stat here, named;
        status = lks_file_open(db->coord_path, how, database->mode & 0777u, &db->locks.coord_fd);
        if (status != LOCKSTEP_OK)
            return how == LKS_OPEN_WRITE && lks_os_errno() == ENOENT ? LOCKSTEP_READONLY : status;
        status = lock_dms1(db);
        if (status == LOCKSTEP_OK)
            status = lks_file_stat_fd(db->locks.coord_fd, &here);
        if (status == LOCKSTEP_OK &&
            lks_file_stat_path(db->coord_path, &named) == LOCKSTEP_OK &&
            lks_file_same(&here.id, &named.id)) {
            if (here.size_bytes == 0)
                lks_file_adopt_owner(db->locks.coord_fd, database);
            return LOCKSTEP_OK;
        }
        /* The last client removed it while we waited. */
        close_coord(db);
        if (status != LOCKSTEP_OK)
            return status;
    }
    return LOCKSTEP_BUSY;
}

static enum lockstep_status
set_aside(struct lockstep_db *db, const char *why)
{
    size_t capacity = strlen(db->coord_path) + 24;
    char *name = malloc(capacity);
    struct lks_file_stat stat;
    enum lockstep_status status = LOCKSTEP_CANTOPEN;
    int i;
    if (name == NULL)
        return LOCKSTEP_NOMEM;
    for (i = 1; i < MAX_ORPHANS; i++) {
        snprintf(name, capacity, "%s.orphan-%d", db->coord_path, i);
        if (lks_file_stat_path(name, &stat) == LOCKSTEP_OK)
            continue;
        status = lks_file_rename(db->coord_path, name);
        break;
    }
    if (status == LOCKSTEP_OK)
        lks_log(LKS_ERROR,
                "%s: %s %s; it is kept as %s. Commits that were waiting in it are not in the database: "
                "restore from it with care, or remove it",
                db->path, db->coord_path, why, name);
    else
        lks_log(LKS_ERROR, "%s: %s %s, and it cannot be renamed (%s): move it away by hand", db->path,
                db->coord_path, why, strerror(lks_os_errno()));
    free(name);
    LKS_CRASH_POINT("attach:set-aside");
    return status;
}

/* A database in WAL mode says 2 in bytes 18 and 19 of its header. */
static enum lockstep_status
read_page_size(struct lockstep_db *db, uint32_t *out_unit_log2)
{
    unsigned char head[100];
    size_t got = 0;
    uint32_t page_size, log2 = 12;
    enum lockstep_status status = lks_file_read(db->locks.database_fd, 0, head, sizeof head, &got);
    if (status != LOCKSTEP_OK)
        return status;
    if (got == sizeof head && memcmp(head, "SQLite format 3", 16) == 0) {
        if (db->hooks->mode == LKS_MODE_STORE && (head[18] == 2 || head[19] == 2))
            return LOCKSTEP_NOTSTORE;
        if (head[18] == 3)
            lks_log(LKS_WARNING,
                    "%s was not closed in order, and its coordination file is missing or was empty or set aside: "
                    "commits that were not yet written are not in the database",
                    db->path);
        page_size = (uint32_t)head[16] << 8 | head[17];
        if (page_size == 1)
            page_size = 65536;
        for (log2 = LKS_UNIT_LOG2_MIN; log2 < LKS_UNIT_LOG2_MAX && (1u << log2) != page_size; log2++)
            ;
        if ((1u << log2) != page_size)
            log2 = 12;
    }
    *out_unit_log2 = log2;
    return LOCKSTEP_OK;
}

static enum lockstep_status
map_coord(struct lockstep_db *db)
{
    uint64_t hard = db->options.hard_limit != 0 ? db->options.hard_limit : default_hard_limit(db);
    void *base;
    enum lockstep_status status;
    db->map_bytes = lks_chunk_map_bytes(hard > default_hard_limit(db) ? hard : default_hard_limit(db));
    status = lks_map_file(lks_database_memory_fd(db), db->map_bytes, true, &base);
    if (status == LOCKSTEP_OK)
        db->shm = base;
    else
        lks_log(LKS_ERROR, "%s: cannot map %zu MiB of address space for %s: %s; is a limit (ulimit -v) set?",
                db->path, db->map_bytes >> 20, db->coord_path, strerror(lks_os_errno()));
    return status;
}

static void
unmap_coord(struct lockstep_db *db)
{
    lks_map_release(db->shm, db->map_bytes);
    db->shm = NULL;
}

/* Nobody else is there, and DMS1 is held: from here on nobody can come. */
static enum lockstep_status
go_alone(struct lockstep_db *db)
{
    static const char mark[LKS_HEADER_ALONE_BYTES] = LKS_HEADER_ALONE_MARK;
    enum lockstep_status status = lks_lockset_take(&db->locks, LKS_BYTE_DMS2, LKS_LOCK_EXCLUSIVE);
    if (status == LOCKSTEP_OK)
        status = lks_file_write(db->locks.coord_fd, 0, mark, sizeof mark);
    if (status != LOCKSTEP_OK)
        return status;
    unmap_coord(db);
    db->locks.alone = db->alone = true;
    LKS_CRASH_POINT("attach:alone");
    return map_coord(db);
}

static enum lockstep_status
make_fresh(struct lockstep_db *db, const struct lks_file_stat *database)
{
    uint32_t unit_log2;
    enum lockstep_status status = read_page_size(db, &unit_log2);
    if (status == LOCKSTEP_OK)
        status = db->options.single_process ? go_alone(db)
                                            : lks_file_reserve(db->locks.coord_fd, 0, LKS_SHM_BYTES);
    if (status != LOCKSTEP_OK)
        return status;
    LKS_CRASH_POINT("attach:reserved");
    lks_a32_set_relaxed(&db->shm->state.mode, (uint32_t)db->hooks->mode);
    lks_header_make(db->shm, &database->id, db->boot_id, unit_log2);
    lks_a64_set_relaxed(&db->shm->state.hard_limit, default_hard_limit(db));
    lks_a64_set_relaxed(&db->shm->ring[1 % LKS_RING_SIZE].size, database->size_bytes);
    lks_a64_set_relaxed(&db->shm->ring[1 % LKS_RING_SIZE].time_ns, lks_clock_ns());
    lks_a64_set_release(&db->shm->ring[1 % LKS_RING_SIZE].id, 1);
    lks_a64_set_relaxed(&db->shm->state.file_size, database->size_bytes);
    LKS_CRASH_POINT("attach:made");
    return LOCKSTEP_OK;
}

static bool
nothing_pending(const struct lks_shm *shm)
{
    return lks_a64_relaxed(&shm->state.committed) == lks_a64_relaxed(&shm->state.flushed);
}

/*
 * A good file of the other mode, and nobody is connected: dead processes left it before the journal mode was
 * changed.  A log has nothing in it that we would have to keep.
 */
static enum lockstep_status
replace_other_mode(struct lockstep_db *db)
{
    enum lockstep_status status;
    if (lks_a32_relaxed(&db->shm->state.mode) == LKS_MODE_WAL || nothing_pending(db->shm))
        status = lks_file_unlink(db->coord_path);
    else
        status = set_aside(db, "does not fit the database, whose journal mode was changed since");
    return status == LOCKSTEP_OK ? LOCKSTEP_STALE : status;
}

static bool
is_our_mode(const struct lockstep_db *db)
{
    return lks_a32_relaxed(&db->shm->state.mode) == (uint32_t)db->hooks->mode;
}

/* A good file of our mode, and nobody is connected: of our format, too, or nothing waits in it and it may go. */
static enum lockstep_status
check_left_format(struct lockstep_db *db)
{
    char stored[LKS_FORMAT_SIZE];
    enum lockstep_status status;
    if (!nothing_pending(db->shm))
        return lks_format_check(db, "processes that were killed and left commits");
    lks_format_stored(db->shm, stored);
    status = lks_format_match(db, stored);
    if (status != LOCKSTEP_FORMAT)
        return status;
    status = lks_file_unlink(db->coord_path);
    return status == LOCKSTEP_OK ? LOCKSTEP_STALE : status;
}

/* Step 3 for a client that is alone.  *out_adopt: there is something to adopt. STALE: open it again. */
static enum lockstep_status
prepare_alone(struct lockstep_db *db, const struct lks_file_stat *database, bool *out_adopt)
{
    struct lks_file_stat coord;
    enum lks_header_verdict verdict;
    enum lockstep_status status = lks_file_stat_fd(db->locks.coord_fd, &coord);
    if (status != LOCKSTEP_OK)
        return status;
    *out_adopt = false;
    verdict = lks_header_check(db->shm, coord.size_bytes, &database->id, db->boot_id);
    switch (verdict) {
    case LKS_HEADER_GOOD:
        if (!is_our_mode(db))
            return replace_other_mode(db);
        *out_adopt = true;
        return check_left_format(db);
    case LKS_HEADER_EMPTY:
        if (coord.size_bytes != 0) {
            /* Only the space was there.  A new inode: what is beyond the identity might not be zeros. */
            status = lks_file_unlink(db->coord_path);
            return status == LOCKSTEP_OK ? LOCKSTEP_STALE : status;
        }
        return make_fresh(db, database);
    case LKS_HEADER_OTHER_BOOT:
        lks_log(LKS_WARNING,
                "%s: the machine went down while programs were connected; up to the last max_lag of "
                "asynchronous commits may be missing",
                db->path);
        if (nothing_pending(db->shm)) {
            status = lks_file_unlink(db->coord_path);
            return status == LOCKSTEP_OK ? LOCKSTEP_STALE : status;
        }
        break;
    case LKS_HEADER_ALONE:
        lks_log(LKS_WARNING,
                "%s: a process that used it alone (multi_process=0) did not come to close it: asynchronous commits "
                "that it had not yet written are not in the database",
                db->path);
        status = lks_file_unlink(db->coord_path);
        return status == LOCKSTEP_OK ? LOCKSTEP_STALE : status;
    default:
        if (lks_header_foreign(verdict) && lks_header_is_of_boot(db->shm, db->boot_id)) {
            /* The build that made it can still write the commits that may wait in it. */
            lks_log(LKS_ERROR,
                    "%s: %s %s. Commits may be waiting in it: open the database with that build once, or, if they "
                    "may be lost, move the file away",
                    db->path, db->coord_path, lks_header_words(verdict));
            return LOCKSTEP_FORMAT;
        }
        break;
    }
    status = set_aside(db, lks_header_words(verdict));
    return status == LOCKSTEP_OK ? LOCKSTEP_STALE : status;
}

/* BUSY, and the log says who is in the way; not more than once a second, for SQLite asks again and again. */
static enum lockstep_status
refuse(const struct lockstep_db *db, const char *why)
{
    static struct lks_a64 last_ns;
    struct lks_proclocks_process process;
    uint64_t now = lks_clock_ns(), before = lks_a64_relaxed(&last_ns);
    uint32_t byte = LKS_BYTE_DMS2;
    int32_t pid = 0;
    if ((before != 0 && now - before < 1000 * LKS_NS_PER_MS) || !lks_a64_cas(&last_ns, before, now))
        return LOCKSTEP_BUSY;
    for (; byte <= LKS_BYTE_DMS3 && pid == 0; byte++)
        if (lks_bytelock_holder(db->locks.coord_fd, LKS_LOCK_PROCESS, LKS_LOCK_EXCLUSIVE,
                                LKS_LOCK_BASE + byte, 1, &pid) != LOCKSTEP_OK)
            pid = 0;
    if (pid <= 0 || !lks_proclocks_look("/proc", pid, &process))
        strcpy(process.program, "a process");
    lks_log(LKS_WARNING, "%s: %s %s (pid %d); close it there", db->path, why, process.program, (int)pid);
    return LOCKSTEP_BUSY;
}

/* Step 3 for one who finds others connected. */
static enum lockstep_status
prepare_joining(struct lockstep_db *db, const struct lks_file_stat *database, bool join_only)
{
    struct lks_file_stat coord;
    enum lks_header_verdict verdict;
    enum lockstep_status status = lks_file_stat_fd(db->locks.coord_fd, &coord);
    if (status != LOCKSTEP_OK)
        return status;
    verdict = lks_header_check(db->shm, coord.size_bytes, &database->id, db->boot_id);
    if (verdict == LKS_HEADER_ALONE)
        /* A reader may read as a stock reader does. */
        return db->readonly || join_only ? LOCKSTEP_READONLY
                                         : refuse(db, "is used alone (multi_process=0) by");
    if (db->options.single_process && !db->readonly && !join_only)
        return refuse(db, "cannot be used alone (multi_process=0): it is also used by");
    if (verdict == LKS_HEADER_GOOD)
        /* Of the other mode: whoever switches it is about to leave. */
        return is_our_mode(db) ? lks_format_check(db, "other processes") : LOCKSTEP_BUSY;
    lks_log(LKS_ERROR,
            "%s: %s %s, and other processes are connected through it; `lockstep locks %s` names them: close "
            "them first",
            db->path, db->coord_path, lks_header_words(verdict), db->path);
    return lks_header_foreign(verdict) ? LOCKSTEP_FORMAT : LOCKSTEP_CORRUPT;
}

/* Step 4: the first that writes. */
static enum lockstep_status
become_first(struct lockstep_db *db, bool adopt)
{
    /* RESERVED is for recover() to take: it would hide a hot journal from stock readers that are not excluded. */
    enum lockstep_status status = lks_lockset_take(&db->locks, LKS_BYTE_WORKER, LKS_LOCK_EXCLUSIVE);
    return status == LOCKSTEP_OK ? db->hooks->recover(db, adopt) : status;
}

/*
 * We hold DMS1, and nobody else has DMS2: nobody else writes.  `closing`: the application closes the database, so it can be
 * asked how much of it is in use.
 */
static enum lockstep_status
leave_last(struct lockstep_db *db, bool closing)
{
    bool readers = true;
    enum lockstep_status status = db->hooks->drain(db);
    LKS_CRASH_POINT("detach:drained");
    if (status == LOCKSTEP_OK)
        status = lks_lockset_others(&db->locks, LKS_BYTE_DMS3, LKS_LOCK_EXCLUSIVE, &readers);
    if (status == LOCKSTEP_OK && closing && !readers && db->hooks->shorten != NULL)
        db->hooks->shorten(db);
    if (status == LOCKSTEP_OK)
        status = db->hooks->leave(db);
    LKS_CRASH_POINT("detach:left");
    /* First: whoever connects to a new file after the unlink would find RESERVED held by us. */
    lks_lockset_stock_unreserve(&db->locks);
    if (status == LOCKSTEP_OK && !readers)
        status = lks_file_unlink(db->coord_path);
    LKS_CRASH_POINT("detach:removed");
    return status;
}

static void
apply_options(struct lockstep_db *db)
{
    struct lks_shm_state *state = &db->shm->state;
    if (db->options.max_lag_ms != 0)
        lks_a32_set_relaxed(&state->max_lag_ms, db->options.max_lag_ms);
    if (db->options.store_limit != 0)
        lks_a64_set_relaxed(&state->store_limit, db->options.store_limit);
    if (db->options.hard_limit != 0)
        lks_a64_set_relaxed(&state->hard_limit, db->options.hard_limit);
}

static void
undo_attach(struct lockstep_db *db)
{
    lks_lockset_stock_release(&db->locks);
    unmap_coord(db);
    close_coord(db);
}

/* Steps 2 to 5, with DMS1 held.  STALE: the file was replaced, once more from step 1. */
static enum lockstep_status
attach_locked(struct lockstep_db *db, struct lks_file_stat *database, bool join_only)
{
    bool writers = false, readers = false, adopt = false;
    enum lockstep_status status = LOCKSTEP_OK;
    if (db->hooks->mode == LKS_MODE_STORE)
        status = lks_lockset_stock_share(&db->locks);
    /* Only now: while we waited for DMS1 the last client may have changed the size. */
    if (status == LOCKSTEP_OK)
        status = lks_file_stat_fd(db->locks.database_fd, database);
    if (status == LOCKSTEP_OK)
        status = lks_lockset_others(&db->locks, LKS_BYTE_DMS2, LKS_LOCK_EXCLUSIVE, &writers);
    if (status == LOCKSTEP_OK)
        status = lks_lockset_others(&db->locks, LKS_BYTE_DMS3, LKS_LOCK_EXCLUSIVE, &readers);
    if (status != LOCKSTEP_OK)
        return status;
    if (writers || readers)
        status = prepare_joining(db, database, join_only);
    else if (db->readonly || join_only)
        status = LOCKSTEP_READONLY;
    else
        status = prepare_alone(db, database, &adopt);
    if (status != LOCKSTEP_OK)
        return status;
    db->horizon.floor = db->horizon.lowest = 0;
    db->horizon.count = 0;
    lks_a32_set_relaxed(&db->work_owner, 0);
    if (!writers && !db->readonly) {
        /* Before anything of the dead is looked at: as client i we may own what must be repaired. */
        status = lks_client_enter(db);
        if (status == LOCKSTEP_OK)
            status = become_first(db, adopt || readers);
        if (status == LOCKSTEP_OK && !adopt && !readers) {
            /* Not sooner: the application may look into the file for its name. */
            status = lks_format_make(db);
            if (status != LOCKSTEP_OK) {
                /* Nothing is in it, and nobody else has it. */
                (void)!lks_file_unlink(db->coord_path);
                return status;
            }
        }
        if (status == LOCKSTEP_OK && db->options.single_process && !db->alone) {
            /* What the dead left is in the database now; this file has served. */
            status = leave_last(db, false);
            return status == LOCKSTEP_OK ? LOCKSTEP_STALE : status;
        }
        if (status == LOCKSTEP_STALE && readers) {
            /* They would not see what whoever has a new file writes, nor he what they read. */
            lks_log(LKS_ERROR,
                    "%s: %s does not fit the database, and read-only clients are connected through it; "
                    "`lockstep locks %s` names them: close them first",
                    db->path, db->coord_path, db->path);
            return LOCKSTEP_CORRUPT;
        }
        if (status == LOCKSTEP_STALE && nothing_pending(db->shm)) {
            status = lks_file_unlink(db->coord_path);
            return status == LOCKSTEP_OK ? LOCKSTEP_STALE : status;
        }
        if (status == LOCKSTEP_STALE) {
            status = set_aside(db, "does not fit the database, which somebody else has changed since");
            return status == LOCKSTEP_OK ? LOCKSTEP_STALE : status;
        }
    } else {
        status = lks_client_enter(db);
    }
    if (status == LOCKSTEP_OK && !db->alone)
        status = lks_lockset_take(&db->locks, db->readonly ? LKS_BYTE_DMS3 : LKS_BYTE_DMS2,
                                  LKS_LOCK_SHARED);
    if (status != LOCKSTEP_OK)
        return status;
    LKS_CRASH_POINT("attach:connected");
    if (db->readonly)
        return LOCKSTEP_OK;
    apply_options(db);
    return db->hooks->start_worker(db);
}

static enum lockstep_status
attach_new(struct lockstep_db *db, bool join_only)
{
    struct lks_file_stat database;
    enum lockstep_status status;
    const char *refused;
    int i;

    status = lks_file_stat_fd(db->locks.database_fd, &database);
    if (status == LOCKSTEP_OK)
        status = lks_process_boot_id(db->boot_id);
    if (status != LOCKSTEP_OK)
        return status;
    refused = lks_filesystem_refused(db->locks.database_fd);
    if (refused != NULL && !db->options.override_fs) {
        lks_log(LKS_ERROR,
                "%s is on %s, where locks and shared memory are not coherent between hosts; if only this host "
                "uses the file, open it with unsafe_fs=1",
                db->path, refused);
        return LOCKSTEP_CANTOPEN;
    }
    lks_process_self(&db->self);
    if (lks_client_another_copy(db)) {
        lks_log(LKS_ERROR,
                "%s: another copy of the Lockstep library in this process is connected to it; use one copy, or "
                "one process for each",
                db->path);
        return LOCKSTEP_MISUSE;
    }
    for (i = 0; i < MAX_REOPENS; i++) {
        db->client = LKS_MAX_CLIENTS;
        status = open_coord(db, &database, join_only);
        if (status != LOCKSTEP_OK)
            return status;
        status = map_coord(db);
        if (status == LOCKSTEP_OK)
            status = attach_locked(db, &database, join_only);
        if (status == LOCKSTEP_OK) {
            lks_lockset_drop(&db->locks, LKS_BYTE_DMS1);
            return LOCKSTEP_OK;
        }
        if (db->shm != NULL && db->client != LKS_MAX_CLIENTS) {
            db->hooks->resign(db);
            lks_client_leave(db);
        }
        undo_attach(db);
        if (status != LOCKSTEP_STALE)
            return status;
        status = lks_file_stat_fd(db->locks.database_fd, &database);
        if (status != LOCKSTEP_OK)
            return status;
    }
    return LOCKSTEP_BUSY;
}

enum lockstep_status
lks_attach(struct lockstep_db *db, bool join_only)
{
    enum lockstep_status status = LOCKSTEP_OK;
    if (lks_a32_acquire(&db->attached) != 0)
        return LOCKSTEP_OK;
    lks_mutex_lock(&db->attach_mutex);
    if (lks_a32_relaxed(&db->attached) == 0) {
        status = attach_new(db, join_only);
        if (status == LOCKSTEP_OK)
            lks_a32_set_release(&db->attached, 1);
    }
    lks_mutex_unlock(&db->attach_mutex);
    return status;
}

/*
 * We leave, and our thread has ended.  If others stay one of them becomes the worker now, and does not wait for us to have
 * DMS1; also where the worker is dead and nobody has seen it yet.  If none stays after all, the drain takes WORKER again.
 */
static void
hand_over(struct lockstep_db *db)
{
    bool others = false;
    if (lks_lockset_others(&db->locks, LKS_BYTE_DMS2, LKS_LOCK_EXCLUSIVE, &others) != LOCKSTEP_OK || !others)
        return;
    db->hooks->resign(db);
    LKS_CRASH_POINT("detach:resigned");
    lks_standby_call(db);
}

enum lockstep_status
lks_detach(struct lockstep_db *db)
{
    enum lockstep_status status = LOCKSTEP_OK, last;
    lks_mutex_lock(&db->attach_mutex);
    if (lks_a32_relaxed(&db->attached) == 0 || db->left)
        goto unlock;
    if (!db->readonly) {
        db->hooks->stop_worker(db);
        hand_over(db);
    }
    status = lock_dms1(db);
    if (status == LOCKSTEP_OK && !db->readonly) {
        last = lks_lockset_take(&db->locks, LKS_BYTE_DMS2, LKS_LOCK_EXCLUSIVE);
        if (last == LOCKSTEP_OK)
            status = leave_last(db, true);
        if (last == LOCKSTEP_OK && status != LOCKSTEP_OK && db->hooks->mode == LKS_MODE_STORE)
            lks_log(LKS_ERROR,
                    "%s: the last commits could not be written (%s, %s); they are kept in %s and will be "
                    "written when the database is next opened through Lockstep before a reboot",
                    db->path, lks_status_name(status), strerror(lks_os_errno()), db->coord_path);
    }
    db->hooks->resign(db);
    lks_client_leave(db);
    lks_a32_set_release(&db->attached, 0);
    undo_attach(db);
unlock:
    lks_mutex_unlock(&db->attach_mutex);
    return status;
}

void
lks_leave_at_exit(struct lockstep_db *db)
{
    struct lks_place place;
    if (!lks_mutex_trylock(&db->attach_mutex))
        return;
    if (lks_a32_relaxed(&db->attached) == 0 || db->readonly || db->left)
        goto unlock;
    db->hooks->stop_worker(db);
    hand_over(db);
    if (lock_dms1(db) != LOCKSTEP_OK)
        goto unlock;
    if (lks_lockset_take(&db->locks, LKS_BYTE_DMS2, LKS_LOCK_EXCLUSIVE) == LOCKSTEP_OK) {
        /* For good: no other thread commits after the drain.  A transaction that is open has not committed. */
        lks_place_init(&place, 0);
        db->leaving_as_owner = lks_queue_lock(db, &place, EXIT_WAIT_NS) == LOCKSTEP_OK;
        if (leave_last(db, false) != LOCKSTEP_OK && db->hooks->mode == LKS_MODE_STORE)
            lks_log(LKS_ERROR,
                    "%s: the last commits could not be written; they are kept in %s until the database is next "
                    "opened through Lockstep",
                    db->path, db->coord_path);
        db->left = true;
    } else {
        /* The rest goes with CLIENT. */
        lks_client_retire(db);
    }
    lks_lockset_drop(&db->locks, LKS_BYTE_DMS1);
unlock:
    lks_mutex_unlock(&db->attach_mutex);
}
