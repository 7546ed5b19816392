/*
 * What is left after a power cut, opened: by stock SQLite, and through Lockstep with a coordination file of
 * the boot before beside it.
 *
 * Both must find the state after one commit, which is none before the newest that was acknowledged as durable.
 */
#ifndef TESTS_POWERCUT_IMAGE_H
#define TESTS_POWERCUT_IMAGE_H

#include <stdbool.h>
#include <stdint.h>

#include "powercut/history.h"
#include "powercut/replay.h"

struct image_checker {
    int64_t newest;        /* no image may be after a later commit */
    unsigned lockstep_every; /* each so many images are opened through Lockstep too; 0: none */
    const char *coord;     /* a copy of a coordination file, for these */
    uint64_t checked, through_lockstep;
    int64_t found;         /* in the last image */
    char why[HISTORY_WHY + 200]; /* what the first violation was */
};

/* For replay_plan.check; arg is a struct image_checker.  Writes into the working directory. */
bool image_check(const struct replay_image *image, void *arg);

/*
 * Makes `to` a copy of the coordination file `from` that says it is of another boot, with commits that were
 * not written behind, or without.
 */
void image_other_boot(const char *from, const char *to, bool pending);

#endif
