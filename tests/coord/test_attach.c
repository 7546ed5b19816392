/* Connecting, leaving, the registry, the client table and the byte locks, with real processes. */
#include "coord/attach.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "coord/client.h"
#include "coord/coordtest.h"
#include "coord/registry.h"
#include "os/io.h"
#include "store/store.h"

static struct lockstep_db *
opened(const char *name)
{
    struct lockstep_db *db = NULL;
    ck_assert_int_eq(lks_store_open(name, NULL, &lks_io_os, &db), LOCKSTEP_OK);
    return db;
}

START_TEST(the_first_client_makes_the_file_and_the_last_removes_it)
{
    struct lockstep_db *db = opened("db");
    ck_assert(!file_exists("db-lockstep"));
    ck_assert_int_eq(lks_attach(db, false), LOCKSTEP_OK);
    ck_assert_int_eq(lks_attach(db, false), LOCKSTEP_OK); /* idempotent */
    ck_assert(file_exists("db-lockstep"));
    close_db(db);
    ck_assert(!file_exists("db-lockstep"));
    ck_assert(!file_exists("db-journal"));
}
END_TEST

START_TEST(all_names_of_a_file_are_one_database)
{
    struct lockstep_db *db = opened("db");
    char path[4200];
    ck_assert_int_eq(symlink("db", "soft"), 0);
    ck_assert_int_eq(link("db", "hard"), 0);
    ck_assert_ptr_eq(opened("soft"), db);
    ck_assert_ptr_eq(opened("hard"), db);
    ck_assert_ptr_nonnull(realpath("db", path));
    ck_assert_ptr_eq(opened(path), db);
    ck_assert_uint_eq(lks_registry_references(db), 4);
    ck_assert_int_eq(lks_attach(db, false), LOCKSTEP_OK);
    close_db(db);
    close_db(db);
    close_db(db);
    ck_assert(file_exists("db-lockstep"));
    close_db(db);
    ck_assert(!file_exists("db-lockstep"));
}
END_TEST

/* Closing it would drop the locks that a stock connection of this process has on the file. */
START_TEST(the_descriptor_on_the_database_is_kept_and_used_again)
{
    struct lockstep_db *db = opened("db");
    int fd = db->locks.database_fd;
    close_db(db);
    ck_assert_int_ne(fcntl(fd, F_GETFD), -1);
    db = opened("db");
    ck_assert_int_eq(db->locks.database_fd, fd);
    close_db(db);
}
END_TEST

START_TEST(a_missing_file_cannot_be_opened)
{
    struct lockstep_db *db = NULL;
    ck_assert_int_eq(lks_store_open("none", NULL, &lks_io_os, &db), LOCKSTEP_CANTOPEN);
    ck_assert_ptr_null(db);
}
END_TEST

START_TEST(one_who_only_joins_finds_nobody)
{
    struct lockstep_db *db = opened("db");
    ck_assert_int_eq(lks_attach(db, true), LOCKSTEP_READONLY);
    ck_assert(!file_exists("db-lockstep"));
    ck_assert_int_eq(lks_attach(db, false), LOCKSTEP_OK);
    close_db(db);
}
END_TEST

START_TEST(a_database_in_wal_mode_is_not_for_the_store)
{
    unsigned char head[100] = "SQLite format 3";
    int fd = open("db", O_WRONLY | O_CLOEXEC);
    struct lockstep_db *db;
    head[16] = 16;
    head[18] = head[19] = 2;
    ck_assert_int_eq(pwrite(fd, head, sizeof head, 0), (ssize_t)sizeof head);
    close(fd);
    db = opened("db");
    ck_assert_int_eq(lks_attach(db, false), LOCKSTEP_NOTSTORE);
    close_db(db);
}
END_TEST

static void
attach_and_wait(struct child *self)
{
    struct lockstep_db *db;
    child_step(self, 's');
    db = attached_db();
    child_step(self, 'a');
    close_db(db);
}

/* Started ahead of our own threads: only now may it attach. */
static void
let_attach(struct child *child)
{
    child_await(child, 's');
    child_go(child);
    child_await(child, 'a');
}

