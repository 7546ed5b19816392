/*
 * Power cuts, made from a record (recorder_vfs.h).
 *
 * The record is gone through from the start.  At instants between two entries, the machine "goes down", and
 * what may then be on the disk is put together:
 *
 *   - what was written to a file before its last sync is there;
 *   - of each later write any sectors of 512 bytes may be there, in any order;
 *   - a later truncation may be there or not; a file that grew by a lost write may have its old length, zeros,
 *     or rubbish in the new part;
 *   - a name leads to what it led to at the last sync of the directory, or at any time since;
 *   - after a failed sync the kernel calls the file's pages clean: what was unsynced then is there or not, and
 *     later syncs do not change that.
 *
 * A mutant leaves out all syncs of one kind, as if the library had not asked for them.
 */
#ifndef TESTS_POWERCUT_REPLAY_H
#define TESTS_POWERCUT_REPLAY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "powercut/recorder_vfs.h"

enum replay_sync {
    REPLAY_NOTHING,
    REPLAY_JOURNAL_RECORDS,    /* the journal's header is zeros */
    REPLAY_JOURNAL_HEADER,     /* it becomes valid */
    REPLAY_DATABASE,           /* the pages of the batch */
    REPLAY_JOURNAL_INVALIDATE, /* the header is zeros again */
    REPLAY_DIRECTORY,          /* the journal's name */
    REPLAY_SYNCS
};

struct replay_bytes {
    unsigned char *bytes; /* NULL: there is no such file */
    size_t size;
};

struct replay_image {
    struct replay_bytes file[RECORDER_ROLES];
    int64_t durable;  /* the newest commit acknowledged as durable before the cut, HISTORY_NONE: none */
    uint64_t entry;   /* the cut is before this entry of the record */
    uint64_t number;  /* of the image */
    const char *kind; /* how it was made */
};

struct replay_plan {
    uint64_t seed;
    enum replay_sync left_out;
    /* Of a thousand syncs so many are looked at: two images, and so many random ones. */
    unsigned syncs_per_mille, at_sync;
    /* Of a thousand other entries so many: one random image. */
    unsigned elsewhere_per_mille;
    unsigned most; /* images */
    /* Returns false to stop. */
    bool (*check)(const struct replay_image *image, void *arg);
    void *arg;
};

/* What the record was like. */
struct replay_result {
    uint64_t images;  /* that differed from the one before */
    uint64_t entries;
    uint64_t syncs[REPLAY_SYNCS]; /* seen of each kind, left out or not; [0] is the others */
    bool stopped;     /* by check */
};

/* For messages. */
const char *replay_sync_name(enum replay_sync sync);
struct replay_result replay(const struct replay_plan *plan);

#endif
