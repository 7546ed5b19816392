/*
 * The VFS "probe", over "unix", to be put below Lockstep or used beside it: tells what is done to a database in WAL
 * mode, in order, lets syncs of the log fail, and calls back between two steps of a checkpoint.
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
/* The next `times` syncs of a log, by any thread, fail. */
void probe_fail_syncs(int times);
/*
 * Called once, the next time that a connection of this VFS has read a wal-index header that is new to it in a
 * checkpoint, before it looks how much of the log is written back (SQLite calls xUnfetch there).
 */
void probe_in_checkpoint(void (*callback)(void));

#endif
