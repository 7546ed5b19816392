/*
 * Worker, reader and warmer processes, and what they say to the parent.
 *
 * A child is findex itself, started anew: a SQLite connection must not be carried across fork(). It
 * has the job on descriptor 3 and a socket to the parent on 4.  Each says READY (connected), waits
 * for a byte, does its part, says DONE with its tally, waits for a byte, closes its connection,
 * says CLOSED and ends. A reader's part lasts until that second byte.  A socket that ends means
 * that the other side has died.
 */
#ifndef FINDEX_CHILD_H
#define FINDEX_CHILD_H

#include <sqlite3.h>

#include "bench/histogram.h"
#include "findex_job.h"

#define FINDEX_JOB_FD 3
#define FINDEX_CHANNEL_FD 4

enum findex_role { FINDEX_WORKER, FINDEX_READER, FINDEX_WARMER };
enum findex_state { FINDEX_STARTING, FINDEX_READY, FINDEX_DONE, FINDEX_CLOSED, FINDEX_GONE };

struct findex_tally {
    uint64_t transactions; /* that succeeded */
    uint64_t refused;      /* SQLITE_BUSY after the busy timeout; tried again */
    uint64_t unhashed;     /* indexed without a hash: not readable */
    uint64_t vanished;     /* no longer there */
    uint64_t queries;
    uint64_t wrong;   /* answers that a whole transaction cannot give */
    uint64_t last_ns; /* when the last transaction ended */
    struct bench_histogram latency;
};

struct findex_message {
    enum findex_state state;
    bool failed;
    char text[256]; /* why it failed, or the first wrong answer */
    uint64_t at_ns;
    struct findex_tally tally;
};

const char *findex_role_name(enum findex_role role);
/* The main() of a child: `findex --child ROLE NUMBER`.  Returns its exit code. */
int findex_child_main(const char *role, const char *number);

/* For the child: one message, its state and time filled in.  False: the parent is gone. */
bool findex_child_say(struct findex_message *message, enum findex_state state);
/* Waits for the parent's byte up to timeout_ns (-1: for ever).  0: not yet, 1: it came, -1: the
 * parent is gone. */
int findex_child_heard(int64_t timeout_ns);
/* Marks the message as failed with the connection's last error. */
void findex_child_fail(struct findex_message *message, sqlite3 *db, const char *what);

/* What the roles do between READY and DONE. */
void findex_worker_run(struct findex_job *job, sqlite3 *db, struct findex_message *message);
void findex_reader_run(struct findex_job *job, sqlite3 *db, unsigned number,
                       struct findex_message *message);
void findex_warmer_run(struct findex_job *job);

#endif
