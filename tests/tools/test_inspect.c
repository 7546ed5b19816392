/*
 * Tests lib/coord/inspect.c, census.c and roster.c, and what the command makes of them: a coordination file
 * made by hand, with real processes that hold its locks.
 */
#include <lockstep/inspect.h>

#include <check.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <sqlite3.h>

#include "base/clock.h"
#include "coord/inspect.h"
#include "shm/layout.h"
#include "tools/handmade.h"
#include "tools/holder.h"

#define HEAD "LOCK MODE STATE PID PROGRAM PSTATE CONN THREAD SINCE SNAPSHOT DETAIL\n"
#define NOBODY 65534
#define RACE_SEEN 3000
#define RACE_ROUNDS 1000000

/* ------------------------------------------------------------------------------------------------
 * Who holds what
 * --------------------------------------------------------------------------------------------- */

START_TEST(writer_waiters_snapshots_and_clients_are_shown)
{
    char b = holder_start(), c = holder_start();
    handmade_client('A', 3);
    handmade_client(b, 0);
    handmade_client(c, 7);
    handmade_writer(3);
    handmade_waiter(5, 0, 100); /* came second */
    handmade_waiter(9, 7, 99);
    handmade_reader(4, 3, 42);
    handmade_reader(6, 0, 40);
    handmade_reader(LKS_WORKER_SLOT, 7, 41);
    holder_lock(c, "db-lockstep", 'P', 'w', (long long)LKS_LOCK_BASE + LKS_BYTE_WORKER, 1);
    tool_expect("locks db", 0,
                HEAD "WRITER WRITE held A holder sleeping 2 2000 AGE writes; 2 wait\n"
                     "WRITER WRITE waiting C holder sleeping 1 3009 AGE next in line\n"
                     "WRITER WRITE waiting B holder sleeping 1 3005 AGE number 2 in line\n"
                     "SNAPSHOT READ held B holder sleeping 1 1006 AGE 40 2 commits behind\n"
                     "PIN READ held C holder sleeping 1 1000 AGE 41 is being written behind; 1 commit "
                     "behind\n"
                     "SNAPSHOT READ held A holder sleeping 1 1004 AGE 42 newest\n"
                     "DMS2 READ held A holder sleeping connected\n"
                     "DMS2 READ held B holder sleeping connected\n"
                     "DMS2 READ held C holder sleeping connected\n"
                     "WORKER WRITE held C holder sleeping writes behind\n"
                     "CLIENT(0) WRITE held B holder sleeping AGE 1 connection\n"
                     "CLIENT(3) WRITE held A holder sleeping AGE 4 connections\n"
                     "CLIENT(7) WRITE held C holder sleeping AGE 8 connections\n",
                "");
}
END_TEST

START_TEST(what_clients_hold_on_the_database_file_is_explained)
{
    const long long pending = 0x40000000;
    handmade_client('A', 0);
    holder_lock('A', "db", 'O', 'r', pending + 2 + 509, 1);
    holder_lock('A', "db", 'O', 'w', pending + 1, 1);
    tool_expect("locks -n -o LOCK,MODE,PID,FILE,DETAIL db", 0,
                "DMS2 READ A lockstep connected\n"
                "CLIENT(0) WRITE A lockstep 1 connection\n"
                "RESERVED WRITE A database Lockstep refuses stock writers at once\n"
                "SHARED READ A database Lockstep keeps stock writers out\n",
                "");
    holder_lock('A', "db", 'O', 'w', pending, 1);
    holder_lock('A', "db", 'O', 'w', pending + 2, 509);
    tool_expect("locks -n -o LOCK,MODE,PID,DETAIL db", 0,
                "DMS2 READ A connected\n"
                "CLIENT(0) WRITE A 1 connection\n"
                "PENDING WRITE A Lockstep writes behind; stock readers wait\n"
                "RESERVED WRITE A Lockstep refuses stock writers at once\n"
                "EXCLUSIVE WRITE A Lockstep writes behind; stock readers wait\n"
                "SHARED READ A Lockstep keeps stock writers out\n",
                "");
}
END_TEST

