#include "store/journal_files.h"

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <inttypes.h>
#include <signal.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "store/journal.h"
#include "store/journal_format.h"

static char directory[256];

void
in_new_directory(void)
{
    const char *tmp = getenv("TMPDIR");
    snprintf(directory, sizeof directory, "%s/lks-journal-XXXXXX", tmp != NULL ? tmp : "/tmp");
    ck_assert_ptr_nonnull(mkdtemp(directory));
    ck_assert_int_eq(chdir(directory), 0);
}

static int
remove_one(const char *path, const struct stat *st, int type, struct FTW *walk)
{
    (void)st;
    (void)type;
    (void)walk;
    return remove(path);
}

void
out_of_directory(void)
{
    ck_assert_int_eq(chdir("/"), 0);
    nftw(directory, remove_one, 8, FTW_DEPTH | FTW_PHYS);
}

struct dice
dice_new(const char *test)
{
    const char *given = getenv("LKS_SEED");
    struct timespec now;
    struct dice dice;
    clock_gettime(CLOCK_REALTIME, &now);
    dice.state = given != NULL ? strtoull(given, NULL, 0)
                               : (uint64_t)now.tv_sec * 1000000007u + (uint64_t)now.tv_nsec;
    printf("%s: LKS_SEED=%" PRIu64 "\n", test, dice.state);
    fflush(stdout);
    return dice;
}

