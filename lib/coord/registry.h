/*
 * The databases of this process: one `struct lockstep_db` for each (device, inode), counted.
 *
 * A descriptor on a database file is opened once and kept while the process lives: closing it would drop
 * the POSIX locks that a stock connection of this process has on the file.
 */
#ifndef LKS_COORD_REGISTRY_H
#define LKS_COORD_REGISTRY_H

#include "base/status.h"
#include "coord/database.h"

/* Finds or makes it, and counts it.  BUSY: it is here in the other mode, for a moment. */
enum lockstep_status lks_registry_get(const char *path, const struct lockstep_options *options,
                                      const struct lks_io *io, const struct lks_database_hooks *hooks,
                                      struct lockstep_db **out_db);
/* Counts down; the last one detaches. */
enum lockstep_status lks_registry_put(struct lockstep_db *db);
/*
 * Calls visit with this process's database of that file, NULL if it has none.  Until visit returns no thread of this
 * process connects to the file or leaves it.  visit takes no mutex of a rank below BATCH.  Its status, or that of
 * finding the file.
 */
LKS_CHECKED enum lockstep_status
lks_registry_visit(const char *real_path, enum lockstep_status (*visit)(struct lockstep_db *db, void *arg),
                   void *arg);
/*
 * Opens a file of the database to read, for a moment; attach_mutex is held until it is closed.  A child of fork() closes its
 * copy, at whatever instant it is forked: else it would keep the locks of the open file description for as long as it
 * lives, also when its parent was killed.
 */
LKS_CHECKED enum lockstep_status lks_registry_pass(struct lockstep_db *db, const char *path, int *out_fd);
void lks_registry_passed(struct lockstep_db *db);
/* How many hold it. */
unsigned lks_registry_references(struct lockstep_db *db);

#endif
