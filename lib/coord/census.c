#include "coord/census.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <lockstep/inspect.h>

#include "base/clock.h"
#include "coord/queue.h"

#include "shm/chunk.h"

/* How often a word that belongs with others is looked at again before the others are given up. */
#define LOOKS 16

__attribute__((format(printf, 2, 3))) static void
damaged(struct lks_census *census, const char *format, ...)
{
    va_list args;
    if (census->damage[0] != '\0')
        return;
    va_start(args, format);
    vsnprintf(census->damage, sizeof census->damage, format, args);
    va_end(args);
}

/* Stamps of the coarse clock are some milliseconds behind, and one set after `now` was read is ahead. */
static uint64_t
age(uint64_t now_ns, uint64_t since_ns)
{
    if (since_ns == 0)
        return LOCKSTEP_UNKNOWN;
    if (since_ns > now_ns)
        return since_ns - now_ns < 1000 * LKS_NS_PER_MS ? 0 : LOCKSTEP_UNKNOWN;
    return now_ns - since_ns;
}

static void
read_client(const struct lks_shm_client *shared, uint64_t now_ns, struct lks_census_client *client)
{
    uint64_t name[4];
    uint32_t pid;
    memset(client, 0, sizeof *client);
    for (int look = 0; look < LOOKS; look++) {
        /* Acquire: pairs with the release of pid, which its owner stores last. */
        pid = lks_a32_acquire(&shared->pid);
        client->start_time = lks_a64_relaxed(&shared->start_time);
        client->pid_namespace = lks_a64_relaxed(&shared->pid_namespace);
        client->connections = lks_a32_relaxed(&shared->connections);
        client->readonly = (lks_a32_relaxed(&shared->flags) & LKS_CLIENT_READONLY) != 0;
        client->age_ns = age(now_ns, lks_a64_relaxed(&shared->since_ns));
        for (size_t i = 0; i < 4; i++)
            name[i] = lks_a64_relaxed(&shared->program[i]);
        lks_fence_acquire();
        if (lks_a32_relaxed(&shared->pid) == pid)
            break;
    }
    _Static_assert(sizeof name == sizeof client->program, "the name is copied whole");
    memcpy(client->program, name, sizeof name);
    client->program[sizeof client->program - 1] = '\0';
    client->pid = pid <= INT32_MAX ? (int32_t)pid : 0;
    client->used = pid != 0;
}

/* False: the slot is free. */
static bool
read_slot(const struct lks_shm_slot *slot, uint64_t now_ns, uint64_t *out_word,
          struct lks_census_reader *out_reader)
{
    struct lks_census_reader reader = {.age_ns = LOCKSTEP_UNKNOWN};
    uint64_t word = 0;
    for (int look = 0; look < LOOKS; look++) {
        uint64_t since_ns;
        uint32_t thread, connection;
        /* Acquire: pairs with the release in lks_reader_claim(). */
        word = lks_a64_acquire(&slot->word);
        if (lks_slot_state_of(word) == LKS_SLOT_FREE)
            return false;
        since_ns = lks_a64_relaxed(&slot->since_ns);
        thread = lks_a32_relaxed(&slot->thread);
        connection = lks_a32_relaxed(&slot->connection);
        lks_fence_acquire();
        if (lks_a64_relaxed(&slot->word) != word)
            continue;
        /* A claim that is not active yet still has the fields of whoever was here before. */
        if (lks_slot_state_of(word) == LKS_SLOT_ACTIVE) {
            reader.age_ns = age(now_ns, since_ns);
            reader.thread = (int32_t)thread;
            reader.connection = connection;
        }
        break;
    }
    reader.client = lks_slot_client(word);
    reader.snapshot = lks_slot_snapshot(word);
    *out_word = word;
    *out_reader = reader;
    return true;
}

static int
by_snapshot(const void *a, const void *b)
{
    const struct lks_census_reader *x = a, *y = b;
    if (x->snapshot != y->snapshot)
        return x->snapshot < y->snapshot ? -1 : 1;
    if (x->worker != y->worker)
        return x->worker ? 1 : -1;
    return x->client < y->client ? -1 : x->client > y->client;
}

static void
read_slots(const struct lks_shm *shm, uint64_t now_ns, struct lks_census *census)
{
    for (uint32_t i = 0; i < LKS_MAX_SLOTS; i++) {
        struct lks_census_reader reader;
        uint64_t word;
        if (!read_slot(&shm->slots[i], now_ns, &word, &reader))
            continue;
        if (census->wal && lks_slot_state_of(word) == LKS_SLOT_CLAIMING)
            continue; /* connected, and not in a transaction */
        if (reader.client >= LKS_MAX_CLIENTS || lks_slot_state_of(word) > LKS_SLOT_ACTIVE) {
            damaged(census, "reader slot %u holds 0x%llx, which cannot be", (unsigned)i,
                    (unsigned long long)word);
            continue;
        }
        reader.worker = i == LKS_WORKER_SLOT;
        census->readers[census->reader_count++] = reader;
    }
    qsort(census->readers, census->reader_count, sizeof census->readers[0], by_snapshot);
}

