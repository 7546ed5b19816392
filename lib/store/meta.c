#include "store/meta.h"

#include <string.h>

#include "base/crashpoint.h"

#define MAGIC 0x4c6b4d72u /* "LkMr" */
#define SUMMED_BYTES 16u
#define PIECE_BYTES 512u

enum verdict { NONE, VALID, DAMAGED };

struct record {
    enum verdict verdict;
    uint64_t sequence;
    uint32_t size; /* of the payload */
};

static uint64_t
get(const unsigned char *p, unsigned bytes)
{
    uint64_t value = 0;
    while (bytes-- > 0)
        value = value << 8 | *p++;
    return value;
}

static void
put(unsigned char *p, unsigned bytes, uint64_t value)
{
    while (bytes-- > 0) {
        p[bytes] = (unsigned char)value;
        value >>= 8;
    }
}

/* FNV-1a, http://www.isthe.com/chongo/tech/comp/fnv/: against accidents, not attackers. */
static uint64_t
add_to_sum(uint64_t sum, const unsigned char *p, size_t size)
{
    size_t i;
    for (i = 0; i < size; i++)
        sum = (sum ^ p[i]) * 1099511628211ull;
    return sum;
}

static uint64_t
begin_sum(const unsigned char *header)
{
    return add_to_sum(14695981039346656037ull, header, SUMMED_BYTES);
}

/* Adds the payload as the file has it; *out_whole is false if the file ends within it. */
static enum lockstep_status
sum_payload(struct lockstep_conn *conn, uint64_t at, uint32_t size, uint64_t *sum, bool *out_whole)
{
    unsigned char piece[PIECE_BYTES];
    *out_whole = true;
    while (size > 0 && *out_whole) {
        size_t n = size < sizeof piece ? size : sizeof piece, got = 0;
        enum lockstep_status status = lks_conn_read(conn, at, piece, n, &got);
        if (status != LOCKSTEP_OK)
            return status;
        *sum = add_to_sum(*sum, piece, got);
        *out_whole = got == n;
        at += n;
        size -= (uint32_t)n;
    }
    return LOCKSTEP_OK;
}

/* What stands at place 0 or 1. */
static enum lockstep_status
look(struct lockstep_conn *conn, const struct lockstep_meta *places, unsigned place, struct record *out)
{
    static const unsigned char zeros[LKS_META_HEADER_BYTES];
    unsigned char header[LKS_META_HEADER_BYTES] = {0};
    uint64_t sum;
    size_t got = 0;
    bool whole = false;
    enum lockstep_status status = lks_conn_read(conn, places->offset[place], header, sizeof header, &got);
    if (status != LOCKSTEP_OK)
        return status;
    out->verdict = memcmp(header, zeros, sizeof header) == 0 ? NONE : DAMAGED;
    out->size = (uint32_t)get(header + 4, 4);
    out->sequence = get(header + 8, 8);
    if (out->verdict == NONE || get(header, 4) != MAGIC || out->sequence % 2 != place ||
        out->size > places->size - LKS_META_HEADER_BYTES)
        return LOCKSTEP_OK;
    sum = begin_sum(header);
    status = sum_payload(conn, places->offset[place] + sizeof header, out->size, &sum, &whole);
    if (status == LOCKSTEP_OK && whole && sum == get(header + SUMMED_BYTES, 8))
        out->verdict = VALID;
    return status;
}

/* *out_place: that of the newest valid record, which *out_newest is; NONE or DAMAGED when there is none. */
static enum lockstep_status
find_newest(struct lockstep_conn *conn, const struct lockstep_meta *places, unsigned *out_place,
            struct record *out_newest)
{
    struct record found[2];
    unsigned place;
    for (place = 0; place < 2; place++) {
        enum lockstep_status status = look(conn, places, place, &found[place]);
        if (status != LOCKSTEP_OK)
            return status;
    }
    place = found[1].verdict == VALID && (found[0].verdict != VALID || found[1].sequence > found[0].sequence);
    /* An empty place beside a damaged one: there was one record, and it is lost. */
    if (found[place].verdict != VALID && found[1 - place].verdict == DAMAGED)
        place = 1 - place;
    *out_place = place;
    *out_newest = found[place];
    return LOCKSTEP_OK;
}

enum lockstep_status
lks_meta_read(struct lockstep_conn *conn, const struct lockstep_meta *places, void *buf, size_t *out_size,
              uint64_t *out_sequence)
{
    struct record newest;
    unsigned place;
    size_t got = 0;
    enum lockstep_status status = find_newest(conn, places, &place, &newest);
    if (status != LOCKSTEP_OK)
        return status;
    if (newest.verdict == DAMAGED)
        return LOCKSTEP_CORRUPT;
    if (newest.verdict == NONE)
        newest.size = 0, newest.sequence = 0;
    if (newest.size > 0)
        status = lks_conn_read(conn, places->offset[place] + LKS_META_HEADER_BYTES, buf, newest.size, &got);
    if (status != LOCKSTEP_OK)
        return status;
    *out_size = newest.size;
    *out_sequence = newest.sequence;
    return LOCKSTEP_OK;
}

enum lockstep_status
lks_meta_write(struct lockstep_conn *conn, const struct lockstep_meta *places, const void *payload, size_t size,
               uint64_t *out_sequence)
{
    unsigned char header[LKS_META_HEADER_BYTES];
    struct record newest;
    uint64_t sequence, at;
    unsigned place;
    enum lockstep_status status = find_newest(conn, places, &place, &newest);
    if (status != LOCKSTEP_OK)
        return status;
    sequence = newest.verdict == VALID ? newest.sequence + 1 : 1;
    put(header, 4, MAGIC);
    put(header + 4, 4, size);
    put(header + 8, 8, sequence);
    put(header + SUMMED_BYTES, 8, add_to_sum(begin_sum(header), payload, size));
    at = places->offset[sequence % 2];
    status = lks_conn_write(conn, at, header, sizeof header);
    LKS_CRASH_POINT("meta:header-written");
    if (status == LOCKSTEP_OK && size > 0)
        status = lks_conn_write(conn, at + sizeof header, payload, size);
    if (status == LOCKSTEP_OK)
        *out_sequence = sequence;
    return status;
}
