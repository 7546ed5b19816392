/*
 * sqlite3async.h - the calls of SQLite's old asynchronous VFS, done by Lockstep.
 *
 * Read this first:
 *
 *   - A program that was written for SQLite's extension compiles and runs unchanged: names, values and results are
 *     those.  COMMIT returns at once; a thread of the program's, in sqlite3async_run(), does the writing.
 *   - A commit survives the death of every process as soon as COMMIT has returned, which it did not there; the
 *     next that opens the database writes it.  What a power cut may lose is what was not yet written.  (With
 *     LOCKFILES off, what was not yet written dies with the process.)
 *   - While nobody is in sqlite3async_run(), commits wait in memory that is bounded: when it is three quarters full
 *     (store_limit, 64 MiB), writers get SQLITE_BUSY after their busy timeout.
 *   - sqlite3_close() of the last connection to a database, if no other process has it open, writes what waits, in
 *     the closing thread, whatever `halt` says.
 *   - A database in WAL mode passes through to SQLite's own VFS; there is nothing to run for it.
 *
 * See sqlite3async(3).
 */
#ifndef LOCKSTEP_SQLITE3ASYNC_H
#define LOCKSTEP_SQLITE3ASYNC_H

#ifdef __cplusplus
extern "C" {
#endif

#define SQLITEASYNC_VFSNAME "sqlite3async"

/*
 * Registers the VFS "sqlite3async" over `parent_vfs` (NULL: the default one), as the default if is_default is not 0.
 * SQLITE_OK, also when it is registered already: then nothing changes.  SQLITE_ERROR: there is no such VFS, or it is
 * one of Lockstep's.  SQLITE_MISUSE: Lockstep's VFS is registered over another one.  Not thread-safe.
 */
int sqlite3async_initialize(const char *parent_vfs, int is_default);

/* Unregisters it; databases that are open stay open.  Not thread-safe. */
void sqlite3async_shutdown(void);

/*
 * Writes behind for all databases that this process has open through the VFS, until it is to halt.  Calls by several
 * threads come one after the other.  Thread-safe.
 */
void sqlite3async_run(void);

/*
 * Sets a value, given as an int, or gets one, into an int *.  SQLITE_OK; SQLITE_MISUSE, and nothing has changed: the
 * value is out of its range, or LOCKFILES was to be set while a database is open; SQLITE_ERROR: there is no such
 * operation.  Thread-safe.
 */
int sqlite3async_control(int op, ...);

#define SQLITEASYNC_HALT          1 /* when sqlite3async_run() returns, see below; NEVER at first */
#define SQLITEASYNC_GET_HALT      2
#define SQLITEASYNC_DELAY         3 /* milliseconds that a run pauses after each operation on a file; 0 at first */
#define SQLITEASYNC_GET_DELAY     4
#define SQLITEASYNC_LOCKFILES     5 /* 0: this process alone uses the databases; 1 at first */
#define SQLITEASYNC_GET_LOCKFILES 6
/* Lockstep's own: 1: each operation on a file goes to sqlite3_log(); 0 at first. */
#define SQLITEASYNC_TRACE         7
#define SQLITEASYNC_GET_TRACE     8

#define SQLITEASYNC_HALT_NEVER 0 /* not at all */
#define SQLITEASYNC_HALT_NOW   1 /* after the batch that is being written, without pauses; the rest stays pending */
#define SQLITEASYNC_HALT_IDLE  2 /* when everything is written that can be */

#ifdef __cplusplus
}
#endif
#endif
