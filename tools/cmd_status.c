/* lockstep status DB: what is pending, what is durable, who takes part. */
#include <inttypes.h>
#include <string.h>

#include <lockstep/inspect.h>

#include "tools/commands.h"
#include "tools/render.h"
#include "tools/subject.h"

enum column {
    DATABASE, JOURNAL, COORDINATION, CLIENTS, READERS, WAITERS, WRITER, WRITER_PROGRAM, WRITER_SINCE,
    WORKER, COMMITTED, FLUSHED, DURABLE, PENDING, PENDING_SINCE, PENDING_BYTES, STORE_BYTES,
    STORE_LIMIT, HARD_LIMIT, MAX_LAG, UNIT_SIZE, OLDEST_SNAPSHOT, OLDEST_SINCE, BATCHES, FAILED,
    LAST_ERROR, WAL_FRAMES, WAL_PENDING, WAL_BYTES, CHECKPOINTS, SYNCS, HELD_BY, HELD_SINCE, TRIPWIRE, LOCKS, HIDDEN, ORPHANS, PROBLEM, COLUMNS
};

static const struct lks_column columns[COLUMNS] = {
    [DATABASE] = {"DATABASE", LKS_COLUMN_TEXT, "the file, without symbolic links"},
    [JOURNAL] = {"JOURNAL", LKS_COLUMN_TEXT, "rollback journal or WAL, by the file's header"},
    [COORDINATION] = {"COORDINATION", LKS_COLUMN_TEXT, "who coordinates the processes"},
    [CLIENTS] = {"CLIENTS", LKS_COLUMN_NUMBER, "processes connected through Lockstep"},
    [READERS] = {"READERS", LKS_COLUMN_NUMBER, "open transactions"},
    [WAITERS] = {"WAITERS", LKS_COLUMN_NUMBER, "connections that wait for the writer lock"},
    [WRITER] = {"WRITER", LKS_COLUMN_NUMBER, "process that has the writer lock"},
    [WRITER_PROGRAM] = {"WRITER-PROGRAM", LKS_COLUMN_TEXT, "its program"},
    [WRITER_SINCE] = {"WRITER-SINCE", LKS_COLUMN_NUMBER, "for how long (with --json in seconds)"},
    [WORKER] = {"WORKER", LKS_COLUMN_NUMBER, "process that writes behind"},
    [COMMITTED] = {"COMMITTED", LKS_COLUMN_NUMBER, "number of the newest commit"},
    [FLUSHED] = {"FLUSHED", LKS_COLUMN_NUMBER, "number of the commit that the file holds"},
    [DURABLE] = {"DURABLE", LKS_COLUMN_NUMBER, "number of the newest commit that survives a power cut"},
    [PENDING] = {"PENDING", LKS_COLUMN_NUMBER, "commits that a power cut would take back"},
    [PENDING_SINCE] = {"PENDING-SINCE", LKS_COLUMN_NUMBER, "for how long the oldest of them waits"},
    [PENDING_BYTES] = {"PENDING-BYTES", LKS_COLUMN_NUMBER, "page versions in the store"},
    [STORE_BYTES] = {"STORE-BYTES", LKS_COLUMN_NUMBER, "size of the store"},
    [STORE_LIMIT] = {"STORE-LIMIT", LKS_COLUMN_NUMBER, "size from which writers wait"},
    [HARD_LIMIT] = {"HARD-LIMIT", LKS_COLUMN_NUMBER, "size that one transaction may fill"},
    [MAX_LAG] = {"MAX-LAG", LKS_COLUMN_NUMBER, "milliseconds after which a commit is written behind"},
    [UNIT_SIZE] = {"UNIT-SIZE", LKS_COLUMN_NUMBER, "bytes of a page version in the store"},
    [OLDEST_SNAPSHOT] = {"OLDEST-SNAPSHOT", LKS_COLUMN_NUMBER, "oldest commit that a transaction reads"},
    [OLDEST_SINCE] = {"OLDEST-SINCE", LKS_COLUMN_NUMBER, "for how long it has been open"},
    [BATCHES] = {"BATCHES", LKS_COLUMN_NUMBER, "batches written behind"},
    [FAILED] = {"FAILED", LKS_COLUMN_NUMBER, "attempts at a batch that failed"},
    [LAST_ERROR] = {"LAST-ERROR", LKS_COLUMN_TEXT, "why the last attempt failed; empty if it did not"},
    [WAL_FRAMES] = {"WAL-FRAMES", LKS_COLUMN_NUMBER, "frames in the log of a database in WAL mode"},
    [WAL_PENDING] = {"WAL-PENDING", LKS_COLUMN_NUMBER, "of these, not yet written back"},
    [WAL_BYTES] = {"WAL-BYTES", LKS_COLUMN_NUMBER, "size of the log"},
    [CHECKPOINTS] = {"CHECKPOINTS", LKS_COLUMN_NUMBER, "checkpoints made in the background"},
    [SYNCS] = {"SYNCS", LKS_COLUMN_NUMBER, "syncs of the log, each for all who waited"},
    [HELD_BY] = {"HELD-BY", LKS_COLUMN_NUMBER, "process whose snapshot keeps the log from being written back"},
    [HELD_SINCE] = {"HELD-SINCE", LKS_COLUMN_NUMBER, "for how long it has been open, if that is known"},
    [TRIPWIRE] = {"TRIPWIRE", LKS_COLUMN_BOOLEAN, "the file is marked read-only for stock SQLite"},
    [LOCKS] = {"LOCKS", LKS_COLUMN_NUMBER, "locks held or waited for: see lockstep locks"},
    [HIDDEN] = {"HIDDEN", LKS_COLUMN_NUMBER, "locks whose process is hidden from you"},
    [ORPHANS] = {"ORPHANS", LKS_COLUMN_NUMBER, "coordination files that were set aside"},
    [PROBLEM] = {"PROBLEM", LKS_COLUMN_TEXT, "what is wrong, and what to do"},
};

