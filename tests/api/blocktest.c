#include "api/blocktest.h"

struct lockstep_db *db;
struct lockstep_conn *conn;

void
make_list(void)
{
    db = api_open(NULL);
    conn = api_connect(db);
    api_begin_writing(conn);
    OK(lockstep_conn_block_format(conn, ROOT, SIZE));
    api_commit(conn, LOCKSTEP_ASYNC);
}

void
close_all(void)
{
    lockstep_conn_close(conn);
    OK(lockstep_db_close(db));
}

uint64_t
take(uint64_t below)
{
    uint64_t block = UINT64_MAX;
    OK(lockstep_conn_block_alloc(conn, below, &block));
    return block;
}

uint64_t
would_take(void)
{
    uint64_t block;
    api_begin_writing(conn);
    block = take(0);
    OK(lockstep_conn_rollback(conn));
    lockstep_conn_end(conn);
    return block;
}

void
durable(uint64_t ticket)
{
    OK(lockstep_db_wait(db, ticket, 10000));
}

int
note(void *arg, uint64_t block, uint64_t freed)
{
    struct walked *w = arg;
    w->blocks[w->count] = block;
    w->freed[w->count++] = freed;
    return w->count == w->stop_after;
}

struct walked
walk(int reverse)
{
    struct walked w = {.count = 0};
    OK(lockstep_conn_block_walk(conn, reverse, note, &w));
    return w;
}

struct lockstep_block_info
info(void)
{
    struct lockstep_block_info i;
    OK(lockstep_conn_block_info(conn, &i));
    return i;
}
