#include "shm/chunk.h"

#include "base/crashpoint.h"
#include "os/file.h"

#define GEOMETRY(LOG2)                                                                           \
    {                                                                                            \
        LOG2, 20 - LOG2, ((32u << (20 - LOG2)) + 4095u) & ~4095u,                                \
            (((32u << (20 - LOG2)) + 4095u) & ~4095u) + LKS_CHUNK_DATA                           \
    }

static const struct lks_geometry geometries[] = {
    GEOMETRY(9),  GEOMETRY(10), GEOMETRY(11), GEOMETRY(12),
    GEOMETRY(13), GEOMETRY(14), GEOMETRY(15), GEOMETRY(16),
};
_Static_assert(LKS_CHUNK_DATA == 1u << 20, "the table above counts on it");

const struct lks_geometry *
lks_geometry_of(uint32_t unit_log2)
{
    if (unit_log2 < LKS_UNIT_LOG2_MIN || unit_log2 > LKS_UNIT_LOG2_MAX)
        return NULL;
    return &geometries[unit_log2 - LKS_UNIT_LOG2_MIN];
}

size_t
lks_chunk_map_bytes(uint64_t hard_limit)
{
    uint64_t chunks = (hard_limit + LKS_CHUNK_DATA - 1) / LKS_CHUNK_DATA;
    return (size_t)(LKS_SHM_BYTES + chunks * geometries[0].chunk_bytes);
}

uint32_t
lks_chunk_capacity(const struct lks_geometry *g, size_t map_bytes)
{
    uint64_t chunks = (map_bytes - LKS_SHM_BYTES) / g->chunk_bytes;
    /* Block numbers have 32 bits. */
    uint64_t most = (UINT32_MAX >> g->per_chunk_log2) - 1;
    return (uint32_t)(chunks < most ? chunks : most);
}

enum lockstep_status
lks_chunk_grow(struct lks_shm *shm, const struct lks_geometry *g, int fd, size_t map_bytes)
{
    uint32_t chunks = lks_a32_relaxed(&shm->state.chunks);
    if (chunks >= lks_chunk_capacity(g, map_bytes))
        return LOCKSTEP_FULL;
    if (fd >= 0) {
        /* Space first: a page of a hole on a full disk would be SIGBUS at the first touch. */
        enum lockstep_status status = lks_file_reserve(
            fd, LKS_SHM_BYTES + (uint64_t)chunks * g->chunk_bytes, g->chunk_bytes);
        if (status != LOCKSTEP_OK)
            return status;
    }
    LKS_CRASH_POINT("chunk:reserved");
    /* Release: who sees the new count may touch the new pages. */
    lks_a32_set_release(&shm->state.chunks, chunks + 1);
    return LOCKSTEP_OK;
}
