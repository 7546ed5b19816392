/*
 * A reader: a hundred times a second, in one transaction each, it looks a file up by its path, adds
 * up its directory and finds the largest files; four times a second it adds up everything.  The
 * sums are kept by the workers' transactions, so a reader that saw part of one, or two snapshots in
 * one transaction, would find them wrong.  So would one that did not see a commit which had
 * returned before it began.
 */
#include <string.h>

#include "findex_child.h"
#include "findex_database.h"

#define INTERVAL_NS 10000000u
#define ROUNDS_PER_AUDIT 25
#define NEWEST                                                                                     \
    16 /* every second file looked at is one of so many taken last: where the workers are */

enum { BEGIN, TOTAL, BY_PATH, DIRECTORY, IN_DIRECTORY, LARGEST, AUDIT, COMMIT, N_STATEMENTS };

static const char *const sql[N_STATEMENTS] = {
    [BEGIN] = "BEGIN",
    [TOTAL] = "SELECT files, bytes FROM total",
    [BY_PATH] = "SELECT directory, size FROM file WHERE path = ?1",
    [DIRECTORY] = "SELECT files, bytes FROM directory WHERE id = ?1",
    [IN_DIRECTORY] = "SELECT count(*), coalesce(sum(size), 0) FROM file WHERE directory = ?1",
    [LARGEST] = "SELECT size, path FROM file ORDER BY size DESC LIMIT 5",
    [AUDIT] =
        ("SELECT count(*), coalesce(sum(size), 0),"
         " (SELECT coalesce(sum(files), 0) FROM directory),"
         " (SELECT coalesce(sum(bytes), 0) FROM directory)"
         " FROM file"),
    [COMMIT] = "COMMIT",
};

struct reader {
    struct findex_job *job;
    sqlite3 *db;
    sqlite3_stmt *statement[N_STATEMENTS];
    struct findex_message *message;
    uint64_t random;
    sqlite3_int64 files_before; /* what the last round counted: the index only grows */
};

static uint32_t
random_below(struct reader *r, uint32_t limit)
{
    r->random ^= r->random << 13;
    r->random ^= r->random >> 7;
    r->random ^= r->random << 17;
    return (uint32_t)(r->random >> 16) % limit;
}

static void
wrong(struct reader *r, const char *what, sqlite3_int64 is, sqlite3_int64 should)
{
    if (r->message->tally.wrong++ == 0)
        snprintf(r->message->text, sizeof r->message->text, "%s: %lld, expected %lld", what,
                 (long long)is, (long long)should);
}

/* The statement's first row in out_row, zeros if there is none.  SQLITE_ROW, SQLITE_DONE or an
 * error. */
static int
ask(struct reader *r, int which, sqlite3_int64 *out_row, int columns)
{
    sqlite3_stmt *statement = r->statement[which];
    int rc = sqlite3_step(statement);
    bool found = rc == SQLITE_ROW;

    for (int i = 0; i < columns; i++)
        out_row[i] = found ? sqlite3_column_int64(statement, i) : 0;
    while (rc == SQLITE_ROW)
        rc = sqlite3_step(statement);
    if (sqlite3_reset(statement) != SQLITE_OK) {
        rc = sqlite3_errcode(r->db);
        if (rc != SQLITE_BUSY)
            findex_child_fail(r->message, r->db, sql[which]);
        return rc;
    }
    r->message->tally.queries += which != BEGIN && which != COMMIT;
    return found ? SQLITE_ROW : SQLITE_DONE;
}

static bool
answered(int rc)
{
    return rc == SQLITE_ROW || rc == SQLITE_DONE;
}

/* Everything added up, within the transaction that has seen `total`. */
static int
audit(struct reader *r, const sqlite3_int64 total[2])
{
    sqlite3_int64 sum[4];
    int rc = ask(r, AUDIT, sum, 4);

    if (rc == SQLITE_ROW) {
        if (sum[0] != total[0] || sum[1] != total[1])
            wrong(r, sum[0] != total[0] ? "rows of file" : "bytes of all files",
                  sum[sum[0] == total[0]], total[sum[0] == total[0]]);
        if (sum[2] != total[0] || sum[3] != total[1])
            wrong(r, "sum over the directories", sum[2], total[0]);
    }
    return rc;
}

static int
look_up(struct reader *r, uint32_t i, bool acked, sqlite3_int64 *out_size)
{
    sqlite3_int64 file[2];
    int rc = findex_bind_path(r->statement[BY_PATH], 1, findex_job_path(r->job, i));

    if (rc != SQLITE_OK)
        return rc;
    rc = ask(r, BY_PATH, file, 2);
    if (rc == SQLITE_ROW && file[0] != findex_job_file(r->job, i)->directory)
        wrong(r, "directory of a file", file[0], findex_job_file(r->job, i)->directory);
    if (rc == SQLITE_DONE && acked)
        wrong(r, "rows of a committed file", 0, 1);
    *out_size = file[1];
    return rc;
}

