#include "os/bytelock.h"

#include <errno.h>
#include <fcntl.h>

#include "os/file.h"

static struct flock
describe(short type, uint64_t offset, uint64_t size)
{
    struct flock lock = {0};
    lock.l_type = type;
    lock.l_whence = SEEK_SET;
    lock.l_start = (off_t)offset;
    lock.l_len = (off_t)size;
    return lock;
}

static short
flock_type(enum lks_lock_type type)
{
    return type == LKS_LOCK_SHARED ? F_RDLCK : F_WRLCK;
}

static int
call(int fd, int command, struct flock *lock)
{
    int rc;
    do
        rc = fcntl(fd, command, lock);
    while (rc != 0 && errno == EINTR);
    return rc;
}

enum lockstep_status
lks_bytelock_try(int fd, enum lks_lock_kind kind, enum lks_lock_type type, uint64_t offset,
                 uint64_t size)
{
    struct flock lock = describe(flock_type(type), offset, size);
    if (call(fd, kind == LKS_LOCK_PROCESS ? F_SETLK : F_OFD_SETLK, &lock) == 0)
        return LOCKSTEP_OK;
    if (errno == EACCES || errno == EAGAIN)
        return LOCKSTEP_BUSY;
    lks_os_set_errno(errno);
    return LOCKSTEP_IOERR;
}

void
lks_bytelock_release(int fd, enum lks_lock_kind kind, uint64_t offset, uint64_t size)
{
    struct flock lock = describe(F_UNLCK, offset, size);
    (void)call(fd, kind == LKS_LOCK_PROCESS ? F_SETLK : F_OFD_SETLK, &lock);
}

enum lockstep_status
lks_bytelock_holder(int fd, enum lks_lock_kind kind, enum lks_lock_type type, uint64_t offset,
                    uint64_t size, int32_t *out_pid)
{
    struct flock lock = describe(flock_type(type), offset, size);
    if (call(fd, kind == LKS_LOCK_PROCESS ? F_GETLK : F_OFD_GETLK, &lock) != 0) {
        lks_os_set_errno(errno);
        return LOCKSTEP_IOERR;
    }
    *out_pid = lock.l_type == F_UNLCK ? 0 : lock.l_pid > 0 ? (int32_t)lock.l_pid : -1;
    return LOCKSTEP_OK;
}
