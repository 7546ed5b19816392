/*
 * The store: what a process has of it, and what its parts share.
 *
 * field            changed under
 * batch_mutex      guards the files and everything that writes behind, in this process
 * clean            batch_mutex; false: a dead worker's journal may be hot
 * database, journal  batch_mutex
 * settled          batch_mutex: our last batch succeeded and WORKER was not given up since.  So the dirty marks can be
 *                  trusted (D1 in shm/layout.h), and file_size and page_size are the file's
 * file_size, page_size  batch_mutex, while settled
 * run              batch_mutex: a buffer, kept while this process writes behind
 * place            batch_mutex: the worker's place in the writer queue
 * lent             batch_mutex: a connection of this process that owns WRITER waits for a batch, which may act
 *                  as the owner
 * private_told*    attach_mutex: what the log was told of what the dead left, see store/private.c
 * worker_*         worker_mutex
 */
#ifndef LKS_STORE_STORE_H
#define LKS_STORE_STORE_H

#include <pthread.h>
#include <stdbool.h>

#include "base/mutex.h"
#include "base/status.h"
#include "coord/database.h"
#include "coord/queue.h"
#include "os/io.h"
#include "store/journal.h"

struct lks_store {
    struct lks_mutex batch_mutex;
    bool clean;
    bool settled;
    uint64_t file_size;
    uint32_t page_size;
    unsigned char *run;
    struct lks_io_file *database;
    struct lks_journal *journal;
    struct lks_place place;
    bool lent;
    uint64_t failed_logged_ns;
    uint64_t private_told;
    bool private_told_journal;

    struct lks_mutex worker_mutex;
    pthread_t worker_thread;
    bool worker_running;
    bool worker_stop;
};

static inline struct lks_store *
lks_store_of(const struct lockstep_db *db)
{
    return db->store;
}

/* Joins `path` with the store's hooks.  Counted: lks_store_close(). */
LKS_CHECKED enum lockstep_status lks_store_open(const char *path, const struct lockstep_options *options,
                                                const struct lks_io *io, struct lockstep_db **out_db);
enum lockstep_status lks_store_close(struct lockstep_db *db);

/* The geometry as it is now; NULL while it is being changed (wait a moment) or damaged. */
const struct lks_geometry *lks_store_geometry(const struct lockstep_db *db);

/* Bytes of blocks that chains hold, and of all blocks that there are. */
uint64_t lks_store_used_bytes(const struct lockstep_db *db);
uint64_t lks_store_area_bytes(const struct lockstep_db *db);

/* The part of it that only databases in WAL mode have. */
void lks_store_wal_info(const struct lks_shm_state *state, struct lockstep_db_info *info);
/* Everything that the status shows; each number is true of some recent instant. */
void lks_store_info(const struct lockstep_db *db, struct lockstep_db_info *out_info);

/*
 * Gives the space of a huge transaction back once all of it is written behind: if the area is larger than twice
 * the limit and every block can be let go.  Holding WRITER, nothing written yet.
 */
LKS_CHECKED enum lockstep_status lks_store_trim(struct lockstep_db *db, const struct lks_geometry *g);

/*
 * A block to write into.  Holding WRITER.  FULL: the hard limit or the disk.  The scan of the slots
 * is made again when an old one does not help.
 */
LKS_CHECKED enum lockstep_status lks_store_take_block(struct lockstep_db *db,
                                                      const struct lks_geometry *g,
                                                      uint32_t *out_block);

#endif
