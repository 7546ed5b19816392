#include "store/space.h"

#include "base/clock.h"
#include "store/sweep.h"
#include "store/worker.h"

/* With so many slots in use a scan is cheap enough for every transaction, else for one in SCAN_EVERY. */
#define CHEAP_SLOTS 8u
#define SCAN_EVERY 8u
/* A sweep of everything once so many blocks are in use: keeps the store small and in the caches. */
#define SWEEP_BYTES (8u << 20)
/* How long a connection in exclusive mode waits for space before it uses the hard limit. */
#define MAX_SPACE_WAIT_NS (5000 * LKS_NS_PER_MS)
/* A transaction that ends and lets versions go rings no bell. */
#define MAX_SPACE_NAP_NS (10 * LKS_NS_PER_MS)

enum lockstep_status
lks_space_make(struct lockstep_conn *conn)
{
    struct lockstep_db *db = conn->db;
    const struct lks_shm_state *state = &db->shm->state;
    uint64_t limit = lks_a64_relaxed(&state->store_limit);
    uint64_t used = lks_store_used_bytes(db);
    enum lockstep_status status = LOCKSTEP_OK;

    if (conn->scans_left == 0 || db->horizon.floor == 0) {
        lks_horizon_scan(db->shm, &db->horizon);
        conn->scans_left =
            lks_a32_relaxed(&state->slots_high) <= CHEAP_SLOTS ? 0 : SCAN_EVERY;
    } else {
        conn->scans_left--;
    }
    status = lks_store_trim(db, conn->g);
    /*
     * A sweep is due when much is in use and something was written behind since the last one, or when it
     * is late.
     */
    if (status == LOCKSTEP_OK && used >= SWEEP_BYTES && used > limit / 8 &&
        lks_a64_relaxed(&state->swept_flushed) != lks_a64_acquire(&state->flushed))
        status = lks_sweep(db, conn->g);
    if (status == LOCKSTEP_OK && lks_store_used_bytes(db) > limit / 4 * 3) {
        /* Also when nothing was committed or flushed: a transaction may have ended that held versions. */
        status = lks_sweep(db, conn->g);
        if (status == LOCKSTEP_OK && lks_store_used_bytes(db) > limit / 4 * 3) {
            conn->store_full = true;
            status = LOCKSTEP_BUSY;
        }
    }
    return status;
}

void
lks_space_wait(struct lockstep_conn *conn, uint64_t end_ns)
{
    struct lockstep_db *db = conn->db;
    struct lks_shm_state *state = &db->shm->state;
    struct lks_horizon before, now;
    uint64_t time_ns = lks_clock_ns();
    lks_horizon_scan(db->shm, &before);
    do {
        uint32_t seen = lks_a32_seq(&state->flush_bell);
        uint64_t left_ns = end_ns > time_ns ? end_ns - time_ns : 0;
        if (lks_a64_acquire(&state->flushed) != lks_a64_relaxed(&state->swept_flushed))
            return;
        lks_worker_await(db, seen, left_ns < MAX_SPACE_NAP_NS ? left_ns : MAX_SPACE_NAP_NS);
        lks_horizon_scan(db->shm, &now);
        time_ns = lks_clock_ns();
    } while (time_ns < end_ns && now.count == before.count && now.lowest == before.lowest);
}

void
lks_space_make_waiting(struct lockstep_conn *conn)
{
    struct lks_shm_state *state = &conn->db->shm->state;
    uint64_t deadline = lks_clock_ns() + MAX_SPACE_WAIT_NS;
    while (lks_space_make(conn) == LOCKSTEP_BUSY && lks_clock_ns() < deadline) {
        uint32_t seen = lks_a32_seq(&state->flush_bell);
        if (lks_a64_acquire(&state->flushed) == lks_a64_relaxed(&state->swept_flushed))
            lks_worker_await(conn->db, seen, MAX_SPACE_NAP_NS);
    }
    conn->store_full = false;
}
