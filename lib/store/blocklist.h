/*
 * Which blocks of the file are free: a list in the file itself, for engines that write in new places and free
 * the old ones.
 *
 * The list is read and written through the transaction, so it is as of its snapshot, goes with its commit and
 * back with its rollback, and is a prefix after a power cut like everything else.  In memory it is a copy
 * that stays with the connection as long as the root in the file says that nobody has changed it.  What a
 * transaction changes is written when it commits.
 *
 * L1     a block is handed out only when no transaction of any process uses a snapshot older than the commit that
 *        freed it, and the state that a power cut would leave is not older either: so nobody, reading or after a
 *        recovery, misses what was in it.  Nor does who reads the file by itself: under the lock that it holds
 *        nothing is written behind, so what it reads is `flushed`, and the block was free then.
 * L2     of blocks 1 to blocks - 1 each is either an entry, a node of the list, or the application's; never two.
 * L3     entries rise strictly by block through all nodes, no node but a single one is empty, and no node is an
 *        entry.
 *
 * A block that is allocated and given back in one transaction held nothing that anybody could have seen: it
 * may be used at once, `freed` 0.  What makes an entry usable is looked up once a transaction, with its first
 * allocation, for that says what was true of snapshots below its floor for good (coord/horizon.h); readers
 * that have died are cleared if that would help.  A node of the list whose entries are gone is freed like a
 * block of the application.
 *
 * Death at any instant: the transaction is rolled back as a whole by the next owner of WRITER, and with it
 * the list.
 */
#ifndef LKS_STORE_BLOCKLIST_H
#define LKS_STORE_BLOCKLIST_H

#include <lockstep/coord.h>

#include "base/status.h"
#include "store/transaction.h"

/* Where the root is; nothing is read yet.  Not in a write transaction that has changed another list. */
LKS_CHECKED enum lockstep_status lks_blocklist_open(struct lockstep_conn *conn, uint64_t root);
/* Makes an empty list: the blocks that the file has now are the application's.  Writing. */
LKS_CHECKED enum lockstep_status lks_blocklist_make(struct lockstep_conn *conn, uint64_t root,
                                                    uint32_t block_size);

/* Writing.  *out_block 0: `below` is not 0 and there is none below it. */
LKS_CHECKED enum lockstep_status lks_blocklist_take(struct lockstep_conn *conn, uint64_t below,
                                                    uint64_t *out_block);
LKS_CHECKED enum lockstep_status lks_blocklist_give(struct lockstep_conn *conn, uint64_t block);
LKS_CHECKED enum lockstep_status lks_blocklist_refree(struct lockstep_conn *conn, uint64_t block);
LKS_CHECKED enum lockstep_status lks_blocklist_trim(struct lockstep_conn *conn, uint64_t *out_blocks);
/* Was it handed out in this transaction and not given back? */
bool lks_blocklist_is_new(const struct lockstep_conn *conn, uint64_t block);
/* Writes what was changed.  Before every commit. */
LKS_CHECKED enum lockstep_status lks_blocklist_flush(struct lockstep_conn *conn);

/* Reading or writing.  On a private view (store/private.h) tickets are as they were written, and none is usable. */
LKS_CHECKED enum lockstep_status lks_blocklist_walk(struct lockstep_conn *conn, bool reverse,
                                                    lockstep_block_fn fn, void *arg);
LKS_CHECKED enum lockstep_status lks_blocklist_info(struct lockstep_conn *conn,
                                                    struct lockstep_block_info *out_info);

/* The transaction was rolled back: what was changed is forgotten.  NULL is fine, here and below. */
void lks_blocklist_discard(struct lks_blocklist *list);
void lks_blocklist_free(struct lks_blocklist *list);

#endif
