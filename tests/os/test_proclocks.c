/* Tests lib/os/proclocks.c and lockline.c: the lines, a /proc made by hand, and the kernel's own. */
#include "os/proclocks.h"

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

#include "os/statx.h"

#define NOBODY 65534
#define PATIENCE 1000 /* looks at something that must come */

static char work[64];

static void
make_work(void)
{
    strcpy(work, "/tmp/lks-proclocks-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(work));
}

static void
remove_work(void)
{
    char command[128];
    snprintf(command, sizeof command, "rm -rf '%s'", work);
    ck_assert_int_eq(system(command), 0);
}

static const char *
in_work(const char *name)
{
    static char paths[4][256];
    static unsigned turn;
    char *path = paths[turn++ % 4];
    snprintf(path, sizeof paths[0], "%s/%s", work, name);
    return path;
}

/* Writes a file of the hand-made /proc, and the folders that lead to it. */
__attribute__((format(printf, 2, 3))) static void
put(const char *name, const char *format, ...)
{
    char path[256];
    FILE *file;
    va_list args;
    snprintf(path, sizeof path, "%s", in_work(name));
    for (char *slash = path + strlen(work) + 1; (slash = strchr(slash, '/')) != NULL; slash++) {
        *slash = '\0';
        ck_assert(mkdir(path, 0755) == 0 || errno == EEXIST);
        *slash = '/';
    }
    file = fopen(path, "w");
    ck_assert_ptr_nonnull(file);
    va_start(args, format);
    vfprintf(file, format, args);
    va_end(args);
    ck_assert_int_eq(fclose(file), 0);
}

/* ------------------------------------------------------------------------------------------------
 * Lines
 * --------------------------------------------------------------------------------------------- */

static const struct {
    const char *line;
    struct lks_proclock lock;
    unsigned major_no, minor_no;
    uint64_t inode;
} good[] = {
    {"1: POSIX  ADVISORY  WRITE 1234 fd:01:5678 1073741824 1073741826",
     {LKS_PROCLOCK_PROCESS, true, false, 1234, 0, 1073741824, 1073741826}, 0xfd, 1, 5678},
    {"12: POSIX  ADVISORY  READ 7 00:2a:9 0 EOF",
     {LKS_PROCLOCK_PROCESS, false, false, 7, 0, 0, UINT64_MAX}, 0, 0x2a, 9},
    {"2: -> POSIX  ADVISORY  WRITE 99 103:00:18446744073709551615 120 120",
     {LKS_PROCLOCK_PROCESS, true, true, 99, 0, 120, 120}, 0x103, 0, UINT64_MAX},
    {"2:     -> OFDLCK ADVISORY  READ -1 fd:01:5 3458764513820540928 3458764513820540928",
     {LKS_PROCLOCK_DESCRIPTION, false, true, 0, 0, 0x3000000000000000, 0x3000000000000000}, 0xfd, 1, 5},
    {"3: OFDLCK ADVISORY  READ  -1 08:10:44 1 2\n",
     {LKS_PROCLOCK_DESCRIPTION, false, false, 0, 0, 1, 2}, 8, 0x10, 44},
    {"4: FLOCK  ADVISORY  WRITE 707 00:13:634 0 EOF",
     {LKS_PROCLOCK_FLOCK, true, false, 707, 0, 0, UINT64_MAX}, 0, 0x13, 634},
    {"5: LEASE  ACTIVE    READ  3568 fd:01:3548962 0 EOF",
     {LKS_PROCLOCK_LEASE, false, false, 3568, 0, 0, UINT64_MAX}, 0xfd, 1, 3548962},
    {"6: DELEG  BREAKING  READ  3568 fd:01:3548962 0 EOF",
     {LKS_PROCLOCK_LEASE, false, false, 3568, 0, 0, UINT64_MAX}, 0xfd, 1, 3548962},
    {"\t1: POSIX  ADVISORY  WRITE 0 fd:01:5 1 1",
     {LKS_PROCLOCK_PROCESS, true, false, 0, 0, 1, 1}, 0xfd, 1, 5},
};

START_TEST(a_line_of_the_kernel_is_understood)
{
    struct lks_proclock lock;
    struct lks_file_id file;
    ck_assert_msg(lks_lockline_parse(good[_i].line, &lock, &file), "%s", good[_i].line);
    ck_assert_int_eq(lock.kind, good[_i].lock.kind);
    ck_assert_int_eq(lock.exclusive, good[_i].lock.exclusive);
    ck_assert_int_eq(lock.waiting, good[_i].lock.waiting);
    ck_assert_int_eq(lock.pid, good[_i].lock.pid);
    ck_assert_uint_eq(lock.first, good[_i].lock.first);
    ck_assert_uint_eq(lock.last, good[_i].lock.last);
    ck_assert_uint_eq(file.device, makedev(good[_i].major_no, good[_i].minor_no));
    ck_assert_uint_eq(file.inode, good[_i].inode);
}
END_TEST

static const char *const bad[] = {
    "",
    "\n",
    "1",
    "1:",
    "1: ->",
    "1: -> ",
    "1: POSIX",
    "1: POSIX  ADVISORY",
    "1: POSIX  ADVISORY  WRITE",
    "1: POSIX  ADVISORY  WRITE 12",
    "1: POSIX  ADVISORY  WRITE 12 fd:01:5",
    "1: POSIX  ADVISORY  WRITE 12 fd:01:5 1",
    "1: POSIX  ADVISORY  WRITE 12 fd:01:5 9 1",
    "1: POSIX  ADVISORY  WRITE 12 fd:01:5 1 x",
    "1: POSIX  ADVISORY  WRITE 12 fd:01:5 -1 5",
    "1: POSIX  ADVISORY  WRITE 12 fd:01 1 1",
    "1: POSIX  ADVISORY  WRITE 12 :: 1 1",
    "1: POSIX  *NOINODE* WRITE 12 <none>:0 1 1",
    "1: POSIX  ADVISORY  UNLCK 12 fd:01:5 1 1",
    "1: POSIX  ADVISORY  WRITE twelve fd:01:5 1 1",
    "1: POSIX  ADVISORY  WRITE 99999999999 fd:01:5 1 1",
    "1: POSIX  ADVISORY  WRITE 12 fd:01:99999999999999999999999 1 1",
    "1: UNKNOWN ADVISORY  WRITE 12 fd:01:5 1 1",
    "POSIX  ADVISORY  WRITE 12 fd:01:5 1 1",
    "1: POSIX  ADVISORY  WRITE 12 fd:01:555555555555555555555555555555555555555555555555555555555 1 1",
};

START_TEST(a_line_that_is_none_is_refused)
{
    struct lks_proclock lock = {.pid = 42};
    struct lks_file_id file = {1, 2};
    ck_assert_msg(!lks_lockline_parse(bad[_i], &lock, &file), "%s", bad[_i]);
    ck_assert_int_eq(lock.pid, 42);
    ck_assert_uint_eq(file.inode, 2);
}
END_TEST

/* ------------------------------------------------------------------------------------------------
 * A /proc made by hand
 * --------------------------------------------------------------------------------------------- */

static struct statx
make_database(void)
{
    struct statx stx;
    put("db", "x");
    ck_assert_int_eq(statx(AT_FDCWD, in_work("db"), 0, STATX_BASIC_STATS | STATX_MNT_ID, &stx), 0);
    return stx;
}

static void
collect(struct lks_proclock **locks, size_t *count)
{
    char path[256];
    const char *paths[2] = {path, "/nowhere/at/all"};
    snprintf(path, sizeof path, "%s", in_work("db"));
    *locks = NULL;
    ck_assert_int_eq(lks_proclocks_collect(in_work("proc"), paths, 2, locks, count), LOCKSTEP_OK);
}

/* On btrfs stat() shows the subvolume's device, the kernel's lines the one of the filesystem. */
START_TEST(the_device_of_the_mount_counts_not_that_of_stat)
{
    struct statx stx = make_database();
    unsigned long long inode = stx.stx_ino, mount = stx.stx_mnt_id;
    struct lks_proclock *locks;
    size_t count;
    if ((stx.stx_mask & STATX_MNT_ID) == 0)
        return; /* before Linux 5.8 the next test's way is gone */
    put("proc/self/mountinfo",
        "%llu 1 9:9 / / rw - ext4 /dev/x rw\n%llu 1 0:99 / /data rw - btrfs /dev/y rw\n", mount + 1,
        mount);
    put("proc/locks",
        "1: POSIX  ADVISORY  WRITE 11 00:63:%llu 1 1\n"
        "2: POSIX  ADVISORY  WRITE 12 %02x:%02x:%llu 2 2\n",
        inode, stx.stx_dev_major, stx.stx_dev_minor, inode);
    collect(&locks, &count);
    ck_assert_uint_eq(count, 1);
    ck_assert_int_eq(locks[0].pid, 11);
    free(locks);
}
END_TEST

/* On overlayfs the inode's number may differ, too: a descriptor that leads to the file tells. */
START_TEST(a_file_that_the_kernel_calls_otherwise_is_found_by_its_descriptors)
{
    struct statx stx = make_database();
    unsigned long long mount = stx.stx_mnt_id;
    struct lks_proclock *locks;
    size_t count;
    put("proc/self/mountinfo", "%llu 1 0:99 / /data rw - overlay overlay rw\n", mount);
    put("proc/locks", "1: POSIX  ADVISORY  WRITE 11 00:63:4711 1 1\n"
                      "1: -> POSIX  ADVISORY  WRITE 13 00:63:4711 1 1\n"
                      "2: POSIX  ADVISORY  WRITE 12 00:63:4712 1 1\n");
    put("proc/12/fdinfo/3", "pos:\t0\nlock:\t1: POSIX  ADVISORY  WRITE 12 00:63:4712 1 1\n");
    put("proc/12/fd/x", "x");
    ck_assert_int_eq(symlink("/dev/null", in_work("proc/12/fd/3")), 0);
    put("proc/11/fdinfo/5", "pos:\t0\nlock:\t1: POSIX  ADVISORY  WRITE 11 00:63:4711 1 1\n");
    put("proc/11/fd/x", "x");
    ck_assert_int_eq(symlink(in_work("db"), in_work("proc/11/fd/5")), 0);
    collect(&locks, &count);
    ck_assert_uint_eq(count, 2);
    ck_assert_int_eq(locks[0].pid, 11);
    ck_assert_int_eq(locks[1].pid, 13);
    ck_assert(locks[1].waiting);
    free(locks);
}
END_TEST

/* Two lines, one of a description that two processes share, one that nobody shows. */
START_TEST(each_process_that_has_a_description_is_named)
{
    struct statx stx = make_database();
    char id[64];
    struct lks_proclock *locks;
    size_t count;
    snprintf(id, sizeof id, "%02x:%02x:%llu", stx.stx_dev_major, stx.stx_dev_minor,
             (unsigned long long)stx.stx_ino);
    put("proc/self/mountinfo", "%llu 1 %u:%u / / rw - ext4 /dev/x rw\n",
        (unsigned long long)stx.stx_mnt_id, stx.stx_dev_major, stx.stx_dev_minor);
    put("proc/locks",
        "1: OFDLCK ADVISORY  READ  -1 %s 5 5\n"
        "2: OFDLCK ADVISORY  WRITE -1 %s 7 7\n"
        "3: POSIX  ADVISORY  READ  40 %s 9 9\n",
        id, id, id);
    put("proc/21/fdinfo/3", "lock:\t1: OFDLCK ADVISORY  READ  -1 %s 5 5\n", id);
    put("proc/22/fdinfo/3", "lock:\t1: OFDLCK ADVISORY  READ  -1 %s 5 5\n", id);
    put("proc/23/fdinfo/3", "lock:\t1: OFDLCK ADVISORY  READ  -1 %s 5 6\n", id);
    collect(&locks, &count);
    ck_assert_uint_eq(count, 4);
    ck_assert_int_eq(locks[0].pid + locks[1].pid, 21 + 22);
    ck_assert_int_ne(locks[0].pid, locks[1].pid);
    ck_assert_int_eq(locks[2].pid, 0);
    ck_assert(locks[2].exclusive);
    ck_assert_int_eq(locks[3].pid, 40);
    free(locks);
}
END_TEST

/*
 * As where locks were taken at the front of the list between two pieces of it.  Who waits comes along with what he waits
 * for; two hidden readers, or two descriptions, may well have the same lock.
 */
START_TEST(a_lock_that_the_kernel_shows_again_is_held_once)
{
    struct statx stx = make_database();
    char id[64];
    struct lks_proclock *locks;
    size_t count, i, waiting = 0;
    snprintf(id, sizeof id, "%02x:%02x:%llu", stx.stx_dev_major, stx.stx_dev_minor,
             (unsigned long long)stx.stx_ino);
    put("proc/self/mountinfo", "%llu 1 %u:%u / / rw - ext4 /dev/x rw\n",
        (unsigned long long)stx.stx_mnt_id, stx.stx_dev_major, stx.stx_dev_minor);
    put("proc/locks",
        "1: POSIX  ADVISORY  WRITE 40 %s 7 7\n"
        "1: -> POSIX  ADVISORY  WRITE 41 %s 7 7\n"
        "1: -> POSIX  ADVISORY  WRITE 41 %s 7 7\n"
        "2: POSIX  ADVISORY  READ  40 %s 9 9\n"
        "3: POSIX  ADVISORY  WRITE 40 %s 7 7\n"
        "3: -> POSIX  ADVISORY  WRITE 41 %s 7 7\n"
        "3: -> POSIX  ADVISORY  WRITE 41 %s 7 7\n"
        "4: POSIX  ADVISORY  READ  40 %s 9 9\n"
        "5: POSIX  ADVISORY  READ  42 %s 9 9\n"
        "6: POSIX  ADVISORY  READ  0 %s 9 9\n"
        "7: POSIX  ADVISORY  READ  0 %s 9 9\n"
        "8: OFDLCK ADVISORY  READ  -1 %s 5 5\n"
        "9: OFDLCK ADVISORY  READ  -1 %s 5 5\n",
        id, id, id, id, id, id, id, id, id, id, id, id, id);
    collect(&locks, &count);
    ck_assert_uint_eq(count, 9);
    for (i = 0; i < count; i++)
        waiting += locks[i].waiting;
    ck_assert_uint_eq(waiting, 2);
    ck_assert_int_eq(locks[3].pid, 40);
    ck_assert_int_eq(locks[4].pid, 42);
    free(locks);
}
END_TEST

START_TEST(without_proc_it_says_so)
{
    struct lks_proclock *locks = NULL;
    const char *path = "/dev/null";
    size_t count;
    ck_assert_int_eq(lks_proclocks_collect(in_work("nothing"), &path, 1, &locks, &count),
                     LOCKSTEP_CANTOPEN);
    ck_assert_ptr_null(locks);
}
END_TEST

START_TEST(a_name_with_brackets_and_blanks_is_read_whole)
{
    struct lks_proclocks_process process;
    put("proc/31/stat", "31 (a) b (c) T 1 31 31 0 -1 4194560 100 0 0 0 0 0 0 0 20 0 1 0 98765 1 1 1\n");
    put("proc/32/stat", "32 (cut");
    put("proc/33/stat", "%s", "");
    ck_assert(lks_proclocks_look(in_work("proc"), 31, &process));
    ck_assert_str_eq(process.program, "a) b (c");
    ck_assert_int_eq(process.state, 'T');
    ck_assert_uint_eq(process.start_time, 98765);
    ck_assert(!lks_proclocks_look(in_work("proc"), 32, &process));
    ck_assert(!lks_proclocks_look(in_work("proc"), 33, &process));
    ck_assert(!lks_proclocks_look(in_work("proc"), 34, &process));
    ck_assert(!lks_proclocks_look(in_work("proc"), 0, &process));
}
END_TEST

/* ------------------------------------------------------------------------------------------------
 * The kernel's own
 * --------------------------------------------------------------------------------------------- */

static size_t
collect_real(struct lks_proclock **locks)
{
    const char *path = in_work("db");
    size_t count;
    ck_assert_int_eq(lks_proclocks_collect("/proc", &path, 1, locks, &count), LOCKSTEP_OK);
    return count;
}

static void
lock_bytes(int fd, int command, short type, off_t first, off_t size)
{
    struct flock lock = {.l_type = type, .l_whence = SEEK_SET, .l_start = first, .l_len = size};
    ck_assert_int_eq(fcntl(fd, command, &lock), 0);
}

/* A child that waits for a lock which this process has, until it is killed. */
static pid_t
start_waiter(void)
{
    pid_t pid = fork();
    ck_assert_int_ge(pid, 0);
    if (pid == 0) {
        int fd = open(in_work("db"), O_RDWR);
        struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 5, .l_len = 1};
        _exit(fd >= 0 && fcntl(fd, F_SETLKW, &lock) == 0 ? 0 : 1);
    }
    return pid;
}

