#include "findex_crew.h"

#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

bool
findex_crew_init(struct findex_crew *crew, size_t n_members)
{
    *crew = (struct findex_crew){.n_room = n_members};
    crew->members = calloc(n_members, sizeof *crew->members);
    if (crew->members == NULL)
        warnx("out of memory");
    return crew->members != NULL;
}

/* This program's own file, so that the kernel shows its name for the children, too. */
static bool
find_self(char path[PATH_MAX])
{
    ssize_t n = readlink("/proc/self/exe", path, PATH_MAX - 1);

    if (n < 0) {
        warn("/proc/self/exe");
        return false;
    }
    path[n] = '\0';
    return true;
}

/* With the job and the socket on their descriptors.  An errno. */
static int
spawn(const char *self, char *const argv[], int job_fd, int channel, pid_t *out_pid)
{
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attributes;
    sigset_t blocked;
    int rc;

    /* Ctrl-C goes to the whole group: it is the parent who tells the children to stop. */
    sigemptyset(&blocked);
    sigaddset(&blocked, SIGINT);
    rc = posix_spawn_file_actions_init(&actions);
    if (rc != 0)
        return rc;
    rc = posix_spawnattr_init(&attributes);
    if (rc != 0)
        goto out_actions;
    if ((rc = posix_spawn_file_actions_adddup2(&actions, job_fd, FINDEX_JOB_FD)) == 0
        && (rc = posix_spawn_file_actions_adddup2(&actions, channel, FINDEX_CHANNEL_FD)) == 0
        && (rc = posix_spawnattr_setsigmask(&attributes, &blocked)) == 0
        && (rc = posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK)) == 0)
        rc = posix_spawn(out_pid, self, &actions, &attributes, argv, environ);
    posix_spawnattr_destroy(&attributes);
out_actions:
    posix_spawn_file_actions_destroy(&actions);
    return rc;
}

bool
findex_crew_start(struct findex_crew *crew, enum findex_role role, unsigned number, int job_fd)
{
    struct findex_member *member = &crew->members[crew->n_members];
    char self[PATH_MAX], digits[12];
    char *argv[] = {(char *)"findex", (char *)"--child", (char *)findex_role_name(role), digits,
                    NULL};
    int channel[2] = {-1, -1}, high, error;

    if (!find_self(self))
        return false;
    snprintf(digits, sizeof digits, "%u", number);
    member->message = calloc(1, sizeof *member->message);
    if (member->message == NULL
        || socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, channel) != 0) {
        warn("cannot start a %s", findex_role_name(role));
        free(member->message);
        member->message = NULL;
        return false;
    }
    /* The child's end must not be in the way of the descriptors it is to be copied to. */
    high = fcntl(channel[1], F_DUPFD_CLOEXEC, FINDEX_CHANNEL_FD + 1);
    error = high >= 0 ? spawn(self, argv, job_fd, high, &member->pid) : errno;
    close(channel[1]);
    if (high >= 0)
        close(high);
    if (error != 0) {
        warnx("cannot start a %s: %s", findex_role_name(role), strerror(error));
        close(channel[0]);
        free(member->message);
        member->message = NULL;
        return false;
    }
    member->role = role;
    member->number = number;
    member->channel = channel[0];
    member->state = FINDEX_STARTING;
    crew->n_members++;
    return true;
}

static void
lose(struct findex_member *member)
{
    close(member->channel);
    member->channel = -1;
    while (waitpid(member->pid, &member->status, 0) < 0 && errno == EINTR)
        ;
    member->state = FINDEX_GONE;
}

static void
hear(struct findex_member *member)
{
    struct findex_message *message = member->message;
    ssize_t n = recv(member->channel, message, sizeof *message, MSG_DONTWAIT);

    if (n < 0 && (errno == EINTR || errno == EAGAIN))
        return;
    if (n != (ssize_t)sizeof *message) {
        lose(member);
        return;
    }
    member->state = message->state;
    if (message->state == FINDEX_CLOSED)
        member->closed_ns = message->at_ns;
}

bool
findex_crew_listen(struct findex_crew *crew, uint64_t until_ns, int other_fd)
{
    struct pollfd fds[257];
    uint64_t now_ns = findex_now_ns(), wait_ns = until_ns > now_ns ? until_ns - now_ns : 0;
    struct timespec timeout = {.tv_sec = (time_t)(wait_ns / 1000000000u),
                               .tv_nsec = (long)(wait_ns % 1000000000u)};
    const size_t n = crew->n_members;
    sigset_t none;

    sigemptyset(&none);
    for (size_t i = 0; i < n; i++)
        fds[i] = (struct pollfd){.fd = crew->members[i].channel, .events = POLLIN};
    fds[n] = (struct pollfd){.fd = other_fd, .events = POLLIN};
    if (ppoll(fds, n + 1, &timeout, &none) <= 0)
        return false;
    for (size_t i = 0; i < n; i++) {
        if (fds[i].revents != 0)
            hear(&crew->members[i]);
    }
    return fds[n].revents != 0;
}

void
findex_crew_release_one(struct findex_member *member)
{
    /* If it fails the child has died, which is heard soon. */
    if (member->channel >= 0)
        (void)!send(member->channel, "", 1, MSG_NOSIGNAL | MSG_DONTWAIT);
}

void
findex_crew_release(struct findex_crew *crew, enum findex_role role)
{
    for (size_t i = 0; i < crew->n_members; i++) {
        if (crew->members[i].role == role)
            findex_crew_release_one(&crew->members[i]);
    }
}

bool
findex_crew_reached(const struct findex_crew *crew, enum findex_role role, enum findex_state state)
{
    for (size_t i = 0; i < crew->n_members; i++) {
        if (crew->members[i].role == role && crew->members[i].state < state)
            return false;
    }
    return true;
}

bool
findex_crew_complaint(const struct findex_member *member, char *text, size_t room)
{
    const char *role = findex_role_name(member->role);
    const bool gone = member->state == FINDEX_GONE;

    if (member->message->failed)
        snprintf(text, room, "%s %u: %s", role, member->number, member->message->text);
    else if (gone && WIFSIGNALED(member->status))
        snprintf(text, room, "%s %u (pid %ld) was killed by signal %d, %s", role, member->number,
                 (long)member->pid, WTERMSIG(member->status), strsignal(WTERMSIG(member->status)));
    else if (gone && WEXITSTATUS(member->status) != 0)
        snprintf(text, room, "%s %u (pid %ld) ended with code %d", role, member->number,
                 (long)member->pid, WEXITSTATUS(member->status));
    else if (member->message->tally.wrong > 0)
        snprintf(text, room, "%s %u: wrong answer: %s", role, member->number,
                 member->message->text);
    else
        return false;
    return true;
}

void
findex_crew_kill(struct findex_crew *crew)
{
    for (size_t i = 0; i < crew->n_members; i++) {
        if (crew->members[i].state != FINDEX_GONE)
            kill(crew->members[i].pid, SIGKILL);
    }
    for (size_t i = 0; i < crew->n_members; i++) {
        if (crew->members[i].state != FINDEX_GONE)
            lose(&crew->members[i]);
    }
}

void
findex_crew_free(struct findex_crew *crew)
{
    findex_crew_kill(crew);
    for (size_t i = 0; i < crew->n_members; i++)
        free(crew->members[i].message);
    free(crew->members);
    *crew = (struct findex_crew){0};
}
