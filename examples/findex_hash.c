/*
 * XXH64 by Yann Collet, written after its specification (xxHash, doc/xxhash_spec.md, version
 * 0.1.1): four lanes eat 32 bytes a round, the rest is mixed in by words, then by bytes.
 */
#include "findex_hash.h"

#include <endian.h>
#include <string.h>

#define PRIME_1 0x9E3779B185EBCA87u
#define PRIME_2 0xC2B2AE3D27D4EB4Fu
#define PRIME_3 0x165667B19E3779F9u
#define PRIME_4 0x85EBCA77C2B2AE63u
#define PRIME_5 0x27D4EB2F165667C5u

static uint64_t
rotate(uint64_t x, unsigned bits)
{
    return x << bits | x >> (64 - bits);
}

static uint64_t
load64(const unsigned char *p)
{
    uint64_t x;
    memcpy(&x, p, sizeof x);
    return le64toh(x);
}

static uint32_t
load32(const unsigned char *p)
{
    uint32_t x;
    memcpy(&x, p, sizeof x);
    return le32toh(x);
}

static uint64_t
round_of(uint64_t lane, uint64_t input)
{
    return rotate(lane + input * PRIME_2, 31) * PRIME_1;
}

static uint64_t
merge(uint64_t hash, uint64_t lane)
{
    return (hash ^ round_of(0, lane)) * PRIME_1 + PRIME_4;
}

uint64_t
findex_hash(const void *data, size_t size_bytes)
{
    const unsigned char *p = data;
    size_t left = size_bytes;
    uint64_t hash = PRIME_5;

    if (left >= 32) {
        uint64_t a = PRIME_1 + PRIME_2, b = PRIME_2, c = 0, d = 0 - PRIME_1;

        for (; left >= 32; p += 32, left -= 32) {
            a = round_of(a, load64(p));
            b = round_of(b, load64(p + 8));
            c = round_of(c, load64(p + 16));
            d = round_of(d, load64(p + 24));
        }
        hash = rotate(a, 1) + rotate(b, 7) + rotate(c, 12) + rotate(d, 18);
        hash = merge(merge(merge(merge(hash, a), b), c), d);
    }
    hash += size_bytes;
    for (; left >= 8; p += 8, left -= 8)
        hash = rotate(hash ^ round_of(0, load64(p)), 27) * PRIME_1 + PRIME_4;
    if (left >= 4) {
        hash = rotate(hash ^ load32(p) * PRIME_1, 23) * PRIME_2 + PRIME_3;
        p += 4;
        left -= 4;
    }
    for (; left > 0; p++, left--)
        hash = rotate(hash ^ *p * PRIME_5, 11) * PRIME_1;
    hash = (hash ^ hash >> 33) * PRIME_2;
    hash = (hash ^ hash >> 29) * PRIME_3;
    return hash ^ hash >> 32;
}
