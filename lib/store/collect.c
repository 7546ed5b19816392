#include "store/collect.h"

#include <stdlib.h>

enum lockstep_status
lks_collect(void *arg, uint32_t block, const struct lks_shm_block *b)
{
    struct lks_collection *found = arg;
    uint64_t id = lks_a64_relaxed(&b->id);
    if (id <= found->from || id > found->target)
        return LOCKSTEP_OK;
    if (found->count == found->capacity) {
        size_t capacity = found->capacity == 0 ? 1024 : 2 * found->capacity;
        struct lks_change *grown = realloc(found->changes, capacity * sizeof *grown);
        if (grown == NULL)
            return LOCKSTEP_NOMEM;
        found->changes = grown;
        found->capacity = capacity;
    }
    found->changes[found->count].id = id;
    found->changes[found->count].unit_no = lks_a32_relaxed(&b->unit_no);
    found->changes[found->count].block = block;
    found->count++;
    return LOCKSTEP_OK;
}

static int
by_unit_newest_first(const void *a, const void *b)
{
    const struct lks_change *x = a, *y = b;
    if (x->unit_no != y->unit_no)
        return x->unit_no < y->unit_no ? -1 : 1;
    return x->id > y->id ? -1 : x->id < y->id ? 1 : 0;
}

void
lks_collect_newest(struct lks_collection *found)
{
    size_t i, n = 0;
    if (found->count > 0)
        qsort(found->changes, found->count, sizeof *found->changes, by_unit_newest_first);
    for (i = 0; i < found->count; i++)
        if (n == 0 || found->changes[n - 1].unit_no != found->changes[i].unit_no)
            found->changes[n++] = found->changes[i];
    found->count = n;
}
