/*
 * In what order a batch's journal is written, and why.
 *
 * W1  Records are written while the header is zeros and durably so, are synced, and only then does
 *     the header become valid, by one write, which is synced before the database is touched.  One
 *     sync for both would not do: a record's checksum samples one byte in 200, so after a power cut
 *     a record that is partly this batch's and partly what an earlier batch left in the same place
 *     (often the same page) can pass it, and SQLite would play it back into a database that nobody
 *     had changed yet.
 * W5  ... unless what an earlier batch left in that place is known: 0xff everywhere, and durably so.
 *     Then a torn record is found out for certain, and one sync does for both.  See below.
 * W2  The zeros of an invalidated header are durable before the first record of the next batch is
 *     written.  Else the old header could come back over new records: the playback would stop at
 *     the first of them, with half of the old batch undone.
 * W3  Zeros follow the last record up to the next sector boundary and eight bytes beyond.  There
 *     SQLite looks for a further header, and what an earlier batch left there is the content of
 *     pages, which may have been made to look like one.
 * W4  What is found in the file at first is truncated away: a longer journal of stock SQLite may
 *     end with the name of a super-journal, which is looked for at the end of the file, not of the
 *     records.
 *
 * A small batch, by W5.  There are two regions for records, and a header that says in its field for
 * the sector size which one it leads to, for the records begin one sector after it.  A batch writes
 * into the region that is blank, and blanks the other one, which nothing leads to since the zeros of
 * the last header became durable; header, records and blanks are settled by one sync.  After a power
 * cut before it ends the database is unchanged, so to play any whole record back does no harm; and
 * of a record any sectors of 512 bytes may be 0xff in place of what was written:
 *   - with that of its page number it is of page 0xffffffff, and passed over;
 *   - with that of its checksum, it has a wrong one, for sums come nowhere near 0xffffffff;
 *   - with any other, the sum is too large: each has a byte that the sum samples and that is not
 *     0xff, else the batch is written by W1; and no other sector can make up for it, for what is
 *     missing can only make the sum larger.
 * Where SQLite looks for a further header (W3) there is 0xff, zeros or the end of the file.
 *
 * Space is given back by truncating to nothing, never to a header: if a power cut lets the
 * truncation through and not the zeros before it, a valid header without records would shorten the
 * database.
 */
#include "store/journal.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "base/crashpoint.h"
#include "base/log.h"
#include "store/journal_format.h"

#define PIECE_BYTES ((size_t)1 << 20)
#define PADDING_BYTES (LKS_JOURNAL_SECTOR_BYTES + 8u)
#define REGIONS 2
/* What is missing adds at most 255 for each of the 327 bytes that the sum samples of the largest page. */
#define LARGEST_SUM (0xffffffffu - 255 * 328)
#define BLANK 0xffu
/* Behind the second region, eight bytes of zeros: there is no further header. */
#define GUARD_BYTES 8u

static const struct {
    uint32_t start, end; /* the records' */
    uint32_t sector_size;
} regions[REGIONS] = {
    {LKS_JOURNAL_SECTOR_BYTES, LKS_JOURNAL_MAX_SECTOR, LKS_JOURNAL_SECTOR_BYTES},
    {LKS_JOURNAL_MAX_SECTOR, 2 * LKS_JOURNAL_MAX_SECTOR, LKS_JOURNAL_MAX_SECTOR},
};

enum journal_state {
    FOREIGN, /* just opened: whatever somebody left */
    COLD,    /* the header is zeros */
    FILLING, /* cold, and a batch was begun */
    HOT,     /* sealed */
    UNSURE   /* the header may or may not be valid; the database is unchanged since begin */
};

struct lks_journal {
    const struct lks_io *io;
    struct lks_io_file *file;
    char *path;
    enum journal_state state;
    bool cold_unsynced;    /* after a power cut the header may be valid again */
    bool relaxed;          /* the last batch was sealed without sync */
    bool directory_synced; /* the name survives a power cut */
    uint32_t page_size;
    uint32_t page_count; /* of the database, at begin */
    uint32_t nonce;
    uint32_t record_count;
    uint32_t last_page_no;
    uint64_t size_bytes; /* of the file; unknown while FOREIGN */
    uint64_t offset;     /* where the buffer goes */
    size_t used;
    unsigned char *buffer;
    /* Bytes from a region's start behind which it is blank, on the disk too; and those blanked since the last sync. */
    uint32_t stained[REGIONS];
    bool blanked[REGIONS];
    unsigned char *blanks;
};

