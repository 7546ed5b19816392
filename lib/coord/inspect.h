/*
 * Inspections from within the library.
 *
 * To open and close the coordination file drops all the locks that the process has on it.  So a process that is
 * connected is shown its own mapping, and while any other looks at the file the registry lets no thread of it
 * connect.
 */
#ifndef LKS_COORD_INSPECT_H
#define LKS_COORD_INSPECT_H

#include <stdbool.h>

#include <lockstep/inspect.h>

#include "base/status.h"
#include "coord/census.h"
#include "coord/lockname.h"
#include "coord/walindex.h"
#include "os/process.h"
#include "shm/layout.h"

/* The files that have locks, in the order in which their locks are shown. */
enum lks_inspect_file {
    LKS_INSPECT_COORDINATION,
    LKS_INSPECT_DATABASE,
    LKS_INSPECT_SHM,
    LKS_INSPECT_FILES
};

struct lockstep_inspection {
    char *path;
    char *file_path[LKS_INSPECT_FILES];
    char problem[400];
    struct lockstep_database_view database;
    struct lockstep_lock_view *locks;
    size_t lock_count, lock_capacity;
    struct lockstep_client_view *clients;
    size_t client_count;
    struct lockstep_reader_view *readers;
    size_t reader_count;
    struct lockstep_waiter_view *waiters;
    size_t waiter_count;

    /* While it is being taken. */
    struct lks_census *census; /* NULL: no sound coordination file */
    struct lks_walindex index;
    bool index_known;
    struct lks_process self;
    struct lockstep_process_view who[LKS_MAX_CLIENTS]; /* the process of client i */
    bool alive[LKS_MAX_CLIENTS];
    bool alone;           /* the only client is this process, and no lock says so */
};

/* For roster.c. */
struct lockstep_process_view lks_inspect_process(int32_t pid);
struct lockstep_lock_view lks_inspect_byte_lock(enum lockstep_lock_place place,
                                                const struct lks_lockname *name, int32_t pid);
LKS_CHECKED enum lockstep_status lks_inspect_add_lock(struct lockstep_inspection *in,
                                                      const struct lockstep_lock_view *lock);

#endif
