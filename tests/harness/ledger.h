/*
 * The acknowledged commits, as the actors reported them.
 *
 * An actor writes a struct books_record into the ledger's pipe after COMMIT has returned.  What it wrote
 * before it was killed is still read.
 */
#ifndef HARNESS_LEDGER_H
#define HARNESS_LEDGER_H

#include "harness/books.h"

struct ledger;

struct ledger *ledger_open(void);
void ledger_close(struct ledger *ledger);
/* For the actors. */
int ledger_descriptor(const struct ledger *ledger);
/* For a commit that the test made itself. */
void ledger_add(struct ledger *ledger, const struct books_record *record);
/* Takes in what has come; returns how many records there are now. */
size_t ledger_drain(struct ledger *ledger);
/* Waits until there are `count`, at most a while; returns how many there are. */
size_t ledger_wait(struct ledger *ledger, size_t count, int timeout_ms);

/* As whom the record was made, of those that were taken in. */
unsigned ledger_actor(const struct ledger *ledger, size_t record);

/*
 * Fails the test unless the books have of the acknowledged commits exactly those with n <= books->n, and
 * among the first `count` of the ledger none that the books must have is missing: with `all` any commit, else
 * those that were acknowledged as durable.
 */
void ledger_check(struct ledger *ledger, const struct books *books, size_t count, bool all,
                  const char *who);

#endif
