/*
 * Playing a journal back: what stock SQLite does with a hot journal (pager_playback() in pager.c),
 * for journals of Lockstep and of SQLite.  Whatever SQLite ignores is ignored here: the two must
 * leave the same database behind, since nobody knows which of them comes first.
 */
#include <stdlib.h>
#include <string.h>

#include "base/crashpoint.h"
#include "base/log.h"
#include "store/journal.h"
#include "store/journal_format.h"

#define MAX_NAME_BYTES 512u /* of a super-journal's name: SQLite's limit on Unix */

struct playback {
    const struct lks_io *io;
    struct lks_io_file *file; /* the journal */
    struct lks_io_file *db;
    uint64_t size_bytes; /* of the journal */
    uint64_t offset;
    uint32_t sector_size;
    uint32_t page_size; /* as the first header says */
    uint32_t page_count;
    uint32_t nonce;
    uint64_t pages_written;
    bool begun; /* the first header is valid: the database has been touched */
    unsigned char *record;
};

static bool
is_magic(const unsigned char *p)
{
    return memcmp(p, lks_journal_magic, sizeof lks_journal_magic) == 0;
}

static size_t
record_size(const struct playback *p)
{
    return (size_t)p->page_size + LKS_JOURNAL_RECORD_EXTRA;
}

/* SQLite before 3.5.8 left the page size out: it is the database's own, else SQLite's default. */
static enum lockstep_status
page_size_of_database(struct lks_io_file *db, const struct lks_io *io, uint32_t *out_page_size)
{
    unsigned char b[2] = {0, 0};
    size_t n = 0;
    uint32_t size;
    enum lockstep_status status = io->read(db, 16, b, sizeof b, &n);
    if (status != LOCKSTEP_OK)
        return status;
    size = n == sizeof b ? (uint32_t)b[0] << 8 | (uint32_t)b[1] << 16 : 0;
    if (!lks_journal_is_size(size, LKS_JOURNAL_MIN_PAGE, LKS_JOURNAL_MAX_PAGE))
        size = 4096;
    *out_page_size = size;
    return LOCKSTEP_OK;
}

/*
 * The database as long as it was: cut, or stretched by writing its last page.  If less than a page
 * is missing it did not end on a page boundary before, and is left so.
 */
static enum lockstep_status
restore_size(struct playback *p)
{
    uint64_t want = (uint64_t)p->page_count * p->page_size, now = 0;
    enum lockstep_status status = p->io->size(p->db, &now);
    if (status != LOCKSTEP_OK)
        return status;
    if (now > want)
        return p->io->truncate(p->db, want);
    if (now + p->page_size > want)
        return LOCKSTEP_OK;
    memset(p->record, 0, p->page_size);
    return p->io->write(p->db, want - p->page_size, p->record, p->page_size);
}

/* What only the first header decides.  *out_valid is false if its process died while writing it. */
static enum lockstep_status
first_header(struct playback *p, const unsigned char *header, bool *out_valid)
{
    uint32_t sector_size = lks_journal_get(header + 20), page_size = lks_journal_get(header + 24);
    enum lockstep_status status = LOCKSTEP_OK;
    if (page_size == 0)
        status = page_size_of_database(p->db, p->io, &page_size);
    if (status != LOCKSTEP_OK)
        return status;
    *out_valid = lks_journal_is_size(page_size, LKS_JOURNAL_MIN_PAGE, LKS_JOURNAL_MAX_PAGE) &&
                 lks_journal_is_size(sector_size, LKS_JOURNAL_MIN_SECTOR, LKS_JOURNAL_MAX_SECTOR);
    if (!*out_valid)
        return LOCKSTEP_OK;
    p->page_size = page_size;
    p->sector_size = sector_size;
    p->page_count = lks_journal_get(header + 16);
    p->record = malloc(record_size(p));
    if (p->record == NULL)
        return LOCKSTEP_NOMEM;
    p->begun = true;
    return restore_size(p);
}

/*
 * The header at the next sector boundary.  *out_found is false at the end of the journal, which is
 * wherever there is no header.  No records: they were not synced, none counts, and another header
 * may follow.  LKS_JOURNAL_TO_THE_END needs no care: it is more than any file has.
 */
