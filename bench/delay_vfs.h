/*
 * A slow disk: a VFS over the `unix` VFS whose syncs take some time longer.
 */
#ifndef BENCH_DELAY_VFS_H
#define BENCH_DELAY_VFS_H

#include <stdint.h>

#define BENCH_DELAY_VFS_NAME "bench-delay"

/*
 * Registers it, not as the default.  Each xSync, and each xDelete that must reach the directory,
 * sleeps `sync_us` microseconds first and then does what was asked.  Returns an SQLite result code.  Once a
 * process.
 */
int bench_delay_vfs_register(uint32_t sync_us);

/* Delayed syncs so far in this process.  Thread-safe. */
uint64_t bench_delay_vfs_syncs(void);

#endif
