/*
 * The background thread of a database in WAL mode, one a process.
 *
 * The process that holds WORKER does the work for all:
 *   lag          the log is synced when the oldest commit that nobody waits for is max_lag / 2 old;
 *   checkpoints  PASSIVE once 1000 frames or more are to be written back, which makes nobody wait.  Writers that go on
 *                meanwhile keep the log from being reset, so the rest, by then short, is written back as the owner of
 *                WRITER: the next writer finds it empty and begins anew.  A file beyond its limit is then
 *                truncated, unless that would wait for a reader;
 *   mending      a log that was poisoned, if we were the first to come after all had left.
 *
 * The thread is started by the first commit that finds none at work, in whatever process: a process that only reads has
 * none, and its locks and system calls stay as cheap as those of a single-threaded program.
 *
 * It has a connection of its own over the parent VFS: so SQLite's inode table knows of it, and closing it drops no
 * lock of the process.  With shm=copy it is over copy_file.c, and its index a copy that it has to refresh.  The
 * connection is opened when first needed and lives in this thread only.
 *
 * field          changed under
 * mutex          -
 * running, stop  mutex
 * thread         lks_attach(), lks_detach() and the process's last connection, never two at once
 * the others     the thread
 */
#include "coord/attach.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <time.h>

#include "base/clock.h"
#include "base/crashpoint.h"
#include "base/log.h"
#include "coord/client.h"
#include "coord/groupsync.h"
#include "os/futex.h"
#include "os/file.h"
#include "vfs/vfs.h"

/* A checkpoint is due when so many frames are to be written back: what is appended in CHECKPOINT_NS, within bounds. */
#define CHECKPOINT_FRAMES 1000u
#define CHECKPOINT_FRAMES_MOST 8000u
/* What writers may be held off for, and how often a checkpoint is made again to come to that. */
#define SHORT_REST 128u
#define ROUNDS_MOST 4u
#define CHECKPOINT_NS (50 * LKS_NS_PER_MS)
/* So long a log means that the background does not keep up or is stopped: SQLite's own checkpoints help. */
#define HELP_FRAMES (16 * CHECKPOINT_FRAMES)
#define DEFAULT_LOG_LIMIT (64ull << 20)

#define IDLE_NS (1000 * LKS_NS_PER_MS)
#define BACK_OFF_MIN_NS (50 * LKS_NS_PER_MS)
#define BACK_OFF_MAX_NS (1000 * LKS_NS_PER_MS)
#define TURN_WAIT_NS (50 * LKS_NS_PER_MS)
/* A snapshot that is older is a reader's, and not of one who is about to end its commit. */
#define LONG_READER_NS (20 * LKS_NS_PER_MS)
#define COMMITTERS_WAIT_NS (10 * LKS_NS_PER_MS)
#define COMMITTERS_LOOK_NS (LKS_NS_PER_MS / 4)
#define MEND_BYTES 65536

/* Values of state.worker_asleep, as in store/worker.c. */
enum { AWAKE = 0, IDLE = 1, NAPPING = 2 };

struct checkpointer {
    struct lockstep_db *db;
    struct lks_mutex mutex;
    pthread_cond_t wake;
    pthread_t thread;
    bool running;
    bool stop;
    struct lks_a32 started; /* a launch was tried; a hint for committers */

    enum lks_shm_kind shm; /* of the process's first connection */
    bool mend; /* the log was poisoned when we came, and nobody was there */
    sqlite3 *connection;
    sqlite3_file *main, *log;
    volatile uint32_t *index;
    struct lks_place place;
    uint64_t not_before_ns; /* the next checkpoint */
    uint64_t last_ns;       /* when the last one ended */
    uint64_t back_off_ns;
};

static enum lockstep_status launch(struct lockstep_db *db);

static struct checkpointer *
checkpointer_of(const struct lockstep_db *db)
{
    return db->store;
}

static bool
stopping(struct checkpointer *c)
{
    bool stop;
    lks_mutex_lock(&c->mutex);
    stop = c->stop;
    lks_mutex_unlock(&c->mutex);
    return stop;
}

/* ------------------------------------------------------------------------------------------------
 * The connection
 * --------------------------------------------------------------------------------------------- */

