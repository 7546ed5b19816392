#include "bench/connection.h"

#include <lockstep/lockstep.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "bench/database.h"
#include "bench/delay_vfs.h"

#define STRING_OF(x) #x
#define STRING(x) STRING_OF(x)

static const char payload[BENCH_ENTRY_BYTES];

/* ---- opening ---- */

/* A URI gives '?', '#' and '%' a meaning of their own. */
static char *
uri_of(const struct bench_job *job, const char *vfs)
{
    sqlite3_str *uri = sqlite3_str_new(NULL);
    sqlite3_str_appendall(uri, "file:");
    for (const char *c = job->path; *c != '\0'; c++) {
        if (*c == '?' || *c == '#' || *c == '%')
            sqlite3_str_appendf(uri, "%%%02X", (unsigned)*c);
        else
            sqlite3_str_appendchar(uri, 1, *c);
    }
    sqlite3_str_appendf(uri, "?vfs=%s", vfs);
    if (job->side.kind == BENCH_LOCKSTEP && job->side.durability[0] != '\0')
        sqlite3_str_appendf(uri, "&durability=%s", job->side.durability);
    if (job->side.kind == BENCH_LOCKSTEP && job->side.shm[0] != '\0')
        sqlite3_str_appendf(uri, "&shm=%s", job->side.shm);
    return sqlite3_str_finish(uri);
}

static int
open_database(const struct bench_job *job, const char *vfs, sqlite3 **out_db)
{
    char *uri = uri_of(job, vfs);
    if (uri == NULL)
        return SQLITE_NOMEM;
    int rc = sqlite3_open_v2(uri, out_db,
                             SQLITE_OPEN_READWRITE | SQLITE_OPEN_URI | SQLITE_OPEN_NOMUTEX, NULL);
    sqlite3_free(uri);
    return rc;
}

/* Makes *db an in-memory copy of the file. */
static int
open_copy(const struct bench_job *job, const char *vfs, sqlite3 **out_db)
{
    sqlite3 *file = NULL;
    int rc = open_database(job, vfs, &file);
    if (rc == SQLITE_OK)
        rc = sqlite3_open_v2(":memory:", out_db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX, NULL);
    if (rc == SQLITE_OK) {
        sqlite3_backup *backup = sqlite3_backup_init(*out_db, "main", file, "main");
        if (backup != NULL) {
            sqlite3_backup_step(backup, -1);
            rc = sqlite3_backup_finish(backup);
        } else {
            rc = sqlite3_errcode(*out_db);
        }
    }
    sqlite3_close(file);
    return rc;
}

/* The VFS to name in the URI, registered. */
static int
register_vfs(const struct bench_job *job, const char **out_vfs)
{
    const char *base = "unix";
    int rc = SQLITE_OK;
    if (job->sync_latency_us > 0) {
        rc = bench_delay_vfs_register(job->sync_latency_us);
        base = BENCH_DELAY_VFS_NAME;
    }
    if (rc == SQLITE_OK && job->side.kind == BENCH_LOCKSTEP) {
        rc = lockstep_initialize(job->sync_latency_us > 0 ? base : NULL, 0);
        base = "lockstep";
    }
    if (rc == SQLITE_OK)
        *out_vfs = base;
    return rc;
}

static int
configure(const struct bench_job *job, sqlite3 *db)
{
    char sql[128];
    int rc = sqlite3_busy_timeout(db, (int)job->busy_timeout_ms);
    if (rc != SQLITE_OK)
        return rc;
    snprintf(sql, sizeof(sql), "PRAGMA cache_size=-%u; PRAGMA mmap_size=0;", job->cache_kib);
    rc = sqlite3_exec(db, sql, NULL, NULL, NULL);
    if (rc == SQLITE_OK && job->side.synchronous[0] != '\0') {
        snprintf(sql, sizeof(sql), "PRAGMA synchronous=%s;", job->side.synchronous);
        rc = sqlite3_exec(db, sql, NULL, NULL, NULL);
    }
    return rc;
}

/* A measurement in the wrong journal mode would go unnoticed. */
static bool
has_journal_mode(sqlite3 *db, const char *wanted)
{
    sqlite3_stmt *statement = NULL;
    bool same = false;
    if (sqlite3_prepare_v2(db, "PRAGMA journal_mode", -1, &statement, NULL) == SQLITE_OK &&
        sqlite3_step(statement) == SQLITE_ROW) {
        const char *mode = (const char *)sqlite3_column_text(statement, 0);
        same = mode != NULL && sqlite3_stricmp(mode, wanted) == 0;
    }
    sqlite3_finalize(statement);
    return same;
}

/* ---- statements ---- */

