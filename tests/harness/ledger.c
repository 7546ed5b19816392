#include "harness/ledger.h"

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "harness/clock.h"

#define PIPE_BYTES (1 << 20)

struct ledger {
    int from, to;
    struct books_record *records;
    size_t count, capacity;
    unsigned char *given; /* given[n]: commit n was acknowledged */
    size_t given_capacity;
};

struct ledger *
ledger_open(void)
{
    struct ledger *ledger = calloc(1, sizeof *ledger);
    int ends[2];
    ck_assert_ptr_nonnull(ledger);
    ck_assert_int_eq(pipe2(ends, O_CLOEXEC), 0);
    ledger->from = ends[0];
    ledger->to = ends[1];
    ck_assert_int_eq(fcntl(ledger->from, F_SETFL, O_NONBLOCK), 0);
    /* An actor may run ahead of us; without the size it just waits for us sooner. */
    (void)!fcntl(ledger->to, F_SETPIPE_SZ, PIPE_BYTES);
    return ledger;
}

void
ledger_close(struct ledger *ledger)
{
    close(ledger->from);
    close(ledger->to);
    free(ledger->records);
    free(ledger->given);
    free(ledger);
}

int
ledger_descriptor(const struct ledger *ledger)
{
    return ledger->to;
}

/* A number that is given again was lost in between. */
static void
note_number(struct ledger *ledger, int64_t n)
{
    if (n <= 0)
        ck_abort_msg("a commit of number %lld", (long long)n);
    if ((size_t)n >= ledger->given_capacity) {
        size_t capacity = 2 * (size_t)n + 4096;
        ledger->given = realloc(ledger->given, capacity);
        ck_assert_ptr_nonnull(ledger->given);
        memset(ledger->given + ledger->given_capacity, 0, capacity - ledger->given_capacity);
        ledger->given_capacity = capacity;
    }
    if (ledger->given[n])
        ck_abort_msg("commit %lld was acknowledged twice", (long long)n);
    ledger->given[n] = 1;
}

void
ledger_add(struct ledger *ledger, const struct books_record *record)
{
    if (ledger->count == ledger->capacity) {
        ledger->capacity = ledger->capacity == 0 ? 4096 : 2 * ledger->capacity;
        ledger->records = realloc(ledger->records, ledger->capacity * sizeof *ledger->records);
        ck_assert_ptr_nonnull(ledger->records);
    }
    if (record->actor >= BOOKS_ACTORS)
        ck_abort_msg("a record of actor %u", record->actor);
    note_number(ledger, record->n);
    ledger->records[ledger->count++] = *record;
}

size_t
ledger_drain(struct ledger *ledger)
{
    struct books_record buffer[512];
    ssize_t got;
    /* Records are smaller than PIPE_BUF, so they come whole. */
    while ((got = read(ledger->from, buffer, sizeof buffer)) > 0) {
        size_t i, n = (size_t)got / sizeof buffer[0];
        ck_assert_uint_eq((size_t)got % sizeof buffer[0], 0);
        for (i = 0; i < n; i++)
            ledger_add(ledger, &buffer[i]);
    }
    ck_assert(got < 0 && errno == EAGAIN);
    return ledger->count;
}

size_t
ledger_wait(struct ledger *ledger, size_t count, int timeout_ms)
{
    int64_t deadline = now_ms() + timeout_ms;
    while (ledger_drain(ledger) < count && now_ms() < deadline) {
        struct pollfd pipe = {.fd = ledger->from, .events = POLLIN};
        (void)!poll(&pipe, 1, (int)(deadline - now_ms()));
    }
    return ledger->count;
}

unsigned
ledger_actor(const struct ledger *ledger, size_t record)
{
    ck_assert_uint_lt(record, ledger->count);
    return ledger->records[record].actor;
}

void
ledger_check(struct ledger *ledger, const struct books *books, size_t count, bool all, const char *who)
{
    size_t i;
    /* An actor may have been acknowledged after the books were read: the order still holds. */
    (void)ledger_drain(ledger);
    for (i = 0; i < ledger->count; i++) {
        const struct books_record *r = &ledger->records[i];
        bool there = books->seq[r->actor] >= r->seq;
        if (there != (r->n <= books->n))
            ck_abort_msg("%s: not a prefix: at %lld, commit %lld of actor %u (its %lld) is %s", who,
                         (long long)books->n, (long long)r->n, r->actor, (long long)r->seq,
                         there ? "there" : "missing");
        if (!there && i < count && (all || r->durable))
            ck_abort_msg("%s: lost commit %lld of actor %u (its %lld), acknowledged%s; newest is %lld",
                         who, (long long)r->n, r->actor, (long long)r->seq,
                         r->durable ? " as durable" : "", (long long)books->n);
    }
}
