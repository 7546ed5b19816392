/*
 * The locks of the wal-index.
 *
 *   WRITE          after WRITER of the queue.  WRITER taken by another: BUSY, and the thread remembers the file, so that
 *                  the busy timeout's xSleep waits in the queue (wait.c).  A stale snapshot is refused at once, as
 *                  no waiting cures it.  WRITER is ours and WRITE is not to be had: somebody who does not queue (a
 *                  stock process) writes; WRITER becomes a reservation for us, at our old place, and xSleep
 *                  looks whether WRITE is free again.
 *                  A reader that takes WRITE to look at a header that is being written, or to recover the index, has
 *                  no read lock: it does not queue, for it writes nothing to the log.
 *   READ1..READ4   exclusive, all four, by a writer: it resets the log.  CKPT is taken first and held meanwhile, else
 *                  BUSY, and SQLite appends.  (SQLite 3.7.0 to 3.51.2 can lose frames when a checkpoint that has
 *                  read the header meets a reset.)
 *   CKPT           refused to the automatic checkpoint that SQLite makes after a commit, if somebody checkpoints in the
 *                  background; SQLite passes over that.  Which one it is, is told by two things: nothing was locked
 *                  between the end of a commit and this; and the sqlite3_step() that committed has not returned: see
 *                  lks_wal_mark().  Any other checkpoint was asked for, and waits for the background's to end.
 *
 * Order: WRITER, WRITE, CKPT (of the guard), READ1..4.
 */
#include "base/clock.h"
#include "base/crashpoint.h"
#include "coord/client.h"
#include "coord/groupsync.h"
#include "coord/reader.h"
#include "vfs/vfs.h"
#include "vfs/wait.h"

/* A BUSY that finds the same owner for so long asks the kernel whether it lives. */
#define SUSPECT_NS (100 * LKS_NS_PER_MS)
#define PROBE_NS LKS_NS_PER_MS
#define FINISH_WAIT_NS (200 * LKS_NS_PER_MS)
#define CHECKPOINT_WAIT_NS (2000 * LKS_NS_PER_MS)
#define FINISH_LOOK_NS (2 * LKS_NS_PER_MS)
/* Some times as long as such a transaction has the lock. */
#define EARLY_WAIT_NS (200000ull)
/* So many frames a read mark may be behind. */
#define MARK_FRAMES 64u

#define LOCK_EXCLUSIVE (SQLITE_SHM_LOCK | SQLITE_SHM_EXCLUSIVE)
#define UNLOCK_EXCLUSIVE (SQLITE_SHM_UNLOCK | SQLITE_SHM_EXCLUSIVE)
#define LOCK_SHARED (SQLITE_SHM_LOCK | SQLITE_SHM_SHARED)
#define UNLOCK_SHARED (SQLITE_SHM_UNLOCK | SQLITE_SHM_SHARED)

static int
parent_lock(struct lks_file *f, int offset, int n, int flags)
{
    return f->real->pMethods->xShmLock(f->real, offset, n, flags);
}

static bool
holds(const struct lks_wal *wal, enum lks_wal_lock lock)
{
    return (wal->exclusive & LKS_WAL_BIT(lock)) != 0;
}

/* ------------------------------------------------------------------------------------------------
 * WRITE
 * --------------------------------------------------------------------------------------------- */

/* Has anybody committed since the read lock was taken?  What is being written just now counts. */
static bool
is_stale(const struct lks_wal *wal)
{
    return lks_wal_index_word(wal->index, LKS_INDEX_CHECKSUM) != wal->snapshot.checksum[0] ||
           lks_wal_index_word(wal->index, LKS_INDEX_CHECKSUM + 1) != wal->snapshot.checksum[1] ||
           lks_wal_index_word(wal->index, LKS_INDEX_CHANGE) != wal->snapshot.change;
}

