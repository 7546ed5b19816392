/*
 * Promise: in WAL mode, too, what is on the disk after a power cut is a prefix with every commit that was acknowledged
 * as durable: by COMMIT under FULL, or by lockstep_wait().
 *
 * Threads write, each with a connection of its own: FULL, NORMAL, NORMAL with tickets, and one on the stock VFS; the
 * background thread checkpoints and the log is reset again and again.  Images are taken inside writes and around
 * syncs (cutter_vfs.h) and opened by stock SQLite.
 *
 * Made to fail by: syncs_of_commits_are_needed(), where the disk lies about every sync of the log but the header's, and
 * a violation must be found; not waiting for the ticket.
 */
#include <check.h>
#include <lockstep/lockstep.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "powercut/cutter_vfs.h"
#include "powercut/history.h"
#include "powercut/mix.h"
#include "powercut/scratch.h"
#include "powercut/writers.h"

enum kind { FULL, NORMAL, TICKETS, STOCK, KINDS };

/* Under the mutex of the cutter. */
static int64_t durable = HISTORY_NONE;
static char violation[HISTORY_WHY + 100];

static bool
check_image(void *arg)
{
    char why[HISTORY_WHY] = "";
    sqlite3 *db = NULL;
    int64_t n = HISTORY_NONE;
    int rc = sqlite3_open_v2(scratch_path("image.db"), &db, SQLITE_OPEN_READWRITE, "unix");
    bool good = rc == SQLITE_OK && history_check(db, INT64_MAX, &n, &rc, why);
    (void)arg;
    sqlite3_close(db);
    if (good && n >= durable)
        return true;
    if (violation[0] == '\0')
        snprintf(violation, sizeof violation, "image %llu: commit %lld, durable %lld, code %d: %s",
                 (unsigned long long)cutter_images(), (long long)n, (long long)durable, rc, why);
    return false;
}

static void
note_durable(void *arg)
{
    int64_t n = *(int64_t *)arg;
    if (n > durable)
        durable = n;
}

static void
acknowledge(int64_t n)
{
    cutter_note(note_durable, &n);
}

static sqlite3 *
open_as(int kind)
{
    sqlite3 *db = NULL;
    if (kind == STOCK) {
        ck_assert_int_eq(sqlite3_open_v2(scratch_path("cut.db"), &db, SQLITE_OPEN_READWRITE, "cutter"),
                         SQLITE_OK);
        sqlite3_extended_result_codes(db, 1);
    } else {
        db = scratch_open("cut.db", "max_lag=4");
    }
    sqlite3_busy_timeout(db, 60000);
    sqlite3_exec(db, kind == NORMAL || kind == TICKETS ? "pragma synchronous = normal" : "pragma synchronous = full",
                 NULL, NULL, NULL);
    return db;
}

static int
commit_as(sqlite3 *db, int kind, int i)
{
    int64_t n;
    int rc = history_commit(db, &n);
    if (rc == SQLITE_OK && kind == TICKETS && n % 5 == 0)
        rc = lockstep_wait(db, lockstep_ticket(db), -1);
    if (rc == SQLITE_OK && (kind == FULL || kind == STOCK || (kind == TICKETS && n % 5 == 0)))
        acknowledge(n);
    /* The log is to be reset, and begun anew, often. */
    if (rc == SQLITE_OK && kind == TICKETS && i % 10 == 9)
        sqlite3_exec(db, "pragma wal_checkpoint(restart)", NULL, NULL, NULL);
    return rc;
}

static void
write_together(int commits)
{
    struct writers writers = {KINDS, commits, open_as, commit_as};
    writers_run(&writers);
}

static sqlite3 *
begin(unsigned per_mille)
{
    uint64_t seed = scratch_seed();
    sqlite3 *db;
    cutter_register();
    ck_assert_int_eq(lockstep_initialize("cutter", 0), SQLITE_OK);
    (void)cutter_add(scratch_path("cut.db"), scratch_path("image.db"));
    db = open_as(FULL);
    ck_assert_int_eq(sqlite3_exec(db, "pragma journal_mode = wal", NULL, NULL, NULL), SQLITE_OK);
    ck_assert_int_eq(history_create(db), SQLITE_OK);
    ck_assert_int_eq(sqlite3_exec(db, "pragma wal_checkpoint(truncate)", NULL, NULL, NULL), SQLITE_OK);
    durable = 0;
    cutter_start(seed, per_mille, check_image, NULL);
    return db;
}

START_TEST(after_a_power_cut_there_is_a_prefix_with_every_durable_commit)
{
    sqlite3 *db = begin(scratch_soak() ? 40 : 20);
    write_together(scratch_soak() ? 600 : 150);
    cutter_stop();
    printf("%llu images, newest durable commit %lld\n", (unsigned long long)cutter_images(),
           (long long)durable);
    ck_assert_msg(violation[0] == '\0', "%s", violation);
    ck_assert_uint_gt(cutter_images(), 50);
    ck_assert_int_eq(sqlite3_close(db), SQLITE_OK);
}
END_TEST

START_TEST(syncs_of_commits_are_needed)
{
    sqlite3 *db = begin(50);
    cutter_lie(0);
    write_together(40);
    cutter_stop();
    printf("when the disk lies: %s\n", violation);
    ck_assert_msg(violation[0] != '\0', "nobody misses the syncs of commits");
    ck_assert_int_eq(sqlite3_close(db), SQLITE_OK);
}
END_TEST

int
main(void)
{
    Suite *suite = suite_create("wal_powercut");
    TCase *tcase = tcase_create("wal");
    SRunner *runner;
    int failed;
    tcase_add_checked_fixture(tcase, scratch_enter, scratch_leave);
    tcase_set_timeout(tcase, scratch_soak() ? 1800 : 60);
    tcase_add_test(tcase, after_a_power_cut_there_is_a_prefix_with_every_durable_commit);
    tcase_add_test(tcase, syncs_of_commits_are_needed);
    suite_add_tcase(suite, tcase);
    runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
