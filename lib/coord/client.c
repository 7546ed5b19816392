#include "coord/client.h"

#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/crashpoint.h"
#include "base/log.h"
#include "coord/groupsync.h"
#include "coord/queue.h"
#include "os/proclocks.h"

static void
write_program(struct lks_shm_client *entry, const char *program)
{
    uint64_t words[4] = {0};
    size_t i;
    memcpy(words, program, strnlen(program, sizeof words - 1));
    for (i = 0; i < 4; i++)
        lks_a64_set_relaxed(&entry->program[i], words[i]);
}

/*
 * The caller holds CLIENT(client), so nobody can come to life in this entry.  The order does not matter to
 * anybody: each thing that is cleared blocked somebody, none is leaned upon.
 */
static enum lockstep_status
clear_remains(struct lockstep_db *db, uint32_t client)
{
    struct lks_shm *shm = db->shm;
    uint32_t high = lks_a32_acquire(&shm->state.slots_high);
    uint32_t i;

    enum lockstep_status status = lks_queue_take_over(db, client);
    if (status != LOCKSTEP_OK)
        return status;
    for (i = 0; i <= high && i < LKS_MAX_SLOTS; i++) {
        uint64_t word = lks_a64_acquire(&shm->slots[i].word);
        if (lks_slot_state_of(word) != LKS_SLOT_FREE && lks_slot_client(word) == client) {
            /* The walk first: with the word the slot may become another's. */
            lks_a64_set_release(&shm->slots[i].walk, 0);
            lks_a64_cas(&shm->slots[i].word, word, 0);
        }
    }
    for (i = 0; i < LKS_MAX_WAITERS; i++) {
        uint32_t word = lks_a32_acquire(&shm->waiters[i].word);
        if (lks_waiter_state_of(word) != LKS_WAITER_FREE && lks_waiter_client(word) == client)
            lks_a32_cas(&shm->waiters[i].word, word, 0);
    }
    lks_groupsync_forget(db, client);
    lks_a32_set_relaxed(&shm->clients[client].standby, LKS_STANDBY_NONE);
    LKS_CRASH_POINT("client:cleared");
    lks_a32_set_release(&shm->clients[client].pid, 0);
    return LOCKSTEP_OK;
}

bool
lks_client_reap(struct lockstep_db *db, uint32_t client)
{
    bool dead;
    if (client >= LKS_MAX_CLIENTS || client == db->client)
        return false;
    if (lks_lockset_client_lives(&db->locks, client))
        return false;
    lks_mutex_lock(&db->reap_mutex);
    dead = lks_lockset_take_client(&db->locks, client) == LOCKSTEP_OK;
    if (dead) {
        if (lks_a32_acquire(&db->shm->clients[client].pid) != 0) {
            char who[96];
            lks_client_describe(db, client, who, sizeof who);
            lks_log(LKS_NOTICE, "%s: client %u, %s, died; clearing what it left", db->path, client,
                    who);
        }
        dead = clear_remains(db, client) == LOCKSTEP_OK;
        lks_lockset_drop_client(&db->locks, client);
    }
    lks_mutex_unlock(&db->reap_mutex);
    return dead;
}

bool
lks_client_reap_readers(struct lockstep_db *db, uint64_t snapshot)
{
    struct lks_shm *shm = db->shm;
    uint32_t high = lks_a32_acquire(&shm->state.slots_high);
    bool any = false;
    uint32_t i;
    for (i = 0; i <= high && i < LKS_MAX_SLOTS; i++) {
        uint64_t word = lks_a64_acquire(&shm->slots[i].word);
        if (lks_slot_state_of(word) != LKS_SLOT_FREE && lks_slot_snapshot(word) < snapshot &&
            lks_client_reap(db, lks_slot_client(word)))
            any = true;
    }
    return any;
}

bool
lks_client_another_copy(const struct lockstep_db *db)
{
    struct lks_file_stat stat;
    if (lks_file_stat_path(db->coord_path, &stat) != LOCKSTEP_OK)
        return false;
    return lks_proclocks_own(&stat.id, LKS_LOCK_BASE);
}

