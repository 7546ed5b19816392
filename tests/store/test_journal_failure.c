/* Batches that fail: by an error, by the death of the process, by a power cut. */
#include <check.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/crashpoint.h"
#include "store/journal.h"
#include "store/journal_files.h"

#define OK(CALL) ck_assert_int_eq((CALL), LOCKSTEP_OK)

/* What the worker does with a batch.  The database is written only if the journal is sealed. */
static enum lockstep_status
whole_batch(struct lks_journal *j, const char *name, const struct bytes *before,
            const struct bytes *after, bool *out_written)
{
    uint32_t no;
    enum lockstep_status status = lks_journal_begin(j, 1024, before->size);
    *out_written = false;
    for (no = 1; status == LOCKSTEP_OK && no <= before->size / 1024; no++)
        status = lks_journal_add(j, no, before->data + (size_t)(no - 1) * 1024);
    if (status == LOCKSTEP_OK)
        status = lks_journal_seal(j, true);
    if (status != LOCKSTEP_OK)
        return status;
    file_write(name, after->data, after->size);
    *out_written = true;
    return lks_journal_invalidate(j, true);
}

/* `name` holds one of the two, whoever opens it; rolls it back for good. */
static const struct bytes *
settle(const char *name, const struct bytes *a, const struct bytes *b)
{
    struct bytes by_stock, by_us;
    const struct bytes *which;
    pair_copy(name, "by-stock");
    stock_visit("by-stock", "");
    our_rollback(&lks_io_os, name);
    by_stock = file_read("by-stock");
    by_us = file_read(name);
    ck_assert(bytes_same(&by_us, &by_stock));
    ck_assert(bytes_same(&by_us, a) || bytes_same(&by_us, b));
    which = bytes_same(&by_us, a) ? a : b;
    bytes_free(&by_stock);
    bytes_free(&by_us);
    return which;
}

START_TEST(after_an_error_at_any_call_nothing_is_torn_and_the_next_batch_works)
{
    struct bytes before, after;
    size_t at, failures = 0;
    bool went_through = false;
    stock_make("s", 1024, 1200); /* more than the buffer: add() writes too */
    before = file_read("s");
    stock_make("s", 1024, 1300);
    after = file_read("s");
    for (at = 0; !went_through; at++) {
        struct probe probe;
        struct lks_journal *j;
        enum lockstep_status status;
        const struct bytes *is;
        bool written;
        pair_remove("a");
        file_write("a", before.data, before.size);
        probe_init(&probe);
        OK(lks_journal_open(&probe.io, "a-journal", &j));
        /* A batch before, so that there are old records. */
        OK(whole_batch(j, "a", &before, &before, &written));
        probe.fail_at = probe.call_count + at;
        probe.tear = _i == 1;
        status = whole_batch(j, "a", &before, &after, &written);
        went_through = !probe.failed;
        failures += probe.failed;
        ck_assert((status == LOCKSTEP_OK) == !probe.failed);
        pair_copy("a", "b");
        is = settle("b", &before, &after);
        if (!written)
            ck_assert_ptr_eq(is, &before);
        if (status == LOCKSTEP_OK)
            ck_assert_ptr_eq(is, &after);
        /* The worker tries again with the same handle: as it stands, or after a rollback. */
        probe.fail_at = SIZE_MAX;
        if (written) {
            OK(lks_journal_invalidate(j, true));
            ck_assert(!our_rollback(&lks_io_os, "a"));
            OK(whole_batch(j, "a", &after, &before, &written));
            ck_assert(!our_rollback(&lks_io_os, "a"));
            file_write("a", before.data, before.size);
        }
        OK(whole_batch(j, "a", &before, &after, &written));
        ck_assert(!our_rollback(&lks_io_os, "a"));
        lks_journal_close(j);
        probe_free(&probe);
    }
    ck_assert_uint_ge(failures, 8);
    bytes_free(&before);
    bytes_free(&after);
}
END_TEST

/* ---- death ---------------------------------------------------------------------------------- */

#ifdef LKS_DEBUG

static const char *const points[] = {
    "journal:records-written", "journal:records-synced", "journal:header-written",
    "journal:sealed",          "journal:invalidating",   "journal:invalidated",
};

