/*
 * shm=copy when the `-shm` file cannot be read or written, or is cut off: what a connection is told, that nothing that was
 * acknowledged is lost, by others beside it nor by a crash after it, and that all is well with the next connection.
 *
 * pread(), pwrite() and posix_fallocate() of this program fail for that file, in the thread of the test.
 *
 * Made to fail by: locks that go on after a failure; COMMIT that does; what lies beyond the end read as zeros; no look at what
 * was cut off; a log truncated after a reset that was not published.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "vfs/copy_vfs.h"
#include "vfs/peer.h"
#include "vfs/vfstest.h"

#define INDEX "a.db-shm"
#define READ1_BYTE 124 /* os_unix.c and wal.c */
#define STEPS 12

enum what { READS = 1, WRITES, SPACE };

static pthread_mutex_t fault_mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_t thread; /* the test's */
static struct {
    enum what what;
    int error;       /* 0: short; ENOSPC: half of it is written */
    unsigned after;  /* so many succeed first */
    unsigned times;  /* 0: for ever */
    unsigned passed, hits;
} fault;

static void
break_index(enum what what, int error, unsigned after, unsigned times)
{
    pthread_mutex_lock(&fault_mutex);
    memset(&fault, 0, sizeof fault);
    fault.what = what;
    fault.error = error;
    fault.after = after;
    fault.times = times;
    thread = pthread_self();
    pthread_mutex_unlock(&fault_mutex);
}

/* How often it has failed. */
static unsigned
mend_index(void)
{
    unsigned hits;
    pthread_mutex_lock(&fault_mutex);
    hits = fault.hits;
    fault.what = 0;
    pthread_mutex_unlock(&fault_mutex);
    return hits;
}

static bool
strikes(enum what what, int fd)
{
    struct stat of_fd, of_index;
    bool struck = false;
    pthread_mutex_lock(&fault_mutex);
    if (fault.what == what && pthread_equal(thread, pthread_self()) && fstat(fd, &of_fd) == 0 && stat(INDEX, &of_index) == 0 && of_fd.st_ino == of_index.st_ino &&
        of_fd.st_dev == of_index.st_dev && fault.passed++ >= fault.after && (fault.times == 0 || fault.hits < fault.times)) {
        fault.hits++;
        errno = fault.error;
        struck = true;
    }
    pthread_mutex_unlock(&fault_mutex);
    return struck;
}

/* The C library's, but for the faults; preadv() and pwritev() are the same calls. */
ssize_t
pread(int fd, void *to, size_t size, off_t offset)
{
    struct iovec part = {to, size};
    if (strikes(READS, fd))
        return fault.error != 0 ? -1 : 0;
    return preadv(fd, &part, 1, offset);
}

ssize_t
pwrite(int fd, const void *from, size_t size, off_t offset)
{
    struct iovec part = {(void *)(uintptr_t)from, size};
    if (strikes(WRITES, fd)) {
        int error = errno;
        part.iov_len = size / 16 * 8;
        if (error == ENOSPC)
            (void)!pwritev(fd, &part, 1, offset);
        errno = error;
        return -1;
    }
    return pwritev(fd, &part, 1, offset);
}

int
posix_fallocate(int fd, off_t offset, off_t size)
{
    return strikes(SPACE, fd) ? fault.error : fallocate(fd, 0, offset, size) == 0 ? 0 : errno;
}

/* ------------------------------------------------------------------------------------------------
 * Connections
 * --------------------------------------------------------------------------------------------- */

enum { BARE, OURS, KINDS };

static sqlite3 *
open_kind(int kind)
{
    sqlite3 *db;
    if (kind == OURS)
        return open_ours("a.db", "shm=copy&worker=0");
    ck_assert_ptr_nonnull(lks_copy_vfs(LKS_SHM_COPY));
    ck_assert_int_eq(sqlite3_open_v2("a.db", &db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE, "lockstep-copy"), SQLITE_OK);
    return db;
}

static int
run(sqlite3 *db, const char *statement)
{
    return sqlite3_exec(db, statement, NULL, NULL, NULL);
}

static int
rows(sqlite3 *db)
{
    return atoi(must(db, "select count(*) from t"));
}

