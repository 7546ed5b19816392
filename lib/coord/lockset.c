#include "coord/lockset.h"

#include <assert.h>

#include "base/atomic.h"
#include "base/clock.h"

static uint64_t
offset_of(uint32_t byte)
{
    return LKS_LOCK_BASE + byte;
}

/* A lock that is ours by DMS2 alone.  DMS1 is not: who connects reads what DMS2 says under it. */
static bool
is_implied(const struct lks_lockset *set, uint32_t byte)
{
    return set->alone && byte >= LKS_BYTE_WORKER;
}

enum lockstep_status
lks_lockset_take(struct lks_lockset *set, enum lks_lock_byte byte, enum lks_lock_type type)
{
    enum lockstep_status status = LOCKSTEP_OK;
    lks_mutex_lock(&set->mutex);
    if (!is_implied(set, byte))
        status = lks_bytelock_try(set->coord_fd, LKS_LOCK_PROCESS, type, offset_of(byte), 1);
    if (status == LOCKSTEP_OK)
        set->held |= 1u << byte;
    if (status == LOCKSTEP_OK && type == LKS_LOCK_EXCLUSIVE)
        set->exclusive |= 1u << byte;
    else if (status == LOCKSTEP_OK)
        set->exclusive &= ~(1u << byte);
    lks_mutex_unlock(&set->mutex);
    lks_fence();
    return status;
}

void
lks_lockset_drop(struct lks_lockset *set, enum lks_lock_byte byte)
{
    lks_fence();
    lks_mutex_lock(&set->mutex);
    if ((set->held & (1u << byte)) && !is_implied(set, byte))
        lks_bytelock_release(set->coord_fd, LKS_LOCK_PROCESS, offset_of(byte), 1);
    set->held &= ~(1u << byte);
    lks_mutex_unlock(&set->mutex);
}

bool
lks_lockset_holds(struct lks_lockset *set, enum lks_lock_byte byte)
{
    bool holds;
    lks_mutex_lock(&set->mutex);
    holds = (set->held & (1u << byte)) != 0;
    lks_mutex_unlock(&set->mutex);
    return holds;
}

unsigned
lks_lockset_mode(struct lks_lockset *set, enum lks_lock_byte byte)
{
    unsigned mode = 0;
    lks_mutex_lock(&set->mutex);
    if (set->held & (1u << byte))
        mode = set->exclusive & (1u << byte) ? 2 : 1;
    lks_mutex_unlock(&set->mutex);
    return mode;
}

enum lockstep_status
lks_lockset_holder(struct lks_lockset *set, uint32_t byte, enum lks_lock_type type, int32_t *out_pid)
{
    enum lockstep_status status;
    *out_pid = 0;
    if (is_implied(set, byte))
        return LOCKSTEP_OK;
    status = lks_bytelock_holder(set->coord_fd, LKS_LOCK_PROCESS, type, offset_of(byte), 1, out_pid);
    lks_fence();
    return status;
}

enum lockstep_status
lks_lockset_others(struct lks_lockset *set, enum lks_lock_byte byte, enum lks_lock_type type,
                   bool *out_others)
{
    int32_t pid = 0;
    enum lockstep_status status =
        lks_bytelock_holder(set->coord_fd, LKS_LOCK_PROCESS, type, offset_of(byte), 1, &pid);
    if (status == LOCKSTEP_OK)
        *out_others = pid != 0;
    lks_fence();
    return status;
}

enum lockstep_status
lks_lockset_take_client(struct lks_lockset *set, uint32_t client)
{
    enum lockstep_status status = LOCKSTEP_OK;
    if (!is_implied(set, LKS_BYTE_CLIENT0 + client))
        status = lks_bytelock_try(set->coord_fd, LKS_LOCK_PROCESS, LKS_LOCK_EXCLUSIVE,
                                  offset_of(LKS_BYTE_CLIENT0 + client), 1);
    lks_fence();
    return status;
}

void
lks_lockset_drop_client(struct lks_lockset *set, uint32_t client)
{
    lks_fence();
    if (!is_implied(set, LKS_BYTE_CLIENT0 + client))
        lks_bytelock_release(set->coord_fd, LKS_LOCK_PROCESS, offset_of(LKS_BYTE_CLIENT0 + client), 1);
}

bool
lks_lockset_client_lives(struct lks_lockset *set, uint32_t client)
{
    int32_t pid = 0;
    enum lockstep_status status;
    if (set->alone)
        return true; /* it is this process */
    status = lks_bytelock_holder(set->coord_fd, LKS_LOCK_PROCESS, LKS_LOCK_EXCLUSIVE,
                                 offset_of(LKS_BYTE_CLIENT0 + client), 1, &pid);
    lks_fence();
    /* When the system will not say, nobody is declared dead. */
    return status != LOCKSTEP_OK || pid != 0;
}

enum lockstep_status
lks_lockset_stock_share(struct lks_lockset *set)
{
    enum lockstep_status status = lks_bytelock_try(
        set->database_fd, LKS_LOCK_DESCRIPTION, LKS_LOCK_SHARED,
        LKS_SQLITE_SHARED_FIRST + LKS_SQLITE_SHARED_SIZE - 1, 1);
    if (status == LOCKSTEP_OK)
        set->stock_shared = true;
    return status;
}

