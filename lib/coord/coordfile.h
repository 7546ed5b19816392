/*
 * The coordination file as one who connects finds it: opened, adopted, made, removed or set aside.
 *
 * All of it under DMS1; what makes, removes or replaces it also with nobody else connected (step 3 of
 * attach.h).  What is found then, and what becomes of it:
 *
 *   empty                             made; for a process alone only marked (LKS_HEADER_ALONE_MARK)
 *   good                              adopted
 *   good, of the other mode           removed if nothing waits in it, as never in a log's; else set aside
 *   good, of another format name      removed if nothing waits in it; else FORMAT
 *   half made; of a process alone     removed: there is nothing in it
 *   of another boot                   removed if nothing waits in it; else set aside
 *   of a foreign build, of this boot  left there, FORMAT: that build can still write what waits
 *   any other                         set aside as "<db>-lockstep.orphan-N": kept, and said so in the log
 *
 * It is never truncated or made over, for a process may still map it: a new one has a new inode.  So what
 * removes it or sets it aside answers STALE, and the caller opens again.
 *
 * Death while it is made: until the identity is there it is empty or half made.  From then on it is good,
 * and who adopts it sees whether its first commit and the size of the database are in it; if not it is
 * removed.
 */
#ifndef LKS_COORD_COORDFILE_H
#define LKS_COORD_COORDFILE_H

#include "base/status.h"
#include "coord/database.h"

/* How often one is opened that was replaced meanwhile. */
#define LKS_COORDFILE_OPENS 100

/*
 * Opens it and locks DMS1; on OK the name leads to it.  `join_only`, or a database that is only read: it is
 * not made, and READONLY says that there is none.  BUSY: DMS1 could not be had in 2 s.
 */
LKS_CHECKED enum lockstep_status lks_coordfile_open(struct lockstep_db *db,
                                                    const struct lks_file_stat *database, bool join_only);
/* DMS1 of the one that is open.  BUSY: not in 2 s. */
LKS_CHECKED enum lockstep_status lks_coordfile_lock(struct lockstep_db *db);
/* Drops every POSIX lock on it, in one go. */
void lks_coordfile_close(struct lockstep_db *db);

LKS_CHECKED enum lockstep_status lks_coordfile_map(struct lockstep_db *db);
void lks_coordfile_unmap(struct lockstep_db *db);

/*
 * For one who finds nobody connected, and may write: the file is good, or made.  *out_adopt: it was there.
 * STALE: open it again.  NOTSTORE, FORMAT, errors of the system.
 */
LKS_CHECKED enum lockstep_status lks_coordfile_prepare(struct lockstep_db *db,
                                                       const struct lks_file_stat *database, bool *out_adopt);
/* Mapped and good: of the mode, store or log, that this process uses the database in? */
bool lks_coordfile_is_of_mode(const struct lockstep_db *db);
/* Mapped and good: does no commit wait in it? */
bool lks_coordfile_is_drained(const struct lockstep_db *db);

/* Out of the way: STALE.  Else what the system says. */
LKS_CHECKED enum lockstep_status lks_coordfile_remove(struct lockstep_db *db);
/* The same, and kept under another name; logs, with `why` for the middle of the sentence. */
LKS_CHECKED enum lockstep_status lks_coordfile_set_aside(struct lockstep_db *db, const char *why);

#endif
