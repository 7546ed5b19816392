/* The sides of the comparison: the same job on different VFSes and journal modes. */
#ifndef FINDEX_SIDE_H
#define FINDEX_SIDE_H

#include <stdbool.h>

struct findex_side {
    const char *key;         /* in file names and in JSON */
    const char *title;       /* in the table */
    const char *vfs;         /* NULL: the stock one, or that of --vfs */
    const char *journal;     /* PRAGMA journal_mode */
    const char *synchronous; /* PRAGMA synchronous */
    const char *parameters;  /* of the URI; begins with & */
    bool full;               /* durable when COMMIT returns */
};

#define FINDEX_LOCKSTEP "lockstep"
#define FINDEX_STOCK "unix"

#endif
