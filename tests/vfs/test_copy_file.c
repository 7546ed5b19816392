/*
 * The WAL-index shared by copying, with SQLite: shm=copy beside stock connections that have the index mapped, in other
 * processes and in this one.
 *
 * Made to fail by: no acquire after WRITE or CKPT was taken; no release before an exclusive lock is dropped; a later
 * region published by its differences; WRITE taken before there is a region 0 not noticed (either_recovers); an
 * acquire in walIndexTryHdr()'s barrier (a_read_only_index_is_read); closing the descriptor with the connection
 * (a_stock_connection_of_the_same_process_keeps_its_locks); a checkpointer over the parent
 * (nothing_of_the_index_is_mapped); no acquire after a sleep (commits_while_sqlite_sleeps_do_not_keep_it_from_a_snapshot), or
 * after a lock was given up for a header (a_round_that_was_lost_is_followed_by_one_with_a_header_of_then); a count of
 * rounds that one lost for its mark sets back (after_the_last_round_the_thread_leads_to_no_file).
 */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "vfs/copy_vfs.h"
#include "vfs/probe_vfs.h"
#include "vfs/shm_file.h"
#include "vfs/pair.h"
#include "vfs/peer.h"
#include "vfs/vfstest.h"

#define COPY "shm=copy"
#define OURS "file:a.db?vfs=lockstep&" COPY
#define ROWS "with recursive c(i) as (select 1 union all select i+1 from c where i<%d) "

/* Good until the fourth call from here. */
static const char *
text(const char *format, ...)
{
    static char texts[4][64];
    static unsigned next;
    char *to = texts[next++ % 4];
    va_list args;
    va_start(args, format);
    vsnprintf(to, sizeof texts[0], format, args);
    va_end(args);
    return to;
}

/* A connection that has a copy of the index and nothing else of Lockstep's. */
static sqlite3 *
open_bare(void)
{
    sqlite3 *db;
    ck_assert_ptr_nonnull(lks_copy_vfs(LKS_SHM_COPY));
    ck_assert_int_eq(sqlite3_open_v2("a.db", &db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE, "lockstep-copy"), SQLITE_OK);
    return db;
}

static bool
maps_the_index(void)
{
    char line[4400];
    bool found = false;
    FILE *maps = fopen("/proc/self/maps", "r");
    while (!found && fgets(line, sizeof line, maps) != NULL)
        found = strstr(line, "a.db-shm") != NULL;
    fclose(maps);
    return found;
}

static void
make(sqlite3 *db)
{
    check_text(must(db, "pragma journal_mode = wal"), "wal");
    must(db, "create table t(k integer primary key, v, pad)");
}

static void
left_clean(void)
{
    check_no_log("a.db");
    ck_assert_uint_eq(lks_shm_file_kept(), 0);
}

START_TEST(nothing_of_the_index_is_mapped)
{
    sqlite3 *db = open_ours("a.db", COPY "&max_lag=20");
    time_t end = time(NULL) + 20;
    make(db);
    must(db, "pragma synchronous=normal");
    sqlite3_busy_timeout(db, 5000);
    /* Until the checkpointer has worked, whose connection has a copy of its own. */
    while (info(db).checkpoints < 2 && time(NULL) < end)
        must(db, "insert into t(v, pad) values(1, randomblob(3000))");
    ck_assert_uint_ge(info(db).checkpoints, 2);
    ck_assert(file_exists("a.db-shm"));
    ck_assert(!maps_the_index());
    ck_assert_ptr_nonnull(strstr(must(db, "pragma lockstep_status"), "\"shm\":\"copy\""));
    close_db(db);
    left_clean();
}
END_TEST

START_TEST(an_unknown_value_is_told)
{
    sqlite3 *db = open_ours("a.db", "shm=mmap");
    ck_assert(logged("shm=mmap is none of native, copy"));
    make(db);
    ck_assert_ptr_nonnull(strstr(must(db, "insert into t values(1,1,1); pragma lockstep_status"), "\"shm\":\"native\""));
    ck_assert(maps_the_index());
    close_db(db);
}
END_TEST

