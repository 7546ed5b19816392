/*
 * The VFS "cutter", over "unix": databases in WAL mode on a disk whose power may fail at any write.
 *
 * Of each database file and of its log it keeps what is on the disk (as of the last sync) and what was
 * written since.  At a share of the writes, and around each sync, an image of all of them is put together:
 * of what was written since the last sync any sectors of 512 bytes may be there; a file may have its old
 * length or a new one.  Syncs are not done; a sync of a log may be left out, as by a disk that lies, or
 * fail.
 *
 * One process, any number of threads; one mutex is held over an operation and its image.
 */
#ifndef TESTS_POWERCUT_CUTTER_VFS_H
#define TESTS_POWERCUT_CUTTER_VFS_H

#include <stdbool.h>
#include <stdint.h>

/* Called with an image in the files that cutter_add() was told, and their logs; false: stop cutting. */
typedef bool (*cutter_check)(void *arg);

/* Once. */
void cutter_register(void);
/* A database, before it is opened, and the file for its image; at most two.  Returns its number, from 0. */
unsigned cutter_add(const char *database, const char *image);
/* per_mille of the writes get an image, and twenty times as many of the syncs, before and after. */
void cutter_start(uint64_t seed, unsigned per_mille, cutter_check check, void *arg);
/* Every sync of that database's log but those of its header has no effect from here on. */
void cutter_lie(unsigned database);
/* No images any more. */
void cutter_stop(void);
uint64_t cutter_images(void);
/* Runs `note` while no operation is under way. */
void cutter_note(void (*note)(void *arg), void *arg);
/* The same, and then takes an image of what was synced, and of nothing else. */
void cutter_note_and_cut(void (*note)(void *arg), void *arg);

#endif
