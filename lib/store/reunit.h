/*
 * Another size of unit: a new database gets its page size with the first write, VACUUM may change it.
 *
 * Only while no block is in use and no transaction but the writer's is open.  The word unit_log2 is 0 in
 * between: set it, fence, look at the slots.  A transaction that claimed a slot we did not see yet loads the
 * word after its own fence, so it sees 0 and waits, or the new size.  If there is one, the old size comes
 * back.  Otherwise the store keeps its unit, and pages of another size are handled as parts or groups of
 * units: right, only slower.
 */
#ifndef LKS_STORE_REUNIT_H
#define LKS_STORE_REUNIT_H

#include "base/status.h"
#include "coord/database.h"

/*
 * If [offset, offset + size) looks like a page of another size and the store is empty, changes the unit.
 * *geometry is the one in force afterwards.  Holding WRITER.
 */
LKS_CHECKED enum lockstep_status lks_reunit(struct lockstep_db *db, uint64_t offset, size_t size,
                                            const struct lks_geometry **geometry);

#endif
