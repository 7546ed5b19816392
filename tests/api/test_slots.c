/*
 * Who is connected, and snapshots that several read: coord.h.
 *
 * Made to fail by: lks_reader_share() that counts nothing, does not look for who holds the snapshot, leans on a claim, keeps
 * its slot in vain, or knows the size from the ring only; a scan that does not look again, or counts too little as used then;
 * not clearing dead readers; not counting a connection, or its end.
 */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "api/enginetest.h"
#include "base/crashpoint.h"
#include "coord/horizon.h"
#include "coord/reader.h"

static struct lockstep_db *db;

static int
in_use(uint64_t snapshot)
{
    int used = -1;
    OK(lockstep_db_snapshot_in_use(db, snapshot, &used));
    return used;
}

static uint64_t
oldest(void)
{
    uint64_t snapshot = 0;
    OK(lockstep_db_snapshot_oldest(db, &snapshot));
    return snapshot;
}

/* Connects, begins on the newest snapshot, says so, and ends when it is let on. */
static void
hold_newest(struct child *self)
{
    struct lockstep_conn *conn;
    child_step(self, 's');
    child_check(lockstep_db_open("db", NULL, &db) == LOCKSTEP_OK && lockstep_db_attach(db) == LOCKSTEP_OK);
    child_check(lockstep_conn_open(db, &conn) == LOCKSTEP_OK && lockstep_conn_begin(conn) == LOCKSTEP_OK);
    child_step(self, 'h');
    lockstep_conn_end(conn);
    child_step(self, 'e');
    lockstep_conn_close(conn);
    child_check(lockstep_db_close(db) == LOCKSTEP_OK);
}

START_TEST(the_connected_are_listed_and_the_dead_are_known)
{
    struct lockstep_client clients[4];
    struct child child;
    size_t count = 0, i;
    int found = 0;
    child_start(&child, hold_newest);
    child_await(&child, 's');
    db = api_open(NULL);
    ck_assert_uint_eq(lockstep_db_slot(db), 0);
    OK(lockstep_db_clients(db, clients, 4, &count));
    ck_assert_uint_eq(count, 1);
    ck_assert(clients[0].self && clients[0].alive && !clients[0].readonly && clients[0].slot == 0);
    ck_assert_int_eq(clients[0].pid, getpid());
    ck_assert_str_ne(clients[0].program, "");
    child_go(&child);
    child_await(&child, 'h');
    OK(lockstep_db_clients(db, NULL, 0, &count));
    ck_assert_uint_eq(count, 2);
    memset(clients, 0, sizeof clients);
    OK(lockstep_db_clients(db, clients, 1, &count));
    ck_assert_uint_eq(count, 2);
    ck_assert_int_eq(clients[1].pid, 0); /* no further than there is room for */
    OK(lockstep_db_clients(db, clients, 4, &count));
    for (i = 0; i < count; i++)
        if (clients[i].pid == child.pid) {
            found++;
            ck_assert(clients[i].alive && !clients[i].self);
        }
    ck_assert_int_eq(found, 1);
    child_kill(&child);
    OK(lockstep_db_clients(db, clients, 4, &count));
    ck_assert_uint_eq(count, 2);
    ck_assert_int_eq(clients[1].pid, child.pid);
    ck_assert(!clients[1].alive);
    /* Asking for its snapshot clears it. */
    ck_assert_int_eq(in_use(1), 0);
    OK(lockstep_db_clients(db, clients, 4, &count));
    ck_assert_uint_eq(count, 1);
    ck_assert_int_eq(lockstep_db_clients(db, NULL, 1, &count), LOCKSTEP_MISUSE);
    OK(lockstep_db_close(db));
}
END_TEST

/* As the inspector tells. */
START_TEST(the_connections_of_a_client_are_counted)
{
    struct lockstep_db *db = api_open(NULL);
    struct lockstep_conn *conn[2];
    const struct lks_a32 *count = &db->shm->clients[db->client].connections;
    OK(lockstep_conn_open(db, &conn[0]));
    OK(lockstep_conn_open(db, &conn[1]));
    ck_assert_uint_eq(lks_a32_relaxed(count), 2);
    lockstep_conn_close(conn[0]);
    ck_assert_uint_eq(lks_a32_relaxed(count), 1);
    lockstep_conn_close(conn[1]);
    ck_assert_uint_eq(lks_a32_relaxed(count), 0);
    OK(lockstep_db_close(db));
}
END_TEST

