/* Status codes: the public enum, for everybody inside. */
#ifndef LKS_BASE_STATUS_H
#define LKS_BASE_STATUS_H

#include <lockstep/coord.h>

/* Must be looked at. */
#define LKS_CHECKED __attribute__((warn_unused_result))

const char *lks_status_name(enum lockstep_status status);

/* First error wins: `first` unless it is OK. */
static inline enum lockstep_status
lks_first_error(enum lockstep_status first, enum lockstep_status second)
{
    return first != LOCKSTEP_OK ? first : second;
}

#endif
