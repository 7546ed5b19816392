/*
 * What the dead left: the first client's part of connecting, the last one's part of leaving, and a
 * writer's death in between.
 *
 * The database that is found must be in one of two states: as of `flushed`, or as of next_id, when a worker
 * died between the end of its batch and the words that say so.  Both are told by size and change counter.
 * In the second case `flushed` stays: the batch is simply written again, from the blocks, which nobody
 * unlinks before `flushed` passes them.
 */
#ifndef LKS_STORE_RECOVERY_H
#define LKS_STORE_RECOVERY_H

#include "base/status.h"
#include "coord/database.h"

/* The hooks of coord/database.h. */
enum lockstep_status lks_recovery_connect(struct lockstep_db *db, bool adopt);
enum lockstep_status lks_recovery_repair(struct lockstep_db *db);
enum lockstep_status lks_recovery_leave(struct lockstep_db *db);

#endif