START_TEST(a_second_process_joins_and_the_first_may_leave)
{
    struct lockstep_db *db;
    struct child child;
    uint32_t i, clients = 0;
    child_start(&child, attach_and_wait);
    db = attached_db();
    let_attach(&child);
    for (i = 0; i < LKS_MAX_CLIENTS; i++) {
        uint32_t pid = lks_a32_acquire(&db->shm->clients[i].pid);
        clients += pid != 0;
        if (pid != 0)
            ck_assert(pid == (uint32_t)getpid() || pid == (uint32_t)child.pid);
    }
    ck_assert_uint_eq(clients, 2);
    close_db(db);
    ck_assert(file_exists("db-lockstep"));
    child_go(&child);
    child_end(&child);
    ck_assert(!file_exists("db-lockstep"));
}
END_TEST

static void
hold_lock(struct child *self, const char *name, long long at, long long size)
{
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = at, .l_len = size};
    int fd = open(name, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    child_check(fd >= 0 && fcntl(fd, F_SETLK, &lock) == 0);
    child_step(self, 'l');
}

static void
write_as_stock(struct child *self)
{
    hold_lock(self, "db", (long long)LKS_SQLITE_SHARED_FIRST, LKS_SQLITE_SHARED_SIZE);
}

static void
reserve_as_stock(struct child *self)
{
    hold_lock(self, "db", (long long)LKS_SQLITE_RESERVED, 1);
}

static void
connect_for_long(struct child *self)
{
    hold_lock(self, "db-lockstep", (long long)LKS_LOCK_BASE + LKS_BYTE_DMS1, 1);
}

START_TEST(beside_a_stock_writer_or_a_slow_connect_attaching_is_busy_and_works_later)
{
    static void (*const others[])(struct child *) = {write_as_stock, reserve_as_stock, connect_for_long};
    struct lockstep_db *db = opened("db");
    struct child child;
    child_start(&child, others[_i]);
    child_await(&child, 'l');
    ck_assert_int_eq(lks_attach(db, false), LOCKSTEP_BUSY);
    child_go(&child);
    child_end(&child);
    ck_assert_int_eq(lks_attach(db, false), LOCKSTEP_OK);
    close_db(db);
}
END_TEST

START_TEST(while_a_client_is_connected_no_stock_writer_gets_in)
{
    struct lockstep_db *db = attached_db();
    int32_t pid = 0;
    int fd = open("db", O_RDWR | O_CLOEXEC);
    ck_assert_int_ge(fd, 0);
    /* Asked with locks of another description, as another process would. */
    ck_assert_int_eq(lks_bytelock_holder(fd, LKS_LOCK_DESCRIPTION, LKS_LOCK_EXCLUSIVE,
                                         LKS_SQLITE_SHARED_FIRST, LKS_SQLITE_SHARED_SIZE, &pid),
                     LOCKSTEP_OK);
    ck_assert_int_ne(pid, 0);
    ck_assert_int_eq(lks_bytelock_holder(fd, LKS_LOCK_DESCRIPTION, LKS_LOCK_EXCLUSIVE,
                                         LKS_SQLITE_RESERVED, 1, &pid),
                     LOCKSTEP_OK);
    ck_assert_int_ne(pid, 0);
    /* A reader takes any byte of the range but one; here the whole, shared. */
    ck_assert_int_eq(lks_bytelock_holder(fd, LKS_LOCK_DESCRIPTION, LKS_LOCK_SHARED,
                                         LKS_SQLITE_SHARED_FIRST, LKS_SQLITE_SHARED_SIZE, &pid),
                     LOCKSTEP_OK);
    ck_assert_int_eq(pid, 0);
    close_db(db);
    ck_assert_int_eq(lks_bytelock_try(fd, LKS_LOCK_DESCRIPTION, LKS_LOCK_EXCLUSIVE,
                                      LKS_SQLITE_SHARED_FIRST, LKS_SQLITE_SHARED_SIZE),
                     LOCKSTEP_OK);
    close(fd);
}
END_TEST

static void
leave_everything(struct child *self)
{
    struct lockstep_db *db;
    uint32_t i;
    child_step(self, 's');
    db = attached_db();
    for (i = 10; i < 20; i++) {
        lks_a64_set_release(&db->shm->slots[i].word, lks_slot_word(1, db->client, LKS_SLOT_ACTIVE));
        lks_a32_set_release(&db->shm->waiters[i].word, lks_waiter_word(db->client, LKS_WAITER_WAITING));
    }
    lks_a32_max(&db->shm->state.slots_high, 20);
    child_step(self, 'a');
}