/* The statement for which all this happens; NULL: there are several, or it cannot be told. */
static sqlite3_stmt *
only_statement(const struct lks_file *f)
{
    sqlite3 *connection = f->user != NULL ? *f->user : NULL;
    sqlite3_stmt *statement = NULL, *only = NULL;
    if (connection == NULL)
        return NULL;
    while ((statement = sqlite3_next_stmt(connection, statement)) != NULL)
        if (sqlite3_stmt_busy(statement)) {
            if (only != NULL)
                return NULL;
            only = statement;
        }
    return only;
}

/*
 * Would SQLite try again by itself?  It does so for a statement that begins a transaction, if there is a busy timeout;
 * not where a transaction that has read wants to write.
 */
static bool
tries_again(const struct lks_file *f)
{
    return f->sleeps && only_statement(f) != NULL && sqlite3_get_autocommit(*f->user);
}

static enum lockstep_status
take_writer(struct lks_file *f)
{
    enum lockstep_status status;
    uint64_t since = 0;
    uint32_t owner;
    f->wal.turn = lks_queue_turn(f->db, &f->conn->place);
    status = lks_queue_take(f->db, &f->conn->place);
    if (status != LOCKSTEP_BUSY)
        return status;
    /*
     * The checkpointer lets go in a moment, and is no reason to be told BUSY.  But while we wait here we have a read
     * lock, under which the log cannot be begun anew; so who tries again by itself is sent away.
     */
    if (lks_a32_relaxed(&f->db->shm->state.log_finishing) != 0 && !tries_again(f))
        return lks_queue_lock(f->db, &f->conn->place, FINISH_WAIT_NS);
    owner = lks_queue_owner(f->db, &since);
    if (owner < LKS_MAX_CLIENTS && lks_clock_coarse_ns() > since + SUSPECT_NS &&
        lks_client_reap(f->db, owner))
        status = lks_queue_take(f->db, &f->conn->place);
    return status;
}

static int
lock_write(struct lks_file *f)
{
    struct lks_wal *wal = &f->wal;
    bool reads = (wal->shared & LKS_WAL_READ_BITS) != 0;
    int rc;

    if (!wal->attached && reads)
        lks_wal_attach(f); /* perhaps it can be had now */
    if (!wal->attached || (!reads && !holds(wal, LKS_WAL_CKPT)))
        return parent_lock(f, LKS_WAL_WRITE, 1, LOCK_EXCLUSIVE);
    if (lks_groupsync_poisoned(f->db) != 0)
        return SQLITE_IOERR_FSYNC;
    lks_wal_refresh(f);
    if (reads && is_stale(wal)) {
        lks_wait_refused(f);
        return SQLITE_BUSY_SNAPSHOT;
    }
    wal->stock_busy = wal->waited_early = false;
    if (take_writer(f) != LOCKSTEP_OK) {
        lks_wait_refused(f);
        return SQLITE_BUSY;
    }
    lks_wal_refresh(f);
    if (reads && is_stale(wal)) {
        lks_queue_unlock(f->db);
        lks_wait_refused(f);
        return SQLITE_BUSY_SNAPSHOT;
    }
    rc = parent_lock(f, LKS_WAL_WRITE, 1, LOCK_EXCLUSIVE);
    if (rc == SQLITE_OK) {
        wal->owns_writer = true;
        lks_wait_granted(f);
        LKS_CRASH_POINT("wal:locked");
        return rc;
    }
    if ((rc & 0xff) == SQLITE_BUSY) {
        lks_queue_return(f->db, &f->conn->place, wal->turn);
        wal->stock_busy = true;
        lks_wait_refused(f);
    } else {
        lks_queue_unlock(f->db);
    }
    return rc;
}

static void
begin_write(struct lks_wal *wal)
{
    wal->written = wal->header_last = wal->synced = wal->put_off = wal->ticketed = wal->lags = false;
    wal->log_end = 0;
    wal->kept_bytes = 0;
}

