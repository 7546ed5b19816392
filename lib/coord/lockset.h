/*
 * The locks that this process holds for one database, on the coordination file and on the database.
 *
 * POSIX locks do not conflict inside a process: who within the process may use a lock is decided by the
 * caller's mutex, and `held` here says what the process has.  fcntl() orders no memory; every call here
 * that takes, drops or tests a lock on the coordination file is a full fence, said once here; the stock_* calls,
 * which guard the file and not memory, are not.
 *
 * On the database file, with open-file-description locks on a descriptor of our own (kept for as long as the
 * process lives, for closing it would drop the POSIX locks of a stock connection beside ours):
 *   - the last byte of SQLite's SHARED range, shared, by each client: no stock writer reaches EXCLUSIVE;
 *   - RESERVED, by the process that holds WORKER, and by no other: if it dies in mid-batch, a stock reader
 *     finds RESERVED free and the journal hot, and is refused, instead of reading a half-written file;
 *   - PENDING and the other bytes of the SHARED range, during a batch: no stock reader;
 *   - the first byte of the SHARED range, shared, by a client that reads while nobody is connected: as a stock reader
 *     it keeps batches and stock writers out.
 */
#ifndef LKS_COORD_LOCKSET_H
#define LKS_COORD_LOCKSET_H

#include <stdbool.h>

#include "base/mutex.h"
#include "base/status.h"
#include "os/bytelock.h"
#include "shm/layout.h"

/* SQLite's lock bytes, os.h of SQLite. */
#define LKS_SQLITE_PENDING 0x40000000ull
#define LKS_SQLITE_RESERVED (LKS_SQLITE_PENDING + 1)
#define LKS_SQLITE_SHARED_FIRST (LKS_SQLITE_PENDING + 2)
#define LKS_SQLITE_SHARED_SIZE 510ull

struct lks_lockset {
    struct lks_mutex mutex;
    int coord_fd;       /* -1: not open */
    int database_fd;    /* -1: not open */
    uint32_t held;      /* bit a lks_lock_byte below 16 */
    uint32_t exclusive; /* those of held that are exclusive */
    bool stock_shared;  /* last byte of SHARED */
    bool stock_reserved;
    bool stock_excluded; /* PENDING and the rest of SHARED */
    uint32_t stock_readers; /* so many of this process hold SHARED as stock readers do; changed under the mutex */
    bool alone;         /* DMS2 is ours exclusively, so nobody can have WORKER or a CLIENT: the kernel is not asked */
};

/* Takes one byte, or converts it to that type.  Not waiting. */
enum lockstep_status lks_lockset_take(struct lks_lockset *set, enum lks_lock_byte byte,
                                      enum lks_lock_type type);
void lks_lockset_drop(struct lks_lockset *set, enum lks_lock_byte byte);
bool lks_lockset_holds(struct lks_lockset *set, enum lks_lock_byte byte);
/* 0 not held, 1 shared, 2 exclusive. */
unsigned lks_lockset_mode(struct lks_lockset *set, enum lks_lock_byte byte);
/* The process that would refuse us byte `byte`, CLIENT(i) included: 0 nobody, -1 unknown.  Takes nothing. */
enum lockstep_status lks_lockset_holder(struct lks_lockset *set, uint32_t byte, enum lks_lock_type type,
                                        int32_t *out_pid);
/* Would another process refuse us this lock?  Takes nothing. */
enum lockstep_status lks_lockset_others(struct lks_lockset *set, enum lks_lock_byte byte,
                                        enum lks_lock_type type, bool *out_others);

/* CLIENT(i), not recorded in `held`. */
enum lockstep_status lks_lockset_take_client(struct lks_lockset *set, uint32_t client);
void lks_lockset_drop_client(struct lks_lockset *set, uint32_t client);
/* Is CLIENT(i) held by another process? */
bool lks_lockset_client_lives(struct lks_lockset *set, uint32_t client);

enum lockstep_status lks_lockset_stock_share(struct lks_lockset *set);
enum lockstep_status lks_lockset_stock_reserve(struct lks_lockset *set);
/* Keeps stock readers out, waiting for those inside at most wait_ms. */
enum lockstep_status lks_lockset_stock_exclude(struct lks_lockset *set, uint32_t wait_ms);
void lks_lockset_stock_admit(struct lks_lockset *set);
void lks_lockset_stock_release(struct lks_lockset *set);
/*
 * Reads the file as a stock reader does, waiting at most wait_ms for who writes it now; counted.  Such a process never
 * excludes others.  A newcomer gives way to who waits for those inside, as SQLite's readers do.
 */
enum lockstep_status lks_lockset_stock_read(struct lks_lockset *set, uint32_t wait_ms);
void lks_lockset_stock_unread(struct lks_lockset *set);
void lks_lockset_stock_unreserve(struct lks_lockset *set);

#endif