static const char *const labels[COLUMNS] = {
    [DATABASE] = "Database",
    [JOURNAL] = "Journal mode",
    [COORDINATION] = "Coordination",
    [CLIENTS] = "Clients",
    [READERS] = "Open transactions",
    [WAITERS] = "Waiting writers",
    [WRITER] = "Writer",
    [WRITER_PROGRAM] = "Writer's program",
    [WRITER_SINCE] = "Writing for",
    [WORKER] = "Worker",
    [COMMITTED] = "Committed",
    [FLUSHED] = "Flushed",
    [DURABLE] = "Durable",
    [PENDING] = "Pending commits",
    [PENDING_SINCE] = "Pending for",
    [PENDING_BYTES] = "Pending bytes",
    [STORE_BYTES] = "Store size",
    [STORE_LIMIT] = "Store limit",
    [HARD_LIMIT] = "Hard limit",
    [MAX_LAG] = "Max lag (ms)",
    [UNIT_SIZE] = "Unit size",
    [OLDEST_SNAPSHOT] = "Oldest snapshot",
    [OLDEST_SINCE] = "Open for",
    [BATCHES] = "Batches written",
    [FAILED] = "Batches failed",
    [LAST_ERROR] = "Last error",
    [WAL_FRAMES] = "Frames in the log",
    [WAL_PENDING] = "Not written back",
    [WAL_BYTES] = "Log size",
    [CHECKPOINTS] = "Checkpoints",
    [SYNCS] = "Syncs of the log",
    [HELD_BY] = "Held back by",
    [HELD_SINCE] = "Held back for",
    [TRIPWIRE] = "Tripwire",
    [LOCKS] = "Locks",
    [HIDDEN] = "Hidden holders",
    [ORPHANS] = "Orphans",
    [PROBLEM] = "Problem",
};

#define DEFAULT_COLUMNS                                                                          \
    "DATABASE,JOURNAL,COORDINATION,CLIENTS,READERS,WAITERS,WRITER,WRITER-PROGRAM,WRITER-SINCE,"   \
    "WORKER,COMMITTED,FLUSHED,DURABLE,PENDING,PENDING-SINCE,PENDING-BYTES,STORE-BYTES,"           \
    "STORE-LIMIT,HARD-LIMIT,MAX-LAG,OLDEST-SNAPSHOT,OLDEST-SINCE,BATCHES,FAILED,LAST-ERROR,"      \
    "WAL-FRAMES,WAL-PENDING,WAL-BYTES,CHECKPOINTS,SYNCS,HELD-BY,HELD-SINCE,LOCKS,ORPHANS,PROBLEM"

static const struct lks_command command = {
    .name = "status",
    .operand = "DB",
    .summary = "What is pending and what is durable in the database DB, who takes part, within which\n"
               "limits. Takes no lock; of the database file only the first bytes are read.",
    .columns = columns,
    .column_count = COLUMNS,
    .notes = "Without --output, --noheadings or --json: a list, without what has no value.",
};