START_TEST(lockstep_is_recognised_by_the_byte_that_only_it_locks)
{
    holder_lock('A', "db", 'O', 'r', 0x40000000 + 2 + 509, 1);
    tool_expect("locks -n -o LOCK,PID,DETAIL db 2>/dev/null", 0,
                "SHARED A Lockstep keeps stock writers out\n", "");
}
END_TEST

START_TEST(status_tells_what_is_pending_and_what_is_durable)
{
    char b = holder_start();
    handmade_client('A', 3);
    handmade_client(b, 0);
    handmade_writer(3);
    handmade_waiter(5, 0, 100);
    handmade_reader(4, 3, 42);
    handmade_reader(6, 0, 38);
    holder_lock(b, "db-lockstep", 'P', 'w', (long long)LKS_LOCK_BASE + LKS_BYTE_WORKER, 1);
    lks_a32_set_relaxed(&shm->state.last_errno, 28);
    lks_a64_set_relaxed(&shm->state.failures, 3);
    tool_expect("status db", 0,
                "Database: DIR/db\n"
                "Journal mode: rollback journal\n"
                "Coordination: Lockstep\n"
                "Clients: 2\n"
                "Open transactions: 2\n"
                "Waiting writers: 1\n"
                "Writer: A\n"
                "Writer's program: holder\n"
                "Writing for: AGE\n"
                "Worker: B\n"
                "Committed: 42\n"
                "Flushed: 40\n"
                "Durable: 39\n"
                "Pending commits: 3\n"
                "Pending for: AGE\n"
                "Pending bytes: 40K\n"
                "Store size: 2M\n"
                "Store limit: 64M\n"
                "Hard limit: 32G\n"
                "Max lag (ms): 100\n"
                "Oldest snapshot: 38\n"
                "Open for: AGE\n"
                "Batches written: 7\n"
                "Batches failed: 3\n"
                "Last error: No space left on device\n"
                "Locks: 9\n",
                "");
    tool_expect("status -J -o pending,pending-bytes,hard-limit,writer,last-error db", 0,
                "{\n\"status\": [\n{\n\"pending\": 3,\n\"pending-bytes\": 40960,\n"
                "\"hard-limit\": 34359738368,\n\"writer\": A,\n"
                "\"last-error\": \"No space left on device\"\n}\n]\n}\n",
                "");
}
END_TEST

static uint64_t
pending_age_s(void)
{
    struct lks_census *census = malloc(sizeof *census);
    uint64_t age_ns;
    ck_assert_ptr_nonnull(census);
    lks_census_take(shm, begin_ns, census);
    age_ns = census->pending_age_ns;
    free(census);
    return age_ns == LOCKSTEP_UNKNOWN ? age_ns : age_ns / NS_PER_S;
}

START_TEST(the_oldest_pending_commit_tells_the_lag)
{
    ck_assert_uint_eq(pending_age_s(), 5);
    lks_a64_set_relaxed(&shm->state.durable, 41);
    ck_assert_uint_eq(pending_age_s(), 3);
    lks_a64_set_relaxed(&shm->state.durable, 42);
    ck_assert_uint_eq(pending_age_s(), LOCKSTEP_UNKNOWN);
    /* More commits than the ring remembers. */
    for (uint64_t id = 1000; id < 1000 + LKS_RING_SIZE; id++) {
        lks_a64_set_relaxed(&shm->ring[id % LKS_RING_SIZE].time_ns, begin_ns - 7 * NS_PER_S);
        lks_a64_set_release(&shm->ring[id % LKS_RING_SIZE].id, id);
    }
    lks_a64_set_relaxed(&shm->state.committed, 1000 + LKS_RING_SIZE - 1);
    ck_assert_uint_eq(pending_age_s(), LOCKSTEP_UNKNOWN);
    lks_a64_set_relaxed(&shm->state.pending_since_ns, begin_ns - 9 * NS_PER_S);
    ck_assert_uint_eq(pending_age_s(), 9);
}
END_TEST

