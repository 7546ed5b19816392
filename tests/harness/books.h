/*
 * The books: a small database whose every snapshot can be audited.
 *
 * account(actor, seq, kept, bytes)   one row an actor: its commits, and what its entries must add up to
 * entry(actor, seq, n, pad)          the newest BOOKS_KEPT entries of each actor
 * total(n)                           all commits
 *
 * A transaction of an actor adds 1 to total.n and to its account.seq, writes an entry and forgets an old
 * one.  Whatever shows half a transaction, or pages of two, fails books_read(); that of the commits
 * 1..n just n are there, and no other, is seen from (actor, seq, n) of each: see ledger.h.
 */
#ifndef HARNESS_BOOKS_H
#define HARNESS_BOOKS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <sqlite3.h>

#define BOOKS_ACTORS 64
#define BOOKS_KEPT 30
/* books_read(): the books do not add up; beside SQLite's result codes. */
#define BOOKS_WRONG 1000

struct books_record {
    uint32_t actor;
    uint32_t durable; /* COMMIT said so: nothing may lose it */
    int64_t seq;
    int64_t n;
};

struct books {
    int64_t n;
    int64_t seq[BOOKS_ACTORS];
    char wrong[300]; /* with BOOKS_WRONG, or SQLite's message */
};

/* xorshift: a state of 0 is not allowed. */
uint32_t books_random(uint32_t *state);

/* Makes the tables if they are not there. */
int books_make(sqlite3 *db);

/*
 * One transaction of `actor`.  kind: 'a' asynchronous, 'f' FULL, 'm' either, with savepoints, rollbacks and
 * large rows in between.  SQLITE_DONE: it was rolled back by intention, no record.
 */
int books_transact(sqlite3 *db, unsigned actor, char kind, uint32_t *random, struct books_record *out);

/* Audits one snapshot, in one transaction. */
int books_read(sqlite3 *db, struct books *out);

/* PRAGMA integrity_check: SQLITE_OK or BOOKS_WRONG with text. */
int books_integrity(sqlite3 *db, char *out, size_t capacity);

#endif