START_TEST(a_death_at_any_crash_point_leaves_the_old_state_or_the_new)
{
    struct bytes before, after;
    const struct bytes *is;
    pid_t child;
    int status;
    stock_make("a", 1024, 40);
    before = file_read("a");
    stock_make("s", 1024, 30);
    after = file_read("s");
    child = fork();
    ck_assert_int_ge(child, 0);
    if (child == 0) {
        struct lks_journal *j;
        bool written;
        lks_crash_arm(points[_i], 1);
        if (lks_journal_open(&lks_io_os, "a-journal", &j) != LOCKSTEP_OK)
            _exit(1);
        (void)!whole_batch(j, "a", &before, &after, &written);
        _exit(2);
    }
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    ck_assert_msg(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL, "%s was not passed",
                  points[_i]);
    is = settle("a", &before, &after);
    ck_assert_ptr_eq(is, strcmp(points[_i], "journal:invalidated") == 0 ? &after : &before);
    bytes_free(&before);
    bytes_free(&after);
}
END_TEST

#endif

/* ---- power cuts ----------------------------------------------------------------------------- */

/*
 * A history of batches is recorded call by call; for every call the disk is rebuilt as it may be if
 * the power goes there: what was synced is there, of the rest each sector for itself is or is not.
 * Stock SQLite and we must find a whole state, and none older than what was durable.
 */
#define HISTORY_PAGE 1024u
#define HISTORY_STATES 9u

struct history {
    struct probe probe;
    struct bytes states[HISTORY_STATES]; /* the database after each batch, states[0] before */
    size_t begun[HISTORY_STATES];        /* calls made before batch i could first be seen */
    size_t acknowledged[HISTORY_STATES]; /* calls after which batch i is durable */
};

/*
 * Pages that the checksum cannot tell from each other: the bytes that it samples are the same.  Every fifth page has
 * 0xff in many of them, as what was blanked has.
 */
static void
fill_page(unsigned char *page, uint32_t no, uint32_t version)
{
    uint32_t i;
    for (i = 0; i < HISTORY_PAGE; i++)
        page[i] = (unsigned char)(i % 200 != HISTORY_PAGE % 200 ? i * no + version
                                  : no % 5 == 0 && i > 300      ? 0xff
                                                                : i);
}

static struct bytes
next_state(const struct bytes *old, uint32_t version, struct dice *dice, bool *changed)
{
    uint32_t pages = 8 + dice_roll(dice, 8), old_pages = (uint32_t)(old->size / HISTORY_PAGE), no;
    struct bytes b = {malloc((size_t)pages * HISTORY_PAGE), (size_t)pages * HISTORY_PAGE, true};
    for (no = 1; no <= pages; no++) {
        unsigned char *page = b.data + (size_t)(no - 1) * HISTORY_PAGE;
        changed[no] = no > old_pages || dice_roll(dice, 2) == 0;
        if (changed[no])
            fill_page(page, no, version);
        else
            memcpy(page, old->data + (size_t)(no - 1) * HISTORY_PAGE, HISTORY_PAGE);
    }
    for (; no <= old_pages; no++)
        changed[no] = true;
    return b;
}

/* The pages that will change, and, as with other batches, some that will not. */
static enum lockstep_status
write_journal(struct lks_journal *j, const struct bytes *old, const bool *changed,
              struct dice *dice)
{
    uint32_t no;
    enum lockstep_status status = lks_journal_begin(j, HISTORY_PAGE, old->size);
    for (no = 1; status == LOCKSTEP_OK && no <= old->size / HISTORY_PAGE; no++)
        if (changed[no] || dice_roll(dice, 4) == 0)
            status = lks_journal_add(j, no, old->data + (size_t)(no - 1) * HISTORY_PAGE);
    return status == LOCKSTEP_OK ? lks_journal_seal(j, true) : status;
}

