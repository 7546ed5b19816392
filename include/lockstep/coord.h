/*
 * coord.h - Lockstep's coordination core: one file, many processes, no SQLite.
 *
 * Read this first:
 *
 *   - One `struct lockstep_db` stands for one file in one process however often and by whatever name
 *     it is opened.  It takes POSIX locks on "<path>-lockstep": no other code of the process may open and
 *     close that file, or the kernel drops the locks.
 *   - Nothing here survives fork(): in the child every call returns LOCKSTEP_MISUSE.  Open again there.
 *   - A commit is visible to every process when lockstep_conn_commit() returns, and survives SIGKILL of
 *     any process.  It survives a power cut once lockstep_db_wait() has returned for its ticket.
 *   - A connection is used by one thread at a time.  A database may be used by all threads at once.
 */
#ifndef LOCKSTEP_COORD_H
#define LOCKSTEP_COORD_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* What a call reports.  BUSY, STALE and TIMEOUT are answers, the rest are errors. */
enum lockstep_status {
    LOCKSTEP_OK = 0,
    LOCKSTEP_BUSY,     /* somebody else holds it; waiting may help */
    LOCKSTEP_STALE,    /* the snapshot is not the newest: no waiting can help, begin again */
    LOCKSTEP_TIMEOUT,  /* the given time has passed */
    LOCKSTEP_FULL,     /* no space on the disk, or the hard limit of the store is reached */
    LOCKSTEP_IOERR,    /* the system refused a read, write or sync */
    LOCKSTEP_NOMEM,    /* out of memory or of entries in a shared table */
    LOCKSTEP_CANTOPEN, /* the file or its coordination file cannot be opened */
    LOCKSTEP_CORRUPT,  /* the coordination file, or the list of free blocks, is damaged */
    LOCKSTEP_FORMAT,   /* the coordination file, or that list, is of another version or kind of build, or another application's */
    LOCKSTEP_READONLY, /* no permission to write */
    LOCKSTEP_NOTSTORE, /* the file is a database in WAL mode: not for the store */
    LOCKSTEP_MISUSE    /* wrong call, or a handle that was carried across fork() */
};

/* What a commit asks for; see DURABILITY in lockstep(7). */
enum lockstep_durability {
    LOCKSTEP_OFF = 0,   /* never synced on this commit's behalf */
    LOCKSTEP_ASYNC = 1, /* synced within max_lag; commit returns at once */
    LOCKSTEP_FULL_SYNC = 2 /* commit returns once it survives a power cut */
};

struct lockstep_db;
struct lockstep_conn;

/*
 * Names the format of what the application keeps in the file, where the options do not: asked when the process connects.
 * `stored`: the name that those have who are connected, or who were killed and left commits; to answer with it is to get
 * on with them.  NULL: nobody is there, and the answer is what later ones are compared with.  `head`: the first bytes of
 * the file, at most 512; if commits wait they are not in it.  `out_format` is zeros; a name has at most 15 bytes.
 * Any status but OK keeps the process from connecting, and is what it is told.
 * Called with internal locks held: it must be quick, and must not call the library.
 */
#define LOCKSTEP_FORMAT_SIZE 16
typedef enum lockstep_status (*lockstep_format_fn)(void *arg, const char *stored, const void *head, size_t head_bytes,
                                                   char out_format[LOCKSTEP_FORMAT_SIZE]);

/*
 * Tells how many bytes of the file are in use, from its start: the file is cut off there.  Asked when the last client
 * closes the database, after everything has been written behind, unless somebody reads on; not when the process ends by
 * exit() without a close.  `conn` is in a transaction that reads the newest commit: it may be read by, the list of free
 * blocks too (lockstep_conn_block_open() first), and nothing else.
 * Any status but OK, or more than the file has, leaves the file as it is.
 */
typedef enum lockstep_status (*lockstep_last_used_fn)(void *arg, struct lockstep_conn *conn, uint64_t *out_bytes);

