/*
 * The keeper of a log: a connection of its own over the parent VFS, and what is done to the log over it.
 *
 *   sync         for those who do not wait;
 *   a pass       writes frames back: PASSIVE, which makes nobody wait.  Writers that go on meanwhile keep the log from
 *                being reset, so the rest, when it is short or the log half as long as it may be, is written back as
 *                the owner of WRITER: the next writer finds all written back and begins anew.  A file beyond its limit
 *                is then truncated, unless that would wait for a reader;
 *   mending      a log that was poisoned is written anew, byte for byte.
 *
 * SQLite's table of inodes knows of the connection, and closing it drops no lock of the process.  With shm=copy it is
 * over copy_file.c, and its index a copy that it has to refresh.  It is opened when first needed.  Who does this, and
 * when, is checkpoint.c's.
 *
 * All is used by one thread: the checkpointer's, or, while there is none, the caller of lockstep_run().
 */
#ifndef LKS_VFS_KEEPER_H
#define LKS_VFS_KEEPER_H

#include "vfs/vfs.h"

/*
 * A pass is due when so many frames are to be written back: what is appended in some 50 ms, within bounds; for the least
 * of it also at rest.  A shorter rest stays, as in stock SQLite: to write it back, and to sync the database, after each
 * of a few commits an hour would cost more than it takes to read it in the log.
 */
#define LKS_CHECKPOINT_FRAMES 1000u
#define LKS_CHECKPOINT_FRAMES_MOST 8000u

struct lks_keeper {
    struct lockstep_db *db;
    enum lks_shm_kind shm; /* of the process's first connection */
    sqlite3 *connection;
    sqlite3_file *main, *log;
    struct lks_lock_note *note; /* while the connection is there; what a child of fork() has of it stays */
    volatile uint32_t *index;
    struct lks_place place;
    uint64_t not_before_ns; /* the next pass */
    uint64_t limit_not_before_ns; /* one that is only to shorten the log */
    uint64_t last_ns;       /* when the last one ended */
    uint32_t left;          /* frames that it did not write back */
    uint64_t back_off_ns;
};

void lks_keeper_init(struct lks_keeper *k, struct lockstep_db *db, enum lks_shm_kind shm);
/* False: it cannot be had now.  Once open it stays so. */
bool lks_keeper_open(struct lks_keeper *k);
void lks_keeper_close(struct lks_keeper *k);

/* The following want it open. */

/* Where the index is a copy: as others have it now. */
void lks_keeper_refresh(struct lks_keeper *k);

/* A lks_groupsync_fn. */
enum lockstep_status lks_keeper_sync(void *keeper);
/* Is there enough to be written back, or the log too long, and is it for us to do? */
bool lks_keeper_due(const struct lks_keeper *k, uint64_t now_ns);
/* When a pass may become due though nobody commits, after now_ns; UINT64_MAX: that is not known. */
uint64_t lks_keeper_next_ns(const struct lks_keeper *k, uint64_t now_ns);
void lks_keeper_pass(struct lks_keeper *k);
/* Of a poisoned log, with nobody else connected before; false: try again. */
bool lks_keeper_mend(struct lks_keeper *k);
/* For people: how long the log is, and how much of it is written back. */
void lks_keeper_publish(struct lks_keeper *k);

/* Frames in the log, by its index. */
static inline uint32_t
lks_log_frames(const volatile uint32_t *index)
{
    return lks_wal_index_word(index, LKS_INDEX_MAX_FRAME);
}

/* Those that are to be written back. */
static inline uint32_t
lks_log_backlog(const volatile uint32_t *index)
{
    uint32_t frames = lks_log_frames(index), done = lks_wal_index_word(index, LKS_INDEX_BACKFILLED);
    return frames > done ? frames - done : 0;
}

/* The backlog that a pass is due for. */
static inline uint32_t
lks_log_wanted(const struct lks_shm_state *state)
{
    uint32_t wanted = lks_a32_relaxed(&state->log_wanted);
    return wanted >= LKS_CHECKPOINT_FRAMES && wanted <= LKS_CHECKPOINT_FRAMES_MOST ? wanted
                                                                                     : LKS_CHECKPOINT_FRAMES;
}

#endif
