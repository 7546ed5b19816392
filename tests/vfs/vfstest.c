#include "vfs/vfstest.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <lockstep/sqlite3async.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "vfs/peer.h"

#define RESULTS 4

static char folder[4096];

/* ------------------------------------------------------------------------------------------------- log */

static pthread_mutex_t log_mutex = PTHREAD_MUTEX_INITIALIZER;
static char log_buffer[1 << 16];
static size_t log_length;

static void
keep_log(void *arg, int level, const char *message)
{
    static const char more[] = "lockstep: ... ";
    size_t n;
    bool continued = strncmp(message, more, sizeof more - 1) == 0;
    (void)arg;
    (void)level;
    pthread_mutex_lock(&log_mutex);
    if (continued) {
        /* The rest of the line before. */
        message += sizeof more - 1;
        if (log_length > 0)
            log_buffer[log_length - 1] = ' ';
    }
    n = strlen(message);
    if (log_length + n + 2 < sizeof log_buffer) {
        memcpy(log_buffer + log_length, message, n);
        log_buffer[log_length + n] = '\n';
        log_length += n + 1;
        log_buffer[log_length] = '\0';
    }
    pthread_mutex_unlock(&log_mutex);
}

bool
logged(const char *words)
{
    bool found;
    pthread_mutex_lock(&log_mutex);
    found = strstr(log_buffer, words) != NULL;
    pthread_mutex_unlock(&log_mutex);
    return found;
}

const char *
log_text(void)
{
    return log_buffer;
}

void
log_clear(void)
{
    pthread_mutex_lock(&log_mutex);
    log_length = 0;
    log_buffer[0] = '\0';
    pthread_mutex_unlock(&log_mutex);
}

/* ------------------------------------------------------------------------------------------------- SQL */

static __thread sqlite3_str *collected;

static int
collect_row(void *arg, int n, char **values, char **names)
{
    int i;
    (void)arg;
    (void)names;
    if (sqlite3_str_length(collected) > 0)
        sqlite3_str_appendchar(collected, 1, '\n');
    for (i = 0; i < n; i++)
        sqlite3_str_appendf(collected, "%s%s", i > 0 ? "|" : "", values[i] != NULL ? values[i] : "NULL");
    return 0;
}

char *
run_sql(sqlite3 *db, const char *text, int *out_code)
{
    char *message = NULL;
    int rc;
    sqlite3_str *str = sqlite3_str_new(NULL);
    collected = str;
    rc = sqlite3_exec(db, text, collect_row, NULL, &message);
    collected = NULL;
    if (rc != SQLITE_OK) {
        sqlite3_str_reset(str);
        sqlite3_str_appendf(str, "error %d: %s", sqlite3_extended_errcode(db),
                            message != NULL ? message : sqlite3_errstr(rc));
    }
    sqlite3_free(message);
    *out_code = rc;
    if (sqlite3_str_length(str) == 0) {
        sqlite3_free(sqlite3_str_finish(str));
        return sqlite3_mprintf("");
    }
    return sqlite3_str_finish(str);
}

static const char *
run_kept(sqlite3 *db, const char *format, va_list args, int *out_code)
{
    static __thread char *results[RESULTS];
    static __thread unsigned next;
    char *text = sqlite3_vmprintf(format, args);
    char *result = run_sql(db, text, out_code);
    sqlite3_free(text);
    sqlite3_free(results[next % RESULTS]);
    results[next % RESULTS] = result;
    next++;
    return result;
}

const char *
sql(sqlite3 *db, const char *format, ...)
{
    va_list args;
    const char *result;
    int rc;
    va_start(args, format);
    result = run_kept(db, format, args, &rc);
    va_end(args);
    return result;
}

const char *
must(sqlite3 *db, const char *format, ...)
{
    va_list args;
    const char *result;
    int rc;
    va_start(args, format);
    result = run_kept(db, format, args, &rc);
    va_end(args);
    ck_assert_msg(rc == SQLITE_OK, "%s -> %s", format, result);
    return result;
}

