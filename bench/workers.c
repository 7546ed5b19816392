#include "bench/workers.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bench/moment.h"
#include "bench/message.h"

/* How long getting ready, and flushing and closing after the run, may take before it is a hang. */
#define PATIENCE_MS 120000
/* From the start signal to the common start: time enough to wake every worker. */
#define START_AHEAD_NS (20 * BENCH_NS_PER_MS)

extern char **environ;

/* One process, seen from here.  What it sends is gathered in `in`, part by part. */
struct member {
    pid_t pid; /* 0: not started, or reaped */
    int to_fd;
    int from_fd;
    size_t received;
    union {
        struct bench_ready ready;
        struct bench_result result;
    } in;
};

/* A fleet while it runs. */
struct crew {
    const struct bench_fleet *fleet;
    struct member *members;
    struct pollfd *fds;
    pid_t *pids;
    uint64_t start_ns; /* 0 before the start */
};

static volatile sig_atomic_t caught_signal;

static void
on_signal(int number)
{
    caught_signal = number;
}

void
bench_fleet_catch_signals(void)
{
    struct sigaction action = {.sa_handler = on_signal}; /* no SA_RESTART: poll() must return */
    sigemptyset(&action.sa_mask);
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    signal(SIGPIPE, SIG_IGN);
}

int
bench_fleet_signal(void)
{
    return caught_signal;
}

/* ---- starting ---- */

static void
close_fd(int *fd)
{
    if (*fd >= 0)
        close(*fd);
    *fd = -1;
}

/* The child gets its ends as standard input and output, and nothing else of ours. */
static int
spawn(char *const *argv, int in_fd, int out_fd, pid_t *out_pid)
{
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attributes;
    sigset_t defaults;
    int rc = posix_spawn_file_actions_init(&actions);
    if (rc != 0)
        return rc;
    rc = posix_spawnattr_init(&attributes);
    if (rc != 0)
        goto destroy_actions;
    sigemptyset(&defaults);
    sigaddset(&defaults, SIGPIPE);
    posix_spawnattr_setsigdefault(&attributes, &defaults);
    posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGDEF);
    rc = posix_spawn_file_actions_adddup2(&actions, in_fd, STDIN_FILENO);
    if (rc == 0)
        rc = posix_spawn_file_actions_adddup2(&actions, out_fd, STDOUT_FILENO);
    if (rc == 0)
        rc = posix_spawnp(out_pid, argv[0], &actions, &attributes, argv, environ);
    posix_spawnattr_destroy(&attributes);
destroy_actions:
    posix_spawn_file_actions_destroy(&actions);
    return rc;
}

static bool
write_whole(int fd, const void *buf, size_t size)
{
    const char *at = buf;
    while (size > 0) {
        ssize_t n = write(fd, at, size);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return false;
        at += n;
        size -= (size_t)n;
    }
    return true;
}

static bool
start_member(const struct bench_fleet *fleet, size_t i, struct member *m)
{
    int to[2] = {-1, -1};
    int from[2] = {-1, -1};
    char self[PATH_MAX];
    ssize_t length = readlink("/proc/self/exe", self, sizeof(self) - 1);
    if (length < 0)
        return bench_error("reading /proc/self/exe: %s", strerror(errno));
    self[length] = '\0';
    char *plain[] = {self, "bench", "--worker", NULL};
    char *traced[] = {"strace", "-c", "-f", "-o", (char *)(uintptr_t)fleet->strace_output,
                      self, "bench", "--worker", NULL};

    if (pipe2(to, O_CLOEXEC) != 0 || pipe2(from, O_CLOEXEC) != 0) {
        bench_error("making a pipe: %s", strerror(errno));
        goto close_pipes;
    }
    int rc = spawn(fleet->strace_output != NULL ? traced : plain, to[0], from[1], &m->pid);
    if (rc != 0) {
        m->pid = 0;
        bench_error("starting a worker: %s", strerror(rc));
        goto close_pipes;
    }
    close_fd(&to[0]);
    close_fd(&from[1]);
    m->to_fd = to[1];
    m->from_fd = from[0];
    struct bench_job job = fleet->jobs[i];
    job.size = sizeof(job);
    job.parent = fleet->strace_output != NULL ? 0 : getpid();
    if (!write_whole(m->to_fd, &job, sizeof(job)))
        return bench_error("a worker died before it had its job");
    return true;

close_pipes:
    close_fd(&to[0]);
    close_fd(&to[1]);
    close_fd(&from[0]);
    close_fd(&from[1]);
    return false;
}

/* ---- gathering ---- */

/* Takes what is there.  False: the worker is gone, or reading failed. */
static bool
receive(struct member *m, size_t wanted)
{
    ssize_t n = read(m->from_fd, (char *)&m->in + m->received, wanted - m->received);
    if (n < 0 && errno == EINTR)
        return true;
    if (n <= 0)
        return false;
    m->received += (size_t)n;
    return true;
}

static void
describe_death(struct member *m, size_t i)
{
    int status = 0;
    if (waitpid(m->pid, &status, 0) != m->pid)
        status = 0;
    m->pid = 0;
    if (WIFSIGNALED(status))
        bench_error("worker %zu was killed by signal %d (%s)", i, WTERMSIG(status),
                    strsignal(WTERMSIG(status)));
    else
        bench_error("worker %zu ended without a report (exit status %d)", i, WEXITSTATUS(status));
}

