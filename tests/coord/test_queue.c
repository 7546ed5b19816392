#include "coord/queue.h"

#include <pthread.h>
#include <string.h>

#include "base/clock.h"
#include "coord/client.h"
#include "coord/coordtest.h"

#define LONG_NS (20000 * LKS_NS_PER_MS)

static enum lks_writer_state
writer_state(const struct lockstep_db *db)
{
    return lks_writer_state_of(lks_a64_acquire(&db->shm->state.writer));
}

START_TEST(the_lock_is_taken_once_and_given_back)
{
    struct lockstep_db *db = attached_db();
    struct lks_place a, b;
    uint64_t since;
    lks_place_init(&a, 1);
    lks_place_init(&b, 2);
    ck_assert_uint_eq(lks_queue_owner(db, &since), LKS_MAX_CLIENTS);
    ck_assert_int_eq(lks_queue_take(db, &a), LOCKSTEP_OK);
    ck_assert_int_eq(lks_queue_take(db, &b), LOCKSTEP_BUSY);
    ck_assert_uint_eq(lks_queue_owner(db, &since), db->client);
    ck_assert_int_eq(lks_queue_lock(db, &b, 5 * LKS_NS_PER_MS), LOCKSTEP_TIMEOUT);
    lks_queue_unlock(db);
    ck_assert_int_eq(lks_queue_lock(db, &b, 5 * LKS_NS_PER_MS), LOCKSTEP_OK);
    lks_queue_unlock(db);
    close_db(db);
}
END_TEST

struct waiting {
    struct lockstep_db *db;
    pthread_t thread;
    uint32_t number;
    uint32_t *order; /* filled by whoever owns the lock */
    uint32_t *count;
    enum lockstep_status status;
};

static void *
wait_in_turn(void *arg)
{
    struct waiting *w = arg;
    struct lks_place place;
    lks_place_init(&place, 100 + w->number);
    w->status = lks_queue_lock(w->db, &place, LONG_NS);
    if (w->status == LOCKSTEP_OK) {
        w->order[(*w->count)++] = w->number;
        lks_clock_nap_ms(1); /* its turn is over: the lock is handed over, and not left free */
        lks_queue_unlock(w->db);
    }
    return NULL;
}

static uint32_t
waiting_entries(struct lockstep_db *db)
{
    uint32_t n = 0, i;
    for (i = 0; i < LKS_MAX_WAITERS; i++)
        n += lks_waiter_state_of(lks_a32_acquire(&db->shm->waiters[i].word)) == LKS_WAITER_WAITING;
    return n;
}

/* False: out of order, as may be when one of them does not run for LKS_RESERVED_NS after it was handed the lock. */
static bool
is_handed_on_in_order(struct lockstep_db *db)
{
    enum { MANY = 8 };
    struct waiting w[MANY];
    bool in_order = true;
    uint32_t order[MANY], count = 0, i;
    struct lks_place mine;
    lks_place_init(&mine, 1);
    ck_assert_int_eq(lks_queue_take(db, &mine), LOCKSTEP_OK);
    for (i = 0; i < MANY; i++) {
        w[i] = (struct waiting){.db = db, .number = i, .order = order, .count = &count};
        ck_assert_int_eq(pthread_create(&w[i].thread, NULL, wait_in_turn, &w[i]), 0);
        while (waiting_entries(db) < i + 1)
            lks_clock_nap_ms(1);
    }
    /* All of them have waited for longer than it takes to be handed the lock. */
    lks_clock_nap_ms(3 * (uint32_t)(LKS_STARVING_NS / LKS_NS_PER_MS));
    lks_queue_unlock(db);
    for (i = 0; i < MANY; i++)
        ck_assert_int_eq(pthread_join(w[i].thread, NULL), 0);
    ck_assert_uint_eq(count, MANY);
    for (i = 0; i < MANY; i++)
        in_order = in_order && order[i] == i;
    return in_order;
}

START_TEST(the_lock_is_handed_on_in_order_of_arrival)
{
    struct lockstep_db *db = attached_db();
    int tries = 1;
    /* By chance it is once in 40320 times. */
    while (!is_handed_on_in_order(db) && tries < 8)
        tries++;
    ck_assert_int_lt(tries, 8);
    close_db(db);
}
END_TEST

