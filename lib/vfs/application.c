/* The entry points of lockstep.h.  The loadable extension has but one, see extension.c. */
#include "vfs/vfs.h"

#ifndef LKS_LOADABLE

#include <lockstep/lockstep.h>

#include "store/batch.h"

int
lockstep_initialize(const char *parent_name, int make_default)
{
    int rc = sqlite3_initialize();
    return rc == SQLITE_OK ? lks_vfs_register(parent_name, make_default != 0) : rc;
}

int
lockstep_shutdown(void)
{
    return lks_vfs_unregister();
}

/* The file of a connection, connected to its store; NULL and a code if it is not to be had. */
static struct lks_file *
connected_file(sqlite3 *db, int *out_rc)
{
    struct lks_file *file = lks_file_of_connection(db, "main");
    *out_rc = SQLITE_MISUSE;
    if (file == NULL || *file->fork_guard == 0)
        return NULL;
    *out_rc = lks_file_connect(file);
    if (*out_rc == SQLITE_NOTFOUND)
        *out_rc = SQLITE_MISUSE; /* it goes to the parent */
    return *out_rc == SQLITE_OK ? file : NULL;
}

sqlite3_int64
lockstep_ticket(sqlite3 *db)
{
    int rc;
    struct lks_file *file = connected_file(db, &rc);
    return file == NULL ? 0 : (sqlite3_int64)lks_file_ticket(file);
}

int
lockstep_wait(sqlite3 *db, sqlite3_int64 ticket, int timeout_ms)
{
    int rc;
    struct lks_file *file = connected_file(db, &rc);
    if (file == NULL)
        return rc;
    if (ticket < 0)
        return SQLITE_MISUSE;
    return lks_sqlite_code(lks_file_wait(file, (uint64_t)ticket, timeout_ms),
                           SQLITE_IOERR_FSYNC);
}

int
lockstep_flush(sqlite3 *db)
{
    int rc;
    struct lks_file *file = connected_file(db, &rc);
    if (file == NULL)
        return rc;
    return lks_sqlite_code(lks_file_wait(file, lks_file_newest(file), -1), SQLITE_IOERR_FSYNC);
}

int
lockstep_run(sqlite3 *db)
{
    int rc;
    struct lks_file *file = connected_file(db, &rc);
    if (file == NULL)
        return rc;
    return lks_sqlite_code(file->wal.attached ? lks_checkpoint_once(file->db)
                                              : lks_batch_run(file->db, NULL),
                           SQLITE_IOERR_WRITE);
}

int
lockstep_status(sqlite3 *db, struct lockstep_db_info *out_info)
{
    int rc;
    struct lks_file *file = connected_file(db, &rc);
    if (file == NULL || out_info == NULL)
        return file == NULL ? rc : SQLITE_MISUSE;
    lks_store_info(file->db, out_info);
    return SQLITE_OK;
}

#endif
