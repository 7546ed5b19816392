#include "powercut/replay.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "powercut/mix.h"

#define SECTOR 512u
#define MAX_FILES 4096u
#define MAX_NAME_CHANGES 64u

/* A file, by inode. */
struct file {
    struct replay_bytes disk; /* as of its last sync */
    size_t capacity;
    const struct recorder_op **pending; /* since then */
    size_t pending_count, pending_capacity;
    /* Since the last sync that the library asked for: what it is about. */
    bool records, header, zeros;
};

/* What a name may lead to: [0] for certain until now, the others since the last sync of the directory. */
struct name {
    uint32_t inode[MAX_NAME_CHANGES];
    uint32_t count;
};

/* How an image is put together. */
struct cut {
    const char *kind;
    unsigned keep_write; /* of 100: the whole write */
    unsigned keep_sector; /* of 100, where the write is not kept as a whole */
    unsigned keep_truncate;
    enum { LENGTH_OLD, LENGTH_ZEROS, LENGTH_RUBBISH } grown;
    int name; /* 0: as at the sync; 1: the newest; 2: any */
};

struct replayer {
    const struct replay_plan *plan;
    struct replay_result result;
    uint64_t random;
    struct file *files; /* MAX_FILES, by inode */
    struct name names[RECORDER_ROLES];
    struct replay_image image;
    size_t image_capacity[RECORDER_ROLES];
    uint64_t last_hash;
};

const char *
replay_sync_name(enum replay_sync sync)
{
    static const char *const names[] = {"nothing",        "the journal's records", "the journal's header",
                                        "the database",   "the zeroed header",     "the directory"};
    return names[sync];
}

static unsigned
below(struct replayer *r, unsigned n)
{
    return (unsigned)(mix_next(&r->random) % n);
}

/* ------------------------------------------------------------------------------------------------- bytes */

static void
reserve(struct replay_bytes *b, size_t *capacity, size_t size)
{
    if (size <= *capacity && b->bytes != NULL)
        return;
    *capacity = 2 * size + 4096;
    b->bytes = realloc(b->bytes, *capacity);
    if (b->bytes == NULL)
        abort();
}

static void
grow(struct replayer *r, struct replay_bytes *b, size_t *capacity, size_t size, bool rubbish)
{
    size_t i;
    if (size <= b->size)
        return;
    reserve(b, capacity, size);
    for (i = b->size; i < size; i++)
        b->bytes[i] = rubbish ? (unsigned char)mix_next(&r->random) : 0;
    b->size = size;
}

static void
put(struct replayer *r, struct replay_bytes *b, size_t *capacity, size_t offset, const unsigned char *data,
    size_t size)
{
    grow(r, b, capacity, offset + size, false);
    memcpy(b->bytes + offset, data, size);
}

/* One operation on a file, as far as the cut let it through. */
static void
apply(struct replayer *r, struct replay_bytes *b, size_t *capacity, const struct recorder_op *op,
      const struct cut *cut)
{
    const unsigned char *data = recorder_data(op);
    size_t at = (size_t)op->offset, end = at + op->size, n;
    if (op->kind == RECORDER_TRUNCATE) {
        if (below(r, 100) < cut->keep_truncate && b->size > op->offset)
            b->size = (size_t)op->offset;
        return;
    }
    if (below(r, 100) < cut->keep_write) {
        put(r, b, capacity, at, data, op->size);
        return;
    }
    for (; at < end; at += n, data += n) {
        n = SECTOR - at % SECTOR;
        if (n > end - at)
            n = end - at;
        if (below(r, 100) < cut->keep_sector)
            put(r, b, capacity, at, data, n);
        else if (cut->grown != LENGTH_OLD)
            grow(r, b, capacity, at + n, cut->grown == LENGTH_RUBBISH);
    }
}

static const struct cut everything = {"all unsynced kept", 100, 100, 100, LENGTH_OLD, 1};
static const struct cut nothing = {"all unsynced lost", 0, 0, 0, LENGTH_OLD, 0};

/* -------------------------------------------------------------------------------------------------- cuts */

