#include "store/dbfile.h"

#include <errno.h>
#include <string.h>

#include "base/crashpoint.h"
#include "base/log.h"
#include "store/store.h"

#define HEADER_BYTES 100u
#define WRITE_VERSION 18u
#define TRIPPED 3u
#define UNTRIPPED 1u

bool
lks_dbfile_is_sqlite(const unsigned char start[LKS_DBFILE_MAGIC_BYTES])
{
    return memcmp(start, "SQLite format 3", LKS_DBFILE_MAGIC_BYTES) == 0;
}

static bool
is_sqlite(const unsigned char *head, size_t size)
{
    return size >= HEADER_BYTES && lks_dbfile_is_sqlite(head);
}

enum lockstep_status
lks_dbfile_open(struct lockstep_db *db)
{
    struct lks_store *store = lks_store_of(db);
    if (store->database != NULL)
        return LOCKSTEP_OK;
    if (db->io == &lks_io_os) {
        store->database = lks_io_os_wrap(db->locks.database_fd);
        return store->database != NULL ? LOCKSTEP_OK : LOCKSTEP_NOMEM;
    }
    return db->io->open(db->io->context, db->path, LKS_IO_DATABASE, &store->database);
}

void
lks_dbfile_close(struct lockstep_db *db)
{
    struct lks_store *store = lks_store_of(db);
    if (store->database != NULL)
        db->io->close(store->database);
    store->database = NULL;
}

enum lockstep_status
lks_dbfile_check_place(struct lockstep_db *db)
{
    struct lks_file_stat named;
    enum lockstep_status status = lks_file_stat_path(db->path, &named);
    if (status == LOCKSTEP_OK && lks_file_same(&named.id, &db->id))
        return LOCKSTEP_OK;
    lks_os_set_errno(ESTALE);
    lks_log(LKS_ERROR,
            "%s was moved, replaced or removed while programs use it; put it back to let them write their "
            "commits",
            db->path);
    return LOCKSTEP_IOERR;
}

enum lockstep_status
lks_dbfile_read(struct lockstep_db *db, uint64_t offset, void *buf, size_t size)
{
    size_t got = 0;
    enum lockstep_status status = db->io->read(lks_store_of(db)->database, offset, buf, size, &got);
    if (status == LOCKSTEP_OK)
        memset((char *)buf + got, 0, size - got);
    return status;
}

static enum lockstep_status
read_head(struct lockstep_db *db, unsigned char head[HEADER_BYTES], bool *out_sqlite)
{
    size_t got = 0;
    enum lockstep_status status =
        db->io->read(lks_store_of(db)->database, 0, head, HEADER_BYTES, &got);
    *out_sqlite = status == LOCKSTEP_OK && is_sqlite(head, got);
    return status;
}

uint32_t
lks_dbfile_page_size_in(const void *start, size_t size, uint32_t otherwise)
{
    const unsigned char *head = start;
    uint32_t page_size;
    if (!is_sqlite(head, size))
        return otherwise;
    page_size = (uint32_t)head[16] << 8 | head[17];
    if (page_size == 1)
        page_size = 65536;
    if (page_size < 512 || page_size > 65536 || (page_size & (page_size - 1)) != 0)
        return otherwise;
    return page_size;
}

static uint32_t
big_endian(const unsigned char *p)
{
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

uint64_t
lks_dbfile_counter_in(const void *start, size_t size)
{
    const unsigned char *head = start;
    if (!is_sqlite(head, size))
        return 0;
    return (uint64_t)big_endian(head + 24) << 32 | big_endian(head + 92);
}

enum lockstep_status
lks_dbfile_look(struct lockstep_db *db, uint32_t otherwise, uint32_t *out_page_size,
                uint64_t *out_counter)
{
    unsigned char head[HEADER_BYTES];
    bool sqlite;
    enum lockstep_status status = read_head(db, head, &sqlite);
    if (status != LOCKSTEP_OK)
        return status;
    *out_page_size = lks_dbfile_page_size_in(head, sqlite ? sizeof head : 0, otherwise);
    *out_counter = lks_dbfile_counter_in(head, sqlite ? sizeof head : 0);
    return LOCKSTEP_OK;
}

enum lockstep_status
lks_dbfile_counter(struct lockstep_db *db, uint64_t *out_counter)
{
    unsigned char head[HEADER_BYTES];
    bool sqlite;
    enum lockstep_status status = read_head(db, head, &sqlite);
    if (status == LOCKSTEP_OK)
        *out_counter = lks_dbfile_counter_in(head, sqlite ? sizeof head : 0);
    return status;
}

enum lockstep_status
lks_dbfile_rollback(struct lockstep_db *db, bool *out_rolled_back)
{
    bool exists = false;
    enum lockstep_status status = db->io->exists(db->io->context, db->journal_path, &exists);
    *out_rolled_back = false;
    if (status != LOCKSTEP_OK || !exists)
        return status;
    status = lks_dbfile_open(db);
    if (status == LOCKSTEP_OK)
        status = lks_journal_rollback(db->io, db->journal_path, lks_store_of(db)->database,
                                      out_rolled_back);
    if (status == LOCKSTEP_OK && *out_rolled_back)
        lks_log(LKS_NOTICE, "%s: rolled back %s, which a dead process left", db->path,
                db->journal_path);
    return status;
}

enum lockstep_status
lks_dbfile_trip(struct lockstep_db *db, bool tripped, bool sync)
{
    unsigned char head[HEADER_BYTES];
    unsigned char want = tripped ? TRIPPED : UNTRIPPED;
    bool sqlite;
    enum lockstep_status status;
    if (tripped && db->alone)
        return LOCKSTEP_OK;
    status = read_head(db, head, &sqlite);
    if (status != LOCKSTEP_OK || !sqlite || head[WRITE_VERSION] == want ||
        (head[WRITE_VERSION] != TRIPPED && head[WRITE_VERSION] != UNTRIPPED))
        return status;
    status = db->io->write(lks_store_of(db)->database, WRITE_VERSION, &want, 1);
    LKS_CRASH_POINT("dbfile:tripped");
    if (status == LOCKSTEP_OK && sync)
        status = db->io->sync(lks_store_of(db)->database);
    return status;
}

bool
lks_dbfile_has_tripwire(uint64_t offset, size_t size)
{
    return offset <= WRITE_VERSION && offset + size > WRITE_VERSION;
}

static void
change_version(uint64_t offset, void *buf, size_t size, unsigned char from, unsigned char to)
{
    unsigned char *p;
    if (!lks_dbfile_has_tripwire(offset, size))
        return;
    p = (unsigned char *)buf + (WRITE_VERSION - offset);
    /* Where the buffer shows the start, it must be a database's. */
    if (offset == 0 && size >= LKS_DBFILE_MAGIC_BYTES && !lks_dbfile_is_sqlite(buf))
        return;
    if (*p == from)
        *p = to;
}

void
lks_dbfile_hide_tripwire(uint64_t offset, void *buf, size_t size)
{
    change_version(offset, buf, size, TRIPPED, UNTRIPPED);
}

void
lks_dbfile_set_tripwire(uint64_t offset, void *buf, size_t size)
{
    if (offset == 0)
        change_version(offset, buf, size, UNTRIPPED, TRIPPED);
}
