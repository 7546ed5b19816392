#include "os/map.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "os/file.h"

enum lockstep_status
lks_map_file(int fd, size_t size_bytes, bool writable, void **out_base)
{
    int protection = PROT_READ | (writable ? PROT_WRITE : 0);
    int flags = fd >= 0 ? MAP_SHARED : MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
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

void
lks_map_release(void *base, size_t size_bytes)
{
    if (base != NULL)
        munmap(base, size_bytes);
}

static volatile char *guard_page;
static volatile char guard_fallback = 1;
static pthread_once_t guard_once = PTHREAD_ONCE_INIT;

static void
clear_fallback(void)
{
    guard_fallback = 0;
}

static void
make_guard(void)
{
    size_t size = (size_t)sysconf(_SC_PAGESIZE);
    void *page = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (page != MAP_FAILED && madvise(page, size, MADV_WIPEONFORK) == 0) {
        guard_page = page;
        *guard_page = 1;
        return;
    }
    /* A kernel before 4.14: the handler sees all forks that go through libc. */
    if (page != MAP_FAILED)
        munmap(page, size);
    guard_page = &guard_fallback;
    pthread_atfork(NULL, NULL, clear_fallback);
}

const volatile char *
lks_map_fork_guard(void)
{
    pthread_once(&guard_once, make_guard);
    return guard_page;
}
