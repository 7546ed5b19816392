/*
 * The VFS "probe", over "unix", to be put below Lockstep or used beside it: tells what is done to a database in WAL
 * mode, in order, lets what is done to it fail, and calls back between two steps of a checkpoint.
 *
 * One letter an event:
 *   h  the log's header is written    f  something else is written to the log    s  the log is synced
 *   d  the database file is written   D  it is synced
 *   W  WRITE is taken   w  given up   C  CKPT is taken   c  given up   R  READ1..4 are taken, for a reset
 */
#ifndef TESTS_VFS_PROBE_VFS_H
#define TESTS_VFS_PROBE_VFS_H

#include <stdbool.h>

/* Once a process. */
void probe_register(void);
/* What happened since the last call, by the calling thread only; good until the next call. */
const char *probe_events(void);
/* How often a letter happened in this process, by any thread; or m: the attempts to move a read mark on;
 * p: the pages that were read, of any file. */
unsigned probe_total(char event);

/* Called whenever that happens, before it does, in whatever thread; NULL: no more. */
void probe_at(char event, void (*callback)(void));

/* Writes to logs, of any database, that no sync of that log has followed. */
unsigned probe_unsynced(void);
/* The same as of when a super-journal was deleted last, -1: none was since the last call. */
int probe_at_super_journal(void);

/*
 * An operation that fails, by any thread: of the letters above h f s d D, and
 *   r  the log is read (SQLITE_IOERR_SHORT_READ: half of it is)    t  the log is truncated
 * A write that fails is half done.
 */
struct probe_fault {
    char event;
    int code;       /* with which it fails */
    unsigned after; /* so many of them succeed first */
    unsigned times; /* 0: until probe_mend() */
};
void probe_break(const struct probe_fault *fault);
void probe_mend(void);
/* Operations that failed since probe_break(). */
unsigned probe_hits(void);
/* The next `times` syncs of a log fail. */
void probe_fail_syncs(int times);
/*
 * Called once, the next time that a connection of this VFS has read a wal-index header that is new to it in a
 * checkpoint, before it looks how much of the log is written back (SQLite calls xUnfetch there).
 */
void probe_in_checkpoint(void (*callback)(void));
/*
 * Called before a connection of this VFS takes READ0..4 shared; before it gives that up; and instead of each
 * xSleep.  NULL: no longer.
 */
void probe_before_snapshots(void (*callback)(void));
void probe_after_snapshots(void (*callback)(void));
void probe_instead_of_sleeps(void (*callback)(void));

#endif
