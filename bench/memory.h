/* How much memory a process uses, as the kernel counts it. */
#ifndef BENCH_MEMORY_H
#define BENCH_MEMORY_H

#include <stdint.h>
#include <sys/types.h>

/* The most that was resident at once, KiB (VmHWM of /proc/PID/status).  0: cannot be read. */
uint64_t bench_memory_peak_kib(pid_t pid);
/* Resident now, KiB (VmRSS). */
uint64_t bench_memory_resident_kib(pid_t pid);
/* Resident now with each shared page divided by its users, KiB (Pss of smaps_rollup). */
uint64_t bench_memory_pss_kib(pid_t pid);

#endif
