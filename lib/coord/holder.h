/* Who holds a lock, for a process that is connected: asks the kernel and the shared memory, takes nothing. */
#ifndef LKS_COORD_HOLDER_H
#define LKS_COORD_HOLDER_H

#include <lockstep/coord.h>

#include "coord/database.h"

/* "DMS2", "CLIENT(5)", ...; NULL: there is no such lock.  `buf` holds it if it has a number. */
const char *lks_holder_lock_name(uint32_t lock, char buf[16]);
/* OK: nobody is in the way of that lock.  BUSY: *out says who.  IOERR. */
LKS_CHECKED enum lockstep_status lks_holder_find(struct lockstep_db *db, uint32_t lock, bool exclusive,
                                                 struct lockstep_lock_holder *out);

#endif
