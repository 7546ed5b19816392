#include "coord/roster.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "coord/lockname.h"
#include "coord/meaning.h"
#include "os/bytelock.h"

/* Who client `i` is: the lock's holder, else what it wrote of itself. */
static void
look_at_client(struct lockstep_inspection *in, uint32_t i, int32_t lock_pid)
{
    const struct lks_census_client *client = &in->census->clients[i];
    bool foreign = client->pid_namespace != in->self.pid_namespace;
    int32_t pid = lock_pid > 0 ? lock_pid : !foreign && in->alive[i] ? client->pid : 0;
    in->who[i] = lks_inspect_process(pid);
    if (in->who[i].program[0] == '\0')
        memcpy(in->who[i].program, client->program, sizeof in->who[i].program);
    if (foreign)
        in->who[i].foreign_pid = client->pid;
    else if (!in->alive[i])
        in->who[i].pid = client->pid; /* of a process that has gone */
}

/* The row of a byte of the coordination file, or NULL. */
static const struct lockstep_lock_view *
find_byte(const struct lockstep_inspection *in, uint32_t byte)
{
    for (size_t i = 0; i < in->lock_count; i++)
        if (in->locks[i].place == LOCKSTEP_PLACE_COORDINATION && !in->locks[i].waiting &&
            in->locks[i].first_byte <= LKS_LOCK_BASE + byte &&
            in->locks[i].last_byte >= LKS_LOCK_BASE + byte)
            return &in->locks[i];
    return NULL;
}

/*
 * Who holds this byte?  The kernel's list leaves out processes outside our pid namespace; F_GETLK sees
 * them, without a name.  *out_pid is 0 then.  A holder found only that way becomes a row.
 */
static enum lockstep_status
find_holder(struct lockstep_inspection *in, int coord_fd, uint32_t byte, bool *out_held,
            int32_t *out_pid)
{
    const struct lockstep_lock_view *row = find_byte(in, byte);
    struct lks_lockname name;
    struct lockstep_lock_view view;
    uint64_t at = LKS_LOCK_BASE + byte;
    int32_t pid;

    *out_held = row != NULL;
    *out_pid = row != NULL ? row->process.pid : 0;
    if (in->alone && byte >= LKS_BYTE_WORKER) {
        /* DMS2 stands for them. */
        *out_held = byte >= LKS_BYTE_CLIENT0 || (byte == LKS_BYTE_WORKER && in->census->worker);
        *out_pid = *out_held ? in->self.pid : 0;
        return LOCKSTEP_OK;
    }
    if (row != NULL || coord_fd < 0)
        return LOCKSTEP_OK;
    if (lks_bytelock_holder(coord_fd, LKS_LOCK_PROCESS, LKS_LOCK_EXCLUSIVE, at, 1, &pid) !=
            LOCKSTEP_OK ||
        pid == 0)
        return LOCKSTEP_OK;
    *out_held = true;
    *out_pid = pid > 0 ? pid : 0;
    (void)lks_lockname_next(LOCKSTEP_PLACE_COORDINATION, true, &at, at, &name);
    view = lks_inspect_byte_lock(LOCKSTEP_PLACE_COORDINATION, &name, *out_pid);
    view.exclusive = byte != LKS_BYTE_DMS2 && byte != LKS_BYTE_DMS3;
    return lks_inspect_add_lock(in, &view);
}

static enum lockstep_status
find_clients(struct lockstep_inspection *in, int coord_fd)
{
    bool held;
    int32_t pid;
    enum lockstep_status status;
    for (uint32_t i = 0; i < LKS_MAX_CLIENTS; i++) {
        if (!in->census->clients[i].used)
            continue;
        status = find_holder(in, coord_fd, LKS_BYTE_CLIENT0 + i, &held, &pid);
        if (status != LOCKSTEP_OK)
            return status;
        in->alive[i] = held;
        look_at_client(in, i, pid);
    }
    for (uint32_t byte = LKS_BYTE_DMS1; byte <= LKS_BYTE_WORK; byte++) {
        status = find_holder(in, coord_fd, byte, &held, &pid);
        if (status != LOCKSTEP_OK)
            return status;
        if (byte == LKS_BYTE_WORKER)
            in->database.worker = held;
        if (held && (byte == LKS_BYTE_DMS2 || byte == LKS_BYTE_DMS3))
            in->database.coordination = LOCKSTEP_COORD_LIVE;
    }
    return LOCKSTEP_OK;
}