/* What is in the regions is not known. */
static void
forget_blanks(struct lks_journal *j)
{
    int r;
    for (r = 0; r < REGIONS; r++) {
        j->stained[r] = regions[r].end - regions[r].start;
        j->blanked[r] = false;
    }
}

enum lockstep_status
lks_journal_open(const struct lks_io *io, const char *path, struct lks_journal **out)
{
    enum lockstep_status status = LOCKSTEP_NOMEM;
    struct lks_journal *j = calloc(1, sizeof *j);
    if (j == NULL)
        return LOCKSTEP_NOMEM;
    j->io = io;
    j->state = FOREIGN;
    j->cold_unsynced = true;
    forget_blanks(j);
    j->path = strdup(path);
    if (j->path != NULL)
        status = io->open(io->context, path, LKS_IO_JOURNAL, &j->file);
    if (status != LOCKSTEP_OK) {
        lks_journal_close(j);
        return status;
    }
    *out = j;
    return LOCKSTEP_OK;
}

void
lks_journal_close(struct lks_journal *j)
{
    if (j == NULL)
        return;
    if (j->file != NULL)
        j->io->close(j->file);
    free(j->buffer);
    free(j->blanks);
    free(j->path);
    free(j);
}

/* Nobody would find a journal without a name: a new file if ours was removed, by a rollback say. */
static enum lockstep_status
find_again(struct lks_journal *j)
{
    struct lks_io_file *file;
    bool exists = false;
    enum lockstep_status status = j->io->exists(j->io->context, j->path, &exists);
    if (status != LOCKSTEP_OK || exists)
        return status;
    status = j->io->open(j->io->context, j->path, LKS_IO_JOURNAL, &file);
    if (status != LOCKSTEP_OK)
        return status;
    j->io->close(j->file);
    j->file = file;
    j->state = FOREIGN;
    j->cold_unsynced = true;
    j->directory_synced = false;
    forget_blanks(j);
    return LOCKSTEP_OK;
}

/* Makes a file with a past ours (W4).  That its header is zeros may be in memory only (W2). */
static enum lockstep_status
adopt(struct lks_journal *j)
{
    unsigned char first = 0;
    size_t n = 0;
    enum lockstep_status status = j->io->read(j->file, 0, &first, 1, &n);
    if (status != LOCKSTEP_OK)
        return status;
    if (n == 1 && first != 0) {
        lks_log(LKS_ERROR, "the journal %s is hot: it has to be rolled back before a batch begins",
                j->path);
        return LOCKSTEP_MISUSE;
    }
    if (n == 1)
        status = j->io->truncate(j->file, 0);
    if (status != LOCKSTEP_OK)
        return status;
    j->size_bytes = 0;
    j->state = COLD;
    forget_blanks(j);
    return LOCKSTEP_OK;
}

/* [offset, end) is not blank any more. */
static void
stain(struct lks_journal *j, uint64_t offset, uint64_t end)
{
    int r;
    for (r = 0; r < REGIONS; r++) {
        uint64_t to = end < regions[r].end ? end : regions[r].end;
        if (offset >= regions[r].end || to <= regions[r].start)
            continue;
        j->blanked[r] = false;
        if (to - regions[r].start > j->stained[r])
            j->stained[r] = (uint32_t)(to - regions[r].start);
    }
}

static enum lockstep_status
write_at(struct lks_journal *j, uint64_t offset, const void *data, size_t size_bytes)
{
    enum lockstep_status status;
    stain(j, offset, offset + size_bytes);
    status = j->io->write(j->file, offset, data, size_bytes);
    if (status == LOCKSTEP_OK && offset + size_bytes > j->size_bytes)
        j->size_bytes = offset + size_bytes;
    return status;
}

