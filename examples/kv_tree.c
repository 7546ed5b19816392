/* kv: the tree. */
#include "kv.h"

#include <string.h>

/* What a changed subtree is reached by: one node, two when it was split, none when nothing is left. */
struct link {
    uint64_t block;
    unsigned char key[KV_KEY_MAX];
    size_t key_size;
};
struct links {
    unsigned count;
    struct link of[2];
};

struct change {
    struct kv *kv;
    struct kv_bytes key;
    struct kv_bytes value;
    bool removes;
    bool found; /* the key was there */
};

enum lockstep_status
kv_place(struct kv *kv, uint64_t block, uint64_t *out_block)
{
    enum lockstep_status status;
    if (block != 0 && lockstep_conn_block_is_new(kv->conn, block)) {
        *out_block = block;
        return LOCKSTEP_OK;
    }
    status = lockstep_conn_block_alloc(kv->conn, 0, out_block);
    if (status == LOCKSTEP_OK && block != 0)
        status = lockstep_conn_block_free(kv->conn, block);
    return status;
}

static enum lockstep_status
store_part(struct kv *kv, const struct kv_node *node, unsigned from, unsigned count, uint64_t old,
           struct links *links)
{
    struct link *link = &links->of[links->count];
    enum lockstep_status status = kv_place(kv, old, &link->block);
    if (status != LOCKSTEP_OK)
        return status;
    link->key_size = node->items[from].key.size;
    memcpy(link->key, node->items[from].key.data, link->key_size);
    links->count++;
    return kv_node_store(kv, node, from, count, link->block);
}

/* A node that was changed goes to a block, or two, or none. */
static enum lockstep_status
store_node(struct kv *kv, struct kv_node *node, struct links *links)
{
    unsigned all = node->count, half;
    enum lockstep_status status;
    links->count = 0;
    if (all == 0)
        return lockstep_conn_block_free(kv->conn, node->block);
    if (kv_node_bytes(node) <= KV_BLOCK && all <= KV_ITEMS)
        return store_part(kv, node, 0, all, node->block, links);
    /* No item takes more than a third of a block, so both halves fit. */
    do
        node->count--;
    while (kv_node_bytes(node) > KV_BLOCK / 2 + KV_BLOCK / 8 && node->count > 1);
    half = node->count;
    node->count = all;
    status = store_part(kv, node, 0, half, node->block, links);
    return status == LOCKSTEP_OK ? store_part(kv, node, half, all - half, 0, links) : status;
}

static void
change_leaf(struct change *change, struct kv_node *leaf)
{
    const struct kv_item item = {.key = change->key, .value = change->value};
    unsigned at = kv_node_find(leaf, change->key);
    change->found = at < leaf->count && kv_compare(leaf->items[at].key, change->key) == 0;
    if (change->found)
        kv_node_remove(leaf, at);
    if (!change->removes)
        kv_node_insert(leaf, at, &item);
}

static void
relink(struct kv_node *node, unsigned at, const struct links *links)
{
    kv_node_remove(node, at);
    for (unsigned i = 0; i < links->count; i++) {
        const struct link *link = &links->of[i];
        const struct kv_item item = {.key = {link->key, link->key_size}, .child = link->block};
        kv_node_insert(node, at + i, &item);
    }
}

static enum lockstep_status
change_below(struct change *change, uint64_t block, unsigned level, struct links *out_links)
{
    struct kv_node node;
    struct links below;
    enum lockstep_status status = kv_node_load(change->kv, block, level, &node);
    if (status != LOCKSTEP_OK)
        return status;
    if (level == 0) {
        change_leaf(change, &node);
        if (change->removes && !change->found)
            return LOCKSTEP_OK;
    } else {
        unsigned way = kv_node_way(&node, change->key);
        status = change_below(change, node.items[way].child, level - 1, &below);
        if (status != LOCKSTEP_OK || (change->removes && !change->found))
            return status;
        relink(&node, way, &below);
    }
    return store_node(change->kv, &node, out_links);
}

