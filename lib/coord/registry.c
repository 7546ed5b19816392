#include "coord/registry.h"

#include <assert.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "coord/attach.h"
#include "coord/format.h"
#include "os/map.h"

static struct lks_mutex registry_mutex = LKS_MUTEX_INITIALIZER(LKS_RANK_REGISTRY);
static struct lockstep_db *databases;
/* Held while a descriptor is opened and written down, so that no child is forked in between. */
static struct lks_mutex passing_mutex = LKS_MUTEX_INITIALIZER(LKS_RANK_PASSING);

/* A descriptor that nobody uses now and nobody may close. */
struct parked {
    struct parked *next;
    struct lks_file_id id;
    int fd;
    bool writable;
};
static struct parked *parked_list;
static pthread_once_t registry_once = PTHREAD_ONCE_INIT;

static void
before_fork(void)
{
    lks_mutex_lock(&registry_mutex);
    lks_mutex_lock(&passing_mutex);
}

static void
after_fork_parent(void)
{
    lks_mutex_unlock(&passing_mutex);
    lks_mutex_unlock(&registry_mutex);
}

/*
 * The child starts with an empty registry.  The parent's objects stay, for handles that the child carries and
 * that must answer MISUSE.  Descriptors are closed: with them the child would keep the parent's open-file-description
 * locks alive beyond the parent's death.
 */
static void
after_fork_child(void)
{
    struct lockstep_db *db;
    struct parked *p;
    for (db = databases; db != NULL; db = db->next) {
        lks_file_close(db->locks.database_fd);
        db->locks.database_fd = -1;
        lks_file_close(db->locks.coord_fd);
        db->locks.coord_fd = -1;
        lks_file_close(db->passing_fd);
        db->passing_fd = -1;
    }
    for (p = parked_list; p != NULL; p = p->next)
        lks_file_close(p->fd);
    databases = NULL;
    parked_list = NULL;
    lks_mutex_unlock(&passing_mutex);
    lks_mutex_unlock(&registry_mutex);
}

/* exit() without close: as if all had been closed. */
static void
at_exit(void)
{
    struct lockstep_db *db;
    if (!lks_mutex_trylock(&registry_mutex))
        return;
    for (db = databases; db != NULL; db = db->next)
        if (!lks_database_forked(db))
            lks_leave_at_exit(db);
    lks_mutex_unlock(&registry_mutex);
}

static void
registry_init(void)
{
    (void)lks_map_fork_guard();
    pthread_atfork(before_fork, after_fork_parent, after_fork_child);
    atexit(at_exit);
}

static char *
join(const char *path, const char *suffix)
{
    size_t a = strlen(path), b = strlen(suffix);
    char *name = malloc(a + b + 1);
    if (name != NULL) {
        memcpy(name, path, a);
        memcpy(name + a, suffix, b + 1);
    }
    return name;
}

/*
 * A parked descriptor of this file, or a new one: for writing if the system lets us.  One Database serves
 * connections of both kinds, for POSIX locks cannot tell two clients in one process apart.
 */
static enum lockstep_status
database_descriptor(const struct lks_file_id *id, const char *path, int *out_fd, bool *out_readonly)
{
    struct parked **link, *p;
    enum lockstep_status status;
    for (link = &parked_list; (p = *link) != NULL; link = &p->next)
        if (lks_file_same(&p->id, id)) {
            *out_fd = p->fd;
            *out_readonly = !p->writable;
            *link = p->next;
            free(p);
            return LOCKSTEP_OK;
        }
    status = lks_file_open(path, LKS_OPEN_WRITE, 0, out_fd);
    *out_readonly = status == LOCKSTEP_READONLY;
    return *out_readonly ? lks_file_open(path, LKS_OPEN_READ, 0, out_fd) : status;
}

static void
park(const struct lockstep_db *db)
{
    struct parked *p = malloc(sizeof *p);
    if (p == NULL || db->locks.database_fd < 0) {
        free(p);
        return; /* a descriptor leaks: better than to drop another's locks */
    }
    p->id = db->id;
    p->fd = db->locks.database_fd;
    p->writable = !db->unwritable;
    p->next = parked_list;
    parked_list = p;
}

static void
destroy(struct lockstep_db *db)
{
    if (db == NULL)
        return;
    if (db->store != NULL)
        db->hooks->destroy(db);
    lks_mutex_destroy(&db->attach_mutex);
    lks_mutex_destroy(&db->reap_mutex);
    lks_mutex_destroy(&db->locks.mutex);
    free(db->path);
    free(db->coord_path);
    free(db->journal_path);
    free(db);
}

