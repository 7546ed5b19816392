#include "vfs/tables.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include <lockstep/inspect.h>

/* ------------------------------------------------------------------------------------------------
 * Values.  What is not known is NULL.
 * --------------------------------------------------------------------------------------------- */

static void
set_number(sqlite3_context *context, uint64_t value, uint64_t unknown)
{
    if (value != unknown)
        sqlite3_result_int64(context, (sqlite3_int64)value);
}

/* Constant, or copied. */
static void
set_text(sqlite3_context *context, const char *text)
{
    if (text[0] != '\0')
        sqlite3_result_text(context, text, -1, SQLITE_TRANSIENT);
}

static void
set_age(sqlite3_context *context, uint64_t age_ns)
{
    if (age_ns != LOCKSTEP_UNKNOWN)
        sqlite3_result_double(context, (double)age_ns / 1e9);
}

/* The columns that every table has of a process. */
enum process_column { PID, PROGRAM, PSTATE, NSPID };

static void
set_process(sqlite3_context *context, const struct lockstep_process_view *process,
            enum process_column column)
{
    switch (column) {
    case PID: set_number(context, (uint64_t)process->pid, 0); break;
    case PROGRAM: set_text(context, process->program); break;
    case PSTATE: set_text(context, lockstep_process_state_name(process->state)); break;
    case NSPID: set_number(context, (uint64_t)process->foreign_pid, 0); break;
    }
}

/* ------------------------------------------------------------------------------------------------
 * The tables
 * --------------------------------------------------------------------------------------------- */

struct table {
    const char *name;
    const char *declaration; /* the hidden column is the last */
    int schema_column;
    /* Row i of the picture, NULL beyond the last. */
    const void *(*row)(const struct lockstep_inspection *picture, size_t i);
    void (*column)(sqlite3_context *context, const void *row, int column);
};

/* The names of `lockstep locks --json --output-all`, in its order. */
static const void *
locks_row(const struct lockstep_inspection *picture, size_t i)
{
    return lockstep_inspect_lock(picture, i);
}

static void
locks_column(sqlite3_context *context, const void *row, int column)
{
    const struct lockstep_lock_view *lock = row;
    bool in_memory = lock->place == LOCKSTEP_PLACE_MEMORY;
    switch (column) {
    case 0: set_text(context, lock->name); break;
    case 1: set_text(context, lock->exclusive ? "WRITE" : "READ"); break;
    case 2: set_text(context, lock->waiting ? "waiting" : "held"); break;
    case 3: set_process(context, &lock->process, PID); break;
    case 4: set_process(context, &lock->process, PROGRAM); break;
    case 5: set_process(context, &lock->process, PSTATE); break;
    case 6: set_number(context, lock->connection, 0); break;
    case 7: set_number(context, (uint64_t)lock->thread, 0); break;
    case 8: set_age(context, lock->age_ns); break;
    case 9: set_number(context, lock->snapshot, LOCKSTEP_UNKNOWN); break;
    case 10: set_text(context, lock->detail); break;
    case 11: set_text(context, lockstep_place_name(lock->place)); break;
    case 12: set_number(context, in_memory ? UINT64_MAX : lock->first_byte, UINT64_MAX); break;
    case 13: set_number(context, in_memory ? UINT64_MAX : lock->last_byte, UINT64_MAX); break;
    case 14: set_process(context, &lock->process, NSPID); break;
    default: break;
    }
}

static const void *
clients_row(const struct lockstep_inspection *picture, size_t i)
{
    return lockstep_inspect_client(picture, i);
}

static void
clients_column(sqlite3_context *context, const void *row, int column)
{
    const struct lockstep_client_view *client = row;
    switch (column) {
    case 0: sqlite3_result_int64(context, client->client); break;
    case 1: set_process(context, &client->process, PID); break;
    case 2: set_process(context, &client->process, PROGRAM); break;
    case 3: set_process(context, &client->process, PSTATE); break;
    case 4: sqlite3_result_int(context, client->alive != 0); break;
    case 5: sqlite3_result_int(context, client->readonly != 0); break;
    case 6: sqlite3_result_int64(context, client->connections); break;
    case 7: set_age(context, client->age_ns); break;
    case 8: set_process(context, &client->process, NSPID); break;
    default: break;
    }
}