struct lockstep_options {
    uint32_t max_lag_ms;     /* 0: leave as it is (100 in a new coordination file) */
    uint64_t store_limit;    /* bytes; 0: leave as it is (64 MiB) */
    uint64_t hard_limit;     /* bytes; 0: leave as it is (32 GiB of address space, the disk permitting) */
    /*
     * Write nothing.  While others are connected it is one of them.  While nobody is, each transaction reads a private
     * copy of what there is, killed processes' commits and all, and not a byte of any file is changed; no permission to
     * write is needed.  Each begin looks which of the two it is.  Files that the system does not let us write are opened so.
     */
    uint32_t readonly;
    uint32_t no_worker;      /* no background thread: the caller runs lockstep_db_run() */
    uint32_t override_fs;    /* open on filesystems that are refused */
    /*
     * The store is memory of this process alone, and no other may connect (it is told BUSY); BUSY at attach if one
     * is.  What was committed and not yet written dies with the process: see SINGLE PROCESS in lockstep(7).
     */
    uint32_t single_process;
    /*
     * What the application keeps in the file, a name of at most 15 bytes, with a version perhaps: "books 2".  Who comes
     * while others are connected, or commits wait, and has another name is told FORMAT, and the log has both names.
     * SQLite's databases have "SQLite".  "" is a name too, unless format_fn has a better one.
     */
    char format[LOCKSTEP_FORMAT_SIZE];
    lockstep_format_fn format_fn; /* NULL: none */
    void *format_arg;
    lockstep_last_used_fn last_used_fn; /* NULL: the file stays as long as it is */
    void *last_used_arg;
};

struct lockstep_db_info {
    uint64_t committed;     /* id of the newest commit */
    uint64_t flushed;       /* the file holds exactly this commit */
    uint64_t durable;       /* this commit survives a power cut */
    uint64_t pending_bytes; /* blocks in use: page versions that the store holds */
    uint64_t store_bytes;   /* size of the block area */
    uint64_t store_limit;   /* soft limit, bytes */
    uint64_t hard_limit;    /* bytes */
    uint64_t batches;       /* batches written since the coordination file was made */
    uint64_t failed_batches;
    uint32_t max_lag_ms;
    uint32_t unit_size;     /* bytes a block */
    uint32_t clients;       /* processes connected */
    uint32_t readers;       /* transactions open */
    uint32_t waiters;       /* connections in the writer queue */
    uint32_t last_error;    /* errno of the last failed batch, 0 when the newest one succeeded */
    int32_t writer_pid;     /* 0: nobody writes */
    uint64_t oldest_snapshot; /* of an open transaction; committed when there is none */

    /* A database in WAL mode: committed counts tickets, pending_bytes and store_bytes mean nothing. */
    uint32_t wal;           /* 1: it is one */
    uint32_t wal_frames;    /* in the log, when the background thread looked last */
    uint32_t wal_backfilled; /* of these, written back into the database */
    uint32_t sync_failed;   /* errno of a failed sync of the log, which poisons it; 0 */
    uint64_t wal_bytes;     /* size of the log file */
    uint64_t checkpoints;   /* made in the background */
    uint64_t syncs;         /* of the log, each for all who waited */
};

/* A word for a status, for messages.  Never NULL.  Thread-safe. */
const char *lockstep_status_name(enum lockstep_status status);

/*
 * The library's messages: level 0 notice, 1 warning, 2 error.  NULL: none (the default of the core; the
 * VFS sets sqlite3_log()).  Set before the first open; called from any thread.
 */
typedef void (*lockstep_log_fn)(void *arg, int level, const char *message);
void lockstep_set_log(lockstep_log_fn fn, void *arg);

/* Joins the database at `path`, which must exist.  Not yet connected: that is lockstep_db_attach(). */
enum lockstep_status lockstep_db_open(const char *path, const struct lockstep_options *options,
                                      struct lockstep_db **out_db);

