/* What a lock means, in words for the person who looks: fills `detail` of locks otherwise complete. */
#ifndef LKS_COORD_MEANING_H
#define LKS_COORD_MEANING_H

#include <stdbool.h>
#include <stddef.h>

#include <lockstep/inspect.h>

#include "coord/walindex.h"

/* reserved: handed to the next in line, who has not come for it yet.  dead: the process has died. */
void lks_meaning_writer(bool reserved, bool dead, size_t waiters, struct lockstep_lock_view *lock);
void lks_meaning_waiter(uint32_t place, bool dead, struct lockstep_lock_view *lock);
void lks_meaning_snapshot(bool worker, bool wal, uint64_t behind, bool dead, struct lockstep_lock_view *lock);
void lks_meaning_client(uint32_t connections, bool readonly, struct lockstep_lock_view *lock);

/* All the byte-range locks of a database; what one means may depend on what its holder has besides. */
void lks_meaning_of_byte_locks(struct lockstep_lock_view *locks, size_t count,
                               const struct lockstep_client_view *clients, size_t client_count);

/* READ0 to READ4 of the -shm file: which frame each reader's mark is at, and what it keeps from being written back. */
void lks_meaning_of_read_marks(struct lockstep_lock_view *locks, size_t count,
                               const struct lks_walindex *index);
/* A client that syncs the log for all who wait. */
void lks_meaning_sync(bool dead, struct lockstep_lock_view *lock);

#endif
