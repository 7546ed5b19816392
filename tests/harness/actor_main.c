/* The actor's program; see actor.h for the orders. */
#include <poll.h>
#include <pthread.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <lockstep/lockstep.h>
#include <lockstep/sqlite3async.h>

#include "base/crashpoint.h"
#include "harness/books.h"

#define CONNECTIONS 8
#define LEDGER 3
#define TEXT_BYTES 60000
#define AWAIT_LOOKS 10000

static sqlite3 *connections[CONNECTIONS];
static unsigned current, account;
static uint32_t random_state;
static char line[8192];
static char text[TEXT_BYTES];
static size_t text_bytes;
static pthread_mutex_t log_mutex = PTHREAD_MUTEX_INITIALIZER;
static char logged[TEXT_BYTES];
static size_t logged_bytes;

static void
note_log(void *arg, int code, const char *message)
{
    size_t n = strlen(message);
    (void)arg;
    pthread_mutex_lock(&log_mutex);
    if (logged_bytes + n + 20 < sizeof logged)
        logged_bytes += (size_t)snprintf(logged + logged_bytes, sizeof logged - logged_bytes, "[%d] %s; ",
                                         code, message);
    pthread_mutex_unlock(&log_mutex);
}

static void
append(const char *words)
{
    size_t n = strlen(words);
    if (text_bytes + n >= sizeof text)
        n = sizeof text - text_bytes - 1;
    memcpy(text + text_bytes, words, n);
    text_bytes += n;
    text[text_bytes] = '\0';
}

static void
answer(int code)
{
    char reply[TEXT_BYTES + 32];
    size_t i;
    int n;
    for (i = 0; i < text_bytes; i++)
        if (text[i] == '\n')
            text[i] = ' ';
    n = snprintf(reply, sizeof reply, "%d %s\n", code, text);
    if (write(STDOUT_FILENO, reply, (size_t)n) != n)
        _exit(1);
}

static bool
told_again(void)
{
    struct pollfd orders = {.fd = STDIN_FILENO, .events = POLLIN};
    return poll(&orders, 1, 0) > 0;
}

static int
open_database(const char *uri, int flags)
{
    int rc = sqlite3_open_v2(uri, &connections[current], flags | SQLITE_OPEN_URI, "lockstep");
    if (rc != SQLITE_OK) {
        append(sqlite3_errmsg(connections[current]));
        sqlite3_close(connections[current]);
        connections[current] = NULL;
        return rc;
    }
    sqlite3_extended_result_codes(connections[current], 1);
    sqlite3_busy_timeout(connections[current], 10000);
    return SQLITE_OK;
}

static int
add_row(void *arg, int columns, char **values, char **names)
{
    int i;
    (void)arg;
    (void)names;
    if (text_bytes > 0)
        append(";");
    for (i = 0; i < columns; i++) {
        append(i > 0 ? "|" : "");
        append(values[i] != NULL ? values[i] : "NULL");
    }
    return 0;
}

static int
execute(const char *sql, int (*row)(void *, int, char **, char **))
{
    char *message = NULL;
    int rc = sqlite3_exec(connections[current], sql, row, NULL, &message);
    if (rc != SQLITE_OK && message != NULL) {
        text_bytes = 0;
        append(message);
    }
    sqlite3_free(message);
    return rc;
}

static int
transact(char kind, unsigned count)
{
    unsigned done = 0, refused = 0, tries;
    int rc = SQLITE_OK;
    char words[80];
    for (tries = 0; count == 0 ? !told_again() : done < count; tries++) {
        struct books_record record;
        rc = books_transact(connections[current], account, kind, &random_state, &record);
        if (rc == SQLITE_OK) {
            if (write(LEDGER, &record, sizeof record) != sizeof record)
                _exit(1);
            done++;
        } else if ((rc & 0xff) == SQLITE_BUSY) {
            refused++;
        } else if (rc != SQLITE_DONE) {
            append(sqlite3_errmsg(connections[current]));
            return rc;
        }
    }
    snprintf(words, sizeof words, "%u %u", done, refused);
    append(words);
    return SQLITE_OK;
}