static void
make(sqlite3 *db)
{
    must(db, "pragma synchronous = off");
    check_text(must(db, "pragma journal_mode = wal"), "wal");
    must(db, "create table t(k integer primary key, v)");
    must(db, "pragma wal_autocheckpoint = 0");
}

static void
close_quietly(sqlite3 *db)
{
    ck_assert_int_eq(sqlite3_close(db), SQLITE_OK);
}

/*
 * Another process, for what would drop our locks here.  It has a read lock as a reader of an old snapshot has it: under it
 * no writer begins the log anew (by itself, so that it can be had whatever the index looks like); and it copies files.
 */
static int to_helper[2], from_helper[2];
static pid_t helper;

static int
lock_read1(void)
{
    struct flock lock = {.l_type = F_RDLCK, .l_whence = SEEK_SET, .l_start = READ1_BYTE, .l_len = 1};
    int fd = open(INDEX, O_RDWR);
    if (fd < 0 || fcntl(fd, F_SETLK, &lock) != 0)
        _exit(1);
    return fd;
}

/* The frames that a header speaks of, which others take for true, are there. */
static void
check_log(void)
{
    uint32_t copies[2 * LKS_INDEX_HEADER_BYTES / 4];
    const size_t half = LKS_INDEX_HEADER_BYTES / 4;
    read_file(INDEX, 0, copies, sizeof copies);
    if (memcmp(copies, copies + half, LKS_INDEX_HEADER_BYTES) == 0 && copies[4] != 0 && file_size("a.db-wal") == 0)
        _exit(1);
}

static void
helper_main(void)
{
    char byte;
    int fd = -1;
    while (read(to_helper[0], &byte, 1) == 1) {
        if (byte == 'l')
            fd = lock_read1();
        if (byte == 'u')
            close(fd);
        if (byte == 'h')
            check_log();
        if (byte == 'c') {
            copy_file("a.db", "c.db");
            copy_file("a.db-wal", "c.db-wal");
        }
        if (write(from_helper[1], &byte, 1) != 1)
            break;
    }
    _exit(0);
}

static void
helper_start(void)
{
    ck_assert_int_eq(pipe(to_helper), 0);
    ck_assert_int_eq(pipe(from_helper), 0);
    helper = fork();
    if (helper != 0) {
        close(to_helper[0]);
        close(from_helper[1]); /* one that has ended does not answer */
        return;
    }
    close(to_helper[1]);
    close(from_helper[0]);
    helper_main();
}

/* 'l' locks, 'u' unlocks, 'c' copies, 'h' looks at the header. */
static void
helper_do(char what)
{
    char answer = 0;
    ck_assert_int_eq(write(to_helper[1], &what, 1), 1);
    ck_assert_int_eq(read(from_helper[0], &answer, 1), 1);
    ck_assert_int_eq(answer, what);
}

static void
helper_end(void)
{
    close(to_helper[1]);
    ck_assert_int_eq(waitpid(helper, NULL, 0), helper);
}

/* Of what a machine that stops now leaves: the database and its log. */
static int
rows_after_a_crash(void)
{
    sqlite3 *db;
    int n;
    helper_do('c');
    db = open_stock("c.db");
    check_text(must(db, "pragma synchronous = off; pragma integrity_check"), "ok");
    n = rows(db);
    close_quietly(db);
    unlink("c.db");
    return n;
}

/* ------------------------------------------------------------------------------------------------
 * I/O errors
 * --------------------------------------------------------------------------------------------- */

/* Commits, reads and checkpoints by `db`; returns how many commits it acknowledged.  Another commits in between. */
static int
work(sqlite3 *db, sqlite3 *other)
{
    int done = 0;
    for (int step = 0; step < STEPS; step++) {
        done += run(db, "insert into t(v) values(1)") == SQLITE_OK;
        if (step % 3 == 1) {
            ck_assert_int_eq(run(other, "insert into t(v) values(2)"), SQLITE_OK);
            done++;
        }
        (void)run(db, "select sum(v) from t");
        if (step % 6 == 2)
            (void)run(db, "pragma wal_checkpoint(passive)");
        if (step % 6 == 5)
            (void)run(db, "pragma wal_checkpoint(truncate)");
    }
    return done;
}

