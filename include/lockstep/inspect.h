/*
 * inspect.h - who holds and who waits for which lock on a SQLite database, Lockstep's or stock SQLite's.
 *
 * Read this first:
 *
 *   - An inspection is a picture of one moment, taken when it is opened.  Of what moves while it is taken
 *     some may be missing or a moment old.
 *   - It does not open the database and takes no lock, so it may be used by a program that has the database
 *     open.  A process that is connected is shown what it has mapped; <db>-lockstep, and the beginning of
 *     <db>-shm, are opened only where that drops no lock.
 *   - What the kernel hides from the caller (processes of other users, other pid namespaces) is reported
 *     as process 0, "cannot be known".
 *
 * An inspection is used by one thread at a time.  Strings and structures belong to the inspection and live
 * until it is closed.
 */
#ifndef LOCKSTEP_INSPECT_H
#define LOCKSTEP_INSPECT_H

#include <lockstep/coord.h>

#ifdef __cplusplus
extern "C" {
#endif

struct lockstep_inspection;

#define LOCKSTEP_UNKNOWN UINT64_MAX

/* What is beside the database. */
enum lockstep_coordination {
    LOCKSTEP_COORD_NONE,    /* no coordination file: stock SQLite, or nobody */
    LOCKSTEP_COORD_LIVE,    /* processes are connected */
    LOCKSTEP_COORD_LEFT,    /* a sound coordination file, but nobody is connected */
    LOCKSTEP_COORD_OLD,     /* of an earlier boot of this machine, or of another database */
    LOCKSTEP_COORD_DAMAGED, /* not a coordination file, or a broken one, or of another build */
    LOCKSTEP_COORD_HIDDEN   /* it cannot be read: no permission, or another copy of the library here has it */
};

/* Where a lock is. */
enum lockstep_lock_place {
    LOCKSTEP_PLACE_MEMORY,      /* in the memory that Lockstep's processes share */
    LOCKSTEP_PLACE_COORDINATION, /* bytes of <db>-lockstep */
    LOCKSTEP_PLACE_DATABASE,    /* bytes of the database file */
    LOCKSTEP_PLACE_SHM          /* bytes of <db>-shm, the index of SQLite's WAL */
};

struct lockstep_process_view {
    int32_t pid;      /* as this process would call it; 0: cannot be known */
    int32_t foreign_pid; /* its own pid, where it lives in another pid namespace; else 0 */
    char state;       /* as in /proc/PID/stat: R S D T t Z ...; 0: cannot be known */
    char program[32]; /* "" if it cannot be known */
};

struct lockstep_lock_view {
    enum lockstep_lock_place place;
    char name[16];        /* PENDING, RESERVED, SHARED, EXCLUSIVE, WRITE, READ0, WRITER, SYNC, CLIENT(3), ... */
    uint32_t exclusive;   /* 1: nobody else may have it */
    uint32_t waiting;     /* 1: does not have it yet */
    struct lockstep_process_view process;
    int32_t thread;       /* thread id in the process; 0: not known */
    uint32_t connection;  /* number of the connection in the process, from 1; 0: not known */
    uint64_t age_ns;      /* since when, before now; LOCKSTEP_UNKNOWN */
    uint64_t snapshot;    /* LOCKSTEP_UNKNOWN if the lock has none; in WAL mode the last frame that is seen */
    uint64_t first_byte, last_byte; /* last_byte UINT64_MAX: to the end; both 0 in memory */
    char detail[120];     /* what it means, in words */
};

/* A process connected through Lockstep. */
struct lockstep_client_view {
    uint32_t client;      /* its number */
    uint32_t readonly;
    uint32_t alive;       /* 0: it has died, and nobody has cleared up after it yet */
    struct lockstep_process_view process;
    uint32_t connections;
    uint64_t age_ns;      /* connected for so long */
};

/* A transaction that reads a snapshot; every transaction does. */
struct lockstep_reader_view {
    uint32_t client;
    struct lockstep_process_view process;
    int32_t thread;
    uint32_t connection;
    uint64_t snapshot;
    uint64_t behind;      /* commits since then; in WAL mode frames */
    uint64_t age_ns;
    uint32_t worker;      /* 1: not a reader but what is being written behind */
};

/* A connection that waits for the writer lock. */
struct lockstep_waiter_view {
    uint32_t place;       /* 1: next */
    uint32_t client;
    struct lockstep_process_view process;
    int32_t thread;
    uint32_t connection;
    uint64_t age_ns;
};

struct lockstep_database_view {
    const char *path;              /* absolute, without symbolic links */
    enum lockstep_coordination coordination;
    const char *problem;           /* what is wrong and what to do, a sentence; "" if nothing */
    struct lockstep_db_info info;  /* zeros unless LIVE or LEFT */
    uint64_t writer_age_ns;        /* since the writer lock was taken; LOCKSTEP_UNKNOWN */
    uint64_t pending_age_ns;       /* of the oldest commit that is not durable; LOCKSTEP_UNKNOWN */
    uint32_t tripwire;             /* 1: byte 18 of the database says 3, read-only, to stock SQLite */
    uint32_t worker;               /* 1: somebody writes behind */
    uint32_t hidden_holders;       /* locks whose process cannot be known */
};

/*
 * Takes the picture.  CANTOPEN: there is no database at `path`, or /proc is not mounted; NOMEM.  That the
 * coordination file is damaged or unreadable is no error here but part of the picture.  Thread-safe.
 */
enum lockstep_status lockstep_inspect_open(const char *path, struct lockstep_inspection **out_inspection);
/* NULL is fine. */
void lockstep_inspect_close(struct lockstep_inspection *inspection);

const struct lockstep_database_view *
lockstep_inspect_database(const struct lockstep_inspection *inspection);

/*
 * The i-th, from 0; NULL beyond the last.  Locks: the writer lock with those who wait for it in their
 * order, snapshots oldest first, then the byte-range locks of the three files.
 */
const struct lockstep_lock_view *lockstep_inspect_lock(const struct lockstep_inspection *inspection,
                                                       size_t i);
const struct lockstep_client_view *
lockstep_inspect_client(const struct lockstep_inspection *inspection, size_t i);
const struct lockstep_reader_view *
lockstep_inspect_reader(const struct lockstep_inspection *inspection, size_t i);
const struct lockstep_waiter_view *
lockstep_inspect_waiter(const struct lockstep_inspection *inspection, size_t i);

/* "memory", "lockstep", "database", "shm": the file that a lock is on.  Never NULL.  Thread-safe. */
const char *lockstep_place_name(enum lockstep_lock_place place);
/* "running", "sleeping", "stopped", ... for a letter of /proc/PID/stat, "" for 0.  Never NULL.  Thread-safe. */
const char *lockstep_process_state_name(char state);

#ifdef __cplusplus
}
#endif
#endif
