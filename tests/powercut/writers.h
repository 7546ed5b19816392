/* Threads that commit at the same time, each of its own kind and with a connection of its own. */
#ifndef TESTS_POWERCUT_WRITERS_H
#define TESTS_POWERCUT_WRITERS_H

#include <sqlite3.h>

#define WRITERS_MOST 8

struct writers {
    int kinds; /* 0 to kinds - 1: a thread each */
    int commits; /* of each */
    sqlite3 *(*open)(int kind);
    /* The i-th; a code.  In the thread, so it may not use Check. */
    int (*commit)(sqlite3 *db, int kind, int i);
};

/* Until all have ended; none may have failed. */
void writers_run(const struct writers *writers);

#endif
