/*
 * kv: compaction.  What lies at the end of the file moves to free blocks in front, and the file becomes
 * shorter.
 *
 * One connection among all processes is at work; others write meanwhile, for each round is a short
 * transaction.  What a round frees can be used, and cut off, by the next one, when it is on the disk and
 * nobody reads what was there.  What somebody reads until the end is cut off by the last process that leaves.
 */
#include "kv.h"

#include <inttypes.h>
#include <stdio.h>

#define MOVES 200 /* nodes a transaction */

struct round {
    uint64_t wanted; /* blocks that are enough */
    unsigned left;
    unsigned moved;
    uint64_t blocks; /* after it */
};

/* Writes a node again: because it lies too far back, or because a child of it did. */
static enum lockstep_status
move_node(struct kv *kv, struct round *round, struct kv_node *node, bool changed)
{
    uint64_t to = 0;
    enum lockstep_status status = LOCKSTEP_OK;
    if (node->block >= round->wanted && round->left > 0)
        status = lockstep_conn_block_alloc(kv->conn, round->wanted, &to);
    if (status != LOCKSTEP_OK)
        return status;
    if (to != 0) {
        round->left--;
        round->moved++;
        status = lockstep_conn_block_free(kv->conn, node->block);
    } else if (changed) {
        status = kv_place(kv, node->block, &to);
    } else {
        return LOCKSTEP_OK;
    }
    if (status == LOCKSTEP_OK)
        status = kv_node_store(kv, node, 0, node->count, to);
    node->block = to;
    return status;
}

static enum lockstep_status
move_below(struct kv *kv, struct round *round, uint64_t *block, unsigned level)
{
    struct kv_node node;
    bool changed = false;
    enum lockstep_status status;
    if (level == 0 && (*block < round->wanted || round->left == 0))
        return LOCKSTEP_OK;
    status = kv_node_load(kv, *block, level, &node);
    for (unsigned i = 0; level > 0 && i < node.count && status == LOCKSTEP_OK && round->left > 0; i++) {
        uint64_t child = node.items[i].child;
        status = move_below(kv, round, &node.items[i].child, level - 1);
        changed = changed || child != node.items[i].child;
    }
    if (status == LOCKSTEP_OK)
        status = move_node(kv, round, &node, changed);
    *block = node.block;
    return status;
}

static enum lockstep_status
one_round(struct kv *kv, void *arg)
{
    struct round *round = arg;
    struct lockstep_block_info info;
    enum lockstep_status status = lockstep_conn_block_info(kv->conn, &info);
    if (status != LOCKSTEP_OK)
        return status;
    lockstep_conn_assert_lock(kv->conn, LOCKSTEP_LOCK_WORK, LOCKSTEP_EXCLUSIVE);
    round->wanted = info.blocks - info.free;
    round->left = MOVES;
    round->moved = 0;
    if (kv->levels > 0 && info.usable > 0)
        status = move_below(kv, round, &kv->root, (unsigned)kv->levels - 1);
    return status == LOCKSTEP_OK ? lockstep_conn_block_trim(kv->conn, &round->blocks) : status;
}

enum lockstep_status
kv_compact(struct kv *kv)
{
    struct round round = {0};
    uint64_t before = UINT64_MAX, first = 0, oldest = 0, ticket = 0;
    unsigned idle = 0;
    enum lockstep_status status = lockstep_conn_work_begin(kv->conn);
    if (status != LOCKSTEP_OK)
        return status;
    /* Idle once is the wait for what the round before has freed. */
    while (status == LOCKSTEP_OK && idle < 3) {
        status = kv_write(kv, one_round, &round, &ticket);
        if (status == LOCKSTEP_OK)
            status = lockstep_db_wait(kv->db, ticket, -1);
        if (first == 0)
            first = round.blocks;
        idle = round.moved == 0 && round.blocks >= before ? idle + 1 : 0;
        before = round.blocks;
    }
    (void)lockstep_conn_work_end(kv->conn);
    if (status != LOCKSTEP_OK)
        return status;
    printf("%" PRIu64 " blocks, needed: %" PRIu64 "\n", round.blocks, round.wanted);
    status = lockstep_db_snapshot_oldest(kv->db, &oldest);
    if (status == LOCKSTEP_OK && round.blocks > round.wanted + 4 && oldest < ticket)
        fprintf(stderr, "kv: snapshot %" PRIu64 " is being read; what is older than it stays\n", oldest);
    return status;
}

/* From the end of the list: while it goes on without a gap. */
static int
step_back(void *arg, uint64_t block, uint64_t freed)
{
    uint64_t *end = arg;
    (void)freed;
    if (block != *end - 1)
        return 1;
    (*end)--;
    return 0;
}

enum lockstep_status
kv_last_used(void *arg, struct lockstep_conn *conn, uint64_t *out_bytes)
{
    struct lockstep_block_info info;
    uint64_t end;
    enum lockstep_status status = lockstep_conn_block_open(conn, KV_FREE_ROOT);
    (void)arg;
    if (status == LOCKSTEP_OK)
        status = lockstep_conn_block_info(conn, &info);
    if (status != LOCKSTEP_OK)
        return status;
    end = info.blocks;
    status = lockstep_conn_block_walk(conn, 1, step_back, &end);
    *out_bytes = end * KV_BLOCK;
    return status;
}
