/*
 * A connection and its transaction: the file as bytes, as of one snapshot.
 *
 * transaction.c has what each transaction does, transaction_write.c what one does that writes.
 *
 * Used by one thread at a time.  Reads come from the newest block of a unit that the snapshot sees, else from
 * the file; writes go to blocks of the next commit.  Any offset and length will do; whole units are fast.
 *
 * A commit, in order (holding WRITER):
 *   1. the tripwire, if it is not set: when the writer begins, where an error can still be told;
 *   2. the buckets of what was written are marked dirty;
 *   3. ring entry of id;
 *   4. sync_needed, if the commit wants more than OFF;
 *   5. committed = id (release): the commit;
 *   6. our slot moves to id;
 *   7. WRITER is let go; the worker is told; FULL waits for the ticket.
 * Death before 5: nothing happened, the next owner of WRITER unlinks the blocks.  After 5: committed.
 */
#ifndef LKS_STORE_TRANSACTION_H
#define LKS_STORE_TRANSACTION_H

#include <stdbool.h>

#include "base/status.h"
#include "coord/queue.h"
#include "coord/reader.h"
#include "store/private.h"
#include "store/store.h"

struct lks_blocklist;

struct lockstep_conn {
    struct lockstep_db *db;
    struct lks_io_file *file;  /* for what is not in the store; opened when needed unless lent */
    bool file_lent;
    bool counted;              /* in the client's entry */
    struct lks_reader reader;
    struct lks_place place;
    struct lks_private *view;     /* not NULL: the transaction reads this, and has no claim in shared memory */
    const struct lks_geometry *g; /* while a transaction is open */
    bool writing;                 /* owns WRITER */
    bool dirty;                   /* there is something to commit */
    bool store_full;              /* the last write_begin said BUSY for want of space */
    uint64_t size;                /* bytes of the database as the transaction sees it */
    uint32_t *blocks;             /* of this transaction, for rollback */
    size_t block_count, block_capacity;
    uint32_t scans_left;          /* transactions until the slots are scanned again */
    struct lks_blocklist *blocklist; /* NULL: the application keeps none; store/blocklist.c */
};

/* `file`: where to read what is not in the store; NULL: the connection opens its own. */
LKS_CHECKED enum lockstep_status lks_conn_open(struct lockstep_db *db, struct lks_io_file *file,
                                               struct lockstep_conn **out_conn);
/* The same, for who holds attach_mutex: `number` is the next of db->next_connection. */
LKS_CHECKED enum lockstep_status lks_conn_make(struct lockstep_db *db, struct lks_io_file *file, uint32_t number,
                                               struct lockstep_conn **out_conn);
void lks_conn_close(struct lockstep_conn *conn);

LKS_CHECKED enum lockstep_status lks_conn_begin(struct lockstep_conn *conn);
/* On a snapshot that is the newest, or that a transaction of any process holds.  STALE: none does. */
LKS_CHECKED enum lockstep_status lks_conn_begin_at(struct lockstep_conn *conn, uint64_t snapshot);
/* Not waiting.  BUSY: lks_conn_wait(), end, begin, again.  STALE: end, begin, again. */
LKS_CHECKED enum lockstep_status lks_conn_write_begin(struct lockstep_conn *conn);
/*
 * After BUSY: sleeps at most wait_ns, until the writer lock is reserved for this connection (OK), or
 * space may be there.  TIMEOUT keeps the place in the queue.
 */
LKS_CHECKED enum lockstep_status lks_conn_wait(struct lockstep_conn *conn, uint64_t wait_ns);
/* Gives the place in the queue up. */
void lks_conn_leave_queue(struct lockstep_conn *conn);

LKS_CHECKED enum lockstep_status lks_conn_read(struct lockstep_conn *conn, uint64_t offset, void *buf,
                                               size_t size, size_t *out_read);
LKS_CHECKED enum lockstep_status lks_conn_write(struct lockstep_conn *conn, uint64_t offset,
                                                const void *buf, size_t size);
LKS_CHECKED enum lockstep_status lks_conn_truncate(struct lockstep_conn *conn, uint64_t size);
/* Steps 2 to 6.  The connection owns WRITER still, and may begin the next commit. */
LKS_CHECKED enum lockstep_status lks_conn_publish(struct lockstep_conn *conn,
                                                  enum lockstep_durability durability,
                                                  uint64_t *out_ticket);
/* Unlinks what was written.  Owns WRITER still. */
void lks_conn_discard(struct lockstep_conn *conn);
/* After a publish, for a connection that keeps WRITER: what write_begin does for the store's size. */
void lks_conn_renew(struct lockstep_conn *conn);
/* Lets WRITER go, after a publish or a discard. */
void lks_conn_write_end(struct lockstep_conn *conn);
/* Ends the transaction, discarding what was not published. */
void lks_conn_end(struct lockstep_conn *conn);

/* Part of one unit as the transaction sees it, for the writer that changes the rest. */
LKS_CHECKED enum lockstep_status lks_conn_read_unit(struct lockstep_conn *conn, uint64_t offset, void *buf,
                                                    size_t size);

#endif