static int
prepare_all(const struct bench_job *job, struct bench_connection *c)
{
    const struct {
        const char *sql;
        sqlite3_stmt **statement;
    } all[] = {
        {"BEGIN IMMEDIATE", &c->begin_immediate},
        {"BEGIN", &c->begin},
        {"COMMIT", &c->commit},
        {"ROLLBACK", &c->rollback},
        {"UPDATE account SET balance = balance + 1 WHERE id = ?1", &c->update},
        {"INSERT INTO entry(worker, payload) VALUES(?1, ?2)", &c->insert},
        {"SELECT balance FROM account WHERE id = ?1", &c->select},
        {"SELECT sum(balance - " STRING(BENCH_OPENING_BALANCE) ") FROM account", &c->sum},
        {"SELECT coalesce(max(id), 0) FROM entry", &c->top},
    };
    for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
        int rc = sqlite3_prepare_v3(c->db, all[i].sql, -1, SQLITE_PREPARE_PERSISTENT,
                                    all[i].statement, NULL);
        if (rc != SQLITE_OK)
            return rc;
    }
    int rc = sqlite3_bind_int64(c->insert, 1, job->index);
    if (rc == SQLITE_OK)
        rc = sqlite3_bind_blob(c->insert, 2, payload, sizeof(payload), SQLITE_STATIC);
    return rc;
}

static void
finalize_all(struct bench_connection *c)
{
    sqlite3_stmt *statement;
    while (c->db != NULL && (statement = sqlite3_next_stmt(c->db, NULL)) != NULL)
        sqlite3_finalize(statement);
}

int
bench_connection_open(const struct bench_job *job, struct bench_connection *out_connection,
                      char *out_message, size_t message_size)
{
    struct bench_connection c = {0};
    const char *vfs = NULL;
    const char *what = "registering the VFS";
    int rc = register_vfs(job, &vfs);
    if (rc == SQLITE_OK) {
        what = "opening the database";
        rc = job->side.kind == BENCH_MEMORY ? open_copy(job, vfs, &c.db)
                                            : open_database(job, vfs, &c.db);
    }
    if (rc == SQLITE_OK) {
        what = "setting pragmas";
        rc = configure(job, c.db);
    }
    if (rc == SQLITE_OK) {
        what = "preparing statements";
        rc = prepare_all(job, &c);
    }
    if (rc == SQLITE_OK && !has_journal_mode(c.db, job->side.journal_mode)) {
        what = "checking that the journal mode is the wanted one";
        rc = SQLITE_MISMATCH;
    }
    if (rc != SQLITE_OK) {
        snprintf(out_message, message_size, "%s: %s (%s)", what, sqlite3_errstr(rc),
                 c.db != NULL ? sqlite3_errmsg(c.db) : "no connection");
        (void)bench_connection_close(&c);
        return rc;
    }
    *out_connection = c;
    return SQLITE_OK;
}

int
bench_connection_flush(struct bench_connection *c, const struct bench_job *job)
{
    if (job->side.kind != BENCH_LOCKSTEP)
        return SQLITE_OK;
    return sqlite3_exec(c->db, "PRAGMA lockstep_flush", NULL, NULL, NULL);
}

int
bench_connection_close(struct bench_connection *c)
{
    finalize_all(c);
    int rc = sqlite3_close(c->db);
    if (rc == SQLITE_OK)
        memset(c, 0, sizeof(*c));
    return rc;
}

/* ---- running ---- */

int
bench_connection_run(sqlite3_stmt *statement)
{
    int rc;
    while ((rc = sqlite3_step(statement)) == SQLITE_ROW)
        ;
    if (rc == SQLITE_DONE)
        return sqlite3_reset(statement);
    sqlite3_reset(statement);
    return rc;
}

int
bench_connection_number(sqlite3_stmt *statement, int64_t *out_number)
{
    int rc = sqlite3_step(statement);
    int64_t number = rc == SQLITE_ROW ? sqlite3_column_int64(statement, 0) : 0;
    if (rc == SQLITE_DONE)
        rc = SQLITE_EMPTY;
    if (rc != SQLITE_ROW) {
        sqlite3_reset(statement);
        return rc;
    }
    *out_number = number;
    return sqlite3_reset(statement); /* OK after a row */
}

static void
keep_highest(uint64_t *highest, int64_t value)
{
    if (value > 0 && (uint64_t)value > *highest)
        *highest = (uint64_t)value;
}

int
bench_connection_store_peak(struct bench_connection *c, struct bench_store_peak *peak)
{
    struct lockstep_db_info info;
    int rc = lockstep_status(c->db, &info);
    if (rc != SQLITE_OK)
        return rc;
    keep_highest(&peak->used_bytes, (int64_t)info.pending_bytes);
    keep_highest(&peak->size_bytes, (int64_t)info.store_bytes);
    keep_highest(&peak->limit_bytes, (int64_t)info.store_limit);
    peak->samples++;
    return SQLITE_OK;
}