static int
unlock_write(struct lks_file *f)
{
    struct lks_wal *wal = &f->wal;
    int rc;
    if (wal->owns_writer && wal->written)
        lks_wal_publish(f);
    rc = parent_lock(f, LKS_WAL_WRITE, 1, UNLOCK_EXCLUSIVE);
    if (wal->owns_writer) {
        LKS_CRASH_POINT("wal:unlocked");
        wal->kept_bytes = 0;
        wal->owns_writer = false;
        lks_queue_unlock(f->db);
        wal->wrote_last = wal->written;
        if (wal->written)
            lks_checkpoint_notice(f->db, wal->index, wal->lags);
    }
    return rc;
}

static bool
write_is_free(struct lks_file *f)
{
    if (f->uri.shm != LKS_SHM_NATIVE)
        return lks_copy_file_write_is_free(f->real);
    if (parent_lock(f, LKS_WAL_WRITE, 1, LOCK_EXCLUSIVE) != SQLITE_OK)
        return false;
    (void)parent_lock(f, LKS_WAL_WRITE, 1, UNLOCK_EXCLUSIVE);
    return true;
}

bool
lks_wal_probe(struct lks_file *f, uint64_t end_ns)
{
    for (;;) {
        uint64_t now = lks_clock_ns();
        if (now >= end_ns)
            return false;
        lks_clock_nap_ms(end_ns - now < PROBE_NS ? 0 : 1);
        /* Keeps the reservation. */
        if (lks_conn_wait(f->conn, 0) != LOCKSTEP_OK)
            return true; /* it has passed on: back into the queue */
        if (write_is_free(f))
            return true;
    }
}

/* ------------------------------------------------------------------------------------------------
 * Readers
 * --------------------------------------------------------------------------------------------- */

/*
 * The checkpointer is about to finish, and this connection is one that writes: it waits before it has a read lock.  Then
 * BUSY: SQLite looks at the wal-index again, finds that all is written back, and begins the log anew.
 */
static bool
wait_for_finish(struct lks_file *f)
{
    const struct lks_shm_state *state = &f->db->shm->state;
    uint64_t deadline;
    if (!f->wal.wrote_last || lks_a32_relaxed(&state->log_finishing) == 0)
        return false;
    f->wal.wrote_last = false;
    deadline = lks_clock_ns() + FINISH_WAIT_NS;
    /* In the queue, for that is how one is woken. */
    while (lks_a32_relaxed(&state->log_finishing) != 0 && lks_clock_ns() < deadline)
        if (lks_conn_wait(f->conn, FINISH_LOOK_NS) == LOCKSTEP_OK)
            break;
    /* It may only want to read. */
    lks_conn_leave_queue(f->conn);
    lks_wal_refresh(f); /* C13 */
    return true;
}

/* Does the statement that begins a transaction here write? */
static bool
is_to_write(const struct lks_file *f)
{
    sqlite3_stmt *statement = only_statement(f);
    return statement != NULL && sqlite3_stmt_readonly(statement) == 0;
}

/*
 * A connection that is about to write, and others are at it that wait for the disk after each commit, as it does: the lock
 * is free again in some microseconds.  It waits awake, and before it has a read lock: to be refused WRITE with one is to give
 * it up, to come back through the busy timeout, and to take it and its read marks again.  SQLite has read a header
 * by then; so BUSY, and it reads it anew at once.
 */
static bool
wait_early(struct lks_file *f)
{
    struct lks_wal *wal = &f->wal;
    uint64_t end;
    if (!f->sleeps || wal->waited_early || f->busy_since_ns != 0 ||
        !lks_queue_is_taken(f->db, &f->conn->place) || !is_to_write(f))
        return false;
    wal->waited_early = true;
    end = lks_clock_ns() + EARLY_WAIT_NS;
    do
        lks_clock_yield();
    while (lks_queue_is_taken(f->db, &f->conn->place) && lks_clock_ns() < end);
    lks_wal_refresh(f); /* C13 */
    return true;
}

