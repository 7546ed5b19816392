/*
 * A worker's connection to the database under test, with the statements of all workloads prepared.
 */
#ifndef BENCH_CONNECTION_H
#define BENCH_CONNECTION_H

#include <sqlite3.h>
#include <stddef.h>
#include <stdint.h>

#include "bench/job.h"

/* Bytes that one INSERT puts into a row of `entry`. */
#define BENCH_ENTRY_BYTES 100

struct bench_connection {
    sqlite3 *db;
    sqlite3_stmt *begin_immediate;
    sqlite3_stmt *begin;
    sqlite3_stmt *commit;
    sqlite3_stmt *rollback;
    sqlite3_stmt *update; /* ?1 key */
    sqlite3_stmt *insert; /* ?1 worker, ?2 payload, bound once */
    sqlite3_stmt *select; /* ?1 key */
    sqlite3_stmt *sum;    /* of all balances */
    sqlite3_stmt *top;    /* the highest id in entry */
};

/*
 * Makes the VFS of the job's side known to this process and opens the connection.  On failure
 * returns an SQLite result code, with the reason in `out_message` and nothing left to close.
 */
int bench_connection_open(const struct bench_job *job, struct bench_connection *out_connection,
                          char *out_message, size_t message_size);
/* Lockstep: returns when all commits are written behind and synced.  Others: nothing to do. */
int bench_connection_flush(struct bench_connection *c, const struct bench_job *job);
int bench_connection_close(struct bench_connection *c);

/* Runs a statement to its end; rows are read over.  Returns SQLITE_OK or the error. */
int bench_connection_run(sqlite3_stmt *statement);
/* The same for a statement that has one row with one number. */
int bench_connection_number(sqlite3_stmt *statement, int64_t *out_number);
/* Reads lockstep_status() and keeps the highest figures. */
int bench_connection_store_peak(struct bench_connection *c, struct bench_store_peak *peak);

#endif
