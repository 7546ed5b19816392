#include "coord/inspect.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "coord/lockname.h"
#include "coord/meaning.h"
#include "coord/registry.h"
#include "coord/roster.h"
#include "coord/walindex.h"
#include "os/file.h"
#include "os/map.h"
#include "os/proclocks.h"
#include "shm/header.h"

#define PROC "/proc"

static const struct {
    enum lockstep_lock_place place;
    const char *suffix;
} files[LKS_INSPECT_FILES] = {
    [LKS_INSPECT_COORDINATION] = {LOCKSTEP_PLACE_COORDINATION, LKS_SHM_SUFFIX},
    [LKS_INSPECT_DATABASE] = {LOCKSTEP_PLACE_DATABASE, ""},
    [LKS_INSPECT_SHM] = {LOCKSTEP_PLACE_SHM, "-shm"},
};

/* ------------------------------------------------------------------------------------------------
 * Processes
 * --------------------------------------------------------------------------------------------- */

struct lockstep_process_view
lks_inspect_process(int32_t pid)
{
    struct lockstep_process_view view = {.pid = pid};
    struct lks_proclocks_process process;
    if (pid > 0 && lks_proclocks_look(PROC, pid, &process)) {
        view.state = process.state;
        memcpy(view.program, process.program, sizeof view.program);
    }
    return view;
}

/* ------------------------------------------------------------------------------------------------
 * Byte-range locks
 * --------------------------------------------------------------------------------------------- */

enum lockstep_status
lks_inspect_add_lock(struct lockstep_inspection *in, const struct lockstep_lock_view *lock)
{
    if (in->lock_count == in->lock_capacity) {
        size_t capacity = in->lock_capacity == 0 ? 64 : 2 * in->lock_capacity;
        struct lockstep_lock_view *more = realloc(in->locks, capacity * sizeof *more);
        if (more == NULL)
            return LOCKSTEP_NOMEM;
        in->locks = more;
        in->lock_capacity = capacity;
    }
    in->locks[in->lock_count++] = *lock;
    return LOCKSTEP_OK;
}

struct lockstep_lock_view
lks_inspect_byte_lock(enum lockstep_lock_place place, const struct lks_lockname *name, int32_t pid)
{
    struct lockstep_lock_view view = {
        .place = place,
        .process = lks_inspect_process(pid),
        .age_ns = LOCKSTEP_UNKNOWN,
        .snapshot = LOCKSTEP_UNKNOWN,
        .first_byte = name->first,
        .last_byte = name->last,
    };
    memcpy(view.name, name->name, sizeof view.name);
    return view;
}

/* One line of the kernel's as rows, one a name. */
static enum lockstep_status
add_line(struct lockstep_inspection *in, const struct lks_proclock *lock)
{
    enum lockstep_lock_place place = files[lock->file_no].place;
    struct lks_lockname name = {.first = lock->first, .last = lock->last, .client = -1};
    uint64_t first = lock->first;
    bool whole = lock->kind == LKS_PROCLOCK_FLOCK || lock->kind == LKS_PROCLOCK_LEASE;
    enum lockstep_status status = LOCKSTEP_OK;

    if (whole)
        strcpy(name.name, lock->kind == LKS_PROCLOCK_FLOCK ? "FLOCK" : "LEASE");
    while (status == LOCKSTEP_OK &&
           (whole || lks_lockname_next(place, lock->exclusive, &first, lock->last, &name))) {
        struct lockstep_lock_view view = lks_inspect_byte_lock(place, &name, lock->pid);
        view.exclusive = lock->exclusive;
        view.waiting = lock->waiting;
        status = lks_inspect_add_lock(in, &view);
        if (whole)
            break;
    }
    return status;
}

static int
by_place(const void *a, const void *b)
{
    const struct lockstep_lock_view *x = a, *y = b;
    if (x->place != y->place)
        return x->place < y->place ? -1 : 1;
    if (x->first_byte != y->first_byte)
        return x->first_byte < y->first_byte ? -1 : 1;
    if (x->waiting != y->waiting)
        return x->waiting ? 1 : -1;
    return x->process.pid < y->process.pid ? -1 : x->process.pid > y->process.pid;
}

static enum lockstep_status
read_byte_locks(struct lockstep_inspection *in)
{
    const char *paths[LKS_INSPECT_FILES];
    struct lks_proclock *locks;
    size_t count;
    enum lockstep_status status;
    for (size_t i = 0; i < LKS_INSPECT_FILES; i++)
        paths[i] = in->file_path[i];
    status = lks_proclocks_collect(PROC, paths, LKS_INSPECT_FILES, &locks, &count);
    if (status != LOCKSTEP_OK)
        return status;
    for (size_t i = 0; i < count && status == LOCKSTEP_OK; i++)
        status = add_line(in, &locks[i]);
    free(locks);
    return status;
}

