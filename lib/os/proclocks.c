#include "os/proclocks.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "os/statx.h"

#ifdef STATX_MNT_ID
#define WANT_MOUNT STATX_MNT_ID
#else
#define WANT_MOUNT 0
#endif

#define READS_AT_MOST 4

/*
 * A file that is asked for, by its two names: what stat() says, which is good for comparing descriptors,
 * and what the kernel writes into lock lines: the device of the mount's superblock and the inode's own
 * number.  They differ on btrfs, where each subvolume has a device number that only stat() shows, and on
 * overlayfs over several filesystems, where the inode's number may differ as well.
 */
struct target {
    bool exists;
    bool certain; /* lines name it by `kernel` */
    struct lks_file_id seen;
    struct lks_file_id kernel;
};

/* ------------------------------------------------------------------------------------------------
 * Which file
 * --------------------------------------------------------------------------------------------- */

/* Device of the superblock that is mounted as `mount_id`, and whether its inode numbers are stat()'s. */
static bool
find_mount(const char *proc, uint64_t mount_id, uint64_t *out_device, bool *out_plain)
{
    char path[PATH_MAX], *text, *save = NULL;
    unsigned reads;
    bool found = false;
    snprintf(path, sizeof path, "%s/self/mountinfo", proc);
    if (lks_lockline_read(path, &text, &reads) != LOCKSTEP_OK)
        return false;
    for (char *line = strtok_r(text, "\n", &save); line != NULL; line = strtok_r(NULL, "\n", &save)) {
        unsigned major_no, minor_no;
        uint64_t id;
        const char *type = strstr(line, " - ");
        if (type == NULL ||
            sscanf(line, "%" SCNu64 " %*u %u:%u", &id, &major_no, &minor_no) != 3 || id != mount_id)
            continue;
        *out_device = (uint64_t)makedev(major_no, minor_no);
        *out_plain = strncmp(type + 3, "overlay ", 8) != 0;
        found = true;
        break;
    }
    free(text);
    return found;
}

static void
find_target(const char *proc, const char *path, struct target *target)
{
    struct stat st;
    bool plain = false, found = false;

    memset(target, 0, sizeof *target);
    if (stat(path, &st) != 0)
        return;
    target->exists = true;
    target->seen.device = (uint64_t)st.st_dev;
    target->seen.inode = (uint64_t)st.st_ino;
    target->kernel = target->seen;
#ifdef STATX_MNT_ID
    struct statx stx;
    if (statx(AT_FDCWD, path, AT_STATX_SYNC_AS_STAT, STATX_MNT_ID, &stx) == 0 &&
        (stx.stx_mask & STATX_MNT_ID) != 0)
        found = find_mount(proc, stx.stx_mnt_id, &target->kernel.device, &plain);
#endif
    target->certain = found && plain;
}

/* The target that lines call `file`, or -1. */
static int
target_of_line(const struct target *targets, size_t count, const struct lks_file_id *file)
{
    for (size_t i = 0; i < count; i++)
        if (targets[i].exists && lks_file_same(&targets[i].kernel, file))
            return (int)i;
    return -1;
}

/* ------------------------------------------------------------------------------------------------
 * Every descriptor of every process
 * --------------------------------------------------------------------------------------------- */

/*
 * Called with each lock line of each descriptor; `link` leads to the open file.  The pid of a process's lock is as in the
 * kernel's list; a description's is held by who has it.
 */
typedef enum lockstep_status (*scan_fn)(void *arg, const char *link, struct lks_lockline *line);