static const void *
readers_row(const struct lockstep_inspection *picture, size_t i)
{
    return lockstep_inspect_reader(picture, i);
}

static void
readers_column(sqlite3_context *context, const void *row, int column)
{
    const struct lockstep_reader_view *reader = row;
    switch (column) {
    case 0: sqlite3_result_int64(context, reader->client); break;
    case 1: set_process(context, &reader->process, PID); break;
    case 2: set_process(context, &reader->process, PROGRAM); break;
    case 3: set_process(context, &reader->process, PSTATE); break;
    case 4: set_number(context, reader->connection, 0); break;
    case 5: set_number(context, (uint64_t)reader->thread, 0); break;
    case 6: set_age(context, reader->age_ns); break;
    case 7: set_number(context, reader->snapshot, LOCKSTEP_UNKNOWN); break;
    case 8: sqlite3_result_int64(context, (sqlite3_int64)reader->behind); break;
    case 9: sqlite3_result_int(context, reader->worker != 0); break;
    case 10: set_process(context, &reader->process, NSPID); break;
    default: break;
    }
}

static const void *
waiters_row(const struct lockstep_inspection *picture, size_t i)
{
    return lockstep_inspect_waiter(picture, i);
}

static void
waiters_column(sqlite3_context *context, const void *row, int column)
{
    const struct lockstep_waiter_view *waiter = row;
    switch (column) {
    case 0: sqlite3_result_int64(context, waiter->place); break;
    case 1: sqlite3_result_int64(context, waiter->client); break;
    case 2: set_process(context, &waiter->process, PID); break;
    case 3: set_process(context, &waiter->process, PROGRAM); break;
    case 4: set_process(context, &waiter->process, PSTATE); break;
    case 5: set_number(context, waiter->connection, 0); break;
    case 6: set_number(context, (uint64_t)waiter->thread, 0); break;
    case 7: set_age(context, waiter->age_ns); break;
    case 8: set_process(context, &waiter->process, NSPID); break;
    default: break;
    }
}

#define PROCESS_COLUMNS "pid INTEGER, program TEXT, pstate TEXT"
#define CONNECTION_COLUMNS "conn INTEGER, thread INTEGER, since REAL"

static const struct table tables[] = {
    {"lockstep_locks",
     "CREATE TABLE x(\"lock\" TEXT, mode TEXT, state TEXT, " PROCESS_COLUMNS ", " CONNECTION_COLUMNS
     ", snapshot INTEGER, detail TEXT, file TEXT, start INTEGER, \"end\" INTEGER, nspid INTEGER,"
     " schema TEXT HIDDEN)",
     15, locks_row, locks_column},
    {"lockstep_clients",
     "CREATE TABLE x(client INTEGER, " PROCESS_COLUMNS ", alive INTEGER, readonly INTEGER,"
     " connections INTEGER, since REAL, nspid INTEGER, schema TEXT HIDDEN)",
     9, clients_row, clients_column},
    {"lockstep_readers",
     "CREATE TABLE x(client INTEGER, " PROCESS_COLUMNS ", " CONNECTION_COLUMNS
     ", snapshot INTEGER, behind INTEGER, worker INTEGER, nspid INTEGER, schema TEXT HIDDEN)",
     11, readers_row, readers_column},
    {"lockstep_waiters",
     "CREATE TABLE x(place INTEGER, client INTEGER, " PROCESS_COLUMNS ", " CONNECTION_COLUMNS
     ", nspid INTEGER, schema TEXT HIDDEN)",
     9, waiters_row, waiters_column},
};
#define TABLES (sizeof tables / sizeof tables[0])

/* ------------------------------------------------------------------------------------------------
 * SQLite's side: https://www.sqlite.org/vtab.html
 * --------------------------------------------------------------------------------------------- */