static int
add_up_directory(struct reader *r, uint32_t directory)
{
    sqlite3_int64 noted[2], found[2];
    int rc;

    if ((rc = sqlite3_bind_int64(r->statement[DIRECTORY], 1, directory)) != SQLITE_OK
        || (rc = sqlite3_bind_int64(r->statement[IN_DIRECTORY], 1, directory)) != SQLITE_OK
        || !answered(rc = ask(r, DIRECTORY, noted, 2))
        || !answered(rc = ask(r, IN_DIRECTORY, found, 2)))
        return rc;
    if (found[0] != noted[0])
        wrong(r, "files in a directory", found[0], noted[0]);
    else if (found[1] != noted[1])
        wrong(r, "bytes in a directory", found[1], noted[1]);
    return rc;
}

/* The queries of one transaction. */
static int
look(struct reader *r, uint32_t i, bool acked, bool all)
{
    sqlite3_int64 total[2], size = 0, largest[1];
    int rc;

    if (!answered(rc = ask(r, TOTAL, total, 2)) || !answered(rc = look_up(r, i, acked, &size))
        || !answered(rc = add_up_directory(r, findex_job_file(r->job, i)->directory))
        || !answered(rc = ask(r, LARGEST, largest, 1)))
        return rc;
    if (largest[0] < size)
        wrong(r, "size of the largest file", largest[0], size);
    if (total[0] < r->files_before)
        wrong(r, "files, once more", total[0], r->files_before);
    r->files_before = total[0];
    return all ? audit(r, total) : rc;
}

static uint32_t
choose_file(struct reader *r)
{
    uint32_t taken = atomic_load_explicit(&r->job->next, memory_order_relaxed);
    uint32_t limit = taken < r->job->n_files ? taken + 1 : r->job->n_files;

    if (limit > NEWEST && random_below(r, 2) == 0)
        return limit - 1 - random_below(r, NEWEST);
    return random_below(r, limit);
}

/* False after an error other than SQLITE_BUSY. */
static bool
do_round(struct reader *r, bool all)
{
    uint32_t i = choose_file(r);
    bool acked = atomic_load_explicit(findex_job_acked(r->job, i), memory_order_acquire) != 0;
    int rc = ask(r, BEGIN, NULL, 0);

    if (answered(rc))
        rc = look(r, i, acked, all);
    if (answered(rc))
        rc = ask(r, COMMIT, NULL, 0);
    if (answered(rc)) {
        r->message->tally.transactions++;
        return true;
    }
    if (!sqlite3_get_autocommit(r->db))
        sqlite3_exec(r->db, "ROLLBACK", NULL, NULL, NULL);
    if (!r->message->failed && rc != SQLITE_BUSY)
        findex_child_fail(r->message, r->db, "reading");
    r->message->tally.refused += rc == SQLITE_BUSY;
    return rc == SQLITE_BUSY;
}

/* A long wait hides the rounds that would have come meanwhile: they have waited, too. */
static void
note_time(struct bench_histogram *h, uint64_t took_ns)
{
    bench_histogram_add(h, took_ns);
    for (; took_ns > INTERVAL_NS; took_ns -= INTERVAL_NS)
        bench_histogram_add(h, took_ns - INTERVAL_NS);
}

void
findex_reader_run(struct findex_job *job, sqlite3 *db, unsigned number,
                  struct findex_message *message)
{
    struct reader r = {
        .job = job, .db = db, .message = message, .random = 0x9e3779b97f4a7c15u + number};
    int heard = 0;

    for (int s = 0; s < N_STATEMENTS; s++) {
        if (sqlite3_prepare_v3(db, sql[s], -1, SQLITE_PREPARE_PERSISTENT, &r.statement[s], NULL)
            != SQLITE_OK)
            findex_child_fail(message, db, sql[s]);
    }
    for (unsigned round = 1; heard == 0 && !message->failed; round++) {
        const bool all = round % ROUNDS_PER_AUDIT == 0;
        const uint64_t begin_ns = findex_now_ns();

        if (!do_round(&r, all))
            break;
        const uint64_t took_ns = findex_now_ns() - begin_ns;
        if (!all)
            note_time(&message->tally.latency, took_ns);
        heard = findex_child_heard((int64_t)(INTERVAL_NS - took_ns % INTERVAL_NS));
    }
    for (int s = 0; s < N_STATEMENTS; s++)
        sqlite3_finalize(r.statement[s]);
    while (heard == 0)
        heard = findex_child_heard(-1);
}
