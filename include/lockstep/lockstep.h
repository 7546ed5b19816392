/*
 * lockstep.h - Lockstep for applications: a SQLite VFS named "lockstep".
 *
 * Read this first:
 *
 *   - A program needs none of these calls: a connection opened through the VFS commits, reads and waits as
 *     lockstep(7) says.  They are for those who want to know when an asynchronous commit is durable.
 *   - With `durability=async`, or PRAGMA synchronous=NORMAL, COMMIT returns before the commit is on the disk:
 *     it is seen by every process at once and survives the death of any of them, but a power cut may lose the
 *     last max_lag ms.  With synchronous=FULL, SQLite's default, it is durable when COMMIT returns.
 *   - When COMMIT under FULL returns an error because the disk failed, the commit is visible nevertheless and
 *     is written when the disk recovers.
 *   - A database in WAL mode: tickets count points in its log, and lockstep_ticket() may draw a new one.  When a
 *     sync of the log has failed, every later commit fails until all processes have closed the database.
 *   - A connection does not survive fork(): in the child every call on it fails.  In WAL mode the child is refused one of
 *     its own (SQLITE_MISUSE) as long as it carries one of its parent's: lockstep(7), FORK.
 *
 * Calls take a connection whose main database is open through the VFS; SQLITE_MISUSE if it is not.  They are
 * as thread-safe as the connection.
 */
#ifndef LOCKSTEP_H
#define LOCKSTEP_H

#include <sqlite3.h>

#include <lockstep/coord.h>

#ifdef __cplusplus
extern "C" {
#endif

/*
 * Registers the VFS "lockstep" over `parent_vfs` (NULL: the default one), and makes it the default if
 * make_default is not 0.  Again with the same parent: nothing but the default changes.  With another parent:
 * SQLITE_MISUSE while databases are open, or while "sqlite3async" is registered.  SQLITE_MISUSE also when another copy of the library has registered its
 * VFS in this process.  Returns a SQLite result code.
 */
int lockstep_initialize(const char *parent_vfs, int make_default);

/* Unregisters it.  SQLITE_BUSY while databases are open through it. */
int lockstep_shutdown(void);

/* The newest commit of this connection, or the newest that it has seen: a ticket.  0: none, or misuse. */
sqlite3_int64 lockstep_ticket(sqlite3 *db);

/*
 * Waits until the commit is durable.  timeout_ms < 0: as long as it takes.  SQLITE_OK; SQLITE_BUSY when the
 * time has passed; SQLITE_IOERR_FSYNC or SQLITE_FULL when the disk failed while it waited.
 */
int lockstep_wait(sqlite3 *db, sqlite3_int64 ticket, int timeout_ms);

/* Waits until all that has been committed by anybody is durable. */
int lockstep_flush(sqlite3 *db);

/*
 * Writes one batch behind, in this thread, if this process may: for programs that open with worker=off.  In WAL mode:
 * syncs the log and makes a checkpoint.
 */
int lockstep_run(sqlite3 *db);

/* Numbers of the database; see coord.h. */
int lockstep_status(sqlite3 *db, struct lockstep_db_info *out_info);

#ifdef __cplusplus
}
#endif
#endif
