/*
 * Where blocks are.
 *
 * A geometry follows from the unit's size alone, so it is a constant table and costs no shared memory.
 * A block number is checked by lks_chunk_has() before its address is taken.
 */
#ifndef LKS_SHM_CHUNK_H
#define LKS_SHM_CHUNK_H

#include <stdbool.h>

#include "base/status.h"
#include "shm/layout.h"

#define LKS_UNIT_LOG2_MIN 9u  /* 512 */
#define LKS_UNIT_LOG2_MAX 16u /* 65536 */

struct lks_geometry {
    uint32_t unit_log2;
    uint32_t per_chunk_log2; /* blocks a chunk */
    uint32_t table_bytes;    /* descriptors of a chunk, padded */
    uint32_t chunk_bytes;
};

/* NULL if unit_log2 is none that there is. */
const struct lks_geometry *lks_geometry_of(uint32_t unit_log2);

static inline uint32_t
lks_unit_bytes(const struct lks_geometry *g)
{
    return 1u << g->unit_log2;
}

/* Blocks of `chunks` chunks; they are numbered 1 to this. */
static inline uint32_t
lks_chunk_blocks(const struct lks_geometry *g, uint32_t chunks)
{
    return chunks << g->per_chunk_log2;
}

static inline char *
lks_chunk_base(const struct lks_shm *shm, const struct lks_geometry *g, uint32_t block)
{
    uint32_t chunk = (block - 1) >> g->per_chunk_log2;
    return (char *)(uintptr_t)shm + LKS_SHM_BYTES + (uint64_t)chunk * g->chunk_bytes;
}

static inline struct lks_shm_block *
lks_chunk_block(const struct lks_shm *shm, const struct lks_geometry *g, uint32_t block)
{
    uint32_t i = (block - 1) & ((1u << g->per_chunk_log2) - 1);
    return (struct lks_shm_block *)lks_chunk_base(shm, g, block) + i;
}

static inline void *
lks_chunk_data(const struct lks_shm *shm, const struct lks_geometry *g, uint32_t block)
{
    uint32_t i = (block - 1) & ((1u << g->per_chunk_log2) - 1);
    return lks_chunk_base(shm, g, block) + g->table_bytes + ((size_t)i << g->unit_log2);
}

/* Is it a block of the area as it is now?  Acquire: pairs with the growth in lks_chunk_grow(). */
static inline bool
lks_chunk_has(const struct lks_shm *shm, const struct lks_geometry *g, uint32_t block)
{
    return block != 0 && block <= lks_chunk_blocks(g, lks_a32_acquire(&shm->state.chunks));
}

/* Address space for a store of hard_limit bytes of blocks. */
size_t lks_chunk_map_bytes(uint64_t hard_limit);
/* How many chunks fit into a mapping of map_bytes. */
uint32_t lks_chunk_capacity(const struct lks_geometry *g, size_t map_bytes);

/*
 * Adds one chunk.  fd < 0: memory that needs no file.  Holding WRITER.  FULL: no space on the disk, or
 * the mapping is used up.
 */
enum lockstep_status lks_chunk_grow(struct lks_shm *shm, const struct lks_geometry *g, int fd,
                                    size_t map_bytes);

#endif
