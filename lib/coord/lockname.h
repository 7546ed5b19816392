/*
 * The names of byte-range locks: SQLite's on the database file and on its -shm file, Lockstep's on the
 * coordination file.
 *
 * The kernel joins locks of one owner and mode that touch each other, so one line of /proc/locks may be
 * several of these.
 */
#ifndef LKS_COORD_LOCKNAME_H
#define LKS_COORD_LOCKNAME_H

#include <stdbool.h>
#include <stdint.h>

#include <lockstep/inspect.h>

struct lks_lockname {
    char name[16];
    uint64_t first, last; /* the bytes of this piece, inclusive */
    int32_t client;       /* i of CLIENT(i), else -1 */
};

/*
 * The first piece of [*first, last] that has one name; *first moves behind it.  False when nothing is left.
 * Bytes without a name are called BYTES.
 */
bool lks_lockname_next(enum lockstep_lock_place place, bool exclusive, uint64_t *first, uint64_t last,
                       struct lks_lockname *out_name);

#endif
