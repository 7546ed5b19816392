/*
 * Instants at which a death is interesting.
 *
 * LKS_CRASH_POINT("reader:claimed") costs nothing in release builds.  With --enable-debug the process
 * kills itself (SIGKILL) there when told to, either by lks_crash_arm() or by the environment,
 * LOCKSTEP_CRASH="name[:n]", the n-th time that the point is passed (1 is the first).  All points of
 * the program are listed by lks_crash_points(), so a test cannot forget one.
 *
 * A hook (lks_crash_hook), if set, is called at every passing, before an armed point kills.
 */
#ifndef LKS_BASE_CRASHPOINT_H
#define LKS_BASE_CRASHPOINT_H

#include <stddef.h>

#ifdef LKS_DEBUG

struct lks_crash_point {
    const char *name;
};

void lks_crash_arm(const char *name, unsigned nth);
void lks_crash_pass(const struct lks_crash_point *point);
/* Fills up to `capacity` names, returns how many there are. */
size_t lks_crash_points(const char **out_names, size_t capacity);
extern void (*lks_crash_hook)(const char *name);

#define LKS_CRASH_POINT(NAME)                                                                    \
    do {                                                                                         \
        static const struct lks_crash_point lks_point_ = {NAME};                                 \
        static const struct lks_crash_point *const lks_point_ref_                                \
            __attribute__((section("lks_points"), used)) = &lks_point_;                          \
        lks_crash_pass(lks_point_ref_);                                                          \
    } while (0)

#else
#define LKS_CRASH_POINT(NAME) ((void)0)
#endif

#endif
