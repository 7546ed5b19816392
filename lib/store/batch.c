#include "store/batch.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/crashpoint.h"
#include "base/log.h"
#include "store/announce.h"
#include "store/dbfile.h"
#include "store/office.h"
#include "store/store.h"
#include "store/worker.h"

#define RUN_BYTES (1u << 20) /* neighbours are written and read together up to this */
#define DRAIN_WAIT_MS 10000u
#define LOG_AGAIN_NS (10000 * LKS_NS_PER_MS)

/* Step 3. */
static enum lockstep_status
collect_changes(struct lks_batch *batch)
{
    struct lks_shm *shm = batch->db->shm;
    struct lks_collection *found = &batch->found;
    enum lockstep_status status;
    found->from = batch->from;
    found->target = batch->target;
    lks_reader_walk(batch->db, &batch->pin);
    /* The marks that this takes are lost if the batch fails: then the next one looks everywhere. */
    batch->settled = batch->store->settled;
    batch->store->settled = false;
    status = batch->settled ? lks_pagetable_walk_dirty(shm, batch->g, batch->target, lks_collect, found)
                            : lks_pagetable_walk(shm, batch->g, lks_collect, found);
    /* What was found stays linked: the pin keeps the newest version <= target of each unit. */
    lks_reader_rest(batch->db, &batch->pin);
    if (status == LOCKSTEP_OK)
        lks_collect_newest(found);
    return status;
}

/* Step 6: the pages [first, last] of the file as it is, those that it has. */
static enum lockstep_status
journal_range(struct lks_batch *batch, uint64_t first, uint64_t last)
{
    uint32_t page_size = batch->page_size;
    uint64_t pages = (batch->file_size + page_size - 1) / page_size;
    uint64_t lock_page = LKS_SQLITE_PENDING / page_size;
    uint64_t at_once = RUN_BYTES / page_size;
    uint64_t page;
    enum lockstep_status status = LOCKSTEP_OK;
    for (page = first; page <= last && page < pages && status == LOCKSTEP_OK;) {
        uint64_t n = last - page + 1, i;
        if (n > at_once)
            n = at_once;
        if (n > pages - page)
            n = pages - page;
        status = lks_dbfile_read(batch->db, page * page_size, batch->store->run, (size_t)(n * page_size));
        for (i = 0; i < n && status == LOCKSTEP_OK; i++)
            if (page + i != lock_page)
                status = lks_journal_add(batch->store->journal, (uint32_t)(page + i + 1),
                                         batch->store->run + i * page_size);
        page += n;
    }
    return status;
}

/* The units may be larger or smaller than the pages that the file has now. */
static enum lockstep_status
journal_changes(struct lks_batch *batch)
{
    uint32_t page_size = batch->page_size;
    uint64_t next_page = 0; /* the first page that is not yet in the journal */
    size_t i = 0;
    enum lockstep_status status =
        lks_journal_begin(batch->store->journal, page_size,
                          (batch->file_size + page_size - 1) / page_size * page_size);
    while (i < batch->found.count && status == LOCKSTEP_OK) {
        uint64_t begin = (uint64_t)batch->found.changes[i].unit_no << batch->g->unit_log2;
        uint64_t end = begin + lks_unit_bytes(batch->g);
        uint64_t first, last;
        /* A run of neighbours. */
        while (++i < batch->found.count &&
               (uint64_t)batch->found.changes[i].unit_no << batch->g->unit_log2 == end)
            end += lks_unit_bytes(batch->g);
        first = begin / page_size;
        last = (end - 1) / page_size;
        if (first < next_page)
            first = next_page;
        if (first <= last) {
            status = journal_range(batch, first, last);
            next_page = last + 1;
        }
    }
    /* What is cut off must come back with the rest. */
    if (status == LOCKSTEP_OK && batch->file_size_after < batch->file_size) {
        uint64_t first = batch->file_size_after / page_size;
        if (first < next_page)
            first = next_page;
        status = journal_range(batch, first, (batch->file_size - 1) / page_size);
    }
    return status;
}