static enum lockstep_status
zero_header(struct lks_journal *j)
{
    static const unsigned char zeros[LKS_JOURNAL_HEADER_BYTES];
    enum lockstep_status status = write_at(j, 0, zeros, sizeof zeros);
    if (status == LOCKSTEP_OK)
        j->cold_unsynced = true;
    return status;
}

enum lockstep_status
lks_journal_begin(struct lks_journal *j, uint32_t page_size, uint64_t file_size_bytes)
{
    enum lockstep_status status;
    assert(lks_journal_is_size(page_size, LKS_JOURNAL_MIN_PAGE, LKS_JOURNAL_MAX_PAGE));
    assert(file_size_bytes % page_size == 0);
    assert(file_size_bytes / page_size < LKS_JOURNAL_TO_THE_END);
    status = find_again(j);
    if (status == LOCKSTEP_OK && j->state == HOT)
        return LOCKSTEP_MISUSE;
    if (status == LOCKSTEP_OK && j->state == FOREIGN)
        status = adopt(j);
    if (status == LOCKSTEP_OK && j->state == UNSURE)
        status = zero_header(j);
    if (status != LOCKSTEP_OK)
        return status;
    j->state = COLD;
    if (j->buffer == NULL)
        j->buffer = malloc(PIECE_BYTES + PADDING_BYTES);
    if (j->buffer == NULL)
        return LOCKSTEP_NOMEM;
    /* Fresh for each batch: records of earlier ones fail their checksum. */
    if (getrandom(&j->nonce, sizeof j->nonce, 0) != (ssize_t)sizeof j->nonce)
        return LOCKSTEP_IOERR;
    j->page_size = page_size;
    j->page_count = (uint32_t)(file_size_bytes / page_size);
    j->record_count = 0;
    j->last_page_no = 0;
    j->offset = LKS_JOURNAL_SECTOR_BYTES;
    j->used = 0;
    j->state = FILLING;
    return LOCKSTEP_OK;
}

/*
 * After a failed sync the kernel may call pages clean that are not on the disk: the zeros are
 * written again before anything relies on them.
 */
static enum lockstep_status
sync_file(struct lks_journal *j)
{
    enum lockstep_status status = j->io->sync(j->file);
    int r;
    if (status != LOCKSTEP_OK) {
        if (j->state != HOT && j->state != FOREIGN)
            j->state = UNSURE;
        forget_blanks(j);
        return status;
    }
    j->cold_unsynced = false;
    for (r = 0; r < REGIONS; r++)
        if (j->blanked[r]) {
            j->stained[r] = 0;
            j->blanked[r] = false;
        }
    return LOCKSTEP_OK;
}

/* The header is zeros, durably so: nothing leads to the region. */
static enum lockstep_status
blank(struct lks_journal *j, int r)
{
    uint32_t all = regions[r].end - regions[r].start, n = j->stained[r];
    enum lockstep_status status;
    assert(!j->cold_unsynced);
    if (n == 0)
        return LOCKSTEP_OK;
    if (j->blanks == NULL) {
        j->blanks = malloc(LKS_JOURNAL_MAX_SECTOR + GUARD_BYTES);
        if (j->blanks == NULL)
            return LOCKSTEP_NOMEM;
        memset(j->blanks, BLANK, LKS_JOURNAL_MAX_SECTOR);
        memset(j->blanks + LKS_JOURNAL_MAX_SECTOR, 0, GUARD_BYTES);
    }
    status = n == all && r == REGIONS - 1
                 ? write_at(j, regions[r].start, j->blanks, n + GUARD_BYTES)
                 : write_at(j, regions[r].start, j->blanks, n);
    j->blanked[r] = status == LOCKSTEP_OK;
    return status;
}

/* Writes the buffer.  `sync`: the batch is to survive a power cut (W2). */
static enum lockstep_status
write_buffer(struct lks_journal *j, bool sync)
{
    enum lockstep_status status = LOCKSTEP_OK;
    if (sync && j->cold_unsynced)
        status = sync_file(j);
    if (status == LOCKSTEP_OK)
        status = write_at(j, j->offset, j->buffer, j->used);
    if (status != LOCKSTEP_OK)
        return status;
    j->offset += j->used;
    j->used = 0;
    return LOCKSTEP_OK;
}