static enum lockstep_status
scan_descriptor(const char *proc, const char *pid, const char *fd, scan_fn each, void *arg)
{
    char path[PATH_MAX], *text, *save = NULL;
    unsigned reads;
    enum lockstep_status status = LOCKSTEP_OK;
    snprintf(path, sizeof path, "%s/%s/fdinfo/%s", proc, pid, fd);
    if (lks_lockline_read(path, &text, &reads) != LOCKSTEP_OK)
        return LOCKSTEP_OK; /* it was closed meanwhile */
    snprintf(path, sizeof path, "%s/%s/fd/%s", proc, pid, fd);
    for (char *row = strtok_r(text, "\n", &save); row != NULL && status == LOCKSTEP_OK;
         row = strtok_r(NULL, "\n", &save)) {
        struct lks_lockline line;
        if (strncmp(row, "lock:", 5) != 0 || !lks_lockline_parse(row + 5, &line.lock, &line.file))
            continue;
        if (line.lock.kind != LKS_PROCLOCK_PROCESS || line.lock.pid == 0)
            line.lock.pid = (int32_t)strtol(pid, NULL, 10);
        status = each(arg, path, &line);
    }
    free(text);
    return status;
}

static enum lockstep_status
scan_descriptors(const char *proc, scan_fn each, void *arg)
{
    char path[PATH_MAX];
    struct dirent *process, *fd;
    enum lockstep_status status = LOCKSTEP_OK;
    DIR *all = opendir(proc);
    if (all == NULL) {
        lks_os_set_errno(errno);
        return lks_os_status(errno);
    }
    while (status == LOCKSTEP_OK && (process = readdir(all)) != NULL) {
        DIR *fds;
        if (!isdigit((unsigned char)process->d_name[0]))
            continue;
        snprintf(path, sizeof path, "%s/%s/fdinfo", proc, process->d_name);
        fds = opendir(path);
        if (fds == NULL)
            continue; /* gone, or not ours to look at */
        while (status == LOCKSTEP_OK && (fd = readdir(fds)) != NULL)
            if (isdigit((unsigned char)fd->d_name[0]))
                status = scan_descriptor(proc, process->d_name, fd->d_name, each, arg);
        closedir(fds);
    }
    closedir(all);
    return status;
}

struct learning {
    struct target *targets;
    size_t count;
    bool learnt;
};

/* Of what a link in a folder fd/ leads to.  From memory only: the file may be on a server that is gone. */
static bool
id_of_link(int folder, const char *link, struct lks_file_id *out_id)
{
    struct statx stx;
    if (statx(folder, link, AT_STATX_DONT_SYNC, STATX_INO, &stx) != 0)
        return false;
    out_id->device = (uint64_t)makedev(stx.stx_dev_major, stx.stx_dev_minor);
    out_id->inode = stx.stx_ino;
    return true;
}

/* A lock on a descriptor that stat() says is the target: the line tells the kernel's name for it. */
static enum lockstep_status
learn(void *arg, const char *link, struct lks_lockline *line)
{
    struct learning *learning = arg;
    struct lks_file_id seen;
    if (!id_of_link(AT_FDCWD, link, &seen))
        return LOCKSTEP_OK;
    for (size_t i = 0; i < learning->count; i++) {
        struct target *target = &learning->targets[i];
        if (target->exists && !target->certain && lks_file_same(&target->seen, &seen)) {
            target->kernel = line->file;
            target->certain = true;
            learning->learnt = true;
        }
    }
    return LOCKSTEP_OK;
}

struct holders {
    const struct target *targets;
    size_t count;
    struct lks_locklines found;
};

static enum lockstep_status
note_holder(void *arg, const char *link, struct lks_lockline *line)
{
    struct holders *holders = arg;
    int file_no = target_of_line(holders->targets, holders->count, &line->file);
    (void)link;
    if (file_no < 0 ||
        (line->lock.kind != LKS_PROCLOCK_DESCRIPTION && line->lock.kind != LKS_PROCLOCK_PROCESS))
        return LOCKSTEP_OK;
    line->lock.file_no = (uint32_t)file_no;
    return lks_locklines_add(&holders->found, line);
}

struct own {
    uint64_t first;
    bool found;
};

static enum lockstep_status
note_own(void *arg, const char *link, struct lks_lockline *line)
{
    struct own *own = arg;
    (void)link;
    own->found = own->found || (line->lock.kind == LKS_PROCLOCK_PROCESS && line->lock.first >= own->first);
    return LOCKSTEP_OK;
}

