/* The protocol, and what the capitals mean, is in shm_copy.h. */
#include "vfs/shm_copy.h"

#include <stdlib.h>
#include <string.h>

#include "base/atomic.h"
#include "base/crashpoint.h"

/* Words of the head. */
enum {
    COPY_1 = 0,
    COPY_2 = 12,
    COPY_WORDS = 12,
    INITIALIZED_BYTE = 12,
    CHANGE = 2, /* of a header */
    FRAMES = 4,
    SALT = 8,
    BACKFILLED = 24, /* the pair with READ0's mark, which is always 0 */
    MARK_1 = 26,
    MARKS_END = 30,
    CHECKSUM = 10, /* of a header: of the ten words before it */
    ATTEMPTED = 32 /* the pair with a word that is not used */
};

/* Slots begin in the middle of a region. */
#define SLOTS_WORD LKS_INDEX_PAGES

uint32_t
lks_index_region_of(uint32_t frame)
{
    return frame <= LKS_INDEX_PAGES_FIRST ? 0 : (frame - LKS_INDEX_PAGES_FIRST - 1) / LKS_INDEX_PAGES + 1;
}

static uint64_t
offset_of(uint32_t region, uint32_t word)
{
    return (uint64_t)region * LKS_INDEX_REGION_BYTES + 4u * (uint64_t)word;
}

/* The first hash word. */
static uint32_t
hash_word(uint32_t region)
{
    return region == 0 ? LKS_INDEX_HEAD_WORDS : 0;
}

static uint32_t *
private_region(const struct lks_shm_copy *copy, uint32_t region)
{
    return region < copy->n_regions ? copy->regions[region] : NULL;
}

static struct lks_index_state
state_of(const uint32_t *header)
{
    return (struct lks_index_state){header[CHANGE], header[FRAMES], {header[SALT], header[SALT + 1]}};
}

static bool
same_salt(const uint32_t *a, const uint32_t *b)
{
    return a[0] == b[0] && a[1] == b[1];
}

void
lks_shm_copy_init(struct lks_shm_copy *copy, unsigned measure)
{
    memset(copy, 0, sizeof *copy);
    copy->stale = true;
    copy->base_region = copy->append_region = LKS_INDEX_NO_REGION;
    copy->measure = measure;
}

static enum lockstep_status
checked(struct lks_shm_copy *copy, enum lockstep_status status)
{
    copy->failed = copy->failed || status != LOCKSTEP_OK;
    return status;
}

/* ------------------------------------------------------------------------------------------------
 * Acquire
 * --------------------------------------------------------------------------------------------- */

static enum lockstep_status
acquire_head(struct lks_shm_copy *copy)
{
    uint32_t head[LKS_INDEX_HEAD_WORDS], *private = copy->regions[0], i;
    enum lockstep_status status;
    lks_fence(); /* after the lock that was taken: fcntl() orders nothing */
    status = copy->area->read(copy->area, 0, head, sizeof head);
    if (status != LOCKSTEP_OK)
        return status;
    lks_fence(); /* C1 */
    if (memcmp(head, copy->shadow, sizeof head) != 0)
        copy->stale = true;
    for (i = 0; i < LKS_INDEX_HEAD_WORDS; i++)
        if (head[i] != copy->shadow[i])
            private[i] = copy->shadow[i] = head[i];
    return LOCKSTEP_OK;
}

static enum lockstep_status
read_region(struct lks_shm_copy *copy, uint32_t region)
{
    uint32_t first = hash_word(region), *private = private_region(copy, region);
    if (private == NULL)
        return LOCKSTEP_OK; /* is read when it is mapped, C1 all the more */
    return copy->area->read(copy->area, offset_of(region, first), private + first,
                            LKS_INDEX_REGION_BYTES - 4u * (size_t)first);
}

/* The regions that the header in SHADOW speaks of beyond what is known. */
static enum lockstep_status
acquire_regions(struct lks_shm_copy *copy)
{
    struct lks_index_state new = state_of(copy->shadow + COPY_1);
    bool goes_on = same_salt(new.salt, copy->known.salt) && new.frames >= copy->known.frames &&
                   new.change >= copy->known.change; /* a recovery counts from 0 again */
    uint32_t region = goes_on && copy->measure == 0 ? lks_index_region_of(copy->known.frames) : 0;
    uint32_t last = lks_index_region_of(new.frames);
    enum lockstep_status status = LOCKSTEP_OK;
    for (; status == LOCKSTEP_OK && region <= last && region < copy->n_regions; region++)
        status = read_region(copy, region);
    if (status != LOCKSTEP_OK)
        return status;
    copy->known = new;
    copy->stale = false;
    return LOCKSTEP_OK;
}

