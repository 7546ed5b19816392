/*
 * An actor: a child process that opens databases and does as it is told through a pipe.
 *
 * It is a program of its own (actor_main.c), never a fork of a process with open databases.  Each order is a
 * line, each gets one line as its answer; a test may tell several actors before it hears one.
 *
 *   use K                 the following orders are for connection K (0 to 7, 0 at first)
 *   open URI              SQLITE_OPEN_READWRITE | CREATE | URI; "openro URI": READONLY
 *   exec SQL              answers with the result code
 *   read SQL              the same, with rows as text: columns joined by '|', rows by ';'
 *   timeout MS            the busy timeout; 10000 at first
 *   make                  books_make()
 *   transact KIND COUNT   books_transact(); COUNT 0: until the next order.  Text: commits, refusals
 *   watch COUNT           books_read() again and again; fails if the books are wrong or go back in time
 *   checkpoint COUNT      sqlite3_wal_checkpoint_v2() in any mode; COUNT 0: until the next order.  Text: made, refusals
 *   audit                 books_read() once; text: n and each account
 *   integrity             PRAGMA integrity_check
 *   seed N                of the random numbers
 *   die POINT N           SIGKILL of itself the Nth time that it passes the crash point
 *   halt POINT N          SIGSTOP of itself instead: actor_halted() waits for that
 *   await POINT           waits until POINT is the crash point that another thread of it has passed last
 *   failsync N AFTER      N calls of fdatasync() fail, after AFTER good ones; AFTER may be left out
 *   points                the names of all crash points
 *   log                   what the library has logged since the last time
 *   run                   starts a thread in sqlite3async_run()
 *   stop                  has it halt when idle, and waits for it
 *   close                 closes the connection
 *   quit                  exit(0) without closing
 *
 * Everything here fails the test (ck_abort) if the actor does not behave.
 */
#ifndef HARNESS_ACTOR_H
#define HARNESS_ACTOR_H

#include <stdbool.h>
#include <sys/types.h>

#include "harness/ledger.h"

/* An answer that never came: the actor has ended. */
#define ACTOR_ENDED (-1)
#define ACTOR_PATIENCE_MS 20000

struct actor;

/* `account`: as whom it makes transactions. */
struct actor *actor_start(const struct ledger *ledger, unsigned account);
/* The same of another build's program.  It makes no transactions: its records may be laid out differently. */
struct actor *actor_start_program(const char *path, const struct ledger *ledger, unsigned account);
/* SIGKILL, if it lives, and frees it.  NULL is nobody. */
void actor_finish(struct actor *actor);

__attribute__((format(printf, 2, 3))) void actor_tell(struct actor *actor, const char *format, ...);
/* The result code of the answer, or ACTOR_ENDED. */
int actor_hear(struct actor *actor);
/* Is there an answer, or has it ended? */
bool actor_answers(struct actor *actor, int timeout_ms);
__attribute__((format(printf, 2, 3))) int actor_do(struct actor *actor, const char *format, ...);
/* The same, and the code must be 0. */
__attribute__((format(printf, 2, 3))) void actor_must(struct actor *actor, const char *format, ...);
/* The text of the last answer. */
const char *actor_text(const struct actor *actor);

pid_t actor_pid(const struct actor *actor);
unsigned actor_account(const struct actor *actor);
/* SIGSTOP; returns when it has stopped. */
void actor_stop(struct actor *actor);
/* Waits until it has stopped by itself. */
void actor_halted(struct actor *actor);
/* Waits until it has stopped by itself, or has answered: false. */
bool actor_halts(struct actor *actor);
void actor_continue(struct actor *actor);
void actor_kill(struct actor *actor);
/* Waits for its end; returns the signal that ended it, 0 for an exit. */
int actor_wait(struct actor *actor);
bool actor_ended(const struct actor *actor);

/* The path of its program. */
const char *actor_program(void);

/* actor_do("audit") into *out. */
int actor_audit(struct actor *actor, struct books *out);

#endif