/* A lock is followed by an acquire: a snapshot that is stale is seen when WRITE is had. */
START_TEST(commits_are_seen_both_ways_and_stale_snapshots_refused)
{
    struct peer peer;
    sqlite3 *db = open_bare();
    make(db);
    peer_start(&peer);
    check_text(peer_ask(&peer, "open 0 file:a.db"), "");
    for (int i = 1; i <= 50; i++) {
        must(db, "insert into t(v) values(%d)", 2 * i);
        check_text(peer_ask(&peer, "sql 0 select max(v) from t"), text("%d", 2 * i));
        check_text(peer_ask(&peer, "sql 0 insert into t(v) values(%d)", 2 * i + 1), "");
        check_text(must(db, "select max(v) from t"), text("%d", 2 * i + 1));
    }
    must(db, "begin; select count(*) from t");
    check_text(peer_ask(&peer, "sql 0 insert into t(v) values(1000)"), "");
    check_text(must(db, "select max(v) from t"), "101");
    ck_assert_int_eq(code(db, "insert into t(v) values(0)"), SQLITE_BUSY);
    ck_assert_int_eq(sqlite3_extended_errcode(db), SQLITE_BUSY_SNAPSHOT);
    must(db, "rollback");
    check_text(must(db, "select max(v) from t"), "1000");
    close_db(db);
    check_text(peer_ask(&peer, "sql 0 pragma integrity_check"), "ok");
    peer_exit(&peer);
}
END_TEST

/* The same of a connection in Lockstep's clothes, whose queue looks at the copy before it takes the lock. */
START_TEST(the_queue_refuses_a_stale_snapshot_at_once)
{
    struct peer peer;
    sqlite3 *db = open_ours("a.db", COPY);
    make(db);
    sqlite3_busy_timeout(db, 10000);
    must(db, "begin; select count(*) from t");
    peer_start(&peer);
    check_text(peer_ask(&peer, "open 0 file:a.db"), "");
    check_text(peer_ask(&peer, "sql 0 insert into t(v) values(1); begin immediate"), "");
    ck_assert_int_eq(code(db, "insert into t(v) values(0)"), SQLITE_BUSY);
    ck_assert_int_eq(sqlite3_extended_errcode(db), SQLITE_BUSY_SNAPSHOT);
    must(db, "rollback");
    check_text(peer_ask(&peer, "sql 0 commit"), "");
    must(db, "insert into t(v) values(2)");
    check_text(peer_ask(&peer, "sql 0 select group_concat(v) from t"), "1,2");
    peer_exit(&peer);
    close_db(db);
}
END_TEST

static uint32_t
word_of_index(unsigned word)
{
    uint32_t value;
    read_file("a.db-shm", 4 * word, &value, sizeof value);
    return value;
}

/* An acquire after CKPT: else the header that is then read is two, and to be sure SQLite wants WRITE. */
START_TEST(a_checkpoint_beside_a_writer_is_not_refused)
{
    struct peer peer;
    sqlite3 *db = open_bare();
    make(db);
    peer_start(&peer);
    check_text(peer_ask(&peer, "open 0 file:a.db"), "");
    must(db, "select * from t");
    check_text(peer_ask(&peer, "sql 0 insert into t(v) values(1); begin immediate"), "");
    check_text(must(db, "pragma wal_checkpoint(passive)"), "0|3|3");
    /* And a release before CKPT and READ0 are dropped. */
    ck_assert_uint_eq(word_of_index(24), 3);
    check_text(peer_ask(&peer, "sql 0 commit; insert into t(v) values(2); select count(*) from t"), "2");
    ck_assert_uint_eq(word_of_index(4), 1);
    check_text(must(db, "select count(*) from t"), "2");
    close_db(db);
    peer_exit(&peer);
}
END_TEST

/* C12: a writer finds that another has written all back, and begins the log anew. */
START_TEST(the_log_is_begun_anew_after_another_s_checkpoint)
{
    struct peer peer;
    sqlite3 *db = open_bare();
    make(db);
    peer_start(&peer);
    check_text(peer_ask(&peer, "open 0 file:a.db"), "");
    for (int i = 0; i < 10; i++) {
        must(db, "insert into t(v) values(1)");
        ck_assert(strncmp(peer_ask(&peer, "sql 0 pragma wal_checkpoint(passive)"), "0|", 2) == 0);
    }
    ck_assert_uint_eq(word_of_index(4), 1);
    close_db(db);
    check_text(peer_ask(&peer, "sql 0 select count(*) from t"), "10");
    peer_exit(&peer);
}
END_TEST

