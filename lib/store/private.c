#include "store/private.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/crashpoint.h"
#include "base/log.h"
#include "coord/attach.h"
#include "coord/format.h"
#include "coord/registry.h"
#include "os/map.h"
#include "shm/header.h"
#include "store/collect.h"
#include "store/dbfile.h"
#include "store/overlay.h"
#include "store/store.h"

#define DMS1_WAIT_MS 2000u
#define STOCK_WAIT_MS 100u
#define HEAD_BYTES 100u
#define WRITE_VERSION 18u
/* Who is found connected and has left when we come has been there; more often it is somebody whom we cannot join. */
#define MAX_LOOKS 5

struct lks_private {
    struct lks_overlay *image;
    uint64_t snapshot;
};

/* What dead processes left, copied on write: it may be walked like any, and nothing gets out. */
struct left {
    struct lockstep_db *db;
    struct lks_overlay *image;
    struct lks_shm *shm;
    uint64_t bytes;
    uint64_t committed, flushed;
};

/* Was it said before?  By the commit that it is about; UINT64_MAX: that what was left is of no use. */
static bool
told(struct lockstep_db *db, uint64_t commit)
{
    struct lks_store *store = lks_store_of(db);
    bool before = store->private_told == commit;
    store->private_told = commit;
    return before;
}

/* ------------------------------------------------------------------------------------- the coordination file */

/* Of another state of the file than the dead knew, with the journal played back?  As check_file() in recovery.c. */
static enum lockstep_status
fits(const struct left *left, bool *out_fits)
{
    const struct lks_shm_state *state = &left->shm->state;
    unsigned char head[HEAD_BYTES];
    uint64_t size = lks_overlay_size(left->image), counter, before = lks_a64_relaxed(&state->file_size);
    uint32_t unit = 1u << (lks_a32_relaxed(&state->unit_log2) & 31);
    size_t got = 0;
    enum lockstep_status status = lks_overlay_read(left->image, 0, head, sizeof head, &got);
    if (status != LOCKSTEP_OK)
        return status;
    counter = lks_dbfile_counter_in(head, got);
    *out_fits = (counter == lks_a64_relaxed(&state->file_counter) &&
                 (size == before || (before % unit != 0 && size == before + unit - before % unit))) ||
                (counter == lks_a64_relaxed(&state->next_counter) && size == lks_a64_relaxed(&state->next_size));
    return LOCKSTEP_OK;
}

/* Layer 3.  CORRUPT: it is damaged inside; nothing was laid over then. */
static enum lockstep_status
lay_commits(struct left *left)
{
    struct lks_shm *shm = left->shm;
    const struct lks_shm_commit *newest = &shm->ring[left->committed % LKS_RING_SIZE];
    const struct lks_geometry *g = lks_geometry_of(lks_a32_relaxed(&shm->state.unit_log2));
    struct lks_collection found = {.from = left->flushed, .target = left->committed};
    uint64_t size = lks_a64_relaxed(&newest->size);
    enum lockstep_status status = LOCKSTEP_OK;
    size_t i;
    if (lks_a64_relaxed(&newest->id) != left->committed || left->flushed > left->committed)
        return LOCKSTEP_CORRUPT;
    /* While the unit changes nothing is in use. */
    if (g == NULL && (left->flushed != left->committed || lks_a32_relaxed(&shm->state.unit_log2) != 0))
        return LOCKSTEP_CORRUPT;
    if (g != NULL && left->flushed != left->committed) {
        uint64_t chunks = lks_a32_relaxed(&shm->state.chunks);
        if (left->bytes < LKS_SHM_BYTES + chunks * g->chunk_bytes)
            return LOCKSTEP_CORRUPT;
        status = lks_pagetable_walk(shm, g, lks_collect, &found);
    }
    if (status == LOCKSTEP_OK)
        lks_collect_newest(&found);
    for (i = 0; i < found.count && status == LOCKSTEP_OK; i++)
        status = lks_overlay_write(left->image, (uint64_t)found.changes[i].unit_no << g->unit_log2,
                                   lks_chunk_data(shm, g, found.changes[i].block), lks_unit_bytes(g));
    if (status == LOCKSTEP_OK)
        lks_overlay_resize(left->image, size);
    free(found.changes);
    return status;
}

