/* A peer: another process that runs SQL and tells what comes of it. */
#ifndef TESTS_VFS_PEER_H
#define TESTS_VFS_PEER_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

/* main() of a program that was started as one. */
int peer_main(void);

/* Another process; a fresh program, so it inherits nothing. */
struct peer {
    pid_t pid;
    int to, from;
    char *reply;
    size_t capacity;
};
void peer_start(struct peer *peer);
/*
 * Does one thing there and returns the answer, good until the next call:
 *   "open <n> <uri>", "sql <n> <SQL>", "close <n>" (n: 0 to 9), "timeout <n> <ms>", "handler <n>" (a busy
 *   handler that never gives up and does not sleep), "log", "become <uid>", "attach <path>" (the core alone),
 *   "exit" (without closing).
 * Answers are as of sql(); "" where there is nothing to say.
 */
const char *peer_ask(struct peer *peer, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* The same in two steps. */
void peer_tell(struct peer *peer, const char *format, ...) __attribute__((format(printf, 2, 3)));
const char *peer_answer(struct peer *peer);
/* Has it answered within so many ms? */
bool peer_answers(struct peer *peer, int wait_ms);
void peer_kill(struct peer *peer);
/* Makes it exit() without closing anything, and waits until it is gone. */
void peer_exit(struct peer *peer);

#endif
