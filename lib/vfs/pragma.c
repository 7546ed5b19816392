/*
 * PRAGMA lockstep_*, and the standard pragmas that Lockstep must know about.
 *
 * words[0]: in, nothing; out, the result or the error message, from sqlite3_mprintf(); words[1]: the name;
 * words[2]: the argument or NULL.
 */
#include <stdlib.h>
#include <string.h>

#include "store/worker.h"
#include "vfs/vfs.h"
#include "vfs/wait.h"

/* How often SQLite locks the file on the way to WAL mode, generously. */
#define WAL_LOCKS 8

static int
answer(char **words, char *text)
{
    words[0] = text;
    return text != NULL ? SQLITE_OK : SQLITE_NOMEM;
}

static int
refuse(char **words, char *text)
{
    words[0] = text;
    return SQLITE_ERROR;
}

/* Connects, for pragmas that come before the first transaction. */
static int
connect_or_refuse(struct lks_file *file, char **words)
{
    int rc = lks_file_connect(file);
    if (rc == SQLITE_NOTFOUND)
        return refuse(words, sqlite3_mprintf("%s: Lockstep does not coordinate this database (read-only, in "
                                             "exclusive locking mode, not read yet, or see the log)",
                                             words[1]));
    return rc;
}

static int
set_durability(struct lks_file *file, char **words)
{
    int durability;
    if (words[2] != NULL) {
        durability = lks_uri_durability(words[2]);
        if (durability == -2)
            return refuse(words, sqlite3_mprintf("lockstep_durability: off, async, normal, full or default"));
        file->uri.durability = durability;
    }
    return answer(words, sqlite3_mprintf("%s", lks_uri_durability_name(file->uri.durability)));
}

/* A whole number without anything behind it. */
static bool
parse(const char *word, sqlite3_int64 least, sqlite3_int64 most, sqlite3_int64 *out)
{
    char *end;
    sqlite3_int64 value = strtoll(word, &end, 10);
    if (end == word || *end != '\0' || value < least || value > most)
        return false;
    *out = value;
    return true;
}

static int
set_max_lag(struct lks_file *file, char **words)
{
    struct lks_a32 *word = &file->db->shm->state.max_lag_ms;
    sqlite3_int64 value;
    if (words[2] != NULL) {
        if (!parse(words[2], 1, 3600000, &value))
            return refuse(words, sqlite3_mprintf("lockstep_max_lag: 1 to 3600000 milliseconds"));
        lks_a32_set_relaxed(word, (uint32_t)value);
        lks_worker_ring(file->db);
    }
    return answer(words, sqlite3_mprintf("%u", lks_a32_relaxed(word)));
}

static int
set_store_limit(struct lks_file *file, char **words)
{
    struct lks_a64 *word = &file->db->shm->state.store_limit;
    sqlite3_int64 value;
    if (words[2] != NULL) {
        if (!parse(words[2], 1 << 20,
                   (sqlite3_int64)lks_a64_relaxed(&file->db->shm->state.hard_limit), &value))
            return refuse(words, sqlite3_mprintf("lockstep_store_limit: bytes, 1048576 to the hard limit"));
        lks_a64_set_relaxed(word, (uint64_t)value);
    }
    return answer(words, sqlite3_mprintf("%llu", lks_a64_relaxed(word)));
}

static int
wait_code(struct lks_file *file, char **words, uint64_t ticket)
{
    enum lockstep_status status = lks_file_wait(file, ticket, -1);
    if (status == LOCKSTEP_MISUSE)
        return refuse(words, sqlite3_mprintf("%s: no such commit", words[1]));
    if (status != LOCKSTEP_OK)
        return lks_sqlite_code(status, SQLITE_IOERR_FSYNC);
    return answer(words, sqlite3_mprintf("%llu", ticket));
}

static int
flush(struct lks_file *file, char **words)
{
    return wait_code(file, words, lks_file_newest(file));
}

static int
wait_ticket(struct lks_file *file, char **words)
{
    sqlite3_int64 ticket = (sqlite3_int64)lks_file_ticket(file);
    if (words[2] != NULL && !parse(words[2], 0, INT64_MAX, &ticket))
        return refuse(words, sqlite3_mprintf("lockstep_wait: a ticket, from PRAGMA lockstep_ticket"));
    return wait_code(file, words, (uint64_t)ticket);
}

static const char *const shm_names[] = {"native", "copy", "heap"};

/* What only a log has; "" in store mode.  From sqlite3_mprintf(). */
static char *
wal_status(struct lks_file *file, const struct lockstep_db_info *i)
{
    struct lks_wal_holder holder;
    char *text;
    if (!i->wal)
        return sqlite3_mprintf("");
    text = sqlite3_mprintf(",\"shm\":\"%s\",\"wal_frames\":%u,\"wal_backfilled\":%u,\"wal_bytes\":%llu,\"checkpoints\":%llu,"
                           "\"syncs\":%llu,\"sync_failed\":%u",
                           shm_names[file->uri.shm], i->wal_frames, i->wal_backfilled, i->wal_bytes, i->checkpoints, i->syncs,
                           i->sync_failed);
    if (text != NULL && lks_wal_holder(file, &holder))
        text = sqlite3_mprintf("%z,\"held_back_by\":{\"pid\":%d,\"program\":\"%w\",\"frame\":%u,\"since_s\":%.3f}",
                               text, holder.pid, holder.program, holder.frame, holder.since_s);
    return text;
}

