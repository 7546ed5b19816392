/*
 * Coordination files that are damaged or of another: an error that a person can act on or a working open with
 * the file set aside; no crash, no hang, and the database as it was.
 */
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "shm/layout.h"
#include "vfs/peer.h"
#include "vfs/vfstest.h"

#define COORD "a.db-lockstep"
#define URI "file:a.db?vfs=lockstep&durability=async&max_lag=60000&worker=0"

/* A database with two rows written, and one commit pending in the coordination file of a killed process. */
static void
leave_pending(void)
{
    struct peer peer;
    sqlite3 *db = open_ours("a.db", "");
    must(db, "create table t(v); insert into t values(1); insert into t values(2)");
    close_db(db);
    peer_start(&peer);
    check_text(peer_ask(&peer, "open 0 " URI), "");
    check_text(peer_ask(&peer, "sql 0 insert into t values(3)"), "");
    peer_kill(&peer);
    ck_assert(file_exists(COORD));
}

/* It opens, with the old file kept, a message, and the database as it was without the pending commit. */
static void
check_set_aside(void)
{
    sqlite3 *db = open_ours("a.db", "");
    check_text(must(db, "select group_concat(v) from t"), "1,2");
    ck_assert(file_exists(COORD ".orphan-1"));
    ck_assert_msg(logged("orphan-1") && logged("is kept as"), "%s", log_text());
    check_text(must(db, "pragma integrity_check"), "ok");
    must(db, "insert into t values(4)");
    close_db(db);
    check_ordinary("a.db");
}

START_TEST(an_intact_one_is_adopted)
{
    sqlite3 *db;
    leave_pending();
    db = open_ours("a.db", "");
    check_text(must(db, "select group_concat(v) from t"), "1,2,3");
    ck_assert(!file_exists(COORD ".orphan-1"));
    close_db(db);
    check_ordinary("a.db");
}
END_TEST

START_TEST(an_empty_one_is_made_anew)
{
    sqlite3 *db;
    leave_pending();
    ck_assert_int_eq(truncate(COORD, 0), 0);
    db = open_ours("a.db", "");
    check_text(must(db, "select group_concat(v) from t"), "1,2");
    ck_assert_msg(logged("was not closed in order"), "%s", log_text());
    must(db, "insert into t values(4)");
    close_db(db);
    check_ordinary("a.db");
}
END_TEST

START_TEST(a_truncated_one_is_set_aside)
{
    static const long long sizes[] = {1, 100, 4096, 100000, (long long)LKS_SHM_BYTES - 1};
    leave_pending();
    ck_assert_int_eq(truncate(COORD, sizes[_i]), 0);
    check_set_aside();
}
END_TEST

/* The identity is whole, but chunks that the state counts are not there. */
START_TEST(one_without_its_blocks_is_set_aside)
{
    leave_pending();
    ck_assert_int_eq(truncate(COORD, (long long)LKS_SHM_BYTES + (_i == 0 ? 0 : 5000)), 0);
    check_set_aside();
}
END_TEST

START_TEST(a_zeroed_one_loses_nothing_that_is_in_the_database)
{
    sqlite3 *db;
    long long size;
    char *zeros;
    leave_pending();
    size = file_size(COORD);
    zeros = calloc(1, (size_t)size);
    write_file(COORD, 0, zeros, (size_t)size);
    free(zeros);
    db = open_ours("a.db", "");
    check_text(must(db, "select group_concat(v) from t"), "1,2");
    ck_assert_msg(logged("was not closed in order"), "%s", log_text());
    must(db, "insert into t values(4)");
    close_db(db);
    check_ordinary("a.db");
}
END_TEST

static void
scribble(const char *name, long long offset, size_t size, unsigned seed)
{
    unsigned char *bytes = malloc(size);
    size_t i;
    srandom(seed);
    for (i = 0; i < size; i++)
        bytes[i] = (unsigned char)random();
    write_file(name, offset, bytes, size);
    free(bytes);
}

START_TEST(a_random_one_is_set_aside)
{
    long long size;
    leave_pending();
    size = file_size(COORD);
    scribble(COORD, 0, (size_t)size, 1);
    check_set_aside();
}
END_TEST