/*
 * A read mark that is a few frames old serves as well: it holds a checkpoint back by so much more.  To move it on costs a
 * system call for each mark that others use, and in company all are in use.
 */
static bool
mark_will_do(const struct lks_file *f)
{
    const volatile uint32_t *index = f->wal.index;
    uint32_t last = lks_wal_index_word(index, LKS_INDEX_MAX_FRAME), i;
    if (lks_a32_relaxed(&f->db->shm->state.log_finishing) != 0)
        return false;
    for (i = 1; i < LKS_WAL_READERS; i++) {
        uint32_t mark = lks_wal_index_word(index, LKS_INDEX_READ_MARK + i);
        if (mark <= last && last - mark <= MARK_FRAMES) /* an unused one is beyond all frames */
            return true;
    }
    return false;
}

/* SQLite makes room for its snapshot in the table of read marks. */
static int
lock_mark(struct lks_file *f, int offset)
{
    const struct lks_wal *wal = &f->wal;
    if (wal->attached && wal->waited_disk && wal->shared == 0 && wal->exclusive == 0 && mark_will_do(f))
        return SQLITE_BUSY;
    return parent_lock(f, offset, 1, LOCK_EXCLUSIVE);
}

static inline int
lock_read(struct lks_file *f, int offset, int n)
{
    struct lks_wal *wal = &f->wal;
    int rc;
    if (wal->paused && f->lock < SQLITE_LOCK_EXCLUSIVE)
        lks_wal_resume(f);
    if (wal->attached && f->wants_writer)
        lks_wait_before_begin(f);
    if (wal->attached && wal->waited_disk && wait_early(f))
        return SQLITE_BUSY;
    if (wal->attached && offset > LKS_WAL_READ0 && wait_for_finish(f))
        return SQLITE_BUSY;
    rc = parent_lock(f, offset, n, LOCK_SHARED);
    if (rc != SQLITE_OK || wal->index == NULL)
        return rc;
    /* SQLite looks after this whether the header is still what it has read, so what is there now is no older. */
    wal->snapshot = (struct lks_wal_snapshot){
        .change = lks_wal_index_word(wal->index, LKS_INDEX_CHANGE),
        .max_frame = lks_wal_index_word(wal->index, LKS_INDEX_MAX_FRAME),
        .checksum = {lks_wal_index_word(wal->index, LKS_INDEX_CHECKSUM),
                     lks_wal_index_word(wal->index, LKS_INDEX_CHECKSUM + 1)},
        .salt = {lks_wal_index_word(wal->index, LKS_INDEX_SALT),
                 lks_wal_index_word(wal->index, LKS_INDEX_SALT + 1)},
        .backfilled = lks_wal_index_word(wal->index, LKS_INDEX_BACKFILLED), /* P1 */
        .begins = true,
    };
    if (!wal->attached)
        return rc;
    LKS_CRASH_POINT("wal:reading");
    if (lks_a64_relaxed(&f->db->shm->state.pending_since_ns) != 0)
        lks_checkpoint_ensure(f->db, wal->index); /* the committer may have died */
    if (wal->slot != 0)
        lks_reader_show(f->db, wal->slot, wal->snapshot.max_frame, (uint32_t)(offset - LKS_WAL_READ0));
    return rc;
}

void
lks_wal_barrier(struct lks_file *f)
{
    struct lks_wal *wal = &f->wal;
    struct lks_wal_snapshot *snapshot = &wal->snapshot;
    snapshot->begins = false;
    snapshot->settled = wal->index != NULL &&
                        lks_wal_index_word(wal->index, LKS_INDEX_BACKFILLED) == snapshot->backfilled &&
                        ((wal->shared & LKS_WAL_BIT(LKS_WAL_READ0)) == 0 || snapshot->backfilled == snapshot->max_frame);
}

