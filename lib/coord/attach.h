/*
 * Connecting to a database and leaving it, under DMS1.
 *
 * Connect:
 *   1. open "<db>-lockstep", lock DMS1, see that the name still leads there; map it;
 *   2. share the last byte of SQLite's SHARED range: from here on no stock writer can reach EXCLUSIVE (not
 *      in WAL mode: there the caller has SQLite's own SHARED lock, so the journal mode does not change
 *      under us);
 *   3. is anybody else connected (DMS2, DMS3)?
 *      nobody: the file is adopted if it is good, set aside as an orphan if it is not, and made anew
 *      (coordfile.h);
 *      somebody: it must be good, else the connection is refused;
 *   4. take a CLIENT entry; if nobody else writes (DMS2): take WORKER, roll back a hot journal, take
 *      RESERVED, adopt;
 *   5. take DMS2 (DMS3) shared; start the worker thread.
 *
 * Single-process mode differs in step 3: others are refused as they refuse us; what the dead left is
 * written and removed; then DMS2 is taken exclusively at once, the file gets the mark of this mode for its
 * content, and the shared memory is private.  WORKER and CLIENT follow from DMS2 and are not locked.
 *
 * Disconnect: stop the worker thread; does anybody else write (DMS2), give WORKER up and call who stands by
 * (coord/standby.h); then, under DMS1: if DMS2 can be had exclusively, nobody else writes: drain, leave the
 * database as stock SQLite knows it, and remove the coordination file unless a reader holds DMS3.
 *
 * Death at any point leaves locks dropped and a file that the next connect adopts or makes anew.
 */
#ifndef LKS_COORD_ATTACH_H
#define LKS_COORD_ATTACH_H

#include "base/status.h"
#include "coord/database.h"

/*
 * BUSY: DMS1 or the stock locks could not be had in time.  READONLY: nobody is connected, and the caller
 * (`join_only`) or the system would not let us be the first: read the file as a stock reader does.
 * NOTSTORE: the database is in WAL mode.  Other errors were logged with what to do.
 */
enum lockstep_status lks_attach(struct lockstep_db *db, bool join_only);
/* The error of a failed drain; the database is detached all the same and its commits kept in the file. */
enum lockstep_status lks_detach(struct lockstep_db *db);
/*
 * exit() without close: writes everything back if nobody else is connected, and leaves.  Connections stay as
 * they are, for other threads may be in them; they can commit no more.
 */
void lks_leave_at_exit(struct lockstep_db *db);

#endif
