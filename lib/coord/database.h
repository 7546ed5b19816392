/*
 * One database file in this process.
 *
 * field                       changed under
 * references                  the registry's mutex
 * everything marked [attach]  attach_mutex, while `attached` is 0; constant while it is 1
 * attached                    attach_mutex; read by anybody, acquire
 */
#ifndef LKS_COORD_DATABASE_H
#define LKS_COORD_DATABASE_H

#include <stdbool.h>

#include "base/mutex.h"
#include "base/status.h"
#include "coord/horizon.h"
#include "coord/lockset.h"
#include "os/file.h"
#include "os/io.h"
#include "os/process.h"
#include "shm/chunk.h"
#include "shm/layout.h"

struct lockstep_db;

/*
 * What the store, or who coordinates a database in WAL mode, does for the core; coord/ knows no pages.  In WAL
 * mode no lock is taken on the database file, and nothing of the coordination file but WORKER's and the writer's
 * words is used.
 */
struct lks_database_hooks {
    enum lks_shm_mode mode;
    /*
     * First read-write client, DMS1 held, nobody else writes.  Rolls back a hot journal; `adopt`: also
     * checks that what dead processes left still applies (STALE: it does not) and repairs it.
     */
    enum lockstep_status (*recover)(struct lockstep_db *db, bool adopt);
    /* A writer died: the caller owns WRITER.  Unlinks what it had not committed. */
    enum lockstep_status (*repair)(struct lockstep_db *db);
    /* Writes everything back and makes it durable.  Nobody else is connected. */
    enum lockstep_status (*drain)(struct lockstep_db *db);
    /*
     * The last client leaves in order, all is drained, and nobody reads: the file as short as the application uses it.
     * NULL: it is not ours to cut.
     */
    void (*shorten)(struct lockstep_db *db);
    /* The last client leaves, all is drained: nothing of ours stays in or beside the file. */
    enum lockstep_status (*leave)(struct lockstep_db *db);
    enum lockstep_status (*start_worker)(struct lockstep_db *db);
    void (*stop_worker)(struct lockstep_db *db);
    /* Closes the store's files and gives WORKER up, if it is held.  Idempotent. */
    void (*resign)(struct lockstep_db *db);
    /* Frees db->store. */
    void (*destroy)(struct lockstep_db *db);
};

struct lockstep_db {
    struct lockstep_db *next; /* the registry's list */
    unsigned references;
    struct lks_file_id id;
    char *path; /* absolute, no symbolic links */
    char *coord_path;
    char *journal_path;
    struct lockstep_options options;
    const struct lks_io *io;
    const struct lks_database_hooks *hooks;
    void *store; /* the store's part */
    const volatile char *fork_guard;

    struct lks_mutex attach_mutex;
    struct lks_a32 attached;
    struct lks_a32 standby;            /* 0 to 1 once: only reads, and nobody was there to attach beside; release */
    bool unwritable;                   /* [attach] the system does not let us write the file */
    bool readonly;                     /* [attach] that, or asked for: the client is of DMS3 and writes nothing behind */
    struct lks_shm *shm;               /* [attach] */
    size_t map_bytes;                  /* [attach] */
    bool alone;                        /* [attach] single-process mode: shm is private memory */
    struct lks_lockset locks;          /* [attach], and its own mutex */
    int passing_fd;                    /* -1, or open for a moment: the registry's mutex of rank PASSING */
    uint32_t client;                   /* [attach] */
    struct lks_process self;           /* [attach] */
    char boot_id[LKS_BOOT_ID_SIZE];    /* [attach] */
    char format[LOCKSTEP_FORMAT_SIZE]; /* [attach] the application's name for what the file is */

    bool leaving_as_owner;             /* [attach_mutex] exit() owns WRITER, and drains */
    bool left;                         /* [attach_mutex] exit() has left for us: nothing is undone */
    struct lks_mutex reap_mutex;
    /* Owners of WRITER in this process only; see coord/horizon.h. */
    struct lks_horizon horizon;
    uint32_t next_connection; /* numbers for people; attach_mutex */
    struct lks_a32 sync_hurry; /* commits that wait for nobody to lead their sync, see coord/groupsync.c; relaxed */
    struct lks_a32 work_owner; /* the connection that has WORK, 0: none of this process; see coord/work.h */
};

/* The file that `shm` is a mapping of, or -1. */
static inline int
lks_database_memory_fd(const struct lockstep_db *db)
{
    return db->alone ? -1 : db->locks.coord_fd;
}

/* True in a child of fork() that carries the handle. */
static inline bool
lks_database_forked(const struct lockstep_db *db)
{
    return *db->fork_guard == 0;
}

#endif