static void
close_connection(struct checkpointer *c)
{
    if (c->connection != NULL)
        (void)sqlite3_close(c->connection);
    c->connection = NULL;
    c->main = c->log = NULL;
    c->index = NULL;
}

/* Its log and its wal-index, which are there while the connection is open. */
static bool
find_files(struct checkpointer *c)
{
    sqlite3_file *main = NULL;
    void volatile *index = NULL;
    if (sqlite3_file_control(c->connection, "main", SQLITE_FCNTL_FILE_POINTER, &main) != SQLITE_OK ||
        sqlite3_file_control(c->connection, "main", SQLITE_FCNTL_JOURNAL_POINTER, &c->log) != SQLITE_OK ||
        main->pMethods == NULL || main->pMethods->iVersion < 2 || c->log == NULL ||
        c->log->pMethods == NULL)
        return false;
    /* Mapped already: this only tells where. */
    if (main->pMethods->xShmMap(main, 0, 32768, 0, &index) != SQLITE_OK || index == NULL)
        return false;
    c->main = main;
    c->index = index;
    return true;
}

/* Where the index is a copy. */
static void
refresh(struct checkpointer *c)
{
    if (c->shm != LKS_SHM_NATIVE && c->main != NULL)
        lks_copy_file_refresh(c->main);
}

static bool
open_connection(struct checkpointer *c)
{
    sqlite3_vfs *vfs;
    int rc;
    if (c->connection != NULL)
        return true;
    vfs = lks_copy_vfs(c->shm);
    if (vfs == NULL)
        return false;
    rc = sqlite3_open_v2(c->db->path, &c->connection,
                         SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_PRIVATECACHE, vfs->zName);
    /* Its checkpoints sync; it makes none by itself; and it has read, so that the log is open. */
    if (rc == SQLITE_OK)
        rc = sqlite3_exec(c->connection,
                          "PRAGMA synchronous=NORMAL; PRAGMA wal_autocheckpoint=0; PRAGMA schema_version",
                          NULL, NULL, NULL);
    if (rc == SQLITE_OK && find_files(c))
        return true;
    close_connection(c);
    return false;
}

static enum lockstep_status
sync_log(void *arg)
{
    struct checkpointer *c = arg;
    if (c->log->pMethods->xSync(c->log, SQLITE_SYNC_NORMAL) == SQLITE_OK)
        return LOCKSTEP_OK;
    lks_os_set_errno(EIO);
    return LOCKSTEP_IOERR;
}

/* ------------------------------------------------------------------------------------------------
 * Checkpoints
 * --------------------------------------------------------------------------------------------- */

static uint32_t
frames_in(const volatile uint32_t *index)
{
    return lks_wal_index_word(index, LKS_INDEX_MAX_FRAME);
}

static uint32_t
frames_to_write(const volatile uint32_t *index)
{
    uint32_t frames = frames_in(index), done = lks_wal_index_word(index, LKS_INDEX_BACKFILLED);
    return frames > done ? frames - done : 0;
}

static uint64_t
log_bytes(struct checkpointer *c)
{
    sqlite3_int64 size = 0;
    return c->log->pMethods->xFileSize(c->log, &size) == SQLITE_OK ? (uint64_t)size : 0;
}

static uint64_t
log_limit(const struct checkpointer *c)
{
    uint64_t limit = lks_a64_relaxed(&c->db->shm->state.log_limit);
    return limit != 0 ? limit : DEFAULT_LOG_LIMIT;
}

static uint32_t
frames_wanted(const struct lks_shm_state *state)
{
    uint32_t wanted = lks_a32_relaxed(&state->log_wanted);
    return wanted >= CHECKPOINT_FRAMES && wanted <= CHECKPOINT_FRAMES_MOST ? wanted : CHECKPOINT_FRAMES;
}

/* The faster the log grows the more is written back at once: pages that were written again are written once. */
static void
adapt(struct checkpointer *c, uint32_t frames)
{
    uint64_t now = lks_clock_ns(), wanted = CHECKPOINT_FRAMES;
    if (c->last_ns != 0 && now > c->last_ns)
        wanted = frames * CHECKPOINT_NS / (now - c->last_ns);
    if (wanted < CHECKPOINT_FRAMES)
        wanted = CHECKPOINT_FRAMES;
    if (wanted > CHECKPOINT_FRAMES_MOST)
        wanted = CHECKPOINT_FRAMES_MOST;
    lks_a32_set_relaxed(&c->db->shm->state.log_wanted, (uint32_t)wanted);
    c->last_ns = now;
}