/* ------------------------------------------------------------------------------------------------
 * The coordination file
 * --------------------------------------------------------------------------------------------- */

__attribute__((format(printf, 3, 4))) static void
set_problem(struct lockstep_inspection *in, enum lockstep_coordination coordination,
            const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vsnprintf(in->problem, sizeof in->problem, format, args);
    va_end(args);
    in->database.coordination = coordination;
}

static enum lockstep_coordination
coordination_of(enum lks_header_verdict verdict)
{
    switch (verdict) {
    case LKS_HEADER_GOOD: return LOCKSTEP_COORD_LEFT; /* until somebody is found */
    case LKS_HEADER_ALONE: return LOCKSTEP_COORD_LEFT;
    case LKS_HEADER_EMPTY: return LOCKSTEP_COORD_NONE;
    case LKS_HEADER_OTHER_BOOT:
    case LKS_HEADER_OTHER_FILE: return LOCKSTEP_COORD_OLD;
    case LKS_HEADER_DAMAGED:
    case LKS_HEADER_BYTE_ORDER:
    case LKS_HEADER_WORD_BITS:
    case LKS_HEADER_FORMAT: break;
    }
    return LOCKSTEP_COORD_DAMAGED;
}

/* Says what is to be done about a coordination file that nobody uses. */
static void
describe_left(struct lockstep_inspection *in)
{
    const struct lockstep_db_info *info = &in->database.info;
    unsigned long long waiting = info->committed > info->flushed ? info->committed - info->flushed : 0;
    if (info->wal)
        waiting = 0;
    if (waiting > 0)
        set_problem(in, LOCKSTEP_COORD_LEFT,
                    "All processes that used this database have died, and %llu commit%s still to be "
                    "written to it: \"lockstep recover\" or the next connection through Lockstep does that%s",
                    waiting, waiting == 1 ? " is" : "s are",
                    in->database.tripwire ? "; until then stock SQLite may read but not write it" : "");
    else
        set_problem(in, LOCKSTEP_COORD_LEFT,
                    "All processes that used this database have died; all commits are in it, and "
                    "\"lockstep recover\" or the next connection through Lockstep clears up");
}

/* The mark of single-process mode, seen from another process.  DMS2 tells whether it lives. */
static void
describe_alone(struct lockstep_inspection *in)
{
    for (size_t i = 0; i < in->lock_count; i++)
        if (in->locks[i].place == LOCKSTEP_PLACE_COORDINATION && strcmp(in->locks[i].name, "DMS2") == 0) {
            set_problem(in, LOCKSTEP_COORD_LIVE,
                        "A process uses this database alone (multi_process=0): what is in its memory it can tell "
                        "itself, by PRAGMA lockstep_status and the tables lockstep_locks, lockstep_readers");
            return;
        }
    set_problem(in, LOCKSTEP_COORD_LEFT,
                "A process that used this database alone (multi_process=0) did not come to close it; asynchronous "
                "commits that it had not yet written are lost. \"lockstep recover\" or the next connection through "
                "Lockstep clears up");
}

static enum lockstep_status
read_coordination(struct lockstep_inspection *in, const struct lks_shm *shm, uint64_t file_bytes,
                  int coord_fd)
{
    char boot_id[LKS_BOOT_ID_SIZE];
    struct lks_file_stat database;
    enum lks_header_verdict verdict;
    enum lockstep_status status = lks_file_stat_path(in->path, &database);
    if (status != LOCKSTEP_OK)
        return status;
    status = lks_process_boot_id(boot_id);
    if (status != LOCKSTEP_OK)
        return status;
    verdict = lks_header_check(shm, file_bytes, &database.id, boot_id);
    in->database.coordination = coordination_of(verdict);
    if (verdict == LKS_HEADER_ALONE) {
        describe_alone(in);
        return LOCKSTEP_OK;
    }
    if (verdict != LKS_HEADER_GOOD) {
        set_problem(in, coordination_of(verdict), "%s %s", in->file_path[LKS_INSPECT_COORDINATION],
                    lks_header_words(verdict));
        return LOCKSTEP_OK;
    }
    in->census = malloc(sizeof *in->census);
    if (in->census == NULL)
        return LOCKSTEP_NOMEM;
    lks_census_take(shm, lks_clock_ns(), in->census);
    status = lks_roster_take(in, coord_fd);
    if (status != LOCKSTEP_OK)
        return status;
    if (in->database.coordination == LOCKSTEP_COORD_LEFT)
        describe_left(in);
    if (in->census->poison != 0)
        set_problem(in, in->database.coordination,
                    "A sync of the log failed (%s): every commit fails until all processes have closed the "
                    "database and one opens it again", strerror((int)in->census->poison));
    if (in->census->damage[0] != '\0')
        set_problem(in, LOCKSTEP_COORD_DAMAGED, "%s is damaged: %s", in->file_path[LKS_INSPECT_COORDINATION],
                    in->census->damage);
    return LOCKSTEP_OK;
}

