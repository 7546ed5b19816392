#include <stdlib.h>
#include <string.h>

#include "vfs/vfs.h"

#define DEFAULT_LOCK_WAIT_MS 50

static const char *const durability_names[] = {"off", "async", "full"};

int
lks_uri_durability(const char *word)
{
    if (sqlite3_stricmp(word, "off") == 0)
        return LOCKSTEP_OFF;
    if (sqlite3_stricmp(word, "async") == 0 || sqlite3_stricmp(word, "normal") == 0)
        return LOCKSTEP_ASYNC;
    if (sqlite3_stricmp(word, "full") == 0)
        return LOCKSTEP_FULL_SYNC;
    if (sqlite3_stricmp(word, "default") == 0)
        return LKS_DURABILITY_AS_ASKED;
    return -2;
}

const char *
lks_uri_durability_name(int durability)
{
    return durability < 0 ? "default" : durability_names[durability];
}

static sqlite3_int64
number(const char *name, const char *key, sqlite3_int64 otherwise, sqlite3_int64 most)
{
    const char *word = sqlite3_uri_parameter(name, key);
    sqlite3_int64 value = sqlite3_uri_int64(name, key, otherwise);
    /* What is no number is answered with what it is to be then. */
    if (word != NULL && value == otherwise && sqlite3_uri_int64(name, key, otherwise + 1) != value) {
        sqlite3_log(SQLITE_WARNING, "lockstep: %s=%s is no number, ignored", key, word);
        return otherwise;
    }
    if (value < 0 || value > most) {
        sqlite3_log(SQLITE_WARNING, "lockstep: %s=%lld is out of range, ignored", key, value);
        return otherwise;
    }
    return value;
}

/* The words that SQLite knows; of others it says what is said here to be so. */
static bool
flag(const char *name, const char *key, bool otherwise)
{
    const char *word = sqlite3_uri_parameter(name, key);
    int value = sqlite3_uri_boolean(name, key, otherwise);
    if (word != NULL && value != sqlite3_uri_boolean(name, key, !otherwise))
        sqlite3_log(SQLITE_WARNING, "lockstep: %s=%s is none of 0, 1, on, off, yes, no; ignored", key, word);
    return value != 0;
}

/* Never less than asked for: where memory cannot be mapped shared, native fails by itself. */
static bool
shm_copy(const char *name)
{
    const char *word = sqlite3_uri_parameter(name, "shm");
    if (word == NULL || sqlite3_stricmp(word, "native") == 0)
        return false;
    if (sqlite3_stricmp(word, "copy") == 0)
        return true;
    sqlite3_log(SQLITE_WARNING, "lockstep: shm=%s is none of native, copy; ignored", word);
    return false;
}

void
lks_uri_parse(const char *name, struct lks_uri *out_uri)
{
    const char *word = sqlite3_uri_parameter(name, "durability");
    memset(out_uri, 0, sizeof *out_uri);
    out_uri->durability = word != NULL ? lks_uri_durability(word) : LKS_DURABILITY_AS_ASKED;
    if (out_uri->durability == -2) {
        sqlite3_log(SQLITE_WARNING,
                    "lockstep: durability=%s is none of off, async, normal, full, default; ignored",
                    word);
        out_uri->durability = LKS_DURABILITY_AS_ASKED;
    }
    memcpy(out_uri->options.format, "SQLite", sizeof "SQLite");
    out_uri->options.max_lag_ms = (uint32_t)number(name, "max_lag", 0, 3600000);
    out_uri->options.store_limit = (uint64_t)number(name, "store_limit", 0, (sqlite3_int64)1 << 40);
    out_uri->options.hard_limit = (uint64_t)number(name, "hard_limit", 0, (sqlite3_int64)1 << 40);
    out_uri->options.override_fs = flag(name, "unsafe_fs", false);
    out_uri->options.no_worker = !flag(name, "worker", true);
    out_uri->options.single_process = !flag(name, "multi_process", true);
    out_uri->shm = !shm_copy(name)                  ? LKS_SHM_NATIVE
                   : out_uri->options.single_process ? LKS_SHM_HEAP
                                                     : LKS_SHM_COPY;
    out_uri->checkpoint_off = !flag(name, "checkpoint", true);
    out_uri->log_limit = (uint64_t)number(name, "wal_limit", 0, (sqlite3_int64)1 << 40);
    out_uri->lock_wait_ms = (uint32_t)number(name, "lock_wait", DEFAULT_LOCK_WAIT_MS, 3600000);
}