/* For people. */
static void
publish_progress(struct checkpointer *c)
{
    struct lks_shm_state *state = &c->db->shm->state;
    uint32_t done = lks_wal_index_word(c->index, LKS_INDEX_BACKFILLED);
    bool held = c->back_off_ns != 0 && frames_to_write(c->index) >= CHECKPOINT_FRAMES;
    lks_a64_set_relaxed(&state->log_bytes, log_bytes(c));
    lks_a32_set_relaxed(&state->log_frames, frames_in(c->index));
    lks_a32_set_relaxed(&state->log_backfilled, done);
    if (!held)
        lks_a64_set_relaxed(&state->log_held_since_ns, 0);
    else if (lks_a64_relaxed(&state->log_held_since_ns) == 0)
        lks_a64_set_relaxed(&state->log_held_since_ns, lks_clock_ns());
    lks_a32_set_relaxed(&state->log_held_at, held ? done + 1 : 0);
}

static int
run_checkpoint(struct checkpointer *c, int mode)
{
    int frames = 0, done = 0;
    int rc = sqlite3_wal_checkpoint_v2(c->connection, "main", mode, &frames, &done);
    if (sqlite3_extended_errcode(c->connection) == SQLITE_IOERR_FSYNC && rc != SQLITE_OK)
        /* Of the log or of the database: it is not told which. */
        lks_groupsync_poison(c->db, EIO);
    else if (rc != SQLITE_OK && (rc & 0xff) != SQLITE_BUSY && (rc & 0xff) != SQLITE_LOCKED)
        lks_log(LKS_WARNING, "%s: a checkpoint failed: %s; it is tried again", c->db->path,
                sqlite3_errmsg(c->connection));
    if (rc == SQLITE_OK)
        lks_a64_add(&c->db->shm->state.checkpoints, 1);
    LKS_CRASH_POINT("checkpoint:done");
    return rc;
}

enum behind { NOBODY, A_COMMITTER, A_READER };

/* Does one of Lockstep's readers not see the newest frame?  Who waits in COMMIT still has its snapshot. */
static enum behind
who_is_behind(struct checkpointer *c)
{
    const struct lks_shm *shm = c->db->shm;
    uint32_t high = lks_a32_acquire(&shm->state.slots_high), newest = frames_in(c->index), i;
    enum behind behind = NOBODY;
    for (i = 1; i <= high && i < LKS_MAX_SLOTS; i++) {
        uint64_t word = lks_a64_acquire(&shm->slots[i].word);
        if (lks_slot_state_of(word) != LKS_SLOT_ACTIVE || lks_slot_snapshot(word) >= newest)
            continue;
        if (lks_clock_ns() > lks_a64_relaxed(&shm->slots[i].since_ns) + LONG_READER_NS)
            return A_READER;
        behind = A_COMMITTER;
    }
    return behind;
}

/* Those who are about to end their commits let go of their snapshots as soon as a sync ends.  False: it is no use. */
static bool
wait_for_committers(struct checkpointer *c)
{
    struct lks_shm_state *state = &c->db->shm->state;
    uint64_t deadline = lks_clock_ns() + COMMITTERS_WAIT_NS;
    for (;;) {
        uint32_t seen = lks_a32_seq(&state->sync_bell);
        enum behind behind = who_is_behind(c);
        if (behind != A_COMMITTER)
            return behind == NOBODY;
        if (lks_clock_ns() >= deadline)
            return false;
        lks_a32_add(&state->sync_sleepers, 1);
        lks_futex_wait(&state->sync_bell, seen, COMMITTERS_LOOK_NS);
        lks_a32_add(&state->sync_sleepers, (uint32_t)-1);
    }
}

