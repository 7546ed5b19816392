/* What the entry points ask of a handle before they use it. */
#ifndef LKS_API_ARGUMENTS_H
#define LKS_API_ARGUMENTS_H

#include <stdbool.h>

#include "store/transaction.h"

/* Not NULL, and of this process. */
static inline bool
lks_api_usable(const struct lockstep_db *db)
{
    return db != NULL && !lks_database_forked(db);
}

/* And attached. */
static inline bool
lks_api_connected(const struct lockstep_db *db)
{
    return lks_api_usable(db) && lks_a32_acquire(&db->attached) != 0;
}

/* A connection in a transaction. */
static inline bool
lks_api_reading(const struct lockstep_conn *conn)
{
    return conn != NULL && lks_api_connected(conn->db) && conn->reader.snapshot != 0;
}

/* And it is the writer. */
static inline bool
lks_api_writing(const struct lockstep_conn *conn)
{
    return conn != NULL && lks_api_connected(conn->db) && conn->writing;
}

#endif