bool
lks_proclocks_own(const struct lks_file_id *file, uint64_t first)
{
    struct own own = {first, false};
    struct dirent *entry;
    DIR *fds = opendir("/proc/self/fd");
    if (fds == NULL)
        return false;
    /* By their links: the descriptors are other threads', who may close them meanwhile. */
    while (!own.found && (entry = readdir(fds)) != NULL) {
        struct lks_file_id id;
        if (isdigit((unsigned char)entry->d_name[0]) && id_of_link(dirfd(fds), entry->d_name, &id) &&
            lks_file_same(&id, file))
            (void)scan_descriptor("/proc", "self", entry->d_name, note_own, &own);
    }
    closedir(fds);
    return own.found;
}

/* ------------------------------------------------------------------------------------------------
 * Together
 * --------------------------------------------------------------------------------------------- */

static enum lockstep_status
read_lines(const char *proc, struct lks_locklines *out_lines, unsigned *out_reads)
{
    char path[PATH_MAX], *text, *save = NULL;
    struct lks_locklines lines = {0};
    enum lockstep_status status;
    snprintf(path, sizeof path, "%s/locks", proc);
    status = lks_lockline_read(path, &text, out_reads);
    if (status != LOCKSTEP_OK)
        return status;
    for (char *row = strtok_r(text, "\n", &save); row != NULL && status == LOCKSTEP_OK;
         row = strtok_r(NULL, "\n", &save)) {
        struct lks_lockline line;
        if (lks_lockline_parse(row, &line.lock, &line.file))
            status = lks_locklines_add(&lines, &line);
    }
    free(text);
    if (status != LOCKSTEP_OK) {
        free(lines.line);
        return status;
    }
    *out_lines = lines;
    return LOCKSTEP_OK;
}

static bool
same_lock(const struct lks_proclock *a, const struct lks_proclock *b)
{
    return a->kind == b->kind && a->exclusive == b->exclusive && a->waiting == b->waiting &&
           a->file_no == b->file_no && a->first == b->first && a->last == b->last;
}

/*
 * Such a lock is held once at most: an exclusive one, or a process's own, which merges with what it has.  (Of processes
 * that are hidden, and of descriptions, several may share one.)
 */
static bool
is_unique(const struct lks_proclock *lock)
{
    return !lock->waiting && lock->kind != LKS_PROCLOCK_LEASE &&
           (lock->exclusive || (lock->kind == LKS_PROCLOCK_PROCESS && lock->pid != 0));
}

static bool
has_line(const struct lks_locklines *lines, size_t count, const struct lks_proclock *lock)
{
    for (size_t i = 0; i < count; i++)
        if (same_lock(&lines->line[i].lock, lock) && lines->line[i].lock.pid == lock->pid)
            return true;
    return false;
}

/*
 * Keeps the lines about targets and says which.  The kernel begins each piece by counting the locks up to where the last
 * one ended: if some were taken at the front since, it shows the last ones again, with who waits for them.
 */
static void
keep_targets(struct lks_locklines *lines, const struct target *targets, size_t count)
{
    size_t kept = 0;
    bool again = false;
    for (size_t i = 0; i < lines->count; i++) {
        struct lks_lockline line = lines->line[i];
        int file_no = target_of_line(targets, count, &line.file);
        if (file_no < 0)
            continue;
        line.lock.file_no = (uint32_t)file_no;
        if (!line.lock.waiting)
            again = is_unique(&line.lock) && has_line(lines, kept, &line.lock);
        if (!again)
            lines->line[kept++] = line;
    }
    lines->count = kept;
}

static bool
same_lines(const struct lks_locklines *a, const struct lks_locklines *b)
{
    if (a->count != b->count)
        return false;
    for (size_t i = 0; i < a->count; i++)
        if (!same_lock(&a->line[i].lock, &b->line[i].lock) ||
            a->line[i].lock.pid != b->line[i].lock.pid)
            return false;
    return true;
}

