#include "os/map.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "os/file.h"

enum lockstep_status
lks_map_file(int fd, size_t size_bytes, bool writable, void **out_base)
{
    int protection = PROT_READ | (writable ? PROT_WRITE : 0);
    /* A shared mapping of a file reserves no memory anyhow; but qemu-user maps anonymous memory first. */
    int flags = (fd >= 0 ? MAP_SHARED : MAP_PRIVATE | MAP_ANONYMOUS) | MAP_NORESERVE;
    void *base = mmap(NULL, size_bytes, protection, flags, fd, 0);
    if (base == MAP_FAILED) {
        lks_os_set_errno(errno);
        return LOCKSTEP_NOMEM;
    }
    (void)madvise(base, size_bytes, MADV_DONTFORK);
    /* Blocks of dead transactions in core dumps help nobody and may hold what users call private. */
    (void)madvise(base, size_bytes, MADV_DONTDUMP);
    *out_base = base;
    return LOCKSTEP_OK;
}

enum lockstep_status
lks_map_copy(int fd, size_t size_bytes, void **out_base)
{
    void *base = mmap(NULL, size_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_NORESERVE, fd, 0);
    if (base == MAP_FAILED) {
        lks_os_set_errno(errno);
        return LOCKSTEP_NOMEM;
    }
    *out_base = base;
    return LOCKSTEP_OK;
}

void
lks_map_release(void *base, size_t size_bytes)
{
    if (base != NULL)
        munmap(base, size_bytes);
}

void
lks_map_forget(void *start, size_t size_bytes)
{
    (void)madvise(start, size_bytes, MADV_DONTNEED);
}

/*
 * The guard of this process, made anew in a child that asks for one: what the child carries keeps the
 * parent's, which says 0 there.
 */
static _Atomic(volatile char *) guard;
static volatile char last_resort; /* where there is not a page of memory: never made anew */
static bool guard_is_plain; /* not wiped by the kernel */
static pthread_once_t plain_once = PTHREAD_ONCE_INIT;

static void
clear_plain(void)
{
    if (guard_is_plain)
        *atomic_load(&guard) = 0;
}

static void
watch_forks(void)
{
    guard_is_plain = true;
    pthread_atfork(NULL, NULL, clear_plain);
}

/* Not before Linux 4.14.  qemu-user says yes to any advice, also to one that there is not, and does nothing. */
static bool
wipes_on_fork(void *page, size_t size)
{
    return madvise(page, size, -1) != 0 && madvise(page, size, MADV_WIPEONFORK) == 0;
}

static volatile char *
make_guard(void)
{
    size_t size = (size_t)sysconf(_SC_PAGESIZE);
    volatile char *page =
        mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (page == MAP_FAILED)
        page = &last_resort;
    if (page == &last_resort || !wipes_on_fork((void *)(uintptr_t)page, size))
        /* The handler sees all forks that go through libc. */
        pthread_once(&plain_once, watch_forks);
    *page = 1;
    return page;
}

const volatile char *
lks_map_fork_guard(void)
{
    volatile char *seen = atomic_load(&guard);
    volatile char *made;
    if (seen != NULL && *seen != 0)
        return seen;
    made = make_guard();
    if (atomic_compare_exchange_strong(&guard, &seen, made))
        return made;
    if (made != &last_resort)
        munmap((void *)(uintptr_t)made, (size_t)sysconf(_SC_PAGESIZE));
    return seen;
}
