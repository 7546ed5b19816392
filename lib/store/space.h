/*
 * Whether the store has room for a writer: what is let go before it begins, and how it waits.
 *
 * From three quarters of store_limit in use on, after a sweep, a writer is told BUSY and comes again when
 * there may be more room: something was written behind, or a transaction has ended that held versions.  A
 * transaction that has begun is not stopped: it may take blocks up to hard_limit, see
 * lks_store_take_block().
 */
#ifndef LKS_STORE_SPACE_H
#define LKS_STORE_SPACE_H

#include "store/transaction.h"

/*
 * Holding WRITER, nothing written yet: fresh knowledge of the slots, and a store that is not too full to
 * begin with.  BUSY: it is, and conn->store_full says so.
 */
LKS_CHECKED enum lockstep_status lks_space_make(struct lockstep_conn *conn);
/* The same for a connection that keeps WRITER over its commits: waits for room, and after 5 s goes on anyway. */
void lks_space_make_waiting(struct lockstep_conn *conn);
/*
 * Not holding WRITER: until a sweep may find more than the last one, or end_ns.  Not sooner, for SQLite
 * takes every sleep to have lasted as long as it asked for.
 */
void lks_space_wait(struct lockstep_conn *conn, uint64_t end_ns);

#endif