/* Maps the file read-only for a moment.  Closing it must drop no lock of ours: see look(). */
static enum lockstep_status
open_coordination(struct lockstep_inspection *in)
{
    const char *path = in->file_path[LKS_INSPECT_COORDINATION];
    struct lks_file_stat stat;
    size_t map_bytes;
    void *base = NULL;
    int fd;
    enum lockstep_status status = lks_file_open(path, LKS_OPEN_READ, 0, &fd);
    if (status == LOCKSTEP_CANTOPEN) {
        in->database.coordination = LOCKSTEP_COORD_NONE;
        return LOCKSTEP_OK;
    }
    if (status != LOCKSTEP_OK) {
        set_problem(in, LOCKSTEP_COORD_HIDDEN,
                    "%s cannot be read (%s): only the locks that the kernel shows are known; "
                    "try as the owner of the database",
                    path, strerror(lks_os_errno()));
        return LOCKSTEP_OK;
    }
    status = lks_file_stat_fd(fd, &stat);
    if (status != LOCKSTEP_OK)
        goto close;
    map_bytes = stat.size_bytes < LKS_SHM_BYTES ? (size_t)stat.size_bytes : LKS_SHM_BYTES;
    if (map_bytes > 0)
        status = lks_map_file(fd, map_bytes, false, &base);
    if (status == LOCKSTEP_OK)
        status = read_coordination(in, base, stat.size_bytes, fd);
    lks_map_release(base, map_bytes);
close:
    lks_file_close(fd);
    return status;
}

/* ------------------------------------------------------------------------------------------------
 * Together
 * --------------------------------------------------------------------------------------------- */

static bool
hold_locks_on(const struct lockstep_inspection *in, enum lockstep_lock_place place)
{
    for (size_t i = 0; i < in->lock_count; i++)
        if (in->locks[i].place == place && in->locks[i].process.pid == in->self.pid)
            return true;
    return false;
}

/* Which frames the readers of a log see.  A process that has locks on the -shm file must not open it. */
static void
read_walindex(struct lockstep_inspection *in)
{
    bool used = false;
    for (size_t i = 0; i < in->lock_count; i++)
        used = used || in->locks[i].place == LOCKSTEP_PLACE_SHM;
    if (used && !hold_locks_on(in, LOCKSTEP_PLACE_SHM))
        in->index_known = lks_walindex_read(in->file_path[LKS_INSPECT_SHM], &in->index);
    if (!in->index_known)
        return;
    in->database.info.wal = 1;
    in->database.info.wal_frames = in->index.frames;
    in->database.info.wal_backfilled = in->index.backfilled;
}

static enum lockstep_status
begin(const char *path, struct lockstep_inspection **out_inspection)
{
    struct lockstep_inspection *in = calloc(1, sizeof *in);
    enum lockstep_status status;
    if (in == NULL)
        return LOCKSTEP_NOMEM;
    /* The files beside the database are named after what a symbolic link leads to, as SQLite does. */
    status = lks_file_real_path(path, &in->path);
    if (status != LOCKSTEP_OK)
        goto fail;
    for (size_t i = 0; i < LKS_INSPECT_FILES; i++)
        if (asprintf(&in->file_path[i], "%s%s", in->path, files[i].suffix) < 0) {
            in->file_path[i] = NULL;
            status = LOCKSTEP_NOMEM;
            goto fail;
        }
    lks_process_self(&in->self);
    in->database.path = in->path;
    in->database.problem = in->problem;
    in->database.coordination = LOCKSTEP_COORD_NONE;
    in->database.writer_age_ns = LOCKSTEP_UNKNOWN;
    in->database.pending_age_ns = LOCKSTEP_UNKNOWN;
    *out_inspection = in;
    return LOCKSTEP_OK;
fail:
    lockstep_inspect_close(in);
    return status;
}

