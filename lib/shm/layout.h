/*
 * Every byte that processes share: the coordination file "<db>-lockstep".
 *
 *   0                 struct lks_shm: identity, state, clients, slots, waiters, ring, buckets, dirty
 *   LKS_SHM_BYTES     chunk 0, chunk 1, ...: each LKS_CHUNK_DATA / unit descriptors, padded to 4096
 *                     bytes, then as many blocks of one unit each
 *
 * A *unit* is the stretch of the database file that a block holds one version of: the page size of the
 * database, as a rule.  Unit number n covers bytes [n * unit, (n + 1) * unit).  Blocks are numbered from 1
 * through all chunks; 0 means none.
 *
 * Whoever reads a number here checks it against its bound before using it as an index, and bounds every
 * walk, for the file may be damaged.  Changing anything changes LKS_SHM_FORMAT.
 *
 * "holding" below: WRITER is ownership of state.writer; DMS1, WORKER, CLIENT are byte locks.
 */
#ifndef LKS_SHM_LAYOUT_H
#define LKS_SHM_LAYOUT_H

#include <stddef.h>
#include <stdint.h>

#include "base/atomic.h"

#define LKS_SHM_MAGIC "Lockstep coord\n" /* 16 bytes with its NUL */
#define LKS_SHM_FORMAT 4u
#define LKS_SHM_SUFFIX "-lockstep"

#define LKS_MAX_CLIENTS 256u
#define LKS_MAX_SLOTS 1024u /* slot 0 is the worker's */
#define LKS_MAX_WAITERS 512u
#define LKS_RING_SIZE 256u
#define LKS_MAX_BUCKETS 65536u
#define LKS_CHUNK_DATA (1024u * 1024u)
#define LKS_WORKER_SLOT 0u
#define LKS_CACHE_LINE 64u

/*
 * Byte-range locks on the coordination file, POSIX record locks of the process.  Far beyond its end.  None is waited
 * for while another is held but DMS1, which is taken first.  3 and 5 are nobody's: see the README of lib/coord.
 */
#define LKS_LOCK_BASE 0x3000000000000000ull
enum lks_lock_byte {
    LKS_BYTE_DMS1 = 0,
    LKS_BYTE_DMS2 = 1,
    LKS_BYTE_DMS3 = 2,
    LKS_BYTE_WORKER = 4,
    LKS_BYTE_WORK = 6, /* the application's background work: coord/work.h */
    LKS_BYTE_CLIENT0 = 16 /* CLIENT(i) = LKS_BYTE_CLIENT0 + i */
};

/*
 * What the file is about.
 *
 * Written once, under DMS1 held by a first client with nobody connected; constant afterwards, so plain bytes.
 * Death: a half-written identity has a wrong checksum; the next first client sets the file aside, as any damaged one.
 */
struct lks_shm_identity {
    char magic[16];
    uint32_t format;
    uint32_t byte_order; /* 0x01020304 as the writer saw it */
    uint32_t shm_bytes;  /* sizeof(struct lks_shm): another layout, another number */
    uint32_t word_bits;
    char boot_id[40];
    uint64_t device; /* of the database file */
    uint64_t inode;
    uint64_t made_ns;  /* CLOCK_MONOTONIC */
    uint32_t checksum; /* of all bytes ahead of it */
    uint32_t reserved;
};

/*
 * One process that is connected.
 *
 * field        written by          holding            order
 * pid          its owner           DMS1, CLIENT(i)    release, last; 0 = free
 * the others   its owner           CLIENT(i)          relaxed
 * pid = 0      owner or reaper     CLIENT(i)          release
 * bell         anybody             -                  add; a futex of the owner's thread while it is not the worker
 * standby      the owner's thread  CLIENT(i)          relaxed, then a full fence and the last look before it sleeps
 *              the owner           CLIENT(i)          relaxed, NONE: before bell, to end that sleep
 *              who rings           -                  CAS to NONE, before bell (death between the two: it sleeps on, to
 *                                                     the end of its time at most)
 *              a reaper            CLIENT(i)          relaxed, NONE, before pid
 *
 * Read by anybody, for people; whether a client lives is said by the lock CLIENT(i) only.
 * Death: the entry stays.  Whoever finds CLIENT(i) free takes it, clears what client i left, frees it.
 */
