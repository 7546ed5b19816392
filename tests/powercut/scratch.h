/* What the tests of this folder share: a folder of their own to work in, and what was logged. */
#ifndef TESTS_POWERCUT_SCRATCH_H
#define TESTS_POWERCUT_SCRATCH_H

#include <sqlite3.h>
#include <stdbool.h>
#include <stdint.h>

/* For sqlite3_config(SQLITE_CONFIG_LOG) and the working directory; before the first use of SQLite. */
void scratch_enter(void);
void scratch_leave(void);
/* The absolute path of a name in it; good until the fourth call from here. */
const char *scratch_path(const char *name);

bool scratch_logged(const char *words);
/* The end of it, for messages. */
const char *scratch_log(void);

/* LKS_SOAK is set. */
bool scratch_soak(void);
/* LKS_SEED if it is set, else another one each time; printed. */
uint64_t scratch_seed(void);

/* Opens through Lockstep; fails the test if that fails. */
sqlite3 *scratch_open(const char *name, const char *parameters);
/* A number or text that a statement gives; "" if it fails. */
const char *scratch_value(sqlite3 *db, const char *statement);

#endif
