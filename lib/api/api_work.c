/* Background work of the application: the entry points of coord.h over coord/work. */
#include <lockstep/coord.h>

#include "api/api.h"
#include "coord/work.h"

enum lockstep_status
lockstep_conn_work_begin(struct lockstep_conn *conn)
{
    if (conn == NULL || !readable(conn->db))
        return LOCKSTEP_MISUSE;
    if (conn->db->readonly)
        return LOCKSTEP_READONLY;
    if (lks_work_held(conn->db, conn->reader.connection))
        return LOCKSTEP_MISUSE;
    return lks_work_take(conn->db, conn->reader.connection);
}

enum lockstep_status
lockstep_conn_work_end(struct lockstep_conn *conn)
{
    if (!conn_usable(conn) || !lks_work_held(conn->db, conn->reader.connection))
        return LOCKSTEP_MISUSE;
    lks_work_drop(conn->db, conn->reader.connection);
    return LOCKSTEP_OK;
}
