/*
 * Processes that hold locks, each driven through a pipe, and the lockstep command that looks at them.
 *
 * holder_start() must come before the test itself uses SQLite: children are forked, not executed.
 */
#ifndef TESTS_TOOLS_HOLDER_H
#define TESTS_TOOLS_HOLDER_H

#include <sys/types.h>

#define MAX_HOLDERS 8

/* A folder for the test, and the database "db" in it; holder_finish() ends the processes and removes it. */
void holder_begin(void);
void holder_finish(void);
/* "<folder>/name"; good until the fourth call from here. */
const char *holder_path(const char *name);

/* A new process with a stock connection to "db" and the name "holder"; its letter is 'A', 'B', ... */
char holder_start(void);
/* The same through another VFS, which `prepare` registers in the new process, with parameters of the URI. */
char holder_start_with(const char *vfs, int (*prepare)(void), const char *parameters);
pid_t holder_pid(char who);
/* Runs SQL there and checks SQLite's result code. */
void holder_sql(char who, const char *sql, int expect);
/* The same in two steps, for SQL that waits. */
void holder_sql_begins(char who, const char *sql);
void holder_ends(char who, int expect);
/* The next busy handler of `who` stops; holder_sql_stops() waits until it has, _goes() lets it go on. */
void holder_sql_stops(char who, const char *sql);
void holder_goes(char who, int expect);
/* Takes a lock with fcntl() on a file of the folder: kind 'P' (process) or 'O' (description), 'r' or 'w'. */
void holder_lock(char who, const char *file, char kind, char mode, long long first, long long size);
/* Begins to wait for one, and returns when it does. */
void holder_waits(char who, const char *file, char mode, long long first, long long size);
/* Stopped by SIGSTOP, and seen to be. */
void holder_stop(char who);
void holder_continue(char who);
/* Killed, and reaped. */
void holder_kill(char who);

/*
 * Runs "lockstep ARGS" in the folder and returns its exit status.  *out and *err are the output with blanks
 * squeezed, the holders' pids replaced by their letters, ages by AGE, the folder by DIR; free() them.
 */
int tool_run(const char *args, char **out, char **err);
/* Runs it and compares all of it; as the user 65534 for the second, which needs setpriv(1) and root. */
void tool_expect(const char *args, int status, const char *out, const char *err);
void tool_expect_as_nobody(const char *args, int status, const char *out, const char *err);

#endif
