/* Messages for a person: one line each, saying what happened and what to do. */
#ifndef LKS_BASE_LOG_H
#define LKS_BASE_LOG_H

#include <lockstep/coord.h>

enum lks_log_level { LKS_NOTICE = 0, LKS_WARNING = 1, LKS_ERROR = 2 };

void lks_log_set(lockstep_log_fn fn, void *arg);
__attribute__((format(printf, 2, 3))) void lks_log(enum lks_log_level level, const char *format, ...);

#endif
