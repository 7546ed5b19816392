/* What findex notes of one file. */
#ifndef FINDEX_FILE_H
#define FINDEX_FILE_H

#include "findex.h"

struct findex_file {
    uint64_t size_bytes;
    int64_t mtime_s; /* since 1970 */
    uint32_t uid;
    uint32_t head_bytes; /* how much of it was read */
    bool hashed;         /* false: it could not be read */
    uint64_t hash;       /* XXH64 of its first FINDEX_HEAD_BYTES */
};

/* False: there is no regular file of this name any more.  buf has FINDEX_HEAD_BYTES. */
bool findex_file_read(const char *path, unsigned char *buf, struct findex_file *out_file);

#endif
