#include "store/blocklist.h"

#include <stdlib.h>
#include <string.h>

#include "base/crashpoint.h"
#include "coord/client.h"
#include "store/blockcopy.h"

struct lks_blocklist {
    uint64_t root_at;
    struct lks_blockcopy copy;
    bool walking; /* a callback of the application runs */
    bool of_view; /* the copy is of a private view: its tickets were not compared with anything */

    /* Of the write transaction that makes commit `ticket`; 0: none has begun here. */
    uint64_t ticket;
    enum lockstep_status failed;
    struct lks_blockset handed_out;
    bool limit_known, reaped;
    uint64_t limit; /* freed by an older commit: usable */
};

/* ------------------------------------------------------------------------------------------------
 * The copy in memory
 * --------------------------------------------------------------------------------------------- */

static void
end_transaction(struct lks_blocklist *list)
{
    lks_blockset_clear(&list->handed_out);
    lks_blockset_clear(&list->copy.emptied);
    list->ticket = 0;
    list->copy.changed = false;
    list->failed = LOCKSTEP_OK;
    list->limit_known = list->reaped = false;
}

void
lks_blocklist_discard(struct lks_blocklist *list)
{
    if (list == NULL)
        return;
    if (list->copy.changed)
        lks_blockcopy_forget(&list->copy);
    end_transaction(list);
}

void
lks_blocklist_free(struct lks_blocklist *list)
{
    if (list == NULL)
        return;
    lks_blockcopy_destroy(&list->copy);
    lks_blockset_destroy(&list->handed_out);
    free(list);
}

/* ------------------------------------------------------------------------------------------------
 * Reading it
 * --------------------------------------------------------------------------------------------- */