static int
watch(unsigned count)
{
    struct books books;
    int64_t before = 0;
    unsigned i;
    for (i = 0; count == 0 ? !told_again() : i < count; i++) {
        int rc = books_read(connections[current], &books);
        if (rc != SQLITE_OK) {
            append(books.wrong);
            return rc;
        }
        if (books.n < before) {
            append("went back in time");
            return BOOKS_WRONG;
        }
        before = books.n;
    }
    return SQLITE_OK;
}

/* In any mode, as a program does that keeps the log short. */
static int
checkpoint(unsigned count)
{
    static const int modes[] = {SQLITE_CHECKPOINT_PASSIVE, SQLITE_CHECKPOINT_FULL, SQLITE_CHECKPOINT_RESTART,
                                SQLITE_CHECKPOINT_TRUNCATE};
    unsigned done = 0, refused = 0;
    char words[80];
    while (count == 0 ? !told_again() : done + refused < count) {
        int rc = sqlite3_wal_checkpoint_v2(connections[current], "main", modes[books_random(&random_state) % 4],
                                           NULL, NULL);
        if (rc != SQLITE_OK && (rc & 0xff) != SQLITE_BUSY) {
            append(sqlite3_errmsg(connections[current]));
            return rc;
        }
        done += rc == SQLITE_OK;
        refused += rc != SQLITE_OK;
        usleep(books_random(&random_state) % 20000);
    }
    snprintf(words, sizeof words, "%u %u", done, refused);
    append(words);
    return SQLITE_OK;
}

static int
audit(void)
{
    struct books books;
    char words[64];
    unsigned i;
    int rc = books_read(connections[current], &books);
    if (rc != SQLITE_OK) {
        append(books.wrong);
        return rc;
    }
    snprintf(words, sizeof words, "%lld", (long long)books.n);
    append(words);
    for (i = 0; i < BOOKS_ACTORS; i++)
        if (books.seq[i] != 0) {
            snprintf(words, sizeof words, " %u=%lld", i, (long long)books.seq[i]);
            append(words);
        }
    return SQLITE_OK;
}

static int
arm(const char *arguments)
{
#ifdef LKS_DEBUG
    char name[64];
    unsigned nth;
    if (sscanf(arguments, "%63s %u", name, &nth) != 2)
        return SQLITE_MISUSE;
    lks_crash_arm(name, nth);
    return SQLITE_OK;
#else
    (void)arguments;
    return SQLITE_NOTFOUND;
#endif
}

#ifdef LKS_DEBUG
static char halt_name[64];
static _Atomic unsigned halt_left;
static pthread_t main_thread;
static const char *_Atomic passed_beside; /* by another thread, last */

static void
pass(const char *name)
{
    if (!pthread_equal(pthread_self(), main_thread))
        passed_beside = name;
    if (halt_left > 0 && strcmp(name, halt_name) == 0 && --halt_left == 0)
        raise(SIGSTOP);
}
#endif

static int
arm_halt(const char *arguments)
{
#ifdef LKS_DEBUG
    unsigned nth;
    if (sscanf(arguments, "%63s %u", halt_name, &nth) != 2)
        return SQLITE_MISUSE;
    halt_left = nth;
    return SQLITE_OK;
#else
    (void)arguments;
    return SQLITE_NOTFOUND;
#endif
}

static int
await(const char *name)
{
#ifdef LKS_DEBUG
    int looks;
    for (looks = 0; looks < AWAIT_LOOKS; looks++) {
        const char *passed = passed_beside;
        if (passed != NULL && strcmp(passed, name) == 0)
            return SQLITE_OK;
        usleep(1000);
    }
    append(passed_beside != NULL ? passed_beside : "none");
    return SQLITE_BUSY;
#else
    (void)name;
    return SQLITE_NOTFOUND;
#endif
}

static int
list_points(void)
{
#ifdef LKS_DEBUG
    static const char *names[512];
    size_t n = lks_crash_points(names, 512), i;
    for (i = 0; i < n && i < 512; i++) {
        append(names[i]);
        append(" ");
    }
    return SQLITE_OK;
#else
    return SQLITE_NOTFOUND;
#endif
}

static int
tell_log(void)
{
    pthread_mutex_lock(&log_mutex);
    logged[logged_bytes] = '\0';
    append(logged);
    logged_bytes = 0;
    pthread_mutex_unlock(&log_mutex);
    return SQLITE_OK;
}

static int
close_database(void)
{
    int rc = sqlite3_close(connections[current]);
    if (rc == SQLITE_OK)
        connections[current] = NULL;
    return rc;
}

