#include "vfs/wal_pages.h"

#include <stdlib.h>
#include <string.h>

#include "vfs/vfs.h"

#define PAGE_SHIFT 12
#define PAGE_BYTES (1 << PAGE_SHIFT)
#define INTERIOR_INDEX 2
#define INTERIOR_TABLE 5

static const char first_page[16] = "SQLite format 3";

static bool
is_kept_kind(const unsigned char *page)
{
    return page[0] == INTERIOR_TABLE || page[0] == INTERIOR_INDEX ||
           (page[0] == (unsigned char)first_page[0] && memcmp(page, first_page, sizeof first_page) == 0);
}

static bool
same_salt(const uint32_t *a, const uint32_t *b)
{
    return a[0] == b[0] && a[1] == b[1];
}

/* SQLite reads other pieces, too: a frame with its header, a few bytes of page 1. */
static bool
may_be_page(int amount)
{
    return (amount & (amount - 1)) == 0;
}

/* P1 to P4; what does not depend on the page. */
static bool
may_look(const struct lks_wal *wal, enum lks_wal_source source, int amount, int64_t offset)
{
    const volatile uint32_t *index = wal->index;
    int64_t frame = LKS_FRAME_HEADER_BYTES + (int64_t)amount;
    if (!wal->attached || (wal->shared & LKS_WAL_READ_BITS) == 0 || (uint32_t)amount != lks_wal_index_page(index) ||
        (wal->snapshot.salt[0] | wal->snapshot.salt[1]) == 0 ||
        lks_wal_index_word(index, LKS_INDEX_SALT) != wal->snapshot.salt[0] ||
        lks_wal_index_word(index, LKS_INDEX_SALT + 1) != wal->snapshot.salt[1])
        return false;
    return source == LKS_WAL_LOG
               ? offset + amount <= LKS_LOG_HEADER_BYTES + (int64_t)wal->snapshot.max_frame * frame
               : wal->snapshot.settled && lks_wal_index_word(index, LKS_INDEX_BACKFILLED) == wal->snapshot.backfilled;
}

/* Where a page is kept, if it is.  The count is a power of 2 as the size is. */
static struct lks_wal_page *
place_of(struct lks_wal_pages *pages, enum lks_wal_source source, int amount, int64_t offset)
{
    unsigned count = source == LKS_WAL_LOG ? LKS_WAL_PAGES_LOG : LKS_WAL_PAGES_DATABASE;
    struct lks_wal_page *all = source == LKS_WAL_LOG ? pages->log : pages->database;
    unsigned shift = (unsigned)__builtin_ctz((unsigned)amount);
    if (amount > PAGE_BYTES)
        count >>= shift - PAGE_SHIFT;
    count += count == 0;
    return &all[(uint64_t)offset >> shift & (count - 1)];
}

bool
lks_wal_pages_find(const struct lks_file *f, enum lks_wal_source source, void *buf, int amount, int64_t offset)
{
    const struct lks_wal *wal = &f->wal;
    const struct lks_wal_page *page;
    if (wal->pages == NULL || !may_be_page(amount))
        return false;
    page = place_of(wal->pages, source, amount, offset);
    if (page->offset != offset || page->amount != amount || !may_look(wal, source, amount, offset) ||
        !same_salt(page->salt, wal->snapshot.salt) ||
        (source == LKS_WAL_DATABASE && page->backfilled != wal->snapshot.backfilled))
        return false;
    memcpy(buf, page->bytes, (size_t)amount);
    return true;
}

void
lks_wal_pages_keep(struct lks_file *f, enum lks_wal_source source, const void *buf, int amount, int64_t offset)
{
    struct lks_wal *wal = &f->wal;
    struct lks_wal_page *page;
    if (!wal->attached || !is_kept_kind(buf) || !may_look(wal, source, amount, offset))
        return;
    if (wal->pages == NULL && (wal->pages = calloc(1, sizeof *wal->pages)) == NULL)
        return;
    page = place_of(wal->pages, source, amount, offset);
    if (page->amount != amount) {
        unsigned char *bytes = realloc(page->bytes, (size_t)amount);
        if (bytes == NULL)
            return;
        page->bytes = bytes;
        page->amount = amount;
    }
    memcpy(page->bytes, buf, (size_t)amount);
    page->offset = offset;
    memcpy(page->salt, wal->snapshot.salt, sizeof page->salt);
    page->backfilled = wal->snapshot.backfilled;
}

void
lks_wal_pages_free(struct lks_wal_pages *pages)
{
    unsigned i;
    if (pages == NULL)
        return;
    for (i = 0; i < LKS_WAL_PAGES_DATABASE; i++)
        free(pages->database[i].bytes);
    for (i = 0; i < LKS_WAL_PAGES_LOG; i++)
        free(pages->log[i].bytes);
    free(pages);
}
