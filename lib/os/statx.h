/* statx(), also where libc has none: musl before 1.2.4. */
#ifndef LKS_OS_STATX_H
#define LKS_OS_STATX_H

#include <fcntl.h>
#include <sys/stat.h>

#ifndef STATX_TYPE
#include <linux/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef AT_STATX_SYNC_AS_STAT
#define AT_STATX_SYNC_AS_STAT 0x0000
#define AT_STATX_DONT_SYNC 0x4000
#endif

static inline int
statx(int dir_fd, const char *path, int flags, unsigned mask, struct statx *out)
{
    return (int)syscall(SYS_statx, dir_fd, path, flags, mask, out);
}
#endif

#endif
