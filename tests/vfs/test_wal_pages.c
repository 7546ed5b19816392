/*
 * Interior pages that are kept from one read transaction to the next (lib/vfs/wal_pages.c): they are not read again
 * while they stay, and are never those of another state of the database, whatever others do: commit, write back in
 * part or whole, begin the log anew, roll back, and do so at the worst moment.
 *
 * Made to fail by: keeping nothing; a key without the frames that are written back, or without the salts; not looking
 * again at what is written back once SQLite has (nor when a page is asked for); keeping frames behind the snapshot.
 */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/crashpoint.h"
#include "vfs/probe_vfs.h"
#include "vfs/vfstest.h"
#include "vfs/wal.h"
#include "vfs/waltest.h"

#define STEPS 400

/* Two levels of table and of index. */
static sqlite3 *
make(int page_size)
{
    sqlite3 *db = waltest_make("worker=off", page_size);
    must(db, "pragma synchronous = off; create table u(k integer primary key, v); create index i on t(v);"
             "with recursive n(x) as (select 1 union all select x + 1 from n where x < 2000)"
             " insert into t select x, printf('%%0100d', x * 7919 %% 10007) from n;"
             "pragma wal_checkpoint(truncate)");
    return db;
}

static sqlite3 *
company(void)
{
    sqlite3 *other = open_ours("a.db", "worker=off");
    must(other, "pragma wal_autocheckpoint = 0; pragma synchronous = off");
    return other;
}

/* All of it, by its table and by its index. */
#define ALL                                                                                                       \
    "select count(*), sum(k), sum(length(v)), max(k), (select count(*) from u),"                                  \
    " (select count(*) from t indexed by i where v >= ''), (select group_concat(v, '') from"                      \
    " (select v from t order by k desc limit 3)) from t"

/* As a connection finds it that has kept nothing. */
static void
check_all(sqlite3 *db)
{
    sqlite3 *stock = open_stock("a.db");
    char want[1000];
    snprintf(want, sizeof want, "%s", must(stock, ALL));
    close_db(stock);
    check_text(must(db, ALL), want);
}

START_TEST(pages_that_stay_are_not_read_again)
{
    sqlite3 *db = make(4096), *other = company();
    unsigned before;
    int round;
    must(db, "select v from t where k = 1000");
    for (round = 0; round < 3; round++) {
        /* SQLite drops its cache for that. */
        must(other, "update t set v = v where k = 1");
        before = probe_total('p');
        must(db, "select v from t where k = 1000");
        /* Page 1, the root and the leaf; later the leaf alone. */
        ck_assert_uint_eq(probe_total('p') - before, round == 0 ? 3 : 1);
    }
    /* Those that are in the log are known as well. */
    must(other, "insert into t select k + 2000, v from t where k < 500");
    must(db, "select v from t where k = 1000");
    must(other, "update t set v = v where k = 1");
    before = probe_total('p');
    must(db, "select v from t where k = 1000");
    ck_assert_uint_eq(probe_total('p') - before, 1);
    close_db(other);
    check_all(db);
    close_db(db);
}
END_TEST

static const char *const steps[] = {
    "insert into t select max(k) + 1, printf('%0100d', max(k) * 7919 % 10007) from t",
    ("with recursive n(x) as (select 1 union all select x + 1 from n where x < 150) insert into t select (select"
     " max(k) from t) + x, printf('%0100d', x * 104729 % 10007) from n"),
    "delete from t where k in (select k from t order by v limit 120)",
    "delete from t where k < (select min(k) from t) + 150",
    "update t set v = printf('%0100d', k * 31 % 10007) where k % 37 = 5",
    "insert into u(v) select v from t limit 200",
    "delete from u",
    "begin; update t set v = 'x' || v; delete from t where k % 3 = 0; rollback",
    "pragma cache_size = 5; begin; update t set v = substr(v, 2) || 'y' where k % 2 = 0; rollback; pragma cache_size = -2000",
    "pragma wal_checkpoint(passive)",
    "pragma wal_checkpoint(passive)",
    "pragma wal_checkpoint(restart)",
    "pragma wal_checkpoint(truncate)",
    "vacuum",
};

static unsigned
next(unsigned *state)
{
    *state = *state * 1103515245u + 12345u;
    return *state >> 16 & 0x7fff;
}

/* The one that looks writes as well, and reads beside others' writes. */
START_TEST(they_are_never_of_another_state)
{
    static const int page_sizes[] = {512, 1024, 4096};
    sqlite3 *db = make(page_sizes[_i % 3]), *other = company(), *stock = open_stock("a.db"), *who[3];
    unsigned state = (unsigned)_i + 1;
    int step;
    must(db, "pragma wal_autocheckpoint = 0");
    must(stock, "pragma wal_autocheckpoint = 0; pragma synchronous = off");
    who[0] = other;
    who[1] = stock;
    who[2] = db;
    for (step = 0; step < STEPS; step++) {
        const char *text = steps[next(&state) % (sizeof steps / sizeof steps[0])];
        unsigned by = next(&state);
        if (step % 16 == 5) {
            char want[1000];
            must(db, "begin");
            snprintf(want, sizeof want, "%s", must(db, ALL));
            (void)sql(who[by % 2], "%s", text);
            (void)sql(who[by % 2], "pragma wal_checkpoint(passive)");
            check_text(must(db, ALL), want);
            must(db, "commit");
        } else {
            must(who[by % 3], "%s", text);
        }
        check_all(db);
    }
    check_text(must(db, "pragma integrity_check"), "ok");
    close_db(stock);
    close_db(other);
    close_db(db);
}
END_TEST