/*
 * A sync of the database, which settles what earlier batches wrote without one as well.  Linux calls pages
 * clean that it could not write, and says so once: if there were such, their content has to be written
 * again.
 */
static enum lockstep_status
sync_database(struct lks_batch *batch)
{
    struct lks_shm_state *state = &batch->db->shm->state;
    enum lockstep_status status = batch->db->io->sync(batch->store->database);
    if (status != LOCKSTEP_OK && lks_a64_acquire(&state->durable) < batch->from)
        lks_a32_set_relaxed(&state->distrusted, 1);
    return status;
}

/* The whole file as the kernel has it, so that all of it is dirty again.  Content and size stay. */
static enum lockstep_status
write_file_anew(struct lks_batch *batch)
{
    const struct lks_io *io = batch->db->io;
    struct lks_shm_state *state = &batch->db->shm->state;
    uint64_t at = 0;
    size_t got = RUN_BYTES;
    enum lockstep_status status = LOCKSTEP_OK;
    if (lks_a32_relaxed(&state->distrusted) == 0)
        return LOCKSTEP_OK;
    for (; got == RUN_BYTES && status == LOCKSTEP_OK; at += got) {
        status = io->read(batch->store->database, at, batch->store->run, RUN_BYTES, &got);
        if (status == LOCKSTEP_OK && got > 0)
            status = io->write(batch->store->database, at, batch->store->run, got);
    }
    LKS_CRASH_POINT("batch:written-anew");
    if (status == LOCKSTEP_OK)
        status = sync_database(batch);
    if (status != LOCKSTEP_OK)
        return status;
    lks_a32_set_relaxed(&state->distrusted, 0);
    lks_log(LKS_NOTICE, "%s: a sync had failed; the file was written anew", batch->db->path);
    return LOCKSTEP_OK;
}

/* Step 7. */
static enum lockstep_status
write_changes(struct lks_batch *batch)
{
    const struct lockstep_db *db = batch->db;
    uint32_t unit = lks_unit_bytes(batch->g);
    enum lockstep_status status = LOCKSTEP_OK;
    uint64_t file_end = batch->file_size;
    size_t i = 0;
    while (i < batch->found.count && status == LOCKSTEP_OK) {
        uint64_t begin = (uint64_t)batch->found.changes[i].unit_no << batch->g->unit_log2;
        size_t bytes = 0;
        do {
            memcpy(batch->store->run + bytes, lks_chunk_data(db->shm, batch->g, batch->found.changes[i].block),
                   unit);
            bytes += unit;
            i++;
        } while (i < batch->found.count && bytes + unit <= RUN_BYTES &&
                 (uint64_t)batch->found.changes[i].unit_no << batch->g->unit_log2 == begin + bytes);
        if (begin + bytes > batch->file_size_after)
            bytes = (size_t)(batch->file_size_after - begin);
        if (!db->alone)
            lks_dbfile_set_tripwire(begin, batch->store->run, bytes);
        status = db->io->write(batch->store->database, begin, batch->store->run, bytes);
        batch->written += bytes;
        LKS_CRASH_POINT("batch:wrote-run");
        if (begin + bytes > file_end)
            file_end = begin + bytes;
    }
    if (status == LOCKSTEP_OK && file_end != batch->file_size_after)
        status = db->io->truncate(batch->store->database, batch->file_size_after);
    LKS_CRASH_POINT("batch:wrote-all");
    if (status == LOCKSTEP_OK && batch->sync)
        status = sync_database(batch);
    LKS_CRASH_POINT("batch:synced");
    return status;
}