START_TEST(one_of_another_database_is_set_aside)
{
    sqlite3 *db;
    leave_pending();
    db = open_ours("b.db", "");
    must(db, "create table other(x)");
    copy_file("b.db-lockstep", COORD);
    close_db(db);
    check_set_aside();
    ck_assert_msg(logged("belongs to another database file"), "%s", log_text());
}
END_TEST

/* The checksum of header.c, found by its effect: the test only needs that the one there is recomputed. */
static uint32_t
checksum(const void *bytes, size_t size)
{
    const unsigned char *p = bytes;
    uint32_t hash = 2166136261u;
    while (size-- > 0)
        hash = (hash ^ *p++) * 16777619u;
    return hash;
}

static void
patch_identity(void (*patch)(struct lks_shm_identity *))
{
    struct lks_shm_identity id;
    read_file(COORD, 0, &id, sizeof id);
    ck_assert_uint_eq(checksum(&id, offsetof(struct lks_shm_identity, checksum)), id.checksum);
    patch(&id);
    id.checksum = checksum(&id, offsetof(struct lks_shm_identity, checksum));
    write_file(COORD, 0, &id, sizeof id);
}

static void
other_boot(struct lks_shm_identity *id)
{
    id->boot_id[0] = id->boot_id[0] == '0' ? '1' : '0';
}

static void
newer_format(struct lks_shm_identity *id)
{
    id->format++;
}

static void
other_device(struct lks_shm_identity *id)
{
    id->device++;
}

static void
other_byte_order(struct lks_shm_identity *id)
{
    id->byte_order = 0x04030201;
}

START_TEST(one_of_another_boot_is_set_aside)
{
    leave_pending();
    patch_identity(other_boot);
    check_set_aside();
    ck_assert(logged("the machine went down"));
}
END_TEST

static void
other_word_bits(struct lks_shm_identity *id)
{
    id->word_bits = sizeof(long) == 8 ? 32 : 64;
}

/* The build that made it may still have it: what waits in it is not lost. */
START_TEST(one_of_another_format_or_build_is_refused_and_left_alone)
{
    static const struct {
        void (*patch)(struct lks_shm_identity *id);
        const char *words;
    } foreign[] = {{newer_format, "was made by another version"},
                   {other_byte_order, "was made on a machine with another byte order"},
                   {other_word_bits, sizeof(long) == 8 ? "was made by a 32-bit build of Lockstep"
                                                       : "was made by a 64-bit build of Lockstep"}};
    struct lks_shm_identity made;
    sqlite3 *db;
    leave_pending();
    read_file(COORD, 0, &made, sizeof made);
    patch_identity(foreign[_i].patch);
    db = open_ours("a.db", "");
    ck_assert_int_eq(code(db, "select v from t") & 0xff, SQLITE_CANTOPEN);
    ck_assert_int_eq(code(db, "insert into t values('no')") & 0xff, SQLITE_CANTOPEN);
    ck_assert_msg(logged(foreign[_i].words) && logged("open the database with that build once"), "%s",
                  log_text());
    close_db(db);
    ck_assert(file_exists(COORD) && !file_exists(COORD ".orphan-1"));
    write_file(COORD, 0, &made, sizeof made);
    db = open_ours("a.db", "");
    check_text(must(db, "select group_concat(v) from t"), "1,2,3");
    close_db(db);
    check_ordinary("a.db");
}
END_TEST

static void
newer_format_other_boot(struct lks_shm_identity *id)
{
    newer_format(id);
    other_boot(id);
}

START_TEST(one_of_another_file_or_of_another_format_and_boot_is_set_aside)
{
    leave_pending();
    patch_identity(_i == 0 ? other_device : newer_format_other_boot);
    check_set_aside();
}
END_TEST

/*
 * Anything may be behind a good identity.  Whatever is made of it, opening ends, the database is whole, and
 * it has the rows that were written.
 */
