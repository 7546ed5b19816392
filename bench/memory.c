#include "bench/memory.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* The number behind `key` in /proc/PID/FILE, in lines such as "VmHWM:     5420 kB". */
static uint64_t
proc_kib(pid_t pid, const char *file, const char *key)
{
    char path[64];
    char line[256];
    uint64_t kib = 0;
    snprintf(path, sizeof(path), "/proc/%d/%s", (int)pid, file);
    FILE *stream = fopen(path, "re");
    if (stream == NULL)
        return 0;
    size_t length = strlen(key);
    while (fgets(line, sizeof(line), stream) != NULL) {
        if (strncmp(line, key, length) == 0 && line[length] == ':') {
            if (sscanf(line + length + 1, "%" SCNu64, &kib) != 1)
                kib = 0;
            break;
        }
    }
    fclose(stream);
    return kib;
}

uint64_t
bench_memory_peak_kib(pid_t pid)
{
    return proc_kib(pid, "status", "VmHWM");
}

uint64_t
bench_memory_resident_kib(pid_t pid)
{
    return proc_kib(pid, "status", "VmRSS");
}

uint64_t
bench_memory_pss_kib(pid_t pid)
{
    return proc_kib(pid, "smaps_rollup", "Pss");
}