/* What writers have added meanwhile, with the writers held off; then the next one resets the log. */
static void
finish_as_owner(struct checkpointer *c)
{
    LKS_CRASH_POINT("checkpoint:writer");
    refresh(c);
    if (!wait_for_committers(c))
        return;
    if (run_checkpoint(c, SQLITE_CHECKPOINT_PASSIVE) == SQLITE_OK && frames_to_write(c->index) == 0 &&
        log_bytes(c) > log_limit(c))
        /* Without a busy handler nobody is waited for. */
        (void)run_checkpoint(c, SQLITE_CHECKPOINT_TRUNCATE);
}

static void
finish(struct checkpointer *c)
{
    struct lks_a32 *finishing = &c->db->shm->state.log_finishing;
    /* Whoever is refused for our sake waits for us, instead of being told BUSY: see wal_lock.c. */
    lks_a32_set_relaxed(finishing, 1);
    if (lks_queue_lock(c->db, &c->place, TURN_WAIT_NS) == LOCKSTEP_OK) {
        finish_as_owner(c);
        lks_queue_unlock(c->db);
    }
    lks_a32_set_relaxed(finishing, 0);
}

static void
checkpoint(struct checkpointer *c)
{
    uint32_t before = frames_to_write(c->index), rest = before, last, rounds = 0;
    int rc;
    LKS_CRASH_POINT("checkpoint:due");
    /* Once more while it pays: writers are held off for the rest. */
    do {
        last = rest;
        rc = run_checkpoint(c, SQLITE_CHECKPOINT_PASSIVE);
        rest = frames_to_write(c->index);
    } while (rc == SQLITE_OK && rest > SHORT_REST && rest < last / 2 && ++rounds < ROUNDS_MOST);
    /* A log beyond its limit is not to grow on for the sake of a short wait. */
    if (rc == SQLITE_OK && (rest < frames_wanted(&c->db->shm->state) || log_bytes(c) > log_limit(c)))
        finish(c);
    adapt(c, before);
    /* No progress: a reader or another checkpoint is in the way, or the disk fails.  Do not spin. */
    if (rc == SQLITE_OK && frames_to_write(c->index) < before)
        c->back_off_ns = 0;
    else
        c->back_off_ns = c->back_off_ns == 0                    ? BACK_OFF_MIN_NS
                         : c->back_off_ns > BACK_OFF_MAX_NS / 2 ? BACK_OFF_MAX_NS
                                                                : 2 * c->back_off_ns;
    c->not_before_ns = lks_clock_ns() + c->back_off_ns;
    publish_progress(c);
}

static bool
checkpoint_due(const struct checkpointer *c, uint64_t now)
{
    return c->index != NULL && now >= c->not_before_ns &&
           frames_to_write(c->index) >= frames_wanted(&c->db->shm->state) &&
           lks_a32_relaxed(&c->db->shm->state.checkpoint_off) == 0;
}

/* The oldest commit that nobody waits for should have been synced by now. */
static bool
is_overdue(const struct lks_shm_state *state)
{
    uint64_t since = lks_a64_relaxed(&state->pending_since_ns);
    return since != 0 &&
           lks_clock_coarse_ns() > since + 2 * lks_a32_relaxed(&state->max_lag_ms) * LKS_NS_PER_MS;
}

void
lks_checkpoint_ensure(struct lockstep_db *db, const volatile uint32_t *index)
{
    const struct lks_shm_state *state = &db->shm->state;
    if (lks_a32_relaxed(&checkpointer_of(db)->started) != 0)
        return;
    if (lks_a32_relaxed(&state->worker) != 0 && !is_overdue(state) &&
        frames_to_write(index) < 2 * CHECKPOINT_FRAMES_MOST)
        return;
    (void)!launch(db);
}

void
lks_checkpoint_notice(struct lockstep_db *db, const volatile uint32_t *index)
{
    struct lks_shm_state *state = &db->shm->state;
    uint32_t asleep = lks_a32_relaxed(&state->worker_asleep);
    lks_checkpoint_ensure(db, index);
    if (asleep == AWAKE || frames_to_write(index) < frames_wanted(state) ||
        lks_a64_relaxed(&state->log_held_since_ns) != 0)
        return;
    if (lks_a32_cas(&state->worker_asleep, asleep, AWAKE)) {
        lks_a32_add(&state->work_bell, 1);
        lks_futex_wake(&state->work_bell, UINT32_MAX);
    }
}