static uint64_t
hash_of(const struct replay_image *image)
{
    uint64_t hash = mix((uint64_t)image->durable);
    uint32_t role;
    size_t i;
    for (role = 0; role < RECORDER_ROLES; role++) {
        const struct replay_bytes *b = &image->file[role];
        hash = mix(hash ^ b->size ^ (b->bytes == NULL ? 7 : 0));
        for (i = 0; b->bytes != NULL && i + 8 <= b->size; i += 8) {
            uint64_t word;
            memcpy(&word, b->bytes + i, 8);
            hash = (hash ^ word) * 0x9ddfea08eb382d69u;
            hash ^= hash >> 29;
        }
    }
    return hash;
}

/* The machine goes down here.  False: enough. */
static bool
make_image(struct replayer *r, const struct cut *cut)
{
    struct replay_image shown;
    uint64_t hash;
    uint32_t role;
    size_t i;
    if (r->result.images >= r->plan->most || r->result.stopped)
        return false;
    shown = r->image;
    for (role = 0; role < RECORDER_ROLES; role++) {
        const struct name *name = &r->names[role];
        uint32_t which = cut->name == 0   ? 0
                         : cut->name == 1 ? name->count - 1
                                          : below(r, name->count);
        uint32_t inode = name->inode[which];
        const struct file *file = &r->files[inode];
        struct replay_bytes *b = &r->image.file[role];
        b->size = 0;
        shown.file[role].bytes = NULL;
        shown.file[role].size = 0;
        if (inode == 0)
            continue;
        reserve(b, &r->image_capacity[role], file->disk.size);
        if (file->disk.size > 0)
            memcpy(b->bytes, file->disk.bytes, file->disk.size);
        b->size = file->disk.size;
        for (i = 0; i < file->pending_count; i++)
            apply(r, b, &r->image_capacity[role], file->pending[i], cut);
        shown.file[role] = *b;
    }
    hash = hash_of(&shown);
    if (hash == r->last_hash)
        return true;
    r->last_hash = hash;
    shown.entry = r->result.entries;
    shown.number = r->result.images++;
    shown.kind = cut->kind;
    if (!r->plan->check(&shown, r->plan->arg))
        r->result.stopped = true;
    return !r->result.stopped;
}

static bool
make_random_image(struct replayer *r)
{
    static const unsigned amounts[] = {0, 10, 50, 90};
    struct cut cut = {.kind = "some unsynced lost, some torn"};
    cut.keep_write = amounts[below(r, 4)];
    cut.keep_sector = below(r, 3) == 0 ? 0 : 20 + below(r, 80);
    cut.keep_truncate = below(r, 3) * 50;
    cut.grown = below(r, 3);
    cut.name = 2;
    return make_image(r, &cut);
}

static void
cut_here(struct replayer *r, bool at_sync)
{
    unsigned i;
    if (!at_sync) {
        if (below(r, 1000) < r->plan->elsewhere_per_mille)
            (void)make_random_image(r);
        return;
    }
    if (below(r, 1000) >= r->plan->syncs_per_mille)
        return;
    if (!make_image(r, &nothing) || !make_image(r, &everything))
        return;
    for (i = 0; i < r->plan->at_sync && make_random_image(r); i++)
        ;
}

/* --------------------------------------------------------------------------------------------- the record */

static enum replay_sync
sync_about(const struct file *file, const struct recorder_op *op)
{
    if (op->role == RECORDER_DATABASE)
        return REPLAY_DATABASE;
    return file->header    ? REPLAY_JOURNAL_HEADER
           : file->zeros   ? REPLAY_JOURNAL_INVALIDATE
           : file->records ? REPLAY_JOURNAL_RECORDS
                           : REPLAY_NOTHING;
}

/* The unsynced operations reach the disk, as far as `cut` says. */
static void
settle(struct replayer *r, struct file *file, const struct cut *cut)
{
    size_t i;
    for (i = 0; i < file->pending_count; i++)
        apply(r, &file->disk, &file->capacity, file->pending[i], cut);
    file->pending_count = 0;
}

static void
see_sync(struct replayer *r, const struct recorder_op *op)
{
    struct file *file = &r->files[op->inode];
    enum replay_sync about = sync_about(file, op);
    r->result.syncs[about]++;
    file->records = file->header = file->zeros = false;
    if (about == REPLAY_NOTHING || about != r->plan->left_out)
        settle(r, file, &everything);
}

