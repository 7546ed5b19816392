#include "store/blocklist.h"

#include <stdlib.h>
#include <string.h>

#include "base/crashpoint.h"
#include "coord/client.h"
#include "store/blocknode.h"
#include "store/blockset.h"

struct lks_blocklist {
    uint64_t root_at;
    bool known; /* the copy below is that of root_image */
    unsigned char root_image[LKS_BLOCK_ROOT_BYTES];
    struct lks_block_root root;
    struct lks_block_node **nodes; /* root.nodes of them, in their order */
    uint32_t node_capacity;
    bool walking; /* a callback of the application runs */

    /* Of the write transaction that makes commit `ticket`; 0: none has begun here. */
    uint64_t ticket;
    bool changed;
    enum lockstep_status failed;
    struct lks_blockset handed_out;
    struct lks_blockset emptied; /* nodes that hold nothing any more: not entries yet */
    bool limit_known, reaped;
    uint64_t limit; /* freed by an older commit: usable */
};

/* ------------------------------------------------------------------------------------------------
 * The copy in memory
 * --------------------------------------------------------------------------------------------- */

static void
forget_nodes(struct lks_blocklist *list)
{
    uint32_t i;
    for (i = 0; i < list->root.nodes; i++)
        free(list->nodes[i]);
    list->root.nodes = 0;
    list->known = false;
}

static void
end_transaction(struct lks_blocklist *list)
{
    lks_blockset_clear(&list->handed_out);
    lks_blockset_clear(&list->emptied);
    list->ticket = 0;
    list->changed = false;
    list->failed = LOCKSTEP_OK;
    list->limit_known = list->reaped = false;
}

void
lks_blocklist_discard(struct lks_blocklist *list)
{
    if (list == NULL)
        return;
    if (list->changed)
        forget_nodes(list);
    end_transaction(list);
}