static const char *
coordination_words(enum lockstep_coordination coordination)
{
    switch (coordination) {
    case LOCKSTEP_COORD_NONE: return "none: nobody uses it through Lockstep";
    case LOCKSTEP_COORD_LIVE: return "Lockstep";
    case LOCKSTEP_COORD_LEFT: return "Lockstep, left by processes that died";
    case LOCKSTEP_COORD_OLD: return "none: the coordination file is of the past";
    case LOCKSTEP_COORD_DAMAGED: return "unknown: the coordination file cannot be used";
    case LOCKSTEP_COORD_HIDDEN: return "unknown: the coordination file cannot be read";
    }
    return "";
}

static const struct lockstep_lock_view *
find_lock(const struct lockstep_inspection *inspection, const char *name)
{
    const struct lockstep_lock_view *lock;
    for (size_t i = 0; (lock = lockstep_inspect_lock(inspection, i)) != NULL; i++)
        if (!lock->waiting && strcmp(lock->name, name) == 0 &&
            lock->place <= LOCKSTEP_PLACE_COORDINATION)
            return lock;
    return NULL;
}

static uint64_t
oldest_age(const struct lockstep_inspection *inspection)
{
    const struct lockstep_reader_view *reader;
    for (size_t i = 0; (reader = lockstep_inspect_reader(inspection, i)) != NULL; i++)
        if (!reader->worker)
            return reader->age_ns;
    return LOCKSTEP_UNKNOWN;
}

static void
set_people(struct lks_table *table, const struct lockstep_inspection *inspection)
{
    const struct lockstep_db_info *info = &lockstep_inspect_database(inspection)->info;
    const struct lockstep_lock_view *lock;
    lks_table_set(table, CLIENTS, "%" PRIu32, info->clients);
    lks_table_set(table, READERS, "%" PRIu32, info->readers);
    lks_table_set(table, WAITERS, "%" PRIu32, info->waiters);
    lock = find_lock(inspection, "WRITER");
    if (lock != NULL) {
        if (lock->process.pid != 0)
            lks_table_set(table, WRITER, "%" PRId32, lock->process.pid);
        if (lock->process.program[0] != '\0')
            lks_table_set(table, WRITER_PROGRAM, "%s", lock->process.program);
        lks_table_set_age(table, WRITER_SINCE, lock->age_ns);
    }
    lock = find_lock(inspection, "WORKER");
    if (lock != NULL && lock->process.pid != 0)
        lks_table_set(table, WORKER, "%" PRId32, lock->process.pid);
}

static void
set_store(struct lks_table *table, const struct lockstep_inspection *inspection)
{
    const struct lockstep_database_view *database = lockstep_inspect_database(inspection);
    const struct lockstep_db_info *info = &database->info;
    uint64_t pending = info->committed > info->durable ? info->committed - info->durable : 0;
    lks_table_set(table, COMMITTED, "%" PRIu64, info->committed);
    lks_table_set(table, FLUSHED, "%" PRIu64, info->flushed);
    lks_table_set(table, DURABLE, "%" PRIu64, info->durable);
    lks_table_set(table, PENDING, "%" PRIu64, pending);
    lks_table_set_age(table, PENDING_SINCE, database->pending_age_ns);
    if (info->wal) {
        lks_table_set(table, MAX_LAG, "%" PRIu32, info->max_lag_ms);
        lks_table_set(table, FAILED, "%" PRIu64, info->failed_batches);
        return;
    }
    lks_table_set_size(table, PENDING_BYTES, info->pending_bytes);
    lks_table_set_size(table, STORE_BYTES, info->store_bytes);
    lks_table_set_size(table, STORE_LIMIT, info->store_limit);
    lks_table_set_size(table, HARD_LIMIT, info->hard_limit);
    lks_table_set(table, MAX_LAG, "%" PRIu32, info->max_lag_ms);
    lks_table_set(table, UNIT_SIZE, "%" PRIu32, info->unit_size);
    if (info->readers > 0) {
        lks_table_set(table, OLDEST_SNAPSHOT, "%" PRIu64, info->oldest_snapshot);
        lks_table_set_age(table, OLDEST_SINCE, oldest_age(inspection));
    }
    lks_table_set(table, BATCHES, "%" PRIu64, info->batches);
    lks_table_set(table, FAILED, "%" PRIu64, info->failed_batches);
    if (info->last_error != 0)
        lks_table_set(table, LAST_ERROR, "%s", strerror((int)info->last_error));
}

