/* The view of `lockstep locks DATABASE`, taken while the job runs. */
#ifndef FINDEX_LOCKS_H
#define FINDEX_LOCKS_H

#include <sys/types.h>

#include "findex.h"

struct findex_locks {
    pid_t pid; /* 0: not running */
    int fd;    /* what it prints; -1 */
    char *text;
    size_t used;
    bool ok; /* it has ended with 0, or not yet */
};

/*
 * The command's path in malloc()ed memory: given (NULL: not), next to this program, in the build
 * tree it came from, or in $PATH.  NULL: there is none.
 */
char *findex_locks_find(const char *given);
/* Starts it; false after a message. */
bool findex_locks_start(struct findex_locks *locks, const char *command, const char *database);
/* Takes in what it has printed.  True: it has ended, and text (may be NULL) is complete. */
bool findex_locks_read(struct findex_locks *locks);
/* Ends it if it runs, and frees. */
void findex_locks_free(struct findex_locks *locks);

#endif