/*
 * The lock lines about the targets.  A list that came in several pieces is read again until it comes out
 * the same twice; of locks that never rest the last look counts.  *out_whole: it came in one piece, as of one instant.
 */
static enum lockstep_status
read_target_lines(const char *proc, const struct target *targets, size_t count,
                  struct lks_locklines *out_lines, bool *out_whole)
{
    struct lks_locklines before = {0};
    for (unsigned round = 0;; round++) {
        struct lks_locklines now;
        unsigned reads;
        bool settled;
        enum lockstep_status status = read_lines(proc, &now, &reads);
        if (status != LOCKSTEP_OK) {
            free(before.line);
            return status;
        }
        keep_targets(&now, targets, count);
        settled = reads <= 1 || (round > 0 && same_lines(&before, &now));
        free(before.line);
        if (settled || round + 1 >= READS_AT_MOST) {
            *out_lines = now;
            *out_whole = reads <= 1;
            return LOCKSTEP_OK;
        }
        before = now;
    }
}

/* The targets whose kernel name is a guess and that no line mentions: are they open somewhere? */
static enum lockstep_status
learn_names(const char *proc, struct target *targets, size_t count, const struct lks_locklines *lines,
            bool *out_learnt)
{
    struct learning learning = {targets, count, false};
    bool wanted = false;
    enum lockstep_status status;
    for (size_t i = 0; i < count; i++) {
        bool mentioned = false;
        for (size_t k = 0; k < lines->count; k++)
            mentioned = mentioned || lines->line[k].lock.file_no == i;
        wanted = wanted || (targets[i].exists && !targets[i].certain && !mentioned);
    }
    *out_learnt = false;
    if (!wanted)
        return LOCKSTEP_OK;
    status = scan_descriptors(proc, learn, &learning);
    *out_learnt = learning.learnt;
    return status;
}

static bool
has_description(const struct lks_locklines *lines)
{
    for (size_t i = 0; i < lines->count; i++)
        if (lines->line[i].lock.kind == LKS_PROCLOCK_DESCRIPTION && !lines->line[i].lock.waiting)
            return true;
    return false;
}

/*
 * /proc/locks says -1 for the holder of a description's lock.  The lines of one kind, mode and range are
 * replaced by the descriptors that show the same line; lines beyond those keep an unknown holder.
 */
static enum lockstep_status
name_description_holders(const struct lks_locklines *found, struct lks_locklines *lines)
{
    struct lks_locklines out = {0};
    enum lockstep_status status = LOCKSTEP_OK;

    for (size_t i = 0; i < lines->count && status == LOCKSTEP_OK; i++) {
        const struct lks_lockline *line = &lines->line[i];
        size_t ahead = 0, alike = 0, shown = 0;
        if (line->lock.kind != LKS_PROCLOCK_DESCRIPTION || line->lock.waiting) {
            status = lks_locklines_add(&out, line);
            continue;
        }
        for (size_t k = 0; k < lines->count; k++) {
            bool like = same_lock(&lines->line[k].lock, &line->lock);
            ahead += like && k < i;
            alike += like;
        }
        /* The k-th line takes the k-th holder, the last line all that are left. */
        for (size_t k = 0; k < found->count && status == LOCKSTEP_OK; k++) {
            if (!same_lock(&found->line[k].lock, &line->lock))
                continue;
            if (shown == ahead || (shown > ahead && ahead + 1 == alike))
                status = lks_locklines_add(&out, &found->line[k]);
            shown++;
        }
        if (shown <= ahead && status == LOCKSTEP_OK)
            status = lks_locklines_add(&out, line);
    }
    if (status != LOCKSTEP_OK) {
        free(out.line);
        return status;
    }
    free(lines->line);
    *lines = out;
    return LOCKSTEP_OK;
}

