/*
 * Cutting the file at the last byte that the application uses, by the last client that leaves.
 *
 * As LSM1 does (dbTruncateFile() in lsm_shared.c): under DMS1, when nobody else writes and all is written behind, and not
 * beside clients that only read, connected (DMS3) or not (SQLite's SHARED lock).
 *
 * What is cut off was declared unused, so it is not put into the journal.  Hence first everything committed is made
 * durable, with OFF too, and the journal cold, durably: no power cut brings back a state that used what is cut off.  Then the
 * file is cut, and synced.
 *
 * Death: before the cut the next client adopts the coordination file, in which nothing waits; after it that does not fit
 * the file, and is replaced, for nothing waits in it.  Whoever leaves last then does it again, which does no harm.
 */
#ifndef LKS_STORE_SHORTEN_H
#define LKS_STORE_SHORTEN_H

#include "base/status.h"
#include "coord/database.h"

/*
 * The hook of coord/database.h: drained, DMS1 held, nobody else connected.  If the application does not say, or somebody reads
 * the file, it stays as it is; if the system refuses, the log says so.  A file that is too long is right all the same.
 */
void lks_shorten(struct lockstep_db *db);

#endif
