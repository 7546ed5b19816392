/* What the program says on standard error: errors, and where it is. */
#ifndef BENCH_MESSAGE_H
#define BENCH_MESSAGE_H

#include <stdbool.h>

/* Prints "lockstep bench: ...", clear of the progress line.  Returns false. */
bool bench_error(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* One line on a terminal, overwritten by the next; elsewhere nothing. */
void bench_progress(const char *format, ...) __attribute__((format(printf, 1, 2)));
void bench_progress_clear(void);

#endif
