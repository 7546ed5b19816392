/*
 * The databases that are measured: made once, copied for every run, checked after it.  All of it by
 * the stock VFS, at times when no worker runs.
 */
#ifndef BENCH_DATABASE_H
#define BENCH_DATABASE_H

#include <stdbool.h>
#include <stdint.h>

#include "bench/job.h"

#define BENCH_PAGE_BYTES 4096
/* What every row of `account` starts with, so that an UPDATE does not change the row's length. */
#define BENCH_OPENING_BALANCE 1048576

struct bench_contents {
    uint32_t rows;         /* of account */
    uint32_t filler_bytes; /* in each of them */
};

/* What must be in a database after a run. */
struct bench_expected {
    uint64_t updates;
    uint64_t entries;
    bool alone; /* nothing may lie beside it; of two stock WAL clients that leave at once neither
                   may find itself the last */
};

/* All return false after having printed why. */
bool bench_database_create(const char *path, const struct bench_contents *contents);
/* A copy that is on disk, in the given journal mode, which the file keeps. */
bool bench_database_copy(const char *from, const char *to, const char *journal_mode);
/*
 * After everybody has closed it: every acknowledged commit is there once, and integrity_check finds
 * nothing.  `label` is for messages.
 */
bool bench_database_check(const char *path, const char *label,
                          const struct bench_expected *expected);
/* How many pages of `original` differ in `changed`, or are new there. */
bool bench_database_changed_pages(const char *original, const char *changed, uint64_t *out_pages);
/* Removes it and what may lie beside it.  Missing files are fine. */
void bench_database_remove(const char *path);

#endif