struct lks_shm_client {
    struct lks_a32 pid;
    struct lks_a32 flags; /* LKS_CLIENT_* */
    struct lks_a64 start_time;
    struct lks_a64 pid_namespace;
    struct lks_a64 since_ns;
    struct lks_a64 program[4]; /* bytes of the name, NUL-padded */
    struct lks_a32 connections;
    struct lks_a32 bell;
    struct lks_a32 standby; /* enum lks_standby: coord/standby.h */
    struct lks_a32 pad[13];
};
/* WATCHING: over something that is not due yet. */
enum lks_standby { LKS_STANDBY_NONE = 0, LKS_STANDBY_IDLE = 1, LKS_STANDBY_WATCHING = 2 };
#define LKS_CLIENT_READONLY 1u
#define LKS_CLIENT_LEAVING 2u /* its last connection in WAL mode closes; set before EXCLUSIVE is asked for */

/*
 * One transaction's claim on a snapshot: word = snapshot << 16 | client << 4 | state.
 *
 * field      written by          holding        order
 * word       claimer             the slot       CAS from 0 takes it, release afterwards
 *            reaper              CLIENT(i)      CAS to 0
 * walk       claimer             the slot       relaxed, then a full fence; release when it becomes 0
 *            reaper              CLIENT(i)      release, before word
 * size       claimer             the slot       relaxed, before {S, active} is stored
 * others     claimer             the slot       relaxed, hints
 *
 * Read without a lock by lks_horizon_scan(), acquire.  A claimer stores {S, claiming}, fences (seq_cst,
 * as the scan does) and reads `committed` again: a scan that missed the claim ran after a `committed`
 * which the second look sees.
 * walk: 0, or `committed` as it was when the claimer began to follow a chain; 0 again once it has copied what
 * it found.  So a transaction that stays open for hours holds up the reuse of blocks for microseconds only.
 * A claimer that wants an older snapshot S, which another slot holds, stores {S, claiming}, adds to state.shares, fences, and
 * then looks for a slot that is {S, active}: claiming is not enough, for such a claim may move on.  A scan that has not seen
 * the new claim, because it looked there before and at the other slot after that was let go, finds `shares` changed at its end,
 * and looks again.
 * R1     a snapshot never falls while a transaction uses the slot.
 * R2     a claimer stands on no block while walk is 0.
 * Death: the slot stays claimed.  Until a reaper clears it, blocks are kept too long, never reused too
 *        soon.
 * In WAL mode a slot protects nothing and is for people: a connection has one for as long as it is connected, CLAIMING
 * between transactions; snapshot is the last frame that the reader sees, size the number of its read mark.
 */
struct lks_shm_slot {
    struct lks_a64 word;
    struct lks_a64 size; /* bytes of the database at the snapshot */
    struct lks_a64 since_ns;
    struct lks_a32 thread;
    struct lks_a32 connection;
    struct lks_a64 walk;
    struct lks_a64 pad[3];
};
enum lks_slot_state { LKS_SLOT_FREE = 0, LKS_SLOT_CLAIMING = 1, LKS_SLOT_ACTIVE = 2 };

/*
 * One connection that waits for the writer lock: word = client << 4 | state; see coord/place.h.
 *
 * field       written by         holding          order
 * word        waiter             the entry        CAS from 0 takes it, release afterwards
 *             reaper             CLIENT(i)        CAS to 0; or anybody once AWAY for LKS_AWAY_MAX_NS
 * sequence    waiter             the entry        relaxed, before word becomes WAITING
 *             who takes WRITER, or is reserved it    relaxed: whoever lets reservations expire goes to the end
 * missed      the same           WRITER           relaxed; 0 with ENTERING; a hint, so that a lost count costs 10 ms
 * bell        waiter, waker      -                seq_cst add; a futex
 * others      waiter             the entry        relaxed
 *
 * A waiter that returns to SQLite between two sleeps is AWAY and keeps its place; but it is not rung then.
 * Q1     the bell says "look again", never who owns the lock.
 * Death: the entry stays until reaped; a reservation for it expires.
 */