static int
show_status(struct lks_file *file, char **words)
{
    struct lockstep_db_info i;
    lks_store_info(file->db, &i);
    return answer(
        words,
        sqlite3_mprintf("{\"committed\":%llu,\"flushed\":%llu,\"durable\":%llu,\"pending_bytes\":%llu,"
                        "\"store_bytes\":%llu,\"store_limit\":%llu,\"hard_limit\":%llu,\"batches\":%llu,"
                        "\"failed_batches\":%llu,\"max_lag_ms\":%u,\"unit_size\":%u,\"clients\":%u,"
                        "\"readers\":%u,\"waiters\":%u,\"writer_pid\":%d,\"oldest_snapshot\":%llu,"
                        "\"last_error\":%u%z}",
                        i.committed, i.flushed, i.durable, i.pending_bytes, i.store_bytes,
                        i.store_limit, i.hard_limit, i.batches, i.failed_batches, i.max_lag_ms,
                        i.unit_size, i.clients, i.readers, i.waiters, i.writer_pid, i.oldest_snapshot,
                        i.last_error, wal_status(file, &i)));
}

static int
show_blocker(struct lks_file *file, char **words)
{
    char text[sizeof file->blocker];
    lks_wait_describe(file, text, sizeof text);
    return answer(words, sqlite3_mprintf("%s", text));
}

static int
show_ticket(struct lks_file *file, char **words)
{
    return answer(words, sqlite3_mprintf("%llu", lks_file_ticket(file)));
}

static const struct {
    const char *name;
    int (*run)(struct lks_file *file, char **words);
    bool connect;
} ours[] = {
    {"lockstep_durability", set_durability, false},
    {"lockstep_max_lag", set_max_lag, true},
    {"lockstep_store_limit", set_store_limit, true},
    {"lockstep_flush", flush, true},
    {"lockstep_ticket", show_ticket, true},
    {"lockstep_wait", wait_ticket, true},
    {"lockstep_status", show_status, true},
    {"lockstep_blocker", show_blocker, true},
};

static bool
set_exclusive(struct lks_file *other, void *arg)
{
    const struct lks_file *file = arg;
    if (other->connection == file->connection)
        other->exclusive = file->exclusive;
    return false;
}

/*
 * PRAGMA locking_mode: SQLite tells only the schema that was named, or main, but without a name it means all
 * of the connection's databases.  Which it was is not told; more exclusive than asked is the safe side.
 */
static void
note_locking_mode(struct lks_file *file, const char *mode)
{
    if (sqlite3_stricmp(mode, "exclusive") == 0)
        file->exclusive = true;
    else if (sqlite3_stricmp(mode, "normal") == 0)
        file->exclusive = false;
    else
        return;
    if (file->connection != NULL)
        (void)lks_files_find(set_exclusive, file);
}

/* The levels that SQLite's getSafetyLevel() knows. */
static void
note_synchronous(struct lks_file *file, const char *word)
{
    static const struct {
        const char *word;
        int level;
    } levels[] = {{"off", 0},  {"no", 0},    {"false", 0}, {"normal", 1}, {"full", 2},
                  {"extra", 3}, {"on", 1},   {"yes", 1},   {"true", 1}};
    size_t i;
    if (file->connection != NULL && !sqlite3_get_autocommit(file->connection))
        return; /* SQLite will refuse it */
    if (word[0] >= '0' && word[0] <= '9')
        file->synchronous = atoi(word) & 3;
    for (i = 0; i < sizeof levels / sizeof levels[0]; i++)
        if (sqlite3_stricmp(word, levels[i].word) == 0)
            file->synchronous = levels[i].level;
}

/*
 * PRAGMA journal_mode=WAL on a database in store mode: if nobody else uses it, what is pending is written and
 * the parent takes over; else the mode stays, and the answer says so, as SQLite's does.
 */
static int
note_journal_mode(struct lks_file *file, char **words)
{
    if (sqlite3_stricmp(words[2], "wal") != 0)
        return SQLITE_NOTFOUND;
    if (file->lock == SQLITE_LOCK_NONE &&
        (file->connection == NULL || sqlite3_get_autocommit(file->connection)) &&
        lks_store_file_disconnect(file)) {
        file->wal_wanted = WAL_LOCKS;
        return SQLITE_NOTFOUND;
    }
    sqlite3_log(SQLITE_WARNING,
                "lockstep: %s: stays in store mode: other connections use it; readers and writers do not block "
                "each other here either",
                file->name);
    return answer(words, sqlite3_mprintf("delete"));
}

int
lks_pragma(struct lks_file *file, char **words)
{
    size_t i;
    if (*file->fork_guard == 0)
        return SQLITE_MISUSE;
    for (i = 0; i < sizeof ours / sizeof ours[0]; i++)
        if (sqlite3_stricmp(words[1], ours[i].name) == 0) {
            int rc = ours[i].connect ? connect_or_refuse(file, words) : SQLITE_OK;
            return rc == SQLITE_OK ? ours[i].run(file, words) : rc;
        }
    if (words[2] == NULL)
        return SQLITE_NOTFOUND;
    if (sqlite3_stricmp(words[1], "locking_mode") == 0)
        note_locking_mode(file, words[2]);
    else if (sqlite3_stricmp(words[1], "synchronous") == 0)
        note_synchronous(file, words[2]);
    else if (sqlite3_stricmp(words[1], "journal_mode") == 0)
        return note_journal_mode(file, words);
    return SQLITE_NOTFOUND;
}
