/*
 * Writing behind: one batch takes the file from commit F (flushed) to commit T, under a rollback journal.
 *
 *   1. The office (office.h): WORKER and RESERVED, kept as long as this process is the worker; a dead
 *      worker's hot journal is rolled back.
 *   2. Pin: claim the worker's slot as a reader does.  T is the commit claimed.
 *   3. Collect the newest version <= T of every unit changed since F; sort by unit.
 *   4. Announce (announce.h).  Are snapshots below T in use?  Then, holding WRITER: publish next_id = T, so
 *      that no sweep relies on the file for a unit that is about to change; and for each unit that would be
 *      overwritten while such a snapshot has no block of it, put its content as it is in the file behind
 *      the chain.  Nobody below T: publish next_id = T without WRITER, for nobody can come to lean on what
 *      the file had.
 *   5. Keep stock readers out.
 *   6. Journal of the pages' old content; sealed.
 *   7. Write the units, neighbours together; set the size; sync.
 *   8. Invalidate the journal, let stock readers in, publish flushed and durable, wake who waits.
 *
 * A transaction below T that found no block and read the file may have read it in step 7: it sees next_id
 * beyond its snapshot, looks again, and finds the block of step 4.
 *
 * Syncs: journal records, journal header, database, journal header: four, the first two in one for a small
 * batch; and none when every commit since the last durable one was made with OFF.
 */
#ifndef LKS_STORE_BATCH_H
#define LKS_STORE_BATCH_H

#include "base/status.h"
#include "coord/database.h"
#include "coord/reader.h"
#include "store/collect.h"

/* One batch while it runs, in the thread that has batch_mutex. */
struct lks_batch {
    struct lockstep_db *db;
    struct lks_store *store;
    const struct lks_geometry *g;
    struct lks_reader pin;
    uint64_t pinned_ns;
    uint64_t from;      /* flushed when it began */
    uint64_t target;
    uint64_t size;      /* of the database at target, bytes */
    uint64_t file_size; /* of the file now */
    uint64_t file_size_after;
    uint32_t page_size; /* of the database in the file now */
    uint64_t written;   /* bytes */
    bool sync;
    bool sealed;        /* its journal may be hot */
    bool settled;       /* what the store remembers of the file is true */
    struct lks_collection found;
};

/*
 * One batch, in the calling thread, if this process has or can have WORKER.  BUSY: another process is the
 * worker, another thread is at it, or stock SQLite holds a lock; try again.  OK with nothing to do is OK.
 * *out_worker (may be NULL): this process is the worker.
 */
LKS_CHECKED enum lockstep_status lks_batch_run(struct lockstep_db *db, bool *out_worker);
/* Until everything is written and durable; the last client's, which nobody else disturbs. */
enum lockstep_status lks_batch_drain(struct lockstep_db *db);

#endif
