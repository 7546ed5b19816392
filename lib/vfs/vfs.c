#include "vfs/vfs.h"

#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/mutex.h"
#include "vfs/copy_log.h"
#include "vfs/copy_vfs.h"
#include "vfs/tables.h"
#include "vfs/wait.h"

static struct lks_mutex files_mutex = LKS_MUTEX_INITIALIZER(LKS_RANK_FILES);
static struct lks_file *files;

static sqlite3_vfs lockstep_vfs;
static sqlite3_vfs *parent_vfs;
static unsigned parent_users; /* of enum lks_vfs_user */

/*
 * The file that this thread locked last: SQLite asks for its journal and its write-ahead log right after.
 * Compared, never followed.
 */
static __thread struct {
    const char *journal_name;
    const char *wal_name;
    bool store;
} noted;

/* The super-journal that this thread has opened and not yet deleted.  Compared, never followed. */
static __thread const char *super_journal;

bool
lks_vfs_in_super_journal(void)
{
    return super_journal != NULL;
}

sqlite3_vfs *
lks_vfs_parent(void)
{
    return parent_vfs;
}

void
lks_vfs_note_file(const struct lks_file *file)
{
    noted.journal_name = file->journal_name;
    noted.wal_name = file->wal_name;
    noted.store = file->store;
}

void
lks_files_add(struct lks_file *file)
{
    lks_mutex_lock(&files_mutex);
    file->next = files;
    files = file;
    lks_mutex_unlock(&files_mutex);
}

void
lks_files_remove(struct lks_file *file)
{
    struct lks_file **link;
    lks_mutex_lock(&files_mutex);
    for (link = &files; *link != NULL; link = &(*link)->next)
        if (*link == file) {
            *link = file->next;
            break;
        }
    lks_mutex_unlock(&files_mutex);
}

bool
lks_files_find(bool (*visit)(struct lks_file *file, void *arg), void *arg)
{
    struct lks_file *file;
    bool found = false;
    lks_mutex_lock(&files_mutex);
    for (file = files; file != NULL && !found; file = file->next)
        found = visit(file, arg);
    lks_mutex_unlock(&files_mutex);
    return found;
}

struct lks_file *
lks_file_of_connection(sqlite3 *connection, const char *schema)
{
    sqlite3_file *file = NULL;
    if (connection == NULL ||
        sqlite3_file_control(connection, schema, SQLITE_FCNTL_FILE_POINTER, &file) != SQLITE_OK)
        return NULL;
    return lks_file_of(file);
}

/* Is it the journal of a file whose transaction goes through the store? */
static bool
is_store_journal(struct lks_file *file, void *arg)
{
    /* The name first: it is constant, and what it belongs to is used by this thread alone. */
    return file->journal_name == (const char *)arg && file->store;
}

int
lks_vfs_open(sqlite3_vfs *vfs, const char *name, sqlite3_file *file, int flags, int *out_flags)
{
    if (name != NULL && (flags & SQLITE_OPEN_MAIN_DB) != 0 &&
        !sqlite3_uri_boolean(name, "immutable", 0) && !sqlite3_uri_boolean(name, "nolock", 0) &&
        (flags & SQLITE_OPEN_DELETEONCLOSE) == 0)
        return lks_store_file_open(vfs, name, (struct lks_file *)file, flags, out_flags);
    if (name != NULL && (flags & SQLITE_OPEN_MAIN_JOURNAL) != 0) {
        struct lks_file *main = lks_file_of(sqlite3_database_file_object(name));
        if (main != NULL && main->store)
            return lks_journal_file_open(main, file, flags, out_flags);
    }
    if (name != NULL && (flags & SQLITE_OPEN_WAL) != 0) {
        struct lks_file *main = lks_file_of(sqlite3_database_file_object(name));
        if (main != NULL)
            return lks_wal_file_open(main, name, file, flags, out_flags);
    }
    if ((flags & SQLITE_OPEN_SUPER_JOURNAL) != 0)
        super_journal = name;
    return parent_vfs->xOpen(parent_vfs, name, file, flags, out_flags);
}

static int
vfs_delete(sqlite3_vfs *vfs, const char *name, int sync_dir)
{
    (void)vfs;
    if (name == super_journal)
        super_journal = NULL;
    /* By the list, not by what the thread noted: a journal that stays when it should go is a disaster. */
    if (lks_files_find(is_store_journal, (void *)(uintptr_t)name))
        return SQLITE_OK;
    return parent_vfs->xDelete(parent_vfs, name, sync_dir);
}