enum lockstep_status
lks_lockset_stock_reserve(struct lks_lockset *set)
{
    enum lockstep_status status;
    if (set->stock_reserved)
        return LOCKSTEP_OK;
    status = lks_bytelock_try(set->database_fd, LKS_LOCK_DESCRIPTION, LKS_LOCK_EXCLUSIVE,
                              LKS_SQLITE_RESERVED, 1);
    if (status == LOCKSTEP_OK)
        set->stock_reserved = true;
    return status;
}

static enum lockstep_status
exclude_once(struct lks_lockset *set)
{
    return lks_bytelock_try(set->database_fd, LKS_LOCK_DESCRIPTION, LKS_LOCK_EXCLUSIVE,
                            LKS_SQLITE_SHARED_FIRST, LKS_SQLITE_SHARED_SIZE - 1);
}

enum lockstep_status
lks_lockset_stock_exclude(struct lks_lockset *set, uint32_t wait_ms)
{
    enum lockstep_status status;
    uint32_t waited_ms = 0;
    if (set->stock_excluded)
        return LOCKSTEP_OK;
    /* PENDING keeps new readers out while those inside finish.  A stock reader holds it for an instant. */
    do {
        status = lks_bytelock_try(set->database_fd, LKS_LOCK_DESCRIPTION, LKS_LOCK_EXCLUSIVE,
                                  LKS_SQLITE_PENDING, 1);
        if (status != LOCKSTEP_BUSY)
            break;
        lks_clock_nap_ms(1);
    } while (waited_ms++ < wait_ms);
    if (status != LOCKSTEP_OK)
        return status;
    while ((status = exclude_once(set)) == LOCKSTEP_BUSY && waited_ms++ < wait_ms)
        lks_clock_nap_ms(1);
    if (status == LOCKSTEP_OK)
        set->stock_excluded = true;
    else
        lks_bytelock_release(set->database_fd, LKS_LOCK_DESCRIPTION, LKS_SQLITE_PENDING, 1);
    return status;
}

void
lks_lockset_stock_admit(struct lks_lockset *set)
{
    if (!set->stock_excluded)
        return;
    lks_bytelock_release(set->database_fd, LKS_LOCK_DESCRIPTION, LKS_SQLITE_SHARED_FIRST,
                         LKS_SQLITE_SHARED_SIZE - 1);
    lks_bytelock_release(set->database_fd, LKS_LOCK_DESCRIPTION, LKS_SQLITE_PENDING, 1);
    set->stock_excluded = false;
}

/* PENDING for a moment: whoever holds it waits for the readers inside. */
static enum lockstep_status
read_once(struct lks_lockset *set)
{
    enum lockstep_status status = lks_bytelock_try(set->database_fd, LKS_LOCK_DESCRIPTION, LKS_LOCK_SHARED,
                                                   LKS_SQLITE_PENDING, 1);
    if (status != LOCKSTEP_OK)
        return status;
    if (set->stock_readers == 0)
        status = lks_bytelock_try(set->database_fd, LKS_LOCK_DESCRIPTION, LKS_LOCK_SHARED, LKS_SQLITE_SHARED_FIRST, 1);
    lks_bytelock_release(set->database_fd, LKS_LOCK_DESCRIPTION, LKS_SQLITE_PENDING, 1);
    return status;
}

enum lockstep_status
lks_lockset_stock_read(struct lks_lockset *set, uint32_t wait_ms)
{
    uint32_t waited_ms = 0;
    enum lockstep_status status;
    for (;;) {
        lks_mutex_lock(&set->mutex);
        assert(!set->stock_excluded);
        status = read_once(set);
        if (status == LOCKSTEP_OK)
            set->stock_readers++;
        lks_mutex_unlock(&set->mutex);
        if (status != LOCKSTEP_BUSY || waited_ms++ >= wait_ms)
            return status;
        lks_clock_nap_ms(1);
    }
}

void
lks_lockset_stock_unread(struct lks_lockset *set)
{
    lks_mutex_lock(&set->mutex);
    assert(set->stock_readers > 0);
    if (--set->stock_readers == 0)
        lks_bytelock_release(set->database_fd, LKS_LOCK_DESCRIPTION, LKS_SQLITE_SHARED_FIRST, 1);
    lks_mutex_unlock(&set->mutex);
}

void
lks_lockset_stock_unreserve(struct lks_lockset *set)
{
    if (set->stock_reserved)
        lks_bytelock_release(set->database_fd, LKS_LOCK_DESCRIPTION, LKS_SQLITE_RESERVED, 1);
    set->stock_reserved = false;
}

void
lks_lockset_stock_release(struct lks_lockset *set)
{
    lks_lockset_stock_admit(set);
    lks_lockset_stock_unreserve(set);
    if (set->stock_shared)
        lks_bytelock_release(set->database_fd, LKS_LOCK_DESCRIPTION,
                             LKS_SQLITE_SHARED_FIRST + LKS_SQLITE_SHARED_SIZE - 1, 1);
    set->stock_shared = false;
}