/* A release before READ(i) is dropped: without the mark the frames after our snapshot would be written back. */
START_TEST(a_reader_s_mark_holds_others_checkpoints_back)
{
    struct peer first, writer;
    sqlite3 *db = open_bare();
    make(db);
    peer_start(&first);
    peer_start(&writer);
    check_text(peer_ask(&first, "open 0 file:a.db"), "");
    check_text(peer_ask(&writer, "open 0 file:a.db"), "");
    check_text(peer_ask(&writer, "sql 0 pragma wal_checkpoint(truncate)"), "0|0|0");
    check_text(peer_ask(&writer, "sql 0 insert into t(v) values(1)"), "");
    check_text(peer_ask(&first, "sql 0 begin; select count(*) from t"), "1");
    check_text(peer_ask(&writer, "sql 0 insert into t(v) values(2)"), "");
    check_text(must(db, "begin; select count(*) from t"), "2");
    check_text(peer_ask(&writer, "sql 0 insert into t(v) values(3)"), "");
    check_text(peer_ask(&first, "sql 0 commit"), "");
    check_text(peer_ask(&writer, "sql 0 pragma wal_checkpoint(passive)"), "0|3|2");
    check_text(must(db, "select count(*) from t; commit"), "2");
    check_text(peer_ask(&writer, "sql 0 pragma wal_checkpoint(passive)"), "0|3|3");
    close_db(db);
    peer_exit(&first);
    peer_exit(&writer);
}
END_TEST

/* Many regions, by each; the log begun anew; then checked in. */
START_TEST(a_log_of_many_regions_is_read_and_written_by_either)
{
    struct peer peer;
    sqlite3 *db = open_bare();
    make(db);
    must(db, "pragma wal_autocheckpoint = 0; pragma synchronous = off");
    peer_start(&peer);
    check_text(peer_ask(&peer, "open 0 file:a.db"), "");
    check_text(peer_ask(&peer, "sql 0 pragma wal_autocheckpoint = 0"), "0");
    check_text(peer_ask(&peer, "sql 0 pragma synchronous = off"), "");
    for (int round = 1; round <= 3; round++) {
        must(db, ROWS "insert into t(v, pad) select %d, zeroblob(3000) from c", 1500, 10 * round);
        check_text(peer_ask(&peer, "sql 0 " ROWS "insert into t(v, pad) select %d, zeroblob(3000) from c", 1500,
                            10 * round + 1),
                   "");
        must(db, "update t set v = v + 100 where k %% 3 = 0");
        check_text(peer_ask(&peer, "sql 0 update t set v = v + 100 where k %% 3 = 1"), "");
        ck_assert_int_gt(file_size("a.db-shm"), 32768);
        check_text(must(db, "pragma integrity_check; select count(*) from t where v > 100"),
                   text("ok\n%d", 2000 * round));
        check_text(peer_ask(&peer, "sql 0 select count(*) from t where v > 100"), text("%d", 2000 * round));
        must(db, "update t set v = v %% 100");
        if (round == 1)
            ck_assert(strncmp(must(db, "pragma wal_checkpoint(restart)"), "0|", 2) == 0);
        else
            check_text(peer_ask(&peer, "sql 0 pragma wal_checkpoint(truncate)"), "0|0|0");
    }
    check_text(peer_ask(&peer, "sql 0 pragma integrity_check"), "ok");
    peer_exit(&peer);
    close_db(db);
}
END_TEST

/* C7: what a writer that died left of its transaction, in either's index. */
START_TEST(a_dead_writer_s_entries_are_cleared)
{
    struct peer peer;
    sqlite3 *db = open_bare(), *stock;
    make(db);
    must(db, ROWS "insert into t(v, pad) select 0, zeroblob(3000) from c", 300);
    for (int i = 0; i < 2; i++) {
        peer_start(&peer);
        check_text(peer_ask(&peer, "open 0 %s", i == 0 ? "file:a.db" : OURS), "");
        check_text(peer_ask(&peer, "sql 0 pragma cache_size = 5; begin; update t set v = 7"), "");
        check_text(must(db, "select sum(v) from t"), text("%d", 300 * i));
        peer_kill(&peer);
        must(db, "update t set v = %d", i + 1);
        stock = open_stock("a.db");
        check_text(must(stock, "select sum(v) from t; pragma integrity_check"), text("%d\nok", 300 * (i + 1)));
        close_db(stock);
    }
    close_db(db);
}
END_TEST