static int
vfs_access(sqlite3_vfs *vfs, const char *name, int flags, int *out)
{
    (void)vfs;
    if (noted.store && (name == noted.journal_name || name == noted.wal_name)) {
        *out = 0;
        return SQLITE_OK;
    }
    return parent_vfs->xAccess(parent_vfs, name, flags, out);
}

static int
vfs_full_pathname(sqlite3_vfs *vfs, const char *name, int n, char *out)
{
    (void)vfs;
    return parent_vfs->xFullPathname(parent_vfs, name, n, out);
}

static void *
vfs_dlopen(sqlite3_vfs *vfs, const char *name)
{
    (void)vfs;
    return parent_vfs->xDlOpen(parent_vfs, name);
}

static void
vfs_dlerror(sqlite3_vfs *vfs, int n, char *out)
{
    (void)vfs;
    parent_vfs->xDlError(parent_vfs, n, out);
}

static void (*vfs_dlsym(sqlite3_vfs *vfs, void *handle, const char *symbol))(void)
{
    (void)vfs;
    return parent_vfs->xDlSym(parent_vfs, handle, symbol);
}

static void
vfs_dlclose(sqlite3_vfs *vfs, void *handle)
{
    (void)vfs;
    parent_vfs->xDlClose(parent_vfs, handle);
}

static int
vfs_randomness(sqlite3_vfs *vfs, int n, char *out)
{
    (void)vfs;
    return parent_vfs->xRandomness(parent_vfs, n, out);
}

static int
vfs_sleep(sqlite3_vfs *vfs, int microseconds)
{
    int rest = microseconds;
    (void)vfs;
    if (rest > 0)
        rest = (int)(lks_wait_sleep((uint64_t)rest * 1000) / 1000);
    if (rest > 0 || microseconds <= 0)
        (void)parent_vfs->xSleep(parent_vfs, rest);
    lks_copy_file_slept();
    return microseconds;
}

static int
vfs_current_time(sqlite3_vfs *vfs, double *out)
{
    (void)vfs;
    return parent_vfs->xCurrentTime(parent_vfs, out);
}

static int
vfs_last_error(sqlite3_vfs *vfs, int n, char *out)
{
    (void)vfs;
    return parent_vfs->xGetLastError != NULL ? parent_vfs->xGetLastError(parent_vfs, n, out) : 0;
}

static int
vfs_current_time_int64(sqlite3_vfs *vfs, sqlite3_int64 *out)
{
    double julian;
    int rc;
    (void)vfs;
    if (parent_vfs->iVersion >= 2 && parent_vfs->xCurrentTimeInt64 != NULL)
        return parent_vfs->xCurrentTimeInt64(parent_vfs, out);
    rc = parent_vfs->xCurrentTime(parent_vfs, &julian);
    *out = (sqlite3_int64)(julian * 86400000.0);
    return rc;
}

static int
vfs_set_call(sqlite3_vfs *vfs, const char *name, sqlite3_syscall_ptr call)
{
    (void)vfs;
    return parent_vfs->iVersion >= 3 && parent_vfs->xSetSystemCall != NULL
               ? parent_vfs->xSetSystemCall(parent_vfs, name, call)
               : SQLITE_NOTFOUND;
}

static sqlite3_syscall_ptr
vfs_get_call(sqlite3_vfs *vfs, const char *name)
{
    (void)vfs;
    return parent_vfs->iVersion >= 3 && parent_vfs->xGetSystemCall != NULL
               ? parent_vfs->xGetSystemCall(parent_vfs, name)
               : NULL;
}

static const char *
vfs_next_call(sqlite3_vfs *vfs, const char *name)
{
    (void)vfs;
    return parent_vfs->iVersion >= 3 && parent_vfs->xNextSystemCall != NULL
               ? parent_vfs->xNextSystemCall(parent_vfs, name)
               : NULL;
}

static int
max(int a, int b)
{
    return a > b ? a : b;
}