static void
pass_over(const struct left *left, const char *why)
{
    /* Once, and not for each transaction. */
    if (told(left->db, UINT64_MAX))
        return;
    lks_log(LKS_ERROR, "%s: %s %s; it is passed over. Commits that may wait in it are not seen", left->db->path,
            left->db->coord_path, why);
}

/* Of a sound file: the commits in it, if they apply. */
static enum lockstep_status
read_sound(struct left *left, uint64_t *out_snapshot)
{
    char stored[LKS_FORMAT_SIZE];
    bool applies = false;
    enum lockstep_status status;
    left->committed = lks_a64_acquire(&left->shm->state.committed);
    left->flushed = lks_a64_acquire(&left->shm->state.flushed);
    /* What a log's clients left has nothing in it. */
    if (lks_a32_relaxed(&left->shm->state.mode) != LKS_MODE_STORE)
        return LOCKSTEP_OK;
    lks_format_stored(left->shm, stored);
    status = lks_format_match(left->db, stored);
    if (status == LOCKSTEP_FORMAT && left->committed == left->flushed)
        return LOCKSTEP_OK;
    if (status == LOCKSTEP_FORMAT)
        lks_log(LKS_ERROR,
                "%s: processes that were killed and left commits use it in the format '%s', and this program's is "
                "'%s': it is not let in",
                left->db->path, stored, left->db->format);
    if (status == LOCKSTEP_OK)
        status = fits(left, &applies);
    if (status == LOCKSTEP_OK && !applies) {
        if (left->committed != left->flushed)
            pass_over(left, "does not fit the database, which somebody else has changed since");
        return LOCKSTEP_OK;
    }
    if (status == LOCKSTEP_OK)
        status = lay_commits(left);
    if (status == LOCKSTEP_CORRUPT) {
        pass_over(left, "is damaged inside");
        return LOCKSTEP_OK;
    }
    if (status != LOCKSTEP_OK)
        return status;
    *out_snapshot = left->committed;
    if (left->committed != left->flushed && !told(left->db, left->committed))
        lks_log(LKS_NOTICE, "%s: reading %llu commits that processes which died had made; they wait to be written",
                left->db->path, (unsigned long long)(left->committed - left->flushed));
    return LOCKSTEP_OK;
}

/* What the coordination file behind `fd` has.  Nobody is connected, and DMS1 is held shared. */
static enum lockstep_status
read_left(struct lockstep_db *db, int fd, struct lks_private *view)
{
    struct left left = {.db = db, .image = view->image};
    struct lks_file_stat stat;
    char boot_id[LKS_BOOT_ID_SIZE];
    enum lks_header_verdict verdict;
    void *base = NULL;
    enum lockstep_status status = lks_process_boot_id(boot_id);
    if (status == LOCKSTEP_OK)
        status = lks_file_stat_fd(fd, &stat);
    if (status != LOCKSTEP_OK || stat.size_bytes == 0)
        return status;
    if (stat.size_bytes > SIZE_MAX / 2)
        return LOCKSTEP_NOMEM; /* in a 32-bit program, of a 64-bit one's file */
    status = lks_map_copy(fd, (size_t)stat.size_bytes, &base);
    if (status != LOCKSTEP_OK)
        return status;
    left.shm = base;
    left.bytes = stat.size_bytes;
    verdict = lks_header_check(left.shm, left.bytes, &db->id, boot_id);
    switch (verdict) {
    case LKS_HEADER_GOOD: status = read_sound(&left, &view->snapshot); break;
    /* A process that died before it had anything in it, or one that was alone: what it had is gone. */
    case LKS_HEADER_EMPTY:
    case LKS_HEADER_ALONE: break;
    case LKS_HEADER_OTHER_BOOT:
        if (lks_a64_relaxed(&left.shm->state.committed) != lks_a64_relaxed(&left.shm->state.flushed))
            pass_over(&left, lks_header_words(verdict));
        break;
    default:
        if (lks_header_foreign(verdict) && lks_header_is_of_boot(left.shm, boot_id)) {
            lks_log(LKS_ERROR,
                    "%s: %s %s. Commits may be waiting in it: read the database with that build, or open it with "
                    "that for writing once",
                    db->path, db->coord_path, lks_header_words(verdict));
            status = LOCKSTEP_FORMAT;
        } else {
            pass_over(&left, lks_header_words(verdict));
        }
        break;
    }
    lks_map_release(base, (size_t)stat.size_bytes);
    return status;
}