enum lockstep_status
lks_journal_add(struct lks_journal *j, uint32_t page_no, const void *data)
{
    size_t record_size = (size_t)j->page_size + LKS_JOURNAL_RECORD_EXTRA;
    unsigned char *record;
    assert(page_no > j->last_page_no && page_no <= j->page_count);
    assert(page_no != lks_journal_lock_page(j->page_size));
    if (j->state != FILLING)
        return LOCKSTEP_MISUSE;
    if (j->used + record_size > PIECE_BYTES) {
        /* Whether this batch will be synced is not known yet: taken to be as the one before. */
        enum lockstep_status status = write_buffer(j, !j->relaxed);
        if (status != LOCKSTEP_OK) {
            j->state = j->state == FILLING ? COLD : j->state;
            return status;
        }
    }
    record = j->buffer + j->used;
    lks_journal_put(record, page_no);
    memcpy(record + 4, data, j->page_size);
    lks_journal_put(record + 4 + j->page_size, lks_journal_checksum(j->nonce, data, j->page_size));
    j->used += record_size;
    j->record_count++;
    j->last_page_no = page_no;
    return LOCKSTEP_OK;
}

/*
 * The end of the batch: zeros as W3 says, and a file of at least the largest sector.  A connection
 * that believes in sectors larger than ours (psow=0, another VFS) takes a file shorter than one of
 * its own for no journal at all, and would delete it.
 */
static enum lockstep_status
write_end(struct lks_journal *j, bool sync)
{
    static const unsigned char zero = 0;
    uint64_t end = j->offset + j->used;
    uint64_t next = lks_journal_next_sector(end, LKS_JOURNAL_SECTOR_BYTES);
    size_t padding = (size_t)(next - end) + sizeof lks_journal_magic;
    enum lockstep_status status;
    memset(j->buffer + j->used, 0, padding);
    j->used += padding;
    status = write_buffer(j, sync);
    if (status == LOCKSTEP_OK && j->size_bytes < LKS_JOURNAL_MAX_SECTOR)
        status = write_at(j, LKS_JOURNAL_MAX_SECTOR - 1, &zero, 1);
    return status;
}

static enum lockstep_status
write_header(struct lks_journal *j, uint32_t sector_size)
{
    unsigned char header[LKS_JOURNAL_HEADER_BYTES];
    memcpy(header, lks_journal_magic, sizeof lks_journal_magic);
    lks_journal_put(header + 8, j->record_count);
    lks_journal_put(header + 12, j->nonce);
    lks_journal_put(header + 16, j->page_count);
    lks_journal_put(header + 20, sector_size);
    lks_journal_put(header + 24, j->page_size);
    return write_at(j, 0, header, sizeof header);
}

/* Records and name to the disk, the header still zeros (W1).  After a small batch the next one may go by W5. */
static enum lockstep_status
settle_records(struct lks_journal *j, bool sync)
{
    enum lockstep_status status = write_end(j, sync);
    if (status == LOCKSTEP_OK && sync && j->offset <= regions[1].start)
        status = blank(j, 1);
    if (status != LOCKSTEP_OK)
        return status;
    LKS_CRASH_POINT("journal:records-written");
    if (!sync)
        return LOCKSTEP_OK;
    status = sync_file(j);
    if (status == LOCKSTEP_OK && !j->directory_synced) {
        status = j->io->sync_dir(j->io->context, j->path);
        j->directory_synced = status == LOCKSTEP_OK;
    }
    if (status == LOCKSTEP_OK)
        LKS_CRASH_POINT("journal:records-synced");
    return status;
}

/* Would the loss of any sector of the record at `offset` of the file be found out (W5)? */
static bool
is_guarded(const struct lks_journal *j, const unsigned char *record, uint64_t offset)
{
    const unsigned char *page = record + 4;
    uint64_t guarded = offset / LKS_JOURNAL_SECTOR_BYTES, sector;
    uint32_t at = j->page_size % 200 != 0 ? j->page_size % 200 : 200;
    for (; at < j->page_size; at += 200) {
        sector = (offset + 4 + at) / LKS_JOURNAL_SECTOR_BYTES;
        if (page[at] == BLANK)
            continue;
        if (sector > guarded + 1)
            return false;
        guarded = sector;
    }
    sector = (offset + 4 + j->page_size) / LKS_JOURNAL_SECTOR_BYTES;
    return sector <= guarded + 1 && lks_journal_get(page + j->page_size) < LARGEST_SUM;
}