/*
 * False: the entry is free, or its owner has been away for so long that the lock is not handed to it any
 * more; see lks_place_first().
 */
static bool
read_waiter(const struct lks_shm_waiter *entry, uint64_t now_ns, uint32_t *out_word,
            struct lks_census_waiter *out_waiter)
{
    struct lks_census_waiter waiter = {0};
    uint64_t touched_ns = 0;
    uint32_t word = 0;
    for (int look = 0; look < LOOKS; look++) {
        /* Acquire: pairs with the release that made the entry WAITING. */
        word = lks_a32_acquire(&entry->word);
        if (lks_waiter_state_of(word) == LKS_WAITER_FREE ||
            lks_waiter_state_of(word) == LKS_WAITER_ENTERING)
            return false;
        waiter.sequence = lks_a64_relaxed(&entry->sequence);
        waiter.thread = (int32_t)lks_a32_relaxed(&entry->thread);
        waiter.connection = lks_a32_relaxed(&entry->connection);
        waiter.age_ns = age(now_ns, lks_a64_relaxed(&entry->since_ns));
        touched_ns = lks_a64_relaxed(&entry->touched_ns);
        lks_fence_acquire();
        if (lks_a32_relaxed(&entry->word) == word)
            break;
    }
    if (lks_waiter_state_of(word) == LKS_WAITER_AWAY && now_ns > touched_ns &&
        now_ns - touched_ns > LKS_RESERVED_NS)
        return false;
    waiter.client = lks_waiter_client(word);
    *out_word = word;
    *out_waiter = waiter;
    return true;
}

static int
by_sequence(const void *a, const void *b)
{
    const struct lks_census_waiter *x = a, *y = b;
    return x->sequence < y->sequence ? -1 : x->sequence > y->sequence;
}

static void
read_waiters(const struct lks_shm *shm, uint64_t now_ns, struct lks_census *census)
{
    for (uint32_t i = 0; i < LKS_MAX_WAITERS; i++) {
        struct lks_census_waiter waiter;
        uint32_t word;
        if (!read_waiter(&shm->waiters[i], now_ns, &word, &waiter))
            continue;
        if (waiter.client >= LKS_MAX_CLIENTS || lks_waiter_state_of(word) > LKS_WAITER_AWAY) {
            damaged(census, "waiter %u holds 0x%x, which cannot be", (unsigned)i, (unsigned)word);
            continue;
        }
        census->waiters[census->waiter_count++] = waiter;
    }
    qsort(census->waiters, census->waiter_count, sizeof census->waiters[0], by_sequence);
}

static void
read_writer(const struct lks_shm_state *state, uint64_t now_ns, struct lks_census *census)
{
    uint64_t word = 0;
    census->writer_age_ns = LOCKSTEP_UNKNOWN;
    for (int look = 0; look < LOOKS; look++) {
        uint64_t since_ns, reserved_ns;
        uint32_t thread, connection;
        /* Acquire: pairs with the CAS that took the lock. */
        word = lks_a64_acquire(&state->writer);
        since_ns = lks_a64_relaxed(&state->writer_since_ns);
        reserved_ns = lks_a64_relaxed(&state->reserved_ns);
        thread = lks_a32_relaxed(&state->writer_thread);
        connection = lks_a32_relaxed(&state->writer_connection);
        lks_fence_acquire();
        if (lks_a64_relaxed(&state->writer) != word)
            continue;
        if (lks_writer_state_of(word) == LKS_WRITER_OWNED) {
            census->writer_age_ns = age(now_ns, since_ns);
            census->writer_thread = (int32_t)thread;
            census->writer_connection = connection;
        } else if (lks_writer_state_of(word) == LKS_WRITER_RESERVED) {
            census->writer_age_ns = age(now_ns, reserved_ns);
        }
        break;
    }
    census->writer_state = lks_writer_state_of(word);
    census->writer_client = lks_writer_client(word);
    if (census->writer_state != LKS_WRITER_FREE &&
        (census->writer_client >= LKS_MAX_CLIENTS || census->writer_state > LKS_WRITER_RESERVED)) {
        damaged(census, "the writer lock holds 0x%llx, which cannot be", (unsigned long long)word);
        census->writer_state = LKS_WRITER_FREE;
        census->writer_age_ns = LOCKSTEP_UNKNOWN;
    }
}