/* Who is left finds a log without an index, or with one of a machine that is gone, and whoever comes first recovers. */
START_TEST(either_recovers)
{
    struct peer peer;
    sqlite3 *db;
    for (int i = 0; i < 4; i++) {
        const char *writer = i % 2 == 0 ? OURS : "file:a.db";
        peer_start(&peer);
        check_text(peer_ask(&peer, "open 0 %s", writer), "");
        if (i == 0)
            check_text(peer_ask(&peer, "sql 0 pragma journal_mode = wal; create table t(k integer primary key, v, pad)"), "wal");
        check_text(peer_ask(&peer, "sql 0 " ROWS "insert into t(v, pad) select 1, zeroblob(3000) from c", 4200), "");
        peer_kill(&peer);
        db = i < 2 ? open_ours("a.db", COPY) : open_stock("a.db");
        check_text(must(db, "select count(*) from t; pragma integrity_check"), text("%d\nok", 4200 * (i + 1)));
        must(db, "update t set v = 2 where k = 1");
        close_db(db);
    }
    db = open_stock("a.db");
    check_text(must(db, "select v from t where k = 1; pragma integrity_check"), "2\nok");
    close_db(db);
}
END_TEST

/* POSIX locks are the process's: neither closing ours nor a stock connection's may drop the other's. */
START_TEST(a_stock_connection_of_the_same_process_keeps_its_locks)
{
    struct peer peer;
    sqlite3 *db = open_bare(), *stock = open_stock("a.db");
    make(db);
    must(stock, "insert into t(v) values(1)");
    peer_start(&peer);
    check_text(peer_ask(&peer, "open 0 file:a.db"), "");
    must(stock, "begin immediate");
    ck_assert_int_eq(code(db, "begin immediate"), SQLITE_BUSY);
    must(db, "select * from t");
    close_db(db);
    check_text(peer_ask(&peer, "sql 0 begin immediate"), "error 5: database is locked");
    db = open_bare();
    check_text(must(db, "select count(*) from t"), "1");
    must(stock, "insert into t(v) values(2); commit");
    must(db, "begin immediate");
    close_db(stock);
    check_text(peer_ask(&peer, "sql 0 begin immediate"), "error 5: database is locked");
    must(db, "insert into t(v) values(3); commit");
    check_text(peer_ask(&peer, "sql 0 select group_concat(v) from t"), "1,2,3");
    check_text(peer_ask(&peer, "close 0"), "");
    close_db(db);
    left_clean();
    peer_exit(&peer);
}
END_TEST

/* One descriptor, however often; none when the file is gone. */
START_TEST(descriptors_do_not_pile_up)
{
    sqlite3 *stay = open_stock("a.db"), *db;
    make(stay);
    must(stay, "insert into t(v) values(1)");
    for (int i = 0; i < 20; i++) {
        db = open_bare();
        must(db, "insert into t(v) values(2)");
        close_db(db);
    }
    ck_assert_uint_eq(lks_shm_file_kept(), 1);
    close_db(stay);
    for (int i = 0; i < 5; i++) {
        db = open_bare();
        must(db, "insert into t(v) values(3)");
        close_db(db);
        ck_assert_uint_eq(lks_shm_file_kept(), 0);
    }
}
END_TEST

/* With EXCLUSIVE SQLite changes the index under no lock of its own. */
START_TEST(what_was_written_in_exclusive_locking_mode_is_published)
{
    struct peer peer;
    sqlite3 *db = open_bare();
    make(db);
    must(db, "insert into t(v) values(1)");
    check_text(must(db, "pragma locking_mode = exclusive"), "exclusive");
    must(db, "insert into t(v) values(2)");
    must(db, ROWS "insert into t(v, pad) select 3, zeroblob(3000) from c; delete from t where v = 3", 5000);
    must(db, "begin; update t set v = 9; rollback; insert into t(v) values(4)");
    check_text(must(db, "pragma locking_mode = normal; select group_concat(v) from t"), "normal\n1,2,4");
    peer_start(&peer);
    check_text(peer_ask(&peer, "open 0 file:a.db"), "");
    must(db, "begin immediate"); /* so that a header of two could not be built anew */
    check_text(peer_ask(&peer, "sql 0 select group_concat(v) from t"), "1,2,4");
    must(db, "rollback");
    check_text(peer_ask(&peer, "sql 0 insert into t(v) values(5); pragma integrity_check"), "ok");
    check_text(must(db, "select group_concat(v) from t"), "1,2,4,5");
    peer_exit(&peer);
    close_db(db);
}
END_TEST

