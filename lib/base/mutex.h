/*
 * Mutexes with ranks.  A thread takes them in rising rank; debug builds abort when it does not.
 */
#ifndef LKS_BASE_MUTEX_H
#define LKS_BASE_MUTEX_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

enum lks_mutex_rank {
    LKS_RANK_REGISTRY = 1, /* the list of databases */
    LKS_RANK_ATTACH = 2,   /* one database: attach and detach */
    LKS_RANK_BATCH = 3,    /* one database: writing behind, in this process */
    LKS_RANK_WORKER = 4,   /* one database: the worker thread's state */
    LKS_RANK_REAP = 5,     /* one database: clearing what a dead client left */
    LKS_RANK_LOCKSET = 6,  /* one database: fcntl locks and who in this process has them */
    LKS_RANK_FILES = 7,    /* the VFS's list of open files */
    LKS_RANK_RUNNER = 8,   /* what sqlite3async_run() knows: taken within a batch, too */
    LKS_RANK_PASSING = 9   /* descriptors that are open for a moment: lks_registry_pass() */
};

struct lks_mutex {
    pthread_mutex_t mutex;
    enum lks_mutex_rank rank;
};

void lks_mutex_init(struct lks_mutex *m, enum lks_mutex_rank rank);
void lks_mutex_destroy(struct lks_mutex *m);
void lks_mutex_lock(struct lks_mutex *m);
bool lks_mutex_trylock(struct lks_mutex *m);
void lks_mutex_unlock(struct lks_mutex *m);

#define LKS_MUTEX_INITIALIZER(RANK) {PTHREAD_MUTEX_INITIALIZER, RANK}

#endif