enum lockstep_status
lks_client_enter(struct lockstep_db *db)
{
    struct lks_shm *shm = db->shm;
    uint32_t i;

    for (i = 0; i < LKS_MAX_CLIENTS; i++) {
        struct lks_shm_client *entry = &shm->clients[i];
        enum lockstep_status status = lks_lockset_take_client(&db->locks, i);
        if (status == LOCKSTEP_BUSY)
            continue;
        if (status != LOCKSTEP_OK)
            return status;
        db->client = i;
        status = clear_remains(db, i);
        if (status != LOCKSTEP_OK)
            return status;
        lks_a64_set_relaxed(&entry->start_time, db->self.start_time);
        lks_a64_set_relaxed(&entry->pid_namespace, db->self.pid_namespace);
        lks_a64_set_relaxed(&entry->since_ns, lks_clock_ns());
        lks_a32_set_relaxed(&entry->flags, db->readonly ? LKS_CLIENT_READONLY : 0);
        lks_a32_set_relaxed(&entry->connections, 0);
        write_program(entry, db->self.program);
        lks_a32_set_release(&entry->pid, (uint32_t)db->self.pid);
        LKS_CRASH_POINT("client:entered");
        return LOCKSTEP_OK;
    }
    lks_log(LKS_ERROR,
            "%s: all %u client entries are taken: so many processes are connected; let some close it, "
            "or share one process's connection",
            db->path, LKS_MAX_CLIENTS);
    return LOCKSTEP_NOMEM;
}

void
lks_client_leave(struct lockstep_db *db)
{
    (void)clear_remains(db, db->client);
    lks_lockset_drop_client(&db->locks, db->client);
    db->client = LKS_MAX_CLIENTS;
}

void
lks_client_retire(struct lockstep_db *db)
{
    struct lks_shm *shm = db->shm;
    uint64_t since_ns;
    uint32_t i;
    for (i = 0; i < LKS_MAX_SLOTS; i++) {
        uint64_t word = lks_a64_acquire(&shm->slots[i].word);
        if (lks_slot_state_of(word) != LKS_SLOT_FREE && lks_slot_client(word) == db->client)
            return;
    }
    if (lks_queue_owner(db, &since_ns) != db->client)
        lks_a32_set_release(&shm->clients[db->client].pid, 0);
}

void
lks_client_describe(const struct lockstep_db *db, uint32_t client, char *out, size_t capacity)
{
    const struct lks_shm_client *entry;
    uint64_t words[4];
    const char *state = "";
    size_t i;
    int32_t pid;
    if (client >= LKS_MAX_CLIENTS) {
        snprintf(out, capacity, "an unknown client");
        return;
    }
    entry = &db->shm->clients[client];
    pid = (int32_t)lks_a32_acquire(&entry->pid);
    for (i = 0; i < 4; i++)
        words[i] = lks_a64_relaxed(&entry->program[i]);
    if (lks_a64_relaxed(&entry->pid_namespace) == db->self.pid_namespace)
        switch (lks_process_state(pid)) {
        case 'T':
        case 't': state = ", stopped"; break;
        case 0: state = ", dead"; break;
        default: break;
        }
    snprintf(out, capacity, "%.31s (pid %d%s)", (const char *)words, (int)pid, state);
}

bool
lks_client_read(struct lockstep_db *db, uint32_t client, struct lockstep_client *out)
{
    const struct lks_shm_client *entry = &db->shm->clients[client];
    uint32_t pid = lks_a32_acquire(&entry->pid);
    uint64_t words[4], now = lks_clock_ns(), since;
    int32_t holder = 0;
    int i;
    if (pid == 0)
        return false;
    memset(out, 0, sizeof *out);
    out->slot = client;
    out->pid = pid <= INT32_MAX ? (int32_t)pid : 0;
    out->readonly = (lks_a32_relaxed(&entry->flags) & LKS_CLIENT_READONLY) != 0;
    out->self = client == db->client;
    since = lks_a64_relaxed(&entry->since_ns);
    out->age_ns = now > since ? now - since : 0;
    for (i = 0; i < 4; i++)
        words[i] = lks_a64_relaxed(&entry->program[i]);
    memcpy(out->program, words, sizeof out->program);
    out->program[sizeof out->program - 1] = '\0';
    lks_fence_acquire();
    /* It has left, or another has come: then that one came just now. */
    if (lks_a32_relaxed(&entry->pid) != pid)
        return false;
    if (out->self)
        out->alive = 1;
    else if (lks_lockset_holder(&db->locks, LKS_BYTE_CLIENT0 + client, LKS_LOCK_EXCLUSIVE, &holder) !=
             LOCKSTEP_OK)
        out->alive = 1; /* when the system will not say, nobody is declared dead */
    else
        out->alive = holder != 0;
    if (holder > 0)
        out->pid = holder;
    return true;
}