START_TEST(scribbles_behind_a_good_identity_do_not_crash_or_hang)
{
    static const struct {
        size_t from, to;
    } areas[] = {
        {offsetof(struct lks_shm, state), offsetof(struct lks_shm, clients)},
        {offsetof(struct lks_shm, clients), offsetof(struct lks_shm, slots)},
        {offsetof(struct lks_shm, slots), offsetof(struct lks_shm, waiters)},
        {offsetof(struct lks_shm, waiters), offsetof(struct lks_shm, ring)},
        {offsetof(struct lks_shm, ring), offsetof(struct lks_shm, buckets)},
        {offsetof(struct lks_shm, buckets), sizeof(struct lks_shm)},
        {sizeof(struct lks_shm), sizeof(struct lks_shm) + 32 * 256},
    };
    unsigned seed = (unsigned)_i, area = seed % 7;
    size_t width = areas[area].to - areas[area].from, size, at;
    sqlite3 *db;
    leave_pending();
    srandom(seed);
    size = seed < 7 ? width : seed < 21 ? 8 : 4 + (size_t)random() % 200;
    size = size < width ? size : width;
    at = areas[area].from + (size_t)random() % (width - size + 1) / 4 * 4;
    scribble(COORD, (long long)at, size, seed);
    /* With a stranger's settings it may wait for space; nobody waits long here. */
    ck_assert_int_eq(open_code("a.db", "vfs=lockstep", SQLITE_OPEN_READWRITE, &db), SQLITE_OK);
    if (code(db, "select count(*) from t") == SQLITE_OK) {
        check_text(must(db, "select v from t limit 2"), "1\n2");
        (void)code(db, "insert into t values(4)");
    } else {
        ck_assert_int_ne((int)strlen(log_text()), 0);
    }
    close_db(db);
    if (file_exists(COORD)) {
        /* Refused: moved away by hand, as the message says. */
        ck_assert_int_eq(rename(COORD, "away"), 0);
        db = open_ours("a.db", "");
        check_text(must(db, "select v from t limit 2"), "1\n2");
        close_db(db);
    }
    check_ordinary("a.db");
}
END_TEST

START_TEST(one_that_cannot_be_opened_leaves_the_database_read_only)
{
    sqlite3 *db;
    struct peer peer;
    const char *answer;
    if (geteuid() != 0)
        return;
    leave_pending();
    ck_assert_int_eq(chmod("a.db", 0666), 0);
    ck_assert_int_eq(chmod(COORD, 0), 0);
    peer_start(&peer);
    check_text(peer_ask(&peer, "become 65534"), "");
    check_text(peer_ask(&peer, "open 0 file:a.db?vfs=lockstep"), "");
    /* Read as by stock SQLite; not written, for commits wait that we cannot see. */
    check_text(peer_ask(&peer, "sql 0 select group_concat(v) from t"), "1,2");
    check_text(peer_ask(&peer, "sql 0 insert into t values(4)"),
               "error 8: attempt to write a readonly database");
    answer = peer_ask(&peer, "log");
    ck_assert_msg(strstr(answer, "no permission") != NULL, "%s", answer);
    peer_exit(&peer);
    ck_assert_int_eq(chmod(COORD, 0644), 0);
    db = open_ours("a.db", "");
    check_text(must(db, "select group_concat(v) from t"), "1,2,3");
    close_db(db);
    check_ordinary("a.db");
}
END_TEST

/* The client is another process: this one opens and closes the file, which drops a process's own locks. */
START_TEST(damage_under_a_live_client_refuses_a_newcomer)
{
    static const char garbage[] = "no Lockstep here";
    struct lks_shm_identity id;
    struct peer peer;
    sqlite3 *db;
    peer_start(&peer);
    check_text(peer_ask(&peer, "open 0 file:a.db?vfs=lockstep"), "");
    check_text(peer_ask(&peer, "sql 0 create table t(v); insert into t values(1)"), "");
    read_file(COORD, 0, &id, sizeof id);
    if (_i == 0)
        write_file(COORD, 0, garbage, 16);
    else
        patch_identity(newer_format);
    db = open_ours("a.db", "");
    ck_assert_int_ne(code(db, "select v from t"), SQLITE_OK);
    ck_assert_int_ne(code(db, "insert into t values('no')"), SQLITE_OK);
    ck_assert_msg(logged("other processes are connected through it"), "%s", log_text());
    ck_assert(!file_exists(COORD ".orphan-1"));
    /* The one who is connected goes on, and leaves in order. */
    check_text(peer_ask(&peer, "sql 0 insert into t values(2)"), "");
    peer_exit(&peer);
    must(db, "insert into t values(3)");
    check_text(must(db, "select group_concat(v) from t"), "1,2,3");
    close_db(db);
    check_ordinary("a.db");
}
END_TEST

