/*
 * The `-shm` file as a shared area, by pread() and pwrite(): stock processes may have it mapped at the same time.
 *
 * The locks on it, and the dead man's switch, are the parent VFS's (copy_file.c).  POSIX locks belong to the process,
 * and closing any descriptor of a file drops them all, be it the parent's or a stock connection's of this process.  So
 * a descriptor is shared by all who use the file, and when nobody does it is kept for the next, until the file has
 * no name any more and nobody has a lock on it: then nobody will come.
 */
#ifndef LKS_VFS_SHM_FILE_H
#define LKS_VFS_SHM_FILE_H

#include <stdbool.h>

#include "vfs/shm_area.h"

struct lks_shm_file;

/*
 * The parent has the file of that name open and its dead man's switch locked.  CANTOPEN: there is none, or it is another
 * file, which nobody has locked.  MISUSE: this is a child of fork(), and carries connections to it that are not closed.
 */
enum lockstep_status lks_shm_file_open(const char *path, bool readonly, struct lks_shm_file **out_file);
/* After the parent has unmapped; also what was carried across fork().  NULL is nobody. */
void lks_shm_file_close(struct lks_shm_file *file);
struct lks_shm_area *lks_shm_file_area(struct lks_shm_file *file);
/* For tests: how many descriptors are kept, used or not. */
unsigned lks_shm_file_kept(void);

#endif
