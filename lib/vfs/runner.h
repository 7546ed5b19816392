/*
 * Writing behind in a thread of the application's: what sqlite3async_run() does.
 *
 * The runner knows the databases that files of the VFS "sqlite3async" have open.  None of them has a worker thread
 * in this process; whoever is in lks_runner_run() makes their batches, one at a time:
 *
 *   - of the databases with commits that wait, the one that is due first: half of its max_lag after the first of
 *     them, at once when somebody waits or the store is half full, or when it is to halt when idle;
 *   - a batch that fails is tried again with back-off, and the others have their turn meanwhile;
 *   - WORKER is given up after each batch, so that any process may write what waits when nobody runs here.
 *
 * field of a database  guarded by
 * files, closing       the runner's mutex; the last file waits until the database is not at work
 * at_work              the runner's mutex: a batch is made without it, and the database stays
 * the rest             the runner's mutex
 *
 * asleep is told to committers without it: see lks_runner_notice().
 */
#ifndef LKS_VFS_RUNNER_H
#define LKS_VFS_RUNNER_H

#include <stdbool.h>
#include <stdint.h>

#include "vfs/vfs.h"

enum lks_halt { LKS_HALT_NEVER = 0, LKS_HALT_NOW = 1, LKS_HALT_IDLE = 2 };

/* How long a database that others keep from being written holds up a halt when idle. */
extern uint32_t lks_runner_patience_ms;

/* The file has connected to its database, or is about to let go of it.  Idempotent. */
LKS_CHECKED enum lockstep_status lks_runner_join(struct lks_file *file);
void lks_runner_leave(struct lks_file *file);

/* After commit `id` was published: wakes the runner if it should know. */
void lks_runner_notice(const struct lockstep_db *db, uint64_t id);

/* Until it is to halt; a second caller waits for its turn. */
void lks_runner_run(void);

/* They hold for a run that is under way, too. */
void lks_runner_set_halt(enum lks_halt halt);
enum lks_halt lks_runner_halt(void);
void lks_runner_set_delay(uint32_t delay_ms);
uint32_t lks_runner_delay(void);
void lks_runner_set_trace(bool trace);
bool lks_runner_trace(void);

/* What the store does with files, told to the log if a trace is wanted. */
void lks_runner_trace_file(const char *what, const char *path);
void lks_runner_trace_range(const char *what, const char *path, uint64_t size, uint64_t offset);
/* After each write, truncation, sync or removal: if this thread is in a run, the delay. */
void lks_runner_pause(void);

#endif
