#include "harness/stage.h"

#include <check.h>
#include <dirent.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "harness/clock.h"
#include "shm/layout.h"

/* As whom: the books are made by an actor who leaves again. */
#define FOUNDER 60

void
stage_open(struct stage *stage)
{
    const char *tmp = getenv("TMPDIR");
    snprintf(stage->folder, sizeof stage->folder, "%.40s/lks-story-XXXXXX", tmp != NULL ? tmp : "/tmp");
    ck_assert_ptr_nonnull(mkdtemp(stage->folder));
    snprintf(stage->path, sizeof stage->path, "%s/books.db", stage->folder);
    stage->ledger = ledger_open();
}

static bool
is_entry(const struct dirent *entry)
{
    return strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0;
}

void
stage_close(struct stage *stage)
{
    DIR *folder = opendir(stage->folder);
    struct dirent *entry;
    ck_assert_ptr_nonnull(folder);
    while ((entry = readdir(folder)) != NULL)
        if (is_entry(entry))
            (void)!unlinkat(dirfd(folder), entry->d_name, 0);
    closedir(folder);
    (void)!rmdir(stage->folder);
    ledger_close(stage->ledger);
}

void
stage_found_wal(const struct stage *stage, const char *parameters)
{
    struct actor *founder = stage_enter(stage, FOUNDER, parameters);
    actor_must(founder, "exec PRAGMA journal_mode=WAL");
    actor_must(founder, "make");
    actor_must(founder, "transact m 10");
    actor_must(founder, "close");
    actor_finish(founder);
}

uint32_t
stage_seed(int argc, char **argv)
{
    const char *given = argc == 3 && strcmp(argv[1], "--seed") == 0 ? argv[2] : getenv("LKS_SEED");
    return given != NULL ? (uint32_t)strtoul(given, NULL, 10)
                         : (uint32_t)time(NULL) * 2654435761u ^ (uint32_t)getpid();
}

const char *
stage_uri(const struct stage *stage, const char *parameters)
{
    static char uri[256];
    snprintf(uri, sizeof uri, "file:%s?vfs=lockstep%s", stage->path, parameters);
    return uri;
}

struct actor *
stage_enter(const struct stage *stage, unsigned account, const char *parameters)
{
    struct actor *actor = actor_start(stage->ledger, account);
    actor_must(actor, "open %s", stage_uri(stage, parameters));
    return actor;
}

bool
stage_answers(const struct stage *stage, struct actor *actor, int timeout_ms)
{
    int64_t end = now_ms() + timeout_ms;
    while (!actor_answers(actor, 50)) {
        (void)ledger_drain(stage->ledger);
        if (now_ms() >= end)
            return false;
    }
    return true;
}

int
stage_hear(const struct stage *stage, struct actor *actor)
{
    while (!actor_answers(actor, 50))
        (void)ledger_drain(stage->ledger);
    return actor_hear(actor);
}

void
stage_halt(const struct stage *stage, struct actor **actors, size_t count, const char *when)
{
    size_t i;
    for (i = 0; i < count; i++)
        actor_tell(actors[i], "use 0");
    for (i = 0; i < count; i++) {
        int code = stage_hear(stage, actors[i]);
        ck_assert_msg(code == 0, "%s: actor %u: %d %s", when, actor_account(actors[i]), code,
                      actor_text(actors[i]));
        ck_assert_int_eq(actor_hear(actors[i]), 0);
    }
}

void
stage_let_commit(const struct stage *stage, uint32_t most, uint32_t *random, const char *when)
{
    struct timespec instant = {.tv_nsec = books_random(random) % 3000000};
    size_t goal = ledger_drain(stage->ledger) + 1 + books_random(random) % most;
    ck_assert_msg(ledger_wait(stage->ledger, goal, ACTOR_PATIENCE_MS) >= goal, "%s: no commits any more", when);
    nanosleep(&instant, NULL);
}

void
stage_leave(const struct stage *stage, struct actor **actors, size_t count, const char *when)
{
    size_t i;
    for (i = 0; i < count; i++) {
        actor_must(actors[i], "close");
        actor_finish(actors[i]);
    }
    stage_left_clean(stage, when);
}

void
stage_retire(const struct stage *stage, struct actor **actors, size_t count, const char *when)
{
    size_t i;
    for (i = 0; i < count; i++)
        stage_audit(stage, actors[i], when);
    stage_leave(stage, actors, count, when);
}

sqlite3 *
stage_stock(const struct stage *stage, int busy_timeout_ms)
{
    sqlite3 *db;
    ck_assert_int_eq(sqlite3_open_v2(stage->path, &db, SQLITE_OPEN_READWRITE, "unix"), SQLITE_OK);
    sqlite3_extended_result_codes(db, 1);
    sqlite3_busy_timeout(db, busy_timeout_ms);
    return db;
}

/* Before the first commit there may be no tables. */
static bool
is_refusal(const struct stage *stage, int rc)
{
    if (rc == SQLITE_ERROR && ledger_drain(stage->ledger) == 0)
        return true;
    return (rc & 0xff) == SQLITE_BUSY || (rc & 0xff) == SQLITE_READONLY;
}