struct lks_shm_waiter {
    struct lks_a32 word;
    struct lks_a32 bell;
    struct lks_a64 sequence;
    struct lks_a64 since_ns;
    struct lks_a64 touched_ns; /* when it went AWAY, or came */
    struct lks_a32 thread;
    struct lks_a32 connection;
    struct lks_a32 missed; /* reservations that it let expire, one after the other */
    struct lks_a32 pad0;
    struct lks_a64 pad[2];
};
enum lks_waiter_state {
    LKS_WAITER_FREE = 0,
    LKS_WAITER_WAITING = 1,
    LKS_WAITER_AWAY = 2,
    LKS_WAITER_ENTERING = 3 /* taken, its fields are not there yet: nobody looks at them */
};

/*
 * What commit `id` was, at ring[id % LKS_RING_SIZE].
 *
 * Written by the owner of WRITER before `committed` reaches id: id = 0, fence, fields, id (release).
 * Read by anybody: id (acquire), fields, fence, id again.
 * Death: an entry beyond `committed` belongs to nobody and is written over.
 */
struct lks_shm_commit {
    struct lks_a64 id;
    struct lks_a64 size; /* bytes of the database after the commit */
    struct lks_a64 time_ns;
    struct lks_a64 pad;
};

/*
 * One block: a version of one unit.
 *
 * field      written by      holding     order
 * id         writer          WRITER      relaxed, before the block is linked
 * unit_no    writer          WRITER      relaxed, before the block is linked
 * next       writer          WRITER      relaxed before it is linked, release when a successor is unlinked
 * state      writer          WRITER      relaxed; read by owners of WRITER only
 * free_next  writer          WRITER      relaxed; read by owners of WRITER only
 * gate       writer          WRITER      relaxed; read by owners of WRITER only
 * data       writer          WRITER      plain bytes, before `committed` reaches id
 *
 * Walked without a lock by readers, acquire on bucket and next.
 * B1     a block that a reader may stand on keeps id, unit_no, next and data: it is handed out again only
 *        when gate < every walk that is not 0, as of a scan after its unlinking.
 * B2     of one unit, ids fall strictly along a chain.
 * Death: the next owner of WRITER unlinks every block with id > committed and rebuilds the freelist from
 *        the chains; nothing on the freelist is trusted.
 */
struct lks_shm_block {
    struct lks_a64 id;
    struct lks_a64 gate;
    struct lks_a32 unit_no;
    struct lks_a32 next;
    struct lks_a32 free_next;
    struct lks_a32 state;
};
enum lks_block_state { LKS_BLOCK_FREE = 0, LKS_BLOCK_USED = 1 };

