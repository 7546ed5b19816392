#include "coord/meaning.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "coord/lockset.h"

/* Stock SQLite never locks the last byte of the SHARED range alone. */
#define SHARED_LAST_BYTE (LKS_SQLITE_SHARED_FIRST + LKS_SQLITE_SHARED_SIZE - 1)

__attribute__((format(printf, 2, 3))) static void
say(struct lockstep_lock_view *lock, const char *format, ...)
{
    size_t n = strlen(lock->detail);
    va_list args;
    if (n > 0 && n + 2 < sizeof lock->detail) {
        memcpy(lock->detail + n, "; ", 3);
        n += 2;
    }
    va_start(args, format);
    vsnprintf(lock->detail + n, sizeof lock->detail - n, format, args);
    va_end(args);
}

/* A stopped process lets go of nothing: whoever waits for it should know how to go on. */
static void
say_if_stopped(struct lockstep_lock_view *lock)
{
    if (lock->waiting || lock->process.pid == 0)
        return;
    if (lock->process.state == 'T')
        say(lock, "stopped; \"kill -CONT %d\" lets it go on", (int)lock->process.pid);
    else if (lock->process.state == 't')
        say(lock, "stopped by a debugger");
}

void
lks_meaning_writer(bool reserved, bool dead, size_t waiters, struct lockstep_lock_view *lock)
{
    if (dead)
        say(lock, "its process has died; the next writer takes over");
    else if (reserved)
        say(lock, "handed to the next in line, who has not come for it yet");
    else
        say(lock, "writes");
    if (waiters > 0)
        say(lock, "%zu wait%s", waiters, waiters == 1 ? "s" : "");
    if (!dead)
        say_if_stopped(lock);
}

void
lks_meaning_waiter(uint32_t place, bool dead, struct lockstep_lock_view *lock)
{
    if (dead)
        say(lock, "its process has died");
    else if (place == 1)
        say(lock, "next in line");
    else
        say(lock, "number %u in line", (unsigned)place);
}

void
lks_meaning_snapshot(bool worker, bool wal, uint64_t behind, bool dead, struct lockstep_lock_view *lock)
{
    const char *what = wal ? "frame" : "commit";
    if (worker)
        say(lock, "is being written behind");
    if (dead)
        say(lock, "its process has died; cleared by whom it holds up");
    else if (behind == 0)
        say(lock, "newest");
    else
        say(lock, "%llu %s%s behind", (unsigned long long)behind, what, behind == 1 ? "" : "s");
    if (!dead && behind > 0)
        say_if_stopped(lock);
}

void
lks_meaning_sync(bool dead, struct lockstep_lock_view *lock)
{
    say(lock, dead ? "its process has died; the next one who waits takes over"
                   : "syncs the log for all who wait");
    if (!dead)
        say_if_stopped(lock);
}

void
lks_meaning_of_read_marks(struct lockstep_lock_view *locks, size_t count, const struct lks_walindex *index)
{
    for (size_t i = 0; i < count; i++) {
        struct lockstep_lock_view *lock = &locks[i];
        uint32_t mark;
        if (lock->place != LOCKSTEP_PLACE_SHM || lock->exclusive || lock->waiting ||
            strncmp(lock->name, "READ", 4) != 0)
            continue;
        mark = (uint32_t)(lock->name[4] - '0') % LKS_WALINDEX_READERS;
        /* READ0 sees the database file alone, to which all was written back. */
        lock->snapshot = mark == 0 ? index->backfilled : index->marks[mark];
        if (index->marks[mark] == LKS_WALINDEX_UNUSED && mark != 0)
            lock->snapshot = LOCKSTEP_UNKNOWN;
        else if (mark != 0 && index->frames > index->marks[mark])
            say(lock, "keeps %u newer frame%s from being written back",
                (unsigned)(index->frames - index->marks[mark]),
                index->frames - index->marks[mark] == 1 ? "" : "s");
    }
}

void
lks_meaning_client(uint32_t connections, bool readonly, struct lockstep_lock_view *lock)
{
    if (lock->process.foreign_pid != 0)
        say(lock, "process %d of another pid namespace", (int)lock->process.foreign_pid);
    say(lock, "%u connection%s%s", (unsigned)connections, connections == 1 ? "" : "s",
        readonly ? ", read-only" : "");
}

struct meaning {
    const char *name;
    const char *shared, *exclusive; /* NULL: nothing to say */
};

static const struct meaning coordination_meanings[] = {
    {"DMS1", "connects or disconnects", "connects or disconnects"},
    {"DMS2", "connected", "connected, alone"},
    {"DMS3", "connected, read-only", "tests whether anybody is left"},
    {"WORKER", NULL, "writes behind"},
    {"WORK", NULL, "does the application's background work"},
};

static const struct meaning shm_meanings[] = {
    {"WRITE", NULL, "writes to the WAL"},
    {"CKPT", NULL, "checkpoints"},
    {"RECOVER", NULL, "rebuilds the index of the WAL"},
    {"READ0", "reads the database file alone, nothing of the WAL", "writes the database file"},
    {"READ1", "reads a snapshot", "moves this read mark"},
    {"READ2", "reads a snapshot", "moves this read mark"},
    {"READ3", "reads a snapshot", "moves this read mark"},
    {"READ4", "reads a snapshot", "moves this read mark"},
    {"DMS", "connected", "connects as the first"},
};

static const char *
meaning_of(const struct meaning *meanings, size_t count, const struct lockstep_lock_view *lock)
{
    for (size_t i = 0; i < count; i++)
        if (strcmp(meanings[i].name, lock->name) == 0)
            return lock->exclusive ? meanings[i].exclusive : meanings[i].shared;
    return NULL;
}