START_TEST(holders_and_waiters_of_a_real_file_are_found)
{
    struct lks_proclock *locks = NULL;
    size_t count = 0;
    pid_t child;
    int fd;
    make_database();
    fd = open(in_work("db"), O_RDWR);
    lock_bytes(fd, F_SETLK, F_WRLCK, 5, 2);
    lock_bytes(fd, F_SETLK, F_RDLCK, 20, 0);
    child = start_waiter();
    for (int i = 0; i < PATIENCE && count != 3; i++) {
        free(locks);
        count = collect_real(&locks);
        if (count != 3)
            usleep(2000);
    }
    ck_assert_uint_eq(count, 3);
    for (size_t i = 0; i < count; i++) {
        ck_assert_int_eq(locks[i].kind, LKS_PROCLOCK_PROCESS);
        if (locks[i].waiting) {
            ck_assert_int_eq(locks[i].pid, child);
            ck_assert_uint_eq(locks[i].first, 5);
            ck_assert_uint_eq(locks[i].last, 5);
        } else {
            ck_assert_int_eq(locks[i].pid, getpid());
            ck_assert_uint_eq(locks[i].last, locks[i].exclusive ? 6 : UINT64_MAX);
        }
    }
    free(locks);
    ck_assert_int_eq(kill(child, SIGKILL), 0);
    ck_assert_int_eq(waitpid(child, NULL, 0), child);
    close(fd);
    ck_assert_uint_eq(collect_real(&locks), 0);
    free(locks);
}
END_TEST