/*
 * The state of the database.
 *
 * field            written by         holding           order
 * committed        writer             WRITER            release; the commit itself
 * writer           anybody            -                 CAS, seq_cst; see coord/queue.h
 * writer_*         owner of WRITER    WRITER            relaxed, hints
 * turn_since_ns    owner of WRITER    WRITER            relaxed, a hint: since when those who wait are overtaken
 * reserved_ns      owner of WRITER    WRITER            relaxed, before the CAS to RESERVED
 * queue_flags      anybody            -                 or/and, seq_cst
 * next_sequence    anybody            -                 add
 * sync_needed      writer             WRITER            relaxed, before committed
 * unit_log2        writer             WRITER            release; 0 while it changes: see store/reunit.c
 * chunks           writer             WRITER            release, after the space is there
 * free_*, warm_*, blocks_*  writer    WRITER            relaxed
 * flushed          worker             WORKER            release, after the batch is in the file
 * durable          worker             WORKER            release, after the last sync
 * file_*           worker             WORKER            relaxed, before flushed
 * next_*           worker             WORKER            release, before the journal is sealed
 * distrusted       worker             WORKER            relaxed; 1: a sync failed that had to settle what an earlier batch
 *                                                       wrote without one, and Linux may have dropped it
 *                                                       (death: it stays, and the next worker writes the file anew)
 * failures         worker             WORKER            add, after last_errno
 * sync_wanted      anybody            -                 max
 * work_bell        anybody            -                 add; futex of worker threads
 * flush_bell       worker             WORKER            add; futex of those who wait for tickets or space
 * slots_high       anybody            -                 max, before the slot is claimed
 * shares           anybody            -                 add, seq_cst, between the claim of an older snapshot and the
 *                                                       look for who holds it (death: a scan looks once more)
 * waiters_high     anybody            -                 max, before the entry is taken
 * settings         anybody            -                 relaxed
 * tripwire         writer, last client  WRITER or DMS1  relaxed; 1: byte 18 of the file is 3, or it is empty
 *
 * app_format       first client       DMS1              relaxed, when it has rolled back what was torn and before it
 *                                                       lets DMS1 go; constant afterwards (death before: nothing waits
 *                                                       in the file, so the next first client replaces it)
 * written_bytes    worker             WORKER            add, before flushed
 *
 * worker           its holder         WORKER            relaxed, a hint: client + 1, 0 nobody
 * worker_asleep    its thread         WORKER            relaxed, then a full fence and the last look before it sleeps
 *                  who rings          -                 0, before work_bell (death between the two: it sleeps on, to the
 *                                                       end of its time at most)
 *
 * The last group is of databases in WAL mode; see coord/groupsync.h.  There `committed` counts tickets, points in
 * the log: it is added to by anybody (the writer, before it lets WAL_WRITE_LOCK go, for its commit), `durable` is
 * raised by whoever has synced the log, `flushed` stays, and the ring, the blocks and the tripwire are not used.
 *
 * mode             first client       DMS1              relaxed, before the identity; constant afterwards
 * sync_leader      anybody            -                 CAS, seq_cst; generation << 12 | client + 1, or 0 there
 * sync_since_ns    the leader         leadership        relaxed, a hint: is it stalled?
 * sync_took_ns     who has synced     -                 relaxed, a hint: how long it took
 * sync_bell        the leader         leadership        add, after durable or poison; a futex
 * sync_sleepers    anybody            -                 add, before sleeping on sync_bell; a hint
 * poison           who failed to sync -                 CAS from 0, release, before sync_bell; 0 again: mender
 *                  mender             WORKER, alone, WAL_WRITE_LOCK   release, after the log was written anew
 * syncs            the leader         -                 add
 * log_finishing    the worker         WORKER            set before it queues for WRITER, 0 after it let go; a hint
 * log_*            the worker         WORKER            relaxed, for people
 * deputy           a committer, a thread  -             CAS from 0; a committer then starts its thread
 *                  that client        -                 CAS to 0: it has become the worker, or stops its thread
 *                  the worker, a reaper  CLIENT(deputy - 1)  CAS to 0: it is dead
 *                  first client       DMS1              relaxed, 0
 *                                                       (death: it stays; the worker looks once a second)
 *
 * S1     durable <= committed, flushed <= committed.
 * G1     frames that stood in the log before `committed` reached t are in the log that a sync begun after reading
 *        committed >= t writes.
 * G2     poison is set before anybody who was covered by the failed sync can see another sync succeed as his.
 * S2     whoever finds no block of a unit at its snapshot finds it in the file, until next_id passes that
 *        snapshot; then a block is there if the file was changed, so it looks again after reading.
 * Death: between next_* and flushed the file may be at either state, mid-way with a hot journal.  The next
 *        owner of WORKER rolls the journal back and is then at flushed or at next_id; both are safe to call
 *        flushed, as blocks stay in their chains until flushed passes them.
 */
