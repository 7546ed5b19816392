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

static inline bool
conn_usable(const struct lockstep_conn *conn)
{
    return conn != NULL && connected(conn->db);
}

/* A transaction is open. */
static inline bool
conn_reading(const struct lockstep_conn *conn)
{
    return conn_usable(conn) && conn->reader.snapshot != 0;
}

/* It owns the writer lock. */
static inline bool
conn_writing(const struct lockstep_conn *conn)
{
    return conn_usable(conn) && conn->writing;
}

#endif