START_TEST(a_stopped_writer_is_shown_with_the_cure)
{
    handmade_client('A', 3);
    handmade_writer(3);
    holder_stop('A');
    tool_expect("locks -n -o LOCK,PSTATE,DETAIL db", 0,
                "WRITER stopped writes; stopped; \"kill -CONT A\" lets it go on\n"
                "DMS2 stopped connected\n"
                "CLIENT(3) stopped 4 connections\n",
                "");
    holder_continue('A');
}
END_TEST

START_TEST(what_the_dead_have_left_is_called_that)
{
    char b = holder_start();
    handmade_client('A', 3);
    handmade_client(b, 0);
    handmade_reader(4, 3, 40);
    handmade_waiter(1, 3, 5);
    handmade_writer(3);
    holder_kill('A');
    tool_expect("locks -n -o LOCK,STATE,PROGRAM,PSTATE,DETAIL db", 0,
                "WRITER held recorded its process has died; the next writer takes over; 1 waits\n"
                "WRITER waiting recorded its process has died\n"
                "SNAPSHOT held recorded its process has died; cleared by whom it holds up\n"
                "DMS2 held holder sleeping connected\n"
                "CLIENT(0) held holder sleeping 1 connection\n",
                "");
    tool_expect("status -n -o clients,readers,writer-program db", 0, "1 1 recorded\n", "");
}
END_TEST

START_TEST(a_reservation_is_no_ownership)
{
    handmade_client('A', 3);
    handmade_waiter(1, 3, 5);
    lks_a64_set_relaxed(&shm->state.reserved_ns, lks_clock_ns() - 4 * NS_PER_S);
    lks_a64_set_release(&shm->state.writer, lks_writer_word(9, 1, 3, LKS_WRITER_RESERVED));
    tool_expect("locks -n -o LOCK,STATE,PID,SINCE,DETAIL db", 0,
                "WRITER held A AGE handed to the next in line, who has not come for it yet; 1 waits\n"
                "WRITER waiting A AGE next in line\n"
                "DMS2 held A connected\n"
                "CLIENT(3) held A AGE 4 connections\n",
                "");
    tool_expect("status -n -o WRITER,WAITERS db", 0, "A 1\n", "");
}
END_TEST

START_TEST(who_has_not_come_back_does_not_wait)
{
    struct lks_census *census = malloc(sizeof *census);
    ck_assert_ptr_nonnull(census);
    handmade_waiter(1, 3, 5);
    handmade_waiter(2, 3, 6);
    lks_a64_set_relaxed(&shm->waiters[1].touched_ns, begin_ns - NS_PER_S);
    lks_a64_set_relaxed(&shm->waiters[2].touched_ns, begin_ns - LKS_NS_PER_MS);
    lks_a32_set_release(&shm->waiters[1].word, lks_waiter_word(3, LKS_WAITER_AWAY));
    lks_a32_set_release(&shm->waiters[2].word, lks_waiter_word(3, LKS_WAITER_AWAY));
    lks_census_take(shm, begin_ns, census);
    ck_assert_uint_eq(census->waiter_count, 1);
    ck_assert_uint_eq(census->waiters[0].sequence, 6);
    free(census);
}
END_TEST

START_TEST(a_client_of_another_pid_namespace_keeps_its_own_pid)
{
    handmade_client('A', 3);
    lks_a64_set_relaxed(&shm->clients[3].pid_namespace, 1);
    lks_a32_set_relaxed(&shm->clients[3].pid, 17);
    tool_expect("locks -n -o LOCK,PID,NSPID,DETAIL db", 0,
                "DMS2 A connected\n"
                "CLIENT(3) A 17 process 17 of another pid namespace; 4 connections\n",
                "");
}
END_TEST

START_TEST(a_claim_that_is_not_active_yet_does_not_borrow_from_the_one_before)
{
    handmade_client('A', 3);
    handmade_reader(4, 3, 40);
    lks_a64_set_release(&shm->slots[4].word, lks_slot_word(42, 3, LKS_SLOT_CLAIMING));
    tool_expect("locks -n -o LOCK,PID,CONN,SINCE,SNAPSHOT db", 0,
                "SNAPSHOT A 42\nDMS2 A\nCLIENT(3) A AGE\n", "");
}
END_TEST

