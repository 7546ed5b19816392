#include "findex_job.h"

#include <err.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

_Static_assert(sizeof(_Atomic unsigned char) == 1, "acked is an array of bytes");

static struct findex_job *
map(int fd, size_t size_bytes)
{
    void *job = mmap(NULL, size_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

    if (job == MAP_FAILED) {
        warn("cannot map the list of files");
        return NULL;
    }
    return job;
}

struct findex_job *
findex_job_create(const struct findex_list *list, int *out_fd)
{
    const uint64_t files_at = (sizeof(struct findex_job) + 63) / 64 * 64;
    const uint64_t directories_at = files_at + list->n_files * sizeof *list->files;
    const uint64_t text_at = directories_at + list->n_directories * sizeof *list->directories;
    const uint64_t acked_at = text_at + list->text_bytes;
    const uint64_t size_bytes = acked_at + list->n_files;
    struct findex_job *job;

    int fd = memfd_create("findex", MFD_CLOEXEC);
    if (fd < 0 || ftruncate(fd, (off_t)size_bytes) != 0) {
        warn("cannot make shared memory for the list of files");
        goto err_close;
    }
    job = map(fd, size_bytes);
    if (job == NULL)
        goto err_close;

    job->files_at = files_at;
    job->directories_at = directories_at;
    job->text_at = text_at;
    job->acked_at = acked_at;
    job->n_files = (uint32_t)list->n_files;
    job->n_directories = (uint32_t)list->n_directories;
    memcpy((char *)job + files_at, list->files, list->n_files * sizeof *list->files);
    memcpy((char *)job + directories_at, list->directories,
           list->n_directories * sizeof *list->directories);
    memcpy((char *)job + text_at, list->text, list->text_bytes);
    *out_fd = fd;
    return job;

err_close:
    if (fd >= 0)
        close(fd);
    return NULL;
}

struct findex_job *
findex_job_attach(int fd)
{
    struct stat file;

    if (fstat(fd, &file) != 0) {
        warn("cannot find the list of files");
        return NULL;
    }
    return map(fd, (size_t)file.st_size);
}

void
findex_job_reset(struct findex_job *job)
{
    atomic_store_explicit(&job->next, 0, memory_order_relaxed);
    atomic_store_explicit(&job->committed, 0, memory_order_relaxed);
    atomic_store_explicit(&job->refused, 0, memory_order_relaxed);
    atomic_store_explicit(&job->read_bytes, 0, memory_order_relaxed);
    atomic_store_explicit(&job->stop, 0, memory_order_relaxed);
    for (uint32_t i = 0; i < job->n_files; i++)
        atomic_store_explicit(findex_job_acked(job, i), 0, memory_order_relaxed);
}
