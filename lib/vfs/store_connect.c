/*
 * A main database file's way into its database and out again: whose file it is, connecting, leaving; and what is asked of a
 * database that it is connected to, in either mode.
 */
#include "base/log.h"
#include "coord/attach.h"
#include "coord/groupsync.h"
#include "coord/registry.h"
#include "store/ticket.h"
#include "vfs/runner.h"
#include "vfs/vfs.h"

#define HEADER_BYTES 100

int
lks_sqlite_code(enum lockstep_status status, int io_error)
{
    switch (status) {
    case LOCKSTEP_OK: return SQLITE_OK;
    case LOCKSTEP_BUSY:
    case LOCKSTEP_STALE:
    case LOCKSTEP_TIMEOUT: return SQLITE_BUSY;
    case LOCKSTEP_FULL: return SQLITE_FULL;
    case LOCKSTEP_NOMEM: return SQLITE_NOMEM;
    case LOCKSTEP_CANTOPEN:
    case LOCKSTEP_FORMAT: return SQLITE_CANTOPEN;
    case LOCKSTEP_READONLY: return SQLITE_READONLY;
    case LOCKSTEP_MISUSE: return SQLITE_MISUSE;
    case LOCKSTEP_CORRUPT:
    case LOCKSTEP_IOERR:
    case LOCKSTEP_NOTSTORE: break;
    }
    return io_error;
}

/* Is the file in WAL mode, or has it a write-ahead log that SQLite must look at first? */
static int
belongs_to_parent(struct lks_file *f, bool *out_wal)
{
    unsigned char head[HEADER_BYTES];
    sqlite3_vfs *parent = lks_vfs_parent();
    int found = 0;
    int rc = f->real->pMethods->xRead(f->real, head, sizeof head, 0);
    if (rc != SQLITE_OK && rc != SQLITE_IOERR_SHORT_READ)
        return rc;
    *out_wal = rc == SQLITE_OK && (head[18] == 2 || head[19] == 2);
    if (*out_wal) {
        f->wal_wanted = 0;
        return SQLITE_OK;
    }
    rc = parent->xAccess(parent, f->wal_name, SQLITE_ACCESS_EXISTS, &found);
    *out_wal = found != 0 || f->wal_wanted > 0;
    /* SQLite may have refused the switch: this is not for ever. */
    if (f->wal_wanted > 0)
        f->wal_wanted--;
    return rc;
}

/* The codes of an attach that failed; NOTFOUND where the parent can go on, as stock SQLite would. */
static int
attach_failure(struct lks_file *f, enum lockstep_status status)
{
    switch (status) {
    case LOCKSTEP_BUSY: return SQLITE_BUSY;
    case LOCKSTEP_READONLY: /* nobody is there, or no permission */
        if (!f->readonly && !f->told_permission) {
            f->told_permission = true;
            lks_log(LKS_WARNING,
                    "%s-lockstep cannot be made or written (no permission for it or for its directory): the "
                    "database is used as stock SQLite uses it, and only read while commits wait there",
                    f->name);
        }
        return SQLITE_NOTFOUND;
    case LOCKSTEP_NOTSTORE: return SQLITE_NOTFOUND;
    default: break;
    }
    if (f->readonly && status == LOCKSTEP_CANTOPEN)
        return SQLITE_NOTFOUND;
    return lks_sqlite_code(status, SQLITE_CANTOPEN);
}

int
lks_store_file_connect(struct lks_file *f)
{
    enum lockstep_status status = LOCKSTEP_OK;
    bool wal = false;
    int rc;

    if (f->wal.attached)
        return SQLITE_NOTFOUND;
    if (f->conn != NULL && lks_a32_acquire(&f->db->attached) != 0)
        return SQLITE_OK;
    rc = belongs_to_parent(f, &wal);
    if (rc != SQLITE_OK || wal)
        return rc != SQLITE_OK ? rc : SQLITE_NOTFOUND;
    if (f->db == NULL)
        status = lks_store_open(f->name, &f->uri.options, &lks_io_parent, &f->db);
    if (status == LOCKSTEP_OK)
        status = lks_attach(f->db, f->readonly);
    if (status != LOCKSTEP_OK) {
        if (f->db != NULL) {
            (void)lks_store_close(f->db);
            f->db = NULL;
        }
        return attach_failure(f, status);
    }
    status = lks_conn_open(f->db, NULL, &f->conn);
    if (status != LOCKSTEP_OK)
        return SQLITE_NOMEM;
    f->version_snapshot = 0;
    return f->async && lks_runner_join(f) != LOCKSTEP_OK ? SQLITE_NOMEM : SQLITE_OK;
}

