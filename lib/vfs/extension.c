/*
 * `.load lockstep`: the VFS becomes the default of the program that loads it, and its connections get the tables.
 * It stays loaded for as long as the program lives, since open databases point into it.
 */
#ifdef LKS_LOADABLE
#include <sqlite3ext.h>
SQLITE_EXTENSION_INIT1
#else
#include <sqlite3.h>
#endif

#include "vfs/tables.h"
#include "vfs/vfs.h"

int sqlite3_lockstep_init(sqlite3 *connection, char **out_error, const struct sqlite3_api_routines *api);

int
sqlite3_lockstep_init(sqlite3 *connection, char **out_error, const struct sqlite3_api_routines *api)
{
    int rc;
#ifdef LKS_LOADABLE
    SQLITE_EXTENSION_INIT2(api)
#else
    (void)api;
#endif
    rc = lks_vfs_register(NULL, true);
    if (rc == SQLITE_MISUSE) {
        *out_error = sqlite3_mprintf("Lockstep is in this process already: the program is linked with it, or was "
                                     "started by \"lockstep run\"; there is nothing to load");
        return SQLITE_ERROR;
    }
    if (rc != SQLITE_OK) {
        *out_error = sqlite3_mprintf("lockstep: cannot register the VFS: %s", sqlite3_errstr(rc));
        return rc;
    }
    /* Those that are opened from now on have them by themselves. */
    rc = lks_tables_register(connection, out_error, api);
    return rc != SQLITE_OK ? rc : SQLITE_OK_LOAD_PERMANENTLY;
}
