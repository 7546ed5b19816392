/*
 * The rollback journal of a batch, in SQLite's own format, so that stock SQLite undoes a batch that
 * died half-way as it would undo a transaction of its own.
 *
 * Format: https://www.sqlite.org/fileformat2.html#the_rollback_journal, and src/pager.c of SQLite
 * for what that page leaves open.  All integers are big-endian.
 *
 *   header    28 bytes at the start of a sector: magic, number of records, checksum nonce, pages
 *             that the database had, sector size, page size; zeros up to the end of the sector
 *   record    page number, the page's old content, checksum
 *
 * A journal whose first byte is not zero is hot: whoever opens the database plays it back first.
 *
 *   open   begin  add...  seal     write the database, sync it     invalidate   begin ...   close
 *          cold            hot                                     cold
 *
 * A handle is for one thread at a time, of the process that holds the worker lock.  Open it after
 * that lock was taken and what a dead worker left was rolled back; close it before giving the lock
 * up: it knows the file only as it left it.
 */
#ifndef LKS_STORE_JOURNAL_H
#define LKS_STORE_JOURNAL_H

#include <stdbool.h>
#include <stdint.h>

#include "base/status.h"
#include "os/io.h"

struct lks_journal;

/* Opens or creates the journal at `path`; its content stays as it is. */
LKS_CHECKED enum lockstep_status lks_journal_open(const struct lks_io *io, const char *path,
                                                  struct lks_journal **out);
void lks_journal_close(struct lks_journal *j);

/*
 * Begins a batch on a database that now has pages of page_size bytes (512 to 65536) and is
 * file_size_bytes long (whole pages; may be 0).  A batch that was begun and not sealed is
 * forgotten, and so is one whose seal failed.  A journal file that was removed meanwhile is made
 * anew.  MISUSE: the journal is hot; invalidate it or roll it back first.
 */
LKS_CHECKED enum lockstep_status lks_journal_begin(struct lks_journal *j, uint32_t page_size,
                                                   uint64_t file_size_bytes);

/*
 * Adds the old content of a page: each page once, in ascending order, within the old size, never
 * the page of SQLite's lock bytes.  Kept in memory up to 1 MiB, then written.  After an error the
 * batch must be begun again.
 */
LKS_CHECKED enum lockstep_status lks_journal_add(struct lks_journal *j, uint32_t page_no,
                                                 const void *data);

/*
 * Makes the journal hot: from its return on the database may be written.  After an error it is
 * either cold or holds the database as it is: nothing may be written; invalidating it or beginning
 * again puts it right.
 *
 * With `sync` it survives a power cut, for two syncs of the file, or one where the batch is small and the one before
 * it was small and synced too.  Without, nothing is synced; the
 * order of writes is the same, so that a process that dies at any instant leaves either no hot
 * journal or a whole one.
 */
LKS_CHECKED enum lockstep_status lks_journal_seal(struct lks_journal *j, bool sync);

/*
 * The batch is in the file and the file is synced: the journal goes cold.  Without `sync` a power
 * cut may bring it back and undo the batch as a whole, until a later call with `sync` (which then
 * syncs and does nothing else) or the next synced batch.  After an error it may be hot: call again,
 * or roll back.
 */
LKS_CHECKED enum lockstep_status lks_journal_invalidate(struct lks_journal *j, bool sync);

/*
 * Gives the space of a cold journal back if it is larger than keep_bytes.  MISUSE: not known to be
 * cold (between begin and invalidate, or never used).
 */
LKS_CHECKED enum lockstep_status lks_journal_trim(struct lks_journal *j, uint64_t keep_bytes);

/*
 * Rolls back what is at `path`, ours or stock SQLite's, into the open database `db`, whose locks
 * the caller holds all; makes that durable, and removes the journal.  *out_rolled_back: the
 * database was put back.  A journal that is not hot changes nothing; that it is cold is durable
 * then.  An open handle of that journal is good for begin or close only.  After an error the
 * journal is still there: call again, in any process.
 */
LKS_CHECKED enum lockstep_status lks_journal_rollback(const struct lks_io *io, const char *path,
                                                      struct lks_io_file *db,
                                                      bool *out_rolled_back);

/*
 * The same where `io` keeps what it writes to itself, and the journal and the database stay as they are: nothing is
 * logged.
 */
LKS_CHECKED enum lockstep_status lks_journal_read_back(const struct lks_io *io, const char *path,
                                                       struct lks_io_file *db, bool *out_rolled_back);

#endif
