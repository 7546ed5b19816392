#include "vfs/shm_heap.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "os/bytelock.h"
#include "os/file.h"
#include "vfs/sqlite.h"

#define LOCKS 8
/* The locks of a database file, os.h of SQLite: PENDING, RESERVED, and 510 bytes for SHARED. */
#define LOCK_BYTES_FIRST 0x40000000u
#define LOCK_BYTES 512u

/* All under heap_mutex.  Once made it stays as long as the process: its descriptor must not be closed. */
struct lks_shm_heap {
    struct lks_shm_area area;
    struct lks_shm_heap *next;
    struct lks_file_id id;
    int fd; /* of the database */
    char *memory;
    size_t size_bytes;
    unsigned mapped;             /* connections that have it mapped */
    unsigned holders[LOCKS];     /* shared locks */
    const void *exclusive[LOCKS]; /* whose it is */
    unsigned sharing;            /* connections at SHARED or above */
    const void *reserved;        /* whose RESERVED, or above, it is */
    const void *pending;         /* ... PENDING or EXCLUSIVE */
    bool told;
};

/* The last of all, as in shm_file.c; memory is copied under it, at most a region. */
static pthread_mutex_t heap_mutex = PTHREAD_MUTEX_INITIALIZER;
static struct lks_shm_heap *heaps;

static void
before_fork(void)
{
    pthread_mutex_lock(&heap_mutex);
}

static void
after_fork_parent(void)
{
    pthread_mutex_unlock(&heap_mutex);
}

/* With the descriptors the child would keep the parent's locks beyond its death. */
static void
after_fork_child(void)
{
    struct lks_shm_heap *heap;
    for (heap = heaps; heap != NULL; heap = heap->next)
        lks_file_close(heap->fd);
    heaps = NULL;
    pthread_mutex_unlock(&heap_mutex);
}

/* When the library is loaded: a fork takes this mutex last, as that of lock_note.c. */
__attribute__((constructor)) static void
heap_init(void)
{
    pthread_atfork(before_fork, after_fork_parent, after_fork_child);
}

/* ------------------------------------------------------------------------------------------------
 * The area
 * --------------------------------------------------------------------------------------------- */

static struct lks_shm_heap *
of(struct lks_shm_area *area)
{
    return (struct lks_shm_heap *)area;
}

static enum lockstep_status
heap_read(struct lks_shm_area *area, uint64_t offset, void *buf, size_t size_bytes)
{
    struct lks_shm_heap *heap = of(area);
    enum lockstep_status status = LOCKSTEP_IOERR;
    pthread_mutex_lock(&heap_mutex);
    if (offset + size_bytes <= heap->size_bytes) {
        memcpy(buf, heap->memory + offset, size_bytes);
        status = LOCKSTEP_OK;
    }
    pthread_mutex_unlock(&heap_mutex);
    return status;
}

static enum lockstep_status
heap_write(struct lks_shm_area *area, uint64_t offset, const void *buf, size_t size_bytes)
{
    struct lks_shm_heap *heap = of(area);
    enum lockstep_status status = LOCKSTEP_IOERR;
    pthread_mutex_lock(&heap_mutex);
    if (offset + size_bytes <= heap->size_bytes) {
        memcpy(heap->memory + offset, buf, size_bytes);
        status = LOCKSTEP_OK;
    }
    pthread_mutex_unlock(&heap_mutex);
    return status;
}

static enum lockstep_status
heap_size(struct lks_shm_area *area, uint64_t *out_size_bytes)
{
    pthread_mutex_lock(&heap_mutex);
    *out_size_bytes = of(area)->size_bytes;
    pthread_mutex_unlock(&heap_mutex);
    return LOCKSTEP_OK;
}

