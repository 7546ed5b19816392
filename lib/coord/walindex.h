/*
 * The beginning of a wal-index, the `-shm` file, read by somebody who holds no lock on it.
 *
 * Format: "WAL-Index File Format" in SQLite's documentation (walformat.html): two copies of the header of 48 bytes, then
 * what checkpoints need.  In the byte order of the machine.
 */
#ifndef LKS_COORD_WALINDEX_H
#define LKS_COORD_WALINDEX_H

#include <stdbool.h>
#include <stdint.h>

#define LKS_WALINDEX_READERS 5
#define LKS_WALINDEX_UNUSED 0xffffffffu

struct lks_walindex {
    uint32_t frames;     /* valid frames in the log */
    uint32_t backfilled; /* of these, written back into the database */
    uint32_t marks[LKS_WALINDEX_READERS];
};

/*
 * False: there is none, it is being written, or may not be read.  The caller's process must have no lock on the file:
 * it is opened and closed.
 */
bool lks_walindex_read(const char *path, struct lks_walindex *out_index);

#endif