/*
 * Connects this process, recovers what a dead one left.  BUSY: a stock SQLite writer is at work.
 * NOTSTORE: the file is in WAL mode.  Idempotent.  Thread-safe.
 * Of one that only reads: READONLY if others are connected and it may not write the coordination file, where readers mark
 * what they read; CANTOPEN if it may not even read one that was left.  If nobody is connected, calls that need the memory
 * that clients share (info, wait, run, checkpoint, clients, begin_at, and those about snapshots, locks and work) return
 * READONLY; to attach again is to look again.
 */
enum lockstep_status lockstep_db_attach(struct lockstep_db *db);

/* The last close of the last process writes everything back and removes the coordination file. */
enum lockstep_status lockstep_db_close(struct lockstep_db *db);

/* Waits until commit `ticket` is durable.  timeout_ms < 0: no limit.  TIMEOUT, or the batch's error. */
enum lockstep_status lockstep_db_wait(struct lockstep_db *db, uint64_t ticket, int timeout_ms);

/* Writes behind, in the calling thread, everything committed so far.  BUSY: another process is the worker. */
enum lockstep_status lockstep_db_run(struct lockstep_db *db);

enum lockstep_status lockstep_db_info(struct lockstep_db *db, struct lockstep_db_info *out_info);

/* A connection: one transaction at a time. */
enum lockstep_status lockstep_conn_open(struct lockstep_db *db, struct lockstep_conn **out_conn);
void lockstep_conn_close(struct lockstep_conn *conn);

/*
 * Begins a transaction on the newest snapshot.  No system call; but opened to read only, with nobody connected, it reads in
 * what killed processes left, and keeps writers from writing behind until it ends.  BUSY then: the file is being written.
 */
enum lockstep_status lockstep_conn_begin(struct lockstep_conn *conn);
/* Becomes the writer.  wait_ms: how long to queue.  STALE when a commit came in between. */
enum lockstep_status lockstep_conn_write_begin(struct lockstep_conn *conn, int wait_ms);
enum lockstep_status lockstep_conn_read(struct lockstep_conn *conn, uint64_t offset, void *buf,
                                        size_t size_bytes, size_t *out_read);
enum lockstep_status lockstep_conn_write(struct lockstep_conn *conn, uint64_t offset, const void *buf,
                                         size_t size_bytes);
enum lockstep_status lockstep_conn_truncate(struct lockstep_conn *conn, uint64_t size_bytes);
enum lockstep_status lockstep_conn_size(struct lockstep_conn *conn, uint64_t *out_size_bytes);
/* Publishes, lets the next writer in, then waits if FULL_SYNC.  *out_ticket may be NULL. */
enum lockstep_status lockstep_conn_commit(struct lockstep_conn *conn, enum lockstep_durability durability,
                                          uint64_t *out_ticket);
enum lockstep_status lockstep_conn_rollback(struct lockstep_conn *conn);
/* Ends the transaction (rolls back what was not committed). */
void lockstep_conn_end(struct lockstep_conn *conn);
uint64_t lockstep_conn_snapshot(const struct lockstep_conn *conn);

/* ------------------------------------------------------------------------------------------------
 * Who is connected, and which snapshots are in use.  Of a database that is attached; without /proc, so cheap.
 */

struct lockstep_client {
    uint32_t slot;     /* its number, as in CLIENT(slot) */
    int32_t pid;       /* as this process would call it; if that cannot be known, as it calls itself */
    uint32_t alive;    /* 0: it has died, and nobody has cleared up after it yet */
    uint32_t readonly;
    uint32_t self;     /* 1: this process */
    uint64_t age_ns;   /* connected for so long */
    char program[32];
};

/*
 * Fills up to `capacity` of `out` (NULL if that is 0) by rising slot; *out_count is how many there are, which
 * may be more. One system call a client.  Thread-safe.
 */
