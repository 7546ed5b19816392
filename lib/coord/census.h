/*
 * Who is connected, who reads, who writes, who waits: read from shared memory by somebody who holds no
 * lock and writes nothing.
 *
 * Every word is read atomically and may be a moment old.  Words that belong together (a slot and who has it)
 * are read, and the word that guards them is read again; of one that moves on and on only what is certain
 * is reported.  Numbers are checked against their bounds: the file may be damaged.
 */
#ifndef LKS_COORD_CENSUS_H
#define LKS_COORD_CENSUS_H

#include <stdbool.h>

#include "base/status.h"
#include "os/process.h"
#include "shm/layout.h"

struct lks_census_client {
    bool used;
    bool readonly;
    int32_t pid; /* in its own pid namespace */
    uint64_t start_time;
    uint64_t pid_namespace;
    uint32_t connections;
    uint64_t age_ns; /* LOCKSTEP_UNKNOWN here and below: not certain */
    char program[LKS_PROGRAM_SIZE];
};

struct lks_census_reader {
    uint32_t client;
    uint64_t snapshot;
    int32_t thread;      /* 0: not certain */
    uint32_t connection; /* 0: not certain */
    uint64_t age_ns;
    bool worker;
};

struct lks_census_waiter {
    uint32_t client;
    uint64_t sequence;
    int32_t thread;
    uint32_t connection;
    uint64_t age_ns;
};

struct lks_census {
    uint64_t committed, flushed, durable;
    uint64_t pending_age_ns; /* LOCKSTEP_UNKNOWN: nothing is pending */
    uint64_t pending_bytes, store_bytes, store_limit, hard_limit;
    uint64_t batches, failed_batches;
    uint32_t max_lag_ms, unit_size, last_error;
    bool tripwire;
    bool worker; /* the hint: somebody writes behind */
    bool wal; /* readers' snapshots are frames */
    uint32_t log_frames, log_backfilled, poison;
    uint64_t log_bytes, checkpoints, syncs;
    uint32_t sync_leader; /* LKS_MAX_CLIENTS: nobody */
    uint64_t sync_age_ns;

    enum lks_writer_state writer_state;
    uint32_t writer_client;
    int32_t writer_thread;
    uint32_t writer_connection;
    uint64_t writer_age_ns;

    struct lks_census_client clients[LKS_MAX_CLIENTS];
    struct lks_census_reader readers[LKS_MAX_SLOTS]; /* oldest snapshot first */
    uint32_t reader_count;
    struct lks_census_waiter waiters[LKS_MAX_WAITERS]; /* in order of arrival */
    uint32_t waiter_count;

    char damage[160]; /* the first thing that cannot be, in words; "" if nothing */
};

/* Chunk 0 of `shm` must be mapped and its identity good.  now_ns: lks_clock_ns(). */
void lks_census_take(const struct lks_shm *shm, uint64_t now_ns, struct lks_census *out_census);

#endif