/* The number of another view: a client that is not in the table is nobody. */
static const struct lockstep_process_view *
client_process(const struct lockstep_inspection *in, uint32_t client)
{
    assert(client < LKS_MAX_CLIENTS);
    return &in->who[client];
}

static enum lockstep_status
list_people(struct lockstep_inspection *in)
{
    const struct lks_census *census = in->census;
    /* In WAL mode a snapshot is a frame; the wal-index tells the newest, else what the worker saw last. */
    uint64_t newest = !census->wal     ? census->committed
                      : in->index_known ? in->index.frames
                                        : census->log_frames;
    in->clients = calloc(LKS_MAX_CLIENTS, sizeof *in->clients);
    in->readers = calloc(census->reader_count + 1u, sizeof *in->readers);
    in->waiters = calloc(census->waiter_count + 1u, sizeof *in->waiters);
    if (in->clients == NULL || in->readers == NULL || in->waiters == NULL)
        return LOCKSTEP_NOMEM;
    for (uint32_t i = 0; i < LKS_MAX_CLIENTS; i++) {
        const struct lks_census_client *client = &census->clients[i];
        if (!client->used)
            continue;
        in->clients[in->client_count++] = (struct lockstep_client_view){
            .client = i,
            .readonly = client->readonly,
            .alive = in->alive[i],
            .process = in->who[i],
            .connections = client->connections,
            .age_ns = client->age_ns,
        };
    }
    for (uint32_t i = 0; i < census->reader_count; i++) {
        const struct lks_census_reader *reader = &census->readers[i];
        in->readers[in->reader_count++] = (struct lockstep_reader_view){
            .client = reader->client,
            .process = *client_process(in, reader->client),
            .thread = reader->thread,
            .connection = reader->connection,
            .snapshot = reader->snapshot,
            .behind = newest > reader->snapshot ? newest - reader->snapshot : 0,
            .age_ns = reader->age_ns,
            .worker = reader->worker,
        };
    }
    for (uint32_t i = 0; i < census->waiter_count; i++) {
        const struct lks_census_waiter *waiter = &census->waiters[i];
        in->waiters[in->waiter_count++] = (struct lockstep_waiter_view){
            .place = i + 1,
            .client = waiter->client,
            .process = *client_process(in, waiter->client),
            .thread = waiter->thread,
            .connection = waiter->connection,
            .age_ns = waiter->age_ns,
        };
    }
    return LOCKSTEP_OK;
}

static void
fill_log_info(struct lockstep_inspection *in)
{
    const struct lks_census *census = in->census;
    struct lockstep_db_info *info = &in->database.info;
    info->wal = census->wal;
    if (!census->wal)
        return;
    info->flushed = census->durable;
    info->wal_frames = in->index_known ? in->index.frames : census->log_frames;
    info->wal_backfilled = in->index_known ? in->index.backfilled : census->log_backfilled;
    info->wal_bytes = census->log_bytes;
    info->sync_failed = census->poison;
    info->checkpoints = census->checkpoints;
    info->syncs = census->syncs;
}

static void
fill_info(struct lockstep_inspection *in)
{
    const struct lks_census *census = in->census;
    struct lockstep_db_info *info = &in->database.info;
    info->committed = census->committed;
    info->flushed = census->flushed;
    info->durable = census->durable;
    info->pending_bytes = census->pending_bytes;
    info->store_bytes = census->store_bytes;
    info->store_limit = census->store_limit;
    info->hard_limit = census->hard_limit;
    info->batches = census->batches;
    info->failed_batches = census->failed_batches;
    info->max_lag_ms = census->max_lag_ms;
    info->unit_size = census->unit_size;
    info->last_error = census->last_error;
    fill_log_info(in);
    info->waiters = census->waiter_count;
    info->oldest_snapshot = census->committed;
    for (size_t i = 0; i < in->client_count; i++)
        info->clients += in->clients[i].alive;
    for (size_t i = 0; i < in->reader_count; i++) {
        if (in->readers[i].worker)
            continue;
        if (info->readers++ == 0 && (census->wal || in->readers[i].snapshot < info->oldest_snapshot))
            info->oldest_snapshot = in->readers[i].snapshot;
    }
    if (census->writer_state == LKS_WRITER_OWNED)
        info->writer_pid = client_process(in, census->writer_client)->pid;
    in->database.writer_age_ns = census->writer_age_ns;
    in->database.pending_age_ns = census->pending_age_ns;
    in->database.tripwire = census->tripwire && !in->alone;
}