/* Sorts the byte locks, which stand at both ends of what was added, and says what each means. */
static void
finish(struct lockstep_inspection *in)
{
    size_t memory = 0;
    /* A stable partition by hand: qsort() may not keep the order of those who wait. */
    for (size_t i = 0; i < in->lock_count; i++) {
        struct lockstep_lock_view lock = in->locks[i];
        if (lock.place != LOCKSTEP_PLACE_MEMORY)
            continue;
        memmove(&in->locks[memory + 1], &in->locks[memory], (i - memory) * sizeof lock);
        in->locks[memory++] = lock;
    }
    if (in->lock_count > memory) {
        qsort(in->locks + memory, in->lock_count - memory, sizeof in->locks[0], by_place);
        lks_meaning_of_byte_locks(in->locks + memory, in->lock_count - memory, in->clients,
                                  in->client_count);
        if (in->index_known)
            lks_meaning_of_read_marks(in->locks + memory, in->lock_count - memory, &in->index);
    }
    for (size_t i = 0; i < in->lock_count; i++)
        in->database.hidden_holders += in->locks[i].process.pid == 0;
    free(in->census);
    in->census = NULL;
}

/* What this process has mapped itself.  Attached, and stays so while we look. */
static enum lockstep_status
read_own(struct lockstep_inspection *in, const struct lockstep_db *db)
{
    struct lks_file_stat coord;
    enum lockstep_status status;
    if (db->alone) {
        in->alone = true;
        return read_coordination(in, db->shm, LKS_SHM_BYTES, -1);
    }
    status = lks_file_stat_fd(db->locks.coord_fd, &coord);
    return status == LOCKSTEP_OK ? read_coordination(in, db->shm, coord.size_bytes, db->locks.coord_fd)
                                 : status;
}

/* Nobody of this process connects to the database or leaves it meanwhile. */
static enum lockstep_status
look(struct lockstep_db *db, void *arg)
{
    struct lockstep_inspection *in = arg;
    enum lockstep_status status = read_byte_locks(in);
    if (status != LOCKSTEP_OK)
        return status;
    /* Of a database that is open here the -shm file may be locked at any moment, and to close it would drop that. */
    if (db == NULL)
        read_walindex(in);
    if (db != NULL && lks_a32_acquire(&db->attached) != 0)
        return read_own(in, db);
    if (!hold_locks_on(in, LOCKSTEP_PLACE_COORDINATION))
        return open_coordination(in);
    set_problem(in, LOCKSTEP_COORD_HIDDEN,
                "%s is in use by another copy of Lockstep in this process, which must not open it twice: only "
                "the locks that the kernel shows are known", in->file_path[LKS_INSPECT_COORDINATION]);
    return LOCKSTEP_OK;
}

enum lockstep_status
lockstep_inspect_open(const char *path, struct lockstep_inspection **out_inspection)
{
    struct lockstep_inspection *in;
    enum lockstep_status status;
    if (path == NULL || out_inspection == NULL)
        return LOCKSTEP_MISUSE;
    status = begin(path, &in);
    if (status == LOCKSTEP_OK) {
        status = lks_registry_visit(in->path, look, in);
        if (status != LOCKSTEP_OK)
            lockstep_inspect_close(in);
    }
    if (status != LOCKSTEP_OK)
        return status;
    finish(in);
    *out_inspection = in;
    return LOCKSTEP_OK;
}

void
lockstep_inspect_close(struct lockstep_inspection *in)
{
    if (in == NULL)
        return;
    for (size_t i = 0; i < LKS_INSPECT_FILES; i++)
        free(in->file_path[i]);
    free(in->path);
    free(in->locks);
    free(in->clients);
    free(in->readers);
    free(in->waiters);
    free(in->census);
    free(in);
}

const struct lockstep_database_view *
lockstep_inspect_database(const struct lockstep_inspection *in)
{
    return &in->database;
}

const struct lockstep_lock_view *
lockstep_inspect_lock(const struct lockstep_inspection *in, size_t i)
{
    return i < in->lock_count ? &in->locks[i] : NULL;
}

const struct lockstep_client_view *
lockstep_inspect_client(const struct lockstep_inspection *in, size_t i)
{
    return i < in->client_count ? &in->clients[i] : NULL;
}

const struct lockstep_reader_view *
lockstep_inspect_reader(const struct lockstep_inspection *in, size_t i)
{
    return i < in->reader_count ? &in->readers[i] : NULL;
}

const struct lockstep_waiter_view *
lockstep_inspect_waiter(const struct lockstep_inspection *in, size_t i)
{
    return i < in->waiter_count ? &in->waiters[i] : NULL;
}
