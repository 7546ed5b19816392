#include "bench/database.h"

#include <errno.h>
#include <fcntl.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sendfile.h>
#include <unistd.h>

#include "bench/message.h"

static const char *const companions[] = {"-journal", "-wal", "-shm", "-lockstep"};

#define COMPANIONS (sizeof(companions) / sizeof(companions[0]))

static bool
sql_error(const char *path, const char *what, sqlite3 *db)
{
    return bench_error("%s: %s: %s", path, what, db != NULL ? sqlite3_errmsg(db) : "out of memory");
}

static bool
open_stock(const char *path, int flags, sqlite3 **out_db)
{
    sqlite3 *db = NULL;
    if (sqlite3_open_v2(path, &db, SQLITE_OPEN_READWRITE | flags, "unix") != SQLITE_OK) {
        sql_error(path, "opening", db);
        sqlite3_close(db);
        return false;
    }
    *out_db = db;
    return true;
}

/* ---- making ---- */

bool
bench_database_create(const char *path, const struct bench_contents *contents)
{
    sqlite3 *db = NULL;
    bool ok = false;
    if (!open_stock(path, SQLITE_OPEN_CREATE, &db))
        return false;
    char *sql = sqlite3_mprintf(
        "PRAGMA page_size=%d; PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF; BEGIN;"
        "CREATE TABLE account(id INTEGER PRIMARY KEY, balance INTEGER NOT NULL,"
        " filler BLOB NOT NULL);"
        "CREATE TABLE entry(id INTEGER PRIMARY KEY, worker INTEGER NOT NULL,"
        " payload BLOB NOT NULL);"
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < %u)"
        " INSERT INTO account SELECT i, %d, zeroblob(%u) FROM n;"
        "COMMIT;",
        BENCH_PAGE_BYTES, contents->rows, BENCH_OPENING_BALANCE, contents->filler_bytes);
    if (sql != NULL && sqlite3_exec(db, sql, NULL, NULL, NULL) == SQLITE_OK)
        ok = true;
    else
        sql_error(path, "making the database", db);
    sqlite3_free(sql);
    if (sqlite3_close(db) != SQLITE_OK && ok)
        ok = sql_error(path, "closing", db);
    return ok;
}

/* ---- copying ---- */

static bool
copy_bytes(int from, int to)
{
    for (;;) {
        ssize_t n = sendfile(to, from, NULL, 1 << 30);
        if (n == 0)
            return true;
        if (n < 0 && errno != EINTR)
            return false;
    }
}

