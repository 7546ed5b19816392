/* A set of block numbers, none of them 0, in the memory of one connection. */
#ifndef LKS_STORE_BLOCKSET_H
#define LKS_STORE_BLOCKSET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Open addressing with linear probing; zeros are an empty set. */
struct lks_blockset {
    uint64_t *places; /* `capacity` of them, a power of two or 0 */
    size_t capacity;
    size_t count;
};

/* False: no memory, and the set is as it was. */
bool lks_blockset_add(struct lks_blockset *set, uint64_t block);
/* Of 0 too: it never is. */
bool lks_blockset_has(const struct lks_blockset *set, uint64_t block);
void lks_blockset_remove(struct lks_blockset *set, uint64_t block);
/* Takes any one out; false: there is none. */
bool lks_blockset_pop(struct lks_blockset *set, uint64_t *out_block);
void lks_blockset_clear(struct lks_blockset *set);
void lks_blockset_destroy(struct lks_blockset *set);

#endif
