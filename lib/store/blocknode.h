/*
 * The list of free blocks as it is in the file: a root record in block 0 and a chain of nodes, each in a
 * block of the list's own.  Numbers are big-endian.
 *
 * root     0  8  "LKSBLK01"                        node     0  4  "LKSF"
 *          8  4  bytes of a block                           4  4  entries in this node; 0 only in a single one
 *         12  4  nodes                                      8  8  the next node's block, 0: this is the last
 *         16  8  blocks that the file has                  16  8  life in which the node was written
 *         24  8  the first node's block, 0: none           24  8  its own block
 *         32  8  entries of all nodes                      32  4  checksum of all but these 4 bytes
 *         40  8  life of the newest change                 36  4  0
 *         48  8  commit of the newest change               40     entries of 16 bytes: block, freed
 *         56  4  0
 *         60  4  checksum of the 60 bytes ahead of it
 *
 * Block n is bytes [n * size, (n + 1) * size).  Entries rise by block through all nodes.  `freed` is the
 * commit that gave the block away, 0 if it may be used at once.  Commit ids begin anew when the coordination
 * file is made anew; a node of another life is of transactions that have all ended, so there every `freed`
 * counts as 0.  A node uses the first 16 KiB of its block at most.  The checksum is FNV-1a
 * (http://www.isthe.com/chongo/tech/comp/fnv/): against accidents, not attackers.
 */
#ifndef LKS_STORE_BLOCKNODE_H
#define LKS_STORE_BLOCKNODE_H

#include <stddef.h>

#include "base/status.h"
#include "shm/layout.h"

#define LKS_BLOCK_ROOT_BYTES 64u
#define LKS_BLOCK_NODE_HEAD 40u
#define LKS_BLOCK_ENTRY_BYTES 16u
#define LKS_BLOCK_NODE_MAX 16384u
#define LKS_BLOCK_SIZE_MIN 512u
#define LKS_BLOCK_SIZE_MAX (1u << 26)

struct lks_block_root {
    uint32_t block_size;
    uint32_t nodes;
    uint64_t blocks;
    uint64_t first;
    uint64_t entries;
    uint64_t life;
    uint64_t ticket;
};

struct lks_block_entry {
    uint64_t block;
    uint64_t freed;
};

struct lks_block_node {
    uint64_t block;
    uint64_t next;   /* as it was read, or is to be written */
    uint64_t life;   /* the same */
    uint64_t oldest; /* the least `freed` in it */
    uint32_t count;
    bool dirty;
    struct lks_block_entry entries[]; /* lks_block_node_capacity() of them */
};

bool lks_block_size_valid(uint32_t block_size);
/* Bytes of a block that a node uses, and how many entries they hold. */
size_t lks_block_node_bytes(uint32_t block_size);
uint32_t lks_block_node_capacity(uint32_t block_size);

/* The life of the coordination file: a number that another one does not have.  Never 0. */
uint64_t lks_block_life(const struct lks_shm *shm);

void lks_block_root_encode(const struct lks_block_root *root, unsigned char out[LKS_BLOCK_ROOT_BYTES]);
/* FORMAT: there is none, or one of another version.  CORRUPT. */
LKS_CHECKED enum lockstep_status lks_block_root_decode(const unsigned char in[LKS_BLOCK_ROOT_BYTES],
                                                       struct lks_block_root *out_root);

/* Returns the bytes that are to be written, the head and the entries; `out` has lks_block_node_bytes(). */
size_t lks_block_node_encode(const struct lks_block_node *node, unsigned char *out);
/* `bytes`: lks_block_node_bytes() of them.  CORRUPT: not the node of that block. */
LKS_CHECKED enum lockstep_status lks_block_node_decode(const unsigned char *bytes, uint32_t block_size,
                                                       uint64_t block, struct lks_block_node *out_node);

#endif
