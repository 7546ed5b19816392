/* The database that a subcommand is about. */
#ifndef TOOLS_SUBJECT_H
#define TOOLS_SUBJECT_H

#include <stdbool.h>

#include <sqlite3.h>

#include <lockstep/inspect.h>

/* False, after a message that says what to do, if there is no database file of this name. */
bool lks_subject_exists(const char *path);
/* NULL after such a message. */
struct lockstep_inspection *lks_subject_open(const char *path);
/* False if a coordination file that is damaged or unreadable hides something. */
bool lks_subject_complete(const struct lockstep_inspection *inspection);
/* What is wrong with the coordination file goes to stderr; 1 if the picture is not complete. */
int lks_subject_report(const struct lockstep_inspection *inspection);
/* Prints the name of each coordination file of `path` that was set aside; how many. */
unsigned lks_subject_orphans(const char *path, void (*each)(void *arg, const char *name), void *arg);

/* What the first bytes of the file say, without SQLite. */
struct lks_subject_header {
    const char *format; /* "rollback journal", "WAL", ..., in words */
    bool unreadable;
    bool wal;
    bool tripwire; /* closed to stock writers by Lockstep */
};
void lks_subject_read_header(const char *path, struct lks_subject_header *out_header);

/*
 * Connects through Lockstep, which recovers what dead processes left, and waits until all commits are
 * durable.  NULL after a message.  The library's messages go to stderr.
 */
sqlite3 *lks_subject_connect(const char *path);

#endif