static enum lockstep_status
write_database(const struct lks_io *io, struct lks_io_file *db, const struct bytes *now,
               const bool *changed)
{
    uint32_t no;
    enum lockstep_status status = LOCKSTEP_OK;
    for (no = 1; status == LOCKSTEP_OK && no <= now->size / HISTORY_PAGE; no++)
        if (changed[no])
            status = io->write(db, (uint64_t)(no - 1) * HISTORY_PAGE,
                               now->data + (size_t)(no - 1) * HISTORY_PAGE, HISTORY_PAGE);
    if (status == LOCKSTEP_OK)
        status = io->truncate(db, now->size);
    return status == LOCKSTEP_OK ? io->sync(db) : status;
}

/* One of the next calls fails, or none. */
static void
trouble(struct history *h, struct dice *dice)
{
    h->probe.fail_at = h->probe.call_count + dice_roll(dice, 80);
    h->probe.fail_sync = dice_roll(dice, 8);
}

/*
 * Some batches as a worker writes them, or several workers one after the other.  What fails is done
 * again from the start of the step.
 */
static void
live(struct history *h, struct dice *dice)
{
    struct lks_io_file *db;
    struct lks_journal *j;
    uint32_t i;
    bool changed[32] = {false};
    struct bytes none = {NULL, 0, true};
    memset(h, 0, sizeof *h);
    probe_init(&h->probe);
    h->probe.tear = true;
    pair_remove("h");
    h->states[0] = next_state(&none, 0, dice, changed);
    file_write("h", h->states[0].data, h->states[0].size);
    OK(h->probe.io.open(&h->probe, "h", LKS_IO_DATABASE, &db));
    OK(lks_journal_open(&h->probe.io, "h-journal", &j));
    for (i = 1; i < HISTORY_STATES; i++) {
        bool sync = dice_roll(dice, 5) != 0;
        h->states[i] = next_state(&h->states[i - 1], i, dice, changed);
        h->begun[i] = h->probe.call_count;
        do
            trouble(h, dice);
        while (write_journal(j, &h->states[i - 1], changed, dice) != LOCKSTEP_OK);
        do
            trouble(h, dice);
        while (write_database(&h->probe.io, db, &h->states[i], changed) != LOCKSTEP_OK);
        do
            trouble(h, dice);
        while (lks_journal_invalidate(j, sync) != LOCKSTEP_OK);
        h->probe.fail_at = SIZE_MAX;
        h->probe.fail_sync = 0;
        h->acknowledged[i] = sync ? h->probe.call_count : SIZE_MAX;
        if (dice_roll(dice, 8) == 0)
            OK(lks_journal_trim(j, 0));
        if (dice_roll(dice, 8) == 0) {
            bool rolled_back;
            lks_journal_close(j);
            OK(lks_journal_rollback(&h->probe.io, "h-journal", db, &rolled_back));
            ck_assert(!rolled_back);
            h->acknowledged[i] = h->probe.call_count;
            OK(lks_journal_open(&h->probe.io, "h-journal", &j));
        }
    }
    lks_journal_close(j);
    h->probe.io.close(db);
}

static void
end_of_history(struct history *h)
{
    uint32_t i;
    for (i = 0; i < HISTORY_STATES; i++)
        bytes_free(&h->states[i]);
    probe_free(&h->probe);
}

/* A file of the disk while it is rebuilt. */
struct image {
    unsigned char data[1 << 18];
    size_t size;
};

static void
image_call(struct image *image, const struct probe_call *call, struct dice *dice)
{
    size_t done, piece;
    if (call->kind == PROBE_TRUNCATE && !call->failed &&
        (dice == NULL || dice_roll(dice, 2) == 0)) {
        if (call->offset > image->size)
            memset(image->data + image->size, 0, call->offset - image->size);
        image->size = call->offset;
    }
    if (call->kind != PROBE_WRITE)
        return;
    /* With dice: each sector for itself gets to the disk or not. */
    for (done = 0; done < call->size; done += piece) {
        size_t at = call->offset + done;
        piece = 512 - at % 512;
        if (piece > call->size - done)
            piece = call->size - done;
        if (dice != NULL && dice_roll(dice, 2) == 0)
            continue;
        ck_assert_uint_le(at + piece, sizeof image->data);
        if (at > image->size)
            memset(image->data + image->size, 0, at - image->size);
        memcpy(image->data + at, call->data + done, piece);
        if (at + piece > image->size)
            image->size = at + piece;
    }
}

