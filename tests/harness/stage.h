/*
 * A stage: a folder with one database and its ledger, and what stock SQLite says of it.
 *
 * The test itself never opens the database through Lockstep, so it may be the stock program.
 */
#ifndef HARNESS_STAGE_H
#define HARNESS_STAGE_H

#include <stdbool.h>

#include <lockstep/inspect.h>

#include "harness/actor.h"

/* As whom stock SQLite writes. */
#define STAGE_STOCK_ACCOUNT (BOOKS_ACTORS - 1)

struct stage {
    char folder[64];
    char path[96];
    struct ledger *ledger;
};

void stage_open(struct stage *stage);
void stage_close(struct stage *stage);
/* By an actor that leaves again: the books, in WAL mode, with a few commits. */
void stage_found_wal(const struct stage *stage, const char *parameters);

/* Starts an actor that has opened the database; parameters: "" or "&max_lag=20" and so on. */
struct actor *stage_enter(const struct stage *stage, unsigned account, const char *parameters);
/* The URI to open it with. */
const char *stage_uri(const struct stage *stage, const char *parameters);

/*
 * Hears the answer to an order that makes transactions.  Meanwhile it takes in the ledger: who waits for
 * room in its pipe would never come to an end.
 */
int stage_hear(const struct stage *stage, struct actor *actor);
/* The same of actor_answers(). */
bool stage_answers(const struct stage *stage, struct actor *actor, int timeout_ms);
/* Ends the orders, of COUNT 0, of all; none may have failed. */
void stage_halt(const struct stage *stage, struct actor **actors, size_t count, const char *when);
/* Waits until some more commits were made, at most so many, and then up to 3 ms: for anywhere between two commits. */
void stage_let_commit(const struct stage *stage, uint32_t most, uint32_t *random, const char *when);
/* All close, and are gone; nothing is left behind.  What remains is to stage_close(). */
void stage_leave(const struct stage *stage, struct actor **actors, size_t count, const char *when);
/* The same after all have audited the books. */
void stage_retire(const struct stage *stage, struct actor **actors, size_t count, const char *when);
/* That of --seed N or of LKS_SEED, else another each time. */
uint32_t stage_seed(int argc, char **argv);

/* A connection of stock SQLite, in the test itself. */
sqlite3 *stage_stock(const struct stage *stage, int busy_timeout_ms);

/*
 * Stock SQLite reads, at any time: a refusal (SQLITE_BUSY, SQLITE_READONLY) or a prefix with every commit
 * that was acknowledged as durable.  Returns its result code.
 */
int stage_stock_reads(const struct stage *stage, const char *when);
/* The same with a long busy timeout, and it must not be refused. */
void stage_stock_may_read(const struct stage *stage, const char *when);
/* Stock SQLite writes: refused (false), or done and in the ledger. */
bool stage_stock_writes(const struct stage *stage, const char *when);

/* The actor's books are right, it sees every acknowledged commit, and integrity_check says ok. */
void stage_audit(const struct stage *stage, struct actor *actor, const char *when);

/* In the folder is the database and nothing else, but for `other`; NULL: no other. */
void stage_nothing_beside(const struct stage *stage, const char *other, const char *when);
/* All have closed: nothing is left beside the database, and stock SQLite finds every commit in it. */
void stage_left_clean(const struct stage *stage, const char *when);

/* What a look from outside finds while somebody is connected. */
struct lockstep_db_info stage_info(const struct stage *stage);
/* Who holds WORKER, 0 for nobody. */
pid_t stage_worker(const struct stage *stage);
/* Is a process with a thread at work besides that, the deputy, entered in the coordination file? */
bool stage_has_deputy(const struct stage *stage);

#endif
