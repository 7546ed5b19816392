/*
 * The job: what the processes of a run share, in one anonymous file that all of them map.  The list
 * is written before the first of them starts and never changes; the counters begin at zero on each
 * side.
 */
#ifndef FINDEX_JOB_H
#define FINDEX_JOB_H

#include <stdalign.h>
#include <stdatomic.h>
#include <stddef.h>

#include "findex_walk.h"

#define FINDEX_NAME_BYTES 16400 /* a path with every byte percent-encoded, and the parameters */

/*
 * field         written by   order
 * next          workers      relaxed; a ticket machine, the list behind it never changes
 * committed     workers      relaxed; for the progress line
 * refused       workers      relaxed; for the progress line
 * read_bytes    warmers      relaxed; for the progress line
 * stop          parent       relaxed; nothing hangs on when it is seen
 * acked[i]      one worker   release, after COMMIT has returned; readers acquire it before their
 * BEGIN
 *
 * The others are written by the parent while no other process has the job mapped.
 */
struct findex_job {
    uint64_t files_at, directories_at, acked_at, text_at; /* bytes from the beginning */
    uint32_t n_files;                                     /* on this side */
    uint32_t n_directories;
    uint32_t use_lockstep; /* the VFS named in the URI is Lockstep's */
    char uri[FINDEX_NAME_BYTES];
    char synchronous[16];

    alignas(64) _Atomic uint32_t next; /* first file that no worker has taken yet */
    alignas(64) _Atomic uint32_t committed;
    alignas(64) _Atomic uint32_t refused;
    alignas(64) _Atomic uint64_t read_bytes;
    alignas(64) _Atomic uint32_t stop;
};

/* NULL after a message. */
struct findex_job *findex_job_create(const struct findex_list *list, int *out_fd);
struct findex_job *findex_job_attach(int fd);
/* Counters to zero, nothing acknowledged. */
void findex_job_reset(struct findex_job *job);

static inline const char *
findex_job_at(const struct findex_job *job, uint64_t at)
{
    return (const char *)job + at;
}

static inline const struct findex_entry *
findex_job_file(const struct findex_job *job, uint32_t i)
{
    return (const struct findex_entry *)(const void *)findex_job_at(job, job->files_at) + i;
}

static inline const char *
findex_job_path(const struct findex_job *job, uint32_t i)
{
    return findex_job_at(job, job->text_at + findex_job_file(job, i)->path);
}

static inline const char *
findex_job_directory(const struct findex_job *job, uint32_t directory)
{
    const uint64_t *names = (const uint64_t *)(const void *)findex_job_at(job, job->directories_at);

    return findex_job_at(job, job->text_at + names[directory]);
}

static inline _Atomic unsigned char *
findex_job_acked(struct findex_job *job, uint32_t i)
{
    return (_Atomic unsigned char *)((char *)job + job->acked_at) + i;
}

static inline bool
findex_job_stopped(struct findex_job *job)
{
    return atomic_load_explicit(&job->stop, memory_order_relaxed) != 0;
}

/* The next file, or false when none is left or the job is to stop. */
static inline bool
findex_job_take(struct findex_job *job, uint32_t *out_i)
{
    if (findex_job_stopped(job))
        return false;
    *out_i = atomic_fetch_add_explicit(&job->next, 1, memory_order_relaxed);
    return *out_i < job->n_files;
}

#endif
