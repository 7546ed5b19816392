#include "vfs/keeper.h"

#include <errno.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/crashpoint.h"
#include "base/log.h"
#include "coord/groupsync.h"
#include "os/file.h"
#include "os/futex.h"
#include "vfs/copy_vfs.h"

/* What writers may be held off for, and how often a checkpoint is made again to come to that. */
#define SHORT_REST 128u
#define ROUNDS_MOST 4u
#define CHECKPOINT_NS (50 * LKS_NS_PER_MS)
#define DEFAULT_LOG_LIMIT (64ull << 20)
/* When a log that a reader keeps from being truncated is looked at again, though nothing is to be written back. */
#define LIMIT_AGAIN_NS (200 * LKS_NS_PER_MS)
/* So long after a pass the log does not grow as fast as was thought: what is worth a pass then gets one. */
#define AT_REST_NS (500 * LKS_NS_PER_MS)

#define BACK_OFF_MIN_NS (50 * LKS_NS_PER_MS)
#define BACK_OFF_MAX_NS (1000 * LKS_NS_PER_MS)
#define TURN_WAIT_NS (50 * LKS_NS_PER_MS)
/* A snapshot that is older is a reader's, and not of one who is about to end its commit. */
#define LONG_READER_NS (20 * LKS_NS_PER_MS)
#define COMMITTERS_WAIT_NS (10 * LKS_NS_PER_MS)
#define COMMITTERS_LOOK_NS (LKS_NS_PER_MS / 4)
#define MEND_BYTES 65536

void
lks_keeper_init(struct lks_keeper *k, struct lockstep_db *db, enum lks_shm_kind shm)
{
    *k = (struct lks_keeper){.db = db, .shm = shm};
    lks_place_init(&k->place, 0);
}

/* ------------------------------------------------------------------------------------------------
 * The connection
 * --------------------------------------------------------------------------------------------- */

void
lks_keeper_close(struct lks_keeper *k)
{
    if (k->connection != NULL)
        (void)sqlite3_close(k->connection);
    lks_lock_note_close(k->note);
    k->connection = NULL;
    k->main = k->log = NULL;
    k->index = NULL;
    k->note = NULL;
}

/* Its log and its wal-index, which are there while the connection is open. */
static bool
find_files(struct lks_keeper *k)
{
    sqlite3_file *main = NULL;
    void volatile *index = NULL;
    if (sqlite3_file_control(k->connection, "main", SQLITE_FCNTL_FILE_POINTER, &main) != SQLITE_OK ||
        sqlite3_file_control(k->connection, "main", SQLITE_FCNTL_JOURNAL_POINTER, &k->log) != SQLITE_OK ||
        main->pMethods == NULL || main->pMethods->iVersion < 2 || k->log == NULL ||
        k->log->pMethods == NULL)
        return false;
    /* Mapped already: this only tells where. */
    if (main->pMethods->xShmMap(main, 0, 32768, 0, &index) != SQLITE_OK || index == NULL)
        return false;
    k->main = main;
    k->index = index;
    return true;
}

void
lks_keeper_refresh(struct lks_keeper *k)
{
    if (k->shm != LKS_SHM_NATIVE && k->main != NULL)
        lks_copy_file_refresh(k->main);
}

bool
lks_keeper_open(struct lks_keeper *k)
{
    sqlite3_vfs *vfs;
    int rc;
    if (k->connection != NULL)
        return true;
    vfs = lks_copy_vfs(k->shm);
    if (vfs == NULL)
        return false;
    if (k->shm != LKS_SHM_HEAP) {
        if (lks_lock_note_open(k->db->path, &k->note) != LOCKSTEP_OK)
            return false;
        lks_lock_note_set(k->note, true);
    }
    rc = sqlite3_open_v2(k->db->path, &k->connection,
                         SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_PRIVATECACHE, vfs->zName);
    /* Its checkpoints sync; it makes none by itself; and it has read, so that the log is open. */
    if (rc == SQLITE_OK)
        rc = sqlite3_exec(k->connection,
                          "PRAGMA synchronous=NORMAL; PRAGMA wal_autocheckpoint=0; PRAGMA schema_version",
                          NULL, NULL, NULL);
    if (rc == SQLITE_OK && find_files(k))
        return true;
    lks_keeper_close(k);
    return false;
}

enum lockstep_status
lks_keeper_sync(void *keeper)
{
    struct lks_keeper *k = keeper;
    if (k->log->pMethods->xSync(k->log, SQLITE_SYNC_NORMAL) == SQLITE_OK)
        return LOCKSTEP_OK;
    lks_os_set_errno(EIO);
    return LOCKSTEP_IOERR;
}

/* ------------------------------------------------------------------------------------------------
 * Checkpoints
 * --------------------------------------------------------------------------------------------- */

static uint64_t
log_bytes(const struct lks_keeper *k)
{
    sqlite3_int64 size = 0;
    return k->log->pMethods->xFileSize(k->log, &size) == SQLITE_OK ? (uint64_t)size : 0;
}