/*
 * What the descriptors know better: who holds a description's lock, and what a list in pieces has left out.  The kernel begins
 * each piece by counting the locks up to where the last one ended, so for each that was dropped before that place since it
 * passes over one that stays.  An fdinfo file is one piece, made while the locks of its file are at rest, and neither a
 * process nor a descriptor that stays is left out of its folder.  So what is held all the while is found, if not in the list.
 */
static enum lockstep_status
ask_descriptors(const char *proc, const struct target *targets, size_t count, bool whole, struct lks_locklines *lines)
{
    struct holders holders = {targets, count, {0}};
    enum lockstep_status status;
    if (whole && !has_description(lines))
        return LOCKSTEP_OK;
    status = scan_descriptors(proc, note_holder, &holders);
    if (status == LOCKSTEP_OK)
        status = name_description_holders(&holders.found, lines);
    for (size_t i = 0; i < holders.found.count && status == LOCKSTEP_OK && !whole; i++)
        if (!has_line(lines, lines->count, &holders.found.line[i].lock))
            status = lks_locklines_add(lines, &holders.found.line[i]);
    free(holders.found.line);
    return status;
}

enum lockstep_status
lks_proclocks_collect(const char *proc, const char *const *paths, size_t path_count,
                      struct lks_proclock **out_locks, size_t *out_count)
{
    struct target *targets = calloc(path_count + 1, sizeof *targets);
    struct lks_proclock *locks;
    struct lks_locklines lines = {0};
    bool learnt, whole;
    enum lockstep_status status;

    if (targets == NULL)
        return LOCKSTEP_NOMEM;
    for (size_t i = 0; i < path_count; i++)
        find_target(proc, paths[i], &targets[i]);
    status = read_target_lines(proc, targets, path_count, &lines, &whole);
    if (status != LOCKSTEP_OK)
        goto free_targets;
    status = learn_names(proc, targets, path_count, &lines, &learnt);
    if (status == LOCKSTEP_OK && learnt) {
        free(lines.line);
        memset(&lines, 0, sizeof lines);
        status = read_target_lines(proc, targets, path_count, &lines, &whole);
    }
    if (status == LOCKSTEP_OK)
        status = ask_descriptors(proc, targets, path_count, whole, &lines);
    if (status != LOCKSTEP_OK)
        goto free_lines;
    locks = calloc(lines.count + 1, sizeof *locks);
    if (locks == NULL) {
        status = LOCKSTEP_NOMEM;
        goto free_lines;
    }
    for (size_t i = 0; i < lines.count; i++)
        locks[i] = lines.line[i].lock;
    *out_locks = locks;
    *out_count = lines.count;
free_lines:
    free(lines.line);
free_targets:
    free(targets);
    return status;
}

/* "1234 (name (with) anything) S 1 ...": the name ends at the last bracket, field 22 is the start time. */
bool
lks_proclocks_look(const char *proc, int32_t pid, struct lks_proclocks_process *out_process)
{
    struct lks_proclocks_process process = {0};
    char path[PATH_MAX], *text, *name, *end, *p;
    unsigned reads;
    size_t length;
    if (pid <= 0)
        return false;
    snprintf(path, sizeof path, "%s/%d/stat", proc, (int)pid);
    if (lks_lockline_read(path, &text, &reads) != LOCKSTEP_OK)
        return false;
    name = strchr(text, '(');
    end = strrchr(text, ')');
    if (name == NULL || end == NULL || end < name || end[1] != ' ' || end[2] == '\0') {
        free(text);
        return false;
    }
    length = (size_t)(end - name - 1);
    if (length > sizeof process.program - 1)
        length = sizeof process.program - 1;
    memcpy(process.program, name + 1, length);
    process.state = end[2];
    p = end + 1;
    for (int field = 3; field <= 22 && p != NULL; field++) {
        if (field == 22)
            process.start_time = strtoull(p + 1, NULL, 10);
        p = strchr(p + 1, ' ');
    }
    free(text);
    *out_process = process;
    return true;
}