/*
 * The close alone would not do: a child that was forked past libc has the descriptor, too, and with it the lock would stay
 * for as long as the child lives.
 */
static void
let_go(struct lockstep_db *db, int fd)
{
    if (fd >= 0)
        lks_bytelock_release(fd, LKS_LOCK_DESCRIPTION, LKS_LOCK_BASE + LKS_BYTE_DMS1, 1);
    lks_registry_passed(db);
}

/*
 * Opens the coordination file and holds DMS1 shared: nobody connects.  *out_fd -1: there is none.  STALE: somebody is
 * connected, or it was removed meanwhile.
 */
static enum lockstep_status
hold_still(struct lockstep_db *db, int *out_fd)
{
    struct lks_file_stat here, named;
    uint32_t waited_ms = 0;
    int32_t alone = 0, somebody = 0;
    int fd = -1;
    enum lockstep_status status = lks_registry_pass(db, db->coord_path, &fd);
    if (status != LOCKSTEP_OK && lks_os_errno() == ENOENT) {
        *out_fd = -1;
        return LOCKSTEP_OK;
    }
    if (status != LOCKSTEP_OK) {
        lks_log(LKS_ERROR, "%s: %s cannot be read (%s): without it the newest commits cannot be seen", db->path,
                db->coord_path, strerror(lks_os_errno()));
        return LOCKSTEP_CANTOPEN;
    }
    while ((status = lks_bytelock_try(fd, LKS_LOCK_DESCRIPTION, LKS_LOCK_SHARED, LKS_LOCK_BASE + LKS_BYTE_DMS1, 1)) ==
               LOCKSTEP_BUSY &&
           waited_ms++ < DMS1_WAIT_MS)
        lks_clock_nap_ms(1);
    if (status == LOCKSTEP_OK)
        status = lks_file_stat_fd(fd, &here);
    if (status == LOCKSTEP_OK && (lks_file_stat_path(db->coord_path, &named) != LOCKSTEP_OK ||
                                  !lks_file_same(&here.id, &named.id)))
        status = LOCKSTEP_STALE;
    _Static_assert(LKS_BYTE_DMS3 == LKS_BYTE_DMS2 + 1, "asked for in one go");
    if (status == LOCKSTEP_OK)
        status = lks_bytelock_holder(fd, LKS_LOCK_DESCRIPTION, LKS_LOCK_EXCLUSIVE, LKS_LOCK_BASE + LKS_BYTE_DMS2, 2,
                                     &somebody);
    if (status == LOCKSTEP_OK)
        status = lks_bytelock_holder(fd, LKS_LOCK_DESCRIPTION, LKS_LOCK_SHARED, LKS_LOCK_BASE + LKS_BYTE_DMS2, 1,
                                     &alone);
    if (status == LOCKSTEP_OK && somebody != 0)
        status = alone != 0 ? LOCKSTEP_BUSY : LOCKSTEP_STALE;
    if (status != LOCKSTEP_OK) {
        let_go(db, fd);
        return status;
    }
    *out_fd = fd;
    return LOCKSTEP_OK;
}

/* -------------------------------------------------------------------------------------------------- the view */

/* Layers 1 and 2.  The reader's lock is held. */
static enum lockstep_status
read_base(struct lockstep_db *db, struct lks_overlay *image)
{
    static const unsigned char untripped = 1;
    unsigned char head[HEAD_BYTES];
    bool rolled_back = false;
    int32_t writer = 0;
    size_t got = 0;
    /* A journal beside RESERVED is of a stock writer that lives, and has not come to write. */
    enum lockstep_status status = lks_bytelock_holder(db->locks.database_fd, LKS_LOCK_DESCRIPTION, LKS_LOCK_EXCLUSIVE,
                                                      LKS_SQLITE_RESERVED, 1, &writer);
    if (status == LOCKSTEP_OK && writer == 0) {
        status = lks_overlay_roll_back(image, db->journal_path, &rolled_back);
        if (status != LOCKSTEP_OK)
            lks_log(LKS_ERROR, "%s: %s cannot be read (%s)", db->path, db->journal_path,
                    strerror(lks_os_errno()));
    }
    if (rolled_back && !lks_store_of(db)->private_told_journal)
        lks_log(LKS_NOTICE, "%s: read as it was before the batch in %s, which stays as it is", db->path,
                db->journal_path);
    lks_store_of(db)->private_told_journal = rolled_back;
    if (status == LOCKSTEP_OK)
        status = lks_overlay_read(image, 0, head, sizeof head, &got);
    if (status != LOCKSTEP_OK || got < sizeof head || !lks_dbfile_is_sqlite(head))
        return status;
    if (head[WRITE_VERSION] == 2 || head[WRITE_VERSION + 1] == 2)
        return LOCKSTEP_NOTSTORE;
    /* As lks_dbfile_hide_tripwire(), once for all. */
    lks_dbfile_hide_tripwire(0, head, sizeof head);
    return head[WRITE_VERSION] == untripped ? lks_overlay_write(image, WRITE_VERSION, &untripped, 1) : status;
}