static int
unlock_read(struct lks_file *f, int offset, int n)
{
    int rc;
    if (f->wal.slot != 0)
        lks_reader_hide(f->db, f->wal.slot);
    f->wal.waited_early = false;
    rc = parent_lock(f, offset, n, UNLOCK_SHARED);
    if (f->wal.attached && !f->wal.paused)
        lks_checkpoint_unheld(f->db, f->wal.index);
    return rc;
}

/* ------------------------------------------------------------------------------------------------
 * Checkpoints and resets
 * --------------------------------------------------------------------------------------------- */

static int
lock_for_reset(struct lks_file *f, int offset, int n)
{
    struct lks_wal *wal = &f->wal;
    bool guard = holds(wal, LKS_WAL_WRITE) && !holds(wal, LKS_WAL_CKPT);
    int rc;
    if (guard) {
        rc = parent_lock(f, LKS_WAL_CKPT, 1, LOCK_EXCLUSIVE);
        if (rc != SQLITE_OK)
            return (rc & 0xff) == SQLITE_BUSY ? SQLITE_BUSY : rc;
    }
    rc = parent_lock(f, offset, n, LOCK_EXCLUSIVE);
    wal->guarding = guard && rc == SQLITE_OK;
    if (guard && rc != SQLITE_OK)
        (void)parent_lock(f, LKS_WAL_CKPT, 1, UNLOCK_EXCLUSIVE);
    return rc;
}

static int
unlock_after_reset(struct lks_file *f, int offset, int n)
{
    int rc = parent_lock(f, offset, n, UNLOCK_EXCLUSIVE);
    if (f->wal.guarding) {
        f->wal.guarding = false;
        (void)parent_lock(f, LKS_WAL_CKPT, 1, UNLOCK_EXCLUSIVE);
    }
    return rc;
}

/* The connection whose automatic checkpoint this thread refused last.  Compared, never followed. */
static __thread const sqlite3 *refused;

/*
 * At the end of a commit, still inside of sqlite3_step(): sets the connection's error code to SQLITE_RANGE, by asking a
 * statement that has no row for its first column.  sqlite3_step() sets the code anew when it returns, after SQLite's
 * hook has made the automatic checkpoint; so does all that an application calls on the way to a checkpoint of its own
 * (3.34 to 3.51: sqlite3Step(), sqlite3VdbeReset()).  Nobody sees the mark but a hook of the application's own.
 */
void
lks_wal_mark(struct lks_file *f)
{
    sqlite3 *connection = f->user != NULL ? *f->user : NULL;
    sqlite3_stmt *statement = NULL;
    if (connection == NULL)
        return;
    while ((statement = sqlite3_next_stmt(connection, statement)) != NULL)
        if (sqlite3_stmt_busy(statement) && sqlite3_data_count(statement) == 0) {
            (void)sqlite3_column_int(statement, 0);
            return;
        }
}

static bool
is_automatic(const struct lks_file *f)
{
    const struct lks_wal *wal = &f->wal;
    sqlite3 *connection = f->user != NULL ? *f->user : NULL;
    int rc;
    if (!wal->just_committed || wal->shared != 0 || wal->exclusive != 0 || connection == NULL)
        return false;
    rc = sqlite3_errcode(connection) & 0xff;
    /* One after the other, where several databases were committed at once. */
    return rc == SQLITE_RANGE || (rc == SQLITE_BUSY && refused == connection);
}

/* Of a checkpoint that somebody asked for: SQLite calls no busy handler for CKPT, and the background is to be no obstacle. */
static int
wait_for_checkpoint(struct lks_file *f)
{
    uint64_t deadline = lks_clock_ns() + CHECKPOINT_WAIT_NS;
    int rc;
    while (((rc = parent_lock(f, LKS_WAL_CKPT, 1, LOCK_EXCLUSIVE)) & 0xff) == SQLITE_BUSY &&
           lks_a32_relaxed(&f->db->shm->state.worker) != 0 && lks_clock_ns() < deadline)
        lks_clock_nap_ms(1);
    return rc;
}

