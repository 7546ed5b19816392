/*
 * A coordination file made by hand, of the database `db` in the folder of the holders (holder.h), with real
 * processes that hold its locks.
 */
#ifndef TESTS_TOOLS_HANDMADE_H
#define TESTS_TOOLS_HANDMADE_H

#include "os/file.h"
#include "os/process.h"
#include "shm/layout.h"

#define NS_PER_S 1000000000ull

/* The file, mapped; its boot id; and when it was made. */
extern struct lks_shm *shm;
extern char boot_id[LKS_BOOT_ID_SIZE];
extern uint64_t begin_ns;

/* Starts holder A, who makes a database, and makes the file: commits 1 to 42 made, 40 flushed, 39 durable. */
void handmade_begin(void);
void handmade_finish(void);
struct lks_file_id database_id(void);

/* Holder `who` becomes client i, with its locks. */
void handmade_client(char who, uint32_t i);
/* What a client does: it reads a snapshot, owns the writer lock, waits for that. */
void handmade_reader(uint32_t slot, uint32_t client, uint64_t snapshot);
void handmade_writer(uint32_t client);
void handmade_waiter(uint32_t entry, uint32_t client, uint64_t sequence);

#endif
