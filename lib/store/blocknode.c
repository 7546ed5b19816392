#include "store/blocknode.h"

#include <string.h>

static const unsigned char root_magic[8] = {'L', 'K', 'S', 'B', 'L', 'K', '0', '1'};
static const unsigned char node_magic[4] = {'L', 'K', 'S', 'F'};

static void
put32(unsigned char *p, uint32_t value)
{
    int i;
    for (i = 0; i < 4; i++)
        p[i] = (unsigned char)(value >> (24 - 8 * i));
}

static void
put64(unsigned char *p, uint64_t value)
{
    put32(p, (uint32_t)(value >> 32));
    put32(p + 4, (uint32_t)value);
}

static uint32_t
get32(const unsigned char *p)
{
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

static uint64_t
get64(const unsigned char *p)
{
    return (uint64_t)get32(p) << 32 | get32(p + 4);
}

#define FNV_START 2166136261u
#define FNV64_START 14695981039346656037ull

static uint32_t
fnv(uint32_t hash, const void *bytes, size_t size)
{
    const unsigned char *p = bytes;
    size_t i;
    for (i = 0; i < size; i++)
        hash = (hash ^ p[i]) * 16777619u;
    return hash;
}

static uint64_t
fnv64(uint64_t hash, const void *bytes, size_t size)
{
    const unsigned char *p = bytes;
    size_t i;
    for (i = 0; i < size; i++)
        hash = (hash ^ p[i]) * 1099511628211ull;
    return hash;
}

bool
lks_block_size_valid(uint32_t block_size)
{
    return block_size >= LKS_BLOCK_SIZE_MIN && block_size <= LKS_BLOCK_SIZE_MAX &&
           (block_size & (block_size - 1)) == 0;
}

size_t
lks_block_node_bytes(uint32_t block_size)
{
    return block_size < LKS_BLOCK_NODE_MAX ? block_size : LKS_BLOCK_NODE_MAX;
}

uint32_t
lks_block_node_capacity(uint32_t block_size)
{
    return (uint32_t)((lks_block_node_bytes(block_size) - LKS_BLOCK_NODE_HEAD) / LKS_BLOCK_ENTRY_BYTES);
}

uint64_t
lks_block_life(const struct lks_shm *shm)
{
    unsigned char made[8];
    uint64_t life;
    /*
     * Two numbers of one life must never differ; that two lives meet in one number only keeps blocks for
     * longer.
     */
    put64(made, shm->identity.made_ns);
    life = fnv64(FNV64_START, shm->identity.boot_id, sizeof shm->identity.boot_id);
    life = fnv64(life, made, sizeof made);
    return life != 0 ? life : 1;
}

void
lks_block_root_encode(const struct lks_block_root *root, unsigned char out[LKS_BLOCK_ROOT_BYTES])
{
    memset(out, 0, LKS_BLOCK_ROOT_BYTES);
    memcpy(out, root_magic, sizeof root_magic);
    put32(out + 8, root->block_size);
    put32(out + 12, root->nodes);
    put64(out + 16, root->blocks);
    put64(out + 24, root->first);
    put64(out + 32, root->entries);
    put64(out + 40, root->life);
    put64(out + 48, root->ticket);
    put32(out + 60, fnv(FNV_START, out, 60));
}

enum lockstep_status
lks_block_root_decode(const unsigned char in[LKS_BLOCK_ROOT_BYTES], struct lks_block_root *out_root)
{
    struct lks_block_root root;
    if (memcmp(in, root_magic, sizeof root_magic) != 0)
        return LOCKSTEP_FORMAT;
    root.block_size = get32(in + 8);
    root.nodes = get32(in + 12);
    root.blocks = get64(in + 16);
    root.first = get64(in + 24);
    root.entries = get64(in + 32);
    root.life = get64(in + 40);
    root.ticket = get64(in + 48);
    if (get32(in + 60) != fnv(FNV_START, in, 60) || !lks_block_size_valid(root.block_size) ||
        root.blocks == 0 || root.blocks > UINT64_MAX / root.block_size / 2 || root.nodes >= root.blocks ||
        root.entries >= root.blocks ||
        (root.nodes == 0) != (root.first == 0) || (root.nodes > 1 && root.entries < root.nodes))
        return LOCKSTEP_CORRUPT;
    *out_root = root;
    return LOCKSTEP_OK;
}

static uint32_t
node_checksum(const unsigned char *bytes, size_t used)
{
    uint32_t hash = fnv(FNV_START, bytes, 32);
    return fnv(hash, bytes + 36, used - 36);
}

size_t
lks_block_node_encode(const struct lks_block_node *node, unsigned char *out)
{
    size_t used = LKS_BLOCK_NODE_HEAD + (size_t)node->count * LKS_BLOCK_ENTRY_BYTES;
    unsigned char *p = out + LKS_BLOCK_NODE_HEAD;
    uint32_t i;
    memset(out, 0, LKS_BLOCK_NODE_HEAD);
    memcpy(out, node_magic, sizeof node_magic);
    put32(out + 4, node->count);
    put64(out + 8, node->next);
    put64(out + 16, node->life);
    put64(out + 24, node->block);
    for (i = 0; i < node->count; i++, p += LKS_BLOCK_ENTRY_BYTES) {
        put64(p, node->entries[i].block);
        put64(p + 8, node->entries[i].freed);
    }
    put32(out + 32, node_checksum(out, used));
    return used;
}

enum lockstep_status
lks_block_node_decode(const unsigned char *bytes, uint32_t block_size, uint64_t block,
                      struct lks_block_node *out_node)
{
    uint32_t count = get32(bytes + 4), i;
    const unsigned char *p = bytes + LKS_BLOCK_NODE_HEAD;
    if (memcmp(bytes, node_magic, sizeof node_magic) != 0 ||
        count > lks_block_node_capacity(block_size) || get64(bytes + 24) != block)
        return LOCKSTEP_CORRUPT;
    if (get32(bytes + 32) !=
        node_checksum(bytes, LKS_BLOCK_NODE_HEAD + (size_t)count * LKS_BLOCK_ENTRY_BYTES))
        return LOCKSTEP_CORRUPT;
    out_node->block = block;
    out_node->next = get64(bytes + 8);
    out_node->life = get64(bytes + 16);
    out_node->count = count;
    out_node->dirty = false;
    out_node->oldest = UINT64_MAX;
    for (i = 0; i < count; i++, p += LKS_BLOCK_ENTRY_BYTES) {
        out_node->entries[i].block = get64(p);
        out_node->entries[i].freed = get64(p + 8);
        if (out_node->entries[i].freed < out_node->oldest)
            out_node->oldest = out_node->entries[i].freed;
    }
    return LOCKSTEP_OK;
}
