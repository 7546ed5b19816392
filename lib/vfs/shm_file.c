#include "vfs/shm_file.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

#include "os/bytelock.h"
#include "os/file.h"

/* os_unix.c: UNIX_SHM_DMS. */
#define DEAD_MANS_SWITCH 128

/* One descriptor of a file.  All under kept_mutex, but for fd, which stays. */
struct kept {
    struct kept *next;
    struct lks_file_id id;
    bool readonly;
    int fd;
    unsigned users;
};

struct lks_shm_file {
    struct lks_shm_area area;
    struct kept *kept;
};

/* The last of all: no other is taken, and nothing of SQLite's called, under it. */
static pthread_mutex_t kept_mutex = PTHREAD_MUTEX_INITIALIZER;
static struct kept *kept_list;
static struct kept *carried; /* across fork(): the parent's, and its `users` handles that the child has of it */

static void
before_fork(void)
{
    pthread_mutex_lock(&kept_mutex);
}

static void
after_fork_parent(void)
{
    pthread_mutex_unlock(&kept_mutex);
}

/* The parent's are left to the handles that the child carries, and never closed: no lock goes with them. */
static void
after_fork_child(void)
{
    struct kept **end = &kept_list;
    while (*end != NULL)
        end = &(*end)->next;
    *end = carried;
    carried = kept_list;
    kept_list = NULL;
    pthread_mutex_unlock(&kept_mutex);
}

/* When the library is loaded: a fork takes this mutex last, as that of lock_note.c. */
__attribute__((constructor)) static void
kept_init(void)
{
    pthread_atfork(before_fork, after_fork_parent, after_fork_child);
}

/* ------------------------------------------------------------------------------------------------
 * The descriptors
 * --------------------------------------------------------------------------------------------- */

static bool
may_close_locked(const struct kept *kept)
{
    struct lks_file_stat stat;
    int32_t holder;
    return kept->users == 0 && lks_file_stat_fd(kept->fd, &stat) == LOCKSTEP_OK && stat.links == 0 &&
           lks_bytelock_holder(kept->fd, LKS_LOCK_DESCRIPTION, LKS_LOCK_EXCLUSIVE, 0, 0, &holder) ==
               LOCKSTEP_OK &&
           holder == 0;
}

static void
sweep_locked(void)
{
    struct kept **link = &kept_list, *kept;
    while ((kept = *link) != NULL)
        if (may_close_locked(kept)) {
            *link = kept->next;
            lks_file_close(kept->fd);
            free(kept);
        } else {
            link = &kept->next;
        }
}

static struct kept *
find_locked(const struct lks_file_id *id, bool readonly)
{
    struct kept *kept;
    for (kept = kept_list; kept != NULL; kept = kept->next)
        if (lks_file_same(&kept->id, id) && (readonly || !kept->readonly))
            return kept;
    return NULL;
}

/* Once the descriptor is there it is in the list, whatever comes after: it must not be closed. */
static enum lockstep_status
open_locked(const char *path, bool readonly, struct kept **out_kept)
{
    struct lks_file_stat stat;
    struct kept *kept = calloc(1, sizeof *kept);
    enum lockstep_status status = LOCKSTEP_NOMEM;
    if (kept == NULL)
        return status;
    status = lks_file_open(path, readonly ? LKS_OPEN_READ : LKS_OPEN_WRITE, 0, &kept->fd);
    if (status != LOCKSTEP_OK) {
        free(kept);
        return status;
    }
    kept->readonly = readonly;
    kept->next = kept_list;
    kept_list = kept;
    status = lks_file_stat_fd(kept->fd, &stat);
    if (status == LOCKSTEP_OK) {
        kept->id = stat.id;
        *out_kept = kept;
    }
    return status;
}

/*
 * As long as the child carries a connection, SQLite's table of locks has what the parent has locked, and takes it for the
 * child's: a lock that is in it is not asked of the kernel.
 */
static bool
is_carried_locked(const struct lks_file_id *id)
{
    const struct kept *kept;
    for (kept = carried; kept != NULL; kept = kept->next)
        if (kept->users > 0 && lks_file_same(&kept->id, id))
            return true;
    return false;
}

