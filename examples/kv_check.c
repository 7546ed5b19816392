/* kv: is everything whole, and how do things stand? */
#include "kv.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct audit {
    struct kv *kv;
    unsigned char *used; /* a byte a block */
    uint64_t blocks, nodes, keys, free;
    const char *wrong;
};

static bool
take_block(struct audit *audit, uint64_t block, const char *twice)
{
    if (block == 0 || block >= audit->blocks || audit->used[block]) {
        audit->wrong = block == 0 || block >= audit->blocks ? "a block that the file does not have" : twice;
        return false;
    }
    audit->used[block] = 1;
    return true;
}

static enum lockstep_status
audit_node(struct audit *audit, uint64_t block, unsigned level, struct kv_bytes from)
{
    struct kv_node node;
    enum lockstep_status status;
    if (!take_block(audit, block, "a node that is in the tree twice"))
        return LOCKSTEP_CORRUPT;
    status = kv_node_load(audit->kv, block, level, &node);
    if (status != LOCKSTEP_OK) {
        audit->wrong = "a node that cannot be read";
        return status;
    }
    audit->nodes++;
    if (kv_compare(node.items[0].key, from) < 0) {
        audit->wrong = "a key that is not where it belongs";
        return LOCKSTEP_CORRUPT;
    }
    for (unsigned i = 0; i < node.count && status == LOCKSTEP_OK; i++) {
        if (level == 0)
            audit->keys++;
        else
            status = audit_node(audit, node.items[i].child, level - 1, node.items[i].key);
    }
    return status;
}

static int
audit_free(void *arg, uint64_t block, uint64_t freed)
{
    struct audit *audit = arg;
    (void)freed;
    audit->free++;
    return !take_block(audit, block, "a block that is free and in use");
}

/* The tree, the list of free blocks and the head account for every block of the file. */
static enum lockstep_status
audit_all(struct kv *kv, void *arg)
{
    struct audit *audit = arg;
    struct lockstep_block_info info;
    enum lockstep_status status = lockstep_conn_block_info(kv->conn, &info);
    if (status != LOCKSTEP_OK)
        return status;
    audit->blocks = info.blocks;
    audit->used = calloc(1, (size_t)info.blocks);
    if (audit->used == NULL)
        return LOCKSTEP_NOMEM;
    if (kv->levels > 0)
        status = audit_node(audit, kv->root, (unsigned)kv->levels - 1, (struct kv_bytes){NULL, 0});
    if (status == LOCKSTEP_OK)
        status = lockstep_conn_block_walk(kv->conn, 0, audit_free, audit);
    if (status == LOCKSTEP_OK && audit->wrong == NULL && audit->keys != kv->keys)
        audit->wrong = "another number of keys than the head says";
    if (status == LOCKSTEP_OK && audit->wrong == NULL &&
        1 + audit->nodes + audit->free + info.nodes != info.blocks)
        audit->wrong = "a block that nobody has";
    free(audit->used);
    return status == LOCKSTEP_OK && audit->wrong != NULL ? LOCKSTEP_CORRUPT : status;
}

enum lockstep_status
kv_check(struct kv *kv)
{
    struct audit audit = {.kv = kv};
    enum lockstep_status status = kv_read(kv, audit_all, &audit);
    if (audit.wrong != NULL)
        fprintf(stderr, "kv: there is %s\n", audit.wrong);
    if (status == LOCKSTEP_OK)
        printf("%" PRIu64 " keys, %" PRIu64 " nodes, %" PRIu64 " free blocks: ok\n", audit.keys, audit.nodes,
               audit.free);
    return status;
}

struct ends {
    unsigned shown;
};

static int
show_block(void *arg, uint64_t block, uint64_t freed)
{
    struct ends *ends = arg;
    if (freed == 0)
        printf(" %" PRIu64, block);
    else
        printf(" %" PRIu64 "@%" PRIu64, block, freed);
    return ++ends->shown == 8;
}

static enum lockstep_status
show_list(struct kv *kv, int reverse)
{
    struct ends ends = {0};
    enum lockstep_status status;
    printf("%s", reverse ? "  from the end:  " : "  from the front:");
    status = lockstep_conn_block_walk(kv->conn, reverse, show_block, &ends);
    printf("%s\n", ends.shown == 8 ? " ..." : "");
    return status;
}

static enum lockstep_status
show_clients(struct kv *kv)
{
    struct lockstep_client clients[64];
    size_t count = 0;
    enum lockstep_status status = lockstep_db_clients(kv->db, clients, 64, &count);
    printf("clients: %zu\n", count);
    for (size_t i = 0; status == LOCKSTEP_OK && i < count && i < 64; i++)
        printf("  CLIENT(%u) %s pid %d%s%s%s, %.1f s\n", (unsigned)clients[i].slot, clients[i].program,
               (int)clients[i].pid, clients[i].self ? ", this one" : "", clients[i].readonly ? ", read-only" : "",
               clients[i].alive ? "" : ", dead", (double)clients[i].age_ns / 1e9);
    return status;
}

static void
show_holder(struct kv *kv, const char *name, uint32_t lock)
{
    struct lockstep_lock_holder holder;
    if (lockstep_db_lock_test(kv->db, lock, LOCKSTEP_EXCLUSIVE, &holder) == LOCKSTEP_BUSY)
        printf("%s: %s pid %d\n", name, holder.program, (int)holder.pid);
}

static enum lockstep_status
show_others(struct kv *kv)
{
    uint64_t oldest = 0;
    char line[200];
    enum lockstep_status status = lockstep_db_snapshot_oldest(kv->db, &oldest);
    if (status != LOCKSTEP_OK)
        return status;
    printf("snapshot: %" PRIu64 ", oldest in use: %" PRIu64 "\n", lockstep_conn_snapshot(kv->conn), oldest);
    (void)lockstep_conn_locks(kv->conn, line, sizeof line);
    printf("locks: %s\n", line);
    show_holder(kv, "writer", LOCKSTEP_LOCK_WRITER);
    show_holder(kv, "at work", LOCKSTEP_LOCK_WORK);
    show_holder(kv, "writes behind", LOCKSTEP_LOCK_WORKER);
    return show_clients(kv);
}

static enum lockstep_status
show_all(struct kv *kv, void *arg)
{
    struct lockstep_block_info info;
    enum lockstep_status status = lockstep_conn_block_info(kv->conn, &info);
    (void)arg;
    if (status != LOCKSTEP_OK)
        return status;
    printf("keys: %" PRIu64 ", levels: %" PRIu64 ", record: %" PRIu64 "\n", kv->keys, kv->levels, kv->sequence);
    if (kv_live(kv))
        status = show_others(kv);
    else
        puts("clients: none; no snapshot is in use, and no free block can be said to be usable");
    printf("blocks: %" PRIu64 " of %u bytes, free: %" PRIu64 ", usable: %" PRIu64 ", of the list: %u\n",
           info.blocks, (unsigned)info.block_size, info.free, info.usable, (unsigned)info.nodes);
    if (status == LOCKSTEP_OK)
        status = show_list(kv, 0);
    return status == LOCKSTEP_OK ? show_list(kv, 1) : status;
}

enum lockstep_status
kv_stat(struct kv *kv)
{
    return kv_read(kv, show_all, NULL);
}