bool
lks_checkpoint_awake(struct lockstep_db *db, const volatile uint32_t *index)
{
    const struct lks_shm_state *state = &db->shm->state;
    if (lks_a32_relaxed(&state->checkpoint_off) != 0)
        return true; /* somebody else is to do it */
    return lks_a32_relaxed(&state->worker) != 0 && frames_to_write(index) < HELP_FRAMES;
}

/* ------------------------------------------------------------------------------------------------
 * Mending
 * --------------------------------------------------------------------------------------------- */

/* Every byte of the log anew, so that the kernel has to write it, then a sync that proves it. */
static bool
write_anew(struct checkpointer *c)
{
    unsigned char *part = malloc(MEND_BYTES);
    uint64_t size = log_bytes(c), at;
    bool good = part != NULL;
    for (at = 0; good && at < size; at += MEND_BYTES) {
        int n = size - at < MEND_BYTES ? (int)(size - at) : MEND_BYTES;
        good = c->log->pMethods->xRead(c->log, part, n, (sqlite3_int64)at) == SQLITE_OK &&
               c->log->pMethods->xWrite(c->log, part, n, (sqlite3_int64)at) == SQLITE_OK;
    }
    free(part);
    return good && sync_log(c) == LOCKSTEP_OK;
}

static void
mend(struct checkpointer *c)
{
    bool mended;
    if (lks_groupsync_poisoned(c->db) == 0) {
        c->mend = false;
        return;
    }
    /* WRITE keeps every writer off, also stock ones. */
    if (sqlite3_exec(c->connection, "BEGIN IMMEDIATE", NULL, NULL, NULL) != SQLITE_OK)
        return;
    mended = write_anew(c);
    (void)sqlite3_exec(c->connection, "ROLLBACK", NULL, NULL, NULL);
    if (!mended)
        return;
    lks_groupsync_heal(c->db);
    c->mend = false;
    lks_log(LKS_NOTICE, "%s: its log, which could not be synced, was written anew", c->db->path);
}

/* ------------------------------------------------------------------------------------------------
 * The thread
 * --------------------------------------------------------------------------------------------- */

/* When the log must be synced for those who do not wait; UINT64_MAX: nothing waits. */
static uint64_t
sync_due(const struct lks_shm_state *state, uint32_t quarters)
{
    uint64_t since = lks_a64_seq(&state->pending_since_ns);
    if (lks_a64_relaxed(&state->sync_wanted) > lks_a64_acquire(&state->durable))
        return 0;
    if (since == 0)
        return UINT64_MAX;
    return since + lks_a32_relaxed(&state->max_lag_ms) * LKS_NS_PER_MS / 4 * quarters;
}

static void
sync_if_due(struct checkpointer *c, uint32_t quarters)
{
    struct lks_shm_state *state = &c->db->shm->state;
    if (lks_clock_ns() < sync_due(state, quarters) || lks_groupsync_poisoned(c->db) != 0)
        return;
    LKS_CRASH_POINT("checkpoint:sync");
    if (open_connection(c))
        (void)!lks_groupsync_run(c->db, sync_log, c);
    else
        lks_clock_nap_ms(1);
    lks_a32_add(&state->sync_bell, 1);
    lks_futex_wake(&state->sync_bell, UINT32_MAX);
}

static void
sleep_local(struct checkpointer *c, uint64_t wait_ns)
{
    uint64_t end = lks_clock_ns() + wait_ns;
    struct timespec t = {.tv_sec = (time_t)(end / 1000000000ull), .tv_nsec = (long)(end % 1000000000ull)};
    lks_mutex_lock(&c->mutex);
    if (!c->stop)
        pthread_cond_timedwait(&c->wake, &c->mutex.mutex, &t);
    lks_mutex_unlock(&c->mutex);
}

