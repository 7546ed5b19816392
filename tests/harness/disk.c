#include "harness/disk.h"

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/wait.h>
#include <unistd.h>

#define SIZE "size=24m"

static char mounted[4200];

static bool
write_text(const char *path, const char *text)
{
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    bool good = fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text);
    if (fd >= 0)
        close(fd);
    return good;
}

/* Who has no right to mount has it in a user namespace of his own, as its root: user_namespaces(7). */
static bool
become_root(void)
{
    unsigned uid = (unsigned)getuid(), gid = (unsigned)getgid();
    char user[40], group[40];
    snprintf(user, sizeof user, "0 %u 1", uid);
    snprintf(group, sizeof group, "0 %u 1", gid);
    return unshare(CLONE_NEWUSER | CLONE_NEWNS) == 0 && write_text("/proc/self/setgroups", "deny") &&
           write_text("/proc/self/uid_map", user) && write_text("/proc/self/gid_map", group);
}

static bool
mount_at(const char *folder)
{
    if (unshare(CLONE_NEWNS) != 0 && !become_root())
        return false;
    return mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0 &&
           (mkdir(folder, 0777) == 0 || errno == EEXIST) && mount("none", folder, "tmpfs", 0, SIZE) == 0;
}

bool
disk_is_possible(void)
{
    char folder[] = "/tmp/lks-disk-XXXXXX";
    int status;
    pid_t pid;
    if (mkdtemp(folder) == NULL)
        return false;
    pid = fork();
    if (pid == 0) {
        char file[sizeof folder + 10];
        int fd;
        if (!mount_at(folder))
            _exit(1);
        snprintf(file, sizeof file, "%s/a", folder);
        fd = open(file, O_WRONLY | O_CREAT | O_CLOEXEC, 0666);
        _exit(fd >= 0 ? 0 : 1);
    }
    status = pid > 0 && waitpid(pid, &status, 0) == pid ? status : 1;
    rmdir(folder);
    return status == 0;
}

void
disk_mount(const char *folder)
{
    ck_assert(strlen(folder) < sizeof mounted);
    strcpy(mounted, folder);
    ck_assert_msg(mount_at(folder), "%s: %s", folder, strerror(errno));
}

void
disk_unmount(void)
{
    umount2(mounted, MNT_DETACH);
    rmdir(mounted);
}

static unsigned long
free_bytes(void)
{
    struct statvfs disk;
    ck_assert_int_eq(statvfs(mounted, &disk), 0);
    return disk.f_bfree * disk.f_bsize;
}

static const char *
filler(void)
{
    static char path[sizeof mounted + 10];
    snprintf(path, sizeof path, "%s/filler", mounted);
    return path;
}

void
disk_fill(unsigned long left)
{
    int fd = open(filler(), O_WRONLY | O_CREAT | O_CLOEXEC, 0666);
    unsigned long room = free_bytes();
    ck_assert_int_ge(fd, 0);
    ck_assert_uint_gt(room, left);
    ck_assert_int_eq(posix_fallocate(fd, 0, (off_t)(room - left)), 0);
    close(fd);
    ck_assert_uint_le(free_bytes(), left);
}

void
disk_make_space(void)
{
    ck_assert_int_eq(unlink(filler()), 0);
}
