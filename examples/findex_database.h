/*
 * The index: a table with one row a file, and two that sum it up and change in the same
 * transaction, so that whoever sees half a transaction finds sums that do not fit.
 */
#ifndef FINDEX_DATABASE_H
#define FINDEX_DATABASE_H

#include <sqlite3.h>

#include "findex_file.h"
#include "findex_job.h"
#include "findex_side.h"

/* What the stock VFS finds in the file when everybody has left. */
struct findex_verdict {
    char integrity[200]; /* the first line of PRAGMA integrity_check */
    uint64_t rows;
    uint64_t missing; /* acknowledged, and not there */
    bool sums_fit;
    bool writable;         /* by the stock VFS, as an ordinary database is */
    char left_behind[200]; /* names of side files that should be gone; empty: none */
    uint64_t bytes;        /* size of the database file */
};

/* With SQLite's own VFS: the tables, empty, and the journal mode.  False after a message. */
bool findex_database_create(const char *path, const struct findex_side *side);
/* "file:PATH?vfs=..." into uri.  False after a message: too long. */
bool findex_database_uri(const char *path, const char *vfs, const char *parameters, char *uri,
                         size_t room);
/* A connection for a worker or reader; *out_db also on an error, for its message, unless out of
 * memory. */
int findex_database_open(const struct findex_job *job, sqlite3 **out_db);
bool findex_is_utf8(const char *text);
/* As text when it is valid UTF-8, else as a blob: nothing is lost, and WHERE path = x'...' finds
 * it. */
int findex_bind_path(sqlite3_stmt *stmt, int column, const char *path);
/* False after a message: the file cannot be read at all. */
bool findex_database_verify(const char *path, struct findex_job *job,
                            struct findex_verdict *out_verdict);
/* The database and what may lie beside it. */
void findex_database_remove(const char *path);

#endif