START_TEST(looking_drops_no_lock_of_ours)
{
    struct lks_proclock *locks;
    int fd;
    make_database();
    fd = open(in_work("db"), O_RDWR);
    lock_bytes(fd, F_SETLK, F_WRLCK, 5, 1);
    lock_bytes(fd, F_OFD_SETLK, F_WRLCK, 6, 1); /* makes it look through the descriptors as well */
    ck_assert_uint_eq(collect_real(&locks), 2);
    free(locks);
    ck_assert_uint_eq(collect_real(&locks), 2);
    free(locks);
    close(fd);
}
END_TEST

START_TEST(the_holder_of_a_description_lock_is_found)
{
    struct lks_proclock *locks;
    int fd;
    make_database();
    fd = open(in_work("db"), O_RDWR);
    lock_bytes(fd, F_OFD_SETLK, F_WRLCK, 9, 1);
    ck_assert_uint_eq(collect_real(&locks), 1);
    ck_assert_int_eq(locks[0].kind, LKS_PROCLOCK_DESCRIPTION);
    ck_assert_int_eq(locks[0].pid, getpid());
    free(locks);
    ck_assert_int_eq(flock(fd, LOCK_SH), 0);
    ck_assert_uint_eq(collect_real(&locks), 2);
    free(locks);
    close(fd);
}
END_TEST