/* A root over two halves; none over nothing; and none that has but one child. */
static enum lockstep_status
set_root(struct kv *kv, const struct links *links)
{
    struct kv_node node;
    struct links above = {0};
    enum lockstep_status status = LOCKSTEP_OK;
    if (links->count == 2) {
        node.block = 0;
        node.level = (unsigned)kv->levels++;
        node.count = 1; /* relink() takes one away */
        relink(&node, 0, links);
        status = store_part(kv, &node, 0, 2, 0, &above);
        kv->root = above.of[0].block;
        return kv->levels <= KV_LEVELS ? status : LOCKSTEP_FULL;
    }
    kv->root = links->count == 1 ? links->of[0].block : 0;
    if (links->count == 0)
        kv->levels = 0;
    while (kv->levels > 1) {
        status = kv_node_load(kv, kv->root, (unsigned)kv->levels - 1, &node);
        if (status != LOCKSTEP_OK || node.count > 1)
            break;
        status = lockstep_conn_block_free(kv->conn, kv->root);
        if (status != LOCKSTEP_OK)
            break;
        kv->root = node.items[0].child;
        kv->levels--;
    }
    return status;
}

static enum lockstep_status
apply(struct change *change)
{
    struct kv *kv = change->kv;
    struct links links = {0};
    enum lockstep_status status;
    if (kv->levels == 0) {
        struct kv_node leaf;
        leaf.block = 0;
        leaf.level = leaf.count = 0;
        if (change->removes)
            return LOCKSTEP_OK;
        change_leaf(change, &leaf);
        kv->levels = 1;
        status = store_node(kv, &leaf, &links);
    } else {
        status = change_below(change, kv->root, (unsigned)kv->levels - 1, &links);
    }
    if (status != LOCKSTEP_OK || (change->removes && !change->found))
        return status;
    kv->keys += (uint64_t)(!change->removes && !change->found);
    kv->keys -= (uint64_t)change->removes;
    return set_root(kv, &links);
}

enum lockstep_status
kv_put(struct kv *kv, struct kv_bytes key, struct kv_bytes value)
{
    struct change change = {.kv = kv, .key = key, .value = value};
    if (key.size == 0 || key.size > KV_KEY_MAX || value.size > KV_VALUE_MAX)
        return LOCKSTEP_MISUSE;
    return apply(&change);
}

enum lockstep_status
kv_del(struct kv *kv, struct kv_bytes key, bool *out_found)
{
    struct change change = {.kv = kv, .key = key, .removes = true};
    enum lockstep_status status = apply(&change);
    *out_found = change.found;
    return status;
}

enum lockstep_status
kv_get(struct kv *kv, struct kv_bytes key, unsigned char value[KV_VALUE_MAX], size_t *out_size,
       bool *out_found)
{
    struct kv_node node;
    uint64_t block = kv->root;
    unsigned at = 0;
    *out_found = false;
    for (unsigned level = (unsigned)kv->levels; level-- > 0;) {
        enum lockstep_status status = kv_node_load(kv, block, level, &node);
        if (status != LOCKSTEP_OK)
            return status;
        at = level > 0 ? kv_node_way(&node, key) : kv_node_find(&node, key);
        if (level > 0)
            block = node.items[at].child;
    }
    if (kv->levels > 0 && at < node.count && kv_compare(node.items[at].key, key) == 0) {
        *out_found = true;
        *out_size = node.items[at].value.size;
        memcpy(value, node.items[at].value.data, *out_size);
    }
    return LOCKSTEP_OK;
}

static bool
begins_with(struct kv_bytes key, struct kv_bytes prefix)
{
    return key.size >= prefix.size && (prefix.size == 0 || memcmp(key.data, prefix.data, prefix.size) == 0);
}

static enum lockstep_status
list_below(struct kv *kv, uint64_t block, unsigned level, struct kv_bytes prefix, kv_visit visit, void *arg,
           bool *go_on)
{
    struct kv_node node;
    enum lockstep_status status = kv_node_load(kv, block, level, &node);
    if (status != LOCKSTEP_OK)
        return status;
    for (unsigned i = level > 0 ? kv_node_way(&node, prefix) : kv_node_find(&node, prefix);
         i < node.count && *go_on; i++) {
        const struct kv_item *item = &node.items[i];
        if (level == 0)
            *go_on = begins_with(item->key, prefix) && visit(arg, item->key, item->value);
        else
            status = list_below(kv, item->child, level - 1, prefix, visit, arg, go_on);
        if (status != LOCKSTEP_OK)
            return status;
    }
    return LOCKSTEP_OK;
}

enum lockstep_status
kv_list(struct kv *kv, struct kv_bytes prefix, kv_visit visit, void *arg)
{
    bool go_on = true;
    if (kv->levels == 0)
        return LOCKSTEP_OK;
    return list_below(kv, kv->root, (unsigned)kv->levels - 1, prefix, visit, arg, &go_on);
}
