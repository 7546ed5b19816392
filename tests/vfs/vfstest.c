#include "vfs/vfstest.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <lockstep/sqlite3async.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define RESULTS 4
#define PEER_CONNECTIONS 10

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

/* Malloced by SQLite. */
static char *
run(sqlite3 *db, const char *text, int *out_code)
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
    char *result = run(db, text, out_code);
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

/* ------------------------------------------------------------------------------------------------ pairs */

void
pair_open(struct pair *pair, const char *parameters)
{
    pair->parameters = parameters;
    pair->stock = open_stock("stock.db");
    pair->ours = open_ours("ours.db", parameters);
}

void
pair_close(struct pair *pair)
{
    close_db(pair->stock);
    close_db(pair->ours);
}

static char *
with_name(const char *text, const char *name)
{
    sqlite3_str *str = sqlite3_str_new(NULL);
    for (; *text != '\0'; text++)
        if (*text == '@')
            sqlite3_str_appendall(str, name);
        else
            sqlite3_str_appendchar(str, 1, *text);
    return sqlite3_str_finish(str);
}

void
pair_sql(struct pair *pair, const char *format, ...)
{
    va_list args;
    char *text, *stock_text, *ours_text, *stock, *ours;
    int rc;
    va_start(args, format);
    text = sqlite3_vmprintf(format, args);
    va_end(args);
    stock_text = with_name(text, "stock");
    ours_text = with_name(text, "ours");
    stock = run(pair->stock, stock_text, &rc);
    ours = run(pair->ours, ours_text, &rc);
    ck_assert_msg(strcmp(stock, ours) == 0, "%s\nstock: %.2000s\nours:  %.2000s\n%s", text, stock, ours,
                  log_text());
    sqlite3_free(stock);
    sqlite3_free(ours);
    sqlite3_free(stock_text);
    sqlite3_free(ours_text);
    sqlite3_free(text);
}

void
pair_finish(struct pair *pair)
{
    pair_close(pair);
    check_ordinary("ours.db");
    check_same_file("stock.db", "ours.db");
}

/* ------------------------------------------------------------------------------------------------ peers */

static bool
read_all(int fd, void *buffer, size_t size)
{
    size_t done = 0;
    while (done < size) {
        ssize_t n = read(fd, (char *)buffer + done, size - done);
        if (n <= 0 && !(n < 0 && errno == EINTR))
            return false;
        done += n > 0 ? (size_t)n : 0;
    }
    return true;
}

static bool
write_all(int fd, const void *buffer, size_t size)
{
    size_t done = 0;
    while (done < size) {
        ssize_t n = write(fd, (const char *)buffer + done, size - done);
        if (n <= 0 && !(n < 0 && errno == EINTR))
            return false;
        done += n > 0 ? (size_t)n : 0;
    }
    return true;
}

static bool
send_text(int fd, const char *text)
{
    uint32_t length = (uint32_t)strlen(text);
    return write_all(fd, &length, sizeof length) && write_all(fd, text, length);
}

/* NULL at the end; free() it. */
static char *
receive_text(int fd)
{
    uint32_t length;
    char *text;
    if (!read_all(fd, &length, sizeof length))
        return NULL;
    text = malloc((size_t)length + 1);
    if (text == NULL || !read_all(fd, text, length)) {
        free(text);
        return NULL;
    }
    text[length] = '\0';
    return text;
}

static int
never_give_up(void *arg, int times)
{
    (void)arg;
    (void)times;
    return 1;
}

static char *
core_attach(const char *path)
{
    struct lockstep_db *core;
    enum lockstep_status status = lockstep_db_open(path, NULL, &core);
    if (status == LOCKSTEP_OK)
        status = lockstep_db_attach(core);
    return sqlite3_mprintf("%s", status == LOCKSTEP_OK ? "" : lockstep_status_name(status));
}

