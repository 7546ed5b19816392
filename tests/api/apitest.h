/* What the tests of coord.h share: short words for what every one of them does. */
#ifndef TESTS_API_APITEST_H
#define TESTS_API_APITEST_H

#include <lockstep/coord.h>

#include <string.h>

#include "coord/coordtest.h"

/* In a test; in a child use child_check(). */
#define OK(CALL) ck_assert_int_eq((CALL), LOCKSTEP_OK)

static inline struct lockstep_db *
open_db(const struct lockstep_options *options)
{
    struct lockstep_db *db = NULL;
    OK(lockstep_db_open("db", options, &db));
    OK(lockstep_db_attach(db));
    return db;
}

static inline struct lockstep_conn *
open_conn(struct lockstep_db *db)
{
    struct lockstep_conn *conn = NULL;
    OK(lockstep_conn_open(db, &conn));
    return conn;
}

static inline void
begin_write(struct lockstep_conn *conn)
{
    OK(lockstep_conn_begin(conn));
    OK(lockstep_conn_write_begin(conn, 10000));
}

/* Commits, ends the transaction, returns the ticket. */
static inline uint64_t
commit(struct lockstep_conn *conn, enum lockstep_durability durability)
{
    uint64_t ticket = 0;
    OK(lockstep_conn_commit(conn, durability, &ticket));
    lockstep_conn_end(conn);
    return ticket;
}

/* A commit of one byte. */
static inline uint64_t
write_byte(struct lockstep_conn *conn, uint64_t at, char byte, enum lockstep_durability durability)
{
    begin_write(conn);
    OK(lockstep_conn_write(conn, at, &byte, 1));
    return commit(conn, durability);
}

static inline int
read_byte(struct lockstep_conn *conn, uint64_t at)
{
    unsigned char byte = 0;
    size_t got = 0;
    OK(lockstep_conn_read(conn, at, &byte, 1, &got));
    return got == 1 ? byte : -1;
}

#endif
