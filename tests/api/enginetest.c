#include "api/enginetest.h"

#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct lockstep_db *
api_open(const struct lockstep_options *options)
{
    struct lockstep_db *db = NULL;
    OK(lockstep_db_open("db", options, &db));
    OK(lockstep_db_attach(db));
    return db;
}

struct lockstep_conn *
api_connect(struct lockstep_db *db)
{
    struct lockstep_conn *conn = NULL;
    OK(lockstep_conn_open(db, &conn));
    return conn;
}

void
api_begin_writing(struct lockstep_conn *conn)
{
    OK(lockstep_conn_begin(conn));
    OK(lockstep_conn_write_begin(conn, 10000));
}

uint64_t
api_commit(struct lockstep_conn *conn, enum lockstep_durability durability)
{
    uint64_t ticket = 0;
    OK(lockstep_conn_commit(conn, durability, &ticket));
    lockstep_conn_end(conn);
    return ticket;
}

void
api_write(struct lockstep_conn *conn, uint64_t at, const char *text, enum lockstep_durability durability)
{
    api_begin_writing(conn);
    OK(lockstep_conn_write(conn, at, text, strlen(text)));
    api_commit(conn, durability);
}

uint64_t
api_write_byte(struct lockstep_conn *conn, uint64_t at, char byte, enum lockstep_durability durability)
{
    api_begin_writing(conn);
    OK(lockstep_conn_write(conn, at, &byte, 1));
    return api_commit(conn, durability);
}

int
api_read_byte(struct lockstep_conn *conn, uint64_t at)
{
    unsigned char byte = 0;
    size_t got = 0;
    OK(lockstep_conn_read(conn, at, &byte, 1, &got));
    return got == 1 ? byte : -1;
}

const char *
api_read(struct lockstep_conn *conn, uint64_t at, size_t size)
{
    static char text[256];
    size_t got = 0;
    memset(text, 0, sizeof text);
    ck_assert_uint_lt(size, sizeof text);
    OK(lockstep_conn_begin(conn));
    OK(lockstep_conn_read(conn, at, text, size, &got));
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
