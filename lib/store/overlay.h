/*
 * A file as it would be if it were written: what is written is kept in memory, over a file that is only read.
 *
 * The caller sees to it that nobody writes the file meanwhile.  Used by one thread at a time.
 */
#ifndef LKS_STORE_OVERLAY_H
#define LKS_STORE_OVERLAY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

struct lks_overlay;

/* Over the file behind `fd`, which stays the caller's. */
LKS_CHECKED enum lockstep_status lks_overlay_new(int fd, struct lks_overlay **out);
void lks_overlay_free(struct lks_overlay *overlay);

uint64_t lks_overlay_size(const struct lks_overlay *overlay);
/* Fewer than size bytes only at the end. */
LKS_CHECKED enum lockstep_status lks_overlay_read(struct lks_overlay *overlay, uint64_t offset, void *buf, size_t size,
                                                  size_t *out_read);
LKS_CHECKED enum lockstep_status lks_overlay_write(struct lks_overlay *overlay, uint64_t offset, const void *buf,
                                                   size_t size);
/* What comes back by making it longer again is zeros. */
void lks_overlay_resize(struct lks_overlay *overlay, uint64_t size);

/* lks_journal_read_back() into the overlay: the journal at `path` is read, and stays as it is. */
LKS_CHECKED enum lockstep_status lks_overlay_roll_back(struct lks_overlay *overlay, const char *path,
                                                       bool *out_rolled_back);

#endif
