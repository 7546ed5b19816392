#include "coord/holder.h"

#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "coord/client.h"
#include "coord/queue.h"

_Static_assert(LOCKSTEP_LOCK_DMS1 == (int)LKS_BYTE_DMS1 && LOCKSTEP_LOCK_DMS2 == (int)LKS_BYTE_DMS2 &&
                   LOCKSTEP_LOCK_DMS3 == (int)LKS_BYTE_DMS3 &&
                   LOCKSTEP_LOCK_WORKER == (int)LKS_BYTE_WORKER && LOCKSTEP_LOCK_WORK == (int)LKS_BYTE_WORK &&
                   LOCKSTEP_LOCK_CLIENT == (int)LKS_BYTE_CLIENT0,
               "locks are called by their bytes");

const char *
lks_holder_lock_name(uint32_t lock, char buf[16])
{
    switch (lock) {
    case LOCKSTEP_LOCK_DMS1: return "DMS1";
    case LOCKSTEP_LOCK_DMS2: return "DMS2";
    case LOCKSTEP_LOCK_DMS3: return "DMS3";
    case LOCKSTEP_LOCK_WORKER: return "WORKER";
    case LOCKSTEP_LOCK_WORK: return "WORK";
    case LOCKSTEP_LOCK_WRITER: return "WRITER";
    case LOCKSTEP_LOCK_SNAPSHOT: return "SNAPSHOT";
    default: break;
    }
    if (lock < LOCKSTEP_LOCK_CLIENT || lock >= LOCKSTEP_LOCK_CLIENT + LKS_MAX_CLIENTS)
        return NULL;
    snprintf(buf, 16, "CLIENT(%u)", (unsigned)(lock - LOCKSTEP_LOCK_CLIENT));
    return buf;
}

static void
describe(const struct lockstep_client *client, struct lockstep_lock_holder *out)
{
    out->pid = client->pid;
    out->slot = client->slot;
    out->alive = client->alive;
    memcpy(out->program, client->program, sizeof out->program);
}

/* Of the clients, the one with that pid, which holds a byte. */
static void
describe_process(struct lockstep_db *db, int32_t pid, struct lockstep_lock_holder *out)
{
    uint32_t i;
    out->pid = pid > 0 ? pid : 0;
    out->alive = 1;
    for (i = 0; i < LKS_MAX_CLIENTS && pid > 0; i++) {
        struct lockstep_client client;
        if (lks_a32_relaxed(&db->shm->clients[i].pid) == 0 || !lks_client_read(db, i, &client) ||
            client.pid != pid)
            continue;
        describe(&client, out);
        return;
    }
}

static enum lockstep_status
find_writer(struct lockstep_db *db, struct lockstep_lock_holder *out)
{
    uint64_t since = 0, now;
    uint32_t owner = lks_queue_owner(db, &since);
    struct lockstep_client client;
    if (owner >= LKS_MAX_CLIENTS)
        return LOCKSTEP_OK;
    now = lks_clock_ns();
    out->slot = owner;
    out->alive = 1;
    if (lks_client_read(db, owner, &client))
        describe(&client, out);
    /* A hint: it may have changed hands since. */
    out->connection = lks_a32_relaxed(&db->shm->state.writer_connection);
    out->held_ns = since != 0 && now > since ? now - since : 0;
    return LOCKSTEP_BUSY;
}

enum lockstep_status
lks_holder_find(struct lockstep_db *db, uint32_t lock, bool exclusive, struct lockstep_lock_holder *out)
{
    int32_t pid = 0;
    enum lockstep_status status;
    memset(out, 0, sizeof *out);
    out->slot = UINT32_MAX;
    if (lock == LOCKSTEP_LOCK_WRITER)
        return find_writer(db, out);
    if (lock == LOCKSTEP_LOCK_WORK && (out->connection = lks_a32_acquire(&db->work_owner)) != 0) {
        struct lockstep_client client;
        if (lks_client_read(db, db->client, &client))
            describe(&client, out);
        return LOCKSTEP_BUSY;
    }
    status = lks_lockset_holder(&db->locks, lock, exclusive ? LKS_LOCK_EXCLUSIVE : LKS_LOCK_SHARED, &pid);
    if (status != LOCKSTEP_OK || pid == 0)
        return status;
    describe_process(db, pid, out);
    return LOCKSTEP_BUSY;
}