/* The sleep of the process that is the worker: on the shared bell. */
static void
sleep_on_bell(struct checkpointer *c)
{
    struct lks_shm_state *state = &c->db->shm->state;
    uint32_t seen = lks_a32_seq(&state->work_bell);
    uint64_t due = sync_due(state, 2), now, wait_ns = IDLE_NS;
    lks_a32_set_relaxed(&state->worker_asleep, due == UINT64_MAX ? IDLE : NAPPING);
    /* Then the words: pairs with the read-modify-writes in lks_groupsync_note(). */
    lks_fence();
    due = sync_due(state, 2);
    now = lks_clock_ns();
    if (due < now + wait_ns)
        wait_ns = due > now ? due - now : 0;
    if (c->not_before_ns > now && c->not_before_ns < now + wait_ns)
        wait_ns = c->not_before_ns - now;
    if (wait_ns > 0 && !checkpoint_due(c, now) && !stopping(c))
        lks_futex_wait(&state->work_bell, seen, wait_ns);
    lks_a32_set_relaxed(&state->worker_asleep, AWAKE);
}

static void
work(struct checkpointer *c)
{
    if (open_connection(c)) {
        if (c->mend)
            mend(c);
        sync_if_due(c, 2);
        refresh(c);
        if (lks_groupsync_poisoned(c->db) == 0 && checkpoint_due(c, lks_clock_ns()))
            checkpoint(c);
        else
            publish_progress(c);
    }
    sleep_on_bell(c);
}

static bool
is_worker(struct lockstep_db *db)
{
    if (!lks_lockset_holds(&db->locks, LKS_BYTE_WORKER)) {
        if (lks_lockset_take(&db->locks, LKS_BYTE_WORKER, LKS_LOCK_EXCLUSIVE) != LOCKSTEP_OK)
            return false;
        /* As a dead worker may have left them. */
        lks_a32_set_relaxed(&db->shm->state.log_finishing, 0);
        lks_a32_set_relaxed(&db->shm->state.worker_asleep, AWAKE);
    }
    lks_a32_set_relaxed(&db->shm->state.worker, db->client + 1);
    return true;
}

static void *
thread_main(void *arg)
{
    struct checkpointer *c = arg;
    struct lks_shm_state *state = &c->db->shm->state;
    while (!stopping(c)) {
        if (is_worker(c->db)) {
            work(c);
            continue;
        }
        sleep_local(c, sync_due(state, 4) != UINT64_MAX ? lks_a32_relaxed(&state->max_lag_ms) * LKS_NS_PER_MS
                                                        : IDLE_NS);
        /* The worker may be stopped: the lag is kept all the same. */
        if (!stopping(c))
            sync_if_due(c, 5);
    }
    close_connection(c);
    return NULL;
}

static enum lockstep_status
launch(struct lockstep_db *db)
{
    struct checkpointer *c = checkpointer_of(db);
    enum lockstep_status status = LOCKSTEP_OK;
    sigset_t all, before;
    if (db->options.no_worker)
        return LOCKSTEP_OK;
    lks_mutex_lock(&c->mutex);
    if (c->running)
        goto unlock;
    c->stop = false;
    /* Signals are the application's: none is delivered to this thread. */
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    c->running = pthread_create(&c->thread, NULL, thread_main, c) == 0;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    lks_a32_set_relaxed(&c->started, 1);
    if (!c->running) {
        lks_log(LKS_ERROR, "%s: cannot start the thread that checkpoints", db->path);
        status = LOCKSTEP_NOMEM;
    }
unlock:
    lks_mutex_unlock(&c->mutex);
    return status;
}

/* On connecting, and after a pause: at once only if there is something to be done. */
static enum lockstep_status
start_worker(struct lockstep_db *db)
{
    struct checkpointer *c = checkpointer_of(db);
    const struct lks_shm_state *state = &db->shm->state;
    if (c->mend || lks_a64_relaxed(&state->pending_since_ns) != 0)
        return launch(db);
    if (!c->running)
        db->hooks->resign(db);
    return LOCKSTEP_OK;
}

static void
resign(struct lockstep_db *db)
{
    if (lks_lockset_holds(&db->locks, LKS_BYTE_WORKER)) {
        lks_a32_set_relaxed(&db->shm->state.worker, 0);
        lks_lockset_drop(&db->locks, LKS_BYTE_WORKER);
    }
}

