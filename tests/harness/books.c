#include "harness/books.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

uint32_t
books_random(uint32_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 17;
    *state ^= *state << 5;
    return *state;
}

static int
run(sqlite3 *db, const char *format, ...)
{
    char sql[1024];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(sql, sizeof sql, format, arguments);
    va_end(arguments);
    return sqlite3_exec(db, sql, NULL, NULL, NULL);
}

int
books_make(sqlite3 *db)
{
    return run(db, "BEGIN IMMEDIATE;"
                   "CREATE TABLE IF NOT EXISTS account(actor INTEGER PRIMARY KEY, seq, kept, bytes);"
                   "CREATE TABLE IF NOT EXISTS entry(actor, seq, n, pad, PRIMARY KEY(actor, seq));"
                   "CREATE INDEX IF NOT EXISTS entry_n ON entry(n);"
                   "CREATE TABLE IF NOT EXISTS total(id INTEGER PRIMARY KEY CHECK(id = 1), n);"
                   "INSERT OR IGNORE INTO total VALUES(1, 0);"
                   "COMMIT");
}

static int
read_number(sqlite3 *db, const char *sql, int64_t *out)
{
    sqlite3_stmt *statement;
    int rc = sqlite3_prepare_v2(db, sql, -1, &statement, NULL);
    if (rc != SQLITE_OK)
        return rc;
    rc = sqlite3_step(statement);
    if (rc == SQLITE_ROW)
        *out = sqlite3_column_int64(statement, 0);
    if (rc == SQLITE_ROW)
        rc = SQLITE_OK;
    sqlite3_finalize(statement);
    return rc;
}

/* Something that must not be seen again. */
static int
dirty_savepoint(sqlite3 *db, unsigned actor, uint32_t *random)
{
    return run(db,
               "SAVEPOINT s; UPDATE total SET n = -1; DELETE FROM entry WHERE actor = %u;"
               "INSERT INTO entry VALUES(%u, -1, -1, randomblob(%u)); ROLLBACK TO s; RELEASE s",
               actor, actor, 500 + books_random(random) % 20000);
}

static unsigned
pad_bytes(uint32_t *random)
{
    uint32_t dice = books_random(random) % 32;
    return dice == 0 ? 20000 + books_random(random) % 20000
           : dice < 6 ? 1000 + books_random(random) % 6000
                      : books_random(random) % 300;
}

static int
write_entry(sqlite3 *db, unsigned actor, const struct books_record *record, uint32_t *random)
{
    int rc = run(db, "INSERT INTO entry VALUES(%u, %lld, %lld, randomblob(%u))", actor,
                 (long long)record->seq, (long long)record->n, pad_bytes(random));
    if (rc == SQLITE_OK)
        rc = run(db, "DELETE FROM entry WHERE actor = %u AND seq <= %lld", actor,
                 (long long)record->seq - BOOKS_KEPT);
    if (rc == SQLITE_OK)
        rc = run(db,
                 "UPDATE account SET seq = %lld,"
                 " kept = (SELECT count(*) FROM entry WHERE actor = %u),"
                 " bytes = (SELECT sum(length(pad)) FROM entry WHERE actor = %u) WHERE actor = %u",
                 (long long)record->seq, actor, actor, actor);
    return rc;
}

int
books_transact(sqlite3 *db, unsigned actor, char kind, uint32_t *random, struct books_record *out)
{
    char sql[80];
    bool mixed = kind == 'm';
    bool give_up = mixed && books_random(random) % 8 == 0;
    struct books_record record = {.actor = actor};
    int rc;

    record.durable = kind == 'f' || (mixed && books_random(random) % 8 == 0);
    rc = run(db, "PRAGMA lockstep_durability=%s", record.durable ? "full" : "async");
    if (rc == SQLITE_OK)
        rc = run(db, "BEGIN IMMEDIATE");
    if (rc != SQLITE_OK)
        return rc;
    rc = run(db, "INSERT OR IGNORE INTO account VALUES(%u, 0, 0, 0); UPDATE total SET n = n + 1", actor);
    if (rc == SQLITE_OK && mixed && books_random(random) % 6 == 0)
        rc = dirty_savepoint(db, actor, random);
    if (rc == SQLITE_OK)
        rc = read_number(db, "SELECT n FROM total", &record.n);
    snprintf(sql, sizeof sql, "SELECT seq + 1 FROM account WHERE actor = %u", actor);
    if (rc == SQLITE_OK)
        rc = read_number(db, sql, &record.seq);
    if (rc == SQLITE_OK)
        rc = write_entry(db, actor, &record, random);
    if (rc == SQLITE_OK && give_up) {
        rc = run(db, "ROLLBACK");
        return rc == SQLITE_OK ? SQLITE_DONE : rc;
    }
    if (rc == SQLITE_OK)
        rc = run(db, "COMMIT");
    if (rc != SQLITE_OK) {
        if (!sqlite3_get_autocommit(db))
            (void)run(db, "ROLLBACK");
        return rc;
    }
    *out = record;
    return SQLITE_OK;
}

