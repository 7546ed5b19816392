/*
 * Files: thin wrappers that finish what they begin (short reads and writes, EINTR) and turn errno into a
 * status.  lks_os_errno() keeps the errno of the calling thread's last failure for messages.
 */
#ifndef LKS_OS_FILE_H
#define LKS_OS_FILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

struct lks_file_id {
    uint64_t device;
    uint64_t inode;
};

struct lks_file_stat {
    struct lks_file_id id;
    uint64_t size_bytes;
    uint32_t mode, uid, gid;
    uint64_t links;
};

enum lks_open_mode { LKS_OPEN_READ, LKS_OPEN_WRITE, LKS_OPEN_CREATE };

int lks_os_errno(void);
void lks_os_set_errno(int error);
/* The status that an errno stands for. */
enum lockstep_status lks_os_status(int error);

/* Close-on-exec, never descriptors 0 to 2.  CREATE also creates with `mode`. */
enum lockstep_status lks_file_open(const char *path, enum lks_open_mode how, uint32_t mode, int *out_fd);
void lks_file_close(int fd);
/* Reads up to size_bytes; fewer only at the end of the file. */
enum lockstep_status lks_file_read(int fd, uint64_t offset, void *buf, size_t size_bytes, size_t *out_read);
enum lockstep_status lks_file_write(int fd, uint64_t offset, const void *buf, size_t size_bytes);
enum lockstep_status lks_file_truncate(int fd, uint64_t size_bytes);
/* fdatasync(): the content and the size. */
enum lockstep_status lks_file_sync(int fd);
/* Space on the disk for [offset, offset + size); FULL if there is none. */
enum lockstep_status lks_file_reserve(int fd, uint64_t offset, uint64_t size_bytes);
/* Gives the space back; the size stays and the range reads as zeros. */
enum lockstep_status lks_file_punch(int fd, uint64_t offset, uint64_t size_bytes);
enum lockstep_status lks_file_stat_fd(int fd, struct lks_file_stat *out_stat);
/* NOTFOUND is reported as CANTOPEN with lks_os_errno() == ENOENT. */
enum lockstep_status lks_file_stat_path(const char *path, struct lks_file_stat *out_stat);
/* Owner and mode of `fd` as in `like`; that it may not is no error. */
void lks_file_adopt_owner(int fd, const struct lks_file_stat *like);
enum lockstep_status lks_file_rename(const char *from, const char *to);
/* A missing file is fine. */
enum lockstep_status lks_file_unlink(const char *path);
/* Syncs the directory that holds `path`. */
enum lockstep_status lks_file_sync_dir(const char *path);
/* The absolute name without symbolic links; free() it. */
enum lockstep_status lks_file_real_path(const char *path, char **out_path);
bool lks_file_same(const struct lks_file_id *a, const struct lks_file_id *b);

#endif