/* False: this process was stopped for so long that nobody was expected to come back. */
static bool
hand_to_one_who_is_away(struct lockstep_db *db)
{
    struct lks_place waiter, owner, newcomer;
    bool reserved;
    uint64_t begin;
    lks_place_init(&waiter, 1);
    lks_place_init(&owner, 2);
    lks_place_init(&newcomer, 3);
    ck_assert_int_eq(lks_queue_take(db, &owner), LOCKSTEP_OK);
    ck_assert_int_eq(lks_queue_wait(db, &waiter, 3 * LKS_NS_PER_MS), LOCKSTEP_TIMEOUT);
    begin = lks_clock_ns();
    lks_queue_unlock(db);
    /* It goes to the one who waits, though it is away now. */
    reserved = writer_state(db) == LKS_WRITER_RESERVED;
    if (reserved) {
        enum lockstep_status status = lks_queue_take(db, &newcomer);
        ck_assert(status == LOCKSTEP_BUSY || lks_clock_ns() - begin > LKS_RESERVED_NS);
        if (status == LOCKSTEP_BUSY) {
            /* It does not come back: after some milliseconds anybody may have it. */
            ck_assert_int_eq(lks_queue_lock(db, &newcomer, LONG_NS), LOCKSTEP_OK);
            ck_assert_uint_ge(lks_clock_ns() - begin, LKS_RESERVED_NS);
        }
        lks_queue_unlock(db);
    }
    lks_queue_leave(db, &waiter);
    return reserved;
}

START_TEST(a_reservation_keeps_newcomers_out_and_expires)
{
    struct lockstep_db *db = attached_db();
    int tries = 0;
    while (!hand_to_one_who_is_away(db))
        ck_assert_int_lt(++tries, 100);
    close_db(db);
}
END_TEST

START_TEST(whoever_waits_for_a_free_lock_has_it_reserved)
{
    struct lockstep_db *db = attached_db();
    struct lks_place place;
    lks_place_init(&place, 1);
    ck_assert_int_eq(lks_queue_wait(db, &place, LONG_NS), LOCKSTEP_OK);
    ck_assert_int_eq(writer_state(db), LKS_WRITER_RESERVED);
    ck_assert_int_eq(lks_queue_take(db, &place), LOCKSTEP_OK);
    lks_queue_unlock(db);
    /* One who leaves instead passes it on. */
    ck_assert_int_eq(lks_queue_wait(db, &place, LONG_NS), LOCKSTEP_OK);
    lks_queue_leave(db, &place);
    ck_assert_int_eq(writer_state(db), LKS_WRITER_FREE);
    ck_assert_uint_eq(waiting_entries(db), 0);
    close_db(db);
}
END_TEST

START_TEST(with_no_entry_left_waiting_is_refused_and_ghosts_make_room)
{
    struct lockstep_db *db = attached_db();
    struct lks_place owner, place;
    uint32_t i;
    lks_place_init(&owner, 1);
    lks_place_init(&place, 2);
    ck_assert_int_eq(lks_queue_take(db, &owner), LOCKSTEP_OK);
    for (i = 0; i < LKS_MAX_WAITERS; i++) {
        lks_a64_set_relaxed(&db->shm->waiters[i].touched_ns, lks_clock_ns());
        lks_a32_set_release(&db->shm->waiters[i].word, lks_waiter_word(db->client, LKS_WAITER_AWAY));
    }
    ck_assert_int_eq(lks_queue_wait(db, &place, LKS_NS_PER_MS), LOCKSTEP_NOMEM);
    lks_a64_set_relaxed(&db->shm->waiters[77].touched_ns, lks_clock_ns() - 2 * LKS_AWAY_MAX_NS);
    ck_assert_int_eq(lks_queue_wait(db, &place, LKS_NS_PER_MS), LOCKSTEP_TIMEOUT);
    ck_assert_uint_eq(place.entry, 77);
    lks_queue_leave(db, &place);
    lks_queue_unlock(db);
    for (i = 0; i < LKS_MAX_WAITERS; i++)
        lks_a32_set_release(&db->shm->waiters[i].word, 0);
    close_db(db);
}
END_TEST