/* EXCLUSIVE is older than the mapping: by hand, for SQLite has its index on the heap then. */
START_TEST(who_maps_under_exclusive_writes_hash_words)
{
    sqlite3_vfs *vfs = lks_copy_vfs(LKS_SHM_COPY);
    sqlite3_filename name = sqlite3_create_filename("a.db", "a.db-journal", "a.db-wal", 0, NULL);
    sqlite3_file *file = calloc(1, (size_t)vfs->szOsFile);
    void volatile *memory = NULL;
    uint32_t *words, page = 77;
    ck_assert_int_eq(vfs->xOpen(vfs, name, file, SQLITE_OPEN_MAIN_DB | SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE, NULL),
                     SQLITE_OK);
    ck_assert_int_eq(file->pMethods->xLock(file, SQLITE_LOCK_SHARED), SQLITE_OK);
    ck_assert_int_eq(file->pMethods->xLock(file, SQLITE_LOCK_EXCLUSIVE), SQLITE_OK);
    ck_assert_int_eq(file->pMethods->xShmMap(file, 0, 32768, 1, &memory), SQLITE_OK);
    words = (uint32_t *)memory;
    words[34] = page;             /* of frame 1 */
    words[4] = words[16] = 1;     /* the last frame */
    ck_assert_int_eq(file->pMethods->xUnlock(file, SQLITE_LOCK_SHARED), SQLITE_OK);
    ck_assert_uint_eq(word_of_index(4), 1);
    ck_assert_uint_eq(word_of_index(34), page);
    ck_assert_int_eq(file->pMethods->xShmUnmap(file, 1), SQLITE_OK);
    ck_assert_int_eq(file->pMethods->xUnlock(file, SQLITE_LOCK_NONE), SQLITE_OK);
    ck_assert_int_eq(file->pMethods->xClose(file), SQLITE_OK);
    free(file);
    sqlite3_free_filename(name);
}
END_TEST

/* Of a damaged index all is built anew, also what lies before the region that the header has. */
START_TEST(what_is_recovered_is_published_from_the_first_region_on)
{
    static const unsigned char garbage[20000];
    const uint32_t other = 0x12345678;
    struct peer peer;
    sqlite3 *db;
    peer_start(&peer);
    check_text(peer_ask(&peer, "open 0 file:a.db"), "");
    check_text(peer_ask(&peer, "sql 0 pragma journal_mode = wal; create table t(k integer primary key, v, pad)"), "wal");
    check_text(peer_ask(&peer, "sql 0 pragma wal_autocheckpoint = 0"), "0");
    check_text(peer_ask(&peer, "sql 0 " ROWS "insert into t(v, pad) select 1, zeroblob(3000) from c", 4200), "");
    ck_assert_int_gt(file_size("a.db-shm"), 32768);
    write_file("a.db-shm", 136, garbage, sizeof garbage);
    write_file("a.db-shm", 4 * 12, &other, sizeof other); /* copy 2 */
    db = open_bare();
    check_text(must(db, "select count(*) from t"), "4200");
    check_text(peer_ask(&peer, "sql 0 select count(*) from t; pragma integrity_check"), "4200\nok");
    peer_exit(&peer);
    close_db(db);
}
END_TEST

START_TEST(the_journal_mode_may_be_switched)
{
    sqlite3 *db = open_ours("a.db", COPY);
    must(db, "create table t(k integer primary key, v, pad)");
    for (int i = 1; i <= 4; i++) {
        check_text(must(db, "pragma journal_mode = wal"), "wal");
        must(db, "insert into t(v) values(%d)", i);
        check_text(must(db, "pragma journal_mode = delete"), "delete");
        must(db, "insert into t(v) values(%d)", 10 * i);
        ck_assert(!file_exists("a.db-shm"));
    }
    check_text(must(db, "select group_concat(v) from t"), "1,10,2,20,3,30,4,40");
    close_db(db);
    left_clean();
}
END_TEST