/*
 * Call `i` is on the disk for sure at `cut`: synced.  After a sync that failed, what was written
 * before may be called clean and never get there; sizes do.
 */
static bool
is_durable(const struct history *h, size_t i, size_t cut)
{
    const struct probe_call *call = &h->probe.calls[i];
    for (; i < cut; i++) {
        const struct probe_call *c = &h->probe.calls[i];
        if (c->kind == PROBE_SYNC && c->role == call->role && !c->failed)
            return true;
        if (c->kind == PROBE_SYNC && c->role == call->role && call->kind == PROBE_WRITE)
            return false;
    }
    return false;
}

/* What the disk may hold if the power goes after `cut` calls; a journal without a name is lost. */
static void
rebuild(const struct history *h, size_t cut, struct dice *dice, const char *name)
{
    static struct image image;
    enum lks_io_role role;
    char path[64];
    for (role = LKS_IO_DATABASE; role <= LKS_IO_JOURNAL; role++) {
        size_t i;
        bool named = role == LKS_IO_DATABASE;
        image.size = 0;
        if (role == LKS_IO_DATABASE) {
            memcpy(image.data, h->states[0].data, h->states[0].size);
            image.size = h->states[0].size;
        }
        for (i = 0; i < cut; i++) {
            const struct probe_call *c = &h->probe.calls[i];
            if (c->role == role)
                image_call(&image, c, is_durable(h, i, cut) ? NULL : dice);
            named |= c->kind == PROBE_SYNC_DIR && !c->failed;
        }
        snprintf(path, sizeof path, "%s%s", name, role == LKS_IO_JOURNAL ? "-journal" : "");
        unlink(path);
        if (named || dice_roll(dice, 2) == 0)
            file_write(path, image.data, image.size);
    }
}

/* `got` is a state that was begun before the cut and not before the newest durable one. */
static void
assert_prefix(const struct history *h, size_t cut, const struct bytes *got, const char *who)
{
    uint32_t i, oldest = 0, newest = 0;
    for (i = 1; i < HISTORY_STATES; i++) {
        if (h->acknowledged[i] <= cut)
            oldest = i;
        if (h->begun[i] < cut)
            newest = i;
    }
    for (i = oldest; i <= newest; i++)
        if (bytes_same(got, &h->states[i]))
            return;
    ck_abort_msg("%s: a cut after %zu calls leaves none of the states %u to %u", who, cut, oldest,
                 newest);
}

START_TEST(a_power_cut_at_any_instant_leaves_a_whole_state)
{
    struct dice dice = dice_new("power cut");
    struct history h;
    size_t cut;
    live(&h, &dice);
    for (cut = 1; cut <= h.probe.call_count; cut++) {
        unsigned again;
        for (again = 0; again < 4; again++) {
            struct probe quick;
            struct bytes got;
            probe_init(&quick);
            rebuild(&h, cut, &dice, "c");
            if (again == 0 && cut % 4 == 0) {
                pair_copy("c", "by-stock");
                stock_visit("by-stock", "");
                got = file_read("by-stock");
                assert_prefix(&h, cut, &got, "stock");
                bytes_free(&got);
            }
            our_rollback(&quick.io, "c");
            got = file_read("c");
            assert_prefix(&h, cut, &got, "ours");
            bytes_free(&got);
            probe_free(&quick);
        }
    }
    end_of_history(&h);
}
END_TEST

int
main(void)
{
    Suite *suite = suite_create("store/journal, failure");
    TCase *c = tcase_create("failure");
    SRunner *runner;
    int failed;
    tcase_add_checked_fixture(c, in_new_directory, out_of_directory);
    tcase_add_loop_test(c, after_an_error_at_any_call_nothing_is_torn_and_the_next_batch_works, 0,
                        2);
#ifdef LKS_DEBUG
    tcase_add_loop_test(c, a_death_at_any_crash_point_leaves_the_old_state_or_the_new, 0,
                        sizeof points / sizeof points[0]);
#endif
    tcase_add_loop_test(c, a_power_cut_at_any_instant_leaves_a_whole_state, 0,
                        getenv("LKS_SOAK") != NULL ? 500 : 12);
    suite_add_tcase(suite, c);
    runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
