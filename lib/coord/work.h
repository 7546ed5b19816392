/*
 * The right to do the application's background work, such as compaction, of one connection among all
 * processes: LSM1's WORKER.
 *
 * The byte WORK says which process has it, and goes with the process; `work_owner`, in the memory of this
 * one, which of its connections, for POSIX locks do not conflict inside a process.
 *
 *   take    work_owner 0 -> connection, by CAS; then the byte.  Has another process that: work_owner = 0 again.
 *   drop    the byte; then work_owner = 0.  So whoever finds 0 finds the byte free, as far as this process goes.
 *
 * Nothing else waits for it or respects it: writers go on beside it.
 */
#ifndef LKS_COORD_WORK_H
#define LKS_COORD_WORK_H

#include "base/status.h"
#include "coord/database.h"

/* Not waiting.  BUSY: another process or connection has it. */
LKS_CHECKED enum lockstep_status lks_work_take(struct lockstep_db *db, uint32_t connection);
/* Nothing happens if the connection does not have it. */
void lks_work_drop(struct lockstep_db *db, uint32_t connection);
bool lks_work_held(const struct lockstep_db *db, uint32_t connection);

#endif