enum lockstep_status lockstep_db_clients(struct lockstep_db *db, struct lockstep_client *out, size_t capacity,
                                         size_t *out_count);
/* The slot of this process, UINT32_MAX if it is not connected.  Thread-safe. */
uint32_t lockstep_db_slot(struct lockstep_db *db);

/*
 * Begins a transaction on an older snapshot that a transaction of any connection of any process holds, which
 * stays protected from then on even if that one ends.  The newest one will do as well.  STALE: nobody holds
 * it any more, and parts of it may be gone.  BUSY: as of lockstep_conn_begin().  MISUSE: there was no such
 * commit.  READONLY: nobody is connected.
 */
enum lockstep_status lockstep_conn_begin_at(struct lockstep_conn *conn, uint64_t snapshot);
/*
 * Does a transaction of anybody who lives read exactly this snapshot?  Of one that is not the newest, 0 is
 * true for ever. What is being written behind counts.  Dead clients are cleared.  1 is no promise: the transaction may
 * have ended by now, and of one that is not the newest 1 is also said where snapshots change hands
 * (lockstep_conn_begin_at()) faster than they can be looked at.  Thread-safe.
 */
enum lockstep_status lockstep_db_snapshot_in_use(struct lockstep_db *db, uint64_t snapshot, int *out_in_use);
/*
 * The oldest one in use; the newest there is if none is.  No older one will be in use again.  So it may be lower than the
 * truth, never higher; 1, the lowest there is, where snapshots change hands faster than they can be looked at: who waits for
 * it to rise asks again.  Thread-safe.
 */
enum lockstep_status lockstep_db_snapshot_oldest(struct lockstep_db *db, uint64_t *out_snapshot);

/* ------------------------------------------------------------------------------------------------
 * Locks.  Bytes of the coordination file, of a process; and WRITER and SNAPSHOT, in memory, of a connection.
 */

enum lockstep_lock {
    LOCKSTEP_LOCK_DMS1 = 0,      /* connects or leaves */
    LOCKSTEP_LOCK_DMS2 = 1,      /* is connected; exclusive: alone (single_process) */
    LOCKSTEP_LOCK_DMS3 = 2,      /* is connected, read-only */
    LOCKSTEP_LOCK_WORKER = 4,    /* writes behind */
    LOCKSTEP_LOCK_WORK = 6,      /* does the application's work: lockstep_conn_work_begin() */
    LOCKSTEP_LOCK_CLIENT = 16,   /* + slot: that client lives */
    LOCKSTEP_LOCK_WRITER = 1000, /* write transaction */
    LOCKSTEP_LOCK_SNAPSHOT = 1001 /* transaction */
};
enum lockstep_lock_mode { LOCKSTEP_UNLOCKED = 0, LOCKSTEP_SHARED = 1, LOCKSTEP_EXCLUSIVE = 2 };

struct lockstep_lock_holder {
    int32_t pid;         /* 0: cannot be known */
    uint32_t slot;       /* of the client; UINT32_MAX: it is none, or cannot be known */
    uint32_t connection; /* its number in that process; 0: not known, or the lock is the process's */
    uint32_t alive;      /* 0: it has died, and whoever waits will get the lock */
    uint64_t held_ns;    /* for so long; 0: not known */
    char program[32];
};

/*
 * Would `mode` (SHARED or EXCLUSIVE) on `lock` be refused now?  Takes nothing.  OK: no.  BUSY: yes, and
 * *out_holder, which may be NULL, says who is in the way; of several, one.  What this process itself holds is
 * in nobody's way, but for WRITER and WORK, which one connection has.  MISUSE for SNAPSHOT: nobody ever is.
 * Thread-safe.
 */
enum lockstep_status lockstep_db_lock_test(struct lockstep_db *db, uint32_t lock, enum lockstep_lock_mode mode,
                                           struct lockstep_lock_holder *out_holder);