int
code(sqlite3 *db, const char *format, ...)
{
    va_list args;
    int rc;
    va_start(args, format);
    (void)run_kept(db, format, args, &rc);
    va_end(args);
    return rc;
}

struct lockstep_db_info
info(sqlite3 *db)
{
    struct lockstep_db_info i;
    memset(&i, 0, sizeof i);
    ck_assert_int_eq(lockstep_status(db, &i), SQLITE_OK);
    return i;
}

int
open_code(const char *name, const char *parameters, int flags, sqlite3 **out_db)
{
    char uri[512];
    snprintf(uri, sizeof uri, "file:%s?%s", name, parameters);
    return sqlite3_open_v2(uri, out_db, flags | SQLITE_OPEN_URI, NULL);
}

sqlite3 *
open_ours(const char *name, const char *parameters)
{
    char with_vfs[400];
    sqlite3 *db;
    int rc;
    snprintf(with_vfs, sizeof with_vfs, "vfs=lockstep&%s", parameters);
    rc = open_code(name, with_vfs, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE, &db);
    ck_assert_msg(rc == SQLITE_OK, "open %s: %s", name, sqlite3_errmsg(db));
    return db;
}

sqlite3 *
open_stock(const char *name)
{
    sqlite3 *db;
    int rc = sqlite3_open_v2(name, &db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE, "unix");
    ck_assert_msg(rc == SQLITE_OK, "open %s: %s", name, sqlite3_errmsg(db));
    return db;
}

void
close_db(sqlite3 *db)
{
    ck_assert_int_eq(sqlite3_close(db), SQLITE_OK);
}

/* ----------------------------------------------------------------------------------------------- files */

bool
file_exists(const char *name)
{
    return access(name, F_OK) == 0;
}

long long
file_size(const char *name)
{
    struct stat st;
    return stat(name, &st) == 0 ? (long long)st.st_size : -1;
}

void
check_ordinary(const char *name)
{
    char beside[300];
    unsigned char version[2];
    sqlite3 *db;
    static const char *const suffixes[] = {"-lockstep", "-journal", "-wal", "-shm"};
    size_t i;
    for (i = 0; i < sizeof suffixes / sizeof suffixes[0]; i++) {
        snprintf(beside, sizeof beside, "%s%s", name, suffixes[i]);
        ck_assert_msg(!file_exists(beside), "%s is left", beside);
    }
    if (file_size(name) == 0)
        return;
    read_file(name, 18, version, 2);
    ck_assert_int_eq(version[0], 1);
    db = open_stock(name);
    check_text(must(db, "pragma integrity_check"), "ok");
    close_db(db);
}

/* Whose lock would be in the way of one of these bytes; 0: nobody's. */
static pid_t
holder_of(const char *name, off_t offset, off_t size)
{
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = offset, .l_len = size};
    int fd = open(name, O_RDWR | O_CLOEXEC);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(fcntl(fd, F_GETLK, &lock), 0);
    close(fd);
    return lock.l_type == F_UNLCK ? 0 : lock.l_pid;
}

void
check_reads_wal(const char *name, pid_t pid)
{
    char index[300];
    snprintf(index, sizeof index, "%s-shm", name);
    ck_assert_int_eq(holder_of(name, 0x40000002, 510), pid); /* SHARED */
    ck_assert_int_eq(holder_of(index, 128, 1), pid);         /* the dead man's switch */
    ck_assert_int_eq(holder_of(index, 123, 5), pid);         /* READ0..4 */
}

void
check_no_log(const char *name)
{
    static const char *const suffixes[] = {"-wal", "-shm", "-lockstep"};
    char beside[256];
    size_t i;
    for (i = 0; i < sizeof suffixes / sizeof suffixes[0]; i++) {
        snprintf(beside, sizeof beside, "%s%s", name, suffixes[i]);
        ck_assert_msg(!file_exists(beside), "%s is left behind", beside);
    }
}