/*
 * After the fault: others see all, go on, and so does the next connection, which leaves last and takes the log with it.  (Were
 * it the other that leaves last, who leaves before would wait for it 20 ms: see lks_wal_lock_exclusive().)
 */
static void
check_after(int kind, sqlite3 *db, sqlite3 *other, int least, int most)
{
    int n = rows(other);
    sqlite3 *next;
    ck_assert_msg(n >= least && n <= most, "%d rows, %d to %d", n, least, most);
    check_text(must(other, "pragma integrity_check"), "ok");
    helper_do('l');
    ck_assert_int_eq(run(other, "insert into t(v) values(3)"), SQLITE_OK);
    ck_assert_int_eq(rows_after_a_crash(), n + 1);
    helper_do('u');
    close_quietly(db);
    next = open_kind(kind);
    must(next, "pragma synchronous = off; insert into t(v) values(4)");
    ck_assert_int_eq(rows(other), n + 2);
    must(next, "pragma wal_checkpoint(truncate)");
    ck_assert_int_eq(rows(next), n + 2);
    close_quietly(other);
    close_quietly(next);
    ck_assert_int_ne(access("a.db-wal", F_OK), 0);
}

static const struct {
    enum what what;
    int error;
    unsigned times;
} faults[] = {
    {READS, EIO, 1}, {READS, 0, 0}, {WRITES, EIO, 1}, {WRITES, ENOSPC, 0}, {WRITES, EIO, 0},
};
#define FAULTS ((int)(sizeof faults / sizeof faults[0]))

START_TEST(nothing_is_lost_wherever_it_fails)
{
    int kind = _i % KINDS, which = _i / KINDS;
    unsigned after, hits = 1;
    helper_start();
    for (after = 0; hits != 0; after += faults[which].what == READS && !vfstest_soak() ? 7 : 1) {
        sqlite3 *other = open_stock("a.db"), *db;
        int done;
        make(other);
        db = open_kind(kind);
        must(db, "select * from t");
        must(db, "pragma wal_autocheckpoint = 0; pragma synchronous = off");
        break_index(faults[which].what, faults[which].error, after, faults[which].times);
        done = work(db, other);
        hits = mend_index();
        if (hits != 0) {
            /* Once it has failed it fails, and says so once. */
            ck_assert_int_eq(run(db, "insert into t(v) values(1)") & 0xff, SQLITE_IOERR);
            ck_assert_int_eq(run(db, "select * from t") & 0xff, SQLITE_IOERR);
            ck_assert(logged("wal-index could not be read or written"));
            log_clear();
        }
        helper_do('h');
        check_after(kind, db, other, done, STEPS + STEPS / 3);
        unlink("a.db");
    }
    ck_assert_uint_gt(after, 20);
    helper_end();
}
END_TEST

/* A full disk is met before anything is written: it is told, and with space the same connection goes on. */
START_TEST(no_space_for_a_region_is_told_and_good_again)
{
    sqlite3 *db;
    helper_start();
    db = open_kind(_i);
    must(db, "pragma journal_mode = wal");
    break_index(SPACE, ENOSPC, 0, 0);
    ck_assert_int_eq(run(db, "create table t(k integer primary key, v)") & 0xff, SQLITE_FULL);
    ck_assert_uint_gt(mend_index(), 0);
    must(db, "create table t(k integer primary key, v); pragma wal_autocheckpoint = 0; pragma synchronous = off");
    break_index(SPACE, ENOSPC, 0, 0);
    /* The second region: 4063 frames. */
    must(db, "insert into t(v) values(1)");
    ck_assert_int_eq(run(db, "with recursive c(i) as (select 1 union all select i+1 from c where i<1500) "
                             "insert into t(v) select zeroblob(12000) from c") & 0xff, SQLITE_FULL);
    ck_assert_uint_gt(mend_index(), 0);
    ck_assert_int_eq(rows(db), 1);
    must(db, "with recursive c(i) as (select 1 union all select i+1 from c where i<1500) "
             "insert into t(v) select zeroblob(12000) from c");
    check_text(must(db, "select count(*) from t; pragma integrity_check"), "1501\nok");
    ck_assert_int_eq(rows_after_a_crash(), 1501);
    close_db(db);
    helper_end();
}
END_TEST

