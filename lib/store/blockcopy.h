/*
 * The list of free blocks in memory: the nodes of the file, or what a transaction has made of them.
 *
 * Of one connection, so of one thread.  Whoever changes an entry or a node leaves it marked dirty, and with
 * it the node that links to it (a link in the root counts as `changed`), until lks_blocklist_flush() has
 * written it.
 */
#ifndef LKS_STORE_BLOCKCOPY_H
#define LKS_STORE_BLOCKCOPY_H

#include "base/status.h"
#include "store/blocknode.h"
#include "store/blockset.h"
#include "store/transaction.h"

struct lks_blockcopy {
    bool known; /* it is what root_image leads to in the file */
    bool changed;
    unsigned char root_image[LKS_BLOCK_ROOT_BYTES];
    struct lks_block_root root;
    struct lks_block_node **nodes; /* root.nodes of them, in their order */
    uint32_t node_capacity;
    struct lks_blockset emptied; /* nodes that hold nothing any more: not entries yet */
};

/*
 * Reads it as of the transaction's snapshot, unless that is what it is.  FORMAT, CORRUPT, and errors of
 * reading.
 */
LKS_CHECKED enum lockstep_status lks_blockcopy_load(struct lockstep_conn *conn, uint64_t root_at,
                                                    struct lks_blockcopy *copy);
void lks_blockcopy_forget(struct lks_blockcopy *copy);
void lks_blockcopy_destroy(struct lks_blockcopy *copy);

bool lks_blockcopy_has(const struct lks_blockcopy *copy, uint64_t block);
bool lks_blockcopy_is_node(const struct lks_blockcopy *copy, uint64_t block);

/*
 * Takes entry j of node i out.  A node that holds nothing then is none any more, unless it is the only one.
 */
LKS_CHECKED enum lockstep_status lks_blockcopy_remove(struct lks_blockcopy *copy, uint32_t i, uint32_t j);
/* Is there a node for `block`, and room in it? */
bool lks_blockcopy_has_room(const struct lks_blockcopy *copy, uint64_t block);
/*
 * Makes `at` a node, for the upper half of the full one that `block` belongs to; the first node holds nothing
 * yet. NOMEM: nothing was changed.
 */
LKS_CHECKED enum lockstep_status lks_blockcopy_add_node(struct lks_blockcopy *copy, uint64_t block,
                                                        uint64_t at);
/* An entry.  There is room for it. */
void lks_blockcopy_put(struct lks_blockcopy *copy, uint64_t block, uint64_t freed);
/* Nodes that hold nothing become entries of commit `ticket`, unless one is needed as a node for that. */
LKS_CHECKED enum lockstep_status lks_blockcopy_free_emptied(struct lks_blockcopy *copy, uint64_t ticket);
/* Node i is in block `to` from now on. */
void lks_blockcopy_move(struct lks_blockcopy *copy, uint32_t i, uint64_t to);

#endif
