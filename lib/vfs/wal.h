/*
 * A main database file in WAL mode: SQLite's own log and wal-index, with Lockstep beside them.
 *
 *   wal_attach.c   joining the coordination file while the wal-index is mapped; leaving
 *   wal_lock.c     the wal-index locks: the writer queue before WRITE, the guard of a reset, who may checkpoint
 *   wal_file.c     the `-wal` file: which syncs may be put off
 *   wal_pages.c    pages that need not be read again
 *   group_sync.c   COMMIT: the ticket, and waiting for it
 *   checkpoint.c   the background thread: lag, checkpoints, the mending of a poisoned log
 *   keeper.c       what it does to the log
 *
 * Everything here is of one connection and used by its thread, under SQLite's mutex, but for what wait.c does.
 */
#ifndef LKS_VFS_WAL_H
#define LKS_VFS_WAL_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "coord/queue.h"
#include "vfs/copy_file.h"
#include "vfs/sqlite.h"

struct lks_file;

/* The locks of a wal-index, wal.c of SQLite. */
enum lks_wal_lock {
    LKS_WAL_WRITE = 0,
    LKS_WAL_CKPT = 1,
    LKS_WAL_RECOVER = 2,
    LKS_WAL_READ0 = 3, /* ... READ4 */
    LKS_WAL_LOCKS = 8
};
#define LKS_WAL_READERS 5
#define LKS_WAL_BIT(LOCK) (1u << (LOCK))
#define LKS_WAL_READ_BITS (0x1fu << LKS_WAL_READ0)

/*
 * The first words of a wal-index, wal.c of SQLite: two copies of the header, then what checkpoints need.  All are
 * native words that others change: read by lks_wal_index_word().
 */
enum {
    LKS_INDEX_CHANGE = 2,
    LKS_INDEX_PAGE_SIZE = 3, /* and two flags: its bytes 2 and 3 */
    LKS_INDEX_MAX_FRAME = 4,
    LKS_INDEX_SALT = 8, /* two words */
    LKS_INDEX_CHECKSUM = 10, /* two words, of the ten before them */
    LKS_INDEX_BACKFILLED = 24,
    LKS_INDEX_READ_MARK = 25 /* ... of READ0 to READ4 */
};
#define LKS_INDEX_MARK_UNUSED 0xffffffffu

static inline uint32_t
lks_wal_index_word(const volatile uint32_t *index, unsigned word)
{
    return __atomic_load_n(&index[word], __ATOMIC_RELAXED);
}

/* Bytes of a page, and of the header before each page in the log. */
static inline uint32_t
lks_wal_index_page(const volatile uint32_t *index)
{
    uint32_t word = lks_wal_index_word(index, LKS_INDEX_PAGE_SIZE);
    uint16_t half[2];
    memcpy(half, &word, sizeof half);
    return (half[1] & 0xfe00u) + ((half[1] & 1u) << 16); /* 1 stands for 65536 */
}
#define LKS_LOG_HEADER_BYTES 32
#define LKS_FRAME_HEADER_BYTES 24

/* A header is known by its checksum. */
struct lks_wal_snapshot {
    uint32_t change;
    uint32_t max_frame;
    uint32_t checksum[2];
    uint32_t salt[2];
    uint32_t backfilled; /* not of the header: the frames that were written back then */
    bool begins;         /* SQLite's barrier after the lock is still to come */
    bool settled;        /* it goes by that `backfilled`: P1 in wal_pages.h */
};

/* What a file has of this mode. */
struct lks_wal {
    bool attached;       /* the process is connected in WAL mode, and this connection counts */
    bool told;           /* why not, in the log */
    bool foreign_main;   /* the connection's main database is another VFS's: see wal_file.c */
    uint64_t retry_ns;   /* when to try again */
    sqlite3_file *log;   /* the parent's file of the `-wal` that SQLite has open, else NULL */
    volatile uint32_t *index; /* the beginning of the wal-index, while it is mapped; with shm=copy our copy */

    /* Locks of the wal-index that this connection has: a bit each. */
    uint32_t shared, exclusive;
    bool paused;         /* the process's checkpointer, for EXCLUSIVE */
    bool leaving;        /* the process has said that it leaves */
    bool guarding;       /* CKPT was taken for a reset of the log */
    bool owns_writer;    /* WRITER of the queue, with WRITE */
    bool stock_busy;     /* WRITE was refused though WRITER was ours: somebody outside the queue has it */
    struct lks_turn turn;
    struct lks_wal_snapshot snapshot; /* the header when the read lock was taken */
    struct lks_wal_pages *pages; /* NULL: none were kept yet */
    uint32_t ticket_change; /* the header's change counter when f->ticket was drawn */
    uint32_t slot;       /* in the reader table; 0: none */