/* Somebody who may not look into other users' processes still sees that there is a lock. */
START_TEST(a_holder_that_is_hidden_is_process_0)
{
    int fd, status;
    pid_t child;
    if (geteuid() != 0)
        return; /* all that we could hide from is ourselves */
    make_database();
    ck_assert_int_eq(chmod(work, 0755), 0);
    fd = open(in_work("db"), O_RDWR);
    lock_bytes(fd, F_OFD_SETLK, F_WRLCK, 9, 1);
    child = fork();
    if (child == 0) {
        struct lks_proclock *locks;
        const char *path = in_work("db");
        size_t count;
        close(fd);
        if (setresgid(NOBODY, NOBODY, NOBODY) != 0 || setresuid(NOBODY, NOBODY, NOBODY) != 0)
            _exit(1);
        if (lks_proclocks_collect("/proc", &path, 1, &locks, &count) != LOCKSTEP_OK)
            _exit(2);
        _exit(count == 1 && locks[0].pid == 0 && locks[0].first == 9 ? 0 : 3);
    }
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    ck_assert(WIFEXITED(status));
    ck_assert_int_eq(WEXITSTATUS(status), 0);
    close(fd);
}
END_TEST

#define STAYING 100 /* locks: more lines than the kernel gives at once */
#define PASSING 100
#define LOOKS 10