static char *
obey(sqlite3 **connections, const char *command)
{
    char verb[16] = "";
    int n = 0, offset = 0, rc;
    const char *rest;
    sscanf(command, "%15s%n", verb, &offset);
    rest = command + offset;
    rest += *rest == ' ';
    if (strcmp(verb, "log") == 0)
        return sqlite3_mprintf("%s", log_text());
    if (strcmp(verb, "exit") == 0)
        exit(0);
    if (strcmp(verb, "attach") == 0)
        return core_attach(rest);
    if (strcmp(verb, "become") == 0) {
        uid_t uid = (uid_t)atoi(rest);
        return sqlite3_mprintf("%s", setgid(uid) == 0 && setuid(uid) == 0 ? "" : strerror(errno));
    }
    n = rest[0] - '0';
    rest += rest[1] == ' ' ? 2 : 1;
    if (n < 0 || n >= PEER_CONNECTIONS)
        return sqlite3_mprintf("no connection in: %s", command);
    if (strcmp(verb, "open") == 0) {
        rc = sqlite3_open_v2(rest, &connections[n],
                             SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_URI, NULL);
        return rc == SQLITE_OK ? sqlite3_mprintf("")
                               : sqlite3_mprintf("error %d: %s", rc, sqlite3_errmsg(connections[n]));
    }
    if (strcmp(verb, "sql") == 0)
        return run(connections[n], rest, &rc);
    if (strcmp(verb, "close") == 0) {
        rc = sqlite3_close(connections[n]);
        connections[n] = NULL;
        return sqlite3_mprintf("%s", rc == SQLITE_OK ? "" : sqlite3_errstr(rc));
    }
    if (strcmp(verb, "timeout") == 0)
        return sqlite3_mprintf("%s", sqlite3_busy_timeout(connections[n], atoi(rest)) == 0 ? "" : "no");
    if (strcmp(verb, "handler") == 0)
        return sqlite3_mprintf("%s", sqlite3_busy_handler(connections[n], never_give_up, NULL) == 0 ? ""
                                                                                                   : "no");
    return sqlite3_mprintf("unknown: %s", command);
}

static int
be_peer(void)
{
    sqlite3 *connections[PEER_CONNECTIONS] = {NULL};
    char *command;
    while ((command = receive_text(STDIN_FILENO)) != NULL) {
        char *answer = obey(connections, command);
        free(command);
        if (!send_text(STDOUT_FILENO, answer))
            return 1;
        sqlite3_free(answer);
    }
    return 0;
}

void
peer_start(struct peer *peer)
{
    int to[2], from[2];
    pid_t parent = getpid();
    ck_assert_int_eq(pipe2(to, O_CLOEXEC), 0);
    ck_assert_int_eq(pipe2(from, O_CLOEXEC), 0);
    memset(peer, 0, sizeof *peer);
    peer->pid = fork();
    ck_assert_int_ge(peer->pid, 0);
    if (peer->pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (getppid() != parent)
            _exit(1);
        dup2(to[0], STDIN_FILENO);
        dup2(from[1], STDOUT_FILENO);
        execl("/proc/self/exe", "peer", "--peer", (char *)NULL);
        _exit(127);
    }
    close(to[0]);
    close(from[1]);
    peer->to = to[1];
    peer->from = from[0];
}

void
peer_tell(struct peer *peer, const char *format, ...)
{
    va_list args;
    char *text;
    va_start(args, format);
    text = sqlite3_vmprintf(format, args);
    va_end(args);
    ck_assert_msg(send_text(peer->to, text), "the peer is gone: %s", text);
    sqlite3_free(text);
}

const char *
peer_answer(struct peer *peer)
{
    free(peer->reply);
    peer->reply = receive_text(peer->from);
    ck_assert_msg(peer->reply != NULL, "the peer died");
    return peer->reply;
}

bool
peer_answers(struct peer *peer, int wait_ms)
{
    struct pollfd p = {.fd = peer->from, .events = POLLIN, .revents = 0};
    return poll(&p, 1, wait_ms) == 1;
}

const char *
peer_ask(struct peer *peer, const char *format, ...)
{
    va_list args;
    char *text;
    va_start(args, format);
    text = sqlite3_vmprintf(format, args);
    va_end(args);
    ck_assert_msg(send_text(peer->to, text), "the peer is gone: %s", text);
    sqlite3_free(text);
    return peer_answer(peer);
}

static void
peer_reap(struct peer *peer)
{
    int status;
    ck_assert_int_eq(waitpid(peer->pid, &status, 0), peer->pid);
    close(peer->to);
    close(peer->from);
    free(peer->reply);
    peer->reply = NULL;
    peer->pid = 0;
}

void
peer_kill(struct peer *peer)
{
    ck_assert_int_eq(kill(peer->pid, SIGKILL), 0);
    peer_reap(peer);
}

void
peer_exit(struct peer *peer)
{
    ck_assert(send_text(peer->to, "exit"));
    peer_reap(peer);
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
                   ? be_peer()
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