/* ------------------------------------------------------------------------------------------------
 * In a process that takes part, or may not
 * --------------------------------------------------------------------------------------------- */

static void
lock_ourselves(int fd, uint64_t byte)
{
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_len = 1};
    lock.l_start = (off_t)(LKS_LOCK_BASE + byte);
    ck_assert_int_eq(fcntl(fd, F_SETLK, &lock), 0);
}

static size_t
our_locks(void)
{
    struct lockstep_inspection *inspection;
    const struct lockstep_lock_view *lock;
    size_t count = 0;
    ck_assert_int_eq(lockstep_inspect_open(holder_path("db"), &inspection), LOCKSTEP_OK);
    for (size_t i = 0; (lock = lockstep_inspect_lock(inspection, i)) != NULL; i++)
        count += lock->process.pid == getpid();
    lockstep_inspect_close(inspection);
    return count;
}

START_TEST(inspecting_a_database_in_use_here_drops_no_lock)
{
    struct lockstep_inspection *inspection;
    int fd = open(holder_path("db-lockstep"), O_RDWR);
    lock_ourselves(fd, LKS_BYTE_CLIENT0 + 5);
    ck_assert_uint_eq(our_locks(), 1);
    ck_assert_uint_eq(our_locks(), 1);
    ck_assert_int_eq(lockstep_inspect_open(holder_path("db"), &inspection), LOCKSTEP_OK);
    ck_assert_int_eq(lockstep_inspect_database(inspection)->coordination, LOCKSTEP_COORD_HIDDEN);
    lockstep_inspect_close(inspection);
    close(fd);
    ck_assert_uint_eq(our_locks(), 0);
}
END_TEST

START_TEST(without_permission_the_kernels_view_is_left)
{
    int status;
    pid_t child;
    if (geteuid() != 0)
        return; /* files of others are needed */
    handmade_client('A', 3);
    ck_assert_int_eq(chmod(holder_path(""), 0755), 0);
    ck_assert_int_eq(chmod(holder_path("db-lockstep"), 0600), 0);
    child = fork();
    if (child == 0) {
        struct lockstep_inspection *inspection;
        if (setresgid(NOBODY, NOBODY, NOBODY) != 0 || setresuid(NOBODY, NOBODY, NOBODY) != 0)
            _exit(1);
        if (lockstep_inspect_open(holder_path("db"), &inspection) != LOCKSTEP_OK)
            _exit(2);
        if (lockstep_inspect_database(inspection)->coordination != LOCKSTEP_COORD_HIDDEN)
            _exit(3);
        if (strstr(lockstep_inspect_database(inspection)->problem, "Permission denied") == NULL)
            _exit(4);
        if (lockstep_inspect_lock(inspection, 0) == NULL ||
            lockstep_inspect_lock(inspection, 0)->process.pid != holder_pid('A'))
            _exit(5);
        lockstep_inspect_close(inspection);
        _exit(0);
    }
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    ck_assert(WIFEXITED(status));
    ck_assert_int_eq(WEXITSTATUS(status), 0);
}
END_TEST

/* ------------------------------------------------------------------------------------------------
 * While others work
 * --------------------------------------------------------------------------------------------- */

static struct lks_a32 racing;

/*
 * Transactions by client 3, one after another, each so short that a look may meet several.  In a plain build
 * a slot is read in less time than its cache line takes to travel, so without the second look at the word
 * this fails under ThreadSanitizer (make check-tsan).
 *
 * thread and connection follow from the snapshot.
 */
