#include "base/log.h"

#include <stdarg.h>
#include <stdio.h>

/* Set before the first open, read by all threads afterwards. */
static lockstep_log_fn log_fn;
static void *log_arg;

void
lks_log_set(lockstep_log_fn fn, void *arg)
{
    log_fn = fn;
    log_arg = arg;
}

void
lks_log(enum lks_log_level level, const char *format, ...)
{
    char line[700];
    va_list args;
    if (log_fn == NULL)
        return;
    va_start(args, format);
    vsnprintf(line, sizeof line, format, args);
    va_end(args);
    log_fn(log_arg, (int)level, line);
}
