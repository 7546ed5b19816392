/*
 * Waiting until a commit is durable.
 *
 * Whoever waits asks (sync_wanted) and then either does the batch itself, if its process is the worker and no
 * other thread is at it, or rings the worker and sleeps on flush_bell.  Each batch serves all commits before
 * it, so neighbours share its syncs.  Wakes look again; sleeps are bounded; a dead worker's place is taken.
 */
#ifndef LKS_STORE_TICKET_H
#define LKS_STORE_TICKET_H

#include "base/status.h"
#include "coord/database.h"

/* timeout_ms < 0: no limit.  IOERR or FULL: a batch failed while we waited (lks_os_errno()). */
enum lockstep_status lks_ticket_wait(struct lockstep_db *db, uint64_t ticket, int timeout_ms);

/*
 * The same for a connection that owns WRITER and keeps it (locking_mode=EXCLUSIVE): the batch may need WRITER to
 * put old content aside for a reader, so it is lent to it.
 */
enum lockstep_status lks_ticket_wait_lending(struct lockstep_db *db, uint64_t ticket, int timeout_ms);

#endif