static int
lock_checkpoint(struct lks_file *f)
{
    bool automatic;
    if (!f->wal.attached)
        return parent_lock(f, LKS_WAL_CKPT, 1, LOCK_EXCLUSIVE);
    automatic = is_automatic(f);
    if (automatic && lks_checkpoint_awake(f->db, f->wal.index)) {
        refused = *f->user;
        return SQLITE_BUSY;
    }
    refused = NULL;
    return automatic ? parent_lock(f, LKS_WAL_CKPT, 1, LOCK_EXCLUSIVE) : wait_for_checkpoint(f);
}

/* ------------------------------------------------------------------------------------------------
 * xShmLock
 * --------------------------------------------------------------------------------------------- */

/* All but the read lock of a transaction. */
static int
dispatch(struct lks_file *f, int offset, int n, int flags)
{
    bool reset = offset == LKS_WAL_READ0 + 1 && n == LKS_WAL_READERS - 1;
    switch (flags) {
    case LOCK_EXCLUSIVE:
        if (offset == LKS_WAL_WRITE && n == 1)
            return lock_write(f);
        if (offset == LKS_WAL_CKPT && n == 1)
            return lock_checkpoint(f);
        if (offset > LKS_WAL_READ0 && n == 1)
            return lock_mark(f, offset);
        return reset ? lock_for_reset(f, offset, n) : parent_lock(f, offset, n, flags);
    case UNLOCK_EXCLUSIVE:
        if (offset == LKS_WAL_WRITE && n == 1)
            return unlock_write(f);
        return reset ? unlock_after_reset(f, offset, n) : parent_lock(f, offset, n, flags);
    default: return parent_lock(f, offset, n, flags);
    }
}

static int
lock_any(struct lks_file *f, int offset, int n, int flags)
{
    struct lks_wal *wal = &f->wal;
    uint32_t bits = ((1u << n) - 1) << offset;
    uint32_t *mask = (flags & SQLITE_SHM_EXCLUSIVE) != 0 ? &wal->exclusive : &wal->shared;
    bool lock = (flags & SQLITE_SHM_LOCK) != 0;
    bool wrote = wal->written && (wal->exclusive & LKS_WAL_BIT(LKS_WAL_WRITE)) != 0;
    int rc;

    if (lock)
        lks_wait_before_lock(f);
    rc = dispatch(f, offset, n, flags);
    if (!lock) {
        *mask &= ~bits;
        if (wrote && offset == LKS_WAL_WRITE)
            wal->just_committed = true;
        return rc;
    }
    wal->just_committed = false;
    if (rc == SQLITE_OK) {
        *mask |= bits;
        if (offset == LKS_WAL_WRITE)
            begin_write(wal);
    }
    return rc;
}

/* The read lock of a transaction: all that most of them ask for, so it takes the short way. */
static int
lock_shared(struct lks_file *f, int offset, int n)
{
    int rc;
    lks_wait_before_lock(f);
    rc = lock_read(f, offset, n);
    f->wal.just_committed = false;
    if (rc == SQLITE_OK)
        f->wal.shared |= 1u << offset;
    return rc;
}

static int
unlock_shared(struct lks_file *f, int offset, int n)
{
    f->wal.shared &= ~(1u << offset);
    return unlock_read(f, offset, n);
}

int
lks_wal_lock(struct lks_file *f, int offset, int n, int flags)
{
    if (offset < LKS_WAL_READ0 || n != 1)
        return lock_any(f, offset, n, flags);
    if (flags == LOCK_SHARED)
        return lock_shared(f, offset, n);
    if (flags == UNLOCK_SHARED)
        return unlock_shared(f, offset, n);
    return lock_any(f, offset, n, flags);
}