/* The oldest snapshot of the log that does not see all of it: Lockstep's reader or a stock one. */
static void
set_holder(struct lks_table *table, const struct lockstep_inspection *inspection)
{
    const struct lockstep_db_info *info = &lockstep_inspect_database(inspection)->info;
    const struct lockstep_lock_view *lock, *oldest = NULL;
    for (size_t i = 0; (lock = lockstep_inspect_lock(inspection, i)) != NULL; i++) {
        bool reads = strcmp(lock->name, "SNAPSHOT") == 0 ||
                     (lock->place == LOCKSTEP_PLACE_SHM && strncmp(lock->name, "READ", 4) == 0);
        if (reads && !lock->waiting && lock->snapshot < info->wal_frames &&
            (oldest == NULL || lock->snapshot < oldest->snapshot))
            oldest = lock;
    }
    if (oldest == NULL || oldest->process.pid == 0)
        return;
    lks_table_set(table, HELD_BY, "%" PRId32, oldest->process.pid);
    lks_table_set_age(table, HELD_SINCE, oldest->age_ns);
}

static void
set_log(struct lks_table *table, const struct lockstep_inspection *inspection)
{
    const struct lockstep_db_info *info = &lockstep_inspect_database(inspection)->info;
    if (!info->wal)
        return;
    lks_table_set(table, WAL_FRAMES, "%" PRIu32, info->wal_frames);
    lks_table_set(table, WAL_PENDING, "%" PRIu32,
                  info->wal_frames > info->wal_backfilled ? info->wal_frames - info->wal_backfilled : 0);
    if (info->committed != 0) {
        lks_table_set_size(table, WAL_BYTES, info->wal_bytes);
        lks_table_set(table, CHECKPOINTS, "%" PRIu64, info->checkpoints);
        lks_table_set(table, SYNCS, "%" PRIu64, info->syncs);
    }
    set_holder(table, inspection);
}

/* as_list: what is nothing is left out. */
static void
fill(struct lks_table *table, const struct lockstep_inspection *inspection, bool as_list)
{
    const struct lockstep_database_view *database = lockstep_inspect_database(inspection);
    struct lks_subject_header header;
    size_t locks = 0;
    unsigned orphans = lks_subject_orphans(database->path, NULL, NULL);

    lks_subject_read_header(database->path, &header);
    while (lockstep_inspect_lock(inspection, locks) != NULL)
        locks++;
    lks_table_row(table);
    lks_table_set(table, DATABASE, "%s", database->path);
    lks_table_set(table, JOURNAL, "%s", header.format);
    lks_table_set(table, COORDINATION, "%s", coordination_words(database->coordination));
    if (database->info.committed != 0) {
        set_people(table, inspection);
        set_store(table, inspection);
    }
    set_log(table, inspection);
    lks_table_set(table, TRIPWIRE, "%d", header.tripwire);
    lks_table_set(table, LOCKS, "%zu", locks);
    lks_table_set(table, HIDDEN, "%" PRIu32, database->hidden_holders);
    if (orphans > 0 || !as_list)
        lks_table_set(table, ORPHANS, "%u", orphans);
    if (database->problem[0] != '\0')
        lks_table_set(table, PROBLEM, "%s", database->problem);
    else if (database->coordination == LOCKSTEP_COORD_NONE && header.tripwire)
        lks_table_set(table, PROBLEM, "Commits were lost with the coordination file (a reboot?): the "
                                      "next connection through Lockstep opens the file to stock "
                                      "writers again, at the last state that was written");
}

int
lks_status_print(const struct lockstep_inspection *inspection, const struct lks_render_options *options)
{
    bool as_list = !options->json && !options->raw && !options->no_headings && options->list == NULL;
    struct lks_table *table = lks_table_new(&command, DEFAULT_COLUMNS, options);
    int status;
    if (table == NULL)
        return LKS_EXIT_USAGE;
    fill(table, inspection, as_list);
    status = as_list ? lks_table_print_list(table, labels) : lks_table_print(table);
    lks_table_free(table);
    return status;
}

int
lks_cmd_status(int argc, char **argv)
{
    struct lks_render_options options;
    struct lockstep_inspection *inspection;
    const char *path;
    int status = lks_render_parse(&command, argc, argv, &options, &path);
    if (status >= 0)
        return status;
    inspection = lks_subject_open(path);
    if (inspection == NULL)
        return LKS_EXIT_FAILURE;
    status = lks_status_print(inspection, &options);
    /* What is wrong stands in the output; the exit status says it, too. */
    if (status == LKS_EXIT_OK && !lks_subject_complete(inspection))
        status = LKS_EXIT_FAILURE;
    lockstep_inspect_close(inspection);
    return status;
}
