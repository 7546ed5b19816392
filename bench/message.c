#include "bench/message.h"

#include <stdarg.h>
#include <stdio.h>
#include <unistd.h>

static bool progress_shown;

void
bench_progress(const char *format, ...)
{
    va_list args;
    if (!isatty(STDERR_FILENO))
        return;
    fputs("\r\033[K", stderr);
    va_start(args, format);
    vfprintf(stderr, format, args);
    va_end(args);
    fflush(stderr);
    progress_shown = true;
}

void
bench_progress_clear(void)
{
    if (progress_shown)
        fputs("\r\033[K", stderr);
    progress_shown = false;
}

bool
bench_error(const char *format, ...)
{
    va_list args;
    bench_progress_clear();
    fflush(stdout);
    fputs("lockstep bench: ", stderr);
    va_start(args, format);
    vfprintf(stderr, format, args);
    va_end(args);
    fputc('\n', stderr);
    return false;
}
