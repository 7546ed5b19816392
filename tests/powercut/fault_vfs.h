/*
 * The VFS "faulty", over "recorder": writes, syncs, truncations, openings and deletions of one database or its
 * journal fail when told to, as a full or broken disk makes them.
 *
 * A failed write may have written its first half.  A failed sync is told to the recorder, which takes the pages
 * for clean from then on, as Linux does.
 */
#ifndef TESTS_POWERCUT_FAULT_VFS_H
#define TESTS_POWERCUT_FAULT_VFS_H

#include <stdbool.h>

#include "powercut/recorder_vfs.h"

enum fault_op { FAULT_WRITE, FAULT_SYNC, FAULT_TRUNCATE, FAULT_OPEN, FAULT_DELETE, FAULT_OPS };
enum fault_error { FAULT_FULL, FAULT_IO };

struct fault {
    enum recorder_role role;
    enum fault_op op;
    enum fault_error error;
    unsigned nth;   /* from now on; 1 is the next */
    unsigned times; /* 0: until fault_clear() */
    bool unheard;   /* of a sync: it fails, and says that it did not */
};

/* After recorder_register(). */
void fault_register(void);
/* Which database the faults are about; an absolute path. */
void fault_target(const char *database);
void fault_arm(const struct fault *fault);
void fault_clear(void);
/* Operations that failed since fault_arm(). */
unsigned fault_hits(void);

#endif