static void
publish_flushed(struct lks_batch *batch)
{
    struct lks_shm_state *state = &batch->db->shm->state;
    lks_a64_set_relaxed(&state->file_size, batch->file_size_after);
    lks_a64_set_relaxed(&state->file_counter, lks_a64_relaxed(&state->next_counter));
    lks_a64_add(&state->written_bytes, batch->written);
    LKS_CRASH_POINT("batch:publishing");
    /* Release: the file has it.  Pairs with the acquire in lks_sweep(). */
    lks_a64_set_release(&state->flushed, batch->target);
    if (batch->sync) {
        /* For people: what waits now came after the pin. */
        lks_a64_set_relaxed(&state->pending_since_ns, batch->pinned_ns);
        lks_a64_set_release(&state->durable, batch->target);
    }
    lks_a64_add(&state->batches, 1);
    lks_a32_set_relaxed(&state->last_errno, 0);
    LKS_CRASH_POINT("batch:published");
    lks_worker_wake_waiters(batch->db);
}

/* The journal's handle is made when it is first needed, after every rollback. */
static enum lockstep_status
open_journal(struct lks_batch *batch)
{
    if (batch->store->journal != NULL)
        return LOCKSTEP_OK;
    return lks_journal_open(batch->db->io, batch->db->journal_path, &batch->store->journal);
}

/* The file goes back to what it was; if it cannot, stock readers stay out until a later batch has done it. */
static void
undo(struct lks_batch *batch)
{
    bool rolled_back;
    /* A batch that was begun and not sealed is forgotten with the next begin. */
    if (!batch->sealed)
        return;
    lks_journal_close(batch->store->journal);
    batch->store->journal = NULL;
    batch->store->clean = lks_dbfile_rollback(batch->db, &rolled_back) == LOCKSTEP_OK;
}

/*
 * The file as a rollback will find it.  To ask for its size is not cheap: who looks at a file's times makes
 * Linux give it a new one with the next write, and then every sync has to write the inode too.
 */
static enum lockstep_status
look_at_file(struct lks_batch *batch)
{
    struct lockstep_db *db = batch->db;
    struct lks_shm_state *state = &db->shm->state;
    uint64_t counter = 0;
    enum lockstep_status status;
    if (batch->settled) {
        batch->file_size = batch->store->file_size;
        batch->page_size = batch->store->page_size;
        return LOCKSTEP_OK;
    }
    status = db->io->size(batch->store->database, &batch->file_size);
    if (status == LOCKSTEP_OK)
        status = lks_dbfile_look(db, lks_unit_bytes(batch->g), &batch->page_size, &counter);
    if (status != LOCKSTEP_OK)
        return status;
    /* A worker that died after its batch and before it said so left the words of the state before. */
    lks_a64_set_relaxed(&state->file_size, batch->file_size);
    lks_a64_set_relaxed(&state->file_counter, counter);
    return LOCKSTEP_OK;
}

static uint32_t
page_size_after(const struct lks_batch *batch)
{
    if (batch->found.count == 0 || batch->found.changes[0].unit_no != 0)
        return batch->page_size;
    return lks_dbfile_page_size_in(
        lks_chunk_data(batch->db->shm, batch->g, batch->found.changes[0].block), lks_unit_bytes(batch->g),
        lks_unit_bytes(batch->g));
}

