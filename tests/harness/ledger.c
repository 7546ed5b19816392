#include "harness/ledger.h"

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#define PIPE_BYTES (1 << 20)

struct ledger {
    int from, to;
    struct books_record *records;
    size_t count, capacity;
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
    free(ledger);
}

int
ledger_descriptor(const struct ledger *ledger)
{
    return ledger->to;
}

void
ledger_add(struct ledger *ledger, const struct books_record *record)
{
    if (ledger->count == ledger->capacity) {
        ledger->capacity = ledger->capacity == 0 ? 4096 : 2 * ledger->capacity;
        ledger->records = realloc(ledger->records, ledger->capacity * sizeof *ledger->records);
        ck_assert_ptr_nonnull(ledger->records);
    }
    ck_assert_uint_lt(record->actor, BOOKS_ACTORS);
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

static int64_t
now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
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

static int
by_n(const void *a, const void *b)
{
    const struct books_record *x = a, *y = b;
    return x->n < y->n ? -1 : x->n > y->n;
}

/* A number that was given twice was lost in between. */
static void
check_numbers(const struct ledger *ledger, const char *who)
{
    struct books_record *sorted = calloc(ledger->count + 1, sizeof *sorted);
    size_t i;
    ck_assert_ptr_nonnull(sorted);
    for (i = 0; i < ledger->count; i++)
        sorted[i] = ledger->records[i];
    qsort(sorted, ledger->count, sizeof *sorted, by_n);
    for (i = 1; i < ledger->count; i++)
        ck_assert_msg(sorted[i - 1].n != sorted[i].n, "%s: commit %lld was acknowledged twice", who,
                      (long long)sorted[i].n);
    free(sorted);
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
        ck_assert_msg(there == (r->n <= books->n),
                      "%s: not a prefix: at %lld, commit %lld of actor %u (its %lld) is %s", who,
                      (long long)books->n, (long long)r->n, r->actor, (long long)r->seq,
                      there ? "there" : "missing");
        ck_assert_msg(there || i >= count || (!all && !r->durable),
                      "%s: lost commit %lld of actor %u (its %lld), acknowledged%s; newest is %lld", who,
                      (long long)r->n, r->actor, (long long)r->seq, r->durable ? " as durable" : "",
                      (long long)books->n);
    }
    check_numbers(ledger, who);
}
