#include "store/shorten.h"

#include "base/crashpoint.h"
#include "base/log.h"
#include "store/dbfile.h"
#include "store/store.h"
#include "store/ticket.h"
#include "store/transaction.h"

#define STOCK_WAIT_MS 20u
#define DURABLE_WAIT_MS 10000

/* How much the application says it uses; the size as it is if it does not say. */
static enum lockstep_status
ask(struct lockstep_db *db, uint64_t *out_used, uint64_t *out_size)
{
    struct lockstep_conn *conn = NULL;
    uint64_t used = UINT64_MAX;
    enum lockstep_status said;
    enum lockstep_status status = lks_conn_make(db, NULL, ++db->next_connection, &conn);
    if (status != LOCKSTEP_OK)
        return status;
    status = lks_conn_begin(conn);
    if (status != LOCKSTEP_OK)
        goto close;
    *out_size = conn->size;
    said = db->options.last_used_fn(db->options.last_used_arg, conn, &used);
    if (said != LOCKSTEP_OK)
        lks_log(LKS_WARNING, "%s: the program cannot tell how much of it is in use (%s): it stays as long as it is",
                db->path, lks_status_name(said));
    *out_used = said == LOCKSTEP_OK ? used : conn->size;
close:
    lks_conn_close(conn);
    return status;
}

/* Stock readers are excluded. */
static enum lockstep_status
cut(struct lockstep_db *db, uint64_t used)
{
    struct lks_store *store = lks_store_of(db);
    enum lockstep_status status = lks_dbfile_open(db);
    if (status == LOCKSTEP_OK)
        status = lks_dbfile_check_place(db);
    if (status != LOCKSTEP_OK)
        return status;
    store->settled = false;
    LKS_CRASH_POINT("shorten:durable");
    status = db->io->truncate(store->database, used);
    LKS_CRASH_POINT("shorten:cut");
    if (status == LOCKSTEP_OK)
        status = db->io->sync(store->database);
    LKS_CRASH_POINT("shorten:synced");
    return status;
}

static enum lockstep_status
make_durable_and_cut(struct lockstep_db *db, uint64_t used)
{
    uint64_t committed = lks_a64_acquire(&db->shm->state.committed);
    enum lockstep_status status = lks_ticket_wait(db, committed, DURABLE_WAIT_MS);
    if (status == LOCKSTEP_OK)
        status = lks_lockset_stock_exclude(&db->locks, STOCK_WAIT_MS);
    if (status != LOCKSTEP_OK)
        return status;
    status = cut(db, used);
    lks_lockset_stock_admit(&db->locks);
    return status;
}

void
lks_shorten(struct lockstep_db *db)
{
    uint64_t used = 0, size = 0;
    enum lockstep_status status;
    if (db->options.last_used_fn == NULL)
        return;
    status = ask(db, &used, &size);
    if (status == LOCKSTEP_OK && used < size)
        status = make_durable_and_cut(db, used);
    if (status != LOCKSTEP_OK && status != LOCKSTEP_BUSY && status != LOCKSTEP_TIMEOUT)
        lks_log(LKS_WARNING, "%s: it cannot be cut to the %llu bytes that are in use (%s)", db->path,
                (unsigned long long)used, lks_status_name(status));
}