/* What people hold in memory, as locks like the others. */
static enum lockstep_status
add_memory_locks(struct lockstep_inspection *in)
{
    const struct lks_census *census = in->census;
    const struct lockstep_lock_view none = {
        .place = LOCKSTEP_PLACE_MEMORY,
        .age_ns = LOCKSTEP_UNKNOWN,
        .snapshot = LOCKSTEP_UNKNOWN,
    };
    struct lockstep_lock_view view;
    enum lockstep_status status = LOCKSTEP_OK;

    if (census->writer_state != LKS_WRITER_FREE) {
        view = none;
        strcpy(view.name, "WRITER");
        view.exclusive = 1;
        view.process = *client_process(in, census->writer_client);
        view.thread = census->writer_thread;
        view.connection = census->writer_connection;
        view.age_ns = census->writer_age_ns;
        lks_meaning_writer(census->writer_state == LKS_WRITER_RESERVED,
                           !in->alive[census->writer_client], in->waiter_count, &view);
        status = lks_inspect_add_lock(in, &view);
    }
    for (size_t i = 0; i < in->waiter_count && status == LOCKSTEP_OK; i++) {
        const struct lockstep_waiter_view *waiter = &in->waiters[i];
        view = none;
        strcpy(view.name, "WRITER");
        view.exclusive = view.waiting = 1;
        view.process = waiter->process;
        view.thread = waiter->thread;
        view.connection = waiter->connection;
        view.age_ns = waiter->age_ns;
        lks_meaning_waiter(waiter->place, !in->alive[waiter->client], &view);
        status = lks_inspect_add_lock(in, &view);
    }
    if (census->wal && census->sync_leader < LKS_MAX_CLIENTS && status == LOCKSTEP_OK) {
        view = none;
        strcpy(view.name, "SYNC");
        view.exclusive = 1;
        view.process = *client_process(in, census->sync_leader);
        view.age_ns = census->sync_age_ns;
        lks_meaning_sync(!in->alive[census->sync_leader], &view);
        status = lks_inspect_add_lock(in, &view);
    }
    for (size_t i = 0; i < in->reader_count && status == LOCKSTEP_OK; i++) {
        const struct lockstep_reader_view *reader = &in->readers[i];
        view = none;
        strcpy(view.name, reader->worker ? "PIN" : "SNAPSHOT");
        view.process = reader->process;
        view.thread = reader->thread;
        view.connection = reader->connection;
        view.age_ns = reader->age_ns;
        view.snapshot = reader->snapshot;
        lks_meaning_snapshot(reader->worker, census->wal, reader->behind, !in->alive[reader->client], &view);
        status = lks_inspect_add_lock(in, &view);
    }
    return status;
}

/* CLIENT(i) is the one byte lock of which the table knows more. */
static void
complete_client_locks(struct lockstep_inspection *in)
{
    for (size_t i = 0; i < in->lock_count; i++) {
        struct lockstep_lock_view *lock = &in->locks[i];
        uint64_t byte = lock->first_byte - LKS_LOCK_BASE;
        if (lock->place != LOCKSTEP_PLACE_COORDINATION || lock->first_byte < LKS_LOCK_BASE ||
            byte < LKS_BYTE_CLIENT0 || byte - LKS_BYTE_CLIENT0 >= LKS_MAX_CLIENTS)
            continue;
        if (in->census == NULL || !in->census->clients[byte - LKS_BYTE_CLIENT0].used)
            continue;
        lock->process = in->who[byte - LKS_BYTE_CLIENT0];
        lock->age_ns = in->census->clients[byte - LKS_BYTE_CLIENT0].age_ns;
        lks_meaning_client(in->census->clients[byte - LKS_BYTE_CLIENT0].connections,
                           in->census->clients[byte - LKS_BYTE_CLIENT0].readonly, lock);
    }
}

enum lockstep_status
lks_roster_take(struct lockstep_inspection *in, int coord_fd)
{
    enum lockstep_status status = find_clients(in, coord_fd);
    if (status == LOCKSTEP_OK)
        status = list_people(in);
    if (status != LOCKSTEP_OK)
        return status;
    fill_info(in);
    complete_client_locks(in);
    return add_memory_locks(in);
}