/* The worker may have it still: it lets go after it has woken who waited for the commit. */
static void
await_unused(uint64_t snapshot)
{
    while (in_use(snapshot) != 0)
        usleep(1000);
}

START_TEST(a_snapshot_in_use_is_known_and_so_is_the_oldest)
{
    struct lockstep_conn *reader, *writer;
    uint64_t first, second;
    db = api_open(NULL);
    reader = api_connect(db);
    writer = api_connect(db);
    first = api_write_byte(writer, 5, 'a', LOCKSTEP_FULL_SYNC);
    await_unused(first);
    ck_assert_uint_eq(oldest(), first);
    OK(lockstep_conn_begin(reader));
    ck_assert_int_eq(in_use(first), 1);
    second = api_write_byte(writer, 5, 'b', LOCKSTEP_FULL_SYNC);
    ck_assert_int_eq(in_use(first), 1);
    ck_assert_int_eq(in_use(first - 1), 0);
    ck_assert_uint_eq(oldest(), first);
    lockstep_conn_end(reader);
    await_unused(first);
    ck_assert_uint_eq(oldest(), second);
    lockstep_conn_close(reader);
    lockstep_conn_close(writer);
    OK(lockstep_db_close(db));
}
END_TEST

START_TEST(the_snapshot_of_a_dead_reader_is_not_the_oldest)
{
    struct lockstep_conn *writer;
    struct child child;
    child_start(&child, hold_newest);
    child_await(&child, 's');
    db = api_open(NULL);
    writer = api_connect(db);
    child_go(&child);
    child_await(&child, 'h');
    ck_assert_uint_eq(api_write_byte(writer, 5, 'a', LOCKSTEP_FULL_SYNC), 2);
    ck_assert_uint_eq(oldest(), 1);
    child_kill(&child);
    ck_assert_uint_eq(oldest(), 2);
    lockstep_conn_close(writer);
    OK(lockstep_db_close(db));
}
END_TEST

/* Of a slot that somebody claims: what is claimed there may move on. */
START_TEST(a_claim_is_not_leaned_upon_until_it_is_active)
{
    struct lockstep_conn *conn, *writer;
    struct lks_shm_slot *slot;
    uint64_t old;
    db = api_open(NULL);
    conn = api_connect(db);
    writer = api_connect(db);
    old = api_write_byte(writer, 5, 'a', LOCKSTEP_FULL_SYNC);
    slot = &db->shm->slots[20];
    lks_a32_max(&db->shm->state.slots_high, 20);
    lks_a64_set_release(&slot->word, lks_slot_word(old, db->client, LKS_SLOT_CLAIMING));
    api_write_byte(writer, 5, 'b', LOCKSTEP_FULL_SYNC);
    ck_assert_int_eq(lockstep_conn_begin_at(conn, old), LOCKSTEP_STALE);
    lks_a64_set_release(&slot->word, lks_slot_word(old, db->client, LKS_SLOT_ACTIVE));
    OK(lockstep_conn_begin_at(conn, old));
    ck_assert_int_eq(api_read_byte(conn, 5), 'a');
    lks_a64_set_release(&slot->word, 0);
    lockstep_conn_close(conn);
    lockstep_conn_close(writer);
    OK(lockstep_db_close(db));
}
END_TEST

