/*
 * A line in which the kernel shows a lock, and the files that consist of such lines: /proc/locks, and fdinfo in part.
 */
#ifndef LKS_OS_LOCKLINE_H
#define LKS_OS_LOCKLINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"
#include "os/file.h"

enum lks_proclock_kind {
    LKS_PROCLOCK_PROCESS,     /* POSIX record lock */
    LKS_PROCLOCK_DESCRIPTION, /* open-file-description lock */
    LKS_PROCLOCK_FLOCK,       /* flock(2) */
    LKS_PROCLOCK_LEASE        /* F_SETLEASE or a delegation */
};

struct lks_proclock {
    enum lks_proclock_kind kind;
    bool exclusive;
    bool waiting;
    int32_t pid;       /* 0: cannot be found out */
    uint32_t file_no;  /* index of the path that was asked for */
    uint64_t first;    /* first byte */
    uint64_t last;     /* last byte; UINT64_MAX: to the end of the file */
};

struct lks_lockline {
    struct lks_proclock lock;
    struct lks_file_id file;
};

struct lks_locklines {
    struct lks_lockline *line;
    size_t count, capacity;
};

/* The whole file, NUL-terminated; free() it.  *out_reads: how many pieces the kernel gave it in. */
LKS_CHECKED enum lockstep_status lks_lockline_read(const char *path, char **out_text, unsigned *out_reads);

/*
 * One line of /proc/locks, or what follows "lock:" in an fdinfo file.  False if it is neither.  *out_file
 * is as the kernel names the file, which is not always what stat() says.  file_no is 0.
 */
bool lks_lockline_parse(const char *line, struct lks_proclock *out_lock, struct lks_file_id *out_file);

/* A copy of it, at the end.  free() lines->line. */
LKS_CHECKED enum lockstep_status lks_locklines_add(struct lks_locklines *lines, const struct lks_lockline *line);

#endif
