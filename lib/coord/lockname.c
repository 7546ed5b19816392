#include "coord/lockname.h"

#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "coord/lockset.h"
#include "shm/layout.h"

struct range {
    const char *shared, *exclusive; /* NULL: as shared */
    uint64_t first, size;
};

static const struct range database_ranges[] = {
    {"PENDING", NULL, LKS_SQLITE_PENDING, 1},
    {"RESERVED", NULL, LKS_SQLITE_RESERVED, 1},
    {"SHARED", "EXCLUSIVE", LKS_SQLITE_SHARED_FIRST, LKS_SQLITE_SHARED_SIZE},
};

/* UNIX_SHM_BASE and UNIX_SHM_DMS of os_unix.c; the order of the WAL_*_LOCK of wal.c. */
static const struct range shm_ranges[] = {
    {"WRITE", NULL, 120, 1}, {"CKPT", NULL, 121, 1},  {"RECOVER", NULL, 122, 1},
    {"READ0", NULL, 123, 1}, {"READ1", NULL, 124, 1}, {"READ2", NULL, 125, 1},
    {"READ3", NULL, 126, 1}, {"READ4", NULL, 127, 1}, {"DMS", NULL, 128, 1},
};

static const struct range coordination_ranges[] = {
    {"DMS1", NULL, LKS_LOCK_BASE + LKS_BYTE_DMS1, 1},
    {"DMS2", NULL, LKS_LOCK_BASE + LKS_BYTE_DMS2, 1},
    {"DMS3", NULL, LKS_LOCK_BASE + LKS_BYTE_DMS3, 1},
    {"WORKER", NULL, LKS_LOCK_BASE + LKS_BYTE_WORKER, 1},
    {"WORK", NULL, LKS_LOCK_BASE + LKS_BYTE_WORK, 1},
};

#define CLIENT_FIRST (LKS_LOCK_BASE + LKS_BYTE_CLIENT0)
#define CLIENT_LAST (CLIENT_FIRST + LKS_MAX_CLIENTS - 1)

static const struct range *
ranges_of(enum lockstep_lock_place place, size_t *out_count)
{
    switch (place) {
    case LOCKSTEP_PLACE_DATABASE:
        *out_count = sizeof database_ranges / sizeof database_ranges[0];
        return database_ranges;
    case LOCKSTEP_PLACE_SHM:
        *out_count = sizeof shm_ranges / sizeof shm_ranges[0];
        return shm_ranges;
    case LOCKSTEP_PLACE_COORDINATION:
        *out_count = sizeof coordination_ranges / sizeof coordination_ranges[0];
        return coordination_ranges;
    case LOCKSTEP_PLACE_MEMORY:
        break;
    }
    *out_count = 0;
    return NULL;
}

static uint64_t
lower(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

bool
lks_lockname_next(enum lockstep_lock_place place, bool exclusive, uint64_t *first, uint64_t last,
                  struct lks_lockname *out_name)
{
    struct lks_lockname name = {.first = *first, .last = last, .client = -1};
    size_t count;
    const struct range *ranges = ranges_of(place, &count);

    if (*first > last)
        return false;
    strcpy(name.name, "BYTES");
    for (size_t i = 0; i < count; i++) {
        const struct range *range = &ranges[i];
        uint64_t end = range->first + range->size - 1;
        if (*first >= range->first && *first <= end) {
            name.last = lower(last, end);
            strcpy(name.name, exclusive && range->exclusive != NULL ? range->exclusive : range->shared);
            goto found;
        }
        if (*first < range->first)
            name.last = lower(name.last, range->first - 1);
    }
    if (place == LOCKSTEP_PLACE_COORDINATION && *first <= CLIENT_LAST) {
        if (*first < CLIENT_FIRST) {
            name.last = lower(name.last, CLIENT_FIRST - 1);
        } else {
            name.last = *first;
            name.client = (int32_t)(*first - CLIENT_FIRST);
            snprintf(name.name, sizeof name.name, "CLIENT(%u)", (unsigned)name.client);
        }
    }
found:
    /* A lock to the end of the file ends at the last number there is: no byte lies behind it. */
    *first = name.last == UINT64_MAX ? UINT64_MAX : name.last + 1;
    if (name.last == UINT64_MAX && name.first == UINT64_MAX)
        return false;
    *out_name = name;
    return true;
}