START_TEST(a_transaction_begins_on_the_snapshot_of_another_and_keeps_it)
{
    struct lockstep_conn *first, *second, *third, *writer;
    uint64_t old, i;
    db = api_open(NULL);
    first = api_connect(db);
    second = api_connect(db);
    third = api_connect(db);
    writer = api_connect(db);
    old = api_write_byte(writer, 5000, 'a', LOCKSTEP_ASYNC);
    OK(lockstep_conn_begin(first));
    api_write_byte(writer, 5000, 'b', LOCKSTEP_FULL_SYNC);
    OK(lockstep_conn_begin_at(second, old));
    ck_assert_uint_eq(lockstep_conn_snapshot(second), old);
    ck_assert_int_eq(api_read_byte(second, 5000), 'a');
    ck_assert_int_eq(lockstep_conn_write_begin(second, 0), LOCKSTEP_STALE);
    /* From the one to the next, while the file and the blocks go on. */
    for (i = 0; i < 600; i++) {
        lockstep_conn_end(first);
        api_write_byte(writer, 5000 + i % 3 * 4096, (char)('c' + i % 20),
                   i % 50 == 0 ? LOCKSTEP_FULL_SYNC : LOCKSTEP_ASYNC);
        OK(lockstep_conn_begin_at(first, old));
        lockstep_conn_end(second);
        ck_assert_int_eq(api_read_byte(first, 5000), 'a');
        ck_assert_int_eq(api_read_byte(first, 5000 + 4096), 0);
        OK(lockstep_conn_begin_at(second, old));
    }
    {
        /* Also of the size, when the ring of commits has gone round long since. */
        uint64_t size = 0;
        OK(lockstep_conn_size(first, &size));
        ck_assert_uint_eq(size, 10000);
    }
    lockstep_conn_end(first);
    lockstep_conn_end(second);
    ck_assert_int_eq(lockstep_conn_begin_at(third, old), LOCKSTEP_STALE);
    ck_assert_int_eq(lockstep_conn_begin_at(third, 0), LOCKSTEP_MISUSE);
    ck_assert_int_eq(lockstep_conn_begin_at(third, 1u << 20), LOCKSTEP_MISUSE);
    i = api_write_byte(writer, 1, 'x', LOCKSTEP_ASYNC);
    OK(lockstep_conn_begin_at(third, i)); /* the newest */
    ck_assert_int_eq(lockstep_conn_begin_at(third, i), LOCKSTEP_MISUSE);
    OK(lockstep_conn_write_begin(third, 0));
    lockstep_conn_close(first);
    lockstep_conn_close(second);
    lockstep_conn_close(third);
    lockstep_conn_close(writer);
    OK(lockstep_db_close(db));
}
END_TEST

START_TEST(a_snapshot_passes_from_a_process_to_another_and_survives_its_death)
{
    struct lockstep_conn *conn, *writer;
    struct child child;
    uint64_t old;
    child_start(&child, hold_newest);
    child_await(&child, 's');
    db = api_open(NULL);
    conn = api_connect(db);
    writer = api_connect(db);
    old = api_write_byte(writer, 7000, 'a', LOCKSTEP_FULL_SYNC);
    child_go(&child);
    child_await(&child, 'h');
    api_write_byte(writer, 7000, 'b', LOCKSTEP_FULL_SYNC);
    api_write_byte(writer, 7000, 'c', LOCKSTEP_FULL_SYNC);
    child_kill(&child);
    OK(lockstep_conn_begin_at(conn, old)); /* a dead one's slot protects until it is cleared */
    ck_assert_int_eq(in_use(old), 1);      /* which is now */
    api_write_byte(writer, 7000, 'd', LOCKSTEP_FULL_SYNC);
    ck_assert_int_eq(api_read_byte(conn, 7000), 'a');
    lockstep_conn_end(conn);
    ck_assert_int_eq(in_use(old), 0);
    ck_assert_int_eq(lockstep_conn_begin_at(conn, old), LOCKSTEP_STALE);
    lockstep_conn_close(conn);
    lockstep_conn_close(writer);
    OK(lockstep_db_close(db));
}
END_TEST

#ifdef LKS_DEBUG
static struct lockstep_conn *holder;

static void
let_go(const char *point)
{
    if (strcmp(point, "share:counted") == 0 && holder != NULL) {
        lockstep_conn_end(holder);
        holder = NULL;
    }
}