static void
look(const struct crew *crew)
{
    const struct bench_watch *watch = crew->fleet->watch;
    uint64_t now_ns = bench_moment_ns();
    if (now_ns < crew->start_ns)
        return;
    for (size_t i = 0; i < crew->fleet->n; i++)
        crew->pids[i] = crew->members[i].pid;
    watch->look(watch->context, crew->pids, crew->fleet->n, now_ns - crew->start_ns);
}

/* Takes what has come.  Lowers *missing by the members whose report is whole. */
static bool
receive_all(struct crew *crew, size_t wanted, size_t *missing)
{
    for (size_t i = 0; i < crew->fleet->n; i++) {
        if (crew->fds[i].fd < 0 || crew->fds[i].revents == 0)
            continue;
        if (!receive(&crew->members[i], wanted)) {
            describe_death(&crew->members[i], i);
            return false;
        }
        if (crew->members[i].received == wanted) {
            crew->fds[i].fd = -1;
            (*missing)--;
        }
    }
    return true;
}

/* Waits for `wanted` bytes from every member. */
static bool
gather(struct crew *crew, size_t wanted, uint64_t limit_ms)
{
    bool watched = crew->start_ns != 0 && crew->fleet->watch != NULL;
    uint64_t limit_ns = bench_moment_ns() + limit_ms * BENCH_NS_PER_MS;
    size_t n = crew->fleet->n;
    size_t missing = n;
    for (size_t i = 0; i < n; i++) {
        crew->fds[i] = (struct pollfd){.fd = crew->members[i].from_fd, .events = POLLIN};
        crew->members[i].received = 0;
    }
    while (missing > 0) {
        int ready = poll(crew->fds, n, watched ? (int)crew->fleet->watch->every_ms : 1000);
        if (caught_signal != 0)
            return bench_error("ended by signal %d", (int)caught_signal);
        if (ready < 0 && errno != EINTR)
            return bench_error("waiting for workers: %s", strerror(errno));
        if (ready > 0 && !receive_all(crew, wanted, &missing))
            return false;
        if (ready == 0 && watched)
            look(crew);
        if (missing > 0 && bench_moment_ns() > limit_ns)
            return bench_error("%zu of %zu workers did not report within %llu s", missing, n,
                               (unsigned long long)(limit_ms / 1000));
    }
    return true;
}

static bool
await_ready(struct crew *crew)
{
    if (!gather(crew, sizeof(struct bench_ready), PATIENCE_MS))
        return false;
    for (size_t i = 0; i < crew->fleet->n; i++) {
        if (crew->members[i].in.ready.failed)
            return bench_error("%s: worker %zu: %s", crew->fleet->jobs[i].side.label, i,
                               crew->members[i].in.ready.message);
    }
    return true;
}

static bool
start_all(struct crew *crew)
{
    crew->start_ns = bench_moment_ns() + START_AHEAD_NS;
    struct bench_go go = {.start_ns = crew->start_ns};
    for (size_t i = 0; i < crew->fleet->n; i++) {
        if (!write_whole(crew->members[i].to_fd, &go, sizeof(go)))
            return bench_error("worker %zu died before the start", i);
    }
    return true;
}

static bool
await_results(struct crew *crew, struct bench_result *results)
{
    const struct bench_fleet *fleet = crew->fleet;
    uint64_t longest_ns = 0;
    for (size_t i = 0; i < fleet->n; i++) {
        if (fleet->jobs[i].duration_ns > longest_ns)
            longest_ns = fleet->jobs[i].duration_ns;
    }
    if (!gather(crew, sizeof(struct bench_result), longest_ns / BENCH_NS_PER_MS + PATIENCE_MS))
        return false;
    for (size_t i = 0; i < fleet->n; i++) {
        results[i] = crew->members[i].in.result;
        if (results[i].failed)
            return bench_error("%s: worker %zu: %s", fleet->jobs[i].side.label, i,
                               results[i].message);
    }
    return true;
}

/* Workers that have reported end by themselves; when something failed they are killed. */
static void
end_members(struct member *members, size_t n, bool kill_them)
{
    for (size_t i = 0; i < n; i++) {
        if (members[i].pid > 0 && kill_them)
            kill(members[i].pid, SIGKILL);
        close_fd(&members[i].to_fd);
        close_fd(&members[i].from_fd);
    }
    for (size_t i = 0; i < n; i++) {
        while (members[i].pid > 0 && waitpid(members[i].pid, NULL, 0) < 0 && errno == EINTR)
            ;
        members[i].pid = 0;
    }
}

bool
bench_fleet_run(const struct bench_fleet *fleet, struct bench_result *results)
{
    struct crew crew = {.fleet = fleet};
    size_t started = 0;
    bool ok = false;
    crew.members = calloc(fleet->n, sizeof(*crew.members));
    crew.fds = calloc(fleet->n, sizeof(*crew.fds));
    crew.pids = calloc(fleet->n, sizeof(*crew.pids));
    if (crew.members == NULL || crew.fds == NULL || crew.pids == NULL) {
        bench_error("out of memory");
        goto free_crew;
    }
    for (size_t i = 0; i < fleet->n; i++) {
        crew.members[i].to_fd = -1;
        crew.members[i].from_fd = -1;
    }
    while (started < fleet->n && caught_signal == 0 &&
           start_member(fleet, started, &crew.members[started]))
        started++;
    ok = started == fleet->n && await_ready(&crew) && start_all(&crew) &&
         await_results(&crew, results);
    end_members(crew.members, fleet->n, !ok);
free_crew:
    free(crew.pids);
    free(crew.fds);
    free(crew.members);
    return ok;
}