static uint64_t
log_limit(const struct lks_keeper *k)
{
    uint64_t limit = lks_a64_relaxed(&k->db->shm->state.log_limit);
    return limit != 0 ? limit : DEFAULT_LOG_LIMIT;
}

static bool
is_beyond_limit(const struct lks_keeper *k)
{
    return log_bytes(k) > log_limit(k);
}

/* Half-way to its limit the log is to begin anew, though the rest is long and writers have to wait for it. */
static bool
is_long(const struct lks_keeper *k)
{
    uint64_t frame = LKS_FRAME_HEADER_BYTES + lks_wal_index_page(k->index);
    return lks_log_frames(k->index) * frame > log_limit(k) / 2 || is_beyond_limit(k);
}

/*
 * The faster the log grows the more is written back at once: pages that were written again are written once.  What the
 * last pass left, for a reader was in the way, has not come since.
 */
static void
adapt(struct lks_keeper *k, uint32_t before)
{
    uint64_t now = lks_clock_ns(), wanted = LKS_CHECKPOINT_FRAMES;
    uint32_t frames = before > k->left ? before - k->left : 0;
    if (k->last_ns != 0 && now > k->last_ns)
        wanted = frames * CHECKPOINT_NS / (now - k->last_ns);
    if (wanted < LKS_CHECKPOINT_FRAMES)
        wanted = LKS_CHECKPOINT_FRAMES;
    if (wanted > LKS_CHECKPOINT_FRAMES_MOST)
        wanted = LKS_CHECKPOINT_FRAMES_MOST;
    lks_a32_set_relaxed(&k->db->shm->state.log_wanted, (uint32_t)wanted);
    k->last_ns = now;
    k->left = lks_log_backlog(k->index);
}

/* For people. */
void
lks_keeper_publish(struct lks_keeper *k)
{
    struct lks_shm_state *state = &k->db->shm->state;
    uint32_t done = lks_wal_index_word(k->index, LKS_INDEX_BACKFILLED);
    bool held = k->back_off_ns != 0 && lks_log_backlog(k->index) >= LKS_CHECKPOINT_FRAMES;
    lks_a64_set_relaxed(&state->log_bytes, log_bytes(k));
    lks_a32_set_relaxed(&state->log_frames, lks_log_frames(k->index));
    lks_a32_set_relaxed(&state->log_backfilled, done);
    if (!held)
        lks_a64_set_relaxed(&state->log_held_since_ns, 0);
    else if (lks_a64_relaxed(&state->log_held_since_ns) == 0)
        lks_a64_set_relaxed(&state->log_held_since_ns, lks_clock_ns());
    lks_a32_set_relaxed(&state->log_held_at, held ? done + 1 : 0);
}

static int
run_checkpoint(struct lks_keeper *k, int mode)
{
    int frames = 0, done = 0;
    int rc = sqlite3_wal_checkpoint_v2(k->connection, "main", mode, &frames, &done);
    if (sqlite3_extended_errcode(k->connection) == SQLITE_IOERR_FSYNC && rc != SQLITE_OK) {
        lks_log(LKS_ERROR, "%s: a checkpoint could not sync the log or the database, it is not told which",
                k->db->path);
        lks_groupsync_poison(k->db, EIO);
    } else if (rc != SQLITE_OK && (rc & 0xff) != SQLITE_BUSY && (rc & 0xff) != SQLITE_LOCKED)
        lks_log(LKS_WARNING, "%s: a checkpoint failed: %s; it is tried again", k->db->path,
                sqlite3_errmsg(k->connection));
    if (rc == SQLITE_OK)
        lks_a64_add(&k->db->shm->state.checkpoints, 1);
    LKS_CRASH_POINT("checkpoint:done");
    return rc;
}

enum behind { NOBODY, A_COMMITTER, A_READER };