/* It asks for no locks then. */
START_TEST(nor_in_exclusive_locking_mode)
{
    sqlite3 *db = make(4096);
    int round;
    must(db, "pragma locking_mode = exclusive; pragma cache_size = 5");
    for (round = 0; round < 6; round++) {
        char want[1000];
        must(db, ALL);
        /* The first frames of the log are other pages each time, and the log begins anew without a lock. */
        must(db, "insert into t select k + 2000 * %d, v from t where k <= 2000", round + 1);
        snprintf(want, sizeof want, "%s", must(db, ALL));
        must(db, "pragma wal_checkpoint(%s)", round % 2 == 0 ? "truncate" : "passive");
        check_text(must(db, ALL), want);
        must(db, "delete from t where k > 2000 and k %% 5 < 3; insert into u(v) values(randomblob(%d))", round * 9000);
        check_text(must(db, "pragma integrity_check"), "ok");
    }
    close_db(db);
}
END_TEST

#ifdef LKS_DEBUG
static sqlite3 *checkpointer;

static void
write_back(const char *point)
{
    sqlite3 *by = checkpointer;
    int frames = 0, done = 0;
    if (by == NULL || strcmp(point, "wal:reading") != 0)
        return;
    checkpointer = NULL;
    ck_assert_int_eq(sqlite3_wal_checkpoint_v2(by, NULL, SQLITE_CHECKPOINT_PASSIVE, &frames, &done), SQLITE_OK);
    ck_assert_int_gt(frames, 0);
    ck_assert_int_eq(done, frames);
}

/* P1: SQLite sees more frames written back than were when the lock was taken, and reads the database. */
START_TEST(a_checkpoint_between_the_lock_and_sqlites_look)
{
    sqlite3 *db = make(4096), *other = company();
    must(db, "pragma wal_autocheckpoint = 0; insert into u(v) values(1)");
    must(other, "insert into u(v) values(2)");
    must(db, ALL);
    must(other, "with recursive n(x) as (select 1 union all select x + 1 from n where x < 150) insert into t select 5000 + x,"
                " printf('%%0100d', x) from n");
    checkpointer = other;
    lks_crash_hook = write_back;
    must(db, "select max(k) from t");
    lks_crash_hook = NULL;
    ck_assert_ptr_null(checkpointer);
    check_text(must(db, "select max(k) from t"), "5150");
    check_all(db);
    close_db(other);
    close_db(db);
}
END_TEST

/* A word of the wal-index, changed by `add`. */
static uint32_t
index_word(unsigned number, uint32_t add)
{
    /* Never closed: SQLite's locks are on that file. */
    int fd = open("a.db-shm", O_RDWR);
    uint32_t word;
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(pread(fd, &word, sizeof word, (off_t)(number * sizeof word)), sizeof word);
    word += add;
    if (add != 0)
        ck_assert_int_eq(pwrite(fd, &word, sizeof word, (off_t)(number * sizeof word)), sizeof word);
    return word;
}

/* The same, and then a recovery: what counts as written back is again what it was when the lock was taken. */
START_TEST(a_recovery_after_it)
{
    sqlite3 *db = make(4096), *other = company();
    must(db, "pragma wal_autocheckpoint = 0; insert into u(v) values(1)");
    must(other, "insert into u(v) values(2)");
    must(db, ALL);
    must(other, "with recursive n(x) as (select 1 union all select x + 1 from n where x < 150) insert into t select 5000 + x,"
                " printf('%%0100d', x) from n");
    checkpointer = other;
    lks_crash_hook = write_back;
    must(db, "begin; select count(*) from sqlite_schema");
    lks_crash_hook = NULL;
    ck_assert_ptr_null(checkpointer);
    ck_assert_uint_gt(index_word(LKS_INDEX_BACKFILLED, 0), 0);
    /* As a process leaves it that dies while it writes the header; the next one finds that, and makes the index anew. */
    (void)index_word(LKS_INDEX_CHANGE, 1);
    must(other, "select count(*) from u");
    ck_assert_uint_eq(index_word(LKS_INDEX_BACKFILLED, 0), 0);
    check_text(must(db, "select max(k) from t"), "5150");
    must(db, "commit");
    check_all(db);
    close_db(other);
    close_db(db);
}
END_TEST
#endif

static Suite *
make_suite(void)
{
    Suite *suite = suite_create("wal pages");
    TCase *tcase = vfstest_case(suite, "wal pages");
    tcase_add_test(tcase, pages_that_stay_are_not_read_again);
    tcase_add_loop_test(tcase, they_are_never_of_another_state, 0, 6);
    tcase_add_test(tcase, nor_in_exclusive_locking_mode);
#ifdef LKS_DEBUG
    tcase_add_test(tcase, a_checkpoint_between_the_lock_and_sqlites_look);
    tcase_add_test(tcase, a_recovery_after_it);
#endif
    return suite;
}

int
main(int argc, char **argv)
{
    return vfstest_main(argc, argv, make_suite);
}