/* An open-file-description lock would meet the POSIX locks of this process, too. */
static enum lockstep_status
check_switch(const struct kept *kept)
{
    int32_t holder;
    enum lockstep_status status = lks_bytelock_holder(kept->fd, LKS_LOCK_DESCRIPTION, LKS_LOCK_EXCLUSIVE,
                                                      DEAD_MANS_SWITCH, 1, &holder);
    if (status != LOCKSTEP_OK || holder != 0)
        return status;
    lks_os_set_errno(ENOENT);
    return LOCKSTEP_CANTOPEN;
}

static enum lockstep_status
use_locked(const char *path, bool readonly, struct kept **out_kept)
{
    struct lks_file_stat stat;
    struct kept *kept;
    enum lockstep_status status = lks_file_stat_path(path, &stat);
    if (status == LOCKSTEP_OK && is_carried_locked(&stat.id))
        status = LOCKSTEP_MISUSE;
    if (status != LOCKSTEP_OK)
        return status;
    kept = find_locked(&stat.id, readonly);
    if (kept == NULL)
        status = open_locked(path, readonly, &kept);
    if (status == LOCKSTEP_OK)
        status = check_switch(kept);
    if (status != LOCKSTEP_OK)
        return status;
    kept->users++;
    *out_kept = kept;
    return LOCKSTEP_OK;
}

/* ------------------------------------------------------------------------------------------------
 * The area
 * --------------------------------------------------------------------------------------------- */

static int
descriptor_of(struct lks_shm_area *area)
{
    return ((struct lks_shm_file *)area)->kept->fd;
}

static enum lockstep_status
file_read(struct lks_shm_area *area, uint64_t offset, void *buf, size_t size_bytes)
{
    size_t got = 0;
    enum lockstep_status status = lks_file_read(descriptor_of(area), offset, buf, size_bytes, &got);
    if (status != LOCKSTEP_OK || got == size_bytes)
        return status;
    lks_os_set_errno(EIO);
    return LOCKSTEP_IOERR;
}

static enum lockstep_status
file_write(struct lks_shm_area *area, uint64_t offset, const void *buf, size_t size_bytes)
{
    return lks_file_write(descriptor_of(area), offset, buf, size_bytes);
}

static enum lockstep_status
file_size(struct lks_shm_area *area, uint64_t *out_size_bytes)
{
    struct lks_file_stat stat;
    enum lockstep_status status = lks_file_stat_fd(descriptor_of(area), &stat);
    if (status == LOCKSTEP_OK)
        *out_size_bytes = stat.size_bytes;
    return status;
}

/* With its space, for others will have it mapped. */
static enum lockstep_status
file_extend(struct lks_shm_area *area, uint64_t size_bytes)
{
    return lks_file_reserve(descriptor_of(area), 0, size_bytes);
}

enum lockstep_status
lks_shm_file_open(const char *path, bool readonly, struct lks_shm_file **out_file)
{
    enum lockstep_status status;
    struct lks_shm_file *file = calloc(1, sizeof *file);
    if (file == NULL)
        return LOCKSTEP_NOMEM;
    file->area = (struct lks_shm_area){file_read, file_write, file_size, file_extend};
    pthread_mutex_lock(&kept_mutex);
    sweep_locked();
    status = use_locked(path, readonly, &file->kept);
    pthread_mutex_unlock(&kept_mutex);
    if (status != LOCKSTEP_OK) {
        free(file);
        return status;
    }
    *out_file = file;
    return LOCKSTEP_OK;
}

void
lks_shm_file_close(struct lks_shm_file *file)
{
    if (file == NULL)
        return;
    pthread_mutex_lock(&kept_mutex);
    file->kept->users--;
    sweep_locked();
    pthread_mutex_unlock(&kept_mutex);
    free(file);
}

struct lks_shm_area *
lks_shm_file_area(struct lks_shm_file *file)
{
    return &file->area;
}

unsigned
lks_shm_file_kept(void)
{
    const struct kept *kept;
    unsigned n = 0;
    pthread_mutex_lock(&kept_mutex);
    for (kept = kept_list; kept != NULL; kept = kept->next)
        n++;
    pthread_mutex_unlock(&kept_mutex);
    return n;
}