static int
stock_reads(const struct stage *stage, int busy_timeout_ms, const char *when)
{
    sqlite3 *db = stage_stock(stage, busy_timeout_ms);
    struct books books;
    size_t known = ledger_drain(stage->ledger);
    int rc = books_read(db, &books);
    char words[200] = "";
    if (rc == SQLITE_OK) {
        ledger_check(stage->ledger, &books, known, false, when);
        rc = books_integrity(db, words, sizeof words);
        snprintf(books.wrong, sizeof books.wrong, "%s", words);
    }
    ck_assert_msg(rc == SQLITE_OK || is_refusal(stage, rc), "%s: stock SQLite reads: %s (%d)", when,
                  books.wrong, rc);
    sqlite3_close(db);
    return rc;
}

int
stage_stock_reads(const struct stage *stage, const char *when)
{
    return stock_reads(stage, 0, when);
}

void
stage_stock_may_read(const struct stage *stage, const char *when)
{
    int rc = stock_reads(stage, ACTOR_PATIENCE_MS, when);
    ck_assert_msg(rc == SQLITE_OK, "%s: stock SQLite may not read (%d)", when, rc);
}

bool
stage_stock_writes(const struct stage *stage, const char *when)
{
    sqlite3 *db = stage_stock(stage, 0);
    uint32_t random = 1;
    struct books_record record;
    int rc = books_transact(db, STAGE_STOCK_ACCOUNT, 'f', &random, &record);
    ck_assert_msg(rc == SQLITE_OK || is_refusal(stage, rc), "%s: stock SQLite writes: %s (%d)", when,
                  sqlite3_errmsg(db), rc);
    if (rc == SQLITE_OK)
        ledger_add(stage->ledger, &record);
    sqlite3_close(db);
    return rc == SQLITE_OK;
}

void
stage_audit(const struct stage *stage, struct actor *actor, const char *when)
{
    struct books books;
    size_t known = ledger_drain(stage->ledger);
    int code = actor_audit(actor, &books);
    ck_assert_msg(code == 0, "%s: actor %u reads: %d %s", when, actor_account(actor), code,
                  code == ACTOR_ENDED ? "it ended" : books.wrong);
    ledger_check(stage->ledger, &books, known, true, when);
    code = actor_do(actor, "integrity");
    ck_assert_msg(code == 0, "%s: actor %u, integrity_check: %d %s", when, actor_account(actor), code,
                  actor_text(actor));
}

void
stage_nothing_beside(const struct stage *stage, const char *other, const char *when)
{
    DIR *folder = opendir(stage->folder);
    struct dirent *entry;
    ck_assert_ptr_nonnull(folder);
    while ((entry = readdir(folder)) != NULL)
        ck_assert_msg(!is_entry(entry) || strcmp(entry->d_name, "books.db") == 0 ||
                          (other != NULL && strcmp(entry->d_name, other) == 0),
                      "%s: %s is left behind", when, entry->d_name);
    closedir(folder);
}

void
stage_left_clean(const struct stage *stage, const char *when)
{
    struct books books;
    char words[200];
    sqlite3 *db;
    size_t known = ledger_drain(stage->ledger);
    int rc;

    stage_nothing_beside(stage, NULL, when);
    db = stage_stock(stage, 0);
    rc = books_read(db, &books);
    ck_assert_msg(rc == SQLITE_OK, "%s: stock SQLite reads: %s", when, books.wrong);
    ledger_check(stage->ledger, &books, known, true, when);
    rc = books_integrity(db, words, sizeof words);
    ck_assert_msg(rc == SQLITE_OK, "%s: stock SQLite, integrity_check: %s", when, words);
    sqlite3_close(db);
    ck_assert_msg(stage_stock_writes(stage, when), "%s: stock SQLite may not write", when);
}

struct lockstep_db_info
stage_info(const struct stage *stage)
{
    struct lockstep_inspection *in;
    struct lockstep_db_info info;
    ck_assert_int_eq(lockstep_inspect_open(stage->path, &in), LOCKSTEP_OK);
    ck_assert_int_eq(lockstep_inspect_database(in)->coordination, LOCKSTEP_COORD_LIVE);
    info = lockstep_inspect_database(in)->info;
    lockstep_inspect_close(in);
    return info;
}

pid_t
stage_worker(const struct stage *stage)
{
    char path[128];
    struct flock lock = {.l_type = F_WRLCK,
                         .l_whence = SEEK_SET,
                         .l_start = (off_t)(LKS_LOCK_BASE + LKS_BYTE_WORKER),
                         .l_len = 1};
    pid_t pid = 0;
    int fd;
    snprintf(path, sizeof path, "%s%s", stage->path, LKS_SHM_SUFFIX);
    fd = open(path, O_RDWR | O_CLOEXEC);
    if (fd >= 0 && fcntl(fd, F_GETLK, &lock) == 0 && lock.l_type != F_UNLCK)
        pid = lock.l_pid;
    if (fd >= 0)
        close(fd);
    return pid;
}

bool
stage_has_deputy(const struct stage *stage)
{
    char path[128];
    uint32_t deputy = 0;
    ssize_t got;
    int fd;
    snprintf(path, sizeof path, "%s%s", stage->path, LKS_SHM_SUFFIX);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    ck_assert_int_ge(fd, 0);
    got = pread(fd, &deputy, sizeof deputy, (off_t)offsetof(struct lks_shm, state.deputy));
    close(fd);
    ck_assert_int_eq(got, sizeof deputy);
    return deputy != 0;
}