/* Before each use: the copy is that of the transaction's snapshot. */
static enum lockstep_status
load(struct lockstep_conn *conn, struct lks_blocklist **out_list)
{
    struct lks_blocklist *list = conn->blocklist;
    uint64_t ticket = conn->writing ? conn->reader.snapshot + 1 : 0;

    if (list == NULL || list->walking)
        return LOCKSTEP_MISUSE;
    *out_list = list;
    if (list->ticket == ticket && ticket != 0 && (list->copy.known || list->copy.changed))
        return list->failed;
    if (list->ticket != ticket) {
        lks_blocklist_discard(list);
        list->ticket = ticket;
    }
    if (list->of_view != (conn->view != NULL))
        lks_blockcopy_forget(&list->copy);
    list->of_view = conn->view != NULL;
    return lks_blockcopy_load(conn, list->root_at, &list->copy);
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
    for (i = 0; i < list->copy.root.nodes; i++) {
        const struct lks_block_node *node = list->copy.nodes[i];
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
find_usable_reaping(struct lockstep_conn *conn, struct lks_blocklist *list, uint32_t *out_node,
                    uint32_t *out_entry)
{
    struct lockstep_db *db = conn->db;
    find_limit(conn, list);
    if (find_usable(list, out_node, out_entry))
        return true;
    if (list->copy.root.entries == 0 || list->reaped)
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

/* At the end of the file. */
static enum lockstep_status
extend(struct lks_blocklist *list, uint64_t *out_block)
{
    if (list->copy.root.blocks >= UINT64_MAX / list->copy.root.block_size / 2)
        return LOCKSTEP_FULL;
    *out_block = list->copy.root.blocks++;
    list->copy.changed = true;
    return LOCKSTEP_OK;
}

/* A block for one more node: one that was a node until now, the lowest that may be used, or a new one. */
static enum lockstep_status
take_for_node(struct lockstep_conn *conn, struct lks_blocklist *list, uint64_t *out_block)
{
    uint32_t i, j;
    if (lks_blockset_pop(&list->copy.emptied, out_block))
        return LOCKSTEP_OK;
    if (!find_usable_reaping(conn, list, &i, &j))
        return extend(list, out_block);
    *out_block = list->copy.nodes[i]->entries[j].block;
    return lks_blockcopy_remove(&list->copy, i, j);
}

/* Sees to it that the node for `block` has room. */
static enum lockstep_status
open_place(struct lockstep_conn *conn, struct lks_blocklist *list, uint64_t block)
{
    while (!lks_blockcopy_has_room(&list->copy, block)) {
        uint64_t at;
        enum lockstep_status status = take_for_node(conn, list, &at);
        if (status != LOCKSTEP_OK)
            return status;
        /* To take it may have made the room: then it goes back, like a node that holds nothing. */
        if (!lks_blockcopy_has_room(&list->copy, block))
            status = lks_blockcopy_add_node(&list->copy, block, at);
        else if (!lks_blockset_add(&list->copy.emptied, at))
            status = LOCKSTEP_NOMEM;
        if (status != LOCKSTEP_OK)
            return status;
    }
    return LOCKSTEP_OK;
}

static enum lockstep_status
insert_entry(struct lockstep_conn *conn, struct lks_blocklist *list, uint64_t block, uint64_t freed)
{
    enum lockstep_status status = open_place(conn, list, block);
    if (status != LOCKSTEP_OK)
        return status;
    lks_blockcopy_put(&list->copy, block, freed);
    return lks_blockcopy_free_emptied(&list->copy, list->ticket);
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
    if (root > LKS_BLOCK_SIZE_MAX - LKS_BLOCK_ROOT_BYTES ||
        (list != NULL && (list->copy.changed || list->walking)))
        return LOCKSTEP_MISUSE;
    if (list == NULL) {
        list = calloc(1, sizeof *list);
        if (list == NULL)
            return LOCKSTEP_NOMEM;
        conn->blocklist = list;
    }
    lks_blockcopy_forget(&list->copy);
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
    memset(&list->copy.root, 0, sizeof list->copy.root);
    list->copy.root.block_size = block_size;
    list->copy.root.blocks = conn->size / block_size + (conn->size % block_size != 0);
    if (list->copy.root.blocks == 0)
        list->copy.root.blocks = 1;
    list->copy.changed = true;
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
        block = list->copy.nodes[i]->entries[j].block;
        if (below != 0 && block >= below)
            block = 0;
        else
            status = lks_blockcopy_remove(&list->copy, i, j);
        if (status == LOCKSTEP_OK)
            status = lks_blockcopy_free_emptied(&list->copy, list->ticket);
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
    if (block == 0 || block >= list->copy.root.blocks || lks_blockcopy_has(&list->copy, block) ||
        lks_blockcopy_is_node(&list->copy, block))
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
    uint64_t last = list->copy.root.blocks - 1;
    uint32_t i = list->copy.root.nodes - 1, j;
    const struct lks_block_node *node;
    enum lockstep_status status;
    if (list->copy.root.entries == 0)
        return LOCKSTEP_OK;
    node = list->copy.nodes[i];
    j = node->count - 1;
    if (node->count == 0 || node->entries[j].block != last || node->entries[j].freed >= list->limit)
        return LOCKSTEP_OK;
    status = lks_blockcopy_remove(&list->copy, i, j);
    if (status == LOCKSTEP_OK) {
        list->copy.root.blocks--;
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
    for (n = 0; n < list->copy.root.nodes; n++)
        if (node == NULL || list->copy.nodes[n]->block > node->block)
            node = list->copy.nodes[n];
    if (node == NULL || !find_usable(list, &i, &j) || list->copy.nodes[i]->entries[j].block > node->block)
        return LOCKSTEP_OK;
    from = node->block;
    to = list->copy.nodes[i]->entries[j].block;
    status = lks_blockcopy_remove(&list->copy, i, j);
    if (status != LOCKSTEP_OK)
        return status;
    *out_moved = true;
    for (n = 0; n < list->copy.root.nodes && list->copy.nodes[n]->block != from; n++)
        ;
    if (n == list->copy.root.nodes)
        /* That was its only entry: both are free now. */
        return lks_blockset_add(&list->copy.emptied, to) ? LOCKSTEP_OK : LOCKSTEP_NOMEM;
    lks_blockcopy_move(&list->copy, n, to);
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
    while (again && status == LOCKSTEP_OK && list->copy.root.blocks > 1) {
        again = false;
        status = drop_last(list, &again);
        if (status == LOCKSTEP_OK && !again)
            status = move_node(conn, list, &again);
        if (status == LOCKSTEP_OK)
            status = lks_blockcopy_free_emptied(&list->copy, list->ticket);
    }
    size = list->copy.root.blocks * list->copy.root.block_size;
    if (status == LOCKSTEP_OK && conn->size > size)
        status = lks_conn_truncate(conn, size);
    if (status == LOCKSTEP_OK)
        *out_blocks = list->copy.root.blocks;
    return finish(list, status);
}

static enum lockstep_status
flush_nodes(struct lockstep_conn *conn, struct lks_blocklist *list)
{
    uint32_t i;
    enum lockstep_status status = LOCKSTEP_OK;
    unsigned char *bytes = malloc(lks_block_node_bytes(list->copy.root.block_size));
    if (bytes == NULL)
        return LOCKSTEP_NOMEM;
    for (i = 0; i < list->copy.root.nodes && status == LOCKSTEP_OK; i++) {
        struct lks_block_node *node = list->copy.nodes[i];
        if (!node->dirty)
            continue;
        node->next = i + 1 < list->copy.root.nodes ? list->copy.nodes[i + 1]->block : 0;
        node->life = list->copy.root.life;
        status = lks_conn_write(conn, node->block * list->copy.root.block_size, bytes,
                                lks_block_node_encode(node, bytes));
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
    if (list == NULL || list->ticket != conn->reader.snapshot + 1 || !list->copy.changed)
        return LOCKSTEP_OK;
    if (list->failed != LOCKSTEP_OK)
        return list->failed;
    list->copy.root.life = lks_block_life(conn->db->shm);
    list->copy.root.ticket = list->ticket;
    list->copy.root.first = list->copy.root.nodes > 0 ? list->copy.nodes[0]->block : 0;
    status = flush_nodes(conn, list);
    if (status != LOCKSTEP_OK)
        return status;
    lks_block_root_encode(&list->copy.root, list->copy.root_image);
    status = lks_conn_write(conn, list->root_at, list->copy.root_image, sizeof list->copy.root_image);
    LKS_CRASH_POINT("blocklist:root");
    size = list->copy.root.blocks * list->copy.root.block_size;
    if (status == LOCKSTEP_OK && conn->size < size)
        status = lks_conn_truncate(conn, size);
    if (status == LOCKSTEP_OK) {
        list->copy.known = true;
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
    for (i = 0; i < list->copy.root.nodes; i++)
        if (!visit_node(list->copy.nodes[reverse ? list->copy.root.nodes - 1 - i : i], reverse, fn, arg))
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
    uint64_t limit = 0; /* on a private view nothing may be handed out */
    uint32_t i, j;
    enum lockstep_status status = load(conn, &list);
    if (status != LOCKSTEP_OK)
        return status;
    if (conn->view == NULL) {
        lks_horizon_scan(conn->db->shm, &horizon);
        limit = limit_of(conn->db, &horizon);
    }
    info.block_size = list->copy.root.block_size;
    info.nodes = list->copy.root.nodes;
    info.blocks = list->copy.root.blocks;
    info.free = list->copy.root.entries;
    for (i = 0; i < list->copy.root.nodes; i++)
        for (j = 0; j < list->copy.nodes[i]->count; j++)
            info.usable += list->copy.nodes[i]->entries[j].freed < limit;
    *out_info = info;
    return LOCKSTEP_OK;
}
