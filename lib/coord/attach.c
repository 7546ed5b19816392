#include "coord/attach.h"

#include <string.h>

#include "base/clock.h"
#include "base/crashpoint.h"
#include "base/log.h"
#include "coord/client.h"
#include "coord/coordfile.h"
#include "coord/format.h"
#include "coord/queue.h"
#include "coord/standby.h"
#include "os/filesystem.h"
#include "os/proclocks.h"
#include "shm/header.h"

#define EXIT_WAIT_NS (200 * LKS_NS_PER_MS)

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
        return lks_coordfile_is_of_mode(db) ? lks_format_check(db, "other processes") : LOCKSTEP_BUSY;
    lks_log(LKS_ERROR,
            "%s: %s %s, and other processes are connected through it; `lockstep locks %s` names them: close "
            "them first",
            db->path, db->coord_path, lks_header_words(verdict), db->path);
    return lks_header_foreign(verdict) ? LOCKSTEP_FORMAT : LOCKSTEP_CORRUPT;
}

/*
 * We hold DMS1, and nobody else has DMS2: nobody else writes.  `closing`: the application closes the
 * database, so it can be asked how much of it is in use.
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

/* It does not fit the database. */
static enum lockstep_status
replace_unfit(struct lockstep_db *db, bool readers)
{
    if (readers) {
        /* They would not see what whoever has a new file writes, nor he what they read. */
        lks_log(LKS_ERROR,
                "%s: %s does not fit the database, and read-only clients are connected through it; "
                "`lockstep locks %s` names them: close them first",
                db->path, db->coord_path, db->path);
        return LOCKSTEP_CORRUPT;
    }
    if (lks_coordfile_is_drained(db))
        return lks_coordfile_remove(db);
    return lks_coordfile_set_aside(db, "does not fit the database, which somebody else has changed since");
}

/* Step 4: the first that writes.  `left`: the file is not new; `readers`: some that only read are using it. */
static enum lockstep_status
become_first(struct lockstep_db *db, bool left, bool readers)
{
    /* Before anything of the dead is looked at: as client i we may own what must be repaired. */
    enum lockstep_status status = lks_client_enter(db);
    if (status == LOCKSTEP_OK)
        status = lks_lockset_take(&db->locks, LKS_BYTE_WORKER, LKS_LOCK_EXCLUSIVE);
    /* RESERVED is for recover() to take: it would hide a hot journal from stock readers that are let in. */
    if (status == LOCKSTEP_OK)
        status = db->hooks->recover(db, left);
    if (status == LOCKSTEP_STALE)
        return replace_unfit(db, readers);
    if (status == LOCKSTEP_OK && !left) {
        /* Not sooner: the application may look into the file for its name. */
        status = lks_format_make(db);
        if (status != LOCKSTEP_OK)
            /* Nothing is in it, and nobody else has it. */
            (void)!lks_file_unlink(db->coord_path);
    }
    if (status == LOCKSTEP_OK && db->options.single_process && !db->alone) {
        /* What the dead left is in the database now; this file has served. */
        status = leave_last(db, false);
        return status == LOCKSTEP_OK ? LOCKSTEP_STALE : status;
    }
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
    lks_coordfile_unmap(db);
    lks_coordfile_close(db);
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
        status = lks_coordfile_prepare(db, database, &adopt);
    if (status != LOCKSTEP_OK)
        return status;
    db->horizon.floor = db->horizon.lowest = 0;
    db->horizon.count = 0;
    lks_a32_set_relaxed(&db->work_owner, 0);
    if (!writers && !db->readonly)
        status = become_first(db, adopt || readers, readers);
    else
        status = lks_client_enter(db);
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
    for (i = 0; i < LKS_COORDFILE_OPENS; i++) {
        db->client = LKS_MAX_CLIENTS;
        status = lks_coordfile_open(db, &database, join_only);
        if (status != LOCKSTEP_OK)
            return status;
        status = lks_coordfile_map(db);
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
 * We leave, and our thread has ended.  If others stay one of them becomes the worker now, and does not wait
 * for us to have DMS1; also where the worker is dead and nobody has seen it yet.  If none stays after all,
 * the drain takes WORKER again.
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
    status = lks_coordfile_lock(db);
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
    if (lks_coordfile_lock(db) != LOCKSTEP_OK)
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
