/* Writing behind all that is committed, and how much that was. */
#ifndef LKS_STORE_CHECKPOINT_H
#define LKS_STORE_CHECKPOINT_H

#include "base/status.h"
#include "coord/database.h"

/*
 * What is committed when it is called is in the file and durable when it returns OK; written by the calling thread, or, if
 * another process is the worker, waited for.  *out_bytes: of the database file, written by the batches that
 * ended meanwhile, whoever made them; 0: all had been written.  Otherwise as lks_ticket_wait().
 */
LKS_CHECKED enum lockstep_status lks_checkpoint(struct lockstep_db *db, uint64_t *out_bytes);

#endif
