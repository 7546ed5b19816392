/*
 * `lockstep run -- COMMAND` preloads the library into an unchanged program and sets LOCKSTEP_RUN=1: the VFS is
 * then the default one before main() begins.
 */
#include "vfs/vfs.h"

#ifndef LKS_LOADABLE
#include <stdlib.h>
#include <string.h>

__attribute__((constructor)) static void
register_when_preloaded(void)
{
    const char *wish = getenv("LOCKSTEP_RUN");
    if (wish != NULL && strcmp(wish, "1") == 0 && sqlite3_initialize() == SQLITE_OK)
        (void)lks_vfs_register(NULL, true);
}
#endif
