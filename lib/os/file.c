#include "os/file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "os/statx.h"

static __thread int last_errno;

int
lks_os_errno(void)
{
    return last_errno;
}

void
lks_os_set_errno(int error)
{
    last_errno = error;
}

enum lockstep_status
lks_os_status(int error)
{
    switch (error) {
    case 0: return LOCKSTEP_OK;
    case ENOSPC:
    case EDQUOT:
    case EFBIG: return LOCKSTEP_FULL;
    case ENOMEM: return LOCKSTEP_NOMEM;
    case EACCES:
    case EPERM:
    case EROFS: return LOCKSTEP_READONLY;
    case ENOENT:
    case ENOTDIR:
    case EISDIR:
    case ELOOP:
    case EMFILE:
    case ENFILE:
    case ENAMETOOLONG: return LOCKSTEP_CANTOPEN;
    default: return LOCKSTEP_IOERR;
    }
}

static enum lockstep_status
failed(void)
{
    last_errno = errno;
    return lks_os_status(last_errno);
}

enum lockstep_status
lks_file_open(const char *path, enum lks_open_mode how, uint32_t mode, int *out_fd)
{
    int flags = O_CLOEXEC | (how == LKS_OPEN_READ ? O_RDONLY : O_RDWR) |
                (how == LKS_OPEN_CREATE ? O_CREAT : 0);
    int fd;
    do
        fd = open(path, flags, (mode_t)mode);
    while (fd < 0 && errno == EINTR);
    if (fd < 0)
        return failed();
    if (fd <= 2) {
        /* A message printed to a closed stderr must not land in a database. */
        int high = fcntl(fd, F_DUPFD_CLOEXEC, 3);
        if (high < 0) {
            enum lockstep_status status = failed();
            close(fd);
            return status;
        }
        close(fd);
        fd = high;
    }
    *out_fd = fd;
    return LOCKSTEP_OK;
}

void
lks_file_close(int fd)
{
    if (fd >= 0)
        close(fd);
}

enum lockstep_status
lks_file_read(int fd, uint64_t offset, void *buf, size_t size_bytes, size_t *out_read)
{
    size_t done = 0;
    while (done < size_bytes) {
        ssize_t n = pread(fd, (char *)buf + done, size_bytes - done, (off_t)(offset + done));
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return failed();
        if (n == 0)
            break;
        done += (size_t)n;
    }
    *out_read = done;
    return LOCKSTEP_OK;
}

enum lockstep_status
lks_file_write(int fd, uint64_t offset, const void *buf, size_t size_bytes)
{
    size_t done = 0;
    while (done < size_bytes) {
        ssize_t n = pwrite(fd, (const char *)buf + done, size_bytes - done, (off_t)(offset + done));
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return failed();
        if (n == 0) {
            errno = ENOSPC;
            return failed();
        }
        done += (size_t)n;
    }
    return LOCKSTEP_OK;
}

enum lockstep_status
lks_file_truncate(int fd, uint64_t size_bytes)
{
    int rc;
    do
        rc = ftruncate(fd, (off_t)size_bytes);
    while (rc != 0 && errno == EINTR);
    return rc == 0 ? LOCKSTEP_OK : failed();
}

enum lockstep_status
lks_file_sync(int fd)
{
    /* Not again after an error: the pages would be called clean (EINTR does not occur here). */
    return fdatasync(fd) == 0 ? LOCKSTEP_OK : failed();
}

enum lockstep_status
lks_file_reserve(int fd, uint64_t offset, uint64_t size_bytes)
{
    int error;
    do
        error = posix_fallocate(fd, (off_t)offset, (off_t)size_bytes);
    while (error == EINTR);
    if (error == 0)
        return LOCKSTEP_OK;
    last_errno = error;
    return lks_os_status(error);
}

enum lockstep_status
lks_file_punch(int fd, uint64_t offset, uint64_t size_bytes)
{
    int rc;
    do
        rc = fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)offset,
                       (off_t)size_bytes);
    while (rc != 0 && errno == EINTR);
    return rc == 0 ? LOCKSTEP_OK : failed();
}

/*
 * Not stat(): that also asks for the times, and then Linux gives the file a new time with its next write, where it
 * would not have otherwise, and each sync has to write the inode too.
 */
static enum lockstep_status
look(int fd, const char *path, int flags, struct lks_file_stat *out)
{
    struct statx st;
    if (statx(fd, path, flags,
              STATX_TYPE | STATX_MODE | STATX_NLINK | STATX_UID | STATX_GID | STATX_INO | STATX_SIZE,
              &st) != 0)
        return failed();
    out->id.device = (uint64_t)makedev(st.stx_dev_major, st.stx_dev_minor);
    out->id.inode = st.stx_ino;
    out->size_bytes = st.stx_size;
    out->mode = st.stx_mode & 07777u;
    out->uid = st.stx_uid;
    out->gid = st.stx_gid;
    out->links = st.stx_nlink;
    return LOCKSTEP_OK;
}

enum lockstep_status
lks_file_stat_fd(int fd, struct lks_file_stat *out_stat)
{
    return look(fd, "", AT_EMPTY_PATH, out_stat);
}

enum lockstep_status
lks_file_stat_path(const char *path, struct lks_file_stat *out_stat)
{
    return look(AT_FDCWD, path, 0, out_stat);
}

void
lks_file_adopt_owner(int fd, const struct lks_file_stat *like)
{
    struct stat st;
    if (fstat(fd, &st) != 0)
        return;
    if (geteuid() == 0 && (st.st_uid != like->uid || st.st_gid != like->gid))
        (void)!fchown(fd, like->uid, like->gid);
    /* The umask must not take away what the database grants. */
    if (((uint32_t)st.st_mode & 0777u) != (like->mode & 0777u))
        (void)!fchmod(fd, (mode_t)(like->mode & 0777u));
}

enum lockstep_status
lks_file_rename(const char *from, const char *to)
{
    return rename(from, to) == 0 ? LOCKSTEP_OK : failed();
}

enum lockstep_status
lks_file_unlink(const char *path)
{
    return unlink(path) == 0 || errno == ENOENT ? LOCKSTEP_OK : failed();
}

enum lockstep_status
lks_file_sync_dir(const char *path)
{
    enum lockstep_status status;
    const char *slash = strrchr(path, '/');
    char *dir = slash == NULL ? strdup(".")
                              : strndup(path, slash == path ? 1 : (size_t)(slash - path));
    int fd;
    if (dir == NULL)
        return LOCKSTEP_NOMEM;
    fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    free(dir);
    /* A directory that may be searched but not read cannot be synced; SQLite passes over it too. */
    if (fd < 0)
        return LOCKSTEP_OK;
    status = fsync(fd) == 0 || errno == EINVAL ? LOCKSTEP_OK : failed();
    close(fd);
    return status;
}

enum lockstep_status
lks_file_real_path(const char *path, char **out_path)
{
    char *real = realpath(path, NULL);
    if (real == NULL)
        return failed();
    *out_path = real;
    return LOCKSTEP_OK;
}

bool
lks_file_same(const struct lks_file_id *a, const struct lks_file_id *b)
{
    return a->device == b->device && a->inode == b->inode;
}
