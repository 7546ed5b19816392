/*
 * Joining the coordination file in WAL mode.
 *
 * A connection is attached from the moment at which SQLite maps its wal-index until it unmaps it.  All that time it
 * has SQLite's SHARED lock on the database file, so the journal mode cannot change under it.  Lockstep takes no
 * lock on that file.  In exclusive locking mode, where the index is private memory, nothing is ever mapped, and
 * nothing attached.
 *
 * Whatever hinders it (no permission, a filesystem that is refused, a damaged file that others use) is told in the
 * log, once, and the connection goes on as a stock one: syncs are not put off, nobody queues.
 */
#include "base/clock.h"
#include "base/log.h"
#include "coord/attach.h"
#include "coord/groupsync.h"
#include "coord/reader.h"
#include "coord/registry.h"
#include "os/map.h"
#include "vfs/vfs.h"
#include "vfs/wait.h"
#include "vfs/wal_pages.h"

#define RETRY_NS (1000 * LKS_NS_PER_MS)
#define CLOSERS_WAIT_NS (20 * LKS_NS_PER_MS)

/* The name may lead to another file by now: SQLite goes on with the one that it has open. */
static bool
has_moved(struct lks_file *f)
{
    int moved = 0;
    return f->real->pMethods->xFileControl(f->real, SQLITE_FCNTL_HAS_MOVED, &moved) == SQLITE_OK &&
           moved != 0;
}

struct main_search {
    const struct lks_file *file;
    const char *name;
};

static bool
is_main(struct lks_file *other, void *arg)
{
    const struct main_search *search = arg;
    return other->connection == search->file->connection && other->name == search->name;
}

static bool
has_foreign_main(struct lks_file *f)
{
    struct main_search search = {f, NULL};
    if (f->connection == NULL)
        return true;
    /* The very pointer that xOpen got. */
    search.name = sqlite3_db_filename(f->connection, "main");
    return !lks_files_find(is_main, &search);
}

void
lks_wal_refresh(struct lks_file *f)
{
    if (f->uri.shm != LKS_SHM_NATIVE && f->wal.index != NULL)
        lks_copy_file_refresh(f->real);
}

static enum lockstep_status
join(struct lks_file *f)
{
    enum lockstep_status status =
        lks_registry_get(f->name, &f->uri.options, &lks_io_parent, &lks_checkpoint_hooks, &f->db);
    if (status != LOCKSTEP_OK) {
        f->db = NULL;
        return status;
    }
    status = f->db->readonly ? LOCKSTEP_READONLY : lks_checkpoint_prepare(f->db, f->uri.shm);
    if (status == LOCKSTEP_OK)
        status = lks_attach(f->db, false);
    if (status == LOCKSTEP_OK)
        status = lks_conn_open(f->db, NULL, &f->conn);
    if (status != LOCKSTEP_OK) {
        (void)lks_registry_put(f->db);
        f->db = NULL;
    }
    return status;
}

static void
apply_settings(struct lks_file *f)
{
    struct lks_shm_state *state = &f->db->shm->state;
    if (f->uri.checkpoint_off)
        lks_a32_set_relaxed(&state->checkpoint_off, 1);
    if (f->uri.log_limit != 0)
        lks_a64_set_relaxed(&state->log_limit, f->uri.log_limit);
}

void
lks_wal_attach(struct lks_file *f)
{
    enum lockstep_status status;
    uint64_t now;
    if (f->wal.attached || f->readonly || f->exclusive || f->db != NULL || f->wal.index == NULL ||
        *f->fork_guard == 0)
        return;
    now = lks_clock_coarse_ns();
    if (now < f->wal.retry_ns)
        return;
    status = sqlite3_threadsafe() != 0 && !has_moved(f) ? join(f) : LOCKSTEP_NOTSTORE;
    if (status != LOCKSTEP_OK) {
        f->wal.retry_ns = now + RETRY_NS;
        if (!f->wal.told && status != LOCKSTEP_BUSY)
            lks_log(LKS_WARNING, "%s: cannot be coordinated (%s); it is used as stock SQLite uses it", f->name,
                    lks_status_name(status));
        f->wal.told = f->wal.told || status != LOCKSTEP_BUSY;
        return;
    }
    f->wal.attached = true;
    f->wal.foreign_main = has_foreign_main(f);
    if (!lks_reader_enter(f->db, f->conn->reader.connection, &f->wal.slot))
        f->wal.slot = 0;
    apply_settings(f);
}

void
lks_wal_detach(struct lks_file *f)
{
    struct lks_wal *wal = &f->wal;
    if (!wal->attached)
        return;
    if (*f->fork_guard != 0) {
        struct lks_shm_state *state = &f->db->shm->state;
        if (wal->slot != 0)
            lks_reader_leave(f->db, wal->slot);
        /* What is to be durable without anybody waiting: who leaves does not leave it to chance. */
        if (wal->log != NULL && lks_a64_seq(&state->pending_since_ns) != 0)
            (void)!lks_groupsync_run(f->db, lks_wal_sync_log, f);
    }
    wal->slot = 0;
    wal->attached = false;
    /* Somebody of this thread's past may be sleeping for us: see lks_wait_sleep(). */
    lks_wait_bar(f);
    lks_wait_granted(f);
    lks_file_drop_connection(f);
    lks_wait_unbar(f);
    wal->owns_writer = wal->stock_busy = wal->paused = wal->leaving = false;
    wal->kept_bytes = 0;
    lks_wal_pages_free(wal->pages);
    wal->pages = NULL;
    f->ticket = 0;
}

static bool
is_alone(const struct lockstep_db *db)
{
    uint32_t i;
    for (i = 0; i < LKS_MAX_CLIENTS; i++)
        if (i != db->client && lks_a32_acquire(&db->shm->clients[i].pid) != 0 &&
            (lks_a32_seq(&db->shm->clients[i].flags) & LKS_CLIENT_LEAVING) == 0)
            return false;
    return true;
}

/*
 * SQLite's last connection takes EXCLUSIVE to check the log in and remove it.  Two that close at the same time
 * both find the other's SHARED, and the log stays; so the process that is the last to say that it leaves, which is one
 * only, tries again until the others have gone.
 */
int
lks_wal_lock_exclusive(struct lks_file *f)
{
    struct lks_a32 *flags;
    uint64_t deadline;
    bool alone;
    int rc;
    if (!f->wal.attached || *f->fork_guard == 0 || lks_registry_references(f->db) != 1)
        return f->real->pMethods->xLock(f->real, SQLITE_LOCK_EXCLUSIVE);
    /* The process's own checkpointer would be in the way. */
    f->db->hooks->stop_worker(f->db);
    f->wal.paused = true;
    flags = &f->db->shm->clients[f->db->client].flags;
    if (!f->wal.leaving)
        lks_a32_add(flags, LKS_CLIENT_LEAVING);
    f->wal.leaving = true;
    alone = is_alone(f->db);
    deadline = lks_clock_ns() + CLOSERS_WAIT_NS;
    while ((rc = f->real->pMethods->xLock(f->real, SQLITE_LOCK_EXCLUSIVE)) == SQLITE_BUSY && alone &&
           lks_clock_ns() < deadline)
        lks_clock_nap_ms(1);
    return rc;
}

void
lks_wal_resume(struct lks_file *f)
{
    if (f->wal.leaving)
        lks_a32_add(&f->db->shm->clients[f->db->client].flags, (uint32_t)-(int)LKS_CLIENT_LEAVING);
    f->wal.leaving = f->wal.paused = false;
    (void)!f->db->hooks->start_worker(f->db);
}
