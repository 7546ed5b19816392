/* XXH64: a fast hash for telling contents apart, not for keeping secrets. */
#ifndef FINDEX_HASH_H
#define FINDEX_HASH_H

#include <stddef.h>
#include <stdint.h>

/* The hash of size_bytes at data with seed 0, as `xxhsum -H1` prints it.  data may be NULL if size
 * is 0. */
uint64_t findex_hash(const void *data, size_t size_bytes);

#endif