struct table_vtab {
    sqlite3_vtab base;
    sqlite3 *connection;
    const struct table *table;
};

struct table_cursor {
    sqlite3_vtab_cursor base;
    char *schema;
    struct lockstep_inspection *picture; /* NULL: nothing to see */
    size_t i;
    const void *row;
};

static int
table_connect(sqlite3 *connection, void *aux, int argc, const char *const *argv, sqlite3_vtab **out_vtab,
              char **out_error)
{
    struct table_vtab *vtab;
    const struct table *table = aux;
    int rc = sqlite3_declare_vtab(connection, table->declaration);
    (void)argc;
    (void)argv;
    (void)out_error;
    if (rc != SQLITE_OK)
        return rc;
    /* Who else uses the machine is nothing that the schema of a foreign database should get to see. */
    (void)sqlite3_vtab_config(connection, SQLITE_VTAB_DIRECTONLY);
    vtab = sqlite3_malloc(sizeof *vtab);
    if (vtab == NULL)
        return SQLITE_NOMEM;
    memset(vtab, 0, sizeof *vtab);
    vtab->connection = connection;
    vtab->table = table;
    *out_vtab = &vtab->base;
    return SQLITE_OK;
}

static int
table_disconnect(sqlite3_vtab *vtab)
{
    sqlite3_free(vtab);
    return SQLITE_OK;
}

/* idxNum 1: the schema is given. */
static int
table_best_index(sqlite3_vtab *base, sqlite3_index_info *info)
{
    const struct table_vtab *vtab = (const struct table_vtab *)base;
    int i;
    info->estimatedCost = 1000;
    info->estimatedRows = 25;
    for (i = 0; i < info->nConstraint; i++) {
        if (info->aConstraint[i].iColumn != vtab->table->schema_column ||
            info->aConstraint[i].op != SQLITE_INDEX_CONSTRAINT_EQ)
            continue;
        if (!info->aConstraint[i].usable)
            return SQLITE_CONSTRAINT; /* in another order of the join it is */
        info->aConstraintUsage[i].argvIndex = 1;
        info->aConstraintUsage[i].omit = 1;
        info->idxNum = 1;
        return SQLITE_OK;
    }
    return SQLITE_OK;
}

static int
table_open(sqlite3_vtab *vtab, sqlite3_vtab_cursor **out_cursor)
{
    struct table_cursor *cursor = sqlite3_malloc(sizeof *cursor);
    (void)vtab;
    if (cursor == NULL)
        return SQLITE_NOMEM;
    memset(cursor, 0, sizeof *cursor);
    *out_cursor = &cursor->base;
    return SQLITE_OK;
}

static void
forget(struct table_cursor *cursor)
{
    lockstep_inspect_close(cursor->picture);
    sqlite3_free(cursor->schema);
    cursor->picture = NULL;
    cursor->schema = NULL;
    cursor->row = NULL;
    cursor->i = 0;
}

static int
table_close(sqlite3_vtab_cursor *base)
{
    forget((struct table_cursor *)base);
    sqlite3_free(base);
    return SQLITE_OK;
}

/* The file of a database that is in the filesystem, else NULL. */
static const char *
file_of_schema(sqlite3 *connection, const char *schema)
{
    const char *path = sqlite3_db_filename(connection, schema);
    sqlite3_vfs *vfs = NULL;
    if (path == NULL || path[0] == '\0')
        return NULL;
    /* Its names look like those of files. */
    if (sqlite3_file_control(connection, schema, SQLITE_FCNTL_VFS_POINTER, &vfs) == SQLITE_OK &&
        vfs != NULL && strcmp(vfs->zName, "memdb") == 0)
        return NULL;
    return path;
}

