#include "powercut/scratch.h"

#include <check.h>
#include <ftw.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "powercut/mix.h"

static char folder[4096];

static pthread_mutex_t log_mutex = PTHREAD_MUTEX_INITIALIZER;
static char log_text[1 << 16];
static size_t log_used;

static void
keep(void *arg, int code, const char *message)
{
    size_t n = strlen(message);
    (void)arg;
    (void)code;
    pthread_mutex_lock(&log_mutex);
    if (log_used + n + 2 < sizeof log_text) {
        memcpy(log_text + log_used, message, n);
        memcpy(log_text + log_used + n, "\n", 2);
        log_used += n + 1;
    }
    pthread_mutex_unlock(&log_mutex);
}

bool
scratch_logged(const char *words)
{
    bool found;
    pthread_mutex_lock(&log_mutex);
    found = strstr(log_text, words) != NULL;
    pthread_mutex_unlock(&log_mutex);
    return found;
}

const char *
scratch_log(void)
{
    /* Check takes messages of some thousand bytes only. */
    return log_text + (log_used > 2000 ? log_used - 2000 : 0);
}

void
scratch_enter(void)
{
    /* In memory where that is possible: thousands of images are written, and none need last. */
    const char *where = getenv("TMPDIR");
    char name[4000];
    if (where == NULL)
        where = access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp";
    snprintf(name, sizeof name, "%s/lockstep-powercut-XXXXXX", where);
    /* Without symbolic links, for SQLite resolves them. */
    if (mkdtemp(name) == NULL || realpath(name, folder) == NULL || chdir(folder) != 0) {
        perror(name);
        abort();
    }
    sqlite3_config(SQLITE_CONFIG_LOG, keep, NULL);
}

static int
remove_one(const char *name, const struct stat *st, int type, struct FTW *ftw)
{
    (void)st;
    (void)type;
    (void)ftw;
    return remove(name);
}

void
scratch_leave(void)
{
    if (chdir("/") == 0)
        nftw(folder, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

const char *
scratch_path(const char *name)
{
    static _Thread_local char paths[4][sizeof folder + 256];
    static _Thread_local unsigned next;
    char *path = paths[next++ % 4];
    snprintf(path, sizeof paths[0], "%s/%s", folder, name);
    return path;
}

bool
scratch_soak(void)
{
    return getenv("LKS_SOAK") != NULL;
}

uint64_t
scratch_seed(void)
{
    const char *given = getenv("LKS_SEED");
    struct timespec now;
    uint64_t seed;
    clock_gettime(CLOCK_REALTIME, &now);
    seed = mix((uint64_t)now.tv_sec * 1000000007u + (uint64_t)now.tv_nsec) % 1000000000u;
    if (given != NULL)
        seed = strtoull(given, NULL, 10);
    printf("LKS_SEED=%llu\n", (unsigned long long)seed);
    fflush(stdout);
    return seed;
}

sqlite3 *
scratch_open(const char *name, const char *parameters)
{
    char uri[5000];
    sqlite3 *db;
    int rc;
    snprintf(uri, sizeof uri, "file:%s?vfs=lockstep&%s", scratch_path(name), parameters);
    rc = sqlite3_open_v2(uri, &db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_URI, NULL);
    ck_assert_msg(rc == SQLITE_OK, "open %s: %s", name, sqlite3_errmsg(db));
    return db;
}

static int
keep_value(void *arg, int n, char **values, char **names)
{
    (void)names;
    if (n > 0)
        snprintf(arg, 1000, "%s", values[0] != NULL ? values[0] : "");
    return 0;
}

const char *
scratch_value(sqlite3 *db, const char *statement)
{
    static __thread char value[1000];
    value[0] = '\0';
    if (sqlite3_exec(db, statement, keep_value, value, NULL) != SQLITE_OK)
        value[0] = '\0';
    return value;
}
