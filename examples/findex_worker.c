/* A worker: takes the next file of the list, reads it, and commits one transaction for it. */
#include <pwd.h>
#include <stdlib.h>
#include <string.h>

#include "findex_child.h"
#include "findex_database.h"

enum { BEGIN, ADD_FILE, ADD_TO_DIRECTORY, ADD_TO_TOTAL, COMMIT, N_STATEMENTS };

static const char *const sql[N_STATEMENTS] = {
    [BEGIN] = "BEGIN IMMEDIATE",
    [ADD_FILE] =
        ("INSERT INTO file(path, directory, size, mtime, owner, hash)"
         " VALUES (?1, ?2, ?3, ?4, ?5, ?6)"),
    [ADD_TO_DIRECTORY] =
        ("INSERT INTO directory(id, path, files, bytes) VALUES (?1, ?2, 1, ?3)"
         " ON CONFLICT(id) DO UPDATE SET files = files + 1, bytes = bytes + excluded.bytes"),
    [ADD_TO_TOTAL] = "UPDATE total SET files = files + 1, bytes = bytes + ?1",
    [COMMIT] = "COMMIT",
};

#define OWNERS 64

struct worker {
    struct findex_job *job;
    sqlite3 *db;
    sqlite3_stmt *statement[N_STATEMENTS];
    struct findex_message *message;
    struct {
        bool known;
        uint32_t uid;
        char name[33];
    } owner[OWNERS]; /* by uid modulo OWNERS: asking the system for a name takes longer than a
                        commit */
};

static const char *
owner_name(struct worker *w, uint32_t uid)
{
    unsigned i = uid % OWNERS;

    if (!w->owner[i].known || w->owner[i].uid != uid) {
        const struct passwd *user = getpwuid(uid);
        if (user != NULL)
            snprintf(w->owner[i].name, sizeof w->owner[i].name, "%s", user->pw_name);
        else
            snprintf(w->owner[i].name, sizeof w->owner[i].name, "%u", uid);
        w->owner[i].uid = uid;
        w->owner[i].known = true;
    }
    return w->owner[i].name;
}

static int
bind(struct worker *w, uint32_t i, const struct findex_file *file)
{
    const uint32_t directory = findex_job_file(w->job, i)->directory;
    const sqlite3_int64 size = (sqlite3_int64)file->size_bytes;
    sqlite3_stmt *add = w->statement[ADD_FILE], *sum = w->statement[ADD_TO_DIRECTORY];
    int rc;

    if ((rc = findex_bind_path(add, 1, findex_job_path(w->job, i))) != SQLITE_OK
        || (rc = sqlite3_bind_int64(add, 2, directory)) != SQLITE_OK
        || (rc = sqlite3_bind_int64(add, 3, size)) != SQLITE_OK
        || (rc = sqlite3_bind_int64(add, 4, file->mtime_s)) != SQLITE_OK
        || (rc = sqlite3_bind_text(add, 5, owner_name(w, file->uid), -1, SQLITE_STATIC))
               != SQLITE_OK
        || (rc = file->hashed ? sqlite3_bind_int64(add, 6, (sqlite3_int64)file->hash)
                              : sqlite3_bind_null(add, 6))
               != SQLITE_OK
        || (rc = sqlite3_bind_int64(sum, 1, directory)) != SQLITE_OK
        || (rc = findex_bind_path(sum, 2, findex_job_directory(w->job, directory))) != SQLITE_OK
        || (rc = sqlite3_bind_int64(sum, 3, size)) != SQLITE_OK)
        return rc;
    return sqlite3_bind_int64(w->statement[ADD_TO_TOTAL], 1, size);
}

/* One attempt.  On an error nothing of it remains. */
static int
transact(struct worker *w)
{
    int rc = SQLITE_OK;

    for (int s = BEGIN; s <= COMMIT && rc == SQLITE_OK; s++) {
        sqlite3_step(w->statement[s]);
        rc = sqlite3_reset(w->statement[s]);
        if (rc != SQLITE_OK && (rc & 0xff) != SQLITE_BUSY)
            findex_child_fail(w->message, w->db, sql[s]);
    }
    if (rc != SQLITE_OK && !sqlite3_get_autocommit(w->db))
        sqlite3_exec(w->db, "ROLLBACK", NULL, NULL, NULL);
    return rc;
}

/* Until it is committed, which may take several attempts; the time counts from the first.  False:
 * no more. */
static bool
commit_file(struct worker *w, uint32_t i, const struct findex_file *file)
{
    struct findex_tally *tally = &w->message->tally;
    int rc = bind(w, i, file);

    if (rc != SQLITE_OK) {
        findex_child_fail(w->message, w->db, "bind");
        return false;
    }
    const uint64_t begin_ns = findex_now_ns();
    while (((rc = transact(w)) & 0xff) == SQLITE_BUSY) {
        tally->refused++;
        atomic_fetch_add_explicit(&w->job->refused, 1, memory_order_relaxed);
        if (findex_job_stopped(w->job)) { /* given up: it would have taken longer still */
            bench_histogram_add(&tally->latency, findex_now_ns() - begin_ns);
            return false;
        }
    }
    if (rc != SQLITE_OK)
        return false;
    atomic_store_explicit(findex_job_acked(w->job, i), 1, memory_order_release);
    atomic_fetch_add_explicit(&w->job->committed, 1, memory_order_relaxed);

    tally->last_ns = findex_now_ns();
    bench_histogram_add(&tally->latency, tally->last_ns - begin_ns);
    tally->transactions++;
    tally->unhashed += !file->hashed;
    return true;
}

void
findex_worker_run(struct findex_job *job, sqlite3 *db, struct findex_message *message)
{
    struct worker *w = calloc(1, sizeof *w);
    unsigned char *buf = malloc(FINDEX_HEAD_BYTES);
    struct findex_file file;
    uint32_t i;

    if (w == NULL || buf == NULL) {
        findex_child_fail(message, NULL, "out of memory");
        goto out;
    }
    w->job = job;
    w->db = db;
    w->message = message;
    for (int s = 0; s < N_STATEMENTS; s++) {
        if (sqlite3_prepare_v3(db, sql[s], -1, SQLITE_PREPARE_PERSISTENT, &w->statement[s], NULL)
            != SQLITE_OK) {
            findex_child_fail(message, db, sql[s]);
            goto out;
        }
    }
    while (findex_job_take(job, &i)) {
        if (!findex_file_read(findex_job_path(job, i), buf, &file))
            message->tally.vanished++;
        else if (!commit_file(w, i, &file))
            break;
    }
out:
    for (int s = 0; w != NULL && s < N_STATEMENTS; s++)
        sqlite3_finalize(w->statement[s]);
    free(buf);
    free(w);
}
