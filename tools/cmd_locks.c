/* lockstep locks DB: who holds and who waits for which lock. */
#include <inttypes.h>
#include <string.h>

#include <lockstep/inspect.h>

#include "tools/commands.h"
#include "tools/render.h"
#include "tools/subject.h"

enum column {
    LOCK, MODE, STATE, PID, PROGRAM, PSTATE, CONN, THREAD, SINCE, SNAPSHOT, DETAIL,
    FILE_, START, END, NSPID, COLUMNS
};

static const struct lks_column columns[COLUMNS] = {
    [LOCK] = {"LOCK", LKS_COLUMN_TEXT, "name of the lock"},
    [MODE] = {"MODE", LKS_COLUMN_TEXT, "READ: others may have it too; WRITE: nobody else"},
    [STATE] = {"STATE", LKS_COLUMN_TEXT, "held or waiting"},
    [PID] = {"PID", LKS_COLUMN_NUMBER, "process; empty if it is hidden from you"},
    [PROGRAM] = {"PROGRAM", LKS_COLUMN_TEXT, "its program"},
    [PSTATE] = {"PSTATE", LKS_COLUMN_TEXT,
                "what the process does: running, sleeping, disk, stopped, traced, zombie"},
    [CONN] = {"CONN", LKS_COLUMN_NUMBER, "number of the connection in its process"},
    [THREAD] = {"THREAD", LKS_COLUMN_NUMBER, "id of the thread"},
    [SINCE] = {"SINCE", LKS_COLUMN_NUMBER, "for how long (with --json in seconds)"},
    [SNAPSHOT] = {"SNAPSHOT", LKS_COLUMN_NUMBER, "number of the commit that is read"},
    [DETAIL] = {"DETAIL", LKS_COLUMN_WRAPPED, "what it means"},
    [FILE_] = {"FILE", LKS_COLUMN_TEXT, "where the lock is: database, shm, lockstep or memory"},
    [START] = {"START", LKS_COLUMN_NUMBER, "first byte"},
    [END] = {"END", LKS_COLUMN_NUMBER, "last byte; empty: to the end of the file"},
    [NSPID] = {"NSPID", LKS_COLUMN_NUMBER, "process id in its own pid namespace, if not yours"},
};

/* The kernel does not tell since when, nor which connection: without Lockstep these stay empty. */
#define STOCK_COLUMNS "LOCK,MODE,STATE,PID,PROGRAM,PSTATE,DETAIL"
#define DEFAULT_COLUMNS "LOCK,MODE,STATE,PID,PROGRAM,PSTATE,CONN,THREAD,SINCE,SNAPSHOT,DETAIL"

static const struct lks_command command = {
    .name = "locks",
    .operand = "DB",
    .summary = "Who holds and who waits for which lock on the SQLite database DB, Lockstep's or stock\n"
               "SQLite's. Takes no lock and does not open the database.",
    .columns = columns,
    .column_count = COLUMNS,
    .notes = "Of processes in other containers and, for some locks, of other users the kernel\n"
             "tells nothing: be root, outside of containers, to see all.",
};

static void
add_row(struct lks_table *table, const struct lockstep_lock_view *lock)
{
    lks_table_row(table);
    lks_table_set(table, LOCK, "%s", lock->name);
    lks_table_set(table, MODE, "%s", lock->exclusive ? "WRITE" : "READ");
    lks_table_set(table, STATE, "%s", lock->waiting ? "waiting" : "held");
    if (lock->process.pid != 0)
        lks_table_set(table, PID, "%" PRId32, lock->process.pid);
    if (lock->process.program[0] != '\0')
        lks_table_set(table, PROGRAM, "%s", lock->process.program);
    if (lock->process.state != 0)
        lks_table_set(table, PSTATE, "%s", lockstep_process_state_name(lock->process.state));
    if (lock->connection != 0)
        lks_table_set(table, CONN, "%" PRIu32, lock->connection);
    if (lock->thread != 0)
        lks_table_set(table, THREAD, "%" PRId32, lock->thread);
    lks_table_set_age(table, SINCE, lock->age_ns);
    if (lock->snapshot != LOCKSTEP_UNKNOWN)
        lks_table_set(table, SNAPSHOT, "%" PRIu64, lock->snapshot);
    if (lock->detail[0] != '\0')
        lks_table_set(table, DETAIL, "%s", lock->detail);
    lks_table_set(table, FILE_, "%s", lockstep_place_name(lock->place));
    if (lock->place != LOCKSTEP_PLACE_MEMORY) {
        lks_table_set(table, START, "%" PRIu64, lock->first_byte);
        if (lock->last_byte != UINT64_MAX)
            lks_table_set(table, END, "%" PRIu64, lock->last_byte);
    }
    if (lock->process.foreign_pid != 0)
        lks_table_set(table, NSPID, "%" PRId32, lock->process.foreign_pid);
}

int
lks_locks_print(const struct lockstep_inspection *inspection, const struct lks_render_options *options)
{
    const struct lockstep_lock_view *lock;
    bool stock = lockstep_inspect_database(inspection)->coordination == LOCKSTEP_COORD_NONE;
    struct lks_table *table = lks_table_new(
        &command, stock && !options->json ? STOCK_COLUMNS : DEFAULT_COLUMNS, options);
    int status;
    if (table == NULL)
        return LKS_EXIT_USAGE;
    for (size_t i = 0; (lock = lockstep_inspect_lock(inspection, i)) != NULL; i++)
        add_row(table, lock);
    status = lks_table_print(table);
    lks_table_free(table);
    return status;
}

int
lks_cmd_locks(int argc, char **argv)
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
    status = lks_locks_print(inspection, &options);
    if (status == LKS_EXIT_OK)
        status = lks_subject_report(inspection);
    lockstep_inspect_close(inspection);
    return status;
}
