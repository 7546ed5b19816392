/*
 * Who is connected, which snapshots are in use, who holds what: the entry points of coord.h that change
 * nothing.
 */
#include <lockstep/coord.h>

#include <stdio.h>
#include <stdlib.h>

#include "api/api.h"
#include "coord/client.h"
#include "coord/holder.h"
#include "coord/work.h"

enum lockstep_status
lockstep_db_clients(struct lockstep_db *db, struct lockstep_client *out, size_t capacity, size_t *out_count)
{
    size_t count = 0;
    uint32_t i;
    if (out_count == NULL || (out == NULL && capacity > 0))
        return LOCKSTEP_MISUSE;
    if (!connected(db))
        return not_connected(db);
    for (i = 0; i < LKS_MAX_CLIENTS; i++) {
        struct lockstep_client client;
        if (lks_a32_relaxed(&db->shm->clients[i].pid) == 0 || !lks_client_read(db, i, &client))
            continue;
        if (count < capacity)
            out[count] = client;
        count++;
    }
    *out_count = count;
    return LOCKSTEP_OK;
}

uint32_t
lockstep_db_slot(struct lockstep_db *db)
{
    return connected(db) ? db->client : UINT32_MAX;
}

/*
 * Below the floor a scan has the last word; what is newer may be begun on at any moment, so a look will do.
 */
static bool
snapshot_used(const struct lks_shm *shm, uint64_t snapshot)
{
    struct lks_horizon horizon;
    uint32_t i;
    lks_horizon_scan(shm, &horizon);
    if (snapshot < horizon.floor)
        return lks_horizon_used(&horizon, snapshot, snapshot + 1);
    for (i = 0; i < LKS_MAX_SLOTS; i++) {
        uint64_t word = lks_a64_acquire(&shm->slots[i].word);
        if (lks_slot_state_of(word) != LKS_SLOT_FREE && lks_slot_snapshot(word) == snapshot)
            return true;
    }
    return false;
}

enum lockstep_status
lockstep_db_snapshot_in_use(struct lockstep_db *db, uint64_t snapshot, int *out_in_use)
{
    bool used;
    if (out_in_use == NULL)
        return LOCKSTEP_MISUSE;
    if (!connected(db))
        return not_connected(db);
    used = snapshot_used(db->shm, snapshot);
    if (used && lks_client_reap_readers(db, snapshot + 1))
        used = snapshot_used(db->shm, snapshot);
    *out_in_use = used;
    return LOCKSTEP_OK;
}

enum lockstep_status
lockstep_db_snapshot_oldest(struct lockstep_db *db, uint64_t *out_snapshot)
{
    struct lks_horizon horizon;
    if (out_snapshot == NULL)
        return LOCKSTEP_MISUSE;
    if (!connected(db))
        return not_connected(db);
    lks_horizon_scan(db->shm, &horizon);
    if (horizon.count > 0 && lks_client_reap_readers(db, horizon.floor))
        lks_horizon_scan(db->shm, &horizon);
    *out_snapshot = horizon.lowest;
    return LOCKSTEP_OK;
}

enum lockstep_status
lockstep_db_lock_test(struct lockstep_db *db, uint32_t lock, enum lockstep_lock_mode mode,
                      struct lockstep_lock_holder *out_holder)
{
    struct lockstep_lock_holder holder;
    char buf[16];
    enum lockstep_status status;
    if (lks_holder_lock_name(lock, buf) == NULL || lock == LOCKSTEP_LOCK_SNAPSHOT ||
        (mode != LOCKSTEP_SHARED && mode != LOCKSTEP_EXCLUSIVE))
        return LOCKSTEP_MISUSE;
    if (!connected(db))
        return not_connected(db);
    status = lks_holder_find(db, lock, mode == LOCKSTEP_EXCLUSIVE, &holder);
    if (status == LOCKSTEP_BUSY && out_holder != NULL)
        *out_holder = holder;
    return status;
}

