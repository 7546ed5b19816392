/*
 * Interior pages of B-trees, and page 1, kept from one read transaction to the next.
 *
 * SQLite drops its whole page cache when another connection has committed, and then reads page 1, the roots and the
 * interior pages anew in each transaction, though hardly a commit changes one.  What it would read is known without
 * asking the kernel:
 *
 *   from the log        A frame that a snapshot of the log covers stays as it is until the log begins anew, and then
 *                       the salts in the wal-index are others.  Kept under: salts, place.
 *   from the database   SQLite reads a page there if no frame of it is in the log behind the BACKFILLED first ones
 *                       (which are in the database) and within the snapshot.  A checkpoint writes only pages that have such
 *                       a frame, for it stops at the oldest read mark.  So what is there is the page as those
 *                       first frames left it, for every reader to whom the same number of frames of the same log counts
 *                       as written back.  Kept under: salts, BACKFILLED, place.
 *
 * P1  SQLite reads BACKFILLED after it has its read lock, has a barrier, and then looks whether the header is still the
 *     one it began with.  It is read here when the lock was taken and in that barrier: both the same, SQLite goes by
 *     that one, for meanwhile it only grows.  (A recovery makes it 0; but it has to find a torn header, and makes
 *     another one.)  Else nothing is looked for in the database.  With READ0 all frames are in the database, or SQLite
 *     would not read there.
 *     It is also compared at each look, which costs nothing.
 * P2  The salts are those of the snapshot.  A read lock keeps the log from being begun anew, but for READ0, which
 *     reads the database alone; so at each look they are the index's, too, or nothing is found.
 *     Zero is no salt: an index has that which was made from an empty log, and such may come more than once.
 * P3  Frames behind the snapshot are this transaction's own, and may be written again: not kept.
 * P4  Without a read lock nothing is looked for, and nothing kept.  (In exclusive locking mode SQLite asks for none any
 *     more, and the connection is not attached.)
 *
 * One connection's, used by its thread.
 */
#ifndef LKS_VFS_WAL_PAGES_H
#define LKS_VFS_WAL_PAGES_H

#include <stdbool.h>
#include <stdint.h>

struct lks_file;

enum lks_wal_source { LKS_WAL_LOG, LKS_WAL_DATABASE };

struct lks_wal_page {
    int64_t offset; /* in its file */
    uint32_t salt[2];
    uint32_t backfilled;  /* of the log: 0 */
    int amount;           /* 0: none */
    unsigned char *bytes; /* NULL: no page was here yet */
};

/* For pages of 4096 bytes; of longer ones fewer. */
#define LKS_WAL_PAGES_DATABASE 32
#define LKS_WAL_PAGES_LOG 8

struct lks_wal_pages {
    struct lks_wal_page database[LKS_WAL_PAGES_DATABASE], log[LKS_WAL_PAGES_LOG];
};

/* True: `amount` bytes, in buf, are what is at `offset`. */
bool lks_wal_pages_find(const struct lks_file *f, enum lks_wal_source source, void *buf, int amount, int64_t offset);
/* They were read.  Keeps them, if they are worth it and there is memory. */
void lks_wal_pages_keep(struct lks_file *f, enum lks_wal_source source, const void *buf, int amount, int64_t offset);
void lks_wal_pages_free(struct lks_wal_pages *pages);

#endif
