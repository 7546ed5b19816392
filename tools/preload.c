/*
 * lockstep-run.so, which "lockstep run" puts into LD_PRELOAD: makes Lockstep the default VFS of a program
 * that does not know of it.
 *
 * Not at load time: a program may still call sqlite3_config(), which must come before SQLite is
 * initialised; and sqlite3_shutdown() with the next initialisation brings the stock default back (the
 * sqlite3 shell does that as it starts).  So each call that opens a database passes through here first, and so do
 * sqlite3_initialize(), for programs that then ask for the default VFS by themselves, and sqlite3_shutdown().
 *
 * SQLite calls sqlite3_initialize() itself, also while it holds its mutexes: once it is initialised, and we are
 * registered, that goes straight through.
 *
 * A default VFS that is not one of SQLite's own is left alone: the program has chosen it.
 */
#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include <sqlite3.h>

#include <lockstep/lockstep.h>

typedef int (*initialize_fn)(void);
typedef int (*open_fn)(const char *, sqlite3 **);
typedef int (*open16_fn)(const void *, sqlite3 **);
typedef int (*open_v2_fn)(const char *, sqlite3 **, int, const char *);

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static __thread int inside; /* SQLite, called from here, may call back in */
static _Atomic int ready; /* registered since the last sqlite3_shutdown() */
static int ours_by_us; /* under the mutex: we registered it, no copy in the program itself */

/* The function that would have been called without us. */
static void *
next(const char *name)
{
    void *function = dlsym(RTLD_NEXT, name);
    if (function == NULL)
        fprintf(stderr, "lockstep run: the program's SQLite has no %s\n", name);
    return function;
}

static int
become_default(void)
{
    sqlite3_vfs *now = sqlite3_vfs_find(NULL), *ours;
    int rc = SQLITE_OK;
    if (now == NULL || strncmp(now->zName, "unix", 4) != 0)
        return SQLITE_OK;
    ours = sqlite3_vfs_find("lockstep");
    if (ours != NULL && !ours_by_us)
        rc = sqlite3_vfs_register(ours, 1);
    else
        /* Again: the tables went with sqlite3_shutdown(), too. */
        rc = lockstep_initialize(NULL, 1);
    ours_by_us = ours_by_us || (ours == NULL && rc == SQLITE_OK);
    if (rc != SQLITE_OK)
        fprintf(stderr, "lockstep run: the VFS cannot be registered: %s\n", sqlite3_errstr(rc));
    return rc;
}

static int
prepare(void)
{
    initialize_fn initialize = (initialize_fn)next("sqlite3_initialize");
    int rc;
    if (initialize == NULL)
        return SQLITE_ERROR;
    if (inside)
        return initialize();
    /* From here on: SQLite, as it initialises itself, calls functions that do the same, and is not yet to be used. */
    inside = 1;
    rc = initialize();
    if (rc == SQLITE_OK) {
        pthread_mutex_lock(&mutex);
        rc = become_default();
        ready = rc == SQLITE_OK;
        pthread_mutex_unlock(&mutex);
    }
    inside = 0;
    return rc;
}

/* A failed open leaves the handle NULL, as SQLite does when it is out of memory. */
static int
refuse(int rc, sqlite3 **out_db)
{
    *out_db = NULL;
    return rc;
}

int
sqlite3_initialize(void)
{
    initialize_fn initialize;
    if (!ready)
        return prepare();
    initialize = (initialize_fn)next("sqlite3_initialize");
    return initialize != NULL ? initialize() : SQLITE_ERROR;
}

int
sqlite3_shutdown(void)
{
    initialize_fn shut_down = (initialize_fn)next("sqlite3_shutdown");
    ready = 0;
    return shut_down != NULL ? shut_down() : SQLITE_ERROR;
}

int
sqlite3_open(const char *name, sqlite3 **out_db)
{
    open_fn open = (open_fn)next("sqlite3_open");
    int rc = open != NULL ? prepare() : SQLITE_ERROR;
    return rc == SQLITE_OK ? open(name, out_db) : refuse(rc, out_db);
}

int
sqlite3_open16(const void *name, sqlite3 **out_db)
{
    open16_fn open = (open16_fn)next("sqlite3_open16");
    int rc = open != NULL ? prepare() : SQLITE_ERROR;
    return rc == SQLITE_OK ? open(name, out_db) : refuse(rc, out_db);
}

int
sqlite3_open_v2(const char *name, sqlite3 **out_db, int flags, const char *vfs)
{
    open_v2_fn open = (open_v2_fn)next("sqlite3_open_v2");
    int rc = open != NULL ? prepare() : SQLITE_ERROR;
    return rc == SQLITE_OK ? open(name, out_db, flags, vfs) : refuse(rc, out_db);
}