/* Does one of Lockstep's readers not see the newest frame?  Who waits in COMMIT still has its snapshot. */
static enum behind
who_is_behind(struct lks_keeper *k)
{
    const struct lks_shm *shm = k->db->shm;
    uint32_t high = lks_a32_acquire(&shm->state.slots_high), newest = lks_log_frames(k->index), i;
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
wait_for_committers(struct lks_keeper *k)
{
    struct lks_shm_state *state = &k->db->shm->state;
    uint64_t deadline = lks_clock_ns() + COMMITTERS_WAIT_NS;
    for (;;) {
        uint32_t seen = lks_a32_seq(&state->sync_bell);
        enum behind behind = who_is_behind(k);
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
finish_as_owner(struct lks_keeper *k)
{
    LKS_CRASH_POINT("checkpoint:writer");
    lks_keeper_refresh(k);
    if (!wait_for_committers(k))
        return;
    if (run_checkpoint(k, SQLITE_CHECKPOINT_PASSIVE) == SQLITE_OK && lks_log_backlog(k->index) == 0 &&
        is_beyond_limit(k))
        /* Without a busy handler nobody is waited for. */
        (void)run_checkpoint(k, SQLITE_CHECKPOINT_TRUNCATE);
}

static void
finish(struct lks_keeper *k)
{
    struct lks_a32 *finishing = &k->db->shm->state.log_finishing;
    /* Whoever is refused for our sake waits for us, instead of being told BUSY: see wal_lock.c. */
    lks_a32_set_relaxed(finishing, 1);
    if (lks_queue_lock(k->db, &k->place, TURN_WAIT_NS) == LOCKSTEP_OK) {
        finish_as_owner(k);
        lks_queue_unlock(k->db);
    }
    lks_a32_set_relaxed(finishing, 0);
}

void
lks_keeper_pass(struct lks_keeper *k)
{
    uint32_t before = lks_log_backlog(k->index), rest = before, last, rounds = 0;
    int rc;
    LKS_CRASH_POINT("checkpoint:due");
    /* Once more while it pays: writers are held off for the rest. */
    do {
        last = rest;
        rc = run_checkpoint(k, SQLITE_CHECKPOINT_PASSIVE);
        rest = lks_log_backlog(k->index);
    } while (rc == SQLITE_OK && rest > SHORT_REST && rest < last / 2 && ++rounds < ROUNDS_MOST);
    if (rc == SQLITE_OK && (rest <= SHORT_REST || is_long(k)))
        finish(k);
    adapt(k, before);
    /* No progress: a reader or another checkpoint is in the way, or the disk fails.  Do not spin. */
    if (rc == SQLITE_OK && lks_log_backlog(k->index) < before)
        k->back_off_ns = 0;
    else
        k->back_off_ns = k->back_off_ns == 0                    ? BACK_OFF_MIN_NS
                         : k->back_off_ns > BACK_OFF_MAX_NS / 2 ? BACK_OFF_MAX_NS
                                                                : 2 * k->back_off_ns;
    k->not_before_ns = lks_clock_ns() + k->back_off_ns;
    k->limit_not_before_ns = lks_clock_ns() + LIMIT_AGAIN_NS;
    lks_keeper_publish(k);
}

bool
lks_keeper_due(const struct lks_keeper *k, uint64_t now_ns)
{
    const struct lks_shm_state *state = &k->db->shm->state;
    uint32_t backlog;
    if (k->index == NULL || now_ns < k->not_before_ns || lks_a32_relaxed(&state->checkpoint_off) != 0)
        return false;
    backlog = lks_log_backlog(k->index);
    return backlog >= lks_log_wanted(state) ||
           (backlog >= LKS_CHECKPOINT_FRAMES && now_ns >= k->last_ns + AT_REST_NS) ||
           (now_ns >= k->limit_not_before_ns && is_beyond_limit(k));
}

uint64_t
lks_keeper_next_ns(const struct lks_keeper *k, uint64_t now_ns)
{
    if (k->not_before_ns > now_ns)
        return k->not_before_ns;
    if (k->index != NULL && k->last_ns + AT_REST_NS > now_ns && lks_log_backlog(k->index) >= LKS_CHECKPOINT_FRAMES)
        return k->last_ns + AT_REST_NS;
    return UINT64_MAX;
}

/* ------------------------------------------------------------------------------------------------
 * Mending
 * --------------------------------------------------------------------------------------------- */

/* Every byte of the log anew, so that the kernel has to write it, then a sync that proves it. */
static bool
write_anew(struct lks_keeper *k)
{
    unsigned char *part = malloc(MEND_BYTES);
    uint64_t size = log_bytes(k), at;
    bool good = part != NULL;
    for (at = 0; good && at < size; at += MEND_BYTES) {
        int n = size - at < MEND_BYTES ? (int)(size - at) : MEND_BYTES;
        good = k->log->pMethods->xRead(k->log, part, n, (sqlite3_int64)at) == SQLITE_OK &&
               k->log->pMethods->xWrite(k->log, part, n, (sqlite3_int64)at) == SQLITE_OK;
    }
    free(part);
    return good && lks_keeper_sync(k) == LOCKSTEP_OK;
}

bool
lks_keeper_mend(struct lks_keeper *k)
{
    bool mended;
    if (lks_groupsync_poisoned(k->db) == 0)
        return true;
    /* WRITE keeps every writer off, also stock ones. */
    if (sqlite3_exec(k->connection, "BEGIN IMMEDIATE", NULL, NULL, NULL) != SQLITE_OK)
        return false;
    mended = write_anew(k);
    (void)sqlite3_exec(k->connection, "ROLLBACK", NULL, NULL, NULL);
    if (!mended)
        return false;
    /* Told before it can be seen. */
    lks_log(LKS_NOTICE, "%s: its log, which could not be synced, was written anew", k->db->path);
    lks_groupsync_heal(k->db);
    return true;
}
