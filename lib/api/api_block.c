/* Blocks of the file: the entry points of coord.h over store/blocklist. */
#include <lockstep/coord.h>

#include "api/api.h"
#include "store/blocklist.h"
#include "store/blocknode.h"

_Static_assert(LOCKSTEP_BLOCK_ROOT_BYTES == LKS_BLOCK_ROOT_BYTES, "the root");

enum lockstep_status
lockstep_conn_block_format(struct lockstep_conn *conn, uint64_t root, uint32_t block_size)
{
    return conn_writing(conn) ? lks_blocklist_make(conn, root, block_size) : LOCKSTEP_MISUSE;
}

enum lockstep_status
lockstep_conn_block_open(struct lockstep_conn *conn, uint64_t root)
{
    return conn != NULL && readable(conn->db) ? lks_blocklist_open(conn, root) : LOCKSTEP_MISUSE;
}

enum lockstep_status
lockstep_conn_block_alloc(struct lockstep_conn *conn, uint64_t below, uint64_t *out_block)
{
    if (!conn_writing(conn) || out_block == NULL)
        return LOCKSTEP_MISUSE;
    return lks_blocklist_take(conn, below, out_block);
}

enum lockstep_status
lockstep_conn_block_free(struct lockstep_conn *conn, uint64_t block)
{
    return conn_writing(conn) ? lks_blocklist_give(conn, block) : LOCKSTEP_MISUSE;
}

enum lockstep_status
lockstep_conn_block_refree(struct lockstep_conn *conn, uint64_t block)
{
    return conn_writing(conn) ? lks_blocklist_refree(conn, block) : LOCKSTEP_MISUSE;
}

int
lockstep_conn_block_is_new(const struct lockstep_conn *conn, uint64_t block)
{
    return conn_writing(conn) && lks_blocklist_is_new(conn, block);
}

enum lockstep_status
lockstep_conn_block_trim(struct lockstep_conn *conn, uint64_t *out_blocks)
{
    if (!conn_writing(conn) || out_blocks == NULL)
        return LOCKSTEP_MISUSE;
    return lks_blocklist_trim(conn, out_blocks);
}

enum lockstep_status
lockstep_conn_block_walk(struct lockstep_conn *conn, int reverse, lockstep_block_fn fn, void *arg)
{
    if (!conn_viewing(conn) || fn == NULL)
        return LOCKSTEP_MISUSE;
    return lks_blocklist_walk(conn, reverse != 0, fn, arg);
}

enum lockstep_status
lockstep_conn_block_info(struct lockstep_conn *conn, struct lockstep_block_info *out_info)
{
    if (!conn_viewing(conn) || out_info == NULL)
        return LOCKSTEP_MISUSE;
    return lks_blocklist_info(conn, out_info);
}