void
lks_vfs_fill(sqlite3_vfs *vfs, const char *name)
{
    *vfs = (sqlite3_vfs){
        .iVersion = 3,
        .pNext = vfs->pNext, /* SQLite's, if it is registered */
        .szOsFile = max((int)sizeof(struct lks_file) + lks_copy_file_bytes(),
                        max(lks_journal_file_bytes(), lks_wal_file_bytes() + lks_copy_log_bytes())) +
                    parent_vfs->szOsFile,
        .mxPathname = parent_vfs->mxPathname,
        .zName = name,
        .xOpen = lks_vfs_open,
        .xDelete = vfs_delete,
        .xAccess = vfs_access,
        .xFullPathname = vfs_full_pathname,
        .xDlOpen = vfs_dlopen,
        .xDlError = vfs_dlerror,
        .xDlSym = vfs_dlsym,
        .xDlClose = vfs_dlclose,
        .xRandomness = vfs_randomness,
        .xSleep = vfs_sleep,
        .xCurrentTime = vfs_current_time,
        .xGetLastError = vfs_last_error,
        .xCurrentTimeInt64 = vfs_current_time_int64,
        .xSetSystemCall = vfs_set_call,
        .xGetSystemCall = vfs_get_call,
        .xNextSystemCall = vfs_next_call,
    };
}

static bool
any_file(struct lks_file *file, void *arg)
{
    (void)file;
    (void)arg;
    return true;
}

static bool
not_async(struct lks_file *file, void *arg)
{
    (void)arg;
    return !file->async;
}

/* sqlite3_log() cuts a message off after 210 bytes, and ours end with what to do: a long one goes in parts. */
#define LOG_PART 180

static void
log_to_sqlite(void *arg, int level, const char *message)
{
    int code = level == 0 ? SQLITE_NOTICE : level == 1 ? SQLITE_WARNING : SQLITE_ERROR;
    const char *lead = "";
    size_t left = strlen(message);
    (void)arg;
    while (left > LOG_PART) {
        size_t n = LOG_PART;
        while (n > 1 && message[n] != ' ')
            n--;
        if (n == 1)
            n = LOG_PART;
        sqlite3_log(code, "lockstep: %s%.*s", lead, (int)n, message);
        message += n + (message[n] == ' ');
        left = strlen(message);
        lead = "... ";
    }
    sqlite3_log(code, "lockstep: %s%s", lead, message);
}

/* Both may be told again: sqlite3_shutdown() forgets the tables, and who is the default. */
static int
announce(bool make_default)
{
    int rc = sqlite3_vfs_register(&lockstep_vfs, make_default);
    return rc == SQLITE_OK ? lks_tables_everywhere() : rc;
}

int
lks_vfs_take_parent(const char *parent_name, enum lks_vfs_user user)
{
    sqlite3_vfs *parent = sqlite3_vfs_find(parent_name), *other = sqlite3_vfs_find("lockstep");
    /* Two copies could not use one database: see lks_client_another_copy(). */
    if (other != NULL && other != &lockstep_vfs)
        return SQLITE_MISUSE;
    if (parent_users == 0 || (parent_name != NULL && parent != parent_vfs)) {
        if (parent == NULL || parent->xFullPathname == vfs_full_pathname)
            return SQLITE_ERROR;
        if ((parent_users & ~(unsigned)user) != 0)
            return SQLITE_MISUSE;
        if (parent != parent_vfs && lks_files_find(any_file, NULL))
            return SQLITE_MISUSE;
        parent_vfs = parent;
        lks_log_set(log_to_sqlite, NULL);
    }
    parent_users |= user;
    return SQLITE_OK;
}

void
lks_vfs_drop_parent(enum lks_vfs_user user)
{
    parent_users &= ~(unsigned)user;
}

int
lks_vfs_register(const char *parent_name, bool make_default)
{
    int rc = lks_vfs_take_parent(parent_name, LKS_VFS_LOCKSTEP);
    if (rc != SQLITE_OK)
        return rc;
    lks_vfs_fill(&lockstep_vfs, "lockstep");
    return announce(make_default);
}

int
lks_vfs_unregister(void)
{
    if ((parent_users & LKS_VFS_LOCKSTEP) == 0)
        return SQLITE_OK;
    if (lks_files_find(not_async, NULL))
        return SQLITE_BUSY;
    lks_vfs_drop_parent(LKS_VFS_LOCKSTEP);
    if (parent_users == 0)
        lks_copy_vfs_unregister();
    lks_tables_nowhere();
    return sqlite3_vfs_unregister(&lockstep_vfs);
}
