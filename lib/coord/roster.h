/*
 * Who is who in an inspection: the census of shared memory and the byte-range locks put together.  A
 * client lives exactly as long as its lock CLIENT(i) is held; the rest that shared memory says of it are
 * hints.
 */
#ifndef LKS_COORD_ROSTER_H
#define LKS_COORD_ROSTER_H

#include "coord/inspect.h"

/*
 * Fills clients, readers, waiters and info from in->census and the locks found so far, and adds the locks
 * that are in memory.  coord_fd: a descriptor of the coordination file, or -1.
 */
LKS_CHECKED enum lockstep_status lks_roster_take(struct lockstep_inspection *in, int coord_fd);

#endif
