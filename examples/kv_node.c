/* kv: one node of the tree, in memory and in its block. */
#include "kv.h"

#include <string.h>

#define HEAD 16u

static void
put(unsigned char **p, uint64_t value, int bytes)
{
    while (bytes-- > 0)
        *(*p)++ = (unsigned char)(value >> 8 * bytes);
}

static uint64_t
get(const unsigned char **p, int bytes)
{
    uint64_t value = 0;
    while (bytes-- > 0)
        value = value << 8 | *(*p)++;
    return value;
}

int
kv_compare(struct kv_bytes a, struct kv_bytes b)
{
    size_t n = a.size < b.size ? a.size : b.size;
    int order = n > 0 ? memcmp(a.data, b.data, n) : 0;
    return order != 0 ? order : (a.size > b.size) - (a.size < b.size);
}

unsigned
kv_node_find(const struct kv_node *node, struct kv_bytes key)
{
    unsigned low = 0, high = node->count;
    while (low < high) {
        unsigned middle = (low + high) / 2;
        if (kv_compare(node->items[middle].key, key) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

unsigned
kv_node_way(const struct kv_node *node, struct kv_bytes key)
{
    unsigned at = kv_node_find(node, key);
    if (at < node->count && kv_compare(node->items[at].key, key) == 0)
        return at;
    return at > 0 ? at - 1 : 0;
}

void
kv_node_insert(struct kv_node *node, unsigned at, const struct kv_item *item)
{
    memmove(&node->items[at + 1], &node->items[at], (node->count - at) * sizeof node->items[0]);
    node->items[at] = *item;
    node->count++;
}

void
kv_node_remove(struct kv_node *node, unsigned at)
{
    node->count--;
    memmove(&node->items[at], &node->items[at + 1], (node->count - at) * sizeof node->items[0]);
}

static size_t
item_bytes(const struct kv_node *node, const struct kv_item *item)
{
    return node->level == 0 ? 4 + item->key.size + item->value.size : 10 + item->key.size;
}

size_t
kv_node_bytes(const struct kv_node *node)
{
    size_t bytes = HEAD;
    for (unsigned i = 0; i < node->count; i++)
        bytes += item_bytes(node, &node->items[i]);
    return bytes;
}

/* One item from the bytes at *p; false: it does not fit. */
static bool
load_item(const unsigned char **p, const unsigned char *end, unsigned level, struct kv_item *item)
{
    size_t head = level == 0 ? 4 : 10;
    memset(item, 0, sizeof *item);
    if ((size_t)(end - *p) < head)
        return false;
    if (level > 0)
        item->child = get(p, 8);
    item->key.size = (size_t)get(p, 2);
    if (level == 0)
        item->value.size = (size_t)get(p, 2);
    if (item->key.size > KV_KEY_MAX || item->value.size > KV_VALUE_MAX ||
        (size_t)(end - *p) < item->key.size + item->value.size)
        return false;
    item->key.data = *p;
    item->value.data = *p + item->key.size;
    *p += item->key.size + item->value.size;
    return true;
}

enum lockstep_status
kv_node_load(struct kv *kv, uint64_t block, unsigned level, struct kv_node *node)
{
    const unsigned char *p = node->raw, *end = node->raw + KV_BLOCK;
    size_t got = 0;
    enum lockstep_status status =
        lockstep_conn_read(kv->conn, block * KV_BLOCK, node->raw, KV_BLOCK, &got);
    if (status != LOCKSTEP_OK)
        return status;
    if (got != KV_BLOCK)
        return LOCKSTEP_CORRUPT;
    node->block = block;
    node->level = (unsigned)get(&p, 2);
    node->count = (unsigned)get(&p, 2);
    p += 4;
    if (node->level != level || node->count == 0 || node->count > KV_ITEMS || get(&p, 8) != block)
        return LOCKSTEP_CORRUPT;
    for (unsigned i = 0; i < node->count; i++)
        if (!load_item(&p, end, level, &node->items[i]) ||
            (i > 0 && kv_compare(node->items[i - 1].key, node->items[i].key) >= 0))
            return LOCKSTEP_CORRUPT;
    return LOCKSTEP_OK;
}

enum lockstep_status
kv_node_store(struct kv *kv, const struct kv_node *node, unsigned from, unsigned count, uint64_t block)
{
    unsigned char bytes[KV_BLOCK] = {0}, *p = bytes;
    put(&p, node->level, 2);
    put(&p, count, 2);
    put(&p, 0, 4);
    put(&p, block, 8);
    for (unsigned i = from; i < from + count; i++) {
        const struct kv_item *item = &node->items[i];
        if (node->level > 0)
            put(&p, item->child, 8);
        put(&p, item->key.size, 2);
        if (node->level == 0)
            put(&p, item->value.size, 2);
        memcpy(p, item->key.data, item->key.size);
        p += item->key.size;
        if (node->level == 0 && item->value.size > 0)
            memcpy(p, item->value.data, item->value.size);
        if (node->level == 0)
            p += item->value.size;
    }
    return lockstep_conn_write(kv->conn, block * KV_BLOCK, bytes, KV_BLOCK);
}