struct lks_shm_state {
    _Alignas(64) struct lks_a64 committed;
    _Alignas(64) struct lks_a64 writer;
    struct lks_a64 reserved_ns;
    struct lks_a64 writer_since_ns;
    struct lks_a32 writer_thread;
    struct lks_a32 writer_connection;
    struct lks_a64 turn_since_ns; /* 0: nobody was seen waiting yet */
    _Alignas(64) struct lks_a32 queue_flags;
    struct lks_a32 waiters_high;
    struct lks_a64 next_sequence;
    _Alignas(64) struct lks_a32 unit_log2;
    struct lks_a32 chunks;
    struct lks_a32 slots_high;
    struct lks_a32 tripwire;
    struct lks_a32 max_lag_ms;
    struct lks_a32 bucket_mask;
    struct lks_a32 shares;
    struct lks_a32 shares_pad;
    struct lks_a64 store_limit;
    struct lks_a64 hard_limit;
    _Alignas(64) struct lks_a32 free_head;
    struct lks_a32 free_tail;
    struct lks_a32 free_count; /* of both queues */
    struct lks_a32 warm_head;
    struct lks_a32 warm_tail;
    struct lks_a32 warm_count;
    struct lks_a32 blocks_used; /* linked into chains */
    struct lks_a32 blocks_fresh; /* highest block ever handed out: beyond it nothing was touched */
    struct lks_a64 sync_needed; /* newest commit that asked for more than OFF */
    struct lks_a64 swept_flushed; /* value of flushed that the last sweep used */
    _Alignas(64) struct lks_a64 flushed;
    struct lks_a64 durable;
    struct lks_a64 file_size;
    struct lks_a64 file_counter; /* LKS_FILE_COUNTER(change counter, version-valid-for) */
    struct lks_a64 next_id;
    struct lks_a64 next_size;
    struct lks_a64 next_counter;
    _Alignas(64) struct lks_a64 batches;
    struct lks_a64 failures;
    struct lks_a32 last_errno;
    struct lks_a32 flush_bell;
    struct lks_a32 work_bell;
    struct lks_a32 worker_asleep; /* enum lks_worker_sleep: should a commit ring work_bell? */
    struct lks_a32 worker;
    struct lks_a32 distrusted;
    struct lks_a64 sync_wanted;
    struct lks_a64 pending_since_ns; /* when the store last became non-empty, for bounded lag */
    struct lks_a64 written_bytes; /* of the database, by batches that succeeded */
    struct lks_a64 app_format[2]; /* 16 bytes, NUL-padded: see coord/format.h */
    _Alignas(64) struct lks_a64 sync_leader;
    struct lks_a64 sync_since_ns;
    struct lks_a64 sync_took_ns;
    struct lks_a32 sync_bell;
    struct lks_a32 sync_sleepers;
    struct lks_a32 poison; /* errno of the sync that failed; 0: none has */
    struct lks_a32 mode;   /* enum lks_shm_mode */
    struct lks_a64 syncs;
    _Alignas(64) struct lks_a64 checkpoints;
    struct lks_a64 log_bytes; /* of the file, when the worker looked last */
    struct lks_a64 log_limit; /* the worker keeps the file below, as far as readers let it; a setting */
    struct lks_a32 log_frames;
    struct lks_a32 log_backfilled;
    struct lks_a32 log_held_at;    /* frame beyond which a reader lets nothing be written back; 0: none does */
    struct lks_a32 log_wanted;     /* so many frames to be written back ring the worker */
    struct lks_a32 log_finishing;  /* 1: the worker holds writers off for a moment */
    struct lks_a32 checkpoint_off; /* 1: a connection asked that only others checkpoint */
    struct lks_a64 log_held_since_ns;
    struct lks_a32 deputy; /* client + 1 of the process whose thread stands in for the worker's; 0: none */
};

enum lks_shm_mode { LKS_MODE_STORE = 0, LKS_MODE_WAL = 1 };

/* IDLE: any commit rings.  NAPPING, over commits that are not due: only what cannot wait. */
enum lks_worker_sleep { LKS_WORKER_AWAKE = 0, LKS_WORKER_IDLE = 1, LKS_WORKER_NAPPING = 2 };

/* Bits of queue_flags. */
#define LKS_QUEUE_WAITERS 1u  /* somebody may be waiting */
#define LKS_QUEUE_STARVING 2u /* somebody has waited long enough to be handed the lock */
#define LKS_QUEUE_RUNG 4u     /* the head's bell was rung and it has not slept since */

