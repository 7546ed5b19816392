/*
 * What the tests of the VFS share: a folder, SQL with its result as text, the log, and files.  (Other
 * processes that run SQL: peer.h; the same through Lockstep and not: pair.h; what those of WAL mode share:
 * waltest.h.)
 *
 * Each test runs in a process and a folder of its own, which is the working directory.
 */
#ifndef TESTS_VFS_VFSTEST_H
#define TESTS_VFS_VFSTEST_H

#include <check.h>
#include <lockstep/lockstep.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/* main(): runs the suite, or a peer if the program was started as one. */
int vfstest_main(int argc, char **argv, Suite *(*make_suite)(void));
/* A test case with a folder for each test. */
TCase *vfstest_case(Suite *suite, const char *name);
/* Are the long versions asked for (LKS_SOAK)? */
bool vfstest_soak(void);

/* Opens "file:<name>?<parameters>" through Lockstep, which must succeed; parameters may be "". */
sqlite3 *open_ours(const char *name, const char *parameters);
/* The same with the default VFS. */
sqlite3 *open_stock(const char *name);
/* The code of opening; *out_db is to be closed in any case. */
int open_code(const char *name, const char *parameters, int flags, sqlite3 **out_db);
void close_db(sqlite3 *db);

/*
 * Runs SQL.  Rows as lines, columns separated by '|', or "error <code>: <message>" with the extended code.
 * The text is good until the fourth call from here.
 */
const char *sql(sqlite3 *db, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* The same, which must succeed. */
const char *must(sqlite3 *db, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* The code of running it. */
int code(sqlite3 *db, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* What the three above do: the text of sql(), for sqlite3_free(), and the code. */
char *run_sql(sqlite3 *db, const char *text, int *out_code);
/* A number from lockstep_status(). */
struct lockstep_db_info info(sqlite3 *db);

/* All that was logged so far in this process contains `words`. */
bool logged(const char *words);
const char *log_text(void);
void log_clear(void);

bool file_exists(const char *name);
long long file_size(const char *name);
/* No log, no wal-index, and nothing of Lockstep's is beside the database. */
void check_no_log(const char *name);
/* The kernel knows that the process, not this one, is in a read transaction in WAL mode. */
void check_reads_wal(const char *name, pid_t pid);
/* Nothing of Lockstep's or of a journal's is beside the database, and stock SQLite finds it whole. */
void check_ordinary(const char *name);
/* The content of two files is the same. */
void check_same_file(const char *a, const char *b);
void write_file(const char *name, long long offset, const void *bytes, size_t size);
void read_file(const char *name, long long offset, void *bytes, size_t size);
/* Copies the content. */
void copy_file(const char *from, const char *to);

#define check_text(GOT, WANT) ck_assert_str_eq(GOT, WANT)

#endif