static enum lockstep_status
make(char *real_path, const struct lks_file_id *id, const struct lockstep_options *options,
     const struct lks_io *io, const struct lks_database_hooks *hooks, struct lockstep_db **out_db)
{
    enum lockstep_status status = LOCKSTEP_NOMEM;
    struct lockstep_db *db = calloc(1, sizeof *db);
    if (db == NULL)
        return LOCKSTEP_NOMEM;
    db->id = *id;
    db->path = strdup(real_path);
    db->coord_path = join(real_path, LKS_SHM_SUFFIX);
    db->journal_path = join(real_path, "-journal");
    if (options != NULL)
        db->options = *options;
    db->io = io;
    db->hooks = hooks;
    db->fork_guard = lks_map_fork_guard();
    db->client = LKS_MAX_CLIENTS;
    db->locks.coord_fd = -1;
    db->locks.database_fd = -1;
    db->passing_fd = -1;
    lks_mutex_init(&db->attach_mutex, LKS_RANK_ATTACH);
    lks_mutex_init(&db->reap_mutex, LKS_RANK_REAP);
    lks_mutex_init(&db->locks.mutex, LKS_RANK_LOCKSET);
    if (db->path != NULL && db->coord_path != NULL && db->journal_path != NULL)
        status = database_descriptor(id, real_path, &db->locks.database_fd, &db->unwritable);
    db->readonly = db->unwritable || db->options.readonly;
    if (status != LOCKSTEP_OK) {
        destroy(db);
        return status;
    }
    *out_db = db;
    return LOCKSTEP_OK;
}

enum lockstep_status
lks_registry_get(const char *path, const struct lockstep_options *options, const struct lks_io *io,
                 const struct lks_database_hooks *hooks, struct lockstep_db **out_db)
{
    struct lks_file_stat stat;
    struct lockstep_db *db;
    char *real_path = NULL;
    enum lockstep_status status;

    pthread_once(&registry_once, registry_init);
    status = lks_file_real_path(path, &real_path);
    if (status == LOCKSTEP_OK)
        status = lks_file_stat_path(real_path, &stat);
    if (status != LOCKSTEP_OK)
        goto free_path;
    lks_mutex_lock(&registry_mutex);
    for (db = databases; db != NULL; db = db->next)
        if (lks_file_same(&db->id, &stat.id))
            break;
    if (db == NULL) {
        status = make(real_path, &stat.id, options, io, hooks, &db);
        if (status == LOCKSTEP_OK) {
            db->next = databases;
            databases = db;
        }
    }
    /* Of the other mode: a connection of this process that switches it has not let go yet. */
    if (status == LOCKSTEP_OK && db->hooks->mode != hooks->mode)
        status = LOCKSTEP_BUSY;
    if (status == LOCKSTEP_OK && !lks_format_shares(db, options)) {
        lks_log(LKS_ERROR, "%s: it is open in this process in the format '%s', and is now to be opened in '%s'",
                db->path, lks_format_in_use(db),
                options != NULL ? options->format : "");
        status = LOCKSTEP_FORMAT;
    }
    if (status == LOCKSTEP_OK) {
        db->references++;
        *out_db = db;
    }
    lks_mutex_unlock(&registry_mutex);
free_path:
    free(real_path);
    return status;
}

enum lockstep_status
lks_registry_put(struct lockstep_db *db)
{
    enum lockstep_status status = LOCKSTEP_OK;
    struct lockstep_db **link;
    if (db == NULL || lks_database_forked(db))
        return LOCKSTEP_OK;
    lks_mutex_lock(&registry_mutex);
    if (--db->references == 0) {
        /* Under the mutex: whoever opens the file now waits for what we leave. */
        status = lks_detach(db);
        for (link = &databases; *link != db; link = &(*link)->next)
            ;
        *link = db->next;
        park(db);
        destroy(db);
    }
    lks_mutex_unlock(&registry_mutex);
    return status;
}

enum lockstep_status
lks_registry_visit(const char *real_path, enum lockstep_status (*visit)(struct lockstep_db *db, void *arg),
                   void *arg)
{
    struct lks_file_stat stat;
    struct lockstep_db *db;
    enum lockstep_status status = lks_file_stat_path(real_path, &stat);
    if (status != LOCKSTEP_OK)
        return status;
    pthread_once(&registry_once, registry_init);
    lks_mutex_lock(&registry_mutex);
    for (db = databases; db != NULL; db = db->next)
        if (lks_file_same(&db->id, &stat.id) && !lks_database_forked(db))
            break;
    if (db != NULL)
        lks_mutex_lock(&db->attach_mutex);
    status = visit(db, arg);
    if (db != NULL)
        lks_mutex_unlock(&db->attach_mutex);
    lks_mutex_unlock(&registry_mutex);
    return status;
}

enum lockstep_status
lks_registry_pass(struct lockstep_db *db, const char *path, int *out_fd)
{
    enum lockstep_status status;
    lks_mutex_lock(&passing_mutex);
    assert(db->passing_fd < 0);
    status = lks_file_open(path, LKS_OPEN_READ, 0, out_fd);
    if (status == LOCKSTEP_OK)
        db->passing_fd = *out_fd;
    lks_mutex_unlock(&passing_mutex);
    return status;
}

void
lks_registry_passed(struct lockstep_db *db)
{
    lks_mutex_lock(&passing_mutex);
    lks_file_close(db->passing_fd);
    db->passing_fd = -1;
    lks_mutex_unlock(&passing_mutex);
}

unsigned
lks_registry_references(struct lockstep_db *db)
{
    unsigned n;
    lks_mutex_lock(&registry_mutex);
    n = db->references;
    lks_mutex_unlock(&registry_mutex);
    return n;
}
