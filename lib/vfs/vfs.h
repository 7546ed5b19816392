/*
 * The VFS object, and the main database files that are open through it.
 *
 * field        changed under
 * vfs, parent  lks_vfs_register(), before any file is open
 * the list     files_mutex; a file in it: `connection` too
 *
 * A file is used by one thread at a time (SQLite's connection mutex); other threads see it through the list
 * only, to answer questions about its journal's name, and to sleep in its stead (see wait.h).
 */
#ifndef LKS_VFS_VFS_H
#define LKS_VFS_VFS_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "store/transaction.h"
#include "vfs/copy_file.h"
#include "vfs/lock_note.h"
#include "vfs/sqlite.h"
#include "vfs/wal.h"

enum lks_vfs_durability { LKS_DURABILITY_AS_ASKED = -1 }; /* else enum lockstep_durability */

/* What the URI says. */
struct lks_uri {
    struct lockstep_options options;
    int durability;
    uint32_t lock_wait_ms;
    enum lks_shm_kind shm;
    bool checkpoint_off;
    uint64_t log_limit; /* 0: leave as it is */
};

/* A main database file.  SQLite allocates it, the parent's file follows it; with shm=copy, that of copy_file.c over it. */
struct lks_file {
    sqlite3_file base;
    sqlite3_file *real;
    struct lks_file *next; /* the list */
    uint64_t serial;
    const char *name;         /* SQLite's, valid while the file is open */
    const char *journal_name; /* the very pointers that SQLite passes to xAccess and xDelete */
    const char *wal_name;
    const volatile char *fork_guard;
    struct lks_uri uri;
    bool async;                      /* opened through the VFS "sqlite3async" */
    struct lks_runner_entry *runner; /* of its database there, see runner.h; NULL: not connected */
    bool readonly;
    int lock;            /* SQLITE_LOCK_* as SQLite believes */
    bool store;          /* the transaction that is open goes through the store */
    bool real_locked;    /* ... or through the parent */
    struct lks_lock_note *note; /* of that, since the first one */
    int wal_wanted;      /* PRAGMA journal_mode=WAL was let through: for so many locks more */
    bool exclusive;      /* PRAGMA locking_mode=EXCLUSIVE */
    bool told_permission; /* that the coordination file is not ours to use */
    sqlite3 *connection; /* compared only */
    sqlite3 **user;      /* who uses the file now, which a shared cache changes; valid while it is open */
    struct lockstep_db *db;
    struct lockstep_conn *conn;

    /* What SQLite did in this transaction tells what was asked. */
    uint32_t journal_syncs;
    bool database_synced;
    int synchronous; /* the last PRAGMA synchronous */
    uint64_t ticket;

    /* Bytes 24 to 39, which SQLite reads at each begin, as of a snapshot. */
    uint64_t version_snapshot;
    unsigned char version[16];

    /* Waiting. */
    pthread_mutex_t sleep_mutex;
    /*
     * The thread that was refused RESERVED and may sleep for it; NULL: the file was locked since.  Written by who uses the
     * file, to NULL under sleep_mutex; others read it under that.
     */
    const void *refused_by;
    bool sleeps;         /* the connection has a busy timeout: it has slept in the queue */
    bool wants_writer;   /* RESERVED was refused, and since then nobody slept for it */
    uint64_t busy_since_ns;
    uint64_t busy_logged_ns;
    char blocker[160];

    /* In WAL mode. */
    struct lks_wal wal;

    /* The journal's memory, kept from one transaction to the next. */
    unsigned char *journal_buffer;
    size_t journal_capacity;
};

/* The parent VFS. */
sqlite3_vfs *lks_vfs_parent(void);
/* Who has a VFS registered over it.  Both use the same parent. */
enum lks_vfs_user { LKS_VFS_LOCKSTEP = 1, LKS_VFS_ASYNC = 2 };
/* Settles which it is.  MISUSE: another is in use, or another copy of the library is here; ERROR: it is not to be had. */
int lks_vfs_take_parent(const char *parent, enum lks_vfs_user user);
void lks_vfs_drop_parent(enum lks_vfs_user user);
/* A VFS of that name whose methods are ours. */
void lks_vfs_fill(sqlite3_vfs *vfs, const char *name);
int lks_vfs_open(sqlite3_vfs *vfs, const char *name, sqlite3_file *file, int flags, int *out_flags);
/* Registers, see lockstep_initialize(). */
int lks_vfs_register(const char *parent, bool make_default);
int lks_vfs_unregister(void);

/* This thread has locked the file: it will ask for its journal next. */
void lks_vfs_note_file(const struct lks_file *file);

/* Is this thread committing to several databases at once, under a super-journal? */
bool lks_vfs_in_super_journal(void);

/* The list of open main files. */
void lks_files_add(struct lks_file *file);
void lks_files_remove(struct lks_file *file);
/* Calls visit under the mutex until it returns true. */
bool lks_files_find(bool (*visit)(struct lks_file *file, void *arg), void *arg);

/* NULL if the file is not one of ours. */
struct lks_file *lks_file_of(sqlite3_file *file);
/* The main database of a connection, NULL if it is not open through us. */
struct lks_file *lks_file_of_connection(sqlite3 *connection, const char *schema);

/* store_file.c */
int lks_store_file_open(sqlite3_vfs *vfs, const char *name, struct lks_file *file, int flags,
                        int *out_flags);
extern const sqlite3_io_methods lks_store_file_methods;

/* store_connect.c */
/* Connects if need be.  SQLITE_OK and file->conn, or a code; SQLITE_NOTFOUND: it is for the parent. */
int lks_store_file_connect(struct lks_file *file);
/*
 * Of either mode: connects if need be; what lockstep_ticket(), lockstep_wait() and lockstep_flush() want.  In WAL mode
 * a file is connected once SQLite has read it.
 */
int lks_file_connect(struct lks_file *file);
uint64_t lks_file_ticket(struct lks_file *file);
uint64_t lks_file_newest(struct lks_file *file);
enum lockstep_status lks_file_wait(struct lks_file *file, uint64_t ticket, int timeout_ms);
/* Closes file->conn and file->db, of either mode. */
void lks_file_drop_connection(struct lks_file *file);
/* SHARED through the parent.  MISUSE: the locks of a parent process are carried; a note of it is there before, and after. */
int lks_file_begin_at_parent(struct lks_file *file);
/* That has been given up. */
void lks_file_drop_note(struct lks_file *file);
/* Forgets the connection to the store, if this file and process are the only ones that use it. */
bool lks_store_file_disconnect(struct lks_file *file);

/* journal_file.c */
int lks_journal_file_open(struct lks_file *main, sqlite3_file *file, int flags, int *out_flags);
int lks_journal_file_bytes(void);

/* uri.c */
void lks_uri_parse(const char *name, struct lks_uri *out_uri);
/* "off", "async", "normal", "full"; -2 if it is none. */
int lks_uri_durability(const char *word);
const char *lks_uri_durability_name(int durability);

/* pragma.c: SQLITE_FCNTL_PRAGMA. */
int lks_pragma(struct lks_file *file, char **words);

/* io_parent.c */
extern const struct lks_io lks_io_parent;

/* What the open transaction asks for, from what SQLite did in it. */
enum lockstep_durability lks_file_durability(const struct lks_file *file);

#endif
