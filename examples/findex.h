/* What every part of findex uses: the options, the clock, the interrupt. */
#ifndef FINDEX_H
#define FINDEX_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <time.h>

#define FINDEX_HEAD_BYTES (64u << 10) /* of each file this much is read and hashed */
#define FINDEX_MAX_FILES (1u << 30)
#define FINDEX_BUSY_MS 5000 /* a transaction waits this long for its turn */

struct findex_options {
    const char *root;     /* the tree to walk */
    const char *database; /* NULL: a temporary one */
    const char *lockstep; /* the lockstep command; NULL: look for it */
    const char *vfs;      /* only this one; NULL: compare */
    bool async, full;     /* which kinds of commit to run */
    bool keep, json;
    unsigned workers, readers;
    uint32_t max_files; /* the first so many */
    double limit_s;     /* a side is stopped after this time */
    FILE *say;          /* where progress goes: stderr beside JSON */
    bool terminal;      /* say is one */
};

/* Set by SIGINT, SIGTERM and SIGHUP, which are blocked outside ppoll() and findex_interrupted(). */
int findex_interrupted(void);

static inline uint64_t
findex_now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

#endif