void
write_file(const char *name, long long offset, const void *bytes, size_t size)
{
    int fd = open(name, O_WRONLY | O_CREAT | O_CLOEXEC, 0666);
    ck_assert_msg(fd >= 0, "%s: %s", name, strerror(errno));
    ck_assert_int_eq(pwrite(fd, bytes, size, offset), (ssize_t)size);
    close(fd);
}

void
read_file(const char *name, long long offset, void *bytes, size_t size)
{
    int fd = open(name, O_RDONLY | O_CLOEXEC);
    ck_assert_msg(fd >= 0, "%s: %s", name, strerror(errno));
    ck_assert_int_eq(pread(fd, bytes, size, offset), (ssize_t)size);
    close(fd);
}

void
copy_file(const char *from, const char *to)
{
    char buffer[65536];
    int in = open(from, O_RDONLY | O_CLOEXEC);
    int out = open(to, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    ssize_t n;
    ck_assert(in >= 0 && out >= 0);
    while ((n = read(in, buffer, sizeof buffer)) > 0)
        ck_assert_int_eq(write(out, buffer, (size_t)n), n);
    close(in);
    close(out);
}

void
check_same_file(const char *a, const char *b)
{
    static char x[65536], y[65536];
    long long at, size = file_size(a);
    ck_assert_int_eq(size, file_size(b));
    for (at = 0; at < size; at += (long long)sizeof x) {
        size_t n = size - at < (long long)sizeof x ? (size_t)(size - at) : sizeof x;
        size_t i;
        read_file(a, at, x, n);
        read_file(b, at, y, n);
        for (i = 0; i < n && x[i] == y[i]; i++)
            ;
        ck_assert_msg(i == n, "%s and %s differ at byte %lld", a, b, at + (long long)i);
    }
}

/* ------------------------------------------------------------------------------------------------- main */

static void
begin_test(void)
{
    static unsigned count;
    char name[64];
    ck_assert_int_eq(chdir(folder), 0);
    snprintf(name, sizeof name, "%ld-%u", (long)getpid(), count++);
    ck_assert_int_eq(mkdir(name, 0777), 0);
    ck_assert_int_eq(chmod(name, 0777), 0);
    ck_assert_int_eq(chdir(name), 0);
    ck_assert_int_eq(lockstep_initialize("unix", 0), SQLITE_OK);
}

TCase *
vfstest_case(Suite *suite, const char *name)
{
    TCase *tcase = tcase_create(name);
    tcase_add_checked_fixture(tcase, begin_test, NULL);
    suite_add_tcase(suite, tcase);
    return tcase;
}

bool
vfstest_soak(void)
{
    return getenv("LKS_SOAK") != NULL;
}

static int
remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    (void)st;
    (void)ftw;
    if (type == FTW_DNR || type == FTW_DP)
        (void)chmod(path, 0700);
    return remove(path);
}

int
vfstest_main(int argc, char **argv, Suite *(*make_suite)(void))
{
    const char *tmp = getenv("TMPDIR");
    SRunner *runner;
    int failed;

    sqlite3_config(SQLITE_CONFIG_LOG, keep_log, NULL);
    if (argc > 1 && strcmp(argv[1], "--peer") == 0)
        return lockstep_initialize("unix", 0) == SQLITE_OK && sqlite3async_initialize("unix", 0) == SQLITE_OK
                   ? peer_main()
                   : 1;
    snprintf(folder, sizeof folder, "%s/lockstep-test-XXXXXX", tmp != NULL ? tmp : "/tmp");
    if (mkdtemp(folder) == NULL || chmod(folder, 0755) != 0) {
        perror(folder);
        return 1;
    }
    signal(SIGPIPE, SIG_IGN);
    runner = srunner_create(make_suite());
    srunner_run_all(runner, CK_ENV);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    (void)nftw(folder, remove_one, 16, FTW_DEPTH | FTW_PHYS);
    return failed == 0 ? 0 : 1;
}
