/* Who is in the way, in WAL mode: asked of the reader table and of the kernel, for people. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "os/proclocks.h"
#include "vfs/vfs.h"

/* Where the locks are in the `-shm` file. */
#define SHM_LOCK_BASE 120u

struct search {
    uint32_t lock;
    bool exclusive;
    const int32_t *not_these; /* 0 at the end */
};

static bool
is_listed(const int32_t *pids, int32_t pid)
{
    for (; pids != NULL && *pids != 0; pids++)
        if (*pids == pid)
            return true;
    return false;
}

/* A process that holds the lock; 0: none, or it cannot be known. */
static int32_t
find_lock(struct lks_file *f, const struct search *search)
{
    char *path = sqlite3_mprintf("%s-shm", f->db->path);
    const char *paths[1] = {path};
    uint64_t byte = SHM_LOCK_BASE + search->lock;
    struct lks_proclock *locks = NULL;
    size_t count = 0, i;
    int32_t pid = 0;
    if (path != NULL &&
        lks_proclocks_collect("/proc", paths, 1, &locks, &count) == LOCKSTEP_OK)
        for (i = 0; i < count && pid == 0; i++)
            if (locks[i].exclusive == search->exclusive && !locks[i].waiting && locks[i].first <= byte &&
                locks[i].last >= byte && !is_listed(search->not_these, locks[i].pid))
                pid = locks[i].pid;
    free(locks);
    sqlite3_free(path);
    return pid;
}

int32_t
lks_wal_outsider(struct lks_file *f)
{
    int32_t owner_pid[2] = {0, 0};
    uint64_t since;
    uint32_t owner = lks_queue_owner(f->db, &since);
    struct search search = {LKS_WAL_WRITE, true, owner_pid};
    if (owner < LKS_MAX_CLIENTS)
        owner_pid[0] = (int32_t)lks_a32_relaxed(&f->db->shm->clients[owner].pid);
    return find_lock(f, &search);
}

/* The oldest of Lockstep's own readers. */
static bool
oldest_shown(struct lks_file *f, struct lks_wal_holder *holder)
{
    const struct lks_shm *shm = f->db->shm;
    uint32_t high = lks_a32_acquire(&shm->state.slots_high), i;
    bool found = false;
    for (i = 1; i <= high && i < LKS_MAX_SLOTS; i++) {
        uint64_t word = lks_a64_acquire(&shm->slots[i].word), now = lks_clock_ns(), since;
        uint32_t client = lks_slot_client(word);
        if (lks_slot_state_of(word) != LKS_SLOT_ACTIVE || client >= LKS_MAX_CLIENTS ||
            (found && lks_slot_snapshot(word) >= holder->frame))
            continue;
        found = true;
        since = lks_a64_relaxed(&shm->slots[i].since_ns);
        holder->frame = (uint32_t)lks_slot_snapshot(word);
        holder->pid = (int32_t)lks_a32_relaxed(&shm->clients[client].pid);
        holder->since_s = now > since ? (double)(now - since) / 1e9 : 0;
    }
    return found;
}

/* A stock reader under a lower read mark. */
static void
oldest_stock(struct lks_file *f, bool *found, struct lks_wal_holder *holder)
{
    unsigned mark;
    for (mark = 0; mark < LKS_WAL_READERS; mark++) {
        uint32_t frame = mark == 0 ? lks_wal_index_word(f->wal.index, LKS_INDEX_BACKFILLED)
                                   : lks_wal_index_word(f->wal.index, LKS_INDEX_READ_MARK + mark);
        struct search search = {LKS_WAL_READ0 + mark, false, NULL};
        int32_t pid;
        if (frame == LKS_INDEX_MARK_UNUSED || (*found && frame >= holder->frame))
            continue;
        pid = find_lock(f, &search);
        if (pid == 0)
            continue;
        *found = true;
        holder->frame = frame;
        holder->pid = pid;
        holder->since_s = -1;
    }
}

bool
lks_wal_holder(struct lks_file *f, struct lks_wal_holder *out_holder)
{
    struct lks_proclocks_process process;
    struct lks_wal_holder holder = {0, "", 0, -1};
    bool found;
    if (!f->wal.attached || f->wal.index == NULL)
        return false;
    lks_wal_refresh(f);
    found = oldest_shown(f, &holder);
    oldest_stock(f, &found, &holder);
    if (!found || holder.frame >= lks_wal_index_word(f->wal.index, LKS_INDEX_MAX_FRAME))
        return false;
    if (lks_proclocks_look("/proc", holder.pid, &process))
        snprintf(holder.program, sizeof holder.program, "%s", process.program);
    *out_holder = holder;
    return true;
}