static void
stop_worker(struct lockstep_db *db)
{
    struct checkpointer *c = checkpointer_of(db);
    if (!c->running)
        return;
    lks_mutex_lock(&c->mutex);
    c->stop = true;
    pthread_cond_signal(&c->wake);
    lks_mutex_unlock(&c->mutex);
    lks_a32_set_relaxed(&db->shm->state.worker_asleep, AWAKE);
    lks_a32_add(&db->shm->state.work_bell, 1);
    lks_futex_wake(&db->shm->state.work_bell, UINT32_MAX);
    pthread_join(c->thread, NULL);
    lks_mutex_lock(&c->mutex);
    c->running = false;
    lks_a32_set_relaxed(&c->started, 0);
    lks_mutex_unlock(&c->mutex);
    resign(db);
}

enum lockstep_status
lks_checkpoint_once(struct lockstep_db *db)
{
    struct checkpointer *c = checkpointer_of(db);
    enum lockstep_status status = LOCKSTEP_OK;
    if (c->running)
        return LOCKSTEP_BUSY; /* the thread does it */
    if (!open_connection(c))
        return LOCKSTEP_BUSY;
    if (c->mend)
        mend(c);
    status = lks_groupsync_run(db, sync_log, c);
    if (status == LOCKSTEP_OK && lks_a32_relaxed(&db->shm->state.checkpoint_off) == 0)
        checkpoint(c);
    close_connection(c);
    return status;
}

/* ------------------------------------------------------------------------------------------------
 * What connecting and leaving ask for
 * --------------------------------------------------------------------------------------------- */

static enum lockstep_status
recover(struct lockstep_db *db, bool adopt)
{
    struct lks_shm_state *state = &db->shm->state;
    uint32_t i;
    /* The dead may have led, owned the lock, or said that they sleep. */
    if (adopt)
        for (i = 0; i < LKS_MAX_CLIENTS; i++)
            if (lks_a32_acquire(&db->shm->clients[i].pid) != 0)
                (void)lks_client_reap(db, i);
    lks_a32_set_relaxed(&state->worker_asleep, AWAKE);
    lks_a32_set_relaxed(&state->checkpoint_off, 0);
    checkpointer_of(db)->mend = lks_groupsync_poisoned(db) != 0;
    return LOCKSTEP_OK;
}

/* SQLite's locks went with the dead writer; what he had not committed is no part of the log. */
static enum lockstep_status
repair(struct lockstep_db *db)
{
    (void)db;
    return LOCKSTEP_OK;
}

/* Each connection has synced what it had to when it left. */
static enum lockstep_status
drain(struct lockstep_db *db)
{
    (void)db;
    return LOCKSTEP_OK;
}

static enum lockstep_status
leave(struct lockstep_db *db)
{
    /* The file stays, and says so to whoever comes next. */
    return lks_groupsync_poisoned(db) == 0 ? LOCKSTEP_OK : LOCKSTEP_IOERR;
}

static void
destroy(struct lockstep_db *db)
{
    struct checkpointer *c = checkpointer_of(db);
    pthread_cond_destroy(&c->wake);
    lks_mutex_destroy(&c->mutex);
    free(c);
    db->store = NULL;
}

enum lockstep_status
lks_checkpoint_prepare(struct lockstep_db *db, enum lks_shm_kind shm)
{
    enum lockstep_status status = LOCKSTEP_OK;
    pthread_condattr_t monotonic;
    struct checkpointer *c;
    lks_mutex_lock(&db->attach_mutex);
    if (db->store != NULL)
        goto unlock;
    c = calloc(1, sizeof *c);
    if (c == NULL) {
        status = LOCKSTEP_NOMEM;
        goto unlock;
    }
    c->db = db;
    c->shm = shm;
    lks_mutex_init(&c->mutex, LKS_RANK_WORKER);
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&c->wake, &monotonic);
    pthread_condattr_destroy(&monotonic);
    lks_place_init(&c->place, 0);
    db->store = c;
unlock:
    lks_mutex_unlock(&db->attach_mutex);
    return status;
}

const struct lks_database_hooks lks_checkpoint_hooks = {
    .mode = LKS_MODE_WAL,
    .recover = recover,
    .repair = repair,
    .drain = drain,
    .leave = leave,
    .start_worker = start_worker,
    .stop_worker = stop_worker,
    .resign = resign,
    .destroy = destroy,
};
