#include "findex_file.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "findex_hash.h"

/* False on an error. */
static bool
read_head(int fd, unsigned char *buf, uint32_t *out_bytes)
{
    uint32_t used = 0;

    while (used < FINDEX_HEAD_BYTES) {
        ssize_t n = read(fd, buf + used, FINDEX_HEAD_BYTES - used);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return false;
        if (n == 0)
            break;
        used += (uint32_t)n;
    }
    *out_bytes = used;
    return true;
}

bool
findex_file_read(const char *path, unsigned char *buf, struct findex_file *out_file)
{
    struct findex_file file = {0};
    struct stat st;

    /* The tree may have changed since the walk: no link is followed, and no FIFO in its place
     * waited for. */
    int fd = open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    int rc = fd >= 0 ? fstat(fd, &st) : lstat(path, &st);
    bool there = rc == 0 && S_ISREG(st.st_mode);

    if (there) {
        file.size_bytes = (uint64_t)st.st_size;
        file.mtime_s = st.st_mtime;
        file.uid = st.st_uid;
        file.hashed = fd >= 0 && read_head(fd, buf, &file.head_bytes);
        if (file.hashed)
            file.hash = findex_hash(buf, file.head_bytes);
        *out_file = file;
    }
    if (fd >= 0)
        close(fd);
    return there;
}