/*
 * Since when the oldest commit that is not durable waits: its entry in the ring tells, or, when more wait
 * than the ring remembers, what the worker has noted.
 */
static void
read_pending_age(const struct lks_shm *shm, uint64_t now_ns, struct lks_census *census)
{
    uint64_t id = census->durable + 1, time_ns;
    const struct lks_shm_commit *commit = &shm->ring[id % LKS_RING_SIZE];
    census->pending_age_ns = LOCKSTEP_UNKNOWN;
    if (census->durable >= census->committed)
        return;
    if (census->wal) {
        census->pending_age_ns = age(now_ns, lks_a64_relaxed(&shm->state.pending_since_ns));
        return;
    }
    /* Acquire: pairs with the release that completed the entry. */
    if (lks_a64_acquire(&commit->id) == id) {
        time_ns = lks_a64_relaxed(&commit->time_ns);
        lks_fence_acquire();
        if (lks_a64_relaxed(&commit->id) == id) {
            census->pending_age_ns = age(now_ns, time_ns);
            return;
        }
    }
    census->pending_age_ns = age(now_ns, lks_a64_relaxed(&shm->state.pending_since_ns));
}

static void
read_state(const struct lks_shm_state *state, struct lks_census *census)
{
    const struct lks_geometry *geometry = lks_geometry_of(lks_a32_acquire(&state->unit_log2));
    uint32_t chunks, used;

    /* What follows comes first, so that S1 holds for what is read here, too. */
    census->durable = lks_a64_acquire(&state->durable);
    census->flushed = lks_a64_acquire(&state->flushed);
    lks_fence_acquire();
    census->committed = lks_a64_acquire(&state->committed);
    if (census->durable > census->committed || census->flushed > census->committed)
        damaged(census, "the file says that commit %llu is flushed and %llu durable, but only %llu made",
                (unsigned long long)census->flushed, (unsigned long long)census->durable,
                (unsigned long long)census->committed);
    used = lks_a32_relaxed(&state->blocks_used);
    chunks = lks_a32_acquire(&state->chunks);
    if (geometry == NULL) {
        damaged(census, "the size of its blocks is none that there is");
    } else {
        census->unit_size = lks_unit_bytes(geometry);
        census->pending_bytes = (uint64_t)used << geometry->unit_log2;
        census->store_bytes = (uint64_t)chunks * LKS_CHUNK_DATA;
        if ((uint64_t)used > (uint64_t)chunks << geometry->per_chunk_log2)
            damaged(census, "it counts %u blocks in use, more than there are", (unsigned)used);
    }
    census->store_limit = lks_a64_relaxed(&state->store_limit);
    census->hard_limit = lks_a64_relaxed(&state->hard_limit);
    census->max_lag_ms = lks_a32_relaxed(&state->max_lag_ms);
    census->batches = lks_a64_relaxed(&state->batches);
    census->failed_batches = lks_a64_relaxed(&state->failures);
    census->last_error = lks_a32_relaxed(&state->last_errno);
    census->tripwire = lks_a32_relaxed(&state->tripwire) != 0;
    census->worker = lks_a32_relaxed(&state->worker) != 0;
}

static void
read_log(const struct lks_shm_state *state, uint64_t now_ns, struct lks_census *census)
{
    uint32_t leader = (uint32_t)lks_a64_acquire(&state->sync_leader) & 0xfffu;
    census->sync_leader = leader != 0 && leader <= LKS_MAX_CLIENTS ? leader - 1 : LKS_MAX_CLIENTS;
    census->sync_age_ns = age(now_ns, lks_a64_relaxed(&state->sync_since_ns));
    census->log_frames = lks_a32_relaxed(&state->log_frames);
    census->log_backfilled = lks_a32_relaxed(&state->log_backfilled);
    census->log_bytes = lks_a64_relaxed(&state->log_bytes);
    census->poison = lks_a32_acquire(&state->poison);
    census->checkpoints = lks_a64_relaxed(&state->checkpoints);
    census->syncs = lks_a64_relaxed(&state->syncs);
}

void
lks_census_take(const struct lks_shm *shm, uint64_t now_ns, struct lks_census *out_census)
{
    memset(out_census, 0, sizeof *out_census);
    out_census->wal = lks_a32_relaxed(&shm->state.mode) == LKS_MODE_WAL;
    read_writer(&shm->state, now_ns, out_census);
    read_waiters(shm, now_ns, out_census);
    read_slots(shm, now_ns, out_census);
    read_state(&shm->state, out_census);
    read_pending_age(shm, now_ns, out_census);
    if (out_census->wal)
        read_log(&shm->state, now_ns, out_census);
    for (uint32_t i = 0; i < LKS_MAX_CLIENTS; i++)
        read_client(&shm->clients[i], now_ns, &out_census->clients[i]);
}