START_TEST(a_snapshot_that_is_let_go_between_claim_and_look_is_stale)
{
    struct lockstep_conn *conn, *writer, *first;
    uint64_t old;
    lks_crash_hook = let_go; /* before there is a thread */
    db = api_open(NULL);
    conn = api_connect(db);
    writer = api_connect(db);
    first = holder = api_connect(db);
    old = api_write_byte(writer, 7000, 'a', LOCKSTEP_FULL_SYNC);
    OK(lockstep_conn_begin(holder));
    api_write_byte(writer, 7000, 'b', LOCKSTEP_FULL_SYNC);
    ck_assert_int_eq(lockstep_conn_begin_at(conn, old), LOCKSTEP_STALE);
    ck_assert_ptr_null(holder);
    ck_assert_int_eq(in_use(old), 0); /* and the claim is gone */
    OK(lockstep_conn_begin(conn));
    lockstep_conn_close(conn);
    lockstep_conn_close(first);
    lockstep_conn_close(writer);
    OK(lockstep_db_close(db));
    lks_crash_hook = NULL;
}
END_TEST
#endif

#ifdef LKS_DEBUG
static const char *const deadly[] = {"share:claiming", "share:counted", "work:taken"};
static const char *deadly_point;

static void
die_there(struct child *self)
{
    struct lockstep_conn *conn;
    child_step(self, 's');
    child_check(lockstep_db_open("db", NULL, &db) == LOCKSTEP_OK && lockstep_db_attach(db) == LOCKSTEP_OK);
    child_check(lockstep_conn_open(db, &conn) == LOCKSTEP_OK);
    lks_crash_arm(deadly_point, 1);
    (void)lockstep_conn_begin_at(conn, 2);
    (void)lockstep_conn_work_begin(conn);
    child_check(false);
}

START_TEST(a_death_in_the_middle_leaves_nothing_that_lasts)
{
    struct lockstep_conn *conn, *writer;
    struct child child;
    deadly_point = deadly[_i];
    child_start(&child, die_there);
    child_await(&child, 's');
    db = api_open(NULL);
    conn = api_connect(db);
    writer = api_connect(db);
    ck_assert_uint_eq(api_write_byte(writer, 7000, 'a', LOCKSTEP_FULL_SYNC), 2);
    OK(lockstep_conn_begin(conn));
    api_write_byte(writer, 7000, 'b', LOCKSTEP_FULL_SYNC);
    child_go(&child);
    child_killed(&child);
    lockstep_conn_end(conn);
    ck_assert_int_eq(in_use(2), 0);
    ck_assert_int_eq(lockstep_conn_begin_at(conn, 2), LOCKSTEP_STALE);
    OK(lockstep_conn_work_begin(conn));
    lockstep_conn_close(conn);
    lockstep_conn_close(writer);
    OK(lockstep_db_close(db));
}
END_TEST
#endif

START_TEST(when_all_slots_are_taken_a_transaction_is_told_busy)
{
    static struct lockstep_conn *conns[LKS_MAX_SLOTS];
    struct lockstep_conn *one_more;
    uint32_t i;
    uint64_t snapshot;
    db = api_open(NULL);
    one_more = api_connect(db);
    snapshot = api_write_byte(one_more, 1, 'x', LOCKSTEP_FULL_SYNC);
    for (i = 0; i < LKS_MAX_SLOTS - 1; i++) {
        conns[i] = api_connect(db);
        OK(lockstep_conn_begin(conns[i]));
    }
    ck_assert_int_eq(lockstep_conn_begin(one_more), LOCKSTEP_BUSY);
    ck_assert_int_eq(lockstep_conn_begin_at(one_more, snapshot), LOCKSTEP_BUSY);
    lockstep_conn_end(conns[500]);
    OK(lockstep_conn_begin_at(one_more, snapshot));
    for (i = 0; i < LKS_MAX_SLOTS - 1; i++)
        lockstep_conn_close(conns[i]);
    lockstep_conn_close(one_more);
    OK(lockstep_db_close(db));
}
END_TEST

/* One thread passes an old snapshot on between both ends of the slots, while another one scans. */
#define LONG_SCAN 1000u
#ifdef LKS_TSAN /* which makes each look cost ten times as much */
#define PASSES 40000u
#else
#define PASSES 400000u
#endif

static struct lks_a32 finished;

