/*
 * Where the store's own reads, writes and syncs of the database and its journal go.
 *
 * The default is the operating system.  The VFS puts the parent VFS here, so that whatever lies under
 * SQLite (encryption, a slow disk, a recorder of power cuts) lies under the store too.
 * An object of this type is used by one thread at a time per file; `context` by many.
 */
#ifndef LKS_OS_IO_H
#define LKS_OS_IO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

struct lks_io_file;

enum lks_io_role { LKS_IO_DATABASE, LKS_IO_JOURNAL };

struct lks_io {
    void *context;
    /* JOURNAL is created when missing; DATABASE never is. */
    enum lockstep_status (*open)(void *context, const char *path, enum lks_io_role role,
                                 struct lks_io_file **out_file);
    void (*close)(struct lks_io_file *file);
    /* Fewer than size_bytes only at the end of the file. */
    enum lockstep_status (*read)(struct lks_io_file *file, uint64_t offset, void *buf,
                                 size_t size_bytes, size_t *out_read);
    enum lockstep_status (*write)(struct lks_io_file *file, uint64_t offset, const void *buf,
                                  size_t size_bytes);
    enum lockstep_status (*truncate)(struct lks_io_file *file, uint64_t size_bytes);
    enum lockstep_status (*sync)(struct lks_io_file *file);
    enum lockstep_status (*size)(struct lks_io_file *file, uint64_t *out_size_bytes);
    /* Syncs the directory entry of `path` after it was created. */
    enum lockstep_status (*sync_dir)(void *context, const char *path);
    /* Removes `path`, missing or not. */
    enum lockstep_status (*remove)(void *context, const char *path, bool sync_dir);
    /* An empty file exists. */
    enum lockstep_status (*exists)(void *context, const char *path, bool *out_exists);
};

/* Straight to the operating system. */
extern const struct lks_io lks_io_os;
/*
 * A file of lks_io_os over a descriptor that the caller keeps: close() leaves it open, for to close any
 * descriptor of a database drops the POSIX locks that the process has on it.  NULL: out of memory.
 */
struct lks_io_file *lks_io_os_wrap(int fd);

#endif
