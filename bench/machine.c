#include "bench/machine.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <mntent.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "bench/histogram.h"
#include "bench/message.h"
#include "bench/moment.h"

#define SYNCS 30

static void
processor_name(char *out_name, size_t size)
{
    char line[256];
    snprintf(out_name, size, "unknown");
    FILE *file = fopen("/proc/cpuinfo", "re");
    if (file == NULL)
        return;
    while (fgets(line, sizeof(line), file) != NULL) {
        char *value = strchr(line, ':');
        if (strncmp(line, "model name", 10) == 0 && value != NULL) {
            value[strcspn(value, "\n")] = '\0';
            snprintf(out_name, size, "%s", value + 2);
            break;
        }
    }
    fclose(file);
}

/* The type of the mount whose path is the longest that leads to the directory. */
static void
filesystem_type(const char *directory, char *out_type, size_t size)
{
    char real[PATH_MAX];
    struct mntent entry;
    char buffer[4096];
    size_t longest = 0;
    snprintf(out_type, size, "unknown");
    FILE *mounts = setmntent("/proc/self/mounts", "re");
    if (mounts == NULL)
        return;
    if (realpath(directory, real) != NULL) {
        while (getmntent_r(mounts, &entry, buffer, sizeof(buffer)) != NULL) {
            size_t length = strlen(entry.mnt_dir);
            bool root = length == 1;
            if (strncmp(real, entry.mnt_dir, length) == 0 && length >= longest &&
                (root || real[length] == '/' || real[length] == '\0')) {
                snprintf(out_type, size, "%s", entry.mnt_type);
                longest = length;
            }
        }
    }
    endmntent(mounts);
}

/* Overwrites a page and waits for the disk, some times. */
static bool
time_syncs(const char *directory, struct bench_histogram *h)
{
    static const char page[4096];
    char path[PATH_MAX];
    bool ok = false;
    snprintf(path, sizeof(path), "%s/sync", directory);
    int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0)
        return bench_error("%s: %s", path, strerror(errno));
    bench_histogram_clear(h);
    /* The first one writes the file's size, too. */
    for (int i = 0; i <= SYNCS; i++) {
        uint64_t began_ns = bench_moment_ns();
        if (pwrite(fd, page, sizeof(page), 0) != (ssize_t)sizeof(page) || fdatasync(fd) != 0) {
            bench_error("%s: %s", path, strerror(errno));
            goto close_file;
        }
        if (i > 0)
            bench_histogram_add(h, bench_moment_ns() - began_ns);
    }
    ok = true;
close_file:
    close(fd);
    unlink(path);
    return ok;
}

bool
bench_machine_describe(struct bench_report *report, const char *directory)
{
    struct utsname name;
    char processor[128];
    char filesystem[32];
    struct bench_histogram syncs;
    if (!time_syncs(directory, &syncs))
        return false;
    processor_name(processor, sizeof(processor));
    filesystem_type(directory, filesystem, sizeof(filesystem));
    if (uname(&name) != 0)
        return bench_error("uname: %s", strerror(errno));
    bench_report_fact(report, "processors", "%ld of %s", sysconf(_SC_NPROCESSORS_ONLN), processor);
    bench_report_fact(report, "system", "%s %s %s", name.sysname, name.release, name.machine);
    bench_report_fact(report, "SQLite", "%s", sqlite3_libversion());
    bench_report_fact(report, "filesystem", "%s, fdatasync of one page %.3f ms (highest %.3f)",
                      filesystem, (double)bench_histogram_at(&syncs, 0.5) / 1e6,
                      (double)syncs.max_ns / 1e6);
    return true;
}
