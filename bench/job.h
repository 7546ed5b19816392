/*
 * What a worker process is told and what it reports.  Both ends are the same program, so these go
 * through pipes as they are; `size` catches a program that was replaced meanwhile.
 *
 *   parent -> worker   struct bench_job, then, once all workers are ready, struct bench_go
 *   worker -> parent   struct bench_ready, then struct bench_result
 */
#ifndef BENCH_JOB_H
#define BENCH_JOB_H

#include <limits.h>
#include <stdint.h>

#include "bench/histogram.h"

enum bench_kind {
    BENCH_STOCK,    /* the unix VFS, or the delaying one */
    BENCH_LOCKSTEP, /* Lockstep over it */
    BENCH_MEMORY    /* a copy of the database in :memory: */
};

/* One of the things that are compared: a VFS and how it is asked to commit. */
struct bench_side {
    char label[32];
    uint32_t kind;        /* enum bench_kind */
    char journal_mode[8]; /* of the file, as PRAGMA journal_mode prints it */
    char synchronous[8];  /* for PRAGMA synchronous; empty leaves it */
    char durability[8];   /* for the URI of a Lockstep connection */
    char shm[24];         /* the same, and what may follow it */
};

enum bench_role {
    BENCH_WRITE,  /* BEGIN IMMEDIATE, `updates` UPDATEs by key, `inserts` INSERTs, COMMIT */
    BENCH_READ,   /* SELECT by key, one transaction each */
    BENCH_SCAN,   /* reads all in one transaction, again and again, and checks that it adds up */
    BENCH_HOLD,   /* opens a read transaction before the start and ends it after the duration */
    BENCH_MONITOR /* reads PRAGMA lockstep_status ten times a second */
};

struct bench_job {
    uint32_t size; /* of this struct */
    int32_t parent; /* 0: somebody stands between it and the worker */
    uint32_t role; /* enum bench_role */
    uint32_t index; /* of this worker among `workers` that do the same */
    uint32_t workers;
    uint32_t updates;
    uint32_t inserts;
    uint32_t rows; /* keys are 1..rows */
    uint32_t cache_kib;
    uint32_t busy_timeout_ms;
    uint32_t sync_latency_us; /* 0: no delaying VFS */
    uint32_t time_every;      /* reads: the latency of every n-th is taken */
    uint64_t seed;
    uint64_t duration_ns;
    uint64_t interval_ns; /* between intended starts; 0: when the one before has ended */
    struct bench_side side;
    char path[PATH_MAX];
};

struct bench_go {
    uint64_t start_ns; /* an instant shortly ahead */
};

struct bench_ready {
    uint32_t failed;
    char message[252];
};

struct bench_store_peak {
    uint64_t samples;
    uint64_t used_bytes; /* page versions held, highest seen */
    uint64_t size_bytes; /* the store's area, highest seen */
    uint64_t limit_bytes;
};

struct bench_result {
    uint32_t failed;
    char message[252];
    uint64_t done;          /* commits that were acknowledged; reads; scans */
    uint64_t done_in_time;  /* of these, before the duration was over */
    uint64_t busy;          /* SQLITE_BUSY returned to the program, busy timeout and all */
    uint64_t unstarted;     /* paced: intended within the duration, never begun */
    uint64_t torn;          /* scans that saw part of a transaction */
    uint64_t loop_end_ns;
    uint64_t drain_ns;      /* flush and close, after the loop */
    uint64_t syncs;         /* that passed through the delaying VFS */
    uint64_t peak_rss_kib;
    uint64_t pss_kib;       /* with what is shared divided by those who share it */
    struct bench_store_peak store;
    struct bench_histogram latency;
};

#endif
