#include "vfs/wait.h"

#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "coord/client.h"
#include "os/proclocks.h"

/* From here on a wait is mentioned in the log, once a second. */
#define LOG_AFTER_NS (100 * LKS_NS_PER_MS)
#define LOG_AGAIN_NS (1000 * LKS_NS_PER_MS)
/* A refusal that is older than this is not what the retry is about. */
#define RETRY_NS (2000 * LKS_NS_PER_MS)

/* No busy timeout of SQLite's own sleeps for longer at a time. */
#define SLICE_NS (100 * LKS_NS_PER_MS)

/*
 * The file whose RESERVED this thread was refused last; looked up in the list, never followed.  Its address is the
 * file's `refused_by`.
 */
static __thread uint64_t refused_serial;

/* A process that has WRITE of the wal-index and is not in the queue. */
static bool
describe_outsider(struct lks_file *file, char *out, size_t capacity)
{
    struct lks_proclocks_process process;
    int32_t pid = lks_wal_outsider(file);
    if (pid == 0 || !lks_proclocks_look("/proc", pid, &process))
        return false;
    snprintf(out, capacity, "%s (pid %d%s), outside the queue", process.program, (int)pid,
             process.state == 'T' ? ", stopped" : "");
    return true;
}

void
lks_wait_describe(struct lks_file *file, char *out, size_t capacity)
{
    uint64_t since = 0, now = lks_clock_coarse_ns();
    uint32_t owner;
    char who[96];
    if (file->conn == NULL) {
        snprintf(out, capacity, "nobody");
        return;
    }
    if (file->conn->store_full) {
        uint32_t worker = lks_a32_relaxed(&file->db->shm->state.worker);
        lks_client_describe(file->db, worker - 1, who, sizeof who);
        snprintf(out, capacity, "the store, which is full until %s has written it",
                 worker != 0 ? who : "a worker");
        return;
    }
    if (file->wal.attached && describe_outsider(file, out, capacity))
        return;
    owner = lks_queue_owner(file->db, &since);
    if (owner >= LKS_MAX_CLIENTS) {
        snprintf(out, capacity, "nobody");
        return;
    }
    lks_client_describe(file->db, owner, who, sizeof who);
    snprintf(out, capacity, "%s, for %.3f s", who, now > since ? (double)(now - since) / 1e9 : 0.0);
}

void
lks_wait_refused(struct lks_file *file)
{
    uint64_t now = lks_clock_coarse_ns();
    refused_serial = file->serial;
    file->refused_by = &refused_serial;
    file->wants_writer = true;
    if (file->busy_since_ns == 0) {
        file->busy_since_ns = now;
        return;
    }
    if (now - file->busy_since_ns < LOG_AFTER_NS || now - file->busy_logged_ns < LOG_AGAIN_NS)
        return;
    file->busy_logged_ns = now;
    lks_wait_describe(file, file->blocker, sizeof file->blocker);
    lks_log(LKS_NOTICE, "%s: has waited %.3f s for the writer lock; it is held by %s", file->name,
            (double)(now - file->busy_since_ns) / 1e9, file->blocker);
}

void
lks_wait_granted(struct lks_file *file)
{
    refused_serial = 0;
    file->wants_writer = false;
    file->busy_since_ns = 0;
}

/* OK: the lock is reserved for the retry and, in WAL mode, no stock process has WRITE. */
static enum lockstep_status
wait_for_turn(struct lks_file *file, uint64_t wait_ns)
{
    uint64_t end = lks_clock_ns() + wait_ns;
    enum lockstep_status status = lks_conn_wait(file->conn, wait_ns);
    if (status == LOCKSTEP_OK && file->wal.stock_busy && !lks_wal_probe(file, end))
        return LOCKSTEP_TIMEOUT;
    return status;
}

void
lks_wait_before_begin(struct lks_file *file)
{
    uint64_t now;
    if (!file->wants_writer)
        return;
    file->wants_writer = false;
    now = lks_clock_coarse_ns();
    if (now - file->busy_since_ns > RETRY_NS) {
        /* Another matter: the application gave up then. */
        file->busy_since_ns = 0;
        lks_conn_leave_queue(file->conn);
        return;
    }
    (void)!wait_for_turn(file, file->uri.lock_wait_ms * LKS_NS_PER_MS);
}

void
lks_wait_bar(struct lks_file *file)
{
    if (*file->fork_guard != 0)
        pthread_mutex_lock(&file->sleep_mutex);
}

void
lks_wait_unbar(struct lks_file *file)
{
    if (*file->fork_guard != 0)
        pthread_mutex_unlock(&file->sleep_mutex);
}

void
lks_wait_claim(struct lks_file *file)
{
    lks_wait_bar(file);
    file->refused_by = NULL;
    lks_wait_unbar(file);
}

static bool
is_refused(struct lks_file *file, void *arg)
{
    struct lks_file **out = arg;
    if (file->serial != refused_serial || file->conn == NULL)
        return false;
    /* Held until we have slept: xClose waits for it, and who uses the file next.  Not had: that has happened. */
    if (pthread_mutex_trylock(&file->sleep_mutex) != 0)
        return false;
    if (file->refused_by != &refused_serial) {
        pthread_mutex_unlock(&file->sleep_mutex);
        return false;
    }
    *out = file;
    return true;
}

uint64_t
lks_wait_sleep(uint64_t wait_ns)
{
    enum lockstep_status status = LOCKSTEP_TIMEOUT;
    while (refused_serial != 0 && status == LOCKSTEP_TIMEOUT && wait_ns > 0) {
        uint64_t slice = wait_ns < SLICE_NS ? wait_ns : SLICE_NS;
        struct lks_file *file = NULL;
        if (!lks_files_find(is_refused, &file))
            break;
        if (*file->fork_guard != 0) {
            status = wait_for_turn(file, slice);
            file->wants_writer = false;
            file->sleeps = true;
        } else {
            status = LOCKSTEP_NOMEM;
        }
        pthread_mutex_unlock(&file->sleep_mutex);
        if (status == LOCKSTEP_TIMEOUT)
            wait_ns -= slice;
    }
    /* Each retry that is refused sets it again: a later sleep of the application's is its own. */
    refused_serial = 0;
    return status == LOCKSTEP_OK ? 0 : wait_ns;
}
