#include "os/lockline.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sysmacros.h>
#include <unistd.h>

/* Far above what a machine has; a /proc that goes on for ever must end somewhere. */
#define TEXT_MAX_BYTES (64u << 20)

enum lockstep_status
lks_lockline_read(const char *path, char **out_text, unsigned *out_reads)
{
    size_t n = 0, capacity = 8192;
    unsigned reads = 0;
    char *text = NULL;
    enum lockstep_status status;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        lks_os_set_errno(errno);
        return lks_os_status(errno);
    }
    for (;;) {
        ssize_t got;
        if (text == NULL || n + 4096 >= capacity) {
            char *more = realloc(text, text == NULL ? capacity : (capacity *= 2));
            if (more == NULL || capacity > TEXT_MAX_BYTES) {
                free(more != NULL ? more : text);
                close(fd);
                return LOCKSTEP_NOMEM;
            }
            text = more;
        }
        got = read(fd, text + n, capacity - 1 - n);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0) {
            lks_os_set_errno(errno);
            status = lks_os_status(errno);
            free(text);
            close(fd);
            return status;
        }
        if (got == 0)
            break;
        n += (size_t)got;
        reads++;
    }
    close(fd);
    text[n] = '\0';
    *out_text = text;
    *out_reads = reads;
    return LOCKSTEP_OK;
}

/* Takes the word at *p and steps over it and the blanks around; false at the end. */
static bool
next_word(const char **p, char *word, size_t capacity)
{
    size_t n = 0;
    while (**p == ' ' || **p == '\t')
        ++*p;
    while (**p != '\0' && !isspace((unsigned char)**p)) {
        if (n + 1 < capacity)
            word[n++] = **p;
        ++*p;
    }
    word[n] = '\0';
    return n > 0;
}

static bool
parse_number(const char *word, int base, uint64_t *out_value)
{
    char *end;
    uint64_t value;
    if (!isxdigit((unsigned char)*word))
        return false;
    errno = 0;
    value = strtoull(word, &end, base);
    if (errno != 0 || *end != '\0')
        return false;
    *out_value = value;
    return true;
}

/* "fd:01:5678": the device's numbers in hexadecimal, the inode's in decimal. */
static bool
parse_file(char *word, struct lks_file_id *out_file)
{
    uint64_t major_no, minor_no, inode;
    char *minor_word = strchr(word, ':');
    char *inode_word = minor_word != NULL ? strchr(minor_word + 1, ':') : NULL;
    if (inode_word == NULL)
        return false; /* "<none>:0": a lock without a file */
    *minor_word++ = '\0';
    *inode_word++ = '\0';
    if (!parse_number(word, 16, &major_no) || !parse_number(minor_word, 16, &minor_no) ||
        !parse_number(inode_word, 10, &inode))
        return false;
    out_file->device = (uint64_t)makedev((unsigned)major_no, (unsigned)minor_no);
    out_file->inode = inode;
    return true;
}

static bool
parse_kind(const char *word, enum lks_proclock_kind *out_kind)
{
    static const struct {
        const char *word;
        enum lks_proclock_kind kind;
    } kinds[] = {
        {"POSIX", LKS_PROCLOCK_PROCESS}, {"OFDLCK", LKS_PROCLOCK_DESCRIPTION},
        {"FLOCK", LKS_PROCLOCK_FLOCK},   {"LEASE", LKS_PROCLOCK_LEASE},
        {"DELEG", LKS_PROCLOCK_LEASE},
    };
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++)
        if (strcmp(word, kinds[i].word) == 0) {
            *out_kind = kinds[i].kind;
            return true;
        }
    return false;
}

/*
 * "12: -> POSIX  ADVISORY  WRITE 1234 fd:01:5678 120 EOF".  The arrow, pushed to the right for those who
 * wait for a waiter, marks who waits.  As written by lock_get_status() in Linux's fs/locks.c.
 */
bool
lks_lockline_parse(const char *line, struct lks_proclock *out_lock, struct lks_file_id *out_file)
{
    struct lks_proclock lock = {0};
    struct lks_file_id file;
    char word[64];
    uint64_t number;
    const char *p = line;
    char *end;
    long long pid; /* of a long with 32 bits strtol() would make the largest pid that there is */

    if (!next_word(&p, word, sizeof word) || word[strlen(word) - 1] != ':')
        return false;
    if (!next_word(&p, word, sizeof word))
        return false;
    if (strcmp(word, "->") == 0) {
        lock.waiting = true;
        if (!next_word(&p, word, sizeof word))
            return false;
    }
    if (!parse_kind(word, &lock.kind))
        return false;
    if (!next_word(&p, word, sizeof word)) /* ADVISORY, MANDATORY, ACTIVE, BREAKING, ... */
        return false;
    if (!next_word(&p, word, sizeof word))
        return false;
    lock.exclusive = strcmp(word, "WRITE") == 0;
    if (!lock.exclusive && strcmp(word, "READ") != 0)
        return false;
    if (!next_word(&p, word, sizeof word))
        return false;
    pid = strtoll(word, &end, 10);
    if (*end != '\0' || pid > INT_MAX || pid < -1)
        return false;
    lock.pid = pid > 0 ? (int32_t)pid : 0;
    if (!next_word(&p, word, sizeof word) || !parse_file(word, &file))
        return false;
    if (!next_word(&p, word, sizeof word) || !parse_number(word, 10, &lock.first))
        return false;
    if (!next_word(&p, word, sizeof word))
        return false;
    if (strcmp(word, "EOF") == 0)
        lock.last = UINT64_MAX;
    else if (parse_number(word, 10, &number) && number >= lock.first)
        lock.last = number;
    else
        return false;
    *out_lock = lock;
    *out_file = file;
    return true;
}

enum lockstep_status
lks_locklines_add(struct lks_locklines *lines, const struct lks_lockline *line)
{
    if (lines->count == lines->capacity) {
        size_t capacity = lines->capacity == 0 ? 64 : lines->capacity * 2;
        struct lks_lockline *more = realloc(lines->line, capacity * sizeof *more);
        if (more == NULL)
            return LOCKSTEP_NOMEM;
        lines->line = more;
        lines->capacity = capacity;
    }
    lines->line[lines->count++] = *line;
    return LOCKSTEP_OK;
}