static void
see_failed_sync(struct replayer *r, const struct recorder_op *op)
{
    struct cut cut = {"", 50, 50, 50, LENGTH_OLD, 0};
    settle(r, &r->files[op->inode], below(r, 2) == 0 ? &nothing : &cut);
}

static void
see_directory_sync(struct replayer *r)
{
    uint32_t role;
    r->result.syncs[REPLAY_DIRECTORY]++;
    for (role = 0; role < RECORDER_ROLES; role++) {
        struct name *name = &r->names[role];
        if (r->plan->left_out == REPLAY_DIRECTORY && role == RECORDER_JOURNAL)
            continue;
        name->inode[0] = name->inode[name->count - 1];
        name->count = 1;
    }
}

static void
see_name(struct replayer *r, uint32_t role, uint32_t inode)
{
    struct name *name = &r->names[role];
    if (inode >= MAX_FILES)
        abort();
    if (name->count == MAX_NAME_CHANGES) {
        /* Only where directory syncs are left out: forget one in the middle. */
        memmove(&name->inode[1], &name->inode[2], (MAX_NAME_CHANGES - 2) * sizeof name->inode[0]);
        name->count--;
    }
    name->inode[name->count++] = inode;
}

static void
see_change(struct replayer *r, const struct recorder_op *op)
{
    struct file *file = &r->files[op->inode];
    if (file->pending_count == file->pending_capacity) {
        file->pending_capacity = 2 * file->pending_capacity + 64;
        file->pending = realloc(file->pending, file->pending_capacity * sizeof *file->pending);
        if (file->pending == NULL)
            abort();
    }
    file->pending[file->pending_count++] = op;
    if (op->kind != RECORDER_WRITE)
        return;
    if (op->offset == 0 && op->size > 0) {
        file->header = recorder_data(op)[0] != 0;
        file->zeros = !file->header;
    } else {
        file->records = true;
    }
}

static void
see(struct replayer *r, const struct recorder_op *op)
{
    switch (op->kind) {
    case RECORDER_WRITE:
    case RECORDER_TRUNCATE: see_change(r, op); break;
    case RECORDER_CREATE: see_name(r, op->role, op->inode); break;
    case RECORDER_DELETE: see_name(r, op->role, 0); break;
    case RECORDER_SYNC: see_sync(r, op); break;
    case RECORDER_SYNC_FAILED: see_failed_sync(r, op); break;
    case RECORDER_SYNC_DIR: see_directory_sync(r); break;
    case RECORDER_DURABLE:
        if ((int64_t)op->offset > r->image.durable)
            r->image.durable = (int64_t)op->offset;
        break;
    default: abort();
    }
}

static bool
is_boundary(const struct recorder_op *op)
{
    return op->kind == RECORDER_SYNC || op->kind == RECORDER_SYNC_FAILED || op->kind == RECORDER_SYNC_DIR ||
           op->kind == RECORDER_CREATE || op->kind == RECORDER_DELETE;
}

struct replay_result
replay(const struct replay_plan *plan)
{
    struct replayer r = {.plan = plan, .random = mix(plan->seed)};
    const struct recorder_op *op = NULL;
    uint32_t i;
    bool after_sync = false;
    r.files = calloc(MAX_FILES, sizeof *r.files);
    if (r.files == NULL)
        abort();
    r.image.durable = -1;
    for (i = 0; i < RECORDER_ROLES; i++)
        r.names[i].count = 1;
    while ((op = recorder_next(op)) != NULL && !r.result.stopped) {
        /* Before each sync, with what it is about to settle; and after it, with nothing unsynced. */
        cut_here(&r, is_boundary(op) || after_sync);
        after_sync = is_boundary(op);
        see(&r, op);
        r.result.entries++;
    }
    cut_here(&r, true);
    for (i = 0; i < MAX_FILES; i++) {
        free(r.files[i].disk.bytes);
        free(r.files[i].pending);
    }
    for (i = 0; i < RECORDER_ROLES; i++)
        free(r.image.file[i].bytes);
    free(r.files);
    return r.result;
}