/* ------------------------------------------------------------------------------------------------
 * Cut off
 * --------------------------------------------------------------------------------------------- */

static const off_t sizes[] = {0, 3, 95, 96, 135, 136, 20000, 32767};
#define SIZES ((int)(sizeof sizes / sizeof sizes[0]))

static void
cut(off_t size)
{
    ck_assert_int_eq(truncate(INDEX, size), 0);
}

/*
 * A connection that has it in hand is told.  One that comes while the other is there builds a new one if the header is gone, and
 * is told if only what it speaks of is: a region of zeros would be a log without these frames.  With the last the index
 * goes, and whoever comes recovers.
 */
START_TEST(an_index_that_was_cut_off_is_no_log_without_frames)
{
    off_t size = sizes[_i / KINDS];
    bool header_left = size >= 2 * (off_t)LKS_INDEX_HEADER_BYTES;
    struct peer peer;
    const char *answer;
    sqlite3 *db;
    helper_start();
    db = open_kind(_i % KINDS);
    make(db);
    for (int i = 0; i < 30; i++)
        must(db, "insert into t(v) values(%d)", i);
    cut(size);
    ck_assert_int_eq(run(db, "insert into t(v) values(30)") & 0xff, SQLITE_IOERR);
    peer_start(&peer);
    check_text(peer_ask(&peer, "open 0 file:a.db?vfs=lockstep&shm=copy"), "");
    answer = peer_ask(&peer, "sql 0 select count(*) from t");
    if (header_left)
        ck_assert_ptr_nonnull(strstr(answer, "disk I/O error"));
    else
        check_text(answer, "30");
    check_text(peer_ask(&peer, "close 0"), "");
    ck_assert_int_eq(rows_after_a_crash(), 30);
    close_quietly(db);
    check_text(peer_ask(&peer, "open 0 file:a.db?vfs=lockstep&shm=copy"), "");
    check_text(peer_ask(&peer, "sql 0 insert into t(v) values(31); pragma integrity_check"), "ok");
    check_text(peer_ask(&peer, "sql 0 select count(*) from t"), "31");
    peer_exit(&peer);
    helper_end();
}
END_TEST

/* In the midst of a transaction: its COMMIT is refused, or all of it is there. */
START_TEST(a_commit_into_an_index_that_was_cut_off_is_not_acknowledged)
{
    sqlite3 *db = open_kind(_i % KINDS);
    make(db);
    must(db, "insert into t(v) values(1)");
    must(db, "begin immediate; insert into t(v) values(2); insert into t(v) values(3)");
    cut(sizes[_i / KINDS]);
    if (sizes[_i / KINDS] < (off_t)LKS_INDEX_HEAD_BYTES)
        ck_assert_int_eq(run(db, "commit") & 0xff, SQLITE_IOERR);
    else
        must(db, "commit"); /* what it writes is all that was missing, but for what others know */
    close_quietly(db);
    db = open_kind(_i % KINDS);
    ck_assert_int_eq(rows(db) % 2, 1);
    check_text(must(db, "pragma integrity_check; insert into t(v) values(4)"), "ok");
    close_quietly(db);
}
END_TEST

static Suite *
make_suite(void)
{
    Suite *suite = suite_create("shm=copy, faults");
    TCase *errors = vfstest_case(suite, "errors"), *cuts = vfstest_case(suite, "cut off");
    tcase_add_loop_test(errors, nothing_is_lost_wherever_it_fails, 0, FAULTS * KINDS);
    tcase_add_loop_test(errors, no_space_for_a_region_is_told_and_good_again, 0, KINDS);
    tcase_add_loop_test(cuts, an_index_that_was_cut_off_is_no_log_without_frames, 0, SIZES * KINDS);
    tcase_add_loop_test(cuts, a_commit_into_an_index_that_was_cut_off_is_not_acknowledged, 0, SIZES * KINDS);
    return suite;
}

int
main(int argc, char **argv)
{
    return vfstest_main(argc, argv, make_suite);
}
