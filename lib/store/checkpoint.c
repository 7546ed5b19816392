#include "store/checkpoint.h"

#include "store/ticket.h"

enum lockstep_status
lks_checkpoint(struct lockstep_db *db, uint64_t *out_bytes)
{
    struct lks_shm_state *state = &db->shm->state;
    uint64_t target = lks_a64_acquire(&state->committed);
    uint64_t before = lks_a64_relaxed(&state->written_bytes);
    /* In this thread, where this process is the worker or there is none. */
    enum lockstep_status status = lks_ticket_wait(db, target, -1);
    if (status == LOCKSTEP_OK)
        /* The wait acquired `durable`: what the batch that raised it had counted is there. */
        *out_bytes = lks_a64_relaxed(&state->written_bytes) - before;
    return status;
}
