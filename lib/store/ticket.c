#include "store/ticket.h"

#include "base/clock.h"
#include "base/crashpoint.h"
#include "os/futex.h"
#include "store/batch.h"
#include "store/store.h"
#include "store/worker.h"

/* Without progress for so long the waiter looks whether there is a worker at all. */
#define LOOK_NS (20 * LKS_NS_PER_MS)

static enum lockstep_status
failure(const struct lks_shm_state *state)
{
    int error = (int)lks_a32_relaxed(&state->last_errno);
    enum lockstep_status status = lks_os_status(error);
    lks_os_set_errno(error);
    return status == LOCKSTEP_FULL ? status : LOCKSTEP_IOERR;
}

enum lockstep_status
lks_ticket_wait(struct lockstep_db *db, uint64_t ticket, int timeout_ms)
{
    struct lks_shm_state *state = &db->shm->state;
    uint64_t failures = lks_a64_relaxed(&state->failures);
    uint64_t deadline = timeout_ms < 0 ? UINT64_MAX
                                       : lks_clock_ns() + (uint64_t)timeout_ms * LKS_NS_PER_MS;
    bool look = lks_a32_relaxed(&state->worker) == 0;

    if (ticket > lks_a64_acquire(&state->committed))
        return LOCKSTEP_MISUSE;
    lks_a64_max(&state->sync_wanted, ticket);
    LKS_CRASH_POINT("ticket:asked");
    /* Acquire: pairs with the release in publish_flushed(). */
    while (lks_a64_acquire(&state->durable) < ticket) {
        uint32_t seen = lks_a32_seq(&state->flush_bell);
        uint64_t now = lks_clock_ns(), wait_ns = LOOK_NS;

        /* The first failure may be of a batch that began before we asked. */
        if (lks_a64_relaxed(&state->failures) > failures + 1)
            return failure(state);
        if (now >= deadline)
            return LOCKSTEP_TIMEOUT;
        if (look || lks_lockset_holds(&db->locks, LKS_BYTE_WORKER)) {
            enum lockstep_status status = lks_batch_run(db, NULL);
            look = false;
            if (status == LOCKSTEP_OK)
                continue;
            /* The codes are those that it would have got from another's batch, see failure(). */
            if (status != LOCKSTEP_BUSY)
                return status == LOCKSTEP_FULL || status == LOCKSTEP_NOMEM ? status : LOCKSTEP_IOERR;
            /* Stock readers, another thread's batch, or another process is the worker. */
            wait_ns = 2 * LKS_NS_PER_MS;
        }
        lks_worker_ring(db);
        if (lks_a64_acquire(&state->durable) >= ticket)
            break;
        if (deadline - now < wait_ns)
            wait_ns = deadline - now;
        lks_futex_wait(&state->flush_bell, seen, wait_ns);
        look = lks_a32_relaxed(&state->flush_bell) == seen || lks_a32_relaxed(&state->worker) == 0;
    }
    return LOCKSTEP_OK;
}

static void
lend(struct lockstep_db *db, bool lent)
{
    struct lks_store *store = lks_store_of(db);
    /* The mutex: no batch is in the middle of it when it is taken back. */
    lks_mutex_lock(&store->batch_mutex);
    store->lent = lent;
    lks_mutex_unlock(&store->batch_mutex);
}

enum lockstep_status
lks_ticket_wait_lending(struct lockstep_db *db, uint64_t ticket, int timeout_ms)
{
    enum lockstep_status status;
    lend(db, true);
    status = lks_ticket_wait(db, ticket, timeout_ms);
    lend(db, false);
    return status;
}