/* Steps 3 to 8. */
static enum lockstep_status
write_batch(struct lks_batch *batch)
{
    struct lockstep_db *db = batch->db;
    enum lockstep_status status = collect_changes(batch);
    if (status == LOCKSTEP_OK)
        status = look_at_file(batch);
    if (status == LOCKSTEP_OK)
        status = open_journal(batch);
    if (status == LOCKSTEP_OK)
        status = lks_announce(batch);
    /* After the wait for WRITER that may be in there: stock readers are kept out for the writing only. */
    if (status == LOCKSTEP_OK)
        status = lks_lockset_stock_exclude(&db->locks, LKS_STOCK_WAIT_MS);
    if (status == LOCKSTEP_OK)
        status = journal_changes(batch);
    if (status == LOCKSTEP_OK) {
        /* From here on the journal may be hot, whatever the call says. */
        batch->sealed = true;
        status = lks_journal_seal(batch->store->journal, batch->sync);
    }
    if (status == LOCKSTEP_OK)
        status = write_changes(batch);
    if (status == LOCKSTEP_OK)
        status = lks_journal_invalidate(batch->store->journal, batch->sync);
    if (status != LOCKSTEP_OK) {
        undo(batch);
        return status;
    }
    LKS_CRASH_POINT("batch:invalidated");
    batch->store->file_size = batch->file_size_after;
    /* Before flushed is published: after that a sweep may let the blocks go. */
    batch->store->page_size = page_size_after(batch);
    batch->store->settled = true;
    /* The file is whole.  Before anybody is told: who waited for the batch may let a stock reader look. */
    lks_lockset_stock_admit(&db->locks);
    publish_flushed(batch);
    /*
     * A huge batch's journal is not kept; failing to give it up is no loss.  One of the usual size is: to
     * have the filesystem find its blocks anew each time is dearer than to write them.
     */
    if (lks_journal_trim(batch->store->journal,
                         lks_a64_relaxed(&db->shm->state.store_limit) / 2) != LOCKSTEP_OK)
        lks_log(LKS_WARNING, "%s: cannot give back the space of %s: %s", db->path, db->journal_path,
                strerror(lks_os_errno()));
    return LOCKSTEP_OK;
}

/* Everything is in the file, but was written for OFF; now somebody wants it durable. */
static enum lockstep_status
sync_only(struct lks_batch *batch)
{
    struct lks_shm_state *state = &batch->db->shm->state;
    enum lockstep_status status = open_journal(batch);
    if (status == LOCKSTEP_OK)
        status = sync_database(batch);
    if (status == LOCKSTEP_OK)
        status = lks_journal_invalidate(batch->store->journal, true);
    if (status == LOCKSTEP_OK) {
        lks_a64_set_release(&state->durable, batch->target);
        lks_a32_set_relaxed(&state->last_errno, 0);
        lks_worker_wake_waiters(batch->db);
    }
    return status;
}

/* Did an earlier batch leave the file longer than the database, for a snapshot that is gone now? */
static bool
is_too_long(const struct lks_batch *batch)
{
    struct lks_horizon horizon;
    if (lks_a64_relaxed(&batch->db->shm->state.file_size) <= batch->size)
        return false;
    lks_horizon_scan(batch->db->shm, &horizon);
    return horizon.lowest >= batch->target;
}

static enum lockstep_status
pin_and_write(struct lks_batch *batch)
{
    struct lockstep_db *db = batch->db;
    struct lks_shm_state *state = &db->shm->state;
    uint64_t wanted;
    enum lockstep_status status;

    /* WORKER is ours: what stands in its slot was left by a dead worker. */
    lks_a64_set_release(&db->shm->slots[LKS_WORKER_SLOT].walk, 0);
    lks_a64_set_release(&db->shm->slots[LKS_WORKER_SLOT].word, 0);
    status = lks_reader_claim_slot(db, LKS_WORKER_SLOT, &batch->pin);
    if (status != LOCKSTEP_OK)
        return status;
    LKS_CRASH_POINT("batch:pinned");
    batch->pinned_ns = lks_clock_ns();
    batch->target = batch->pin.snapshot;
    batch->size = batch->pin.size;
    batch->from = lks_a64_acquire(&state->flushed);
    /* As it is under the pin: it does not change while a slot is used. */
    batch->g = lks_store_geometry(db);
    wanted = lks_a64_relaxed(&state->sync_needed);
    if (lks_a64_relaxed(&state->sync_wanted) > wanted)
        wanted = lks_a64_relaxed(&state->sync_wanted);
    batch->sync = wanted > lks_a64_acquire(&state->durable);
    if (batch->g == NULL)
        status = LOCKSTEP_BUSY;
    else
        status = write_file_anew(batch);
    if (status != LOCKSTEP_OK)
        goto release;
    if (batch->target != batch->from || is_too_long(batch))
        status = write_batch(batch);
    else if (batch->sync)
        status = sync_only(batch);
release:
    lks_reader_release(db, &batch->pin);
    return status;
}

