/*
 * The name of what an application keeps in the file.
 *
 * The coordination file has it (app_format in shm/layout.h), from the client that made it, and whoever connects with
 * another name is refused: two storage engines that take each other's bytes for their own would destroy both.  The
 * name comes from the options, or from the application's callback, or it is "", which is a name like any other.
 *
 * It is of the coordination file, so it lives as long as somebody is connected or commits wait; it is not written into
 * the file.  A file that dead processes left and in which nothing waits is replaced, whatever its name.
 */
#ifndef LKS_COORD_FORMAT_H
#define LKS_COORD_FORMAT_H

#include <stdbool.h>

#include "base/status.h"
#include "coord/database.h"

#define LKS_FORMAT_SIZE LOCKSTEP_FORMAT_SIZE

/* Is it a name: does it end? */
bool lks_format_is_name(const char name[LKS_FORMAT_SIZE]);
/* What the coordination file says, printable or not. */
void lks_format_stored(const struct lks_shm *shm, char out_name[LKS_FORMAT_SIZE]);
/* This process's name where others say `stored`: FORMAT if it is another one, or the callback's error. */
LKS_CHECKED enum lockstep_status lks_format_match(struct lockstep_db *db, const char stored[LKS_FORMAT_SIZE]);
/* The same of the coordination file that is mapped, which others are connected through, or have left.  Logs. */
LKS_CHECKED enum lockstep_status lks_format_check(struct lockstep_db *db, const char *whose);
/* Names a coordination file that is new.  Holding DMS1, nobody else connected, the database as of its last commit. */
LKS_CHECKED enum lockstep_status lks_format_make(struct lockstep_db *db);
/* The name that this process uses for it, as far as it is known before it is attached. */
const char *lks_format_in_use(const struct lockstep_db *db);
/* May one who opens it with these options share the Database with those who have it open in this process? */
bool lks_format_shares(const struct lockstep_db *db, const struct lockstep_options *options);

#endif
