#include "findex_locks.h"

#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

#define MOST_BYTES (1u << 20)

static bool
is_program(const char *path)
{
    struct stat st;

    return stat(path, &st) == 0 && S_ISREG(st.st_mode) && access(path, X_OK) == 0;
}

/* directory/name as malloc()ed memory if it is a program. */
static char *
program_in(const char *directory, size_t length, const char *name)
{
    char *path;

    if (asprintf(&path, "%.*s/%s", (int)length, directory, name) < 0)
        return NULL;
    if (is_program(path))
        return path;
    free(path);
    return NULL;
}

static char *
find_near_self(void)
{
    /* Installed; in the build tree; in the build tree behind libtool's wrapper script. */
    static const char *const places[] = {"lockstep", "../lockstep", "../../lockstep"};
    char self[PATH_MAX], *path = NULL;

    ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
    if (n <= 0)
        return NULL;
    self[n] = '\0';
    char *slash = strrchr(self, '/');
    for (size_t i = 0; i < sizeof places / sizeof *places && path == NULL; i++)
        path = program_in(self, (size_t)(slash - self), places[i]);
    return path;
}

char *
findex_locks_find(const char *given)
{
    if (given != NULL)
        return is_program(given) ? strdup(given) : NULL;

    char *path = find_near_self();
    const char *directory = getenv("PATH");
    while (path == NULL && directory != NULL && *directory != '\0') {
        size_t length = strcspn(directory, ":");
        path = program_in(length > 0 ? directory : ".", length > 0 ? length : 1, "lockstep");
        directory += length + (directory[length] == ':');
    }
    return path;
}

bool
findex_locks_start(struct findex_locks *locks, const char *command, const char *database)
{
    char *argv[] = {(char *)"lockstep", (char *)"locks", (char *)database, NULL};
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attributes;
    sigset_t none;
    int out[2], error;

    *locks = (struct findex_locks){.fd = -1};
    if (pipe2(out, O_CLOEXEC) != 0) {
        warn("%s", command);
        return false;
    }
    sigemptyset(&none);
    posix_spawn_file_actions_init(&actions);
    posix_spawnattr_init(&attributes);
    posix_spawnattr_setsigmask(&attributes, &none);
    posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK);
    error = posix_spawn_file_actions_adddup2(&actions, out[1], STDOUT_FILENO);
    if (error == 0)
        error = posix_spawn_file_actions_adddup2(&actions, out[1], STDERR_FILENO);
    if (error == 0)
        error = posix_spawn(&locks->pid, command, &actions, &attributes, argv, environ);
    posix_spawnattr_destroy(&attributes);
    posix_spawn_file_actions_destroy(&actions);
    close(out[1]);
    if (error != 0) {
        locks->pid = 0;
        close(out[0]);
        warnx("%s: %s", command, strerror(error));
        return false;
    }
    locks->fd = out[0];
    fcntl(locks->fd, F_SETFL, O_NONBLOCK);
    return true;
}

static void
reap(struct findex_locks *locks)
{
    int status = -1;

    while (waitpid(locks->pid, &status, 0) < 0 && errno == EINTR)
        ;
    locks->ok = WIFEXITED(status) && WEXITSTATUS(status) == 0;
    locks->pid = 0;
    close(locks->fd);
    locks->fd = -1;
}

bool
findex_locks_read(struct findex_locks *locks)
{
    char buf[4096], *more;
    ssize_t n;

    while ((n = read(locks->fd, buf, sizeof buf)) > 0) {
        if (locks->used + (size_t)n >= MOST_BYTES)
            continue; /* read on, so that it can end */
        more = realloc(locks->text, locks->used + (size_t)n + 1);
        if (more == NULL)
            continue;
        memcpy(more + locks->used, buf, (size_t)n);
        locks->text = more;
        locks->used += (size_t)n;
        locks->text[locks->used] = '\0';
    }
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return false;
    reap(locks);
    return true;
}

void
findex_locks_free(struct findex_locks *locks)
{
    if (locks->pid != 0) {
        kill(locks->pid, SIGKILL);
        reap(locks);
    }
    free(locks->text);
    *locks = (struct findex_locks){.fd = -1};
}