static void
note_failure(struct lockstep_db *db, enum lockstep_status failure)
{
    struct lks_shm_state *state = &db->shm->state;
    struct lks_store *store = lks_store_of(db);
    uint64_t now = lks_clock_ns();
    int error = lks_os_errno();
    if (failure == LOCKSTEP_FULL && error == 0)
        error = ENOSPC;
    lks_a32_set_relaxed(&state->last_errno, error != 0 ? (uint32_t)error : EIO);
    lks_a64_add(&state->failures, 1);
    lks_worker_wake_waiters(db);
    if (store->failed_logged_ns != 0 && now - store->failed_logged_ns < LOG_AGAIN_NS)
        return;
    store->failed_logged_ns = now;
    lks_log(LKS_ERROR,
            "%s: cannot write the commits that wait (%s: %s); they are kept and tried again; commits that ask "
            "for durability fail until it succeeds",
            db->path, lks_status_name(failure), strerror(error != 0 ? error : EIO));
}

static enum lockstep_status
run_locked(struct lockstep_db *db, bool *out_worker)
{
    struct lks_batch batch = {.db = db, .store = lks_store_of(db)};
    enum lockstep_status status;

    lks_os_set_errno(0);
    if (batch.store->run == NULL)
        batch.store->run = malloc(RUN_BYTES);
    if (batch.store->run == NULL)
        return LOCKSTEP_NOMEM;
    status = lks_office_take(db, out_worker);
    if (status == LOCKSTEP_OK)
        status = pin_and_write(&batch);
    if (batch.store->clean)
        lks_lockset_stock_admit(&db->locks);
    if (status != LOCKSTEP_OK && status != LOCKSTEP_BUSY)
        note_failure(db, status);
    else if (status == LOCKSTEP_OK)
        batch.store->failed_logged_ns = 0;
    free(batch.found.changes);
    return status;
}

enum lockstep_status
lks_batch_run(struct lockstep_db *db, bool *out_worker)
{
    struct lks_store *store = lks_store_of(db);
    enum lockstep_status status;
    if (out_worker != NULL)
        *out_worker = false;
    if (db->readonly)
        return LOCKSTEP_BUSY;
    if (!lks_mutex_trylock(&store->batch_mutex)) {
        if (out_worker != NULL)
            *out_worker = lks_lockset_holds(&db->locks, LKS_BYTE_WORKER);
        return LOCKSTEP_BUSY;
    }
    status = run_locked(db, out_worker);
    /* Who runs no thread must not be the one that everybody waits for. */
    if (db->options.no_worker)
        lks_office_resign_locked(db);
    lks_mutex_unlock(&store->batch_mutex);
    return status;
}

enum lockstep_status
lks_batch_drain(struct lockstep_db *db)
{
    struct lks_shm_state *state = &db->shm->state;
    uint64_t deadline = lks_clock_ns() + DRAIN_WAIT_MS * LKS_NS_PER_MS;
    for (;;) {
        enum lockstep_status status = lks_batch_run(db, NULL);
        bool done = lks_a64_acquire(&state->flushed) == lks_a64_acquire(&state->committed) &&
                    lks_a64_relaxed(&state->sync_needed) <= lks_a64_acquire(&state->durable);
        if (status == LOCKSTEP_OK && done)
            return LOCKSTEP_OK;
        if (status != LOCKSTEP_OK && status != LOCKSTEP_BUSY)
            return status;
        if (lks_clock_ns() > deadline)
            return LOCKSTEP_BUSY;
        if (status == LOCKSTEP_BUSY)
            lks_clock_nap_ms(2);
    }
}
