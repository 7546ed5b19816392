#include "coord/coordfile.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/crashpoint.h"
#include "base/log.h"
#include "coord/format.h"
#include "os/map.h"
#include "shm/header.h"

#define DMS1_WAIT_MS 2000u
/* A file that is set aside gets the first free number. */
#define MAX_ORPHANS 10000

/* Private memory has no file that it can be paged out to. */
static uint64_t
default_hard_limit(const struct lockstep_db *db)
{
    return sizeof(void *) < 8 ? 256ull << 20 : db->alone ? 1ull << 30 : 32ull << 30;
}

enum lockstep_status
lks_coordfile_lock(struct lockstep_db *db)
{
    uint32_t waited_ms = 0;
    enum lockstep_status status;
    while ((status = lks_lockset_take(&db->locks, LKS_BYTE_DMS1, LKS_LOCK_EXCLUSIVE)) ==
               LOCKSTEP_BUSY &&
           waited_ms++ < DMS1_WAIT_MS)
        lks_clock_nap_ms(1);
    return status;
}

void
lks_coordfile_close(struct lockstep_db *db)
{
    /* Drops every POSIX lock on it, in one go. */
    lks_file_close(db->locks.coord_fd);
    db->locks.coord_fd = -1;
    db->locks.held = 0;
    db->locks.alone = db->alone = false;
}

enum lockstep_status
lks_coordfile_open(struct lockstep_db *db, const struct lks_file_stat *database, bool join_only)
{
    enum lks_open_mode how = join_only || db->readonly ? LKS_OPEN_WRITE : LKS_OPEN_CREATE;
    enum lockstep_status status;
    int i;
    for (i = 0; i < LKS_COORDFILE_OPENS; i++) {
        struct lks_file_stat here, named;
        status = lks_file_open(db->coord_path, how, database->mode & 0777u, &db->locks.coord_fd);
        if (status != LOCKSTEP_OK)
            return how == LKS_OPEN_WRITE && lks_os_errno() == ENOENT ? LOCKSTEP_READONLY : status;
        status = lks_coordfile_lock(db);
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
        lks_coordfile_close(db);
        if (status != LOCKSTEP_OK)
            return status;
    }
    return LOCKSTEP_BUSY;
}

enum lockstep_status
lks_coordfile_map(struct lockstep_db *db)
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

void
lks_coordfile_unmap(struct lockstep_db *db)
{
    lks_map_release(db->shm, db->map_bytes);
    db->shm = NULL;
}

enum lockstep_status
lks_coordfile_remove(struct lockstep_db *db)
{
    enum lockstep_status status = lks_file_unlink(db->coord_path);
    return status == LOCKSTEP_OK ? LOCKSTEP_STALE : status;
}

enum lockstep_status
lks_coordfile_set_aside(struct lockstep_db *db, const char *why)
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
    return status == LOCKSTEP_OK ? LOCKSTEP_STALE : status;
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
    lks_coordfile_unmap(db);
    db->locks.alone = db->alone = true;
    LKS_CRASH_POINT("attach:alone");
    return lks_coordfile_map(db);
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

bool
lks_coordfile_is_drained(const struct lockstep_db *db)
{
    const struct lks_shm *shm = db->shm;
    return lks_a64_relaxed(&shm->state.committed) == lks_a64_relaxed(&shm->state.flushed);
}

/*
 * A good file of the other mode, and nobody is connected: dead processes left it before the journal mode was
 * changed.  A log has nothing in it that we would have to keep.
 */
static enum lockstep_status
replace_other_mode(struct lockstep_db *db)
{
    if (lks_a32_relaxed(&db->shm->state.mode) == LKS_MODE_WAL || lks_coordfile_is_drained(db))
        return lks_coordfile_remove(db);
    return lks_coordfile_set_aside(db, "does not fit the database, whose journal mode was changed since");
}

bool
lks_coordfile_is_of_mode(const struct lockstep_db *db)
{
    return lks_a32_relaxed(&db->shm->state.mode) == (uint32_t)db->hooks->mode;
}

/* Good, of our mode, and nobody is connected: of our format, too, or nothing waits in it, and it may go. */
static enum lockstep_status
check_left_format(struct lockstep_db *db)
{
    char stored[LKS_FORMAT_SIZE];
    enum lockstep_status status;
    if (!lks_coordfile_is_drained(db))
        return lks_format_check(db, "processes that were killed and left commits");
    lks_format_stored(db->shm, stored);
    status = lks_format_match(db, stored);
    if (status != LOCKSTEP_FORMAT)
        return status;
    return lks_coordfile_remove(db);
}

enum lockstep_status
lks_coordfile_prepare(struct lockstep_db *db, const struct lks_file_stat *database, bool *out_adopt)
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
        if (!lks_coordfile_is_of_mode(db))
            return replace_other_mode(db);
        *out_adopt = true;
        return check_left_format(db);
    case LKS_HEADER_EMPTY:
        /* Only the space was there.  A new inode: what is beyond the identity might not be zeros. */
        if (coord.size_bytes != 0)
            return lks_coordfile_remove(db);
        return make_fresh(db, database);
    case LKS_HEADER_OTHER_BOOT:
        lks_log(LKS_WARNING,
                "%s: the machine went down while programs were connected; up to the last max_lag of "
                "asynchronous commits may be missing",
                db->path);
        if (lks_coordfile_is_drained(db))
            return lks_coordfile_remove(db);
        break;
    case LKS_HEADER_ALONE:
        lks_log(LKS_WARNING,
                "%s: a process that used it alone (multi_process=0) did not come to close it: asynchronous commits "
                "that it had not yet written are not in the database",
                db->path);
        return lks_coordfile_remove(db);
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
    return lks_coordfile_set_aside(db, lks_header_words(verdict));
}
