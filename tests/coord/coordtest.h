/*
 * What the tests of the core share: shared memory that is not shared, a folder, and child processes that go
 * step by step.
 */
#ifndef TESTS_COORD_COORDTEST_H
#define TESTS_COORD_COORDTEST_H

#include <check.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "coord/database.h"

int coordtest_main(Suite *suite);
/* A test case; each test has a folder of its own as its working directory, with the file "db" of 10000 bytes. */
TCase *coordtest_case(Suite *suite, const char *name);

/* A database in private memory, as if attached as client 7, with `committed` 1 and no chunks. */
struct lockstep_db *memory_db(uint32_t unit_log2);
void memory_db_free(struct lockstep_db *db);
/* As a writer that commits would leave it: the ring entry and `committed`. */
void memory_commit(struct lockstep_db *db, uint64_t id, uint64_t size);

/* The store's database "db", attached; _close() leaves. */
struct lockstep_db *attached_db(void);
void close_db(struct lockstep_db *db);

/* What the log has said in this process. */
bool logged(const char *words);
bool file_exists(const char *name);

/*
 * A child process.  It runs `run` and ends.  Both sides meet at the same letters: child_step() there sends its
 * letter and waits for it to be let on; child_await() here waits for the letter, child_go() lets it on.
 * Children come before threads, so before a database is attached, where ThreadSanitizer is to watch.
 */
struct child {
    pid_t pid;
    int fd;
};
void child_start(struct child *child, void (*run)(struct child *self));
void child_step(struct child *self, char letter);
void child_await(struct child *child, char letter);
void child_go(struct child *child);
/* Waits for its end, which must be with status 0. */
void child_end(struct child *child);
void child_kill(struct child *child);
/* Waits for its end, which must be by SIGKILL: at a crash point. */
void child_killed(struct child *child);
/* In the child: ends it with a message if it does not hold. */
#define child_check(CONDITION) child_check_at((CONDITION), #CONDITION, __FILE__, __LINE__)
void child_check_at(bool holds, const char *condition, const char *file, int line);

#endif
