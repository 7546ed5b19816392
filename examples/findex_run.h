/* One side of the comparison: the whole job on one VFS, and what came of it. */
#ifndef FINDEX_RUN_H
#define FINDEX_RUN_H

#include "findex_database.h"
#include "bench/histogram.h"
#include "findex_job.h"
#include "findex_side.h"

struct findex_sample {
    uint64_t at_ns; /* since the start */
    uint32_t committed;
};

struct findex_result {
    const struct findex_side *side;
    char vfs[64];
    bool ran;  /* the rest has been filled in */
    bool good; /* nothing in it is wrong */

    bool limited; /* stopped by the clock before the list was done */
    uint32_t committed;
    uint64_t unhashed, vanished;
    uint64_t refused;              /* commits */
    double seconds;                /* to the last commit, and for the last to close */
    double close_seconds;          /* the latter alone: all that was pending is written by then */
    struct bench_histogram commit; /* from BEGIN to COMMIT, with all attempts */
    uint64_t slowest_worker, fastest_worker; /* transactions of each */
    uint64_t reads, queries, refused_reads, wrong;
    struct bench_histogram read;
    unsigned died;       /* workers that were killed */
    char complaint[400]; /* the first one; empty: none */
    struct findex_verdict verdict;

    struct findex_sample *samples;
    size_t n_samples, samples_room;
};

/* What a run needs besides the side. */
struct findex_setting {
    const struct findex_options *options;
    struct findex_job *job;
    int job_fd;
    const char *lockstep; /* the command; NULL: there is none */
};

/*
 * Runs it on a new database at `path`.  show_locks: print the view taken half-way (it is taken in
 * any case, so that all sides carry the same load).  False after a message, or when interrupted;
 * the result is findex_result_free()d in any case.
 */
bool findex_run_side(const struct findex_setting *setting, const struct findex_side *side,
                     const char *path, bool show_locks, struct findex_result *out_result);
/* Seconds until so many files were committed (interpolated), and for the last to close. */
double findex_result_seconds_for(const struct findex_result *result, uint32_t files);
void findex_result_free(struct findex_result *result);

/* The files of the job read and hashed, without a database. */
struct findex_reading {
    uint32_t files;
    uint64_t bytes;
    double seconds;
};

/*
 * Reads each file once, with as many processes as there are workers, until limit_s or limit_bytes:
 * so that the first side does not pay for the disk, and to know how fast the files can be had.
 * False after a message, or when interrupted.
 */
bool findex_read_ahead(const struct findex_setting *setting, double limit_s, uint64_t limit_bytes,
                       struct findex_reading *out_reading);

#endif