static enum lockstep_status
heap_extend(struct lks_shm_area *area, uint64_t size_bytes)
{
    struct lks_shm_heap *heap = of(area);
    enum lockstep_status status = LOCKSTEP_OK;
    pthread_mutex_lock(&heap_mutex);
    if (size_bytes > heap->size_bytes) {
        char *memory = realloc(heap->memory, (size_t)size_bytes);
        if (memory != NULL) {
            memset(memory + heap->size_bytes, 0, (size_t)size_bytes - heap->size_bytes);
            heap->memory = memory;
            heap->size_bytes = (size_t)size_bytes;
        } else {
            status = LOCKSTEP_NOMEM;
        }
    }
    pthread_mutex_unlock(&heap_mutex);
    return status;
}

struct lks_shm_area *
lks_shm_heap_area(struct lks_shm_heap *heap)
{
    return &heap->area;
}

void
lks_shm_heap_join(struct lks_shm_heap *heap)
{
    pthread_mutex_lock(&heap_mutex);
    heap->mapped++;
    pthread_mutex_unlock(&heap_mutex);
}

void
lks_shm_heap_leave(struct lks_shm_heap *heap)
{
    pthread_mutex_lock(&heap_mutex);
    if (--heap->mapped == 0) {
        free(heap->memory);
        heap->memory = NULL;
        heap->size_bytes = 0;
    }
    pthread_mutex_unlock(&heap_mutex);
}

/* ------------------------------------------------------------------------------------------------
 * The locks of the wal-index
 * --------------------------------------------------------------------------------------------- */

static bool
is_free_locked(const struct lks_shm_heap *heap, int offset, int n, bool exclusive)
{
    int i;
    for (i = offset; i < offset + n; i++)
        if (heap->exclusive[i] != NULL || (exclusive && heap->holders[i] != 0))
            return false;
    return true;
}

enum lockstep_status
lks_shm_heap_lock(struct lks_shm_heap *heap, struct lks_shm_heap_locks *mine, int offset, int n, bool exclusive)
{
    enum lockstep_status status = LOCKSTEP_BUSY;
    uint32_t bits = ((1u << n) - 1) << offset;
    int i;
    if (!exclusive && (mine->shared & bits) != 0)
        return LOCKSTEP_OK;
    pthread_mutex_lock(&heap_mutex);
    if (is_free_locked(heap, offset, n, exclusive)) {
        status = LOCKSTEP_OK;
        for (i = offset; i < offset + n; i++)
            if (exclusive)
                heap->exclusive[i] = mine;
            else
                heap->holders[i]++;
        if (exclusive)
            mine->exclusive |= bits;
        else
            mine->shared |= bits;
    }
    pthread_mutex_unlock(&heap_mutex);
    return status;
}

void
lks_shm_heap_unlock(struct lks_shm_heap *heap, struct lks_shm_heap_locks *mine, int offset, int n)
{
    int i;
    pthread_mutex_lock(&heap_mutex);
    for (i = offset; i < offset + n; i++) {
        if ((mine->exclusive & 1u << i) != 0)
            heap->exclusive[i] = NULL;
        if ((mine->shared & 1u << i) != 0)
            heap->holders[i]--;
        mine->exclusive &= ~(1u << i);
        mine->shared &= ~(1u << i);
    }
    pthread_mutex_unlock(&heap_mutex);
}

/* ------------------------------------------------------------------------------------------------
 * The locks of the database
 * --------------------------------------------------------------------------------------------- */

/* The process's, with its first connection: nobody else may have any. */
static enum lockstep_status
share_locked(struct lks_shm_heap *heap, const void *me)
{
    enum lockstep_status status = LOCKSTEP_OK;
    if (heap->pending != NULL && heap->pending != me)
        return LOCKSTEP_BUSY;
    if (heap->sharing == 0)
        status = lks_bytelock_try(heap->fd, LKS_LOCK_DESCRIPTION, LKS_LOCK_EXCLUSIVE, LOCK_BYTES_FIRST,
                                  LOCK_BYTES);
    if (status == LOCKSTEP_OK)
        heap->sharing++;
    return status;
}

