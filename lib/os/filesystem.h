/* Which filesystems are fit for memory and locks that processes share. */
#ifndef LKS_OS_FILESYSTEM_H
#define LKS_OS_FILESYSTEM_H

#include <stdbool.h>

/*
 * NULL if files at `fd` are fit, else the filesystem's name: one where shared mappings or locks are not
 * coherent between hosts or sandboxes.  Unknown filesystems pass.
 */
const char *lks_filesystem_refused(int fd);
/* The same by the filesystem's magic number, statfs(2). */
const char *lks_filesystem_refused_magic(unsigned long magic);

#endif
