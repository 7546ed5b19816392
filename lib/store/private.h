/*
 * Reading a database that nobody is connected to, for a client that writes nothing: no lock in shared memory, no slot, no
 * recovery that others would see.  LSM1 calls this a read-only transaction on a database that is not live (ROTRANS).
 *
 * A private view is the file as of its last commit, whatever killed processes left, put together in memory:
 *   1. the file, as it is;
 *   2. over it the old pages of a hot journal;
 *   3. over it what is committed in the coordination file and not yet written: of each unit the newest block with
 *      flushed < id <= committed.  Blocks beyond `committed` are of a transaction that died, and nobody looks at them.
 * A coordination file that whoever writes next would set aside (see lib/coord) is passed over, and the log says so.
 *
 * What keeps it true:
 *   - DMS1, shared, on a descriptor of its own, while 3 is copied: nobody connects, so nobody adopts what is being read.
 *     It is given up then.
 *   - SQLite's own SHARED lock on the database, for as long as the view lives: no batch, no recovery and no stock writer
 *     changes the file, for all of them exclude it first (lks_lockset_stock_exclude()).  Who connects meanwhile may
 *     commit; the batch waits.  A lock of another name would have to be looked for by everybody, stock SQLite
 *     does not know it, and without a coordination file there would be nothing to lock.
 *
 *   who may change the file while a view lives       what                                  harm
 *   a writer that comes, or the last one that leaves byte 18 (the tripwire)                none: it is 1 in the view
 *   anybody                                          the coordination file, the journal    none: they were copied
 *
 * Nothing on the disk is written, and a death leaves nothing.
 */
#ifndef LKS_STORE_PRIVATE_H
#define LKS_STORE_PRIVATE_H

#include "base/status.h"
#include "coord/database.h"

struct lks_private;

/*
 * Connects a client that only reads: attaches, beside others; or, if nobody is there, sees that a private view can be
 * had, and leaves the database on standby.
 */
LKS_CHECKED enum lockstep_status lks_private_connect(struct lockstep_db *db);

/*
 * For a transaction of a database on standby.  *out NULL: somebody is connected, and now we are, too.  BUSY: somebody
 * connects, or writes the file, this moment, or uses it alone.  READONLY: others are connected through a
 * coordination file that this process may not write.  FORMAT, NOTSTORE: as at attach.
 */
LKS_CHECKED enum lockstep_status lks_private_open(struct lockstep_db *db, struct lks_private **out);
void lks_private_close(struct lockstep_db *db, struct lks_private *view);

/* The newest commit, by the numbers of the coordination file, if there is one; else 1.  And the database's size then. */
uint64_t lks_private_snapshot(const struct lks_private *view);
uint64_t lks_private_size(const struct lks_private *view);
/* Within that size. */
LKS_CHECKED enum lockstep_status lks_private_read(struct lks_private *view, uint64_t offset, void *buf, size_t size,
                                                  size_t *out_read);

#endif