static bool
copy_file(const char *from, const char *to)
{
    bool ok = false;
    int from_fd = open(from, O_RDONLY | O_CLOEXEC);
    if (from_fd < 0)
        return bench_error("%s: %s", from, strerror(errno));
    int to_fd = open(to, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
    if (to_fd < 0) {
        bench_error("%s: %s", to, strerror(errno));
        goto close_from;
    }
    ok = copy_bytes(from_fd, to_fd) && fsync(to_fd) == 0;
    if (!ok)
        bench_error("copying %s to %s: %s", from, to, strerror(errno));
    if (close(to_fd) != 0 && ok)
        ok = bench_error("%s: %s", to, strerror(errno));
close_from:
    close(from_fd);
    return ok;
}

static bool
set_journal_mode(const char *path, const char *journal_mode)
{
    char sql[64];
    sqlite3 *db = NULL;
    if (!open_stock(path, 0, &db))
        return false;
    snprintf(sql, sizeof(sql), "PRAGMA journal_mode=%s", journal_mode);
    bool ok = sqlite3_exec(db, sql, NULL, NULL, NULL) == SQLITE_OK;
    if (!ok)
        sql_error(path, sql, db);
    if (sqlite3_close(db) != SQLITE_OK && ok)
        ok = sql_error(path, "closing", db);
    return ok;
}

bool
bench_database_copy(const char *from, const char *to, const char *journal_mode)
{
    bench_database_remove(to);
    if (!copy_file(from, to))
        return false;
    /* The rollback modes are a connection's choice, not the file's. */
    return strcmp(journal_mode, "wal") != 0 || set_journal_mode(to, journal_mode);
}

/* ---- checking ---- */

static bool
is_number(sqlite3 *db, const char *label, const char *sql, uint64_t expected, const char *what)
{
    sqlite3_stmt *statement = NULL;
    bool ok = false;
    if (sqlite3_prepare_v2(db, sql, -1, &statement, NULL) != SQLITE_OK ||
        sqlite3_step(statement) != SQLITE_ROW) {
        sql_error(label, sql, db);
    } else {
        sqlite3_int64 found = sqlite3_column_int64(statement, 0);
        ok = found == (sqlite3_int64)expected;
        if (!ok)
            bench_error("%s: WRONG RESULT: %s: %lld in the database, %llu were acknowledged", label,
                        what, (long long)found, (unsigned long long)expected);
    }
    sqlite3_finalize(statement);
    return ok;
}

static bool
is_whole(sqlite3 *db, const char *label)
{
    sqlite3_stmt *statement = NULL;
    bool ok = false;
    if (sqlite3_prepare_v2(db, "PRAGMA integrity_check(1)", -1, &statement, NULL) != SQLITE_OK ||
        sqlite3_step(statement) != SQLITE_ROW) {
        sql_error(label, "integrity_check", db);
    } else {
        const char *verdict = (const char *)sqlite3_column_text(statement, 0);
        ok = verdict != NULL && strcmp(verdict, "ok") == 0;
        if (!ok)
            bench_error("%s: WRONG RESULT: integrity_check: %s", label,
                        verdict != NULL ? verdict : "no answer");
    }
    sqlite3_finalize(statement);
    return ok;
}

static bool
nothing_is_left(const char *path, const char *label)
{
    char beside[PATH_MAX + 16];
    for (size_t i = 0; i < COMPANIONS; i++) {
        snprintf(beside, sizeof(beside), "%s%s", path, companions[i]);
        if (access(beside, F_OK) == 0)
            return bench_error("%s: WRONG RESULT: %s is left after the last close", label, beside);
    }
    return true;
}

bool
bench_database_check(const char *path, const char *label, const struct bench_expected *expected)
{
    sqlite3 *db = NULL;
    if ((expected->alone && !nothing_is_left(path, label)) || !open_stock(path, 0, &db))
        return false;
    char *sum = sqlite3_mprintf("SELECT sum(balance - %d) FROM account", BENCH_OPENING_BALANCE);
    bool ok = sum != NULL && is_number(db, label, sum, expected->updates, "updates") &&
              is_number(db, label, "SELECT count(*) FROM entry", expected->entries, "rows") &&
              is_whole(db, label);
    sqlite3_free(sum);
    sqlite3_close(db);
    return ok;
}

/* ---- comparing ---- */

bool
bench_database_changed_pages(const char *original, const char *changed, uint64_t *out_pages)
{
    char old_page[BENCH_PAGE_BYTES];
    char new_page[BENCH_PAGE_BYTES];
    uint64_t pages = 0;
    bool ok = false;
    FILE *old_file = fopen(original, "re");
    FILE *new_file = fopen(changed, "re");
    if (old_file == NULL || new_file == NULL) {
        bench_error("comparing %s with %s: %s", original, changed, strerror(errno));
        goto close_files;
    }
    while (fread(new_page, sizeof(new_page), 1, new_file) == 1) {
        bool had = fread(old_page, sizeof(old_page), 1, old_file) == 1;
        if (!had || memcmp(old_page, new_page, sizeof(new_page)) != 0)
            pages++;
    }
    ok = !ferror(old_file) && !ferror(new_file);
    if (ok)
        *out_pages = pages;
    else
        bench_error("comparing %s with %s: %s", original, changed, strerror(errno));
close_files:
    if (old_file != NULL)
        fclose(old_file);
    if (new_file != NULL)
        fclose(new_file);
    return ok;
}

void
bench_database_remove(const char *path)
{
    char beside[PATH_MAX + 16];
    unlink(path);
    for (size_t i = 0; i < COMPANIONS; i++) {
        snprintf(beside, sizeof(beside), "%s%s", path, companions[i]);
        unlink(beside);
    }
}
