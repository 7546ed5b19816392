#include "api/enginetest.h"

#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct lockstep_db *
api_open(const struct lockstep_options *options)
{
    struct lockstep_db *db = NULL;
    ck_assert_int_eq(lockstep_db_open("db", options, &db), LOCKSTEP_OK);
    ck_assert_int_eq(lockstep_db_attach(db), LOCKSTEP_OK);
    return db;
}

struct lockstep_conn *
api_connect(struct lockstep_db *db)
{
    struct lockstep_conn *conn = NULL;
    ck_assert_int_eq(lockstep_conn_open(db, &conn), LOCKSTEP_OK);
    return conn;
}

void
api_begin_writing(struct lockstep_conn *conn)
{
    ck_assert_int_eq(lockstep_conn_begin(conn), LOCKSTEP_OK);
    ck_assert_int_eq(lockstep_conn_write_begin(conn, 10000), LOCKSTEP_OK);
}

void
api_commit(struct lockstep_conn *conn, enum lockstep_durability durability)
{
    ck_assert_int_eq(lockstep_conn_commit(conn, durability, NULL), LOCKSTEP_OK);
    lockstep_conn_end(conn);
}

void
api_write(struct lockstep_conn *conn, uint64_t at, const char *text, enum lockstep_durability durability)
{
    api_begin_writing(conn);
    ck_assert_int_eq(lockstep_conn_write(conn, at, text, strlen(text)), LOCKSTEP_OK);
    api_commit(conn, durability);
}

const char *
api_read(struct lockstep_conn *conn, uint64_t at, size_t size)
{
    static char text[256];
    size_t got = 0;
    memset(text, 0, sizeof text);
    ck_assert_uint_lt(size, sizeof text);
    ck_assert_int_eq(lockstep_conn_begin(conn), LOCKSTEP_OK);
    ck_assert_int_eq(lockstep_conn_read(conn, at, text, size, &got), LOCKSTEP_OK);
    lockstep_conn_end(conn);
    return text;
}

void
disk_read(const char *name, uint64_t at, void *buf, size_t size)
{
    int fd = open(name, O_RDONLY | O_CLOEXEC);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(pread(fd, buf, size, (off_t)at), (ssize_t)size);
    close(fd);
}

void
disk_write(const char *name, uint64_t at, const void *buf, size_t size)
{
    int fd = open(name, O_WRONLY | O_CLOEXEC);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(pwrite(fd, buf, size, (off_t)at), (ssize_t)size);
    close(fd);
}

uint64_t
disk_size(const char *name)
{
    struct stat st;
    ck_assert_int_eq(stat(name, &st), 0);
    return (uint64_t)st.st_size;
}

static uint64_t
sum_bytes(uint64_t sum, const void *bytes, size_t size)
{
    const unsigned char *p = bytes;
    while (size-- > 0)
        sum = (sum ^ *p++) * 1099511628211ull;
    return sum;
}

uint64_t
disk_sum(const char *name)
{
    unsigned char piece[4096];
    struct stat st;
    uint64_t sum = 14695981039346656037ull;
    ssize_t n;
    int fd = open(name, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return 0;
    ck_assert_int_eq(fstat(fd, &st), 0);
    sum = sum_bytes(sum, name, strlen(name));
    sum = sum_bytes(sum, &st.st_ino, sizeof st.st_ino);
    sum = sum_bytes(sum, &st.st_mode, sizeof st.st_mode);
    sum = sum_bytes(sum, &st.st_mtim, sizeof st.st_mtim);
    while ((n = read(fd, piece, sizeof piece)) > 0)
        sum = sum_bytes(sum, piece, (size_t)n);
    ck_assert_int_eq(n, 0);
    close(fd);
    return sum;
}
