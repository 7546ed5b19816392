#include "shm/header.h"

#include <string.h>

#include "base/clock.h"

#define BYTE_ORDER_MARK 0x01020304u
#define FOREIGN_BYTE_ORDER_MARK 0x04030201u
#define WORD_BITS (8 * sizeof(long))
#define OTHER_WORD_BITS (96 - WORD_BITS)

/* What every build looks at first has the same place in all of them. */
_Static_assert(offsetof(struct lks_shm_identity, format) == 16 &&
                   offsetof(struct lks_shm_identity, byte_order) == 20 &&
                   offsetof(struct lks_shm_identity, word_bits) == 28 &&
                   offsetof(struct lks_shm_identity, boot_id) == 32 &&
                   offsetof(struct lks_shm_identity, device) == 72 && sizeof(struct lks_shm_identity) == 104,
               "the identity is laid out alike on all machines");
#define DEFAULT_MAX_LAG_MS 100u
#define DEFAULT_STORE_LIMIT (64ull << 20)

/* FNV-1a, http://www.isthe.com/chongo/tech/comp/fnv/: against accidents, not attackers. */
static uint32_t
checksum(const struct lks_shm_identity *identity)
{
    const unsigned char *p = (const unsigned char *)identity;
    uint32_t hash = 2166136261u;
    size_t i;
    for (i = 0; i < offsetof(struct lks_shm_identity, checksum); i++)
        hash = (hash ^ p[i]) * 16777619u;
    return hash;
}

void
lks_header_make(struct lks_shm *shm, const struct lks_file_id *database,
                const char boot_id[LKS_BOOT_ID_SIZE], uint32_t unit_log2)
{
    struct lks_shm_identity identity;
    struct lks_shm_state *state = &shm->state;

    lks_a32_set_relaxed(&state->max_lag_ms, DEFAULT_MAX_LAG_MS);
    lks_a64_set_relaxed(&state->store_limit, DEFAULT_STORE_LIMIT);
    lks_a32_set_relaxed(&state->unit_log2, unit_log2);
    lks_a32_set_relaxed(&state->bucket_mask, LKS_MAX_BUCKETS - 1);
    /* Commit 1 is "what the file had": ids of blocks begin at 2 and 0 never is a snapshot. */
    lks_a64_set_relaxed(&state->committed, 1);
    lks_a64_set_relaxed(&state->flushed, 1);
    lks_a64_set_relaxed(&state->durable, 1);
    lks_a64_set_relaxed(&state->next_id, 1);

    memset(&identity, 0, sizeof identity);
    memcpy(identity.magic, LKS_SHM_MAGIC, sizeof identity.magic);
    identity.format = LKS_SHM_FORMAT;
    identity.byte_order = BYTE_ORDER_MARK;
    identity.shm_bytes = (uint32_t)LKS_SHM_BYTES;
    identity.word_bits = (uint32_t)WORD_BITS;
    memcpy(identity.boot_id, boot_id, LKS_BOOT_ID_SIZE);
    identity.device = database->device;
    identity.inode = database->inode;
    identity.made_ns = lks_clock_ns();
    identity.checksum = checksum(&identity);
    memcpy(&shm->identity, &identity, sizeof identity);
}

enum lks_header_verdict
lks_header_check(const struct lks_shm *shm, uint64_t file_bytes, const struct lks_file_id *database,
                 const char boot_id[LKS_BOOT_ID_SIZE])
{
    static const struct lks_shm_identity zeros;
    struct lks_shm_identity identity;

    if (file_bytes == 0)
        return LKS_HEADER_EMPTY;
    if (file_bytes == LKS_HEADER_ALONE_BYTES &&
        memcmp(shm->identity.magic, LKS_HEADER_ALONE_MARK, LKS_HEADER_ALONE_BYTES) == 0)
        return LKS_HEADER_ALONE;
    if (file_bytes < sizeof identity)
        return LKS_HEADER_DAMAGED;
    memcpy(&identity, &shm->identity, sizeof identity);
    if (memcmp(&identity, &zeros, sizeof identity) == 0)
        /* A first client that died before it finished, or a file that somebody filled with zeros. */
        return LKS_HEADER_EMPTY;
    if (memcmp(identity.magic, LKS_SHM_MAGIC, sizeof identity.magic) != 0)
        return LKS_HEADER_DAMAGED;
    /* In this order: with a foreign byte order no other number can be read; another version may sum otherwise. */
    if (identity.byte_order == FOREIGN_BYTE_ORDER_MARK)
        return LKS_HEADER_BYTE_ORDER;
    if (identity.format != LKS_SHM_FORMAT || identity.byte_order != BYTE_ORDER_MARK)
        return LKS_HEADER_FORMAT;
    if (identity.checksum != checksum(&identity))
        return LKS_HEADER_DAMAGED;
    if (identity.word_bits == OTHER_WORD_BITS)
        return LKS_HEADER_WORD_BITS;
    if (identity.shm_bytes != LKS_SHM_BYTES || identity.word_bits != WORD_BITS)
        return LKS_HEADER_FORMAT;
    if (file_bytes < LKS_SHM_BYTES)
        return LKS_HEADER_DAMAGED;
    if (memcmp(identity.boot_id, boot_id, LKS_BOOT_ID_SIZE) != 0)
        return LKS_HEADER_OTHER_BOOT;
    if (identity.device != database->device || identity.inode != database->inode)
        return LKS_HEADER_OTHER_FILE;
    return LKS_HEADER_GOOD;
}

bool
lks_header_foreign(enum lks_header_verdict verdict)
{
    return verdict == LKS_HEADER_FORMAT || verdict == LKS_HEADER_BYTE_ORDER || verdict == LKS_HEADER_WORD_BITS;
}

bool
lks_header_is_of_boot(const struct lks_shm *shm, const char boot_id[LKS_BOOT_ID_SIZE])
{
    return memcmp(shm->identity.boot_id, boot_id, LKS_BOOT_ID_SIZE) == 0;
}

const char *
lks_header_words(enum lks_header_verdict verdict)
{
    switch (verdict) {
    case LKS_HEADER_GOOD: return "is good";
    case LKS_HEADER_EMPTY: return "is empty";
    case LKS_HEADER_DAMAGED: return "is damaged (truncated, or overwritten by something else)";
    case LKS_HEADER_FORMAT: return "was made by another version or another kind of build of Lockstep";
    case LKS_HEADER_BYTE_ORDER: return "was made on a machine with another byte order";
    case LKS_HEADER_WORD_BITS:
        return WORD_BITS == 64 ? "was made by a 32-bit build of Lockstep, and this is a 64-bit one"
                               : "was made by a 64-bit build of Lockstep, and this is a 32-bit one";
    case LKS_HEADER_OTHER_BOOT: return "is from before the last reboot";
    case LKS_HEADER_OTHER_FILE: return "belongs to another database file (was it copied?)";
    case LKS_HEADER_ALONE: return "is the mark of a process that uses the database alone (multi_process=0)";
    }
    return "is unknown";
}
