/*
 * kv: a key-value store for many processes, on <lockstep/coord.h> alone.  See kv.c.
 *
 * The file is blocks of 4096 bytes.  Block 0 is the head: where the tree begins, in a record that is kept twice
 * (lockstep_conn_meta_write()), and the root of Lockstep's list of free blocks.  The other blocks are nodes of a
 * B-tree that is never changed in place: who changes a node writes a new one, and new ones for all nodes above
 * it, and frees the old ones.  A transaction reads the head of its snapshot and so the whole tree as it was
 * then; a block is not used again while anybody may look at it.
 *
 *   head   0    8  "kvstore2"               node   0  2  level, 0: a leaf
 *         64   64  list of free blocks             2  2  items
 *       1024  512  a record: the tree's root       4  4  0
 *                  (8), keys (8), levels (8)       8  8  the block that it is in
 *       2048  512  the one before or after it     16     items: a leaf's key length (2), value length (2), key,
 *                                                        value; another's block (8), key length (2), the
 *                                                        least key below it
 *
 * Numbers are big-endian.
 */
#ifndef EXAMPLES_KV_H
#define EXAMPLES_KV_H

#include <lockstep/coord.h>

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define KV_BLOCK 4096u
#define KV_FREE_ROOT 64u
#define KV_KEY_MAX 255u
#define KV_VALUE_MAX 1000u
#define KV_ITEMS 900u
#define KV_LEVELS 16u

struct kv_bytes {
    const unsigned char *data;
    size_t size;
};

/* ------------------------------------------------------------------------------------------------ kv_file.c */

/* How a store is opened: all options are here. */
struct kv_options {
    enum lockstep_durability durability;
    bool create;
    bool readonly;     /* also where nobody is connected, or nothing may be written */
    bool single;       /* no other process may connect */
    uint32_t lag_ms;   /* how long a change may stay off the disk; 0: as it is */
    int wait_ms;       /* for the writer lock */
    uint64_t snapshot; /* to read, if not 0: one that somebody holds */
};

struct kv {
    struct kv_options options;
    struct lockstep_db *db;
    struct lockstep_conn *conn;
    /* The head, in a transaction. */
    uint64_t root;
    uint64_t keys;
    uint64_t levels;
    uint64_t sequence; /* of its record */
    char other_version; /* which the file is of; 0: none was seen */
};

enum lockstep_status kv_open(const char *path, const struct kv_options *options, struct kv *kv);
enum lockstep_status kv_close(struct kv *kv);
/* Is anybody connected, we among them?  Else a transaction reads what there is, and there is nobody to ask about. */
bool kv_live(const struct kv *kv);
/* What a transaction does.  An error rolls it back. */
typedef enum lockstep_status (*kv_job)(struct kv *kv, void *arg);
enum lockstep_status kv_read(struct kv *kv, kv_job job, void *arg);
/* A job may be run several times: once for each time that somebody else was faster. */
enum lockstep_status kv_write(struct kv *kv, kv_job job, void *arg, uint64_t *out_ticket);

/* ------------------------------------------------------------------------------------------------ kv_node.c */

struct kv_item {
    struct kv_bytes key;
    struct kv_bytes value; /* of a leaf */
    uint64_t child;        /* of another */
};

struct kv_node {
    uint64_t block; /* 0: it has none yet */
    unsigned level;
    unsigned count;
    struct kv_item items[KV_ITEMS + 2];
    unsigned char raw[KV_BLOCK]; /* what the items point into */
};

int kv_compare(struct kv_bytes a, struct kv_bytes b);
/* The first item whose key is not below `key`. */
unsigned kv_node_find(const struct kv_node *node, struct kv_bytes key);
/* The item of an inner node below which `key` belongs. */
unsigned kv_node_way(const struct kv_node *node, struct kv_bytes key);
void kv_node_insert(struct kv_node *node, unsigned at, const struct kv_item *item);
void kv_node_remove(struct kv_node *node, unsigned at);
size_t kv_node_bytes(const struct kv_node *node);

enum lockstep_status kv_node_load(struct kv *kv, uint64_t block, unsigned level, struct kv_node *node);
/* Writes items [from, from + count) into `block`. */
enum lockstep_status kv_node_store(struct kv *kv, const struct kv_node *node, unsigned from, unsigned count,
                                   uint64_t block);

/* ------------------------------------------------------------------------------------------------ kv_tree.c */

/* All in a transaction. */
enum lockstep_status kv_get(struct kv *kv, struct kv_bytes key, unsigned char value[KV_VALUE_MAX],
                            size_t *out_size, bool *out_found);
enum lockstep_status kv_put(struct kv *kv, struct kv_bytes key, struct kv_bytes value);
enum lockstep_status kv_del(struct kv *kv, struct kv_bytes key, bool *out_found);
/* Calls visit for each key that begins with `prefix`, in order, until it returns false. */
typedef bool (*kv_visit)(void *arg, struct kv_bytes key, struct kv_bytes value);
enum lockstep_status kv_list(struct kv *kv, struct kv_bytes prefix, kv_visit visit, void *arg);
/* A block to write `block`'s new content to: itself, if this transaction has allocated it. */
enum lockstep_status kv_place(struct kv *kv, uint64_t block, uint64_t *out_block);

/* --------------------------------------------------------------------------- kv_check.c, kv_compact.c, kv_load.c */

/* Counts and compares everything; writes what is wrong to stderr and says CORRUPT. */
enum lockstep_status kv_check(struct kv *kv);
enum lockstep_status kv_stat(struct kv *kv);
enum lockstep_status kv_compact(struct kv *kv);
/* For lockstep_options: the blocks up to the last one that is not free. */
enum lockstep_status kv_last_used(void *arg, struct lockstep_conn *conn, uint64_t *out_bytes);
/* `workers` processes, each `operations` on keys of its own, and a check.  An exit status. */
int kv_load(const char *path, const struct kv_options *options, unsigned workers, unsigned operations,
            bool progress);

/* kv.c: "kv: FILE: what: reason" to stderr; returns the exit status. */
int kv_fail(const char *what, enum lockstep_status status);

#endif