int
lks_file_connect(struct lks_file *f)
{
    int rc;
    if (f->wal.attached)
        return SQLITE_OK;
    rc = lks_store_file_connect(f);
    if (rc == SQLITE_NOTFOUND && f->connection != NULL && f->lock == SQLITE_LOCK_NONE &&
        !f->wal.foreign_main) {
        /* Whatever reads it maps the wal-index of a database in WAL mode. */
        (void)sqlite3_exec(f->connection, "SELECT 1 FROM main.sqlite_master LIMIT 1", NULL, NULL, NULL);
        rc = f->wal.attached ? SQLITE_OK : SQLITE_NOTFOUND;
    }
    return rc;
}

uint64_t
lks_file_ticket(struct lks_file *f)
{
    uint64_t seen = f->conn->reader.snapshot;
    if (f->wal.attached)
        return lks_wal_ticket(f);
    return seen > f->ticket ? seen : f->ticket;
}

uint64_t
lks_file_newest(struct lks_file *f)
{
    return f->wal.attached ? lks_groupsync_draw(f->db) : lks_a64_acquire(&f->db->shm->state.committed);
}

enum lockstep_status
lks_file_wait(struct lks_file *f, uint64_t ticket, int timeout_ms)
{
    return f->wal.attached ? lks_wal_wait(f, ticket, timeout_ms) : lks_ticket_wait(f->db, ticket, timeout_ms);
}

void
lks_file_drop_connection(struct lks_file *f)
{
    lks_runner_leave(f);
    lks_conn_close(f->conn);
    f->conn = NULL;
    if (f->db != NULL)
        (void)lks_store_close(f->db);
    f->db = NULL;
}

bool
lks_store_file_disconnect(struct lks_file *f)
{
    bool others = true;
    if (f->db == NULL)
        return true;
    if (f->lock != SQLITE_LOCK_NONE || lks_registry_references(f->db) != 1)
        return false;
    if (lks_lockset_others(&f->db->locks, LKS_BYTE_DMS2, LKS_LOCK_EXCLUSIVE, &others) !=
            LOCKSTEP_OK ||
        others)
        return false;
    if (lks_lockset_others(&f->db->locks, LKS_BYTE_DMS3, LKS_LOCK_EXCLUSIVE, &others) !=
            LOCKSTEP_OK ||
        others)
        return false;
    lks_file_drop_connection(f);
    return true;
}

/* On the heap the locks are not SQLite's: its table does not have them. */
static enum lockstep_status
note_lock(struct lks_file *f)
{
    enum lockstep_status status = LOCKSTEP_OK;
    if (f->uri.shm == LKS_SHM_HEAP)
        return LOCKSTEP_OK;
    if (lks_lock_note_is_carried(f->name)) {
        lks_log(LKS_ERROR, "%s: connections to it were carried across fork(), and SQLite takes their locks for this "
                           "process's; it can be used once they are closed, or after exec()", f->name);
        return LOCKSTEP_MISUSE;
    }
    if (f->note == NULL)
        status = lks_lock_note_open(f->name, &f->note);
    if (status == LOCKSTEP_OK)
        lks_lock_note_set(f->note, true);
    /* Without a name nobody opens it by that. */
    return status == LOCKSTEP_NOMEM ? status : LOCKSTEP_OK;
}

void
lks_file_drop_note(struct lks_file *f)
{
    if (f->note != NULL)
        lks_lock_note_set(f->note, false);
}

int
lks_file_begin_at_parent(struct lks_file *f)
{
    enum lockstep_status status = note_lock(f);
    int rc = lks_sqlite_code(status, SQLITE_IOERR_LOCK);
    if (rc == SQLITE_OK)
        rc = f->real->pMethods->xLock(f->real, SQLITE_LOCK_SHARED);
    f->real_locked = rc == SQLITE_OK;
    if (rc != SQLITE_OK)
        lks_file_drop_note(f);
    return rc;
}
