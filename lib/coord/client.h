/* Who is connected, and what is cleared when one has died. */
#ifndef LKS_COORD_CLIENT_H
#define LKS_COORD_CLIENT_H

#include <lockstep/coord.h>

#include "base/status.h"
#include "coord/database.h"

/*
 * Is another copy of the library in this process connected to the file?  POSIX locks would not tell, and to open
 * and close the coordination file would drop that copy's; so the process's descriptors are asked, and before it is
 * opened.
 */
bool lks_client_another_copy(const struct lockstep_db *db);
/*
 * Takes a free entry, clearing what its last owner may have left.  Holding DMS1.  NOMEM: all are taken. */
enum lockstep_status lks_client_enter(struct lockstep_db *db);
void lks_client_leave(struct lockstep_db *db);
/*
 * exit() while others are connected: the entry says that nobody is here, if no transaction is open.  CLIENT is held
 * until the process ends, so nobody takes the entry before.
 */
void lks_client_retire(struct lockstep_db *db);
/* Clears what client i left, if it is dead.  True if it was.  Any thread, any time. */
bool lks_client_reap(struct lockstep_db *db, uint32_t client);
/* Reaps each dead client that has a slot below `snapshot`; true if there was one. */
bool lks_client_reap_readers(struct lockstep_db *db, uint64_t snapshot);
/* Entry i, without /proc.  False: it is free. */
bool lks_client_read(struct lockstep_db *db, uint32_t client, struct lockstep_client *out);
/* "program (pid 12, stopped)": for messages. */
void lks_client_describe(const struct lockstep_db *db, uint32_t client, char *out, size_t capacity);

#endif