/* A child that takes many locks on a file of its own and drops them all, again and again, until it is killed. */
static pid_t
start_churning(const char *name, int started)
{
    pid_t pid = fork();
    ck_assert_int_ge(pid, 0);
    if (pid != 0)
        return pid;
    for (;;) {
        int fd = open(in_work(name), O_RDWR | O_CREAT, 0600);
        struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_len = 1};
        for (lock.l_start = 0; lock.l_start < 2 * PASSING; lock.l_start += 2)
            if (fcntl(fd, F_SETLK, &lock) != 0)
                _exit(1);
        close(fd);
        if (started >= 0 && write(started, "", 1) != 1)
            _exit(2);
        started = -1;
    }
}

/*
 * Locks that are dropped between two pieces of the kernel's list make it pass over others, which stay.
 *
 * Made to fail by: the descriptors not asked, or what they show not added to the list.
 */
START_TEST(a_lock_that_stays_is_seen_whatever_others_drop)
{
    char byte;
    int fd, started[2];
    pid_t children[2];
    make_database();
    ck_assert_int_eq(pipe(started), 0);
    for (int i = 0; i < 2; i++)
        children[i] = start_churning(i == 0 ? "first" : "second", started[1]);
    fd = open(in_work("db"), O_RDWR); /* not for them */
    for (off_t i = 0; i < STAYING; i++)
        lock_bytes(fd, F_SETLK, F_WRLCK, 2 * i, 1);
    lock_bytes(fd, F_OFD_SETLK, F_RDLCK, 2 * STAYING, 1);
    for (int i = 0; i < 2; i++)
        ck_assert_int_eq(read(started[0], &byte, 1), 1);
    for (int look = 0; look < LOOKS; look++) {
        struct lks_proclock *locks;
        bool seen[STAYING + 1] = {false};
        size_t count = collect_real(&locks);
        for (size_t i = 0; i < count; i++) {
            ck_assert_uint_le(locks[i].first, 2 * STAYING);
            if (locks[i].first == 2 * STAYING && locks[i].pid == 0)
                continue; /* it was shown twice, or another may share it */
            ck_assert_int_eq(locks[i].pid, getpid());
            ck_assert_msg(!seen[locks[i].first / 2], "%u is there twice", (unsigned)locks[i].first);
            seen[locks[i].first / 2] = true;
        }
        for (int i = 0; i <= STAYING; i++)
            ck_assert_msg(seen[i], "look %d: the lock of byte %d, of %zu", look, 2 * i, count);
        free(locks);
    }
    for (int i = 0; i < 2; i++) {
        ck_assert_int_eq(kill(children[i], SIGKILL), 0);
        ck_assert_int_eq(waitpid(children[i], NULL, 0), children[i]);
    }
    close(started[0]);
    close(started[1]);
    close(fd);
}
END_TEST

