/*
 * COMMIT in WAL mode.
 *
 *   1. SQLite has appended the frames; with FULL it calls xSync of the log: put off, see wal_file.c.
 *   2. It publishes the wal-index header: others see the commit.
 *   3. It gives WRITE up: before that a ticket is drawn, which covers the frames (lks_wal_publish()).
 *   4. COMMIT_PHASETWO, whose result COMMIT returns: if durability was asked for, wait for the ticket.
 *
 * Death before 3: the commit is visible, if 2 was reached, and nobody was told that it is durable.  Any later
 * ticket covers its frames, for they stand before it in the log.
 */
#include <errno.h>

#include "base/crashpoint.h"
#include "base/log.h"
#include "coord/groupsync.h"
#include "os/file.h"
#include "vfs/vfs.h"

#define SAY_AFTER_MS 5000

enum lockstep_status
lks_wal_sync_log(void *file)
{
    struct lks_file *f = file;
    int rc = f->wal.log->pMethods->xSync(f->wal.log, f->wal.sync_flags != 0 ? f->wal.sync_flags
                                                                            : SQLITE_SYNC_NORMAL);
    if (rc == SQLITE_OK)
        return LOCKSTEP_OK;
    lks_os_set_errno(EIO);
    return LOCKSTEP_IOERR;
}

/* What the transaction that ends asked for. */
static enum lockstep_durability
asked_durability(const struct lks_file *f)
{
    if (f->uri.durability != LKS_DURABILITY_AS_ASKED)
        return (enum lockstep_durability)f->uri.durability;
    if (f->wal.put_off)
        return LOCKSTEP_FULL_SYNC;
    return f->synchronous == 0 ? LOCKSTEP_OFF : LOCKSTEP_ASYNC;
}

void
lks_wal_publish(struct lks_file *f)
{
    LKS_CRASH_POINT("wal:appended");
    f->ticket = lks_groupsync_draw(f->db);
    f->wal.ticketed = true;
    f->wal.ticket_change = f->wal.snapshot.change =
        lks_wal_index_word(f->wal.index, LKS_INDEX_CHANGE);
    f->wal.lags = asked_durability(f) == LOCKSTEP_ASYNC;
    if (f->wal.lags)
        lks_groupsync_note(f->db, f->ticket);
    LKS_CRASH_POINT("wal:ticketed");
}

static int
wait_durable(struct lks_file *f)
{
    enum lockstep_status status;
    while ((status = lks_groupsync_wait(f->db, f->ticket, SAY_AFTER_MS, lks_wal_sync_log, f)) ==
           LOCKSTEP_TIMEOUT)
        lks_log(LKS_WARNING, "%s: a commit waits for more than 5 s to become durable: the disk is slow",
                f->name);
    if (status == LOCKSTEP_OK)
        return SQLITE_OK;
    lks_log(LKS_ERROR,
            "%s: commit %llu is visible but not durable: a sync of the log failed; close the database in all "
            "processes",
            f->name, (unsigned long long)f->ticket);
    return SQLITE_IOERR_FSYNC;
}

int
lks_wal_commit(struct lks_file *f)
{
    struct lks_wal *wal = &f->wal;
    bool full = asked_durability(f) == LOCKSTEP_FULL_SYNC;
    bool written = wal->written, synced = wal->synced;
    wal->written = wal->put_off = false;
    wal->waited_disk = written && full;
    if (written && wal->attached)
        lks_wal_mark(f);
    if (!written || !full || synced)
        return SQLITE_OK;
    LKS_CRASH_POINT("wal:visible");
    if (wal->attached && wal->ticketed)
        return wait_durable(f);
    /* SQLite has not let the lock go, so it drew no ticket; but durability=full was asked for. */
    if (wal->attached)
        return lks_groupsync_run(f->db, lks_wal_sync_log, f) == LOCKSTEP_OK ? SQLITE_OK
                                                                          : SQLITE_IOERR_FSYNC;
    return lks_wal_sync_log(f) == LOCKSTEP_OK ? SQLITE_OK : SQLITE_IOERR_FSYNC;
}

uint64_t
lks_wal_ticket(struct lks_file *f)
{
    uint32_t seen = f->wal.snapshot.change;
    /*
     * What it has seen of others may have no ticket yet (the committer is between steps 2 and 3) or never get one
     * (a stock process): a new one covers all.
     */
    if (f->ticket == 0 || f->wal.ticket_change != seen) {
        f->ticket = lks_groupsync_draw(f->db);
        f->wal.ticket_change = seen;
    }
    return f->ticket;
}

enum lockstep_status
lks_wal_wait(struct lks_file *f, uint64_t ticket, int timeout_ms)
{
    return lks_groupsync_wait(f->db, ticket, timeout_ms, f->wal.log != NULL ? lks_wal_sync_log : NULL, f);
}