/* Somebody cleared the tripwire by force and wrote with stock SQLite. */
START_TEST(pending_commits_on_a_changed_database_are_set_aside)
{
    static const unsigned char one = 1;
    unsigned char version;
    sqlite3 *stock, *db;
    leave_pending();
    read_file("a.db", 18, &version, 1);
    ck_assert_int_eq(version, 3);
    stock = open_stock("a.db");
    check_text(must(stock, "select group_concat(v) from t"), "1,2");
    ck_assert_int_eq(code(stock, "insert into t values('stock')"), SQLITE_READONLY);
    close_db(stock);
    write_file("a.db", 18, &one, 1);
    stock = open_stock("a.db");
    must(stock, "insert into t values('stock')");
    close_db(stock);
    db = open_ours("a.db", "");
    check_text(must(db, "select group_concat(v) from t"), "1,2,stock");
    ck_assert(file_exists(COORD ".orphan-1"));
    ck_assert(logged("somebody else has changed"));
    must(db, "insert into t values('ours')");
    close_db(db);
    check_ordinary("a.db");
}
END_TEST

START_TEST(orphans_are_numbered_and_none_is_overwritten)
{
    char first[64], again[64];
    sqlite3 *db;
    leave_pending();
    scribble(COORD, 0, 64, 1);
    read_file(COORD, 0, first, sizeof first);
    check_set_aside();
    write_file(COORD, 0, "second", 6);
    db = open_ours("a.db", "");
    must(db, "insert into t values(5)");
    close_db(db);
    ck_assert(file_exists(COORD ".orphan-2"));
    read_file(COORD ".orphan-1", 0, again, sizeof again);
    ck_assert_int_eq(memcmp(first, again, sizeof first), 0);
}
END_TEST

static Suite *
make_suite(void)
{
    Suite *suite = suite_create("damage");
    TCase *tcase = vfstest_case(suite, "damage");
    tcase_add_test(tcase, an_intact_one_is_adopted);
    tcase_add_test(tcase, an_empty_one_is_made_anew);
    tcase_add_loop_test(tcase, a_truncated_one_is_set_aside, 0, 5);
    tcase_add_loop_test(tcase, one_without_its_blocks_is_set_aside, 0, 2);
    tcase_add_test(tcase, a_zeroed_one_loses_nothing_that_is_in_the_database);
    tcase_add_test(tcase, a_random_one_is_set_aside);
    tcase_add_test(tcase, one_of_another_database_is_set_aside);
    tcase_add_test(tcase, one_of_another_boot_is_set_aside);
    tcase_add_loop_test(tcase, one_of_another_format_or_build_is_refused_and_left_alone, 0, 3);
    tcase_add_loop_test(tcase, one_of_another_file_or_of_another_format_and_boot_is_set_aside, 0, 2);
    tcase_add_loop_test(tcase, scribbles_behind_a_good_identity_do_not_crash_or_hang, 0,
                        vfstest_soak() ? 2000 : 70);
    tcase_add_test(tcase, one_that_cannot_be_opened_leaves_the_database_read_only);
    tcase_add_loop_test(tcase, damage_under_a_live_client_refuses_a_newcomer, 0, 2);
    tcase_add_test(tcase, pending_commits_on_a_changed_database_are_set_aside);
    tcase_add_test(tcase, orphans_are_numbered_and_none_is_overwritten);
    return suite;
}

int
main(int argc, char **argv)
{
    return vfstest_main(argc, argv, make_suite);
}
