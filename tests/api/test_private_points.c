/*
 * Promise: wherever a writer dies, a client that only reads sees what the next writer will have recovered, to the byte, which
 * is every commit that was acknowledged, and changes no file.
 *
 * A first process commits and is killed; a second one adopts what it left, commits on, checkpoints, closes, and is killed
 * at a crash point of the library, at its first and at its fifth passing.  What commit k leaves follows from k alone.
 *
 * Made to fail by: taking no commits from the coordination file, or one too few (nearly everywhere); fits() without next_*,
 * or without the rounded size after a playback (batch:wrote-run to batch:synced).
 */
#include "api/enginetest.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/crashpoint.h"

#ifdef LKS_DEBUG

#define COMMITS 60
#define FIRST_COMMITS 20
#define MAX_BYTES 300000u

static const char *points[256];
static const char *point;
static unsigned nth;
static int ledger[2];

struct image {
    uint64_t size;
    unsigned char bytes[MAX_BYTES];
};

/* One write of commit k, of three. */
static void
choose(unsigned k, unsigned which, uint64_t *out_at, size_t *out_size, unsigned char *out_byte)
{
    unsigned seed = k * 31 + which;
    *out_at = (uint64_t)rand_r(&seed) % (k % 4 == 0 ? 250000u : 30000u);
    *out_size = 1 + (size_t)rand_r(&seed) % (which == 2 ? 9000u : 300u);
    *out_byte = (unsigned char)(k + which * 64);
}

/* Now and then a commit cuts the file. */
static bool
cuts(unsigned k, uint64_t from, uint64_t *out_size)
{
    unsigned seed = k;
    *out_size = 5000 + (uint64_t)rand_r(&seed) % 40000u;
    return k % 9 == 5 && *out_size < from;
}

static void
apply(struct image *image, unsigned k)
{
    uint64_t at, size;
    unsigned char byte;
    unsigned which;
    size_t bytes;
    if (cuts(k, image->size, &size)) {
        memset(image->bytes + size, 0, (size_t)(image->size - size));
        image->size = size;
    }
    for (which = 0; which < 3; which++) {
        choose(k, which, &at, &bytes, &byte);
        memset(image->bytes + at, byte, bytes);
        if (at + bytes > image->size)
            image->size = at + bytes;
    }
}

static void
make_commit(struct lockstep_conn *conn, unsigned k)
{
    static const enum lockstep_durability durabilities[] = {LOCKSTEP_ASYNC, LOCKSTEP_OFF, LOCKSTEP_ASYNC,
                                                            LOCKSTEP_FULL_SYNC};
    static unsigned char buf[MAX_BYTES];
    uint64_t at, size;
    unsigned char byte;
    unsigned which;
    size_t bytes;
    api_begin_writing(conn);
    child_check(lockstep_conn_size(conn, &size) == LOCKSTEP_OK);
    if (cuts(k, size, &size))
        child_check(lockstep_conn_truncate(conn, size) == LOCKSTEP_OK);
    for (which = 0; which < 3; which++) {
        choose(k, which, &at, &bytes, &byte);
        child_check(lockstep_conn_size(conn, &size) == LOCKSTEP_OK);
        /* What was cut off may show again where the file grows over it. */
        memset(buf, 0, sizeof buf);
        if (at > size)
            child_check(lockstep_conn_write(conn, size, buf, (size_t)(at - size)) == LOCKSTEP_OK);
        memset(buf, byte, bytes);
        child_check(lockstep_conn_write(conn, at, buf, bytes) == LOCKSTEP_OK);
    }
    api_commit(conn, durabilities[k % 4]);
    byte = (unsigned char)k;
    child_check(write(ledger[1], &byte, 1) == 1);
}

static const struct lockstep_options lazy = {.max_lag_ms = 3600000};

static void
be_first(struct child *self)
{
    struct lockstep_db *db;
    struct lockstep_conn *conn;
    unsigned k;
    child_step(self, 's');
    db = api_open(&lazy);
    conn = api_connect(db);
    for (k = 1; k <= FIRST_COMMITS; k++)
        make_commit(conn, k);
    child_step(self, 'a');
}

static void
be_the_victim(struct child *self)
{
    struct lockstep_db *db;
    struct lockstep_conn *conn, *old;
    unsigned k;
    child_step(self, 's');
    lks_crash_arm(point, nth);
    db = api_open(&lazy);
    conn = api_connect(db);
    old = api_connect(db);
    for (k = FIRST_COMMITS + 1; k <= COMMITS; k++) {
        make_commit(conn, k);
        /* A snapshot that stays for a while: its versions are kept, and put behind the chains by a batch. */
        if (k % 12 == 1)
            child_check(lockstep_conn_begin(old) == LOCKSTEP_OK);
        if (k % 7 == 0)
            child_check(lockstep_db_checkpoint(db, NULL) == LOCKSTEP_OK);
        if (k % 12 == 10)
            lockstep_conn_end(old);
        if (k % 10 == 3) {
            api_begin_writing(conn);
            child_check(lockstep_conn_write(conn, 100, "rolled back", 11) == LOCKSTEP_OK);
            child_check(lockstep_conn_rollback(conn) == LOCKSTEP_OK);
            lockstep_conn_end(conn);
        }
    }
    lockstep_conn_close(old);
    lockstep_conn_close(conn);
    child_check(lockstep_db_close(db) == LOCKSTEP_OK);
}