/* In place of libc's, also for the SQLite library: fails as a broken disk does. */
static _Atomic int syncs_good, sync_failures;
int fdatasync(int fd);

int
fdatasync(int fd)
{
    if (sync_failures > 0 && syncs_good-- <= 0) {
        sync_failures--;
        errno = EIO;
        return -1;
    }
    return (int)syscall(SYS_fdatasync, fd);
}

static pthread_t runner;

static void *
run_main(void *arg)
{
    (void)arg;
    sqlite3async_run();
    return NULL;
}

static int
start_run(void)
{
    (void)sqlite3async_control(SQLITEASYNC_HALT, SQLITEASYNC_HALT_NEVER);
    return pthread_create(&runner, NULL, run_main, NULL) == 0 ? SQLITE_OK : SQLITE_ERROR;
}

static int
stop_run(void)
{
    (void)sqlite3async_control(SQLITEASYNC_HALT, SQLITEASYNC_HALT_IDLE);
    return pthread_join(runner, NULL) == 0 ? SQLITE_OK : SQLITE_ERROR;
}

static bool
is_order(const char *name, const char **out_arguments)
{
    size_t n = strlen(name);
    if (strncmp(line, name, n) != 0 || (line[n] != ' ' && line[n] != '\0'))
        return false;
    *out_arguments = line[n] == ' ' ? line + n + 1 : line + n;
    return true;
}

static int
obey(void)
{
    const char *a;
    if (is_order("use", &a)) {
        current = (unsigned)atoi(a) % CONNECTIONS;
        return 0;
    }
    if (is_order("open", &a))
        return open_database(a, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE);
    if (is_order("openro", &a))
        return open_database(a, SQLITE_OPEN_READONLY);
    if (is_order("exec", &a))
        return execute(a, NULL);
    if (is_order("read", &a))
        return execute(a, add_row);
    if (is_order("timeout", &a))
        return sqlite3_busy_timeout(connections[current], atoi(a));
    if (is_order("make", &a))
        return books_make(connections[current]);
    if (is_order("transact", &a) && strlen(a) > 2)
        return transact(a[0], (unsigned)atoi(a + 2));
    if (is_order("watch", &a))
        return watch((unsigned)atoi(a));
    if (is_order("checkpoint", &a))
        return checkpoint((unsigned)atoi(a));
    if (is_order("audit", &a))
        return audit();
    if (is_order("integrity", &a)) {
        int rc = books_integrity(connections[current], text, sizeof text);
        text_bytes = strlen(text);
        return rc;
    }
    if (is_order("seed", &a)) {
        random_state = (uint32_t)strtoul(a, NULL, 10) | 1u;
        return 0;
    }
    if (is_order("die", &a))
        return arm(a);
    if (is_order("halt", &a))
        return arm_halt(a);
    if (is_order("await", &a))
        return await(a);
    if (is_order("failsync", &a)) {
        const char *after = strchr(a, ' ');
        syncs_good = after != NULL ? atoi(after) : 0;
        sync_failures = atoi(a);
        return 0;
    }
    if (is_order("points", &a))
        return list_points();
    if (is_order("log", &a))
        return tell_log();
    if (is_order("run", &a))
        return start_run();
    if (is_order("stop", &a))
        return stop_run();
    if (is_order("close", &a))
        return close_database();
    if (is_order("quit", &a))
        exit(0);
    return SQLITE_MISUSE;
}

int
main(int argc, char **argv)
{
    /* A test that is stopped takes its actors along. */
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    account = argc > 1 ? (unsigned)atoi(argv[1]) : 0;
    random_state = account * 2654435761u | 1u;
#ifdef LKS_DEBUG
    main_thread = pthread_self();
    lks_crash_hook = pass;
#endif
    setvbuf(stdin, NULL, _IONBF, 0); /* told_again() looks at the pipe */
    sqlite3_config(SQLITE_CONFIG_LOG, note_log, NULL);
    if (lockstep_initialize(NULL, 0) != SQLITE_OK || sqlite3async_initialize(NULL, 0) != SQLITE_OK)
        return 1;
    answer(0);
    while (fgets(line, sizeof line, stdin) != NULL) {
        line[strcspn(line, "\n")] = '\0';
        text_bytes = 0;
        text[0] = '\0';
        answer(obey());
    }
    return 0;
}