static enum lockstep_status
acquire(struct lks_shm_copy *copy)
{
    enum lockstep_status status = acquire_head(copy);
    if (status != LOCKSTEP_OK || copy->writing) /* C9 */
        return status;
    if (!copy->stale && (copy->measure & LKS_SHM_NO_SHORTCUT) == 0)
        return LOCKSTEP_OK; /* C6 */
    return acquire_regions(copy);
}

enum lockstep_status
lks_shm_copy_acquire(struct lks_shm_copy *copy)
{
    return private_region(copy, 0) != NULL ? checked(copy, acquire(copy)) : LOCKSTEP_OK;
}

static bool
is_whole(const uint32_t *private)
{
    return ((const unsigned char *)private)[INITIALIZED_BYTE] != 0 &&
           memcmp(private + COPY_1, private + COPY_2, 4u * COPY_WORDS) == 0;
}

/* As walIndexTryHdr() has it: walChecksumBytes() in the machine's own order. */
static bool
is_sound(const uint32_t *header)
{
    uint32_t sum[2] = {0, 0}, i;
    for (i = 0; i < CHECKSUM; i += 2) {
        sum[0] += header[i] + sum[1];
        sum[1] += header[i + 1] + sum[0];
    }
    return is_whole(header) && sum[0] == header[CHECKSUM] && sum[1] == header[CHECKSUM + 1];
}

/* The checkpoint information, if the header is still what it was. */
static enum lockstep_status
look(struct lks_shm_copy *copy)
{
    uint32_t head[LKS_INDEX_HEAD_WORDS], *private = copy->regions[0], i;
    enum lockstep_status status = copy->area->read(copy->area, 0, head, sizeof head);
    if (status != LOCKSTEP_OK || memcmp(head, copy->shadow, 4u * BACKFILLED) != 0)
        return status;
    for (i = BACKFILLED; i < LKS_INDEX_HEAD_WORDS; i++)
        if (head[i] != copy->shadow[i])
            private[i] = copy->shadow[i] = head[i];
    return LOCKSTEP_OK;
}

enum lockstep_status
lks_shm_copy_look(struct lks_shm_copy *copy)
{
    const uint32_t *private = private_region(copy, 0);
    if (private == NULL)
        return LOCKSTEP_OK;
    if (!is_whole(private))
        return lks_shm_copy_acquire(copy);
    if (private[BACKFILLED] == private[COPY_1 + FRAMES])
        return LOCKSTEP_OK;
    lks_fence();
    return checked(copy, look(copy));
}

/* ------------------------------------------------------------------------------------------------
 * Release
 * --------------------------------------------------------------------------------------------- */

static enum lockstep_status
write_words(struct lks_shm_copy *copy, uint32_t region, uint32_t first, uint32_t end)
{
    return copy->area->write(copy->area, offset_of(region, first), copy->regions[region] + first,
                             4u * (size_t)(end - first));
}

/* Words first to end of PRIVATE that BASE has otherwise, as one piece; pairs, C10. */
static enum lockstep_status
publish_differences(struct lks_shm_copy *copy, uint32_t first, uint32_t end)
{
    const uint32_t *private = copy->regions[copy->base_region];
    enum lockstep_status status;
    if (memcmp(private + first, copy->base + first, 4u * (size_t)(end - first)) == 0)
        return LOCKSTEP_OK;
    while (memcmp(private + first, copy->base + first, 8) == 0)
        first += 2;
    while (memcmp(private + end - 2, copy->base + end - 2, 8) == 0)
        end -= 2;
    status = write_words(copy, copy->base_region, first, end);
    if (status == LOCKSTEP_OK)
        memcpy(copy->base + first, private + first, 4u * (size_t)(end - first));
    return status;
}

static enum lockstep_status
publish_base(struct lks_shm_copy *copy)
{
    enum lockstep_status status = publish_differences(copy, hash_word(copy->base_region), SLOTS_WORD);
    LKS_CRASH_POINT("shm:pages");
    return status != LOCKSTEP_OK ? status : publish_differences(copy, SLOTS_WORD, LKS_INDEX_REGION_WORDS);
}

static void
keep_base(struct lks_shm_copy *copy, uint32_t region)
{
    memcpy(copy->base, copy->regions[region], LKS_INDEX_REGION_BYTES);
    copy->base_region = copy->append_region = region;
}

/* Whole regions, the last of which becomes the base: C8. */
static enum lockstep_status
publish_regions(struct lks_shm_copy *copy, uint32_t region, uint32_t last)
{
    for (; region <= last && private_region(copy, region) != NULL; region++) {
        enum lockstep_status status = write_words(copy, region, hash_word(region), SLOTS_WORD);
        if (status == LOCKSTEP_OK)
            status = write_words(copy, region, SLOTS_WORD, LKS_INDEX_REGION_WORDS);
        if (status != LOCKSTEP_OK)
            return status;
        keep_base(copy, region);
    }
    return LOCKSTEP_OK;
}

