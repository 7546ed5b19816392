/* What the entry points check of a handle before they call down. */
#ifndef LKS_API_API_H
#define LKS_API_API_H

#include <stdbool.h>

#include "store/transaction.h"

/* Of this process, not carried across fork(). */
static inline bool
usable(const struct lockstep_db *db)
{
    return db != NULL && !lks_database_forked(db);
}

static inline bool
connected(const struct lockstep_db *db)
{
    return usable(db) && lks_a32_acquire(&db->attached) != 0;
}

/* Connected, or on standby (store/private.h): it may have connections, which may read. */
static inline bool
readable(const struct lockstep_db *db)
{
    return connected(db) || (usable(db) && lks_a32_acquire(&db->standby) != 0);
}

/* What is said to one who asks something of the shared memory and is not connected. */
static inline enum lockstep_status
not_connected(const struct lockstep_db *db)
{
    return readable(db) ? LOCKSTEP_READONLY : LOCKSTEP_MISUSE;
}

static inline bool
conn_usable(const struct lockstep_conn *conn)
{
    return conn != NULL && connected(conn->db);
}

/* A transaction is open, with a claim in shared memory. */
static inline bool
conn_reading(const struct lockstep_conn *conn)
{
    return conn_usable(conn) && conn->reader.snapshot != 0 && conn->view == NULL;
}

/* A transaction is open, on a private view perhaps: it can read the file, and nothing else is to be asked of it. */
static inline bool
conn_viewing(const struct lockstep_conn *conn)
{
    return conn != NULL && readable(conn->db) && conn->reader.snapshot != 0;
}

/* It owns the writer lock. */
static inline bool
conn_writing(const struct lockstep_conn *conn)
{
    return conn_usable(conn) && conn->writing;
}

#endif