/* The same SQL, with savepoints, rollbacks and spilled pages, on stock SQLite and on a copy. */
START_TEST(savepoints_and_rollbacks_leave_what_stock_sqlite_leaves)
{
    struct pair pair;
    uint32_t random = 12345;
    pair_open(&pair, COPY);
    pair_sql(&pair, "pragma journal_mode = wal");
    pair_sql(&pair, "pragma cache_size = 10; create table t(k integer primary key, v, pad)");
    pair_sql(&pair, ROWS "insert into t(v, pad) select i, zeroblob(2000) from c", 200);
    for (int i = 0; i < 60; i++) {
        random = random * 1664525u + 1013904223u;
        pair_sql(&pair, "begin; update t set v = %d where k %% 3 = %d; savepoint a", i, (int)(random >> 8) % 3);
        pair_sql(&pair, "update t set v = -1 where k %% 2 = %d; savepoint b; delete from t where k %% 5 = 1",
                 (int)(random >> 16) % 2);
        pair_sql(&pair, "rollback to %s; insert into t(v, pad) values(%d, zeroblob(5000))", random % 2 ? "a" : "b", i);
        pair_sql(&pair, "%s", random % 4 == 0 ? "rollback" : "commit");
        pair_sql(&pair, "select count(*), sum(v), sum(length(pad)) from t");
    }
    pair_sql(&pair, "pragma integrity_check");
    pair_close(&pair);
}
END_TEST

/* The index may be read only: with a writer there it is used, without one SQLite makes its own. */
START_TEST(a_read_only_index_is_read)
{
    struct peer peer;
    sqlite3 *db;
    peer_start(&peer);
    check_text(peer_ask(&peer, "open 0 file:a.db"), "");
    check_text(peer_ask(&peer, "sql 0 pragma journal_mode = wal; create table t(v); insert into t values(1)"), "wal");
    lks_copy_vfs(LKS_SHM_COPY);
    ck_assert_int_eq(sqlite3_open_v2("file:a.db?readonly_shm=1", &db, SQLITE_OPEN_READONLY | SQLITE_OPEN_URI,
                                     "lockstep-copy"),
                     SQLITE_OK);
    check_text(must(db, "select count(*) from t"), "1");
    check_text(peer_ask(&peer, "sql 0 insert into t values(2)"), "");
    check_text(must(db, "select count(*) from t"), "2");
    ck_assert(!maps_the_index());
    close_db(db);
    peer_kill(&peer);
    ck_assert_int_eq(sqlite3_open_v2("file:a.db?readonly_shm=1", &db, SQLITE_OPEN_READONLY | SQLITE_OPEN_URI,
                                     "lockstep-copy"),
                     SQLITE_OK);
    check_text(must(db, "select count(*) from t"), "2");
    close_db(db);
}
END_TEST

START_TEST(another_vfs_below_is_refused)
{
    sqlite3 *db;
    ck_assert_int_eq(lockstep_shutdown(), SQLITE_OK);
    ck_assert_int_eq(lockstep_initialize("unix-excl", 0), SQLITE_OK);
    db = open_ours("a.db", COPY);
    (void)code(db, "pragma journal_mode = wal");
    ck_assert_int_ne(code(db, "create table t(v)"), SQLITE_OK);
    ck_assert(logged("shm=copy is for SQLite's VFS \"unix\""));
    close_db(db);
}
END_TEST

static sqlite3 *other;
static unsigned rounds_lost, sleeps;

/* Not must(): another one is under way. */
static void
commit_of_other(void)
{
    ck_assert_int_eq(sqlite3_exec(other, "update t set v = v + 1", NULL, NULL, NULL), SQLITE_OK);
}

static void
commit_before_the_lock(void)
{
    commit_of_other();
    if (--rounds_lost == 0)
        probe_before_snapshots(NULL);
}

static void
commit_in_sleep(void)
{
    sleeps++;
    commit_of_other();
}

/* A reader over the probe; `other` commits. */
static sqlite3 *
open_beside_other(bool bare)
{
    sqlite3 *db;
    other = open_stock("a.db");
    make(other);
    must(other, "pragma wal_autocheckpoint = 0");
    must(other, "insert into t values (1, 0, null)");
    ck_assert_int_eq(lockstep_shutdown(), SQLITE_OK);
    probe_register();
    ck_assert_int_eq(lockstep_initialize("probe", 0), SQLITE_OK);
    db = bare ? open_bare() : open_ours("a.db", COPY);
    check_text(must(db, "select v from t"), "0");
    probe_instead_of_sleeps(commit_in_sleep);
    return db;
}