static void *
race(void *arg)
{
    struct lks_shm_slot *slot = &shm->slots[4];
    (void)arg;
    for (uint64_t snapshot = 1; lks_a32_relaxed(&racing) != 0; snapshot = snapshot % 1000000 + 1) {
        lks_a64_set_relaxed(&slot->word, lks_slot_word(snapshot, 3, LKS_SLOT_CLAIMING));
        lks_fence();
        lks_a32_set_relaxed(&slot->thread, (uint32_t)snapshot);
        lks_a32_set_relaxed(&slot->connection, (uint32_t)snapshot + 1);
        lks_a64_set_release(&slot->word, lks_slot_word(snapshot, 3, LKS_SLOT_ACTIVE));
        for (uint64_t i = 0; i < snapshot % 64; i++) /* long enough to be met, short enough to be missed */
            lks_fence();
        lks_a64_set_release(&slot->word, 0);
    }
    return NULL;
}

START_TEST(what_is_told_of_one_reader_is_of_one_transaction)
{
    pthread_t thread;
    unsigned seen = 0, rounds = 0;
    struct lks_census *census = malloc(sizeof *census);
    ck_assert_ptr_nonnull(census);
    lks_a32_set_relaxed(&racing, 1);
    ck_assert_int_eq(pthread_create(&thread, NULL, race, NULL), 0);
    while (seen < RACE_SEEN && rounds++ < RACE_ROUNDS) {
        lks_census_take(shm, lks_clock_ns(), census);
        for (uint32_t k = 0; k < census->reader_count; k++) {
            const struct lks_census_reader *reader = &census->readers[k];
            if (reader->thread == 0)
                continue;
            seen++;
            ck_assert_uint_eq((uint64_t)reader->thread, reader->snapshot);
            ck_assert_uint_eq(reader->connection, reader->snapshot + 1);
        }
    }
    lks_a32_set_relaxed(&racing, 0);
    ck_assert_int_eq(pthread_join(thread, NULL), 0);
    free(census);
    ck_assert_uint_eq(seen, RACE_SEEN);
}
END_TEST

START_TEST(only_a_database_that_is_there_can_be_inspected)
{
    struct lockstep_inspection *inspection = NULL;
    ck_assert_int_eq(lockstep_inspect_open(holder_path("gone"), &inspection), LOCKSTEP_CANTOPEN);
    ck_assert_int_eq(lockstep_inspect_open(NULL, &inspection), LOCKSTEP_MISUSE);
    ck_assert_int_eq(lockstep_inspect_open(holder_path("db"), NULL), LOCKSTEP_MISUSE);
    ck_assert_ptr_null(inspection);
    lockstep_inspect_close(NULL);
}
END_TEST

int
main(void)
{
    Suite *suite = suite_create("tools/inspect");
    TCase *who = tcase_create("who");
    TCase *here = tcase_create("here");
    SRunner *runner = srunner_create(suite);
    int failed;

    tcase_add_checked_fixture(who, handmade_begin, handmade_finish);
    tcase_add_test(who, writer_waiters_snapshots_and_clients_are_shown);
    tcase_add_test(who, what_clients_hold_on_the_database_file_is_explained);
    tcase_add_test(who, lockstep_is_recognised_by_the_byte_that_only_it_locks);
    tcase_add_test(who, status_tells_what_is_pending_and_what_is_durable);
    tcase_add_test(who, the_oldest_pending_commit_tells_the_lag);
    tcase_add_test(who, a_stopped_writer_is_shown_with_the_cure);
    tcase_add_test(who, what_the_dead_have_left_is_called_that);
    tcase_add_test(who, a_reservation_is_no_ownership);
    tcase_add_test(who, who_has_not_come_back_does_not_wait);
    tcase_add_test(who, a_client_of_another_pid_namespace_keeps_its_own_pid);
    tcase_add_test(who, a_claim_that_is_not_active_yet_does_not_borrow_from_the_one_before);
    tcase_add_checked_fixture(here, handmade_begin, handmade_finish);
    tcase_add_test(here, inspecting_a_database_in_use_here_drops_no_lock);
    tcase_add_test(here, without_permission_the_kernels_view_is_left);
    tcase_add_test(here, what_is_told_of_one_reader_is_of_one_transaction);
    tcase_add_test(here, only_a_database_that_is_there_can_be_inspected);
    suite_add_tcase(suite, who);
    suite_add_tcase(suite, here);
    srunner_run_all(runner, CK_NORMAL);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
