/*
 * What every VFS that lies over another one has in common: all calls go to the one below.  A test's VFS fills
 * its tables from here and then puts its own calls in.
 */
#ifndef TESTS_POWERCUT_SHIM_VFS_H
#define TESTS_POWERCUT_SHIM_VFS_H

#include <sqlite3.h>
#include <stddef.h>

/* Begins the struct of every file; the file of the VFS below follows that struct. */
struct shim_file {
    sqlite3_file base;
    sqlite3_file *real;
};

/* Version 1 of the methods: no mapped pages and no WAL. */
extern const sqlite3_io_methods shim_methods;

/* file_bytes: of the struct that begins with shim_file. */
void shim_fill(sqlite3_vfs *vfs, const char *name, sqlite3_vfs *below, size_t file_bytes);
sqlite3_vfs *shim_below(sqlite3_vfs *vfs);
/* Opens below; on success file->base.pMethods is `methods`, else NULL. */
int shim_open(sqlite3_vfs *vfs, const char *name, struct shim_file *file, size_t file_bytes,
              const sqlite3_io_methods *methods, int flags, int *out_flags);

#endif
