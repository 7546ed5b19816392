/*
 * A snapshot, as the layer under SQLite sees it looked for: C13.
 *
 * A round of walTryBeginRead() reads the header (which has the barrier under no lock), looks for a read mark, takes READ(i),
 * has a barrier, compares header and mark, and lets go if one is another.  It also begins again when it has had RECOVER,
 * shared, for a moment, which says that nobody recovers.  Nobody tells what it found: it is found out in the same way.
 *
 * The last round of the 100 is followed by no other: SQLite gives up, and then the thread may do anything, and another one
 * close the file.  So rounds are counted, never less than SQLite does; what is not known is not judged.
 */
#ifndef LKS_VFS_COPY_ROUND_H
#define LKS_VFS_COPY_ROUND_H

#include <stdbool.h>
#include <stdint.h>

#include "vfs/shm_copy.h"
#include "vfs/sqlite.h"

/* Of one file; zeros at first. */
struct lks_copy_round {
    unsigned char header[LKS_INDEX_HEADER_BYTES]; /* that SQLite has read last without a lock */
    bool header_known;                            /* ... and since then it has read or made none otherwise */
    bool begins;    /* the last lock is that of a snapshot, and SQLite has not yet compared */
    uint32_t mark;  /* ... and this was READ(i)'s mark before */
    unsigned reads; /* i */
    bool again;     /* it has, and found another */
    bool counted;   /* the round is among `rounds` */
    unsigned rounds; /* since it had a snapshot */
};

/* `head` is PRIVATE's, see lks_shm_copy_head(); NULL: it has none. */

/* A round begins: the barrier after copy 1 was read, before anything is acquired; or region 0 was asked for, and is not there. */
void lks_copy_round_begin(struct lks_copy_round *round, const uint32_t *head);
/* A lock was taken, and nothing acquired since. */
void lks_copy_round_locked(struct lks_copy_round *round, int offset, bool exclusive, const uint32_t *head);
/* A barrier under a lock: what SQLite compares with was acquired. */
void lks_copy_round_compared(struct lks_copy_round *round, const uint32_t *head);
/* Something was acquired of which SQLite does not know. */
void lks_copy_round_unknown(struct lks_copy_round *round);
/*
 * A lock was given up.  Will another round begin?  Then the next thing that this thread does is to sleep, or to begin it,
 * and `file` is kept for lks_copy_round_slept() until something is asked of it.
 */
bool lks_copy_round_lost(struct lks_copy_round *round, sqlite3_file *file);

/* Something is asked of the file, or it is closed. */
void lks_copy_round_asked(const sqlite3_file *file);
/* The thread has slept: the file for which it did, once; NULL: none. */
sqlite3_file *lks_copy_round_slept(void);

#endif
