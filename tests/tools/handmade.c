#include "tools/handmade.h"

#include <check.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <sqlite3.h>

#include "base/clock.h"
#include "shm/header.h"
#include "tools/holder.h"

struct lks_shm *shm;
char boot_id[LKS_BOOT_ID_SIZE];
uint64_t begin_ns;

static struct lks_process self;

struct lks_file_id
database_id(void)
{
    struct lks_file_stat stat;
    ck_assert_int_eq(lks_file_stat_path(holder_path("db"), &stat), LOCKSTEP_OK);
    return stat.id;
}

/* Commits 1 to 42 made, 40 flushed, 39 durable. */
static void
make_coordination(void)
{
    struct lks_file_id id = database_id();
    struct lks_shm_state *state;
    int fd = open(holder_path("db-lockstep"), O_RDWR | O_CREAT | O_TRUNC, 0644);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(ftruncate(fd, LKS_SHM_BYTES), 0);
    shm = mmap(NULL, LKS_SHM_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    ck_assert_ptr_ne(shm, MAP_FAILED);
    close(fd);
    lks_process_self(&self);
    ck_assert_int_eq(lks_process_boot_id(boot_id), LOCKSTEP_OK);
    lks_header_make(shm, &id, boot_id, 12);
    state = &shm->state;
    begin_ns = lks_clock_ns();
    lks_a64_set_relaxed(&state->committed, 42);
    lks_a64_set_relaxed(&state->flushed, 40);
    lks_a64_set_relaxed(&state->durable, 39);
    for (uint64_t id = 40; id <= 42; id++) {
        lks_a64_set_relaxed(&shm->ring[id % LKS_RING_SIZE].time_ns, begin_ns - (45 - id) * NS_PER_S);
        lks_a64_set_release(&shm->ring[id % LKS_RING_SIZE].id, id);
    }
    lks_a64_set_relaxed(&state->hard_limit, 32ull << 30);
    lks_a32_set_relaxed(&state->chunks, 2);
    lks_a32_set_relaxed(&state->blocks_used, 10);
    lks_a64_set_relaxed(&state->batches, 7);
}

void
handmade_begin(void)
{
    holder_begin();
    holder_start();
    holder_sql('A', "CREATE TABLE t(a)", SQLITE_OK);
    make_coordination();
}

void
handmade_finish(void)
{
    munmap(shm, LKS_SHM_BYTES);
    holder_finish();
}

void
handmade_client(char who, uint32_t i)
{
    struct lks_shm_client *client = &shm->clients[i];
    uint64_t name[4] = {0};
    memcpy(name, "recorded", 8);
    holder_lock(who, "db-lockstep", 'P', 'r', (long long)LKS_LOCK_BASE + LKS_BYTE_DMS2, 1);
    holder_lock(who, "db-lockstep", 'P', 'w', (long long)LKS_LOCK_BASE + LKS_BYTE_CLIENT0 + i, 1);
    lks_a64_set_relaxed(&client->pid_namespace, self.pid_namespace);
    lks_a64_set_relaxed(&client->since_ns, lks_clock_ns() - 5 * NS_PER_S);
    lks_a32_set_relaxed(&client->connections, i + 1);
    for (int k = 0; k < 4; k++)
        lks_a64_set_relaxed(&client->program[k], name[k]);
    lks_a32_set_release(&client->pid, (uint32_t)holder_pid(who));
}

void
handmade_reader(uint32_t slot, uint32_t client, uint64_t snapshot)
{
    lks_a64_set_relaxed(&shm->slots[slot].since_ns, lks_clock_ns() - 2 * NS_PER_S);
    lks_a32_set_relaxed(&shm->slots[slot].thread, 1000 + slot);
    lks_a32_set_relaxed(&shm->slots[slot].connection, 1);
    lks_a64_set_release(&shm->slots[slot].word, lks_slot_word(snapshot, client, LKS_SLOT_ACTIVE));
}

void
handmade_writer(uint32_t client)
{
    lks_a64_set_relaxed(&shm->state.writer_since_ns, lks_clock_ns() - NS_PER_S);
    lks_a32_set_relaxed(&shm->state.writer_thread, 2000);
    lks_a32_set_relaxed(&shm->state.writer_connection, 2);
    lks_a64_set_release(&shm->state.writer, lks_writer_word(9, 0, client, LKS_WRITER_OWNED));
}

void
handmade_waiter(uint32_t entry, uint32_t client, uint64_t sequence)
{
    lks_a64_set_relaxed(&shm->waiters[entry].sequence, sequence);
    lks_a64_set_relaxed(&shm->waiters[entry].since_ns, lks_clock_ns() - NS_PER_S);
    lks_a32_set_relaxed(&shm->waiters[entry].thread, 3000 + entry);
    lks_a32_set_relaxed(&shm->waiters[entry].connection, 1);
    lks_a32_set_release(&shm->waiters[entry].word, lks_waiter_word(client, LKS_WAITER_WAITING));
}
