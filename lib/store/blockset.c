#include "store/blockset.h"

#include <stdlib.h>
#include <string.h>

#define FIRST_CAPACITY 16u

/* Neighbours come together, so the number is spread: Fibonacci hashing, Knuth 6.4. */
static size_t
home(const struct lks_blockset *set, uint64_t block)
{
    return (size_t)((block * 11400714819323198485ull) >> 20) & (set->capacity - 1);
}

/* Where it is, or the free place where it would be. */
static size_t
find(const struct lks_blockset *set, uint64_t block)
{
    size_t i = home(set, block);
    while (set->places[i] != 0 && set->places[i] != block)
        i = (i + 1) & (set->capacity - 1);
    return i;
}

static bool
grow(struct lks_blockset *set)
{
    struct lks_blockset larger = {.capacity = set->capacity == 0 ? FIRST_CAPACITY : 2 * set->capacity};
    size_t i;
    if (larger.capacity < set->capacity)
        return false;
    larger.places = calloc(larger.capacity, sizeof *larger.places);
    if (larger.places == NULL)
        return false;
    for (i = 0; i < set->capacity; i++)
        if (set->places[i] != 0)
            larger.places[find(&larger, set->places[i])] = set->places[i];
    larger.count = set->count;
    free(set->places);
    *set = larger;
    return true;
}

bool
lks_blockset_add(struct lks_blockset *set, uint64_t block)
{
    size_t i;
    if (2 * (set->count + 1) > set->capacity && !grow(set))
        return false;
    i = find(set, block);
    if (set->places[i] == 0)
        set->count++;
    set->places[i] = block;
    return true;
}

bool
lks_blockset_has(const struct lks_blockset *set, uint64_t block)
{
    /* 0 is what a free place holds. */
    return block != 0 && set->count != 0 && set->places[find(set, block)] == block;
}

void
lks_blockset_remove(struct lks_blockset *set, uint64_t block)
{
    size_t hole, i;
    if (!lks_blockset_has(set, block))
        return;
    hole = i = find(set, block);
    set->count--;
    /* What follows moves up, unless its home lies behind the hole. */
    for (;;) {
        i = (i + 1) & (set->capacity - 1);
        if (set->places[i] == 0)
            break;
        if (((i - home(set, set->places[i])) & (set->capacity - 1)) >= ((i - hole) & (set->capacity - 1))) {
            set->places[hole] = set->places[i];
            hole = i;
        }
    }
    set->places[hole] = 0;
}

bool
lks_blockset_pop(struct lks_blockset *set, uint64_t *out_block)
{
    size_t i;
    if (set->count == 0)
        return false;
    for (i = 0; set->places[i] == 0; i++)
        ;
    *out_block = set->places[i];
    lks_blockset_remove(set, *out_block);
    return true;
}

void
lks_blockset_clear(struct lks_blockset *set)
{
    if (set->count != 0)
        memset(set->places, 0, set->capacity * sizeof *set->places);
    set->count = 0;
}

void
lks_blockset_destroy(struct lks_blockset *set)
{
    free(set->places);
    memset(set, 0, sizeof *set);
}
