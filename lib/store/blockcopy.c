#include "store/blockcopy.h"

#include <stdlib.h>
#include <string.h>

void
lks_blockcopy_forget(struct lks_blockcopy *copy)
{
    uint32_t i;
    for (i = 0; i < copy->root.nodes; i++)
        free(copy->nodes[i]);
    copy->root.nodes = 0;
    copy->known = false;
}

static struct lks_block_node *
new_node(uint32_t block_size, uint64_t block)
{
    struct lks_block_node *node =
        malloc(sizeof *node + lks_block_node_capacity(block_size) * sizeof node->entries[0]);
    if (node == NULL)
        return NULL;
    node->block = block;
    node->next = node->life = 0;
    node->oldest = UINT64_MAX;
    node->count = 0;
    node->dirty = true;
    return node;
}

/* Room for one more, so that what follows cannot fail. */
static bool
make_room(struct lks_blockcopy *copy)
{
    uint32_t capacity = copy->node_capacity == 0 ? 8 : 2 * copy->node_capacity;
    struct lks_block_node **grown;
    if (copy->root.nodes < copy->node_capacity)
        return true;
    if (capacity < copy->node_capacity)
        return false;
    grown = realloc(copy->nodes, (size_t)capacity * sizeof(struct lks_block_node *));
    if (grown == NULL)
        return false;
    copy->nodes = grown;
    copy->node_capacity = capacity;
    return true;
}

/* The link that leads to node i lies in the one before it, or in the root. */
static void
touch_link(struct lks_blockcopy *copy, uint32_t i)
{
    copy->changed = true;
    if (i > 0)
        copy->nodes[i - 1]->dirty = true;
}

static void
insert_node(struct lks_blockcopy *copy, uint32_t i, struct lks_block_node *node)
{
    memmove(&copy->nodes[i + 1], &copy->nodes[i], (copy->root.nodes - i) * sizeof copy->nodes[0]);
    copy->nodes[i] = node;
    copy->root.nodes++;
    touch_link(copy, i);
}

static void
remove_node(struct lks_blockcopy *copy, uint32_t i)
{
    touch_link(copy, i);
    free(copy->nodes[i]);
    copy->root.nodes--;
    memmove(&copy->nodes[i], &copy->nodes[i + 1], (copy->root.nodes - i) * sizeof copy->nodes[0]);
}

/* The node that `block` belongs to: the last that begins at or below it, else the first. */
static uint32_t
find_node(const struct lks_blockcopy *copy, uint64_t block)
{
    uint32_t low = 0, high = copy->root.nodes;
    /* A single node may hold nothing. */
    while (high > 1 && low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (copy->nodes[middle]->entries[0].block <= block)
            low = middle + 1;
        else
            high = middle;
    }
    return low > 0 ? low - 1 : 0;
}

