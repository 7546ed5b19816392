/*
 * Promise: when COMMIT over two attached databases in WAL mode has returned under FULL, both have it after
 * a power cut at any instant; and each is a prefix of what was committed in it.  (Atomic in each: a cut
 * within the commit may leave it in one of them only.)
 *
 * Threads write, each with a connection of its own: two FULL, one NORMAL, one over both through the stock
 * VFS; the logs are reset again and again.  An image of both databases, as of one instant, is taken before
 * and after every sync, inside some writes, and after every COMMIT, of what was synced only; stock SQLite
 * opens both (cutter_vfs.h).
 *
 * Made to fail by: the_sync_of_each_log_is_needed(), where the disk lies about one of the two logs, and a
 * violation must be found in that database; not waiting for the ticket of the first, or of the second,
 * database.
 */
#include <check.h>
#include <lockstep/lockstep.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "powercut/cutter_vfs.h"
#include "powercut/mix.h"
#include "powercut/scratch.h"
#include "powercut/writers.h"

enum { MAIN, OTHER, DATABASES };
static const char *const schemas[DATABASES] = {"main", "b"};
static const char *const names[DATABASES] = {"main.db", "other.db"};
static const char *const images[DATABASES] = {"image-main.db", "image-other.db"};

enum kind { FULL, FULL_TOO, NORMAL, STOCK, KINDS };

#define MAX_BLOB 5000

/* Under the mutex of the cutter. */
static int64_t durable; /* in both */
static int violated = -1;
static char violation[400];

/* What commit n puts into a database follows from n. */
static int
make_blob(int d, int64_t n, unsigned char blob[MAX_BLOB])
{
    uint64_t state = (uint64_t)n * DATABASES + (uint64_t)d;
    int size = (int)(mix_next(&state) % MAX_BLOB), i;
    for (i = 0; i < size; i++)
        blob[i] = (unsigned char)mix_next(&state);
    return size;
}

/* ------------------------------------------------------------------------------------------------
 * Images
 * --------------------------------------------------------------------------------------------- */

/* Rows 1 to *out_n and no other, each as it was committed; else false, and *out_n is the last good one. */
static bool
read_prefix(sqlite3 *db, int d, int64_t *out_n)
{
    unsigned char blob[MAX_BLOB];
    sqlite3_stmt *rows;
    bool good = true;
    int rc;
    *out_n = 0;
    if (sqlite3_prepare_v2(db, "select n, v from t order by n", -1, &rows, NULL) != SQLITE_OK)
        return false;
    while (good && (rc = sqlite3_step(rows)) == SQLITE_ROW) {
        int64_t n = sqlite3_column_int64(rows, 0);
        int size = make_blob(d, n, blob);
        good = n == *out_n + 1 && sqlite3_column_bytes(rows, 1) == size &&
               (size == 0 || memcmp(sqlite3_column_blob(rows, 1), blob, (size_t)size) == 0);
        *out_n += good;
    }
    sqlite3_finalize(rows);
    return good && rc == SQLITE_DONE;
}

static bool
check_one(int d)
{
    sqlite3 *db = NULL;
    int64_t n = -1;
    bool whole, good;
    whole = sqlite3_open_v2(scratch_path(images[d]), &db, SQLITE_OPEN_READWRITE, "unix") == SQLITE_OK &&
            read_prefix(db, d, &n) && strcmp(scratch_value(db, "pragma integrity_check"), "ok") == 0;
    good = whole && n >= durable;
    if (!good && violated < 0) {
        violated = d;
        snprintf(violation, sizeof violation, "image %llu of %s: %s, up to commit %lld; durable are %lld: %s",
                 (unsigned long long)cutter_images(), names[d], whole ? "whole" : "damaged", (long long)n,
                 (long long)durable, sqlite3_errmsg(db));
    }
    sqlite3_close(db);
    return good;
}

static bool
check_images(void *arg)
{
    (void)arg;
    return check_one(MAIN) && check_one(OTHER);
}

static void
note_durable(void *arg)
{
    int64_t n = *(int64_t *)arg;
    if (n > durable)
        durable = n;
}

/* ------------------------------------------------------------------------------------------------
 * Writers
 * --------------------------------------------------------------------------------------------- */

static int
run(sqlite3 *db, const char *text)
{
    return sqlite3_exec(db, text, NULL, NULL, NULL);
}

static sqlite3 *
open_as(int kind)
{
    const char *level = kind == NORMAL ? "normal" : "full";
    char text[5000];
    sqlite3 *db = NULL;
    int d;
    if (kind == STOCK)
        ck_assert_int_eq(sqlite3_open_v2(scratch_path(names[MAIN]), &db, SQLITE_OPEN_READWRITE, "cutter"), SQLITE_OK);
    else
        db = scratch_open(names[MAIN], "max_lag=4");
    sqlite3_busy_timeout(db, 60000);
    /* The VFS is that of the main database. */
    snprintf(text, sizeof text, "attach '%s' as b", scratch_path(names[OTHER]));
    ck_assert_int_eq(run(db, text), SQLITE_OK);
    for (d = 0; d < DATABASES; d++) {
        snprintf(text, sizeof text, "pragma %s.synchronous = %s", schemas[d], level);
        ck_assert_int_eq(run(db, text), SQLITE_OK);
    }
    return db;
}

