/* SQLite's API: linked, or through the pointers that a loadable extension gets. */
#ifndef LKS_VFS_SQLITE_H
#define LKS_VFS_SQLITE_H

#ifdef LKS_LOADABLE
#include <sqlite3ext.h>
SQLITE_EXTENSION_INIT3
#else
#include <sqlite3.h>
#endif

#include "base/status.h"

/* The SQLite result code for a status of a read, write or lock. */
int lks_sqlite_code(enum lockstep_status status, int io_error);

#endif