/* As if `count` connections of another process had been waiting for `wait_ns`. */
static void
fill_queue(struct lockstep_db *db, uint32_t count, uint64_t wait_ns)
{
    uint32_t i;
    for (i = 0; i < count; i++) {
        struct lks_shm_waiter *w = &db->shm->waiters[i];
        lks_a64_set_relaxed(&w->sequence, i == 1 ? 1 : 100 + i);
        lks_a64_set_relaxed(&w->since_ns, lks_clock_ns() - wait_ns);
        lks_a32_set_release(&w->word, lks_waiter_word(3, LKS_WAITER_WAITING));
    }
    lks_a32_max(&db->shm->state.waiters_high, count);
    lks_a64_set_relaxed(&db->shm->state.next_sequence, 1000);
    lks_a32_or(&db->shm->state.queue_flags, LKS_QUEUE_WAITERS | LKS_QUEUE_STARVING);
}

/* Takes the lock and gives it back, in a turn that has lasted for turn_ns. */
static enum lks_writer_state
pass_through(struct lockstep_db *db, struct lks_place *place, uint64_t turn_ns)
{
    ck_assert_int_eq(lks_queue_take(db, place), LOCKSTEP_OK);
    if (turn_ns != 0)
        lks_a64_set_relaxed(&db->shm->state.turn_since_ns, lks_clock_ns() - turn_ns);
    lks_queue_unlock(db);
    return writer_state(db);
}

START_TEST(an_owner_that_comes_back_at_once_has_its_turn_and_no_more)
{
    struct lockstep_db *db = memory_db(12);
    struct lks_place place;
    uint64_t word;
    lks_place_init(&place, 1);
    fill_queue(db, 3, 10 * LKS_STARVING_NS);
    ck_assert_int_eq(pass_through(db, &place, LKS_TURN_NS / 4), LKS_WRITER_FREE);
    ck_assert_int_eq(pass_through(db, &place, LKS_TURN_NS), LKS_WRITER_RESERVED);
    word = lks_a64_acquire(&db->shm->state.writer);
    ck_assert_uint_eq(lks_writer_client(word), 3);
    ck_assert_uint_eq(lks_writer_waiter(word), 1); /* the one with the lowest number */
    memory_db_free(db);
}
END_TEST

START_TEST(whoever_overtakes_has_what_is_left_of_the_turn)
{
    struct lockstep_db *db = memory_db(12);
    struct lks_place first, second;
    lks_place_init(&first, 1);
    lks_place_init(&second, 2);
    fill_queue(db, 3, 10 * LKS_STARVING_NS);
    ck_assert_int_eq(pass_through(db, &first, LKS_TURN_NS / 4), LKS_WRITER_FREE);
    /* Alternating does not begin a turn anew. */
    ck_assert_int_eq(pass_through(db, &second, 0), LKS_WRITER_FREE);
    ck_assert_uint_ge(lks_clock_ns() - lks_a64_relaxed(&db->shm->state.turn_since_ns), LKS_TURN_NS / 4);
    ck_assert_int_eq(lks_queue_take(db, &first), LOCKSTEP_OK);
    lks_a64_set_relaxed(&db->shm->state.turn_since_ns, lks_clock_ns() - LKS_TURN_NS);
    lks_queue_unlock(db);
    ck_assert_int_eq(writer_state(db), LKS_WRITER_RESERVED);
    memory_db_free(db);
}
END_TEST

START_TEST(one_who_waited_begins_a_turn)
{
    struct lockstep_db *db = memory_db(12);
    struct lks_place place;
    lks_place_init(&place, 1);
    ck_assert_int_eq(lks_queue_wait(db, &place, LONG_NS), LOCKSTEP_OK); /* reserved */
    lks_a64_set_relaxed(&db->shm->state.turn_since_ns, 1);
    fill_queue(db, 0, 0);
    lks_a32_or(&db->shm->state.queue_flags, LKS_QUEUE_WAITERS);
    ck_assert_int_eq(lks_queue_take(db, &place), LOCKSTEP_OK);
    ck_assert_uint_gt(lks_a64_relaxed(&db->shm->state.turn_since_ns), 1);
    lks_queue_unlock(db);
    memory_db_free(db);
}
END_TEST