static bool
holds(const struct lockstep_lock_view *locks, size_t count, int32_t pid,
      enum lockstep_lock_place place, const char *name)
{
    for (size_t i = 0; i < count; i++)
        if (pid != 0 && locks[i].process.pid == pid && locks[i].place == place &&
            !locks[i].waiting && strcmp(locks[i].name, name) == 0)
            return true;
    return false;
}

static bool
is_client(const struct lockstep_client_view *clients, size_t count, int32_t pid)
{
    for (size_t i = 0; i < count; i++)
        if (pid != 0 && clients[i].alive && clients[i].process.pid == pid)
            return true;
    return false;
}

/* A Lockstep client's locks on the database file, where stock SQLite meets them; see coord/lockset.h. */
static const char *
lockstep_meaning(const struct lockstep_lock_view *lock)
{
    if (strcmp(lock->name, "SHARED") == 0 && lock->first_byte == SHARED_LAST_BYTE)
        return "Lockstep keeps stock writers out";
    if (strcmp(lock->name, "RESERVED") == 0 && lock->exclusive)
        return "Lockstep refuses stock writers at once";
    if (strcmp(lock->name, "PENDING") == 0 || strcmp(lock->name, "EXCLUSIVE") == 0)
        return "Lockstep writes behind; stock readers wait";
    return NULL;
}

static const char *
stock_meaning(const struct lockstep_lock_view *locks, size_t count,
              const struct lockstep_lock_view *lock)
{
    int32_t pid = lock->process.pid;
    if (strcmp(lock->name, "PENDING") == 0) {
        if (!lock->exclusive)
            return "about to read"; /* taken for a moment on the way to SHARED */
        return holds(locks, count, pid, LOCKSTEP_PLACE_DATABASE, "EXCLUSIVE")
                   ? "no new readers"
                   : "no new readers; waits until those inside have left";
    }
    if (strcmp(lock->name, "RESERVED") == 0 && !lock->exclusive)
        return "keeps writers out"; /* not by SQLite, which only writes it */
    if (strcmp(lock->name, "RESERVED") == 0)
        return holds(locks, count, pid, LOCKSTEP_PLACE_DATABASE, "PENDING")
                   ? "writes"
                   : "writes; others may read";
    if (strcmp(lock->name, "EXCLUSIVE") == 0)
        return "writes the database file; nobody else may read";
    if (strcmp(lock->name, "SHARED") == 0)
        return holds(locks, count, pid, LOCKSTEP_PLACE_SHM, "DMS") ? "connected, in WAL mode"
                                                                   : "reads";
    return NULL;
}

/* CLIENT(i) is one process's for as long as it lives: nobody waits for it. */
static bool
is_own(const struct lockstep_lock_view *lock)
{
    return lock->place == LOCKSTEP_PLACE_COORDINATION && strncmp(lock->name, "CLIENT(", 7) == 0;
}

void
lks_meaning_of_byte_locks(struct lockstep_lock_view *locks, size_t count,
                          const struct lockstep_client_view *clients, size_t client_count)
{
    for (size_t i = 0; i < count; i++) {
        struct lockstep_lock_view *lock = &locks[i];
        const char *text = NULL;
        switch (lock->place) {
        case LOCKSTEP_PLACE_COORDINATION:
            text = meaning_of(coordination_meanings,
                              sizeof coordination_meanings / sizeof coordination_meanings[0], lock);
            break;
        case LOCKSTEP_PLACE_SHM:
            text = meaning_of(shm_meanings, sizeof shm_meanings / sizeof shm_meanings[0], lock);
            break;
        case LOCKSTEP_PLACE_DATABASE:
            /* One that is alone is in no table. */
            if (is_client(clients, client_count, lock->process.pid) ||
                holds(locks, count, lock->process.pid, LOCKSTEP_PLACE_COORDINATION, "DMS2") ||
                lock->first_byte == SHARED_LAST_BYTE)
                text = lockstep_meaning(lock);
            if (text == NULL)
                text = stock_meaning(locks, count, lock);
            break;
        case LOCKSTEP_PLACE_MEMORY: break;
        }
        if (strcmp(lock->name, "BYTES") == 0 && lock->last_byte == UINT64_MAX)
            say(lock, "bytes %llu to the end", (unsigned long long)lock->first_byte);
        else if (strcmp(lock->name, "BYTES") == 0)
            say(lock, "bytes %llu to %llu", (unsigned long long)lock->first_byte,
                (unsigned long long)lock->last_byte);
        if (text != NULL)
            say(lock, "%s", text);
        if (lock->process.pid == 0 && lock->process.foreign_pid == 0)
            say(lock, "holder hidden: another user's process or pid namespace");
        if (lock->exclusive && !is_own(lock))
            say_if_stopped(lock);
    }
}

const char *
lockstep_place_name(enum lockstep_lock_place place)
{
    switch (place) {
    case LOCKSTEP_PLACE_MEMORY: return "memory";
    case LOCKSTEP_PLACE_COORDINATION: return "lockstep";
    case LOCKSTEP_PLACE_DATABASE: return "database";
    case LOCKSTEP_PLACE_SHM: return "shm";
    }
    return "";
}

/* The letters of proc(5). */
const char *
lockstep_process_state_name(char state)
{
    switch (state) {
    case 0: return "";
    case 'R': return "running";
    case 'S': return "sleeping";
    case 'D': return "disk";
    case 'T': return "stopped";
    case 't': return "traced";
    case 'Z': return "zombie";
    case 'X':
    case 'x': return "dead";
    case 'I': return "idle";
    default: return "other";
    }
}