static void *
pass_on(void *arg)
{
    struct lockstep_db *shared = arg;
    struct lks_reader readers[2] = {{.slot = 2, .connection = 1}, {.slot = LONG_SCAN - 1, .connection = 2}};
    struct lks_shm_slot *first = &shared->shm->slots[LONG_SCAN / 2];
    uint32_t i, j, failures = 0;
    for (i = 0; i < PASSES; i++) {
        struct lks_reader *to = &readers[i % 2], *from = &readers[(i + 1) % 2];
        to->slot = i % 2 == 0 ? 2 + i % 7 : LONG_SCAN - 1 - i % 7;
        failures += lks_reader_share(shared, to, 5) != LOCKSTEP_OK;
        if (i == 0)
            lks_a64_set_release(&first->word, 0);
        else
            lks_reader_release(shared, from);
        /*
         * It stays there for about as long as a scan takes: one that has passed the one end comes to the
         * other.
         */
        for (j = 0; j < 3 * LONG_SCAN; j++)
            (void)lks_a64_acquire(&first->word);
    }
    lks_a32_set_release(&finished, 1);
    return failures == 0 ? arg : NULL;
}

START_TEST(a_scan_never_misses_a_snapshot_that_is_passed_on)
{
    struct lockstep_db *shared = memory_db(12);
    struct lks_horizon *horizon = malloc(sizeof *horizon);
    pthread_t thread;
    void *result = NULL;
    unsigned scans = 0, unsure = 0;
    memory_commit(shared, 5, 10000);
    memory_commit(shared, 6, 10000);
    lks_a64_set_release(&shared->shm->slots[LONG_SCAN / 2].word, lks_slot_word(5, 7, LKS_SLOT_ACTIVE));
    lks_a32_max(&shared->shm->state.slots_high, LONG_SCAN);
    ck_assert_int_eq(pthread_create(&thread, NULL, pass_on, shared), 0);
    while (lks_a32_acquire(&finished) == 0) {
        lks_horizon_scan(shared->shm, horizon);
        ck_assert_msg(lks_horizon_used(horizon, 5, 6) && horizon->lowest <= 5, "scan %u", scans);
        unsure += horizon->unsure;
        scans++;
    }
    ck_assert_int_eq(pthread_join(thread, &result), 0);
    ck_assert_ptr_nonnull(result);
    lks_horizon_scan(shared->shm, horizon);
    ck_assert(!horizon->unsure);
    /* One that gave up takes everything below its floor for used. */
    ck_assert(!lks_horizon_used(horizon, 2, 4));
    horizon->unsure = true;
    ck_assert(lks_horizon_used(horizon, 2, 4));
    printf("%u scans, %u unsure\n", scans, unsure);
    free(horizon);
    memory_db_free(shared);
}
END_TEST

int
main(void)
{
    Suite *suite = suite_create("slots");
    TCase *tcase = coordtest_case(suite, "slots");
    tcase_add_test(tcase, the_connected_are_listed_and_the_dead_are_known);
    tcase_add_test(tcase, the_connections_of_a_client_are_counted);
    tcase_add_test(tcase, a_snapshot_in_use_is_known_and_so_is_the_oldest);
    tcase_add_test(tcase, the_snapshot_of_a_dead_reader_is_not_the_oldest);
    tcase_add_test(tcase, a_claim_is_not_leaned_upon_until_it_is_active);
    tcase_add_test(tcase, a_transaction_begins_on_the_snapshot_of_another_and_keeps_it);
    tcase_add_test(tcase, a_snapshot_passes_from_a_process_to_another_and_survives_its_death);
#ifdef LKS_DEBUG
    tcase_add_test(tcase, a_snapshot_that_is_let_go_between_claim_and_look_is_stale);
    tcase_add_loop_test(tcase, a_death_in_the_middle_leaves_nothing_that_lasts, 0, 3);
#endif
    tcase_add_test(tcase, when_all_slots_are_taken_a_transaction_is_told_busy);
    tcase_add_test(tcase, a_scan_never_misses_a_snapshot_that_is_passed_on);
    return coordtest_main(suite);
}