/*
 * Which buckets hold something that is not written behind: bit b % 64 of dirty[b / 64] for bucket b.
 *
 * Set by the owner of WRITER for each block of a commit, after the blocks are linked and before `committed` reaches it, and
 * by the holder of WORKER where it left something for later: or, seq_cst.  Taken by the holder of WORKER, at a snapshot,
 * before it follows the chains: swap with 0, seq_cst.  A block whose bit was taken is seen in its chain; one whose bit is
 * set later is of a later commit.
 * D1     who holds WORKER and whose last batch succeeded finds every block with flushed < id <= committed in a
 *        bucket whose bit is set.  Nobody else may rely on it.
 * Death: of a writer between link and bit, or bit and commit: the block is of no commit, and is unlinked.  Of a worker: the bits that it took
 *        are lost; the next holder of WORKER looks at all buckets first.
 */
#define LKS_DIRTY_WORDS (LKS_MAX_BUCKETS / 64u)

struct lks_shm {
    union {
        struct lks_shm_identity identity;
        char identity_page[4096 - sizeof(struct lks_shm_state) % 4096];
    };
    struct lks_shm_state state;
    struct lks_shm_client clients[LKS_MAX_CLIENTS];
    struct lks_shm_slot slots[LKS_MAX_SLOTS];
    struct lks_shm_waiter waiters[LKS_MAX_WAITERS];
    struct lks_shm_commit ring[LKS_RING_SIZE];
    struct lks_a32 buckets[LKS_MAX_BUCKETS];
    struct lks_a64 dirty[LKS_DIRTY_WORDS];
};
#define LKS_SHM_BYTES sizeof(struct lks_shm)

_Static_assert(sizeof(struct lks_shm_client) == 128, "layout");
_Static_assert(sizeof(struct lks_shm_slot) == 64, "layout");
_Static_assert(sizeof(struct lks_shm_waiter) == 64, "layout");
_Static_assert(sizeof(struct lks_shm_commit) == 32, "layout");
_Static_assert(sizeof(struct lks_shm_block) == 32, "layout");
_Static_assert(offsetof(struct lks_shm, clients) == 4096, "layout");
_Static_assert(sizeof(struct lks_shm) % 4096 == 0, "layout");

/* The writer word: generation << 24 | waiter << 14 | client << 2 | state. */
enum lks_writer_state { LKS_WRITER_FREE = 0, LKS_WRITER_OWNED = 1, LKS_WRITER_RESERVED = 2 };

static inline uint64_t
lks_writer_word(uint64_t generation, uint32_t waiter, uint32_t client, enum lks_writer_state state)
{
    return generation << 24 | (uint64_t)waiter << 14 | (uint64_t)client << 2 | (uint64_t)state;
}
static inline enum lks_writer_state
lks_writer_state_of(uint64_t word)
{
    return (enum lks_writer_state)(word & 3u);
}
static inline uint32_t
lks_writer_client(uint64_t word)
{
    return (uint32_t)(word >> 2) & 0xfffu;
}
static inline uint32_t
lks_writer_waiter(uint64_t word)
{
    return (uint32_t)(word >> 14) & 0x3ffu;
}
static inline uint64_t
lks_writer_generation(uint64_t word)
{
    return word >> 24;
}

static inline uint64_t
lks_slot_word(uint64_t snapshot, uint32_t client, enum lks_slot_state state)
{
    return snapshot << 16 | (uint64_t)client << 4 | (uint64_t)state;
}
static inline enum lks_slot_state
lks_slot_state_of(uint64_t word)
{
    return (enum lks_slot_state)(word & 15u);
}
static inline uint32_t
lks_slot_client(uint64_t word)
{
    return (uint32_t)(word >> 4) & 0xfffu;
}
static inline uint64_t
lks_slot_snapshot(uint64_t word)
{
    return word >> 16;
}

static inline uint32_t
lks_waiter_word(uint32_t client, enum lks_waiter_state state)
{
    return client << 4 | (uint32_t)state;
}
static inline enum lks_waiter_state
lks_waiter_state_of(uint32_t word)
{
    return (enum lks_waiter_state)(word & 15u);
}
static inline uint32_t
lks_waiter_client(uint32_t word)
{
    return word >> 4;
}

#endif