/* splitmix64 */
static uint64_t
dice_next(struct dice *dice)
{
    uint64_t z = dice->state += 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

uint32_t
dice_roll(struct dice *dice, uint32_t below)
{
    return (uint32_t)((dice_next(dice) >> 32) * below >> 32);
}

void
dice_fill(struct dice *dice, void *data, size_t size)
{
    size_t i;
    for (i = 0; i < size; i++)
        ((unsigned char *)data)[i] = (unsigned char)dice_next(dice);
}

struct bytes
file_read(const char *name)
{
    struct bytes b = {NULL, 0, false};
    struct stat st;
    int fd = open(name, O_RDONLY | O_CLOEXEC);
    size_t done = 0;
    if (fd < 0) {
        ck_assert_int_eq(errno, ENOENT);
        return b;
    }
    ck_assert_int_eq(fstat(fd, &st), 0);
    b.exists = true;
    b.size = (size_t)st.st_size;
    b.data = malloc(b.size + 1);
    ck_assert_ptr_nonnull(b.data);
    while (done < b.size) {
        ssize_t n = read(fd, b.data + done, b.size - done);
        ck_assert_int_gt(n, 0);
        done += (size_t)n;
    }
    close(fd);
    return b;
}

static void
write_all(const char *name, int flags, size_t offset, const void *data, size_t size)
{
    int fd = open(name, O_WRONLY | O_CLOEXEC | flags, 0644);
    ck_assert_msg(fd >= 0, "%s: %s", name, strerror(errno));
    while (size > 0) {
        ssize_t n = pwrite(fd, data, size, (off_t)offset);
        ck_assert_int_gt(n, 0);
        data = (const char *)data + n;
        offset += (size_t)n;
        size -= (size_t)n;
    }
    close(fd);
}

void
file_write(const char *name, const void *data, size_t size)
{
    write_all(name, O_CREAT | O_TRUNC, 0, data, size);
}

void
file_patch(const char *name, size_t offset, const void *data, size_t size)
{
    write_all(name, O_CREAT, offset, data, size);
}

void
file_patch_u32(const char *path, size_t offset, uint32_t number)
{
    unsigned char b[4];
    lks_journal_put(b, number);
    file_patch(path, offset, b, sizeof b);
}

bool
file_exists(const char *name)
{
    return access(name, F_OK) == 0;
}

void
file_copy(const char *from, const char *to)
{
    struct bytes b = file_read(from);
    if (b.exists)
        file_write(to, b.data, b.size);
    else
        unlink(to);
    bytes_free(&b);
}

void
bytes_free(struct bytes *b)
{
    free(b->data);
    b->data = NULL;
}

bool
bytes_same(const struct bytes *a, const struct bytes *b)
{
    return a->exists == b->exists && a->size == b->size &&
           (a->size == 0 || memcmp(a->data, b->data, a->size) == 0);
}

void
pair_copy(const char *from, const char *to)
{
    char from_journal[128], to_journal[128];
    snprintf(from_journal, sizeof from_journal, "%s-journal", from);
    snprintf(to_journal, sizeof to_journal, "%s-journal", to);
    file_copy(from, to);
    file_copy(from_journal, to_journal);
}

void
pair_remove(const char *name)
{
    char journal[128];
    snprintf(journal, sizeof journal, "%s-journal", name);
    unlink(name);
    unlink(journal);
}

/* ---- stock SQLite --------------------------------------------------------------------------- */

void
stock_run(sqlite3 *db, const char *sql)
{
    char *message = NULL;
    int rc = sqlite3_exec(db, sql, NULL, NULL, &message);
    ck_assert_msg(rc == SQLITE_OK, "%s: %s", sql, message);
}

void
stock_make(const char *name, unsigned page_size, unsigned pages)
{
    char sql[400];
    sqlite3 *db;
    pair_remove(name);
    ck_assert_int_eq(sqlite3_open(name, &db), SQLITE_OK);
    snprintf(sql, sizeof sql,
             "PRAGMA page_size=%u; PRAGMA synchronous=OFF; PRAGMA auto_vacuum=NONE;"
             "CREATE TABLE t(id INTEGER PRIMARY KEY, data BLOB);"
             "WITH RECURSIVE n(i) AS (VALUES(1) UNION ALL SELECT i+1 FROM n WHERE i<%u)"
             "INSERT INTO t SELECT i, randomblob(%u) FROM n;",
             page_size, pages, page_size - page_size / 8);
    stock_run(db, sql);
    ck_assert_int_eq(sqlite3_close(db), SQLITE_OK);
}

int
stock_visit(const char *name, const char *uri_parameters)
{
    char uri[200];
    sqlite3 *db;
    int rc, closed;
    snprintf(uri, sizeof uri, "file:%s?%s", name, uri_parameters);
    rc = sqlite3_open_v2(uri, &db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_URI, NULL);
    if (rc == SQLITE_OK)
        rc = sqlite3_exec(db, "SELECT count(*) FROM sqlite_schema", NULL, NULL, NULL);
    closed = sqlite3_close(db);
    ck_assert_int_eq(closed, SQLITE_OK);
    return rc;
}

static int
says_ok(void *arg, int count, char **values, char **names)
{
    (void)names;
    *(bool *)arg = count == 1 && strcmp(values[0], "ok") == 0;
    return 0;
}

void
stock_check(const char *name)
{
    sqlite3 *db;
    bool ok = false;
    ck_assert_int_eq(sqlite3_open_v2(name, &db, SQLITE_OPEN_READWRITE, NULL), SQLITE_OK);
    ck_assert_int_eq(sqlite3_exec(db, "PRAGMA integrity_check", says_ok, &ok, NULL), SQLITE_OK);
    ck_assert(ok);
    ck_assert_int_eq(sqlite3_close(db), SQLITE_OK);
}

bool
our_rollback(const struct lks_io *io, const char *name)
{
    char journal[128];
    struct lks_io_file *db;
    bool rolled_back = false;
    enum lockstep_status status;
    snprintf(journal, sizeof journal, "%s-journal", name);
    ck_assert_int_eq(io->open(io->context, name, LKS_IO_DATABASE, &db), LOCKSTEP_OK);
    status = lks_journal_rollback(io, journal, db, &rolled_back);
    io->close(db);
    ck_assert_msg(status == LOCKSTEP_OK, "rollback: %s", lks_status_name(status));
    return rolled_back;
}

/* ---- hot journals --------------------------------------------------------------------------- */

static void
die(sqlite3_context *context, int count, sqlite3_value **values)
{
    (void)context;
    (void)count;
    (void)values;
    kill(getpid(), SIGKILL);
}

void
assert_killed(pid_t child)
{
    int status;
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    ck_assert_msg(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL, "the child was not killed");
}

/* A transaction of stock SQLite on `name`, larger than its cache, killed before the end. */
static void
stock_dies(const char *name, const char *uri_parameters, const char *pragmas, bool shrink)
{
    pid_t child = fork();
    ck_assert_int_ge(child, 0);
    if (child == 0) {
        char uri[200];
        sqlite3 *db;
        snprintf(uri, sizeof uri, "file:%s?%s", name, uri_parameters);
        if (sqlite3_open_v2(uri, &db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_URI, NULL) != SQLITE_OK)
            _exit(1);
        sqlite3_create_function(db, "die", 0, SQLITE_UTF8, NULL, die, NULL, NULL);
        stock_run(db, pragmas);
        /* Something committed first: a persistent journal has a past then. */
        stock_run(db, "UPDATE t SET data = zeroblob(length(data)) WHERE id < 9;"
                      "PRAGMA cache_size = 10; BEGIN;");
        /* The original is what is there now. */
        file_copy(name, "original");
        if (shrink)
            stock_run(db, "DELETE FROM t WHERE id % 3 > 0;");
        stock_run(db, "UPDATE t SET data = randomblob(length(data));"
                      "INSERT INTO t SELECT id + 1000, randomblob(length(data)) FROM t;"
                      "SELECT die()");
        _exit(2);
    }
    assert_killed(child);
}

/* Headers in the journal of `name`, at boundaries of its sectors. */
unsigned
count_headers(const char *name, uint32_t *out_first_records, uint32_t *out_sector)
{
    char path[128];
    struct bytes b;
    unsigned count = 0;
    size_t at;
    snprintf(path, sizeof path, "%s-journal", name);
    b = file_read(path);
    ck_assert_uint_ge(b.size, LKS_JOURNAL_SECTOR_BYTES);
    *out_first_records = lks_journal_get(b.data + 8);
    *out_sector = lks_journal_get(b.data + 20);
    for (at = 0; at + LKS_JOURNAL_HEADER_BYTES <= b.size; at += *out_sector)
        count += memcmp(b.data + at, lks_journal_magic, sizeof lks_journal_magic) == 0;
    bytes_free(&b);
    return count;
}

const struct lks_io *
quick_io(void)
{
    static struct probe probe;
    static bool begun;
    if (begun)
        probe_free(&probe);
    begun = true;
    probe_init(&probe);
    return &probe.io;
}

/* Stock SQLite and we, each on a copy: the same database, and the same journal or none. */
void
assert_same_as_stock(const char *name, const char *what)
{
    struct bytes stock, ours, stock_journal, our_journal;
    pair_copy(name, "by-stock");
    pair_copy(name, "by-us");
    stock_visit("by-stock", "");
    our_rollback(quick_io(), "by-us");
    stock = file_read("by-stock");
    ours = file_read("by-us");
    stock_journal = file_read("by-stock-journal");
    our_journal = file_read("by-us-journal");
    ck_assert_msg(bytes_same(&stock, &ours), "%s: the databases differ (%zu and %zu bytes)", what,
                  stock.size, ours.size);
    ck_assert_msg(bytes_same(&stock_journal, &our_journal), "%s: the journals differ", what);
    bytes_free(&stock);
    bytes_free(&ours);
    bytes_free(&stock_journal);
    bytes_free(&our_journal);
}

void
assert_original(const char *name)
{
    struct bytes original = file_read("original"), got = file_read(name);
    ck_assert_msg(bytes_same(&original, &got), "%s is not what it was", name);
    bytes_free(&original);
    bytes_free(&got);
}

const struct stock_case stock_cases[STOCK_CASES] = {
    {512, "", "PRAGMA synchronous=FULL", 512, 2, false},
    {1024, "", "PRAGMA synchronous=NORMAL", 512, 2, false},
    {1024, "", "PRAGMA synchronous=OFF", 512, 1, false},
    {4096, "", "PRAGMA synchronous=FULL; PRAGMA journal_mode=PERSIST", 512, 2, true},
    {4096, "", "PRAGMA synchronous=EXTRA; PRAGMA journal_mode=TRUNCATE", 512, 2, false},
    {1024, "psow=0", "PRAGMA synchronous=FULL", 4096, 2, true},
    {4096, "psow=0", "PRAGMA synchronous=OFF; PRAGMA journal_mode=PERSIST", 4096, 1, false},
    {65536, "", "PRAGMA synchronous=NORMAL; PRAGMA journal_mode=PERSIST", 512, 2, false},
};

void
make_hot(const char *name, const struct stock_case *c)
{
    stock_make(name, c->page_size, 60);
    stock_dies(name, c->uri_parameters, c->pragmas, c->shrink);
}

/* ---- the probe ------------------------------------------------------------------------------ */

struct lks_io_file {
    struct probe *probe;
    struct lks_io_file *below; /* lks_io_os has its own struct of this name */
    enum lks_io_role role;
};

static struct probe_call *
probe_note(struct probe *probe, enum probe_kind kind, enum lks_io_role role, bool *out_fail)
{
    struct probe_call *call;
    if (probe->call_count == probe->capacity) {
        probe->capacity = probe->capacity == 0 ? 64 : probe->capacity * 2;
        probe->calls = realloc(probe->calls, probe->capacity * sizeof *probe->calls);
        ck_assert_ptr_nonnull(probe->calls);
    }
    *out_fail = probe->call_count == probe->fail_at;
    if (kind == PROBE_SYNC && probe->fail_sync > 0)
        *out_fail |= --probe->fail_sync == 0;
    if (*out_fail)
        probe->failed = true;
    call = &probe->calls[probe->call_count++];
    memset(call, 0, sizeof *call);
    call->kind = kind;
    call->role = role;
    call->failed = *out_fail;
    return call;
}

static enum lockstep_status
probe_open(void *context, const char *path, enum lks_io_role role, struct lks_io_file **out_file)
{
    bool fail;
    struct lks_io_file *file;
    enum lockstep_status status;
    probe_note(context, PROBE_OPEN, role, &fail);
    if (fail)
        return LOCKSTEP_IOERR;
    file = malloc(sizeof *file);
    ck_assert_ptr_nonnull(file);
    file->probe = context;
    file->role = role;
    status = lks_io_os.open(NULL, path, role, &file->below);
    if (status != LOCKSTEP_OK) {
        free(file);
        return status;
    }
    *out_file = file;
    return LOCKSTEP_OK;
}

static void
probe_close(struct lks_io_file *file)
{
    lks_io_os.close(file->below);
    free(file);
}

static enum lockstep_status
probe_read(struct lks_io_file *file, uint64_t offset, void *buf, size_t size_bytes,
           size_t *out_read)
{
    bool fail;
    probe_note(file->probe, PROBE_READ, file->role, &fail);
    return fail ? LOCKSTEP_IOERR
                : lks_io_os.read(file->below, offset, buf, size_bytes, out_read);
}

static enum lockstep_status
probe_write(struct lks_io_file *file, uint64_t offset, const void *buf, size_t size_bytes)
{
    bool fail;
    struct probe_call *call = probe_note(file->probe, PROBE_WRITE, file->role, &fail);
    if (fail && !file->probe->tear)
        return LOCKSTEP_FULL;
    if (fail)
        size_bytes /= 2;
    call->offset = offset;
    call->size = size_bytes;
    call->data = malloc(size_bytes);
    ck_assert_ptr_nonnull(call->data);
    memcpy(call->data, buf, size_bytes);
    ck_assert_int_eq(lks_io_os.write(file->below, offset, buf, size_bytes), LOCKSTEP_OK);
    return fail ? LOCKSTEP_FULL : LOCKSTEP_OK;
}

static enum lockstep_status
probe_truncate(struct lks_io_file *file, uint64_t size_bytes)
{
    bool fail;
    struct probe_call *call = probe_note(file->probe, PROBE_TRUNCATE, file->role, &fail);
    call->offset = size_bytes;
    return fail ? LOCKSTEP_IOERR : lks_io_os.truncate(file->below, size_bytes);
}

static enum lockstep_status
probe_sync(struct lks_io_file *file)
{
    bool fail;
    probe_note(file->probe, PROBE_SYNC, file->role, &fail);
    if (fail)
        return LOCKSTEP_IOERR;
    return file->probe->real_sync ? lks_io_os.sync(file->below) : LOCKSTEP_OK;
}

static enum lockstep_status
probe_size(struct lks_io_file *file, uint64_t *out_size_bytes)
{
    bool fail;
    probe_note(file->probe, PROBE_SIZE, file->role, &fail);
    return fail ? LOCKSTEP_IOERR : lks_io_os.size(file->below, out_size_bytes);
}

static enum lockstep_status
probe_sync_dir(void *context, const char *path)
{
    struct probe *probe = context;
    bool fail;
    probe_note(probe, PROBE_SYNC_DIR, LKS_IO_JOURNAL, &fail);
    if (fail)
        return LOCKSTEP_IOERR;
    return probe->real_sync ? lks_io_os.sync_dir(NULL, path) : LOCKSTEP_OK;
}

static enum lockstep_status
probe_remove(void *context, const char *path, bool sync_dir)
{
    struct probe *probe = context;
    bool fail;
    struct probe_call *call = probe_note(probe, PROBE_REMOVE, LKS_IO_JOURNAL, &fail);
    call->size = sync_dir;
    return fail ? LOCKSTEP_IOERR
                : lks_io_os.remove(NULL, path, sync_dir && probe->real_sync);
}

static enum lockstep_status
probe_exists(void *context, const char *path, bool *out_exists)
{
    bool fail;
    probe_note(context, PROBE_EXISTS, LKS_IO_JOURNAL, &fail);
    return fail ? LOCKSTEP_IOERR : lks_io_os.exists(NULL, path, out_exists);
}

void
probe_init(struct probe *probe)
{
    static const struct lks_io io = {
        .open = probe_open,
        .close = probe_close,
        .read = probe_read,
        .write = probe_write,
        .truncate = probe_truncate,
        .sync = probe_sync,
        .size = probe_size,
        .sync_dir = probe_sync_dir,
        .remove = probe_remove,
        .exists = probe_exists,
    };
    memset(probe, 0, sizeof *probe);
    probe->io = io;
    probe->io.context = probe;
    probe->fail_at = SIZE_MAX;
}

void
probe_free(struct probe *probe)
{
    size_t i;
    for (i = 0; i < probe->call_count; i++)
        free(probe->calls[i].data);
    free(probe->calls);
}