/*
 * How this connection, or its process, holds it.  UNLOCKED, too, for a wrong call.  A transaction that began when nobody was
 * connected reads a private copy, and holds no SNAPSHOT.
 */
enum lockstep_lock_mode lockstep_conn_holds(const struct lockstep_conn *conn, uint32_t lock);
/*
 * 1: it holds `lock` in `mode` or, for SHARED, in a stronger one; for UNLOCKED, not at all.  Else 0, and a
 * library built with --enable-debug prints what is held to stderr and aborts: to be called where a lock is
 * relied upon.
 */
int lockstep_conn_assert_lock(const struct lockstep_conn *conn, uint32_t lock, enum lockstep_lock_mode mode);
/*
 * "conn 3: DMS2=shared CLIENT(5)=exclusive WRITER=exclusive snapshot=17": for messages and debuggers.  At
 * most size_bytes with the NUL go to buf (NULL if that is 0).  Returns the length of the whole line.
 */
size_t lockstep_conn_locks(const struct lockstep_conn *conn, char *buf, size_t size_bytes);

/* ------------------------------------------------------------------------------------------------
 * Background work of the application, such as compaction: one connection among all processes has the right to
 * it.
 *
 * Writers are not kept out: work is done beside them, and what comes of it is written in short transactions.
 * The right ends with _end, with the connection, or with the process.
 */

/*
 * Not waiting.  BUSY: another connection, of this process or of another, is at work.  MISUSE: this one is.
 * READONLY: opened so.
 */
enum lockstep_status lockstep_conn_work_begin(struct lockstep_conn *conn);
/* MISUSE: it is not at work. */
enum lockstep_status lockstep_conn_work_end(struct lockstep_conn *conn);

/* ------------------------------------------------------------------------------------------------
 * Blocks of the file, for engines that write in new places and free the old ones: LSM1's freelist.
 *
 * Block n is bytes [n * block_size, (n + 1) * block_size) of the file; block 0 is the application's head and
 * never handed out.  The list of free blocks is in the file, in blocks of its own behind a root record of 64
 * bytes in block 0, and is part of the transaction: it is committed, rolled back, and seen as of a snapshot.
 * A block that was freed is handed out again only when no transaction of any process uses a snapshot older
 * than the commit that freed it, and that commit is durable (written, if nobody asks for more than OFF).  So
 * a block may also be read and written beside the store.
 *
 * All of these: MISUSE outside of a transaction (of a write transaction, where it says "writing") or before
 * lockstep_conn_block_open(); FORMAT if there is no list at the root, CORRUPT if it is damaged, and the
 * errors of reading and writing.  After any of these but MISUSE in a write transaction that has changed the
 * list, roll it back: commit would refuse.
 */
#define LOCKSTEP_BLOCK_ROOT_BYTES 64

struct lockstep_block_info {
    uint32_t block_size; /* bytes */
    uint32_t nodes;      /* blocks that the list itself is in */
    uint64_t blocks;     /* of the file, with block 0 */
    uint64_t free;       /* entries of the list */
    uint64_t usable;     /* of these, what could be handed out now; 0 to a reader when nobody is connected */
};

/*
 * Makes an empty list at `root`, a byte offset in block 0; what the file has up to now stays the
 * application's. block_size: 512 to 67108864, a power of two.  Writing.  Opens it, too.
 */
enum lockstep_status lockstep_conn_block_format(struct lockstep_conn *conn, uint64_t root,
                                                uint32_t block_size);
/* Says where the root is, once for each connection.  Reads nothing. */
enum lockstep_status lockstep_conn_block_open(struct lockstep_conn *conn, uint64_t root);
/*
 * A block to write to: the lowest that may be used, else one more at the end of the file; its content is
 * undefined. below: if not 0, only one with a lower number will do, and *out_block is 0 when there is none.
 * Writing.
 */
