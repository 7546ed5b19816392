/* What the tests of private views share: what killed processes leave, and that nothing of it is changed. */
#ifndef TESTS_API_PRIVATETEST_H
#define TESTS_API_PRIVATETEST_H

#include "api/enginetest.h"

extern const struct lockstep_options reading;

/* All that there may be beside the database, and how it is. */
struct picture {
    uint64_t sums[4]; /* the database, the coordination file, the journal, what was set aside */
};
struct picture take_picture(void);
void expect_picture(const struct picture *before);

bool is_live(const struct lockstep_db *db);
/* Opens it to read while nobody is connected. */
struct lockstep_db *stand_by(struct lockstep_conn **out_conn);
void close_reader(struct lockstep_db *db, struct lockstep_conn *conn);

/*
 * For a child that is killed at 'a': commits that nobody writes behind but the first, "one" to "three" over each other and
 * across units; then a write that is not one.
 */
void leave_commits(struct child *self);
/* To 'a'. */
void run_and_kill(void (*run)(struct child *self));
/* What leave_commits() has left. */
void expect_all_commits(struct lockstep_conn *conn);

#endif
