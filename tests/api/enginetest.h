/* What the tests of engines on coord.h share: opening, a commit in one call, and the file as it is on the disk. */
#ifndef TESTS_API_ENGINETEST_H
#define TESTS_API_ENGINETEST_H

#include <lockstep/coord.h>

#include "coord/coordtest.h"

/* In a test; in a child use child_check(). */
#define OK(CALL) ck_assert_int_eq((CALL), LOCKSTEP_OK)

/* "db", attached. */
struct lockstep_db *api_open(const struct lockstep_options *options);
struct lockstep_conn *api_connect(struct lockstep_db *db);
void api_begin_writing(struct lockstep_conn *conn);
/* Commits, ends the transaction, returns the ticket. */
uint64_t api_commit(struct lockstep_conn *conn, enum lockstep_durability durability);
/* One transaction that writes `text` at `at`. */
void api_write(struct lockstep_conn *conn, uint64_t at, const char *text, enum lockstep_durability durability);
/* A commit of one byte, and its ticket. */
uint64_t api_write_byte(struct lockstep_conn *conn, uint64_t at, char byte, enum lockstep_durability durability);
/* In a transaction; -1 beyond the end. */
int api_read_byte(struct lockstep_conn *conn, uint64_t at);
/* One transaction that reads so many bytes there; a static string. */
const char *api_read(struct lockstep_conn *conn, uint64_t at, size_t size);

/* As the disk has it, past the library. */
void disk_read(const char *name, uint64_t at, void *buf, size_t size);
void disk_write(const char *name, uint64_t at, const void *buf, size_t size);
uint64_t disk_size(const char *name);
/* Of a file's inode, mode, time of its last change and content; 0 if there is none. */
uint64_t disk_sum(const char *name);

#endif