START_TEST(one_who_does_not_come_twice_goes_to_the_end)
{
    struct lockstep_db *db = memory_db(12);
    struct lks_place place;
    uint32_t i;
    lks_place_init(&place, 1);
    fill_queue(db, 3, 10 * LKS_STARVING_NS);
    for (i = 0; i < 3; i++) {
        uint64_t word;
        ck_assert_int_eq(pass_through(db, &place, LKS_TURN_NS), LKS_WRITER_RESERVED);
        word = lks_a64_acquire(&db->shm->state.writer);
        ck_assert_uint_eq(lks_writer_waiter(word), i < 2 ? 1 : 0);
        ck_assert_int_eq(lks_queue_take(db, &place), LOCKSTEP_BUSY);
        lks_a64_set_relaxed(&db->shm->state.reserved_ns, lks_clock_ns() - 2 * LKS_RESERVED_NS);
    }
    memory_db_free(db);
}
END_TEST

/* Its owner went back to SQLite: the ring would be lost. */
START_TEST(who_is_away_is_not_rung)
{
    struct lockstep_db *db = memory_db(12);
    struct lks_place owner;
    lks_place_init(&owner, 1);
    fill_queue(db, 3, 0);
    lks_a64_set_relaxed(&db->shm->waiters[1].touched_ns, lks_clock_ns());
    lks_a32_set_release(&db->shm->waiters[1].word, lks_waiter_word(3, LKS_WAITER_AWAY));
    ck_assert_int_eq(pass_through(db, &owner, 1), LKS_WRITER_FREE);
    ck_assert_uint_eq(lks_a32_relaxed(&db->shm->waiters[1].bell), 0);
    ck_assert_uint_eq(lks_a32_relaxed(&db->shm->waiters[0].bell), 1);
    memory_db_free(db);
}
END_TEST

START_TEST(with_many_who_wait_turns_are_shorter)
{
    struct lockstep_db *db = memory_db(12);
    struct lks_place place;
    lks_place_init(&place, 1);
    fill_queue(db, 500, 10 * LKS_STARVING_NS);
    ck_assert_int_eq(pass_through(db, &place, LKS_ROUND_NS / 400), LKS_WRITER_RESERVED);
    memory_db_free(db);
}
END_TEST

START_TEST(a_turn_waits_for_those_who_have_waited_for_long_enough)
{
    struct lockstep_db *db = memory_db(12);
    struct lks_place place;
    lks_place_init(&place, 1);
    fill_queue(db, 1, 0);
    ck_assert_int_eq(pass_through(db, &place, 1), LKS_WRITER_FREE);
    memory_db_free(db);
}
END_TEST

START_TEST(a_long_transaction_uses_its_turn_up)
{
    struct lockstep_db *db = memory_db(12);
    struct lks_place place;
    lks_place_init(&place, 1);
    ck_assert_int_eq(lks_queue_take(db, &place), LOCKSTEP_OK);
    fill_queue(db, 1, 10 * LKS_STARVING_NS); /* came while the lock was ours */
    lks_queue_unlock(db);
    ck_assert_int_eq(writer_state(db), LKS_WRITER_RESERVED);
    memory_db_free(db);
}
END_TEST

static void
own_and_die(struct child *self)
{
    struct lockstep_db *db = attached_db();
    struct lks_place place;
    lks_place_init(&place, 1);
    child_check(lks_queue_take(db, &place) == LOCKSTEP_OK);
    child_step(self, 'o');
}

START_TEST(the_lock_of_a_dead_process_is_taken_over)
{
    struct lockstep_db *db;
    struct child child;
    struct lks_place place;
    lks_place_init(&place, 1);
    child_start(&child, own_and_die);
    child_await(&child, 'o');
    db = attached_db();
    ck_assert_int_eq(lks_queue_lock(db, &place, 100 * LKS_NS_PER_MS), LOCKSTEP_TIMEOUT);
    child_kill(&child);
    ck_assert_int_eq(lks_queue_lock(db, &place, LONG_NS), LOCKSTEP_OK);
    ck_assert(logged("died; clearing what it left"));
    lks_queue_unlock(db);
    close_db(db);
}
END_TEST

