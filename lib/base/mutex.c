#include "base/mutex.h"

#include <assert.h>
#include <stdlib.h>

#ifdef LKS_DEBUG
/* One bit a rank that this thread holds. */
static __thread uint32_t held_ranks;

static void
note_locked(const struct lks_mutex *m, bool tried)
{
    /* A failed try cannot deadlock, so only a blocking lock must respect the order. */
    if (!tried && (held_ranks >> m->rank) != 0)
        abort();
    held_ranks |= 1u << m->rank;
}

static void
note_unlocked(const struct lks_mutex *m)
{
    assert(held_ranks & (1u << m->rank));
    held_ranks &= ~(1u << m->rank);
}
#else
static void
note_locked(const struct lks_mutex *m, bool tried)
{
    (void)m;
    (void)tried;
}

static void
note_unlocked(const struct lks_mutex *m)
{
    (void)m;
}
#endif

void
lks_mutex_init(struct lks_mutex *m, enum lks_mutex_rank rank)
{
    m->rank = rank;
    if (pthread_mutex_init(&m->mutex, NULL) != 0)
        abort();
}

void
lks_mutex_destroy(struct lks_mutex *m)
{
    pthread_mutex_destroy(&m->mutex);
}

void
lks_mutex_lock(struct lks_mutex *m)
{
    note_locked(m, false);
    if (pthread_mutex_lock(&m->mutex) != 0)
        abort();
}

bool
lks_mutex_trylock(struct lks_mutex *m)
{
    if (pthread_mutex_trylock(&m->mutex) != 0)
        return false;
    note_locked(m, true);
    return true;
}

void
lks_mutex_unlock(struct lks_mutex *m)
{
    note_unlocked(m);
    if (pthread_mutex_unlock(&m->mutex) != 0)
        abort();
}
