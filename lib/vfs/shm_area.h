/*
 * A shared area that connections cannot address: read and written by calls.
 *
 * The file (shm_file.c) and the heap (shm_heap.c) are such.  What is written in aligned pieces of 8 bytes is never seen in
 * part by a reader of the same pieces; calls that follow each other, with a fence between, are seen in that order.
 */
#ifndef LKS_VFS_SHM_AREA_H
#define LKS_VFS_SHM_AREA_H

#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

struct lks_shm_area {
    /* IOERR also if it is not so large: a region that is there never goes, unless somebody cuts the file off. */
    enum lockstep_status (*read)(struct lks_shm_area *area, uint64_t offset, void *buf, size_t size_bytes);
    enum lockstep_status (*write)(struct lks_shm_area *area, uint64_t offset, const void *buf,
                                  size_t size_bytes);
    enum lockstep_status (*size)(struct lks_shm_area *area, uint64_t *out_size_bytes);
    /* At least so large, with zeros; FULL if there is no space. */
    enum lockstep_status (*extend)(struct lks_shm_area *area, uint64_t size_bytes);
};

#endif