static void
wait_and_die(struct child *self)
{
    struct lockstep_db *db = attached_db();
    struct lks_place place;
    lks_place_init(&place, 1);
    child_step(self, 'a'); /* the lock is free until here */
    (void)lks_queue_lock(db, &place, LONG_NS);
    child_check(false); /* it is to be killed while it waits */
}

START_TEST(a_waiter_that_dies_holds_nobody_up)
{
    struct lockstep_db *db;
    struct child child;
    struct lks_place owner, other;
    lks_place_init(&owner, 1);
    lks_place_init(&other, 2);
    child_start(&child, wait_and_die);
    child_await(&child, 'a');
    db = attached_db();
    ck_assert_int_eq(lks_queue_take(db, &owner), LOCKSTEP_OK);
    child_go(&child);
    while (waiting_entries(db) == 0)
        lks_clock_nap_ms(1);
    child_kill(&child);
    lks_queue_unlock(db);
    ck_assert_int_eq(lks_queue_lock(db, &other, LONG_NS), LOCKSTEP_OK);
    lks_queue_unlock(db);
    close_db(db);
    ck_assert(!file_exists("db-lockstep"));
}
END_TEST

static void
count_up(struct child *self)
{
    struct lockstep_db *db = attached_db();
    struct lks_place place;
    int i;
    lks_place_init(&place, 1);
    child_step(self, 'r');
    for (i = 0; i < 500; i++) {
        struct lks_a64 *counter = &db->shm->state.written_bytes;
        child_check(lks_queue_lock(db, &place, LONG_NS) == LOCKSTEP_OK);
        /* Not atomic: the lock is what keeps it right. */
        lks_a64_set_relaxed(counter, lks_a64_relaxed(counter) + 1);
        lks_queue_unlock(db);
    }
    close_db(db);
}

START_TEST(processes_exclude_each_other)
{
    enum { MANY = 4 };
    struct lockstep_db *db;
    struct child children[MANY];
    uint64_t before;
    int i;
    for (i = 0; i < MANY; i++)
        child_start(&children[i], count_up);
    for (i = 0; i < MANY; i++)
        child_await(&children[i], 'r');
    db = attached_db();
    before = lks_a64_relaxed(&db->shm->state.written_bytes);
    for (i = 0; i < MANY; i++)
        child_go(&children[i]);
    for (i = 0; i < MANY; i++)
        child_end(&children[i]);
    ck_assert_uint_eq(lks_a64_relaxed(&db->shm->state.written_bytes) - before, MANY * 500);
    close_db(db);
}
END_TEST

int
main(void)
{
    Suite *suite = suite_create("queue");
    TCase *tcase = coordtest_case(suite, "queue");
    tcase_add_test(tcase, the_lock_is_taken_once_and_given_back);
    tcase_add_test(tcase, the_lock_is_handed_on_in_order_of_arrival);
    tcase_add_test(tcase, a_reservation_keeps_newcomers_out_and_expires);
    tcase_add_test(tcase, whoever_waits_for_a_free_lock_has_it_reserved);
    tcase_add_test(tcase, with_no_entry_left_waiting_is_refused_and_ghosts_make_room);
    tcase_add_test(tcase, an_owner_that_comes_back_at_once_has_its_turn_and_no_more);
    tcase_add_test(tcase, whoever_overtakes_has_what_is_left_of_the_turn);
    tcase_add_test(tcase, one_who_waited_begins_a_turn);
    tcase_add_test(tcase, one_who_does_not_come_twice_goes_to_the_end);
    tcase_add_test(tcase, who_is_away_is_not_rung);
    tcase_add_test(tcase, with_many_who_wait_turns_are_shorter);
    tcase_add_test(tcase, a_turn_waits_for_those_who_have_waited_for_long_enough);
    tcase_add_test(tcase, a_long_transaction_uses_its_turn_up);
    tcase_add_test(tcase, the_lock_of_a_dead_process_is_taken_over);
    tcase_add_test(tcase, a_waiter_that_dies_holds_nobody_up);
    tcase_add_test(tcase, processes_exclude_each_other);
    return coordtest_main(suite);
}