static enum lockstep_status
next_header(struct playback *p, bool *out_found, uint32_t *out_records)
{
    unsigned char header[LKS_JOURNAL_HEADER_BYTES];
    uint64_t at = lks_journal_next_sector(p->offset, p->sector_size);
    size_t n = 0;
    enum lockstep_status status;
    *out_found = false;
    if (at + p->sector_size > p->size_bytes)
        return LOCKSTEP_OK;
    status = p->io->read(p->file, at, header, sizeof header, &n);
    if (status != LOCKSTEP_OK || n < sizeof header || !is_magic(header))
        return status;
    if (at == 0) {
        bool valid = false;
        status = first_header(p, header, &valid);
        if (status != LOCKSTEP_OK || !valid)
            return status;
    }
    p->nonce = lks_journal_get(header + 12);
    p->offset = at + p->sector_size;
    *out_records = lks_journal_get(header + 8);
    *out_found = true;
    return LOCKSTEP_OK;
}

/* One record.  *out_more is false at one that is cut off or wrong: with it the journal ends. */
static enum lockstep_status
play_record(struct playback *p, bool *out_more)
{
    size_t size = record_size(p), n = 0;
    uint32_t page_no, sum;
    enum lockstep_status status = p->io->read(p->file, p->offset, p->record, size, &n);
    *out_more = false;
    if (status != LOCKSTEP_OK || n < size - 4)
        return status;
    p->offset += size;
    page_no = lks_journal_get(p->record);
    if (page_no == 0 || page_no == lks_journal_lock_page(p->page_size))
        return LOCKSTEP_OK;
    *out_more = true;
    /* Behind the database as it was: passed over, right or wrong, as SQLite does. */
    if (page_no > p->page_count)
        return LOCKSTEP_OK;
    sum = lks_journal_checksum(p->nonce, p->record + 4, p->page_size);
    if (n < size || lks_journal_get(p->record + 4 + p->page_size) != sum) {
        *out_more = false;
        return LOCKSTEP_OK;
    }
    status = p->io->write(p->db, (uint64_t)(page_no - 1) * p->page_size, p->record + 4,
                          p->page_size);
    if (status != LOCKSTEP_OK)
        return status;
    p->pages_written++;
    LKS_CRASH_POINT("journal:rolled-back-page");
    return LOCKSTEP_OK;
}

/* Plays every header and record up to the first that is not one. */
static enum lockstep_status
play_back(struct playback *p)
{
    bool more = true;
    while (more) {
        uint32_t records = 0;
        enum lockstep_status status = next_header(p, &more, &records);
        if (status != LOCKSTEP_OK)
            return status;
        for (; more && records > 0; records--) {
            status = play_record(p, &more);
            if (status != LOCKSTEP_OK)
                return status;
        }
    }
    return p->begun ? p->io->sync(p->db) : LOCKSTEP_OK;
}

/*
 * The name of the super-journal, empty if there is none.  At the end of the file: the name, its
 * length, the sum of its bytes (signed where char is, as in the SQLite of the same machine), magic.
 */
static enum lockstep_status
read_super_name(const struct playback *p, char name[MAX_NAME_BYTES + 1])
{
    unsigned char tail[16];
    uint32_t length, sum = 0, i;
    size_t n = 0;
    enum lockstep_status status;
    name[0] = '\0';
    if (p->size_bytes < sizeof tail)
        return LOCKSTEP_OK;
    status = p->io->read(p->file, p->size_bytes - sizeof tail, tail, sizeof tail, &n);
    if (status != LOCKSTEP_OK || n < sizeof tail || !is_magic(tail + 8))
        return status;
    length = lks_journal_get(tail);
    if (length > MAX_NAME_BYTES || length > p->size_bytes - sizeof tail)
        return LOCKSTEP_OK;
    status = p->io->read(p->file, p->size_bytes - sizeof tail - length, name, length, &n);
    if (status != LOCKSTEP_OK || n < length) {
        name[0] = '\0';
        return status;
    }
    name[length] = '\0';
    for (i = 0; i < length; i++)
        sum += (uint32_t)name[i];
    if (sum != lks_journal_get(tail + 4))
        name[0] = '\0';
    return LOCKSTEP_OK;
}