/* Of the frames that PRIVATE's header, copy 2, has. */
static enum lockstep_status
publish_hash(struct lks_shm_copy *copy)
{
    struct lks_index_state new = state_of(copy->regions[0] + COPY_2);
    enum lockstep_status status = LOCKSTEP_OK;
    if (!same_salt(new.salt, copy->base_salt))
        lks_shm_copy_recover(copy); /* a reset: from the first region on */
    memcpy(copy->base_salt, new.salt, sizeof new.salt);
    if (copy->base_region != LKS_INDEX_NO_REGION)
        status = publish_base(copy);
    if (status == LOCKSTEP_OK && new.frames > 0)
        status = publish_regions(copy, copy->append_region + 1, lks_index_region_of(new.frames));
    if (status == LOCKSTEP_OK)
        copy->known = new;
    return status;
}

static enum lockstep_status
publish_head_words(struct lks_shm_copy *copy, uint32_t first, uint32_t end)
{
    const uint32_t *private = copy->regions[0];
    enum lockstep_status status;
    if (memcmp(private + first, copy->shadow + first, 4u * (size_t)(end - first)) == 0)
        return LOCKSTEP_OK;
    status = write_words(copy, 0, first, end);
    if (status == LOCKSTEP_OK)
        memcpy(copy->shadow + first, private + first, 4u * (size_t)(end - first));
    return status;
}

static enum lockstep_status
publish_checkpoint(struct lks_shm_copy *copy)
{
    enum lockstep_status status = publish_head_words(copy, BACKFILLED, BACKFILLED + 2);
    uint32_t mark;
    for (mark = MARK_1; status == LOCKSTEP_OK && mark < MARKS_END; mark++)
        status = publish_head_words(copy, mark, mark + 1); /* C4 */
    return status != LOCKSTEP_OK ? status : publish_head_words(copy, ATTEMPTED, ATTEMPTED + 2);
}

static enum lockstep_status
release(struct lks_shm_copy *copy)
{
    enum lockstep_status status = LOCKSTEP_OK;
    if (memcmp(copy->regions[0], copy->shadow, LKS_INDEX_HEAD_BYTES) == 0)
        return LOCKSTEP_OK;
    lks_fence();
    if (copy->writing)
        status = publish_hash(copy);
    lks_fence(); /* C2 */
    LKS_CRASH_POINT("shm:hash");
    if (status == LOCKSTEP_OK)
        status = publish_head_words(copy, COPY_2, COPY_2 + COPY_WORDS);
    LKS_CRASH_POINT("shm:second");
    if (status == LOCKSTEP_OK)
        status = publish_checkpoint(copy); /* C3 */
    lks_fence();
    if (status == LOCKSTEP_OK)
        status = publish_head_words(copy, COPY_1, COPY_1 + COPY_WORDS);
    LKS_CRASH_POINT("shm:first");
    lks_fence(); /* before the lock is dropped */
    return status;
}

enum lockstep_status
lks_shm_copy_release(struct lks_shm_copy *copy)
{
    if (private_region(copy, 0) == NULL || copy->readonly)
        return LOCKSTEP_OK;
    return checked(copy, release(copy));
}

/* ------------------------------------------------------------------------------------------------
 * Writing
 * --------------------------------------------------------------------------------------------- */

/* C7. */
static enum lockstep_status
read_base(struct lks_shm_copy *copy, uint32_t region)
{
    enum lockstep_status status = read_region(copy, region);
    if (status == LOCKSTEP_OK)
        keep_base(copy, region);
    return status;
}

static enum lockstep_status
begin_write(struct lks_shm_copy *copy)
{
    uint32_t frames, region;
    enum lockstep_status status;
    bool fresh;
    if (copy->base == NULL && (copy->base = malloc(LKS_INDEX_REGION_BYTES)) == NULL)
        return LOCKSTEP_NOMEM;
    copy->writing = true;
    lks_shm_copy_recover(copy);
    if (private_region(copy, 0) == NULL)
        return LOCKSTEP_OK; /* SQLite takes WRITE to make it: see fill_region() */
    status = acquire_head(copy);
    fresh = copy->stale; /* the region of the last frame is read, and nobody writes hash words now */
    if (status == LOCKSTEP_OK && fresh)
        status = acquire_regions(copy);
    if (status != LOCKSTEP_OK)
        return status;
    frames = copy->shadow[COPY_1 + FRAMES];
    region = lks_index_region_of(frames);
    memcpy(copy->base_salt, copy->shadow + COPY_1 + SALT, sizeof copy->base_salt);
    if (frames == 0)
        return LOCKSTEP_OK;
    copy->append_region = region;
    if (private_region(copy, region) == NULL)
        return LOCKSTEP_OK; /* is the base when it is mapped */
    if (!fresh)
        return read_base(copy, region);
    keep_base(copy, region);
    return LOCKSTEP_OK;
}