/* The first entry that is not below `block`. */
static uint32_t
find_entry(const struct lks_block_node *node, uint64_t block)
{
    uint32_t low = 0, high = node->count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (node->entries[middle].block < block)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

bool
lks_blockcopy_has(const struct lks_blockcopy *copy, uint64_t block)
{
    const struct lks_block_node *node;
    uint32_t i;
    if (copy->root.nodes == 0)
        return false;
    node = copy->nodes[find_node(copy, block)];
    i = find_entry(node, block);
    return i < node->count && node->entries[i].block == block;
}

bool
lks_blockcopy_is_node(const struct lks_blockcopy *copy, uint64_t block)
{
    uint32_t i;
    for (i = 0; i < copy->root.nodes; i++)
        if (copy->nodes[i]->block == block)
            return true;
    return lks_blockset_has(&copy->emptied, block);
}

static void
recount_oldest(struct lks_block_node *node)
{
    uint32_t i;
    node->oldest = UINT64_MAX;
    for (i = 0; i < node->count; i++)
        if (node->entries[i].freed < node->oldest)
            node->oldest = node->entries[i].freed;
}

/* Of another life: nobody is left who read what was in these blocks. */
static enum lockstep_status
settle_life(struct lks_block_node *node, uint64_t life, uint64_t snapshot)
{
    uint32_t i;
    if (node->life != life) {
        for (i = 0; i < node->count; i++)
            node->entries[i].freed = 0;
        node->oldest = 0;
    }
    for (i = 0; i < node->count; i++)
        if (node->entries[i].freed > snapshot)
            return LOCKSTEP_CORRUPT;
    return LOCKSTEP_OK;
}

/* Reads one node and puts it at the end.  *at: its block, then the next one's. */
static enum lockstep_status
load_node(struct lockstep_conn *conn, struct lks_blockcopy *copy, unsigned char *bytes, uint64_t *at,
          uint64_t *previous_block)
{
    const struct lks_block_root *root = &copy->root;
    size_t size = lks_block_node_bytes(root->block_size);
    struct lks_block_node *node;
    enum lockstep_status status;
    uint64_t block = *at;
    size_t got = 0;
    uint32_t i;

    if (block == 0 || block >= root->blocks)
        return LOCKSTEP_CORRUPT;
    status = lks_conn_read(conn, block * root->block_size, bytes, size, &got);
    if (status != LOCKSTEP_OK)
        return status;
    /* At the end of the file it may be shorter; its sum says whether anything is missing. */
    memset(bytes + got, 0, size - got);
    node = new_node(root->block_size, block);
    if (node == NULL)
        return LOCKSTEP_NOMEM;
    status = lks_block_node_decode(bytes, root->block_size, block, node);
    /* On a private view there is no shared memory to compare with: the numbers stay as they were written. */
    if (status == LOCKSTEP_OK && conn->view == NULL)
        status = settle_life(node, lks_block_life(conn->db->shm), conn->reader.snapshot);
    /* Rising through all nodes: so no node comes twice, and the chain ends. */
    for (i = 0; status == LOCKSTEP_OK && i < node->count; i++) {
        if (node->entries[i].block <= *previous_block || node->entries[i].block >= root->blocks)
            status = LOCKSTEP_CORRUPT;
        *previous_block = node->entries[i].block;
    }
    if (status == LOCKSTEP_OK && !make_room(copy))
        status = LOCKSTEP_NOMEM;
    if (status != LOCKSTEP_OK) {
        free(node);
        return status;
    }
    copy->nodes[copy->root.nodes++] = node;
    *at = node->next;
    return LOCKSTEP_OK;
}

/* L3, the part of it that shows only when all nodes are there. */
static enum lockstep_status
check_nodes(const struct lks_blockcopy *copy, uint64_t entries)
{
    uint64_t counted = 0;
    uint32_t i;
    for (i = 0; i < copy->root.nodes; i++) {
        counted += copy->nodes[i]->count;
        if (copy->nodes[i]->count == 0 && copy->root.nodes > 1)
            return LOCKSTEP_CORRUPT;
    }
    for (i = 0; i < copy->root.nodes; i++)
        if (lks_blockcopy_has(copy, copy->nodes[i]->block))
            return LOCKSTEP_CORRUPT;
    return counted == entries ? LOCKSTEP_OK : LOCKSTEP_CORRUPT;
}

static enum lockstep_status
load_nodes(struct lockstep_conn *conn, struct lks_blockcopy *copy)
{
    uint32_t nodes = copy->root.nodes, i;
    uint64_t at = copy->root.first, previous_block = 0;
    unsigned char *bytes = malloc(lks_block_node_bytes(copy->root.block_size));
    enum lockstep_status status = bytes != NULL ? LOCKSTEP_OK : LOCKSTEP_NOMEM;
    copy->root.nodes = 0;
    for (i = 0; i < nodes && status == LOCKSTEP_OK; i++)
        status = load_node(conn, copy, bytes, &at, &previous_block);
    if (status == LOCKSTEP_OK && at != 0)
        status = LOCKSTEP_CORRUPT;
    if (status == LOCKSTEP_OK)
        status = check_nodes(copy, copy->root.entries);
    free(bytes);
    if (status != LOCKSTEP_OK)
        lks_blockcopy_forget(copy);
    return status;
}

enum lockstep_status
lks_blockcopy_load(struct lockstep_conn *conn, uint64_t root_at, struct lks_blockcopy *copy)
{
    unsigned char image[LKS_BLOCK_ROOT_BYTES];
    size_t got = 0;
    enum lockstep_status status = lks_conn_read(conn, root_at, image, sizeof image, &got);
    if (status == LOCKSTEP_OK && got < sizeof image)
        status = LOCKSTEP_FORMAT;
    if (status != LOCKSTEP_OK || (copy->known && memcmp(image, copy->root_image, sizeof image) == 0))
        return status;
    lks_blockcopy_forget(copy);
    status = lks_block_root_decode(image, &copy->root);
    if (status == LOCKSTEP_OK && root_at + LKS_BLOCK_ROOT_BYTES > copy->root.block_size) {
        copy->root.nodes = 0;
        status = LOCKSTEP_CORRUPT;
    }
    if (status == LOCKSTEP_OK)
        status = load_nodes(conn, copy);
    if (status == LOCKSTEP_OK) {
        memcpy(copy->root_image, image, sizeof image);
        copy->known = true;
    }
    return status;
}

/* Takes an entry out.  A node that holds nothing then is none any more, unless it is the only one. */
enum lockstep_status
lks_blockcopy_remove(struct lks_blockcopy *copy, uint32_t i, uint32_t j)
{
    struct lks_block_node *node = copy->nodes[i];
    uint64_t freed = node->entries[j].freed;
    if (node->count == 1 && copy->root.nodes > 1) {
        if (!lks_blockset_add(&copy->emptied, node->block))
            return LOCKSTEP_NOMEM;
        remove_node(copy, i);
    } else {
        node->count--;
        memmove(&node->entries[j], &node->entries[j + 1], (node->count - j) * sizeof node->entries[0]);
        if (freed == node->oldest)
            recount_oldest(node);
        node->dirty = true;
    }
    copy->root.entries--;
    copy->changed = true;
    return LOCKSTEP_OK;
}

bool
lks_blockcopy_has_room(const struct lks_blockcopy *copy, uint64_t block)
{
    return copy->root.nodes > 0 &&
           copy->nodes[find_node(copy, block)]->count < lks_block_node_capacity(copy->root.block_size);
}

/*
 * Makes `at` a node, for the upper half of the full one that `block` belongs to; the first node holds nothing
 * yet. NOMEM: nothing was changed.
 */
enum lockstep_status
lks_blockcopy_add_node(struct lks_blockcopy *copy, uint64_t block, uint64_t at)
{
    struct lks_block_node *upper, *lower;
    uint32_t i;
    if (!make_room(copy) || (upper = new_node(copy->root.block_size, at)) == NULL)
        return LOCKSTEP_NOMEM;
    if (copy->root.nodes == 0) {
        insert_node(copy, 0, upper);
        return LOCKSTEP_OK;
    }
    i = find_node(copy, block);
    lower = copy->nodes[i];
    /* Where blocks are freed in rising order nodes are to become full. */
    upper->count = block > lower->entries[lower->count - 1].block ? 1 : lower->count / 2;
    lower->count -= upper->count;
    memcpy(upper->entries, &lower->entries[lower->count], upper->count * sizeof upper->entries[0]);
    lower->dirty = true;
    recount_oldest(lower);
    recount_oldest(upper);
    insert_node(copy, i + 1, upper);
    return LOCKSTEP_OK;
}

/* There is room for it. */
void
lks_blockcopy_put(struct lks_blockcopy *copy, uint64_t block, uint64_t freed)
{
    struct lks_block_node *node = copy->nodes[find_node(copy, block)];
    uint32_t j = find_entry(node, block);
    memmove(&node->entries[j + 1], &node->entries[j], (node->count - j) * sizeof node->entries[0]);
    node->entries[j].block = block;
    node->entries[j].freed = freed;
    node->count++;
    node->dirty = true;
    if (freed < node->oldest)
        node->oldest = freed;
    copy->root.entries++;
    copy->changed = true;
}

/* Nodes that hold nothing become entries of this commit, unless one is needed as a node for that. */
enum lockstep_status
lks_blockcopy_free_emptied(struct lks_blockcopy *copy, uint64_t ticket)
{
    uint64_t block;
    enum lockstep_status status = LOCKSTEP_OK;
    while (status == LOCKSTEP_OK && lks_blockset_pop(&copy->emptied, &block)) {
        if (lks_blockcopy_has_room(copy, block))
            lks_blockcopy_put(copy, block, ticket);
        else
            status = lks_blockcopy_add_node(copy, block, block);
    }
    return status;
}

void
lks_blockcopy_move(struct lks_blockcopy *copy, uint32_t i, uint64_t to)
{
    copy->nodes[i]->block = to;
    copy->nodes[i]->dirty = true;
    touch_link(copy, i);
}

void
lks_blockcopy_destroy(struct lks_blockcopy *copy)
{
    lks_blockcopy_forget(copy);
    lks_blockset_destroy(&copy->emptied);
    free(copy->nodes);
}
