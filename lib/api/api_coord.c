/* The entry points of coord.h: check arguments, call down. */
#include <lockstep/coord.h>

#include <string.h>

#include "api/api.h"
#include "base/clock.h"
#include "base/log.h"
#include "coord/attach.h"
#include "coord/format.h"
#include "store/batch.h"
#include "store/blocklist.h"
#include "store/ticket.h"
#include "store/transaction.h"

const char *
lockstep_status_name(enum lockstep_status status)
{
    return lks_status_name(status);
}

void
lockstep_set_log(lockstep_log_fn fn, void *arg)
{
    lks_log_set(fn, arg);
}

enum lockstep_status
lockstep_db_open(const char *path, const struct lockstep_options *options, struct lockstep_db **out_db)
{
    if (path == NULL || out_db == NULL)
        return LOCKSTEP_MISUSE;
    if (options != NULL && !lks_format_is_name(options->format))
        return LOCKSTEP_MISUSE;
    return lks_store_open(path, options, &lks_io_os, out_db);
}

enum lockstep_status
lockstep_db_attach(struct lockstep_db *db)
{
    if (!usable(db))
        return LOCKSTEP_MISUSE;
    return db->readonly ? lks_private_connect(db) : lks_attach(db, false);
}

enum lockstep_status
lockstep_db_close(struct lockstep_db *db)
{
    if (db == NULL)
        return LOCKSTEP_OK;
    return usable(db) ? lks_store_close(db) : LOCKSTEP_MISUSE;
}

enum lockstep_status
lockstep_db_wait(struct lockstep_db *db, uint64_t ticket, int timeout_ms)
{
    if (!connected(db))
        return not_connected(db);
    return lks_ticket_wait(db, ticket, timeout_ms);
}

enum lockstep_status
lockstep_db_run(struct lockstep_db *db)
{
    if (!connected(db))
        return not_connected(db);
    return db->readonly ? LOCKSTEP_READONLY : lks_batch_run(db, NULL);
}

enum lockstep_status
lockstep_db_info(struct lockstep_db *db, struct lockstep_db_info *out_info)
{
    if (out_info == NULL)
        return LOCKSTEP_MISUSE;
    if (!connected(db))
        return not_connected(db);
    lks_store_info(db, out_info);
    return LOCKSTEP_OK;
}

enum lockstep_status
lockstep_conn_open(struct lockstep_db *db, struct lockstep_conn **out_conn)
{
    if (!readable(db) || out_conn == NULL)
        return LOCKSTEP_MISUSE;
    return lks_conn_open(db, NULL, out_conn);
}

void
lockstep_conn_close(struct lockstep_conn *conn)
{
    lks_conn_close(conn);
}

enum lockstep_status
lockstep_conn_begin(struct lockstep_conn *conn)
{
    if (conn == NULL || !readable(conn->db) || conn->reader.snapshot != 0)
        return LOCKSTEP_MISUSE;
    return lks_conn_begin(conn);
}

enum lockstep_status
lockstep_conn_begin_at(struct lockstep_conn *conn, uint64_t snapshot)
{
    if (conn == NULL || !readable(conn->db) || conn->reader.snapshot != 0 || snapshot == 0)
        return LOCKSTEP_MISUSE;
    if (!connected(conn->db))
        return LOCKSTEP_READONLY;
    if (snapshot > lks_a64_acquire(&conn->db->shm->state.committed))
        return LOCKSTEP_MISUSE;
    return lks_conn_begin_at(conn, snapshot);
}

/* One more try, on the newest snapshot, if this transaction has not begun on another. */
static enum lockstep_status
write_begin_waiting(struct lockstep_conn *conn, int wait_ms)
{
    uint64_t deadline = lks_clock_ns() + (uint64_t)wait_ms * LKS_NS_PER_MS;
    for (;;) {
        uint64_t now;
        enum lockstep_status status = lks_conn_write_begin(conn);
        if (status != LOCKSTEP_BUSY)
            return status;
        now = lks_clock_ns();
        if (now >= deadline)
            return LOCKSTEP_BUSY;
        status = lks_conn_wait(conn, deadline - now);
        if (status == LOCKSTEP_NOMEM)
            lks_clock_nap_ms(1);
    }
}

enum lockstep_status
lockstep_conn_write_begin(struct lockstep_conn *conn, int wait_ms)
{
    enum lockstep_status status;
    if (!conn_viewing(conn) || conn->writing || wait_ms < 0)
        return LOCKSTEP_MISUSE;
    if (conn->db->readonly)
        return LOCKSTEP_READONLY;
    status = write_begin_waiting(conn, wait_ms);
    if (status != LOCKSTEP_OK)
        lks_conn_leave_queue(conn);
    return status;
}

enum lockstep_status
lockstep_conn_read(struct lockstep_conn *conn, uint64_t offset, void *buf, size_t size_bytes,
                   size_t *out_read)
{
    if (!conn_viewing(conn) || buf == NULL || out_read == NULL)
        return LOCKSTEP_MISUSE;
    return lks_conn_read(conn, offset, buf, size_bytes, out_read);
}

enum lockstep_status
lockstep_conn_write(struct lockstep_conn *conn, uint64_t offset, const void *buf, size_t size_bytes)
{
    if (!conn_writing(conn) || buf == NULL)
        return LOCKSTEP_MISUSE;
    return size_bytes == 0 ? LOCKSTEP_OK : lks_conn_write(conn, offset, buf, size_bytes);
}

enum lockstep_status
lockstep_conn_truncate(struct lockstep_conn *conn, uint64_t size_bytes)
{
    return conn_writing(conn) ? lks_conn_truncate(conn, size_bytes) : LOCKSTEP_MISUSE;
}

enum lockstep_status
lockstep_conn_size(struct lockstep_conn *conn, uint64_t *out_size_bytes)
{
    if (!conn_viewing(conn) || out_size_bytes == NULL)
        return LOCKSTEP_MISUSE;
    *out_size_bytes = conn->size;
    return LOCKSTEP_OK;
}

enum lockstep_status
lockstep_conn_commit(struct lockstep_conn *conn, enum lockstep_durability durability,
                     uint64_t *out_ticket)
{
    uint64_t ticket = 0;
    enum lockstep_status status;
    if (!conn_writing(conn))
        return LOCKSTEP_MISUSE;
    status = lks_blocklist_flush(conn);
    if (status == LOCKSTEP_OK)
        status = lks_conn_publish(conn, durability, &ticket);
    if (status != LOCKSTEP_OK)
        return status;
    lks_conn_write_end(conn);
    if (out_ticket != NULL)
        *out_ticket = ticket;
    return durability == LOCKSTEP_FULL_SYNC ? lks_ticket_wait(conn->db, ticket, -1) : LOCKSTEP_OK;
}

enum lockstep_status
lockstep_conn_rollback(struct lockstep_conn *conn)
{
    if (!conn_writing(conn))
        return LOCKSTEP_MISUSE;
    lks_conn_discard(conn);
    lks_conn_write_end(conn);
    return LOCKSTEP_OK;
}

void
lockstep_conn_end(struct lockstep_conn *conn)
{
    if (conn != NULL && readable(conn->db))
        lks_conn_end(conn);
}

uint64_t
lockstep_conn_snapshot(const struct lockstep_conn *conn)
{
    return conn_viewing(conn) ? conn->reader.snapshot : 0;
}
