#include "base/crashpoint.h"

#ifdef LKS_DEBUG

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

extern const struct lks_crash_point *const __start_lks_points[] __attribute__((visibility("hidden")));
extern const struct lks_crash_point *const __stop_lks_points[] __attribute__((visibility("hidden")));

void (*lks_crash_hook)(const char *name);

static char armed_name[64];
static _Atomic unsigned armed_left;
static pthread_once_t read_environment_once = PTHREAD_ONCE_INIT;

static void
read_environment(void)
{
    const char *spec = getenv("LOCKSTEP_CRASH");
    const char *last;
    char name[64];
    size_t length;
    unsigned nth = 1;
    if (spec == NULL || atomic_load(&armed_left) != 0)
        return;
    /* Names have colons themselves: a count is a last part of digits only. */
    last = strrchr(spec, ':');
    length = strlen(spec);
    if (last != NULL && last[1] != '\0' && strspn(last + 1, "0123456789") == strlen(last + 1)) {
        nth = (unsigned)strtoul(last + 1, NULL, 10);
        length = (size_t)(last - spec);
    }
    if (length >= sizeof name)
        return;
    memcpy(name, spec, length);
    name[length] = '\0';
    lks_crash_arm(name, nth);
}

void
lks_crash_arm(const char *name, unsigned nth)
{
    memset(armed_name, 0, sizeof armed_name);
    memcpy(armed_name, name, strnlen(name, sizeof armed_name - 1));
    atomic_store(&armed_left, nth);
}

void
lks_crash_pass(const struct lks_crash_point *point)
{
    pthread_once(&read_environment_once, read_environment);
    if (lks_crash_hook != NULL)
        lks_crash_hook(point->name);
    if (atomic_load(&armed_left) == 0 || strcmp(armed_name, point->name) != 0)
        return;
    if (atomic_fetch_sub(&armed_left, 1) == 1) {
        kill(getpid(), SIGKILL);
        for (;;)
            pause();
    }
}

size_t
lks_crash_points(const char **out_names, size_t capacity)
{
    const struct lks_crash_point *const *p;
    size_t n = 0;
    for (p = __start_lks_points; p < __stop_lks_points; p++) {
        size_t i;
        for (i = 0; i < n && i < capacity; i++)
            if (strcmp(out_names[i], (*p)->name) == 0)
                break;
        if (i < n)
            continue;
        if (n < capacity)
            out_names[n] = (*p)->name;
        n++;
    }
    return n;
}

#else
typedef int lks_crashpoint_empty;
#endif