enum lockstep_status
lks_shm_copy_begin_write(struct lks_shm_copy *copy)
{
    return checked(copy, copy->writing ? lks_shm_copy_acquire(copy) : begin_write(copy));
}

enum lockstep_status
lks_shm_copy_end_write(struct lks_shm_copy *copy)
{
    enum lockstep_status status = lks_shm_copy_release(copy);
    copy->writing = false;
    return status;
}

void
lks_shm_copy_recover(struct lks_shm_copy *copy)
{
    copy->base_region = copy->append_region = LKS_INDEX_NO_REGION;
}

/* ------------------------------------------------------------------------------------------------
 * Regions
 * --------------------------------------------------------------------------------------------- */

static enum lockstep_status
make_room(struct lks_shm_copy *copy, uint32_t region)
{
    uint32_t **regions;
    if (region < copy->n_regions)
        return LOCKSTEP_OK;
    regions = realloc(copy->regions, (region + 1) * sizeof *regions);
    if (regions == NULL)
        return LOCKSTEP_NOMEM;
    memset(regions + copy->n_regions, 0, (region + 1 - copy->n_regions) * sizeof *regions);
    copy->regions = regions;
    return LOCKSTEP_OK;
}

static enum lockstep_status
fill_region(struct lks_shm_copy *copy, uint32_t region)
{
    if (region == 0)
        return copy->writing ? begin_write(copy) : acquire(copy);
    if (copy->writing && region == copy->append_region)
        return read_base(copy, region);
    return read_region(copy, region);
}

/*
 * The area is too small for a region.  Nobody has written to it, then, unless a header speaks of it: somebody has cut the
 * area off, and with a region of zeros frames would not be found.
 */
static enum lockstep_status
check_cut(struct lks_shm_copy *copy, uint32_t region, uint64_t size)
{
    uint32_t left[2 * COPY_WORDS];
    const uint32_t *header = copy->shadow;
    enum lockstep_status status = LOCKSTEP_OK;
    if (region == 0 && size < sizeof left)
        return LOCKSTEP_OK; /* no header; it is made anew, from the log */
    if (region == 0) {
        status = copy->area->read(copy->area, 0, left, sizeof left);
        header = left;
    }
    if (status == LOCKSTEP_OK && is_sound(header) && region <= lks_index_region_of(header[FRAMES]))
        status = LOCKSTEP_IOERR;
    return checked(copy, status);
}

enum lockstep_status
lks_shm_copy_map(struct lks_shm_copy *copy, uint32_t region, bool extend, void volatile **out_memory)
{
    uint64_t size, wanted = offset_of(region + 1, 0);
    enum lockstep_status status = LOCKSTEP_OK;
    uint32_t *memory = private_region(copy, region);
    if (memory == NULL) {
        status = copy->area->size(copy->area, &size);
        if (status == LOCKSTEP_OK && size < wanted) {
            status = check_cut(copy, region, size);
            if (status == LOCKSTEP_OK && !extend) {
                *out_memory = NULL;
                return LOCKSTEP_OK;
            }
            if (status == LOCKSTEP_OK)
                status = copy->area->extend(copy->area, wanted);
        }
        if (status == LOCKSTEP_OK)
            status = make_room(copy, region);
        if (status == LOCKSTEP_OK && (memory = calloc(1, LKS_INDEX_REGION_BYTES)) == NULL)
            status = LOCKSTEP_NOMEM;
        if (status != LOCKSTEP_OK)
            return status;
        copy->regions[region] = memory;
        if (region >= copy->n_regions)
            copy->n_regions = region + 1;
        status = checked(copy, fill_region(copy, region));
    }
    if (status == LOCKSTEP_OK)
        *out_memory = memory;
    return status;
}

const uint32_t *
lks_shm_copy_head(const struct lks_shm_copy *copy)
{
    return private_region(copy, 0);
}

void
lks_shm_copy_clear(struct lks_shm_copy *copy)
{
    unsigned measure = copy->measure;
    uint32_t region;
    for (region = 0; region < copy->n_regions; region++)
        free(copy->regions[region]);
    free(copy->regions);
    free(copy->base);
    lks_shm_copy_init(copy, measure);
}
