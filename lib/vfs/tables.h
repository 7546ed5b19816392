/*
 * The tables lockstep_locks, lockstep_clients, lockstep_readers, lockstep_waiters: what `lockstep locks` shows,
 * in SQL.
 *
 * Eponymous and read-only.  The hidden column `schema`, also as an argument (`lockstep_locks('other')`), names
 * the attached database, main if it is not given.  Each scan takes a picture of its own.
 */
#ifndef LKS_VFS_TABLES_H
#define LKS_VFS_TABLES_H

#include "vfs/sqlite.h"

/* On this connection; shaped as an automatic extension.  Result codes of SQLite. */
int lks_tables_register(sqlite3 *connection, char **out_error, const sqlite3_api_routines *api);
/* On every connection that the process opens from now on; no more. */
int lks_tables_everywhere(void);
void lks_tables_nowhere(void);

#endif