static int
insert(sqlite3 *db, int d, int64_t n)
{
    unsigned char blob[MAX_BLOB];
    char text[60];
    int size = make_blob(d, n, blob), rc;
    sqlite3_stmt *s;
    snprintf(text, sizeof text, "insert into %s.t values(?1, ?2)", schemas[d]);
    rc = sqlite3_prepare_v2(db, text, -1, &s, NULL);
    if (rc != SQLITE_OK)
        return rc;
    sqlite3_bind_int64(s, 1, n);
    sqlite3_bind_blob(s, 2, blob, size, SQLITE_STATIC);
    (void)sqlite3_step(s);
    return sqlite3_finalize(s);
}

static int
commit_both(sqlite3 *db, int kind, int i)
{
    int64_t n;
    int rc = run(db, "begin immediate");
    if (rc != SQLITE_OK)
        return rc;
    n = atoll(scratch_value(db, "select coalesce(max(n), 0) + 1 from main.t"));
    rc = insert(db, MAIN, n);
    if (rc == SQLITE_OK)
        rc = insert(db, OTHER, n);
    if (rc == SQLITE_OK)
        rc = run(db, "commit");
    if (rc == SQLITE_OK && kind != NORMAL)
        cutter_note_and_cut(note_durable, &n);
    /* The logs are to be begun anew often. */
    if (rc == SQLITE_OK && kind == NORMAL && i % 8 == 7)
        (void)run(db, "pragma wal_checkpoint(restart)");
    return rc;
}

static void
write_together(int commits)
{
    struct writers writers = {KINDS, commits, open_as, commit_both};
    writers_run(&writers);
}

/* Every sync has an image before and after. */
#define PER_MILLE 50

static sqlite3 *
begin(void)
{
    uint64_t seed = scratch_seed();
    sqlite3 *db;
    int d;
    cutter_register();
    ck_assert_int_eq(lockstep_initialize("cutter", 0), SQLITE_OK);
    for (d = 0; d < DATABASES; d++) {
        ck_assert_uint_eq(cutter_add(scratch_path(names[d]), scratch_path(images[d])), (unsigned)d);
        db = scratch_open(names[d], "");
        ck_assert_int_eq(run(db, "pragma journal_mode = wal; create table t(n integer primary key, v)"), SQLITE_OK);
        ck_assert_int_eq(run(db, "pragma wal_checkpoint(truncate)"), SQLITE_OK);
        ck_assert_int_eq(sqlite3_close(db), SQLITE_OK);
    }
    db = open_as(FULL);
    ck_assert_int_eq(run(db, "select * from main.t, b.t"), SQLITE_OK);
    cutter_start(seed, PER_MILLE, check_images, NULL);
    return db;
}

START_TEST(after_a_power_cut_each_database_has_every_durable_commit)
{
    sqlite3 *db = begin();
    int commits = scratch_soak() ? 400 : 40;
    write_together(commits);
    cutter_stop();
    printf("%llu images, newest durable commit %lld\n", (unsigned long long)cutter_images(), (long long)durable);
    ck_assert_msg(violation[0] == '\0', "%s", violation);
    ck_assert_int_ge(durable, KINDS * commits / 2);
    ck_assert_uint_gt(cutter_images(), (uint64_t)commits * 3);
    ck_assert_int_eq(sqlite3_close(db), SQLITE_OK);
}
END_TEST

START_TEST(the_sync_of_each_log_is_needed)
{
    sqlite3 *db = begin();
    cutter_lie((unsigned)_i);
    write_together(20);
    cutter_stop();
    printf("when the disk lies about the log of %s: %s\n", names[_i], violation);
    ck_assert_msg(violation[0] != '\0', "nobody misses the syncs of %s", names[_i]);
    ck_assert_int_eq(violated, _i);
    ck_assert_int_eq(sqlite3_close(db), SQLITE_OK);
}
END_TEST

int
main(void)
{
    Suite *suite = suite_create("attached_powercut");
    TCase *tcase = tcase_create("attached");
    SRunner *runner;
    int failed;
    tcase_add_checked_fixture(tcase, scratch_enter, scratch_leave);
    tcase_set_timeout(tcase, scratch_soak() ? 1800 : 60);
    tcase_add_test(tcase, after_a_power_cut_each_database_has_every_durable_commit);
    tcase_add_loop_test(tcase, the_sync_of_each_log_is_needed, 0, DATABASES);
    suite_add_tcase(suite, tcase);
    runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