enum lockstep_status lockstep_conn_block_alloc(struct lockstep_conn *conn, uint64_t below,
                                               uint64_t *out_block);
/* Frees a block as of this commit.  MISUSE: it is free, or the list's, or not in the file.  Writing. */
enum lockstep_status lockstep_conn_block_free(struct lockstep_conn *conn, uint64_t block);
/* Gives back what was allocated in this transaction: usable at once.  MISUSE: it was not.  Writing. */
enum lockstep_status lockstep_conn_block_refree(struct lockstep_conn *conn, uint64_t block);
/* 1: allocated in this transaction, so it may be overwritten.  0: not, or wrong call. */
int lockstep_conn_block_is_new(const struct lockstep_conn *conn, uint64_t block);
/*
 * Gives free blocks at the end of the file back, as far as they may be used.  *out_blocks: how many stay.
 * Writing.
 */
enum lockstep_status lockstep_conn_block_trim(struct lockstep_conn *conn, uint64_t *out_blocks);
/*
 * freed: the ticket that freed it; 0: usable at once.  To a reader when nobody is connected it is as it was written, by the
 * count of an earlier coordination file perhaps.  Returns 0 to go on.  Must not call lockstep_conn_block_...(), nor end
 * the transaction.
 */
typedef int (*lockstep_block_fn)(void *arg, uint64_t block, uint64_t freed);
/*
 * Calls fn for each free block, this transaction's included, by rising number or, `reverse` not 0, by
 * falling.
 */
enum lockstep_status lockstep_conn_block_walk(struct lockstep_conn *conn, int reverse, lockstep_block_fn fn,
                                              void *arg);
enum lockstep_status lockstep_conn_block_info(struct lockstep_conn *conn,
                                              struct lockstep_block_info *out_info);
/* --------------------------------------------------------------------------- what an engine checkpoints
 *
 * Writes behind everything that is committed, and makes it durable, in the calling thread, or waits for the process that
 * writes behind.  *out_bytes (which may be NULL): how much of the file was written while the call ran, by whoever did it;
 * 0 if nothing had to be.  READONLY: opened so.  IOERR, FULL: the disk failed; all is kept and tried again.  Thread-safe.
 */
enum lockstep_status lockstep_db_checkpoint(struct lockstep_db *db, uint64_t *out_bytes);

/*
 * A record that tells an engine where everything is, kept twice, as LSM1 keeps its meta pages 1 and 2: a new one is written
 * where the newest is not, so one that is torn or damaged falls back to the one before.  The places are the application's:
 * two stretches of `size` bytes each that do not overlap, for nothing else.  Of them LOCKSTEP_META_HEADER bytes are a
 * header (lib/store/meta.h has the format); the payload may have the rest.
 */
#define LOCKSTEP_META_HEADER 24
struct lockstep_meta {
    uint64_t offset[2];
    uint32_t size; /* bytes of each place, header and all */
};
/*
 * The newest valid record as the transaction sees it: its payload, the payload's size, and its sequence, which is one more
 * with each record.  Sequence 0: none was written yet.  CORRUPT: there were records, and both places are damaged.
 * capacity_bytes must be at least places->size - LOCKSTEP_META_HEADER, or it is MISUSE.
 */
enum lockstep_status lockstep_conn_meta_read(struct lockstep_conn *conn, const struct lockstep_meta *places, void *buf,
                                             size_t capacity_bytes, size_t *out_size_bytes, uint64_t *out_sequence);
/*
 * Writes the next record, as part of the transaction, which must be the writer.  *out_sequence may be NULL.  Where both
 * places are damaged the sequence begins anew.  FULL, IOERR, NOMEM: as lockstep_conn_write().
 */
enum lockstep_status lockstep_conn_meta_write(struct lockstep_conn *conn, const struct lockstep_meta *places,
                                              const void *payload, size_t size_bytes, uint64_t *out_sequence);

#ifdef __cplusplus
}
#endif
#endif