/*
 * A transaction over several files commits by the removal of its super-journal: if that is gone,
 * the journal is a leftover.  If it is there, it stays, even when this was the last journal that
 * named it.  Nobody will look for it then, while removing it with another file's journal still to
 * be rolled back would commit the transaction in that file alone.  SQLite reads all those journals
 * to know which it is, and the last removes it.
 */
static enum lockstep_status
super_journal_is_gone(const struct playback *p, bool *out_gone)
{
    char name[MAX_NAME_BYTES + 1];
    bool exists = true;
    enum lockstep_status status = read_super_name(p, name);
    if (status == LOCKSTEP_OK && name[0] != '\0')
        status = p->io->exists(p->io->context, name, &exists);
    *out_gone = !exists;
    return status;
}

/* *out_remove: there is a journal, and nobody needs it any more. */
static enum lockstep_status
play_back_file(struct playback *p, bool *out_remove)
{
    uint64_t db_size_bytes = 0;
    unsigned char first = 0;
    size_t n = 0;
    bool gone = false;
    enum lockstep_status status = p->io->size(p->file, &p->size_bytes);
    if (status == LOCKSTEP_OK)
        status = p->io->size(p->db, &db_size_bytes);
    if (status == LOCKSTEP_OK)
        status = p->io->read(p->file, 0, &first, 1, &n);
    /*
     * Synced in any case.  A hot journal: a power cut during the playback must find it whole.  A
     * cold one: its zeros may be in memory only, and the caller is going to trust the database.
     */
    if (status == LOCKSTEP_OK)
        status = p->io->sync(p->file);
    if (status != LOCKSTEP_OK || p->size_bytes == 0)
        return status;
    /*
     * An empty database: the journal was left by another one of that name, or by the first
     * transaction of this one, which is thus undone.  One byte is empty too: SQLite on Unix says so.
     */
    *out_remove = db_size_bytes <= 1;
    if (*out_remove || first == 0)
        return LOCKSTEP_OK;
    status = super_journal_is_gone(p, &gone);
    if (status == LOCKSTEP_OK && !gone)
        status = play_back(p);
    *out_remove = true;
    return status;
}

/* The journal at `path`, if there is one. */
static enum lockstep_status
play_back_path(struct playback *p, const char *path, bool *out_remove)
{
    bool exists = false;
    enum lockstep_status status = p->io->exists(p->io->context, path, &exists);
    *out_remove = false;
    if (status == LOCKSTEP_OK && exists) {
        /* Until its header is read, SQLite takes the journal's sectors to be like its own. */
        p->sector_size = LKS_JOURNAL_SECTOR_BYTES;
        status = p->io->open(p->io->context, path, LKS_IO_JOURNAL, &p->file);
        if (status != LOCKSTEP_OK)
            return status;
        status = play_back_file(p, out_remove);
        p->io->close(p->file);
        free(p->record);
    }
    return status;
}

enum lockstep_status
lks_journal_read_back(const struct lks_io *io, const char *path, struct lks_io_file *db, bool *out_rolled_back)
{
    struct playback p = {.io = io, .db = db};
    bool remove;
    enum lockstep_status status = play_back_path(&p, path, &remove);
    if (status == LOCKSTEP_OK)
        *out_rolled_back = p.begun;
    return status;
}

enum lockstep_status
lks_journal_rollback(const struct lks_io *io, const char *path, struct lks_io_file *db,
                     bool *out_rolled_back)
{
    struct playback p = {.io = io, .db = db};
    bool remove;
    enum lockstep_status status = play_back_path(&p, path, &remove);
    if (status != LOCKSTEP_OK)
        return status;
    if (p.begun) {
        LKS_CRASH_POINT("journal:rolled-back");
        lks_log(LKS_NOTICE, "rolled back %llu pages from %s", (unsigned long long)p.pages_written,
                path);
    }
    if (remove)
        status = io->remove(io->context, path, true);
    if (status != LOCKSTEP_OK)
        return status;
    if (remove)
        LKS_CRASH_POINT("journal:removed");
    *out_rolled_back = p.begun;
    return LOCKSTEP_OK;
}