/* The region into which the batch may go by W5, -1 if it may not. */
static int
find_blank(const struct lks_journal *j)
{
    size_t record_size = (size_t)j->page_size + LKS_JOURNAL_RECORD_EXTRA, at;
    int r;
    if (j->cold_unsynced || !j->directory_synced || j->offset != regions[0].start)
        return -1;
    for (r = 0; r < REGIONS; r++) {
        uint64_t end = regions[r].start + j->used;
        /* The next header would have to be in the region still, or behind the last. */
        if (j->stained[r] != 0 || lks_journal_next_sector(end, regions[r].sector_size) +
                                          (r == 0 ? sizeof lks_journal_magic : 0) >
                                      regions[r].end)
            continue;
        for (at = 0; at < j->used; at += record_size)
            if (!is_guarded(j, j->buffer + at, regions[r].start + at))
                break;
        if (at >= j->used)
            return r;
    }
    return -1;
}

/* Records into blank region r, blanks over the other one. */
static enum lockstep_status
write_into_blank(struct lks_journal *j, int r)
{
    enum lockstep_status status = blank(j, REGIONS - 1 - r);
    if (status == LOCKSTEP_OK && j->used > 0)
        status = write_at(j, regions[r].start, j->buffer, j->used);
    if (status == LOCKSTEP_OK)
        LKS_CRASH_POINT("journal:records-written");
    return status;
}

enum lockstep_status
lks_journal_seal(struct lks_journal *j, bool sync)
{
    enum lockstep_status status;
    int r;
    if (j->state != FILLING)
        return LOCKSTEP_MISUSE;
    j->relaxed = !sync;
    r = sync ? find_blank(j) : -1;
    status = r >= 0 ? write_into_blank(j, r) : settle_records(j, sync);
    if (status != LOCKSTEP_OK) {
        j->state = j->state == FILLING ? COLD : j->state;
        return status;
    }
    j->state = UNSURE;
    status = write_header(j, r >= 0 ? regions[r].sector_size : LKS_JOURNAL_SECTOR_BYTES);
    if (status != LOCKSTEP_OK)
        return status;
    LKS_CRASH_POINT("journal:header-written");
    if (sync)
        status = sync_file(j);
    if (status != LOCKSTEP_OK)
        return status;
    j->state = HOT;
    LKS_CRASH_POINT("journal:sealed");
    return LOCKSTEP_OK;
}

enum lockstep_status
lks_journal_invalidate(struct lks_journal *j, bool sync)
{
    enum lockstep_status status = LOCKSTEP_OK;
    bool was_valid = j->state == HOT || j->state == UNSURE;
    if (was_valid) {
        LKS_CRASH_POINT("journal:invalidating");
        status = zero_header(j);
    }
    /* HOT and UNSURE stay so if this fails: calling again writes the zeros again. */
    if (status == LOCKSTEP_OK && sync && j->cold_unsynced)
        status = sync_file(j);
    if (status != LOCKSTEP_OK)
        return status;
    if (j->state != FOREIGN)
        j->state = COLD;
    if (was_valid)
        LKS_CRASH_POINT("journal:invalidated");
    return LOCKSTEP_OK;
}

enum lockstep_status
lks_journal_trim(struct lks_journal *j, uint64_t keep_bytes)
{
    enum lockstep_status status;
    if (j->state != COLD)
        return LOCKSTEP_MISUSE;
    if (j->size_bytes <= keep_bytes)
        return LOCKSTEP_OK;
    status = j->io->truncate(j->file, 0);
    if (status != LOCKSTEP_OK)
        return status;
    j->size_bytes = 0;
    j->cold_unsynced = true;
    forget_blanks(j);
    return LOCKSTEP_OK;
}
