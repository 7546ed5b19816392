#include "findex_database.h"

#include <err.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <lockstep/lockstep.h>

static const char schema[] =
    "CREATE TABLE directory(id INTEGER PRIMARY KEY, path NOT NULL,"
    "  files INTEGER NOT NULL, bytes INTEGER NOT NULL);"
    "CREATE TABLE file("
    "  path NOT NULL PRIMARY KEY,"
    "  directory INTEGER NOT NULL REFERENCES directory,"
    "  size INTEGER NOT NULL,"
    "  mtime INTEGER NOT NULL,"
    "  owner TEXT NOT NULL,"
    "  hash INTEGER" /* NULL: could not be read */
    ") WITHOUT ROWID;"
    "CREATE INDEX file_directory ON file(directory, size);"
    "CREATE INDEX file_size ON file(size);"
    "CREATE TABLE total(files INTEGER NOT NULL, bytes INTEGER NOT NULL);"
    "INSERT INTO total VALUES (0, 0);";

static const char *const beside[] = {"-journal", "-wal", "-shm", "-lockstep"};

static bool
complain(const char *path, sqlite3 *db)
{
    warnx("%s: %s", path, sqlite3_errmsg(db));
    return false;
}

bool
findex_database_create(const char *path, const struct findex_side *side)
{
    sqlite3 *db = NULL;
    bool ok = true;

    char *pragma = sqlite3_mprintf("PRAGMA journal_mode = %s", side->journal);
    if (pragma == NULL
        || sqlite3_open_v2(path, &db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE, FINDEX_STOCK)
               != SQLITE_OK
        || sqlite3_exec(db, pragma, NULL, NULL, NULL) != SQLITE_OK
        || sqlite3_exec(db, schema, NULL, NULL, NULL) != SQLITE_OK)
        ok = complain(path, db);
    sqlite3_free(pragma);
    sqlite3_close(db);
    return ok;
}

