/* Who a process is, in words that outlive its pid. */
#ifndef LKS_OS_PROCESS_H
#define LKS_OS_PROCESS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/status.h"

#define LKS_BOOT_ID_SIZE 40
#define LKS_PROGRAM_SIZE 32

struct lks_process {
    int32_t pid;
    uint64_t start_time; /* field 22 of /proc/PID/stat, clock ticks since boot */
    uint64_t pid_namespace; /* inode of /proc/self/ns/pid */
    char program[LKS_PROGRAM_SIZE];
};

/* This process.  Reads /proc; a /proc that is not there leaves zeros. */
void lks_process_self(struct lks_process *out_process);
/* The kernel's id of this boot, NUL-terminated. */
enum lockstep_status lks_process_boot_id(char out_id[LKS_BOOT_ID_SIZE]);
/* State letter of a process of our pid namespace ('T' stopped, 'S' sleeping, ...), 0 if it is gone. */
char lks_process_state(int32_t pid);
/* The calling thread's id. */
int32_t lks_process_thread(void);

#endif
