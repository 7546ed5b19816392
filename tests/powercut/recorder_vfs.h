/*
 * The VFS "recorder", over "unix": keeps what is done to one database and its journal, in order: every write,
 * truncate, create, delete and sync.  Other files pass through.
 *
 * Directory syncs are recorded where SQLite's unix VFS does them: with the first xSync of a journal that was
 * opened for creating, and in xDelete when it is asked for.  Syncs are not done, of no file: the power cut is
 * made from the record, see replay.h.
 *
 * The record lies in memory shared with processes that are forked after recorder_start(), under one mutex that
 * is held over the operation and its entry.
 */
#ifndef TESTS_POWERCUT_RECORDER_VFS_H
#define TESTS_POWERCUT_RECORDER_VFS_H

#include <stdint.h>

enum recorder_role { RECORDER_DATABASE, RECORDER_JOURNAL, RECORDER_ROLES };

enum recorder_kind {
    RECORDER_WRITE,       /* `size` bytes at `offset`; the data follows */
    RECORDER_TRUNCATE,    /* to `offset` bytes */
    RECORDER_CREATE,      /* the name of `role` leads to the new file `inode` */
    RECORDER_DELETE,      /* the name of `role` is gone */
    RECORDER_SYNC,        /* of the file */
    RECORDER_SYNC_FAILED, /* the kernel calls the pages clean now, on the disk or not */
    RECORDER_SYNC_DIR,    /* of all names */
    RECORDER_DURABLE      /* the program was told that commit `offset` is durable */
};

struct recorder_op {
    uint32_t kind;
    uint32_t role;
    uint32_t inode; /* a number for each file that was created, from 1 */
    uint32_t size;
    uint64_t offset;
};

/* A file control: a VFS above let the next sync of this file fail. */
#define RECORDER_CONTROL_SYNC_FAILED 0x4c4b5301

/* Registers it; once. */
void recorder_register(void);
/* A new record, of the database at this absolute path and its journal; neither may exist. */
void recorder_start(const char *database);
/* Notes that commit n was acknowledged as durable. */
void recorder_durable(int64_t n);
/* SIGKILL of this process, not in the middle of an operation. */
void recorder_die(void) __attribute__((noreturn));

/* The record: the entry after `op`, the first after NULL; NULL at the end. */
const struct recorder_op *recorder_next(const struct recorder_op *op);
const unsigned char *recorder_data(const struct recorder_op *op);

#endif