static int
wrong(struct books *books, const char *what, int64_t a, int64_t b)
{
    snprintf(books->wrong, sizeof books->wrong, "%s: %lld, %lld", what, (long long)a, (long long)b);
    return BOOKS_WRONG;
}

static int
audit(sqlite3 *db, struct books *out)
{
    int64_t sum = 0, bad = 0;
    sqlite3_stmt *statement;
    int rc = read_number(db, "SELECT n FROM total", &out->n);
    if (rc == SQLITE_OK)
        rc = sqlite3_prepare_v2(db, "SELECT actor, seq FROM account", -1, &statement, NULL);
    if (rc != SQLITE_OK)
        return rc;
    while ((rc = sqlite3_step(statement)) == SQLITE_ROW) {
        int64_t actor = sqlite3_column_int64(statement, 0);
        if (actor < 0 || actor >= BOOKS_ACTORS) {
            sqlite3_finalize(statement);
            return wrong(out, "an account of nobody", actor, 0);
        }
        out->seq[actor] = sqlite3_column_int64(statement, 1);
        sum += out->seq[actor];
    }
    sqlite3_finalize(statement);
    if (rc != SQLITE_DONE)
        return rc;
    if (sum != out->n)
        return wrong(out, "total.n and the sum of account.seq", out->n, sum);
    rc = read_number(db,
                     "SELECT count(*) FROM account AS a LEFT JOIN"
                     " (SELECT actor, count(*) AS c, max(seq) AS m, min(seq) AS l,"
                     "  sum(length(pad)) AS b FROM entry NOT INDEXED GROUP BY actor) USING(actor)"
                     " WHERE c IS NOT kept OR b IS NOT bytes OR m IS NOT seq OR m - l + 1 IS NOT c",
                     &bad);
    if (rc == SQLITE_OK && bad != 0)
        return wrong(out, "accounts whose entries do not add up", bad, out->n);
    if (rc == SQLITE_OK)
        rc = read_number(db, "SELECT max(n) FROM entry INDEXED BY entry_n WHERE n > -10", &bad);
    if (rc == SQLITE_OK && bad != out->n)
        return wrong(out, "total.n and the newest entry", out->n, bad);
    return rc;
}

int
books_read(sqlite3 *db, struct books *out)
{
    int rc = run(db, "BEGIN");
    memset(out, 0, sizeof *out);
    if (rc == SQLITE_OK)
        rc = audit(db, out);
    if (rc != SQLITE_OK && rc != BOOKS_WRONG)
        snprintf(out->wrong, sizeof out->wrong, "%s (%d)", sqlite3_errmsg(db),
                 sqlite3_extended_errcode(db));
    if (!sqlite3_get_autocommit(db))
        (void)run(db, "COMMIT");
    return rc;
}

int
books_integrity(sqlite3 *db, char *out, size_t capacity)
{
    sqlite3_stmt *statement;
    int rc = sqlite3_prepare_v2(db, "PRAGMA integrity_check", -1, &statement, NULL);
    if (rc == SQLITE_OK) {
        const char *text;
        rc = sqlite3_step(statement);
        text = rc == SQLITE_ROW ? (const char *)sqlite3_column_text(statement, 0) : NULL;
        if (text != NULL)
            rc = strcmp(text, "ok") == 0 ? SQLITE_OK : BOOKS_WRONG;
        snprintf(out, capacity, "%s", text != NULL ? text : sqlite3_errmsg(db));
        sqlite3_finalize(statement);
    } else {
        snprintf(out, capacity, "%s", sqlite3_errmsg(db));
    }
    return rc;
}