enum lockstep_lock_mode
lockstep_conn_holds(const struct lockstep_conn *conn, uint32_t lock)
{
    if (!conn_usable(conn))
        return LOCKSTEP_UNLOCKED;
    if (lock == LOCKSTEP_LOCK_WRITER)
        return conn->writing ? LOCKSTEP_EXCLUSIVE : LOCKSTEP_UNLOCKED;
    if (lock == LOCKSTEP_LOCK_SNAPSHOT)
        return conn_reading(conn) ? LOCKSTEP_SHARED : LOCKSTEP_UNLOCKED;
    if (lock == LOCKSTEP_LOCK_WORK)
        return lks_work_held(conn->db, conn->reader.connection) ? LOCKSTEP_EXCLUSIVE : LOCKSTEP_UNLOCKED;
    if (lock == LOCKSTEP_LOCK_CLIENT + conn->db->client)
        return LOCKSTEP_EXCLUSIVE;
    return lock <= LOCKSTEP_LOCK_DMS3 || lock == LOCKSTEP_LOCK_WORKER
               ? (enum lockstep_lock_mode)lks_lockset_mode(&conn->db->locks, (enum lks_lock_byte)lock)
               : LOCKSTEP_UNLOCKED;
}

struct line {
    char *buf;
    size_t size, length;
};

static void
add(struct line *line, const char *name, const char *value)
{
    size_t room = line->length < line->size ? line->size - line->length : 0;
    int n = snprintf(room > 0 ? line->buf + line->length : NULL, room, " %s=%s", name, value);
    line->length += n > 0 ? (size_t)n : 0;
}

size_t
lockstep_conn_locks(const struct lockstep_conn *conn, char *buf, size_t size_bytes)
{
    static const char *const modes[] = {"", "shared", "exclusive"};
    struct line line = {buf, buf != NULL ? size_bytes : 0, 0};
    const uint32_t locks[] = {
        LOCKSTEP_LOCK_DMS1, LOCKSTEP_LOCK_DMS2, LOCKSTEP_LOCK_DMS3, LOCKSTEP_LOCK_WORKER, LOCKSTEP_LOCK_WORK,
        conn_usable(conn) ? LOCKSTEP_LOCK_CLIENT + conn->db->client : 0, LOCKSTEP_LOCK_WRITER,
    };
    char text[24], name[16];
    int n;
    size_t i;
    if (!conn_usable(conn)) {
        n = snprintf(line.buf, line.size, "no connection");
        return n > 0 ? (size_t)n : 0;
    }
    n = snprintf(line.buf, line.size, "conn %u:", (unsigned)conn->reader.connection);
    line.length = n > 0 ? (size_t)n : 0;
    for (i = 0; i < sizeof locks / sizeof locks[0]; i++) {
        enum lockstep_lock_mode mode = lockstep_conn_holds(conn, locks[i]);
        if (mode != LOCKSTEP_UNLOCKED)
            add(&line, lks_holder_lock_name(locks[i], name), modes[mode]);
    }
    if (conn->place.entry < LKS_MAX_WAITERS)
        add(&line, "WRITER", "waiting");
    if (conn_reading(conn)) {
        snprintf(text, sizeof text, "%llu", (unsigned long long)conn->reader.snapshot);
        add(&line, "snapshot", text);
    }
    return line.length;
}

int
lockstep_conn_assert_lock(const struct lockstep_conn *conn, uint32_t lock, enum lockstep_lock_mode mode)
{
    enum lockstep_lock_mode held = lockstep_conn_holds(conn, lock);
    int holds = mode == LOCKSTEP_UNLOCKED ? held == LOCKSTEP_UNLOCKED : held >= mode;
#ifdef LKS_DEBUG
    if (!holds) {
        char line[256], buf[16];
        const char *name = lks_holder_lock_name(lock, buf);
        (void)lockstep_conn_locks(conn, line, sizeof line);
        fprintf(stderr, "lockstep: %s is not %s: %s\n", name != NULL ? name : "a lock that does not exist",
                mode == LOCKSTEP_UNLOCKED ? "free" : mode == LOCKSTEP_SHARED ? "held" : "held exclusively",
                line);
        abort();
    }
#endif
    return holds;
}