static int
take_picture(struct table_vtab *vtab, struct table_cursor *cursor)
{
    const char *path = file_of_schema(vtab->connection, cursor->schema);
    const char *problem;
    enum lockstep_status status;

    if (path == NULL) {
        if (sqlite3_stricmp(cursor->schema, "temp") == 0 ||
            sqlite3_db_readonly(vtab->connection, cursor->schema) >= 0)
            return SQLITE_OK;
        vtab->base.zErrMsg = sqlite3_mprintf("%s: there is no database \"%s\"; PRAGMA database_list names them",
                                             vtab->table->name, cursor->schema);
        return SQLITE_ERROR;
    }
    status = lockstep_inspect_open(path, &cursor->picture);
    if (status == LOCKSTEP_NOMEM)
        return SQLITE_NOMEM;
    if (status != LOCKSTEP_OK) {
        vtab->base.zErrMsg =
            sqlite3_mprintf("%s: %s cannot be inspected (%s): was it removed, or is /proc not mounted?",
                            vtab->table->name, path, lockstep_status_name(status));
        return SQLITE_ERROR;
    }
    problem = lockstep_inspect_database(cursor->picture)->problem;
    if (problem[0] != '\0')
        sqlite3_log(SQLITE_WARNING, "lockstep: %s", problem);
    cursor->row = vtab->table->row(cursor->picture, 0);
    return SQLITE_OK;
}

static int
table_filter(sqlite3_vtab_cursor *base, int number, const char *name, int argc, sqlite3_value **argv)
{
    struct table_cursor *cursor = (struct table_cursor *)base;
    const char *schema = "main";
    (void)name;
    forget(cursor);
    if (number == 1 && argc == 1) {
        schema = (const char *)sqlite3_value_text(argv[0]);
        if (schema == NULL)
            return SQLITE_OK; /* = NULL is true of no row */
    }
    cursor->schema = sqlite3_mprintf("%s", schema);
    return cursor->schema != NULL ? take_picture((struct table_vtab *)base->pVtab, cursor) : SQLITE_NOMEM;
}

static int
table_next(sqlite3_vtab_cursor *base)
{
    struct table_cursor *cursor = (struct table_cursor *)base;
    cursor->row = ((const struct table_vtab *)base->pVtab)->table->row(cursor->picture, ++cursor->i);
    return SQLITE_OK;
}

static int
table_eof(sqlite3_vtab_cursor *base)
{
    return ((const struct table_cursor *)base)->row == NULL;
}

static int
table_column(sqlite3_vtab_cursor *base, sqlite3_context *context, int column)
{
    const struct table_cursor *cursor = (const struct table_cursor *)base;
    const struct table *table = ((const struct table_vtab *)base->pVtab)->table;
    if (column == table->schema_column)
        sqlite3_result_text(context, cursor->schema, -1, SQLITE_TRANSIENT);
    else
        table->column(context, cursor->row, column);
    return SQLITE_OK;
}

static int
table_rowid(sqlite3_vtab_cursor *base, sqlite3_int64 *out_rowid)
{
    *out_rowid = (sqlite3_int64)((const struct table_cursor *)base)->i + 1;
    return SQLITE_OK;
}

/* Without xCreate: nobody makes a table of this kind, it is there. Without xUpdate: read-only. */
static const sqlite3_module module = {
    .xConnect = table_connect,
    .xBestIndex = table_best_index,
    .xDisconnect = table_disconnect,
    .xOpen = table_open,
    .xClose = table_close,
    .xFilter = table_filter,
    .xNext = table_next,
    .xEof = table_eof,
    .xColumn = table_column,
    .xRowid = table_rowid,
};

int
lks_tables_register(sqlite3 *connection, char **out_error, const sqlite3_api_routines *api)
{
    int rc = SQLITE_OK;
    size_t i;
    (void)out_error;
    (void)api;
    for (i = 0; i < TABLES && rc == SQLITE_OK; i++)
        rc = sqlite3_create_module(connection, tables[i].name, &module, (void *)(uintptr_t)&tables[i]);
    return rc;
}

/* The type that SQLite's interface has for every entry point. */
typedef void (*entry_point)(void);

int
lks_tables_everywhere(void)
{
    return sqlite3_auto_extension((entry_point)lks_tables_register);
}

void
lks_tables_nowhere(void)
{
    (void)sqlite3_cancel_auto_extension((entry_point)lks_tables_register);
}