void
lks_blocklist_free(struct lks_blocklist *list)
{
    if (list == NULL)
        return;
    forget_nodes(list);
    lks_blockset_destroy(&list->handed_out);
    lks_blockset_destroy(&list->emptied);
    free(list->nodes);
    free(list);
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
make_room(struct lks_blocklist *list)
{
    uint32_t capacity = list->node_capacity == 0 ? 8 : 2 * list->node_capacity;
    struct lks_block_node **grown;
    if (list->root.nodes < list->node_capacity)
        return true;
    if (capacity < list->node_capacity)
        return false;
    grown = realloc(list->nodes, (size_t)capacity * sizeof(struct lks_block_node *));
    if (grown == NULL)
        return false;
    list->nodes = grown;
    list->node_capacity = capacity;
    return true;
}

/* The link that leads to node i lies in the one before it, or in the root. */
static void
touch_link(struct lks_blocklist *list, uint32_t i)
{
    list->changed = true;
    if (i > 0)
        list->nodes[i - 1]->dirty = true;
}

static void
insert_node(struct lks_blocklist *list, uint32_t i, struct lks_block_node *node)
{
    memmove(&list->nodes[i + 1], &list->nodes[i], (list->root.nodes - i) * sizeof list->nodes[0]);
    list->nodes[i] = node;
    list->root.nodes++;
    touch_link(list, i);
}

static void
remove_node(struct lks_blocklist *list, uint32_t i)
{
    touch_link(list, i);
    free(list->nodes[i]);
    list->root.nodes--;
    memmove(&list->nodes[i], &list->nodes[i + 1], (list->root.nodes - i) * sizeof list->nodes[0]);
}

/* The node that `block` belongs to: the last that begins at or below it, else the first. */
static uint32_t
find_node(const struct lks_blocklist *list, uint64_t block)
{
    uint32_t low = 0, high = list->root.nodes;
    while (high > 1 && low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (list->nodes[middle]->entries[0].block <= block)
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

static bool
has_entry(const struct lks_blocklist *list, uint64_t block)
{
    const struct lks_block_node *node;
    uint32_t i;
    if (list->root.nodes == 0)
        return false;
    node = list->nodes[find_node(list, block)];
    i = find_entry(node, block);
    return i < node->count && node->entries[i].block == block;
}

static bool
is_node(const struct lks_blocklist *list, uint64_t block)
{
    uint32_t i;
    for (i = 0; i < list->root.nodes; i++)
        if (list->nodes[i]->block == block)
            return true;
    return lks_blockset_has(&list->emptied, block);
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

/* ------------------------------------------------------------------------------------------------
 * Reading it
 * --------------------------------------------------------------------------------------------- */

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
load_node(struct lockstep_conn *conn, struct lks_blocklist *list, unsigned char *bytes, uint64_t *at,
          uint64_t *previous_block)
{
    const struct lks_block_root *root = &list->root;
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
    if (status == LOCKSTEP_OK)
        status = settle_life(node, lks_block_life(conn->db->shm), conn->reader.snapshot);
    /* Rising through all nodes: so no node comes twice, and the chain ends. */
    for (i = 0; status == LOCKSTEP_OK && i < node->count; i++) {
        if (node->entries[i].block <= *previous_block || node->entries[i].block >= root->blocks)
            status = LOCKSTEP_CORRUPT;
        *previous_block = node->entries[i].block;
    }
    if (status == LOCKSTEP_OK && !make_room(list))
        status = LOCKSTEP_NOMEM;
    if (status != LOCKSTEP_OK) {
        free(node);
        return status;
    }
    list->nodes[list->root.nodes++] = node;
    *at = node->next;
    return LOCKSTEP_OK;
}

/* L3, the part of it that shows only when all nodes are there. */
static enum lockstep_status
check_nodes(const struct lks_blocklist *list, uint64_t entries)
{
    uint64_t counted = 0;
    uint32_t i;
    for (i = 0; i < list->root.nodes; i++) {
        counted += list->nodes[i]->count;
        if (has_entry(list, list->nodes[i]->block) || (list->nodes[i]->count == 0 && list->root.nodes > 1))
            return LOCKSTEP_CORRUPT;
    }
    return counted == entries ? LOCKSTEP_OK : LOCKSTEP_CORRUPT;
}

static enum lockstep_status
load_nodes(struct lockstep_conn *conn, struct lks_blocklist *list)
{
    uint32_t nodes = list->root.nodes, i;
    uint64_t at = list->root.first, previous_block = 0;
    unsigned char *bytes = malloc(lks_block_node_bytes(list->root.block_size));
    enum lockstep_status status = bytes != NULL ? LOCKSTEP_OK : LOCKSTEP_NOMEM;
    list->root.nodes = 0;
    for (i = 0; i < nodes && status == LOCKSTEP_OK; i++)
        status = load_node(conn, list, bytes, &at, &previous_block);
    if (status == LOCKSTEP_OK && at != 0)
        status = LOCKSTEP_CORRUPT;
    if (status == LOCKSTEP_OK)
        status = check_nodes(list, list->root.entries);
    free(bytes);
    if (status != LOCKSTEP_OK)
        forget_nodes(list);
    return status;
}

/* Before each use: the copy is that of the transaction's snapshot. */
static enum lockstep_status
load(struct lockstep_conn *conn, struct lks_blocklist **out_list)
{
    struct lks_blocklist *list = conn->blocklist;
    unsigned char image[LKS_BLOCK_ROOT_BYTES];
    uint64_t ticket = conn->writing ? conn->reader.snapshot + 1 : 0;
    size_t got = 0;
    enum lockstep_status status;

    if (list == NULL || list->walking)
        return LOCKSTEP_MISUSE;
    *out_list = list;
    if (list->ticket == ticket && ticket != 0 && (list->known || list->changed))
        return list->failed;
    if (list->ticket != ticket) {
        lks_blocklist_discard(list);
        list->ticket = ticket;
    }
    status = lks_conn_read(conn, list->root_at, image, sizeof image, &got);
    if (status == LOCKSTEP_OK && got < sizeof image)
        status = LOCKSTEP_FORMAT;
    if (status != LOCKSTEP_OK || (list->known && memcmp(image, list->root_image, sizeof image) == 0))
        return status;
    forget_nodes(list);
    status = lks_block_root_decode(image, &list->root);
    if (status == LOCKSTEP_OK && list->root_at + LKS_BLOCK_ROOT_BYTES > list->root.block_size) {
        list->root.nodes = 0;
        status = LOCKSTEP_CORRUPT;
    }
    if (status == LOCKSTEP_OK)
        status = load_nodes(conn, list);
    if (status == LOCKSTEP_OK) {
        memcpy(list->root_image, image, sizeof image);
        list->known = true;
    }
    return status;
}

/* ------------------------------------------------------------------------------------------------
 * What may be handed out
 * --------------------------------------------------------------------------------------------- */

/* The newest commit of which it is sure that a power cut leaves it, or that nobody has asked for. */
static uint64_t
settled_commit(const struct lks_shm_state *state)
{
    uint64_t durable = lks_a64_acquire(&state->durable);
    /* Commits with OFF only: they are as safe as they will ever be once they are in the file. */
    if (lks_a64_relaxed(&state->sync_needed) <= durable)
        return lks_a64_acquire(&state->flushed);
    return durable;
}

/* Of what `horizon` shows: blocks freed by older commits than this one may be used. */
static uint64_t
limit_of(const struct lockstep_db *db, const struct lks_horizon *horizon)
{
    uint64_t settled = settled_commit(&db->shm->state);
    return (horizon->lowest < settled ? horizon->lowest : settled) + 1;
}

/* Holding WRITER. */
static void
find_limit(struct lockstep_conn *conn, struct lks_blocklist *list)
{
    struct lockstep_db *db = conn->db;
    if (list->limit_known)
        return;
    lks_horizon_scan(db->shm, &db->horizon);
    list->limit = limit_of(db, &db->horizon);
    list->limit_known = true;
}

/* The lowest entry that may be used, if there is one. */
static bool
find_usable(const struct lks_blocklist *list, uint32_t *out_node, uint32_t *out_entry)
{
    uint32_t i, j;
    for (i = 0; i < list->root.nodes; i++) {
        const struct lks_block_node *node = list->nodes[i];
        if (node->oldest >= list->limit)
            continue;
        for (j = 0; j < node->count; j++)
            if (node->entries[j].freed < list->limit) {
                *out_node = i;
                *out_entry = j;
                return true;
            }
    }
    return false;
}

/* The same; when none may be used for readers that are dead, these are cleared first. */
static bool
find_usable_reaping(struct lockstep_conn *conn, struct lks_blocklist *list, uint32_t *out_node, uint32_t *out_entry)
{
    struct lockstep_db *db = conn->db;
    find_limit(conn, list);
    if (find_usable(list, out_node, out_entry))
        return true;
    if (list->root.entries == 0 || list->reaped)
        return false;
    list->reaped = true;
    if (db->horizon.count == 0 || !lks_client_reap_readers(db, db->horizon.floor))
        return false;
    list->limit_known = false;
    find_limit(conn, list);
    return find_usable(list, out_node, out_entry);
}

/* ------------------------------------------------------------------------------------------------
 * Changing it
 * --------------------------------------------------------------------------------------------- */

/* Takes an entry out.  A node that holds nothing then is none any more, unless it is the only one. */
static enum lockstep_status
remove_entry(struct lks_blocklist *list, uint32_t i, uint32_t j)
{
    struct lks_block_node *node = list->nodes[i];
    uint64_t freed = node->entries[j].freed;
    if (node->count == 1 && list->root.nodes > 1) {
        if (!lks_blockset_add(&list->emptied, node->block))
            return LOCKSTEP_NOMEM;
        remove_node(list, i);
    } else {
        node->count--;
        memmove(&node->entries[j], &node->entries[j + 1], (node->count - j) * sizeof node->entries[0]);
        if (freed == node->oldest)
            recount_oldest(node);
        node->dirty = true;
    }
    list->root.entries--;
    list->changed = true;
    return LOCKSTEP_OK;
}

/* At the end of the file. */
static enum lockstep_status
extend(struct lks_blocklist *list, uint64_t *out_block)
{
    if (list->root.blocks >= UINT64_MAX / list->root.block_size / 2)
        return LOCKSTEP_FULL;
    *out_block = list->root.blocks++;
    list->changed = true;
    return LOCKSTEP_OK;
}

/* A block for one more node: one that was a node until now, the lowest that may be used, or a new one. */
static enum lockstep_status
take_for_node(struct lockstep_conn *conn, struct lks_blocklist *list, uint64_t *out_block)
{
    uint32_t i, j;
    if (lks_blockset_pop(&list->emptied, out_block))
        return LOCKSTEP_OK;
    if (!find_usable_reaping(conn, list, &i, &j))
        return extend(list, out_block);
    *out_block = list->nodes[i]->entries[j].block;
    return remove_entry(list, i, j);
}

static bool
has_room(const struct lks_blocklist *list, uint64_t block)
{
    return list->root.nodes > 0 &&
           list->nodes[find_node(list, block)]->count < lks_block_node_capacity(list->root.block_size);
}

/*
 * Makes `at` a node, for the upper half of the full one that `block` belongs to; the first node holds nothing yet.
 * NOMEM: nothing was changed.
 */
static enum lockstep_status
add_node(struct lks_blocklist *list, uint64_t block, uint64_t at)
{
    struct lks_block_node *upper, *lower;
    uint32_t i;
    if (!make_room(list) || (upper = new_node(list->root.block_size, at)) == NULL)
        return LOCKSTEP_NOMEM;
    if (list->root.nodes == 0) {
        insert_node(list, 0, upper);
        return LOCKSTEP_OK;
    }
    i = find_node(list, block);
    lower = list->nodes[i];
    /* Where blocks are freed in rising order nodes are to become full. */
    upper->count = block > lower->entries[lower->count - 1].block ? 1 : lower->count / 2;
    lower->count -= upper->count;
    memcpy(upper->entries, &lower->entries[lower->count], upper->count * sizeof upper->entries[0]);
    lower->dirty = true;
    recount_oldest(lower);
    recount_oldest(upper);
    insert_node(list, i + 1, upper);
    return LOCKSTEP_OK;
}

/* Sees to it that the node for `block` has room. */
static enum lockstep_status
open_place(struct lockstep_conn *conn, struct lks_blocklist *list, uint64_t block)
{
    while (!has_room(list, block)) {
        uint64_t at;
        enum lockstep_status status = take_for_node(conn, list, &at);
        if (status != LOCKSTEP_OK)
            return status;
        /* To take it may have made the room: then it goes back, like a node that holds nothing. */
        if (!has_room(list, block))
            status = add_node(list, block, at);
        else if (!lks_blockset_add(&list->emptied, at))
            status = LOCKSTEP_NOMEM;
        if (status != LOCKSTEP_OK)
            return status;
    }
    return LOCKSTEP_OK;
}

/* There is room for it. */
static void
put_entry(struct lks_blocklist *list, uint64_t block, uint64_t freed)
{
    struct lks_block_node *node = list->nodes[find_node(list, block)];
    uint32_t j = find_entry(node, block);
    memmove(&node->entries[j + 1], &node->entries[j], (node->count - j) * sizeof node->entries[0]);
    node->entries[j].block = block;
    node->entries[j].freed = freed;
    node->count++;
    node->dirty = true;
    if (freed < node->oldest)
        node->oldest = freed;
    list->root.entries++;
    list->changed = true;
}

/* Nodes that hold nothing become entries of this commit, unless one is needed as a node for that. */
static enum lockstep_status
free_emptied(struct lks_blocklist *list)
{
    uint64_t block;
    enum lockstep_status status = LOCKSTEP_OK;
    while (status == LOCKSTEP_OK && lks_blockset_pop(&list->emptied, &block)) {
        if (has_room(list, block))
            put_entry(list, block, list->ticket);
        else
            status = add_node(list, block, block);
    }
    return status;
}

static enum lockstep_status
insert_entry(struct lockstep_conn *conn, struct lks_blocklist *list, uint64_t block, uint64_t freed)
{
    enum lockstep_status status = open_place(conn, list, block);
    if (status != LOCKSTEP_OK)
        return status;
    put_entry(list, block, freed);
    return free_emptied(list);
}

/* After an error in the middle the copy is of no use: the transaction cannot be committed. */
static enum lockstep_status
finish(struct lks_blocklist *list, enum lockstep_status status)
{
    if (status != LOCKSTEP_OK)
        list->failed = status;
    return status;
}

/* ------------------------------------------------------------------------------------------------
 * What is offered
 * --------------------------------------------------------------------------------------------- */

enum lockstep_status
lks_blocklist_open(struct lockstep_conn *conn, uint64_t root)
{
    struct lks_blocklist *list = conn->blocklist;
    if (root > LKS_BLOCK_SIZE_MAX - LKS_BLOCK_ROOT_BYTES || (list != NULL && (list->changed || list->walking)))
        return LOCKSTEP_MISUSE;
    if (list == NULL) {
        list = calloc(1, sizeof *list);
        if (list == NULL)
            return LOCKSTEP_NOMEM;
        conn->blocklist = list;
    }
    forget_nodes(list);
    list->root_at = root;
    return LOCKSTEP_OK;
}

enum lockstep_status
lks_blocklist_make(struct lockstep_conn *conn, uint64_t root, uint32_t block_size)
{
    struct lks_blocklist *list;
    enum lockstep_status status;
    if (!lks_block_size_valid(block_size) || root > block_size - LKS_BLOCK_ROOT_BYTES)
        return LOCKSTEP_MISUSE;
    status = lks_blocklist_open(conn, root);
    if (status != LOCKSTEP_OK)
        return status;
    list = conn->blocklist;
    end_transaction(list);
    list->ticket = conn->reader.snapshot + 1;
    memset(&list->root, 0, sizeof list->root);
    list->root.block_size = block_size;
    list->root.blocks = conn->size / block_size + (conn->size % block_size != 0);
    if (list->root.blocks == 0)
        list->root.blocks = 1;
    list->changed = true;
    return LOCKSTEP_OK;
}

enum lockstep_status
lks_blocklist_take(struct lockstep_conn *conn, uint64_t below, uint64_t *out_block)
{
    struct lks_blocklist *list;
    uint32_t i, j;
    uint64_t block = 0;
    enum lockstep_status status = load(conn, &list);
    if (status != LOCKSTEP_OK)
        return status;
    if (find_usable_reaping(conn, list, &i, &j)) {
        block = list->nodes[i]->entries[j].block;
        if (below != 0 && block >= below)
            block = 0;
        else
            status = remove_entry(list, i, j);
        if (status == LOCKSTEP_OK)
            status = free_emptied(list);
    } else if (below == 0) {
        status = extend(list, &block);
    }
    if (status == LOCKSTEP_OK && block != 0 && !lks_blockset_add(&list->handed_out, block))
        status = LOCKSTEP_NOMEM;
    if (status == LOCKSTEP_OK)
        *out_block = block;
    return finish(list, status);
}

enum lockstep_status
lks_blocklist_give(struct lockstep_conn *conn, uint64_t block)
{
    struct lks_blocklist *list;
    enum lockstep_status status = load(conn, &list);
    if (status != LOCKSTEP_OK)
        return status;
    if (lks_blockset_has(&list->handed_out, block))
        return lks_blocklist_refree(conn, block);
    if (block == 0 || block >= list->root.blocks || has_entry(list, block) || is_node(list, block))
        return LOCKSTEP_MISUSE;
    return finish(list, insert_entry(conn, list, block, list->ticket));
}

enum lockstep_status
lks_blocklist_refree(struct lockstep_conn *conn, uint64_t block)
{
    struct lks_blocklist *list;
    enum lockstep_status status = load(conn, &list);
    if (status != LOCKSTEP_OK)
        return status;
    if (!lks_blockset_has(&list->handed_out, block))
        return LOCKSTEP_MISUSE;
    lks_blockset_remove(&list->handed_out, block);
    return finish(list, insert_entry(conn, list, block, 0));
}

bool
lks_blocklist_is_new(const struct lockstep_conn *conn, uint64_t block)
{
    const struct lks_blocklist *list = conn->blocklist;
    return list != NULL && conn->writing && list->ticket == conn->reader.snapshot + 1 &&
           lks_blockset_has(&list->handed_out, block);
}

/* Is the last block of the file an entry that may be used?  Then it is no more. */
static enum lockstep_status
drop_last(struct lks_blocklist *list, bool *out_dropped)
{
    uint64_t last = list->root.blocks - 1;
    uint32_t i = list->root.nodes - 1, j;
    const struct lks_block_node *node;
    enum lockstep_status status;
    if (list->root.entries == 0)
        return LOCKSTEP_OK;
    node = list->nodes[i];
    j = node->count - 1;
    if (node->count == 0 || node->entries[j].block != last || node->entries[j].freed >= list->limit)
        return LOCKSTEP_OK;
    status = remove_entry(list, i, j);
    if (status == LOCKSTEP_OK) {
        list->root.blocks--;
        *out_dropped = true;
    }
    return status;
}

/* Puts the node that lies last in the file into the lowest block that may be used, if that is lower. */
static enum lockstep_status
move_node(struct lockstep_conn *conn, struct lks_blocklist *list, bool *out_moved)
{
    struct lks_block_node *node = NULL;
    uint64_t from, to;
    uint32_t n, i, j;
    enum lockstep_status status;
    for (n = 0; n < list->root.nodes; n++)
        if (node == NULL || list->nodes[n]->block > node->block)
            node = list->nodes[n];
    if (node == NULL || !find_usable(list, &i, &j) || list->nodes[i]->entries[j].block > node->block)
        return LOCKSTEP_OK;
    from = node->block;
    to = list->nodes[i]->entries[j].block;
    status = remove_entry(list, i, j);
    if (status != LOCKSTEP_OK)
        return status;
    *out_moved = true;
    for (n = 0; n < list->root.nodes && list->nodes[n]->block != from; n++)
        ;
    if (n == list->root.nodes)
        /* That was its only entry: both are free now. */
        return lks_blockset_add(&list->emptied, to) ? LOCKSTEP_OK : LOCKSTEP_NOMEM;
    list->nodes[n]->block = to;
    list->nodes[n]->dirty = true;
    touch_link(list, n);
    return insert_entry(conn, list, from, list->ticket);
}

enum lockstep_status
lks_blocklist_trim(struct lockstep_conn *conn, uint64_t *out_blocks)
{
    struct lks_blocklist *list;
    bool again = true;
    uint64_t size;
    enum lockstep_status status = load(conn, &list);
    if (status != LOCKSTEP_OK)
        return status;
    list->limit_known = false;
    find_limit(conn, list);
    while (again && status == LOCKSTEP_OK && list->root.blocks > 1) {
        again = false;
        status = drop_last(list, &again);
        if (status == LOCKSTEP_OK && !again)
            status = move_node(conn, list, &again);
        if (status == LOCKSTEP_OK)
            status = free_emptied(list);
    }
    size = list->root.blocks * list->root.block_size;
    if (status == LOCKSTEP_OK && conn->size > size)
        status = lks_conn_truncate(conn, size);
    if (status == LOCKSTEP_OK)
        *out_blocks = list->root.blocks;
    return finish(list, status);
}

static enum lockstep_status
flush_nodes(struct lockstep_conn *conn, struct lks_blocklist *list)
{
    uint32_t i;
    enum lockstep_status status = LOCKSTEP_OK;
    unsigned char *bytes = malloc(lks_block_node_bytes(list->root.block_size));
    if (bytes == NULL)
        return LOCKSTEP_NOMEM;
    for (i = 0; i < list->root.nodes && status == LOCKSTEP_OK; i++) {
        struct lks_block_node *node = list->nodes[i];
        if (!node->dirty)
            continue;
        node->next = i + 1 < list->root.nodes ? list->nodes[i + 1]->block : 0;
        node->life = list->root.life;
        status = lks_conn_write(conn, node->block * list->root.block_size, bytes, lks_block_node_encode(node, bytes));
        LKS_CRASH_POINT("blocklist:node");
        node->dirty = status != LOCKSTEP_OK;
    }
    free(bytes);
    return status;
}

enum lockstep_status
lks_blocklist_flush(struct lockstep_conn *conn)
{
    struct lks_blocklist *list = conn->blocklist;
    enum lockstep_status status;
    uint64_t size;
    if (list == NULL || list->ticket != conn->reader.snapshot + 1 || !list->changed)
        return LOCKSTEP_OK;
    if (list->failed != LOCKSTEP_OK)
        return list->failed;
    list->root.life = lks_block_life(conn->db->shm);
    list->root.ticket = list->ticket;
    list->root.first = list->root.nodes > 0 ? list->nodes[0]->block : 0;
    status = flush_nodes(conn, list);
    if (status != LOCKSTEP_OK)
        return status;
    lks_block_root_encode(&list->root, list->root_image);
    status = lks_conn_write(conn, list->root_at, list->root_image, sizeof list->root_image);
    LKS_CRASH_POINT("blocklist:root");
    size = list->root.blocks * list->root.block_size;
    if (status == LOCKSTEP_OK && conn->size < size)
        status = lks_conn_truncate(conn, size);
    if (status == LOCKSTEP_OK) {
        list->known = true;
        end_transaction(list);
    }
    return status;
}

static bool
visit_node(const struct lks_block_node *node, bool reverse, lockstep_block_fn fn, void *arg)
{
    uint32_t j;
    for (j = 0; j < node->count; j++) {
        const struct lks_block_entry *entry = &node->entries[reverse ? node->count - 1 - j : j];
        if (fn(arg, entry->block, entry->freed) != 0)
            return false;
    }
    return true;
}

enum lockstep_status
lks_blocklist_walk(struct lockstep_conn *conn, bool reverse, lockstep_block_fn fn, void *arg)
{
    struct lks_blocklist *list;
    uint32_t i;
    enum lockstep_status status = load(conn, &list);
    if (status != LOCKSTEP_OK)
        return status;
    list->walking = true;
    for (i = 0; i < list->root.nodes; i++)
        if (!visit_node(list->nodes[reverse ? list->root.nodes - 1 - i : i], reverse, fn, arg))
            break;
    list->walking = false;
    return LOCKSTEP_OK;
}

enum lockstep_status
lks_blocklist_info(struct lockstep_conn *conn, struct lockstep_block_info *out_info)
{
    struct lks_blocklist *list;
    struct lockstep_block_info info = {0};
    struct lks_horizon horizon;
    uint64_t limit;
    uint32_t i, j;
    enum lockstep_status status = load(conn, &list);
    if (status != LOCKSTEP_OK)
        return status;
    lks_horizon_scan(conn->db->shm, &horizon);
    limit = limit_of(conn->db, &horizon);
    info.block_size = list->root.block_size;
    info.nodes = list->root.nodes;
    info.blocks = list->root.blocks;
    info.free = list->root.entries;
    for (i = 0; i < list->root.nodes; i++)
        for (j = 0; j < list->nodes[i]->count; j++)
            info.usable += list->nodes[i]->entries[j].freed < limit;
    *out_info = info;
    return LOCKSTEP_OK;
}