START_TEST(what_a_dead_client_left_is_cleared_and_a_living_one_is_left_alone)
{
    struct lockstep_db *db;
    struct child child;
    uint32_t i, other = LKS_MAX_CLIENTS;
    char who[96];
    child_start(&child, leave_everything);
    db = attached_db();
    let_attach(&child);
    for (i = 0; i < LKS_MAX_CLIENTS; i++)
        if (lks_a32_acquire(&db->shm->clients[i].pid) == (uint32_t)child.pid)
            other = i;
    ck_assert_uint_lt(other, LKS_MAX_CLIENTS);
    ck_assert(!lks_client_reap(db, other));
    ck_assert(!lks_client_reap(db, db->client));
    ck_assert(!lks_client_reap(db, LKS_MAX_CLIENTS + 5));
    ck_assert(!lks_client_reap_readers(db, 100));
    lks_client_describe(db, other, who, sizeof who);
    ck_assert_msg(strstr(who, "(pid ") != NULL, "%s", who);
    child_kill(&child);
    ck_assert(lks_client_reap_readers(db, 100));
    ck_assert_uint_eq(lks_a32_acquire(&db->shm->clients[other].pid), 0);
    for (i = 10; i < 20; i++) {
        ck_assert_uint_eq(lks_a64_acquire(&db->shm->slots[i].word), 0);
        ck_assert_uint_eq(lks_a32_acquire(&db->shm->waiters[i].word), 0);
    }
    close_db(db);
}
END_TEST

START_TEST(locks_are_taken_dropped_and_seen_by_others)
{
    struct lockstep_db *db;
    bool others = true;
    struct child child;
    child_start(&child, attach_and_wait);
    db = attached_db();
    ck_assert(lks_lockset_holds(&db->locks, LKS_BYTE_DMS2));
    ck_assert(!lks_lockset_holds(&db->locks, LKS_BYTE_DMS1));
    ck_assert_int_eq(lks_lockset_others(&db->locks, LKS_BYTE_DMS2, LKS_LOCK_EXCLUSIVE, &others), LOCKSTEP_OK);
    ck_assert(!others);
    let_attach(&child);
    ck_assert_int_eq(lks_lockset_others(&db->locks, LKS_BYTE_DMS2, LKS_LOCK_EXCLUSIVE, &others), LOCKSTEP_OK);
    ck_assert(others);
    ck_assert_int_eq(lks_lockset_others(&db->locks, LKS_BYTE_DMS2, LKS_LOCK_SHARED, &others), LOCKSTEP_OK);
    ck_assert(!others);
    ck_assert_int_eq(lks_lockset_take(&db->locks, LKS_BYTE_DMS2, LKS_LOCK_EXCLUSIVE), LOCKSTEP_BUSY);
    ck_assert(lks_lockset_holds(&db->locks, LKS_BYTE_DMS2)); /* shared, as before */
    child_kill(&child);
    ck_assert_int_eq(lks_lockset_take(&db->locks, LKS_BYTE_DMS2, LKS_LOCK_EXCLUSIVE), LOCKSTEP_OK);
    close_db(db);
}
END_TEST

int
main(void)
{
    Suite *suite = suite_create("attach");
    TCase *tcase = coordtest_case(suite, "attach");
    tcase_add_test(tcase, the_first_client_makes_the_file_and_the_last_removes_it);
    tcase_add_test(tcase, all_names_of_a_file_are_one_database);
    tcase_add_test(tcase, the_descriptor_on_the_database_is_kept_and_used_again);
    tcase_add_test(tcase, a_missing_file_cannot_be_opened);
    tcase_add_test(tcase, one_who_only_joins_finds_nobody);
    tcase_add_test(tcase, a_database_in_wal_mode_is_not_for_the_store);
    tcase_add_test(tcase, a_second_process_joins_and_the_first_may_leave);
    tcase_add_loop_test(tcase, beside_a_stock_writer_or_a_slow_connect_attaching_is_busy_and_works_later, 0, 3);
    tcase_add_test(tcase, while_a_client_is_connected_no_stock_writer_gets_in);
    tcase_add_test(tcase, what_a_dead_client_left_is_cleared_and_a_living_one_is_left_alone);
    tcase_add_test(tcase, locks_are_taken_dropped_and_seen_by_others);
    return coordtest_main(suite);
}
