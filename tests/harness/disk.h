/*
 * A small disk of the test's own, that can be full: a tmpfs in a mount namespace, which the test and its
 * children see and nobody else.
 */
#ifndef HARNESS_DISK_H
#define HARNESS_DISK_H

#include <stdbool.h>

/* Can one be mounted here, as root or as anybody?  Tries it in a child. */
bool disk_is_possible(void);
/* In a process of one thread: mounts it at `folder`, which is made, and is removed again. */
void disk_mount(const char *folder);
void disk_unmount(void);

/* Takes all of it but `left` bytes. */
void disk_fill(unsigned long left);
/* Gives that back. */
void disk_make_space(void);

#endif