/* These are on the way of every such victim. */
static bool
must_be_passed(const char *name)
{
    static const char *const prefixes[] = {"batch:wrote", "batch:synced", "batch:invalidated", "batch:published",
                                           "transaction:commit", "pagetable:link", "recovery:adopting",
                                           "attach:connected", "detach:", "client:entered"};
    size_t i;
    for (i = 0; i < sizeof prefixes / sizeof *prefixes; i++)
        if (strncmp(name, prefixes[i], strlen(prefixes[i])) == 0)
            return true;
    return false;
}

static void
read_all(struct lockstep_db *db, struct image *out)
{
    struct lockstep_conn *conn = api_connect(db);
    size_t got = 0;
    memset(out, 0, sizeof *out);
    ck_assert_int_eq(lockstep_conn_begin(conn), LOCKSTEP_OK);
    ck_assert_int_eq(lockstep_conn_size(conn, &out->size), LOCKSTEP_OK);
    ck_assert_uint_le(out->size, MAX_BYTES);
    ck_assert_int_eq(lockstep_conn_read(conn, 0, out->bytes, MAX_BYTES, &got), LOCKSTEP_OK);
    ck_assert_uint_eq(got, out->size);
    lockstep_conn_close(conn);
    ck_assert_int_eq(lockstep_db_close(db), LOCKSTEP_OK);
}

static bool
is_commit(const struct image *image, unsigned k)
{
    static struct image model;
    unsigned i;
    memset(&model, 0, sizeof model);
    model.size = 10000;
    for (i = 1; i <= k; i++)
        apply(&model, i);
    return image->size == model.size && memcmp(image->bytes, model.bytes, sizeof model.bytes) == 0;
}

START_TEST(a_reader_sees_what_the_next_writer_recovers_wherever_the_last_one_died)
{
    static const struct lockstep_options reading = {.readonly = 1};
    static struct image viewed, recovered;
    static const char *const files[] = {"db", "db-lockstep", "db-journal", "db-lockstep.orphan-1"};
    uint64_t before[4];
    struct child first, victim;
    unsigned char byte = 0, acknowledged = 0;
    size_t i;
    point = points[_i / 2];
    nth = _i % 2 ? 5 : 1;
    ck_assert_int_eq(pipe(ledger), 0);
    child_start(&first, be_first);
    child_start(&victim, be_the_victim);
    close(ledger[1]);
    child_await(&first, 's');
    child_await(&victim, 's');
    child_go(&first);
    child_await(&first, 'a');
    child_kill(&first);
    child_go(&victim);
    ck_assert_int_eq(read(victim.fd, &byte, 1), 0);
    child_kill(&victim);
    while (read(ledger[0], &byte, 1) == 1)
        acknowledged = byte;
    if (nth == 1 && must_be_passed(point))
        ck_assert_msg(acknowledged < COMMITS || strncmp(point, "detach:", 7) == 0, "%s was not passed", point);
    for (i = 0; i < 4; i++)
        before[i] = disk_sum(files[i]);
    read_all(api_open(&reading), &viewed);
    for (i = 0; i < 4; i++)
        ck_assert_msg(disk_sum(files[i]) == before[i], "%s: %s was changed", point, files[i]);
    read_all(api_open(NULL), &recovered);
    ck_assert_msg(viewed.size == recovered.size && memcmp(viewed.bytes, recovered.bytes, MAX_BYTES) == 0,
                  "%s, passing %u: the reader saw something else", point, nth);
    ck_assert_msg(is_commit(&viewed, acknowledged) || is_commit(&viewed, acknowledged + 1u),
                  "%s, passing %u: not commit %u, nor the next", point, nth, acknowledged);
    ck_assert(!logged("passed over"));
}
END_TEST

int
main(void)
{
    Suite *suite = suite_create("private views at crash points");
    TCase *tcase = coordtest_case(suite, "crash points");
    size_t n = lks_crash_points(points, sizeof points / sizeof *points);
    tcase_add_loop_test(tcase, a_reader_sees_what_the_next_writer_recovers_wherever_the_last_one_died, 0, 2 * (int)n);
    return coordtest_main(suite);
}

#else

#include <stdio.h>

int
main(void)
{
    printf("skipped: without --enable-debug there are no crash points\n");
    return 77;
}

#endif