static enum lockstep_status
raise_locked(struct lks_shm_heap *heap, struct lks_shm_heap_locks *mine, int level)
{
    if (level == SQLITE_LOCK_SHARED)
        return LOCKSTEP_OK;
    if (heap->reserved != NULL && heap->reserved != mine)
        return LOCKSTEP_BUSY;
    heap->reserved = mine;
    if (level == SQLITE_LOCK_RESERVED) {
        mine->level = level;
        return LOCKSTEP_OK;
    }
    /* From here on nobody comes in; who is in goes out. */
    heap->pending = mine;
    mine->level = SQLITE_LOCK_PENDING;
    if (level == SQLITE_LOCK_EXCLUSIVE && heap->sharing > 1)
        return LOCKSTEP_BUSY;
    mine->level = level;
    return LOCKSTEP_OK;
}

enum lockstep_status
lks_shm_heap_lock_database(struct lks_shm_heap *heap, struct lks_shm_heap_locks *mine, int level)
{
    enum lockstep_status status = LOCKSTEP_OK;
    bool tell = false;
    if (level <= mine->level)
        return LOCKSTEP_OK;
    pthread_mutex_lock(&heap_mutex);
    if (mine->level == SQLITE_LOCK_NONE) {
        status = share_locked(heap, mine);
        tell = status == LOCKSTEP_BUSY && heap->sharing == 0 && !heap->told;
        heap->told = heap->told || tell;
        if (status == LOCKSTEP_OK)
            mine->level = SQLITE_LOCK_SHARED;
    }
    if (status == LOCKSTEP_OK)
        status = raise_locked(heap, mine, level);
    pthread_mutex_unlock(&heap_mutex);
    if (tell)
        lks_log(LKS_WARNING, "a database cannot be used alone (multi_process=0, shm=copy): another process, or another "
                             "connection of this one that does not say so, has it locked");
    return status;
}

void
lks_shm_heap_unlock_database(struct lks_shm_heap *heap, struct lks_shm_heap_locks *mine, int level)
{
    if (level >= mine->level)
        return;
    pthread_mutex_lock(&heap_mutex);
    if (heap->pending == mine)
        heap->pending = NULL;
    if (heap->reserved == mine)
        heap->reserved = NULL;
    if (level == SQLITE_LOCK_NONE && --heap->sharing == 0)
        lks_bytelock_release(heap->fd, LKS_LOCK_DESCRIPTION, LOCK_BYTES_FIRST, LOCK_BYTES);
    mine->level = level;
    pthread_mutex_unlock(&heap_mutex);
}

bool
lks_shm_heap_is_reserved(struct lks_shm_heap *heap)
{
    bool reserved;
    pthread_mutex_lock(&heap_mutex);
    reserved = heap->reserved != NULL;
    pthread_mutex_unlock(&heap_mutex);
    return reserved;
}

/* ------------------------------------------------------------------------------------------------
 * Opening
 * --------------------------------------------------------------------------------------------- */

static enum lockstep_status
open_locked(const char *path, struct lks_shm_heap **out_heap)
{
    struct lks_file_stat stat;
    struct lks_shm_heap *heap;
    enum lockstep_status status = lks_file_stat_path(path, &stat);
    if (status != LOCKSTEP_OK)
        return status;
    for (heap = heaps; heap != NULL; heap = heap->next)
        if (lks_file_same(&heap->id, &stat.id)) {
            *out_heap = heap;
            return LOCKSTEP_OK;
        }
    heap = calloc(1, sizeof *heap);
    if (heap == NULL)
        return LOCKSTEP_NOMEM;
    status = lks_file_open(path, LKS_OPEN_WRITE, 0, &heap->fd);
    if (status != LOCKSTEP_OK) {
        free(heap);
        return status;
    }
    heap->area = (struct lks_shm_area){heap_read, heap_write, heap_size, heap_extend};
    heap->id = stat.id;
    heap->next = heaps;
    heaps = heap;
    *out_heap = heap;
    return LOCKSTEP_OK;
}

enum lockstep_status
lks_shm_heap_open(const char *path, struct lks_shm_heap **out_heap)
{
    enum lockstep_status status;
    pthread_mutex_lock(&heap_mutex);
    status = open_locked(path, out_heap);
    pthread_mutex_unlock(&heap_mutex);
    return status;
}