/* Of a process's own locks not one is missed, wherever the kernel's list has it. */
START_TEST(a_process_knows_its_own_locks)
{
    struct lks_file_stat stat;
    int fd, other, status;
    pid_t child;
    make_database();
    ck_assert_int_eq(lks_file_stat_path(in_work("db"), &stat), LOCKSTEP_OK);
    fd = open(in_work("db"), O_RDWR);
    other = open(in_work("other"), O_RDWR | O_CREAT, 0600);
    lock_bytes(other, F_SETLK, F_WRLCK, 50, 1);
    lock_bytes(fd, F_OFD_SETLK, F_RDLCK, 60, 1);
    ck_assert(!lks_proclocks_own(&stat.id, 0)); /* another file's; a description's */
    lock_bytes(fd, F_SETLK, F_RDLCK, 50, 1);
    ck_assert(lks_proclocks_own(&stat.id, 0));
    ck_assert(lks_proclocks_own(&stat.id, 50));
    ck_assert(!lks_proclocks_own(&stat.id, 51));
    child = fork();
    if (child == 0)
        _exit(lks_proclocks_own(&stat.id, 0) ? 1 : 0); /* it has the descriptor, not the lock */
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    ck_assert_int_eq(status, 0);
    close(other);
    close(fd);
    ck_assert(!lks_proclocks_own(&stat.id, 0));
}
END_TEST

