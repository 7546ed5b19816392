#include "coord/standby.h"

#include <assert.h>

#include "base/crashpoint.h"
#include "os/futex.h"

static struct lks_shm_client *
entry_of(const struct lockstep_db *db, uint32_t client)
{
    assert(client < LKS_MAX_CLIENTS);
    return &db->shm->clients[client];
}

static void
ring(struct lks_shm_client *entry)
{
    lks_a32_add(&entry->bell, 1);
    lks_futex_wake(&entry->bell, UINT32_MAX);
}

uint32_t
lks_standby_bell(const struct lockstep_db *db)
{
    return lks_a32_seq(&entry_of(db, db->client)->bell);
}

uint32_t
lks_standby_arm(struct lockstep_db *db)
{
    uint32_t seen = lks_standby_bell(db);
    lks_a32_set_relaxed(&entry_of(db, db->client)->standby, LKS_STANDBY_IDLE);
    /* Pairs with the fences of those who ring. */
    lks_fence();
    return seen;
}

void
lks_standby_watch(struct lockstep_db *db)
{
    /* CAS: who has rung meanwhile has taken it away, and the sleep does not begin. */
    (void)lks_a32_cas(&entry_of(db, db->client)->standby, LKS_STANDBY_IDLE, LKS_STANDBY_WATCHING);
}

void
lks_standby_disarm(struct lockstep_db *db)
{
    lks_a32_set_relaxed(&entry_of(db, db->client)->standby, LKS_STANDBY_NONE);
}

void
lks_standby_sleep(struct lockstep_db *db, uint32_t seen, uint64_t wait_ns)
{
    lks_futex_wait(&entry_of(db, db->client)->bell, seen, wait_ns);
    lks_standby_disarm(db);
}

static void
ring_if(struct lks_shm_client *entry, uint32_t standby)
{
    if (lks_a32_cas(&entry->standby, standby, LKS_STANDBY_NONE))
        ring(entry);
}

void
lks_standby_notice(struct lockstep_db *db, uint32_t client)
{
    struct lks_shm_client *entry = entry_of(db, client);
    if (lks_a32_relaxed(&entry->standby) == LKS_STANDBY_IDLE)
        ring_if(entry, LKS_STANDBY_IDLE);
}

void
lks_standby_call(struct lockstep_db *db)
{
    int32_t holder = 0;
    uint32_t i;
    if (db->alone || lks_lockset_holds(&db->locks, LKS_BYTE_WORKER))
        return;
    /* A full fence, as every call on a lock of the coordination file. */
    if (lks_lockset_holder(&db->locks, LKS_BYTE_WORKER, LKS_LOCK_EXCLUSIVE, &holder) != LOCKSTEP_OK || holder != 0)
        return;
    LKS_CRASH_POINT("standby:calling");
    for (i = 0; i < LKS_MAX_CLIENTS; i++) {
        struct lks_shm_client *entry = entry_of(db, i);
        uint32_t standby = lks_a32_relaxed(&entry->standby);
        if (standby != LKS_STANDBY_NONE && i != db->client)
            ring_if(entry, standby);
    }
}

void
lks_standby_wake(struct lockstep_db *db)
{
    struct lks_shm_client *entry = entry_of(db, db->client);
    lks_standby_disarm(db);
    ring(entry);
}
