/* SQLite's rollback journal: sizes, numbers, checksums.  The format is described in journal.h. */
#ifndef LKS_STORE_JOURNAL_FORMAT_H
#define LKS_STORE_JOURNAL_FORMAT_H

#include <stdbool.h>
#include <stdint.h>

#define LKS_JOURNAL_HEADER_BYTES 28u /* the sector's rest is zeros */
#define LKS_JOURNAL_RECORD_EXTRA 8u  /* page number before, checksum behind the page */
#define LKS_JOURNAL_SECTOR_BYTES 512u
#define LKS_JOURNAL_MIN_SECTOR 32u
#define LKS_JOURNAL_MAX_SECTOR 65536u
#define LKS_JOURNAL_MIN_PAGE 512u
#define LKS_JOURNAL_MAX_PAGE 65536u
#define LKS_JOURNAL_TO_THE_END 0xffffffffu /* as number of records: as many as the file has */

static const unsigned char lks_journal_magic[8] = {0xd9, 0xd5, 0x05, 0xf9, 0x20, 0xa1, 0x63, 0xd7};

static inline void
lks_journal_put(unsigned char *p, uint32_t value)
{
    p[0] = (unsigned char)(value >> 24);
    p[1] = (unsigned char)(value >> 16);
    p[2] = (unsigned char)(value >> 8);
    p[3] = (unsigned char)value;
}

static inline uint32_t
lks_journal_get(const unsigned char *p)
{
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

/* A power of two from `low` to `high`. */
static inline bool
lks_journal_is_size(uint32_t value, uint32_t low, uint32_t high)
{
    return value >= low && value <= high && (value & (value - 1)) == 0;
}

/* Where the next header may be. */
static inline uint64_t
lks_journal_next_sector(uint64_t offset, uint32_t sector_size)
{
    return (offset + sector_size - 1) / sector_size * sector_size;
}

/* The page of SQLite's lock bytes, which are at 1 GiB; it is never written. */
static inline uint32_t
lks_journal_lock_page(uint32_t page_size)
{
    return 0x40000000u / page_size + 1;
}

/* The nonce plus every 200th byte, counted from the end of the page, the byte 0 left out. */
static inline uint32_t
lks_journal_checksum(uint32_t nonce, const unsigned char *data, uint32_t page_size)
{
    uint32_t at;
    for (at = page_size - 200; at < page_size && at > 0; at -= 200)
        nonce += data[at];
    return nonce;
}

#endif