START_TEST(a_stopped_process_shows_as_stopped)
{
    struct lks_proclocks_process process;
    pid_t child = fork();
    int status;
    if (child == 0)
        for (;;)
            pause();
    ck_assert_int_eq(kill(child, SIGSTOP), 0);
    ck_assert_int_eq(waitpid(child, &status, WUNTRACED), child);
    ck_assert(lks_proclocks_look("/proc", child, &process));
    ck_assert_int_eq(process.state, 'T');
    ck_assert_uint_gt(process.start_time, 0);
    ck_assert_int_eq(kill(child, SIGKILL), 0);
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    ck_assert(!lks_proclocks_look("/proc", child, &process));
}
END_TEST

int
main(void)
{
    Suite *suite = suite_create("os/proclocks");
    TCase *lines = tcase_create("lines");
    TCase *hand = tcase_create("by hand");
    TCase *kernel = tcase_create("kernel");
    SRunner *runner = srunner_create(suite);
    int failed;

    tcase_add_loop_test(lines, a_line_of_the_kernel_is_understood, 0, sizeof good / sizeof good[0]);
    tcase_add_loop_test(lines, a_line_that_is_none_is_refused, 0, sizeof bad / sizeof bad[0]);
    tcase_add_checked_fixture(hand, make_work, remove_work);
    tcase_add_test(hand, the_device_of_the_mount_counts_not_that_of_stat);
    tcase_add_test(hand, a_file_that_the_kernel_calls_otherwise_is_found_by_its_descriptors);
    tcase_add_test(hand, each_process_that_has_a_description_is_named);
    tcase_add_test(hand, a_lock_that_the_kernel_shows_again_is_held_once);
    tcase_add_test(hand, without_proc_it_says_so);
    tcase_add_test(hand, a_name_with_brackets_and_blanks_is_read_whole);
    tcase_add_checked_fixture(kernel, make_work, remove_work);
    tcase_add_test(kernel, holders_and_waiters_of_a_real_file_are_found);
    tcase_add_test(kernel, looking_drops_no_lock_of_ours);
    tcase_add_test(kernel, the_holder_of_a_description_lock_is_found);
    tcase_add_test(kernel, a_holder_that_is_hidden_is_process_0);
    tcase_add_test(kernel, a_lock_that_stays_is_seen_whatever_others_drop);
    tcase_add_test(kernel, a_process_knows_its_own_locks);
    tcase_add_test(kernel, a_stopped_process_shows_as_stopped);
    suite_add_tcase(suite, lines);
    suite_add_tcase(suite, hand);
    suite_add_tcase(suite, kernel);
    srunner_run_all(runner, CK_NORMAL);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
