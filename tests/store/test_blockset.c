/*
 * A set of block numbers, compared with an array.
 *
 * Made to fail by: leaving holes in lks_blockset_remove(); finding 0; losing what was there when the table grows.
 */
#include "store/blockset.h"

#include <check.h>
#include <stdlib.h>

#include "coord/coordtest.h"

#define NUMBERS 3000u
#define STEPS 20000

static void
compare(const struct lks_blockset *set, const bool *model)
{
    size_t count = 0;
    uint64_t i;
    for (i = 0; i < NUMBERS; i++) {
        ck_assert_msg(lks_blockset_has(set, i) == model[i], "%u", (unsigned)i);
        count += model[i];
    }
    ck_assert_uint_eq(set->count, count);
}

START_TEST(it_holds_what_was_put_in_and_not_taken_out)
{
    static bool model[NUMBERS];
    struct lks_blockset set = {0};
    unsigned seed = (unsigned)_i;
    uint64_t block = 0;
    int step;
    compare(&set, model);
    for (step = 0; step < STEPS; step++) {
        bool adds = rand_r(&seed) % 10 < (step / 2000 % 2 == 0 ? 7 : 4);
        block = 1 + (uint64_t)rand_r(&seed) % (NUMBERS - 1);
        model[block] = adds;
        if (adds)
            ck_assert(lks_blockset_add(&set, block));
        else
            lks_blockset_remove(&set, block);
        if (step % 100 == 0)
            compare(&set, model);
    }
    while (lks_blockset_pop(&set, &block)) {
        ck_assert(model[block]);
        model[block] = false;
    }
    compare(&set, model);
    ck_assert(lks_blockset_add(&set, 7));
    lks_blockset_clear(&set);
    compare(&set, model);
    lks_blockset_destroy(&set);
}
END_TEST

int
main(void)
{
    Suite *suite = suite_create("blockset");
    TCase *tcase = coordtest_case(suite, "blockset");
    tcase_add_loop_test(tcase, it_holds_what_was_put_in_and_not_taken_out, 1, 4);
    return coordtest_main(suite);
}
