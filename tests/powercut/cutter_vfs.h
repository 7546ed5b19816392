/*
 * The VFS "cutter", over "unix": a database in WAL mode on a disk whose power may fail at any write.
 *
 * Of the database file and of its log it keeps what is on the disk (as of the last sync) and what was written since.  At
 * a share of the writes, and around each sync, an image is put together: of what was written since the last sync any
 * sectors of 512 bytes may be there; the file may have its old length or a new one.  Syncs are not done; a sync
 * of the log may be left out, as by a disk that lies, or fail.
 *
 * One process, any number of threads; one mutex is held over an operation and its image.
 */
#ifndef TESTS_POWERCUT_CUTTER_VFS_H
#define TESTS_POWERCUT_CUTTER_VFS_H

#include <stdbool.h>
#include <stdint.h>

/* Called with the image in the files `database` and `database`-wal; false: stop cutting. */
typedef bool (*cutter_check)(const char *database, void *arg);

/* Once. */
void cutter_register(void);
/* per_mille of the writes get an image. */
void cutter_start(const char *database, const char *image, uint64_t seed, unsigned per_mille,
                  cutter_check check, void *arg);
/* Every sync of the log but those of its header has no effect from here on. */
void cutter_lie(bool lie);
/* No images any more. */
void cutter_stop(void);
uint64_t cutter_images(void);
/* Runs `note` while no operation is under way. */
void cutter_note(void (*note)(void *arg), void *arg);

#endif
