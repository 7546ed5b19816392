/* The list of files to index, made by one walk through the tree. */
#ifndef FINDEX_WALK_H
#define FINDEX_WALK_H

#include "findex.h"

struct findex_entry {
    uint64_t path;      /* where its name begins in the text; ends with a zero byte */
    uint32_t directory; /* index of its directory */
};

struct findex_list {
    struct findex_entry *files;
    uint64_t *directories; /* where their names begin in the text */
    char *text;
    size_t n_files, n_directories, text_bytes;

    /* What is left out. */
    uint64_t links, special, unreadable;
    bool more; /* there are more files than were asked for */

    size_t files_room, directories_room, text_room;
};

/*
 * Regular files below the root, sorted by name within each directory, so that every run has the
 * same order.  Symbolic links are not followed, other filesystems not entered.  False after a
 * message, or when interrupted.  The list is empty before; findex_list_free() in any case.
 */
bool findex_walk(const struct findex_options *options, struct findex_list *out_list);
void findex_list_free(struct findex_list *list);

#endif
