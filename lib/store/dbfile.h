/*
 * The database file as the worker sees it: opening it through the store's io, what its header says, and the
 * tripwire.
 *
 * The tripwire: while commits may be pending, byte 18 of the file (SQLite's "write version") is 3, which
 * the file format defines as "may be read, not written".  So stock SQLite cannot change the file between a
 * kill of all clients and their return.  It is put there when the first writer begins (an empty file has no
 * such byte: there the VFS lets COMMIT wait for the first batch), written with every batch, and taken back
 * by the last client.  Above the store nobody sees it.  In single-process mode there is none: what was
 * pending when the process died is gone, so nobody can spoil it.
 *
 * All calls but those on buffers: holding batch_mutex, or DMS1 while nobody else is there.
 */
#ifndef LKS_STORE_DBFILE_H
#define LKS_STORE_DBFILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"
#include "coord/database.h"

LKS_CHECKED enum lockstep_status lks_dbfile_open(struct lockstep_db *db);
void lks_dbfile_close(struct lockstep_db *db);
/* Does the name still lead to the file?  Else its journal would lie beside another one: IOERR. */
LKS_CHECKED enum lockstep_status lks_dbfile_check_place(struct lockstep_db *db);
/* What lies beyond the file's end is zeros. */
LKS_CHECKED enum lockstep_status lks_dbfile_read(struct lockstep_db *db, uint64_t offset, void *buf,
                                                 size_t size);
/* From SQLite's header: the page size, `otherwise` if there is none; and what lks_dbfile_counter() says. */
LKS_CHECKED enum lockstep_status lks_dbfile_look(struct lockstep_db *db, uint32_t otherwise,
                                                 uint32_t *out_page_size, uint64_t *out_counter);
/* What changes with every commit of SQLite's: change counter << 32 | version-valid-for; 0 without header. */
LKS_CHECKED enum lockstep_status lks_dbfile_counter(struct lockstep_db *db, uint64_t *out_counter);
/* The same of a buffer that holds the start of the file. */
uint64_t lks_dbfile_counter_in(const void *start, size_t size);
uint32_t lks_dbfile_page_size_in(const void *start, size_t size, uint32_t otherwise);
/* Rolls back a hot journal, whoever left it.  Stock readers are excluded. */
LKS_CHECKED enum lockstep_status lks_dbfile_rollback(struct lockstep_db *db, bool *out_rolled_back);
/* Writes byte 18 if the file is SQLite's and has another value there. */
LKS_CHECKED enum lockstep_status lks_dbfile_trip(struct lockstep_db *db, bool tripped, bool sync);

/* Does a file that begins so belong to SQLite, and does this stretch of it hold byte 18? */
#define LKS_DBFILE_MAGIC_BYTES 16u
bool lks_dbfile_is_sqlite(const unsigned char start[LKS_DBFILE_MAGIC_BYTES]);
bool lks_dbfile_has_tripwire(uint64_t offset, size_t size);
/* In a buffer of file content at `offset`: 3 becomes 1, or 1 becomes 3. */
void lks_dbfile_hide_tripwire(uint64_t offset, void *buf, size_t size);
void lks_dbfile_set_tripwire(uint64_t offset, void *buf, size_t size);

#endif