void
lks_private_close(struct lockstep_db *db, struct lks_private *view)
{
    if (view == NULL)
        return;
    lks_lockset_stock_unread(&db->locks);
    lks_overlay_free(view->image);
    free(view);
}

/* attach_mutex is held: while the descriptor is open nobody here attaches, whose locks its close would drop. */
static enum lockstep_status
look_locked(struct lockstep_db *db, struct lks_private **out)
{
    struct lks_private *view = NULL;
    struct lks_file_stat named;
    int fd = -1;
    enum lockstep_status status = hold_still(db, &fd);
    if (status != LOCKSTEP_OK)
        return status;
    LKS_CRASH_POINT("private:looked");
    status = lks_lockset_stock_read(&db->locks, STOCK_WAIT_MS);
    if (status != LOCKSTEP_OK)
        goto close;
    /* From here on nothing is written to the file.  If one has come since we looked, it may have commits. */
    if (fd < 0 && lks_file_stat_path(db->coord_path, &named) == LOCKSTEP_OK)
        status = LOCKSTEP_STALE;
    if (status == LOCKSTEP_OK && (view = calloc(1, sizeof *view)) == NULL)
        status = LOCKSTEP_NOMEM;
    if (status != LOCKSTEP_OK)
        goto unread;
    view->snapshot = 1;
    status = lks_overlay_new(db->locks.database_fd, &view->image);
    if (status == LOCKSTEP_OK)
        status = read_base(db, view->image);
    LKS_CRASH_POINT("private:rolled-back");
    if (status == LOCKSTEP_OK && fd >= 0)
        status = read_left(db, fd, view);
    LKS_CRASH_POINT("private:read");
    if (status == LOCKSTEP_OK) {
        *out = view;
        goto close;
    }
    lks_overlay_free(view->image);
    free(view);
unread:
    lks_lockset_stock_unread(&db->locks);
close:
    let_go(db, fd);
    return status;
}

enum lockstep_status
lks_private_open(struct lockstep_db *db, struct lks_private **out)
{
    int looks;
    for (looks = 0; looks < MAX_LOOKS; looks++) {
        struct lks_private *view = NULL;
        enum lockstep_status status = lks_attach(db, true);
        if (status == LOCKSTEP_READONLY) {
            LKS_CRASH_POINT("private:nobody");
            lks_mutex_lock(&db->attach_mutex);
            /* Another thread may have come in between. */
            status = lks_a32_relaxed(&db->attached) != 0 ? LOCKSTEP_STALE : look_locked(db, &view);
            lks_mutex_unlock(&db->attach_mutex);
        }
        if (status == LOCKSTEP_OK)
            *out = view;
        if (status != LOCKSTEP_STALE)
            return status;
    }
    lks_log(LKS_ERROR,
            "%s: processes are connected to it, and this one cannot write %s, where a reader marks what it reads; give it "
            "the permission, or read when they have left",
            db->path, db->coord_path);
    return LOCKSTEP_READONLY;
}

enum lockstep_status
lks_private_connect(struct lockstep_db *db)
{
    struct lks_private *view = NULL;
    enum lockstep_status status = lks_private_open(db, &view);
    if (status == LOCKSTEP_OK && view != NULL)
        lks_a32_set_release(&db->standby, 1);
    if (status == LOCKSTEP_OK)
        lks_private_close(db, view);
    return status;
}

uint64_t
lks_private_snapshot(const struct lks_private *view)
{
    return view->snapshot;
}

uint64_t
lks_private_size(const struct lks_private *view)
{
    return lks_overlay_size(view->image);
}

enum lockstep_status
lks_private_read(struct lks_private *view, uint64_t offset, void *buf, size_t size, size_t *out_read)
{
    return lks_overlay_read(view->image, offset, buf, size, out_read);
}