    /* The write transaction. */
    bool written;        /* to the log */
    bool header_last;    /* the log's header was the last thing written */
    bool synced;         /* really, after the last write */
    bool put_off;        /* SQLite's sync of a commit was put off */
    bool ticketed;       /* f->ticket is this transaction's */
    bool lags;           /* nobody waits for it, and it is to be synced within max_lag */
    int sync_flags;
    int64_t log_end;     /* where its next frame goes; 0: nothing was written yet */
    int kept_bytes;      /* up to there: not written yet, see wal_file.c */

    bool wrote_last;     /* the last transaction did */
    bool waited_early;   /* for this transaction, before its read lock */
    bool waited_disk;    /* the last commit waited until it was durable */

    bool just_committed; /* nothing was locked since but what ends a transaction */
};

/* wal_attach.c */
/* The index as others have it now, where it is a copy (shm=copy); else as ever. */
void lks_wal_refresh(struct lks_file *f);
void lks_wal_attach(struct lks_file *f);
void lks_wal_detach(struct lks_file *f);
/* xLock(EXCLUSIVE) of a file that is not in store mode. */
int lks_wal_lock_exclusive(struct lks_file *f);
/* The connection goes on after all: so does the checkpointer, which EXCLUSIVE had paused. */
void lks_wal_resume(struct lks_file *f);

/* wal_lock.c: xShmLock. */
int lks_wal_lock(struct lks_file *f, int offset, int n, int flags);
/* Of a commit: what tells the automatic checkpoint that may follow it from others. */
void lks_wal_mark(struct lks_file *f);
/* xShmBarrier, before the parent's, while snapshot.begins. */
void lks_wal_barrier(struct lks_file *f);
/* A stock process has WRITE: sleeps until it seems free, at most until end_ns.  False: it is not. */
bool lks_wal_probe(struct lks_file *f, uint64_t end_ns);

/* wal_file.c */
int lks_wal_file_open(struct lks_file *main, const char *name, sqlite3_file *file, int flags,
                      int *out_flags);
int lks_wal_file_bytes(void);

/* group_sync.c */
/* Syncs the log that SQLite has open; struct lks_file.  A lks_groupsync_fn. */
enum lockstep_status lks_wal_sync_log(void *file);
/* Before WRITE is given up: the ticket of what was written. */
void lks_wal_publish(struct lks_file *f);
/* SQLITE_FCNTL_COMMIT_PHASETWO. */
int lks_wal_commit(struct lks_file *f);
/* The newest commit that this connection made or has seen. */
uint64_t lks_wal_ticket(struct lks_file *f);
enum lockstep_status lks_wal_wait(struct lks_file *f, uint64_t ticket, int timeout_ms);

/* wal_holder.c */
/* The reader that keeps the log from being written back further, or reset. */
struct lks_wal_holder {
    int32_t pid;
    char program[32];
    uint32_t frame;  /* the last one that it sees */
    double since_s;  /* < 0: not known */
};
bool lks_wal_holder(struct lks_file *f, struct lks_wal_holder *out_holder);
/* The process that has WRITE without owning WRITER: stock SQLite's.  0: none. */
int32_t lks_wal_outsider(struct lks_file *f);

/* checkpoint.c */
extern const struct lks_database_hooks lks_checkpoint_hooks;
/* db->store of this mode, made once. */
enum lockstep_status lks_checkpoint_prepare(struct lockstep_db *db, enum lks_shm_kind shm);
/* The log has grown: rings if it is time to write back.  `lags`: a commit of ours is left to the background to sync. */
void lks_checkpoint_notice(struct lockstep_db *db, const volatile uint32_t *index, bool lags);
/* Starts the process's thread if nobody else's is at work. */
void lks_checkpoint_ensure(struct lockstep_db *db, const volatile uint32_t *index);
/* A reader has let go of the log, perhaps the last that was in the way; who wrote it may have left since. */
void lks_checkpoint_unheld(struct lockstep_db *db, const volatile uint32_t *index);
/* Is there somebody who checkpoints in the background? */
bool lks_checkpoint_awake(struct lockstep_db *db, const volatile uint32_t *index);
/* In the calling thread, as lockstep_run() wants it. */
enum lockstep_status lks_checkpoint_once(struct lockstep_db *db);

#endif
