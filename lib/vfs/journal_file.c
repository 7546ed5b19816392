/*
 * The rollback journal that SQLite's pager writes for a transaction in store mode: private memory, for nobody
 * else ever reads it (a transaction that dies leaves blocks that are unlinked).  Past a threshold it is
 * spilled to an unnamed temporary file.
 */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "vfs/vfs.h"

#define SPILL_BYTES (8u << 20)
#define PART_BYTES ((size_t)64 << 10)
/* What is kept for the next transaction. */
#define KEEP_BYTES (256u << 10)

struct journal_file {
    sqlite3_file base;
    struct lks_file *main;
    size_t size;
    sqlite3_file *spill; /* follows; pMethods NULL: not spilled */
};

static struct journal_file *
of(sqlite3_file *file)
{
    return (struct journal_file *)file;
}

static bool
spilled(const struct journal_file *j)
{
    return j->spill->pMethods != NULL;
}

static int
journal_close(sqlite3_file *file)
{
    struct journal_file *j = of(file);
    int rc = SQLITE_OK;
    if (spilled(j))
        rc = j->spill->pMethods->xClose(j->spill);
    if (j->main->journal_capacity > KEEP_BYTES) {
        free(j->main->journal_buffer);
        j->main->journal_buffer = NULL;
        j->main->journal_capacity = 0;
    }
    file->pMethods = NULL;
    return rc;
}

static int
journal_read(sqlite3_file *file, void *buf, int amount, sqlite3_int64 offset)
{
    struct journal_file *j = of(file);
    size_t have = 0;
    if (spilled(j))
        return j->spill->pMethods->xRead(j->spill, buf, amount, offset);
    if ((uint64_t)offset < j->size)
        have = j->size - (size_t)offset;
    if (have >= (size_t)amount) {
        memcpy(buf, j->main->journal_buffer + offset, (size_t)amount);
        return SQLITE_OK;
    }
    if (have > 0)
        memcpy(buf, j->main->journal_buffer + offset, have);
    memset((char *)buf + have, 0, (size_t)amount - have);
    return SQLITE_IOERR_SHORT_READ;
}

static int
spill(struct journal_file *j)
{
    sqlite3_vfs *parent = lks_vfs_parent();
    size_t done = 0;
    int rc = parent->xOpen(parent, NULL, j->spill,
                           SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_EXCLUSIVE |
                               SQLITE_OPEN_DELETEONCLOSE | SQLITE_OPEN_TEMP_JOURNAL,
                           NULL);
    if (rc != SQLITE_OK) {
        j->spill->pMethods = NULL;
        return rc;
    }
    /* In parts: SQLite's VFS for Unix writes less than 128 KiB at a time and calls more a full disk. */
    while (done < j->size && rc == SQLITE_OK) {
        size_t n = j->size - done < PART_BYTES ? j->size - done : PART_BYTES;
        rc = j->spill->pMethods->xWrite(j->spill, j->main->journal_buffer + done, (int)n,
                                        (sqlite3_int64)done);
        done += n;
    }
    if (rc != SQLITE_OK) {
        /* Memory has it all: a ROLLBACK plays that back. */
        (void)j->spill->pMethods->xClose(j->spill);
        j->spill->pMethods = NULL;
    }
    return rc;
}

static int
reserve(struct lks_file *main, size_t size)
{
    size_t capacity = main->journal_capacity == 0 ? 32768 : main->journal_capacity;
    unsigned char *grown;
    if (size <= main->journal_capacity)
        return SQLITE_OK;
    while (capacity < size)
        capacity *= 2;
    grown = realloc(main->journal_buffer, capacity);
    if (grown == NULL)
        return SQLITE_IOERR_NOMEM;
    main->journal_buffer = grown;
    main->journal_capacity = capacity;
    return SQLITE_OK;
}

static int
journal_write(sqlite3_file *file, const void *buf, int amount, sqlite3_int64 offset)
{
    struct journal_file *j = of(file);
    size_t end = (size_t)offset + (size_t)amount;
    int rc = SQLITE_OK;
    if (!spilled(j) && end > SPILL_BYTES)
        rc = spill(j);
    if (rc == SQLITE_OK && spilled(j))
        return j->spill->pMethods->xWrite(j->spill, buf, amount, offset);
    if (rc == SQLITE_OK)
        rc = reserve(j->main, end);
    if (rc != SQLITE_OK)
        return rc;
    if ((size_t)offset > j->size)
        memset(j->main->journal_buffer + j->size, 0, (size_t)offset - j->size);
    memcpy(j->main->journal_buffer + offset, buf, (size_t)amount);
    if (end > j->size)
        j->size = end;
    return SQLITE_OK;
}

static int
journal_truncate(sqlite3_file *file, sqlite3_int64 size)
{
    struct journal_file *j = of(file);
    if (spilled(j))
        return j->spill->pMethods->xTruncate(j->spill, size);
    if ((size_t)size < j->size)
        j->size = (size_t)size;
    return SQLITE_OK;
}

/* Nothing to sync; but how often SQLite asks tells FULL from NORMAL, see lks_file_durability(). */
static int
journal_sync(sqlite3_file *file, int flags)
{
    (void)flags;
    of(file)->main->journal_syncs++;
    return SQLITE_OK;
}

static int
journal_size(sqlite3_file *file, sqlite3_int64 *out_size)
{
    struct journal_file *j = of(file);
    if (spilled(j))
        return j->spill->pMethods->xFileSize(j->spill, out_size);
    *out_size = (sqlite3_int64)j->size;
    return SQLITE_OK;
}

static int
journal_lock(sqlite3_file *file, int level)
{
    (void)file;
    (void)level;
    return SQLITE_OK;
}

static int
journal_reserved(sqlite3_file *file, int *out)
{
    (void)file;
    *out = 0;
    return SQLITE_OK;
}

static int
journal_control(sqlite3_file *file, int op, void *arg)
{
    (void)file;
    (void)op;
    (void)arg;
    return SQLITE_NOTFOUND;
}

static int
journal_sector(sqlite3_file *file)
{
    (void)file;
    return 512;
}

static int
journal_characteristics(sqlite3_file *file)
{
    (void)file;
    return SQLITE_IOCAP_POWERSAFE_OVERWRITE;
}

static const sqlite3_io_methods journal_methods = {
    .iVersion = 1,
    .xClose = journal_close,
    .xRead = journal_read,
    .xWrite = journal_write,
    .xTruncate = journal_truncate,
    .xSync = journal_sync,
    .xFileSize = journal_size,
    .xLock = journal_lock,
    .xUnlock = journal_lock,
    .xCheckReservedLock = journal_reserved,
    .xFileControl = journal_control,
    .xSectorSize = journal_sector,
    .xDeviceCharacteristics = journal_characteristics,
};

int
lks_journal_file_open(struct lks_file *main, sqlite3_file *file, int flags, int *out_flags)
{
    struct journal_file *j = of(file);
    j->main = main;
    j->size = 0;
    j->spill = (sqlite3_file *)(j + 1);
    j->spill->pMethods = NULL;
    j->base.pMethods = &journal_methods;
    if (out_flags != NULL)
        *out_flags = flags;
    return SQLITE_OK;
}

int
lks_journal_file_bytes(void)
{
    return (int)sizeof(struct journal_file);
}