static void
close_both(sqlite3 *db)
{
    probe_instead_of_sleeps(NULL);
    probe_after_snapshots(NULL);
    close_db(other);
    close_db(db);
    left_clean();
}

/* C13.  The first rounds find another header at their lock, as with a mapped index; after that only what sleeps does. */
START_TEST(commits_while_sqlite_sleeps_do_not_keep_it_from_a_snapshot)
{
    const unsigned lost = 8;
    sqlite3 *db = open_beside_other(_i != 0);
    rounds_lost = lost;
    probe_before_snapshots(commit_before_the_lock);
    check_text(must(db, "select v from t"), text("%u", lost + sleeps));
    ck_assert_uint_gt(sleeps, 1);
    ck_assert_uint_lt(sleeps, lost);
    close_both(db);
}
END_TEST

/* C13.  The first round is lost, and there is a commit before the second. */
START_TEST(a_round_that_was_lost_is_followed_by_one_with_a_header_of_then)
{
    sqlite3 *db = open_beside_other(_i != 0);
    rounds_lost = 1;
    probe_before_snapshots(commit_before_the_lock);
    probe_after_snapshots(commit_of_other);
    check_text(must(db, "select v from t"), "2");
    ck_assert_uint_eq(sleeps, 0);
    close_both(db);
}
END_TEST

/* Every round finds another mark than SQLite set; the last ones another header, too. */
static void
take_the_marks_away(void)
{
    uint32_t mark = 1, reader;
    for (reader = 1; reader < 5; reader++)
        write_file("a.db-shm", 4 * (25 + reader), &mark, sizeof mark);
    if (++sleeps > 97)
        commit_of_other();
}

static void
no_sleep(void)
{
}

/* SQLite gives up.  Then its thread may sleep for another file, and another thread close this one. */
START_TEST(after_the_last_round_the_thread_leads_to_no_file)
{
    sqlite3 *db = open_beside_other(_i != 0);
    probe_instead_of_sleeps(no_sleep);
    probe_before_snapshots(take_the_marks_away);
    ck_assert_int_eq(code(db, "select v from t"), SQLITE_PROTOCOL);
    ck_assert_uint_ge(sleeps, 100);
    ck_assert_ptr_null(lks_copy_round_slept());
    probe_before_snapshots(NULL);
    close_both(db);
}
END_TEST

static Suite *
make_suite(void)
{
    Suite *suite = suite_create("shm=copy");
    TCase *with = vfstest_case(suite, "with SQLite");
    tcase_add_test(with, nothing_of_the_index_is_mapped);
    tcase_add_test(with, an_unknown_value_is_told);
    tcase_add_test(with, commits_are_seen_both_ways_and_stale_snapshots_refused);
    tcase_add_test(with, the_queue_refuses_a_stale_snapshot_at_once);
    tcase_add_test(with, a_checkpoint_beside_a_writer_is_not_refused);
    tcase_add_test(with, the_log_is_begun_anew_after_another_s_checkpoint);
    tcase_add_test(with, a_reader_s_mark_holds_others_checkpoints_back);
    tcase_add_test(with, a_log_of_many_regions_is_read_and_written_by_either);
    tcase_add_test(with, a_dead_writer_s_entries_are_cleared);
    tcase_add_test(with, either_recovers);
    tcase_add_test(with, a_stock_connection_of_the_same_process_keeps_its_locks);
    tcase_add_test(with, descriptors_do_not_pile_up);
    tcase_add_test(with, what_was_written_in_exclusive_locking_mode_is_published);
    tcase_add_test(with, who_maps_under_exclusive_writes_hash_words);
    tcase_add_test(with, what_is_recovered_is_published_from_the_first_region_on);
    tcase_add_test(with, the_journal_mode_may_be_switched);
    tcase_add_test(with, savepoints_and_rollbacks_leave_what_stock_sqlite_leaves);
    tcase_add_test(with, a_read_only_index_is_read);
    tcase_add_test(with, another_vfs_below_is_refused);
    tcase_add_loop_test(with, commits_while_sqlite_sleeps_do_not_keep_it_from_a_snapshot, 0, 2);
    tcase_add_loop_test(with, a_round_that_was_lost_is_followed_by_one_with_a_header_of_then, 0, 2);
    tcase_add_loop_test(with, after_the_last_round_the_thread_leads_to_no_file, 0, 2);
    return suite;
}

int
main(int argc, char **argv)
{
    return vfstest_main(argc, argv, make_suite);
}
