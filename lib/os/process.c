#include "os/process.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "os/file.h"

static size_t
read_small(const char *path, char *buf, size_t capacity)
{
    size_t n = 0;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return 0;
    while (n + 1 < capacity) {
        ssize_t got = read(fd, buf + n, capacity - 1 - n);
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            break;
        n += (size_t)got;
    }
    close(fd);
    buf[n] = '\0';
    return n;
}

/* The program's name may hold spaces and brackets: what counts begins after the last ')'. */
static const char *
after_name(const char *stat_line)
{
    const char *end = strrchr(stat_line, ')');
    return end != NULL && end[1] == ' ' ? end + 2 : NULL;
}

void
lks_process_self(struct lks_process *out_process)
{
    char line[1024];
    struct stat st;
    memset(out_process, 0, sizeof *out_process);
    out_process->pid = (int32_t)getpid();
    if (read_small("/proc/self/stat", line, sizeof line) > 0) {
        const char *p = after_name(line);
        int field = 3;
        while (p != NULL && field < 22) {
            p = strchr(p, ' ');
            p = p != NULL ? p + 1 : NULL;
            field++;
        }
        if (p != NULL)
            out_process->start_time = strtoull(p, NULL, 10);
    }
    if (stat("/proc/self/ns/pid", &st) == 0)
        out_process->pid_namespace = (uint64_t)st.st_ino;
    if (read_small("/proc/self/comm", line, sizeof line) > 0) {
        line[strcspn(line, "\n")] = '\0';
        memcpy(out_process->program, line, strnlen(line, sizeof out_process->program - 1));
    }
}

enum lockstep_status
lks_process_boot_id(char out_id[LKS_BOOT_ID_SIZE])
{
    char line[64];
    if (read_small("/proc/sys/kernel/random/boot_id", line, sizeof line) < 36) {
        lks_os_set_errno(ENOENT);
        return LOCKSTEP_CANTOPEN;
    }
    memset(out_id, 0, LKS_BOOT_ID_SIZE);
    memcpy(out_id, line, 36);
    return LOCKSTEP_OK;
}

char
lks_process_state(int32_t pid)
{
    char path[40], line[1024];
    const char *p;
    snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    if (read_small(path, line, sizeof line) == 0)
        return 0;
    p = after_name(line);
    return p != NULL ? *p : 0;
}

int32_t
lks_process_thread(void)
{
    /* In a forked child this is the parent's thread: a hint for people, and handles do not work there. */
    static __thread int32_t id;
    if (id == 0)
        id = (int32_t)syscall(SYS_gettid);
    return id;
}