bool
findex_database_uri(const char *path, const char *vfs, const char *parameters, char *uri,
                    size_t room)
{
    static const char plain[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~/";
    size_t used = (size_t)snprintf(uri, room, "file:");

    for (const char *p = path; *p != '\0' && used + 4 < room; p++) {
        if (strchr(plain, *p) != NULL)
            uri[used++] = *p;
        else
            used += (size_t)snprintf(uri + used, room - used, "%%%02x", (unsigned char)*p);
    }
    used += (size_t)snprintf(uri + used, room - used, "?vfs=%s%s", vfs, parameters);
    if (used >= room) {
        warnx("%s: the name is too long", path);
        return false;
    }
    return true;
}

int
findex_database_open(const struct findex_job *job, sqlite3 **out_db)
{
    sqlite3 *db = NULL;
    int rc = SQLITE_OK;

    if (job->use_lockstep)
        rc = lockstep_initialize(NULL, 0);
    if (rc == SQLITE_OK)
        rc = sqlite3_open_v2(job->uri, &db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_URI, NULL);
    if (rc == SQLITE_OK)
        rc = sqlite3_busy_timeout(db, FINDEX_BUSY_MS);
    if (rc == SQLITE_OK) {
        char *pragma = sqlite3_mprintf("PRAGMA synchronous = %s", job->synchronous);
        rc = pragma != NULL ? sqlite3_exec(db, pragma, NULL, NULL, NULL) : SQLITE_NOMEM;
        sqlite3_free(pragma);
    }
    *out_db = db;
    return rc;
}

/* Well-formed as RFC 3629 has it: no overlong form, no surrogate, nothing past U+10FFFF. */
bool
findex_is_utf8(const char *text)
{
    const unsigned char *p = (const unsigned char *)text;

    while (*p != '\0') {
        unsigned more = *p < 0x80                 ? 0
                        : *p >= 0xc2 && *p < 0xe0 ? 1
                        : *p >= 0xe0 && *p < 0xf0 ? 2
                                                  : 3;
        unsigned char low = *p == 0xe0 ? 0xa0 : *p == 0xf0 ? 0x90 : 0x80;
        unsigned char high = *p == 0xed ? 0x9f : *p == 0xf4 ? 0x8f : 0xbf;

        if ((*p >= 0x80 && *p < 0xc2) || *p > 0xf4)
            return false;
        p++;
        for (; more > 0; more--, p++) {
            if (*p < low || *p > high)
                return false;
            low = 0x80;
            high = 0xbf;
        }
    }
    return true;
}

int
findex_bind_path(sqlite3_stmt *stmt, int column, const char *path)
{
    int size = (int)strlen(path);

    if (findex_is_utf8(path))
        return sqlite3_bind_text(stmt, column, path, size, SQLITE_STATIC);
    return sqlite3_bind_blob(stmt, column, path, size, SQLITE_STATIC);
}

static bool
check_integrity(sqlite3 *db, struct findex_verdict *out_verdict)
{
    sqlite3_stmt *stmt;
    bool ok = sqlite3_prepare_v2(db, "PRAGMA integrity_check(1)", -1, &stmt, NULL) == SQLITE_OK
              && sqlite3_step(stmt) == SQLITE_ROW;

    if (ok)
        snprintf(out_verdict->integrity, sizeof out_verdict->integrity, "%s",
                 sqlite3_column_text(stmt, 0));
    sqlite3_finalize(stmt);
    return ok;
}

static bool
check_sums(sqlite3 *db, struct findex_verdict *out_verdict)
{
    static const char query[] =
        "SELECT (SELECT count(*) FROM file),"
        " (SELECT count(*) = 1 FROM total)"
        " AND (SELECT (files, bytes) ="
        "   (SELECT count(*), coalesce(sum(size), 0) FROM file) FROM total)"
        " AND NOT EXISTS (SELECT 1 FROM directory WHERE (files, bytes) <>"
        "   (SELECT count(*), coalesce(sum(size), 0) FROM file"
        "    WHERE file.directory = directory.id))"
        " AND NOT EXISTS (SELECT 1 FROM file WHERE directory NOT IN (SELECT id FROM directory))";
    sqlite3_stmt *stmt;
    bool ok = sqlite3_prepare_v2(db, query, -1, &stmt, NULL) == SQLITE_OK
              && sqlite3_step(stmt) == SQLITE_ROW;

    if (ok) {
        out_verdict->rows = (uint64_t)sqlite3_column_int64(stmt, 0);
        out_verdict->sums_fit = sqlite3_column_int(stmt, 1) != 0;
    }
    sqlite3_finalize(stmt);
    return ok;
}

static bool
check_acknowledged(sqlite3 *db, struct findex_job *job, struct findex_verdict *out_verdict)
{
    sqlite3_stmt *stmt;
    int rc = sqlite3_prepare_v2(db, "SELECT 1 FROM file WHERE path = ?1", -1, &stmt, NULL);

    for (uint32_t i = 0; rc == SQLITE_OK && i < job->n_files; i++) {
        if (atomic_load_explicit(findex_job_acked(job, i), memory_order_acquire) == 0)
            continue;
        rc = findex_bind_path(stmt, 1, findex_job_path(job, i));
        if (rc == SQLITE_OK && sqlite3_step(stmt) != SQLITE_ROW)
            out_verdict->missing++;
        if (rc == SQLITE_OK)
            rc = sqlite3_reset(stmt);
    }
    sqlite3_finalize(stmt);
    return rc == SQLITE_OK;
}

static void
look_beside(const char *path, struct findex_verdict *out_verdict)
{
    for (size_t i = 0; i < sizeof beside / sizeof *beside; i++) {
        size_t used = strlen(out_verdict->left_behind);
        char *name = sqlite3_mprintf("%s%s", path, beside[i]);
        if (name != NULL && access(name, F_OK) == 0)
            snprintf(out_verdict->left_behind + used, sizeof out_verdict->left_behind - used,
                     "%s%s", used > 0 ? " " : "", beside[i]);
        sqlite3_free(name);
    }
}

bool
findex_database_verify(const char *path, struct findex_job *job, struct findex_verdict *out_verdict)
{
    struct findex_verdict verdict = {0};
    struct stat file;
    sqlite3 *db = NULL;

    look_beside(path, &verdict);
    if (stat(path, &file) == 0)
        verdict.bytes = (uint64_t)file.st_size;
    bool ok = sqlite3_open_v2(path, &db, SQLITE_OPEN_READWRITE, FINDEX_STOCK) == SQLITE_OK
              && check_integrity(db, &verdict) && check_sums(db, &verdict)
              && check_acknowledged(db, job, &verdict);
    verdict.writable =
        sqlite3_exec(db, "UPDATE total SET files = files", NULL, NULL, NULL) == SQLITE_OK;
    if (ok)
        *out_verdict = verdict;
    else
        complain(path, db);
    sqlite3_close(db);
    return ok;
}

void
findex_database_remove(const char *path)
{
    unlink(path);
    for (size_t i = 0; i < sizeof beside / sizeof *beside; i++) {
        char *name = sqlite3_mprintf("%s%s", path, beside[i]);
        if (name != NULL)
            unlink(name);
        sqlite3_free(name);
    }
}
