/*
 * Databases and journals as files, for the tests of the journal: made by stock SQLite, copied, cut,
 * rolled back by stock SQLite and by us, compared.
 *
 * A test runs in a directory of its own (in_new_directory()), so names are short.  A database "x"
 * is the files "x" and "x-journal".
 */
#ifndef LKS_TESTS_STORE_JOURNAL_FILES_H
#define LKS_TESTS_STORE_JOURNAL_FILES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "os/io.h"

struct sqlite3;

/* As setup and teardown of a test case. */
void in_new_directory(void);
void out_of_directory(void);

/* Random numbers from a seed that is printed, and taken from $LKS_SEED if that is set. */
struct dice {
    uint64_t state;
};
struct dice dice_new(const char *test);
uint32_t dice_roll(struct dice *dice, uint32_t below);
void dice_fill(struct dice *dice, void *data, size_t size);

struct bytes {
    unsigned char *data;
    size_t size;
    bool exists;
};
struct bytes file_read(const char *name);
void file_write(const char *name, const void *data, size_t size);
/* Overwrites in place. */
void file_patch(const char *name, size_t offset, const void *data, size_t size);
void file_patch_u32(const char *name, size_t offset, uint32_t big_endian);
bool file_exists(const char *name);
/* A missing file is copied by removing the copy. */
void file_copy(const char *from, const char *to);
void bytes_free(struct bytes *b);
bool bytes_same(const struct bytes *a, const struct bytes *b);

void pair_copy(const char *from, const char *to);
void pair_remove(const char *name);

/* Fails the test on an error. */
void stock_run(struct sqlite3 *db, const char *sql);
/* A database of about `pages` pages with a table t(id, data). */
void stock_make(const char *name, unsigned page_size, unsigned pages);
/* What any reader does: opens, reads the schema, closes.  Returns SQLite's result. */
int stock_visit(const char *name, const char *uri_parameters);
/* PRAGMA integrity_check says ok. */
void stock_check(const char *name);

/* Rolls back by our code; fails the test unless that returns OK. */
bool our_rollback(const struct lks_io *io, const char *name);

/* ---- Hot journals of stock SQLite ----------------------------------------------------------- */

#define STOCK_CASES 8
extern const struct stock_case {
    unsigned page_size;
    const char *uri_parameters, *pragmas;
    unsigned sector, min_headers; /* what the journal has to have */
    bool shrink;
} stock_cases[STOCK_CASES];

/* Database `name` with the journal of a transaction whose process died; "original" is it before. */
void make_hot(const char *name, const struct stock_case *c);
/* Headers in the journal of `name`; what the first says. */
unsigned count_headers(const char *name, uint32_t *out_first_records, uint32_t *out_sector);
/* Stock SQLite and we, each on a copy: the same database, and the same journal or none. */
void assert_same_as_stock(const char *name, const char *what);
void assert_original(const char *name);
void assert_killed(pid_t child);
/* Syncs nothing, else as the operating system. */
const struct lks_io *quick_io(void);

/* ---- An io that counts, fails on demand, and remembers -------------------------------------- */

enum probe_kind {
    PROBE_OPEN,
    PROBE_READ,
    PROBE_WRITE,
    PROBE_TRUNCATE,
    PROBE_SYNC,
    PROBE_SIZE,
    PROBE_SYNC_DIR,
    PROBE_REMOVE,
    PROBE_EXISTS
};

struct probe_call {
    enum probe_kind kind;
    enum lks_io_role role;
    uint64_t offset; /* or the new size */
    size_t size;
    unsigned char *data; /* what was written, by a torn write too */
    bool failed;
};

struct probe {
    struct lks_io io;
    struct probe_call *calls; /* all that were made, failed ones too */
    size_t call_count;
    size_t capacity;
    size_t fail_at; /* the call with this index fails; SIZE_MAX: none */
    unsigned fail_sync; /* the n-th sync from now on fails; 0: none */
    bool failed;
    bool tear;      /* a failing write writes half */
    bool real_sync; /* else syncs are only remembered */
};
void probe_init(struct probe *probe);
void probe_free(struct probe *probe);

#endif
