#include "coord/walindex.h"

#include <string.h>

#include "os/file.h"

#define HEADER_BYTES 48u
#define HEAD_BYTES (2 * HEADER_BYTES + 4 + 4 * LKS_WALINDEX_READERS)
#define INITIALIZED 12
#define MAX_FRAME 16
/* A writer changes both copies within microseconds. */
#define LOOKS 3

static uint32_t
word(const unsigned char *head, size_t at)
{
    uint32_t value;
    memcpy(&value, head + at, sizeof value);
    return value;
}

bool
lks_walindex_read(const char *path, struct lks_walindex *out_index)
{
    unsigned char head[HEAD_BYTES];
    struct lks_walindex index;
    bool good = false;
    int fd;
    if (lks_file_open(path, LKS_OPEN_READ, 0, &fd) != LOCKSTEP_OK)
        return false;
    for (int look = 0; look < LOOKS && !good; look++) {
        size_t got = 0;
        good = lks_file_read(fd, 0, head, sizeof head, &got) == LOCKSTEP_OK && got == sizeof head &&
               head[INITIALIZED] != 0 && memcmp(head, head + HEADER_BYTES, HEADER_BYTES) == 0;
    }
    lks_file_close(fd);
    if (!good)
        return false;
    index.frames = word(head, MAX_FRAME);
    index.backfilled = word(head, 2 * HEADER_BYTES);
    for (size_t i = 0; i < LKS_WALINDEX_READERS; i++)
        index.marks[i] = word(head, 2 * HEADER_BYTES + 4 + 4 * i);
    *out_index = index;
    return true;
}
