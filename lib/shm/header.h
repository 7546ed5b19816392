/* The coordination file's identity: made once, checked by everybody who joins. */
#ifndef LKS_SHM_HEADER_H
#define LKS_SHM_HEADER_H

#include "base/status.h"
#include "os/file.h"
#include "os/process.h"
#include "shm/layout.h"

/*
 * Makes a fresh file of `shm`, which is zeros: identity and state, nothing committed.  Holding DMS1, with
 * nobody connected.
 */
void lks_header_make(struct lks_shm *shm, const struct lks_file_id *database,
                     const char boot_id[LKS_BOOT_ID_SIZE], uint32_t unit_log2);

enum lks_header_verdict {
    LKS_HEADER_GOOD,
    LKS_HEADER_EMPTY,     /* no identity was ever finished: nothing to lose */
    LKS_HEADER_DAMAGED,   /* truncated, scribbled or not ours at all */
    LKS_HEADER_FORMAT,    /* made by another version, or a build that lays it out differently */
    LKS_HEADER_BYTE_ORDER, /* made on a machine with the other byte order */
    LKS_HEADER_WORD_BITS,  /* made by a build with 32 bits where this one has 64, or the other way round */
    LKS_HEADER_OTHER_BOOT,
    LKS_HEADER_OTHER_FILE, /* belongs to another database */
    LKS_HEADER_ALONE /* the mark of a process in single-process mode: nothing is in it */
};

/*
 * What the file consists of while a process uses the database alone, with its memory elsewhere.  It says only
 * that: who is killed so leaves it behind, and no commits.
 */
#define LKS_HEADER_ALONE_MARK "Lockstep alone\n" /* 16 bytes with its NUL */
#define LKS_HEADER_ALONE_BYTES sizeof LKS_HEADER_ALONE_MARK

/* `file_bytes` is the file's size: nothing beyond it is touched. */
enum lks_header_verdict lks_header_check(const struct lks_shm *shm, uint64_t file_bytes,
                                         const struct lks_file_id *database,
                                         const char boot_id[LKS_BOOT_ID_SIZE]);
/* Was it made by a build that may not be mixed with this one?  It may be whole, and then that build can use it. */
bool lks_header_foreign(enum lks_header_verdict verdict);
/* Of a file with an identity, foreign or not: is it from this boot? */
bool lks_header_is_of_boot(const struct lks_shm *shm, const char boot_id[LKS_BOOT_ID_SIZE]);
/* The verdict in words, to end a sentence about the file. */
const char *lks_header_words(enum lks_header_verdict verdict);

#endif
