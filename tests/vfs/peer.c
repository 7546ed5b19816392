#include "vfs/peer.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "vfs/vfstest.h"

#define PEER_CONNECTIONS 10

static bool
read_all(int fd, void *buffer, size_t size)
{
    size_t done = 0;
    while (done < size) {
        ssize_t n = read(fd, (char *)buffer + done, size - done);
        if (n <= 0 && !(n < 0 && errno == EINTR))
            return false;
        done += n > 0 ? (size_t)n : 0;
    }
    return true;
}

static bool
write_all(int fd, const void *buffer, size_t size)
{
    size_t done = 0;
    while (done < size) {
        ssize_t n = write(fd, (const char *)buffer + done, size - done);
        if (n <= 0 && !(n < 0 && errno == EINTR))
            return false;
        done += n > 0 ? (size_t)n : 0;
    }
    return true;
}

static bool
send_text(int fd, const char *text)
{
    uint32_t length = (uint32_t)strlen(text);
    return write_all(fd, &length, sizeof length) && write_all(fd, text, length);
}

/* NULL at the end; free() it. */
static char *
receive_text(int fd)
{
    uint32_t length;
    char *text;
    if (!read_all(fd, &length, sizeof length))
        return NULL;
    text = malloc((size_t)length + 1);
    if (text == NULL || !read_all(fd, text, length)) {
        free(text);
        return NULL;
    }
    text[length] = '\0';
    return text;
}

static int
never_give_up(void *arg, int times)
{
    (void)arg;
    (void)times;
    return 1;
}

static char *
core_attach(const char *path)
{
    struct lockstep_db *core;
    enum lockstep_status status = lockstep_db_open(path, NULL, &core);
    if (status == LOCKSTEP_OK)
        status = lockstep_db_attach(core);
    return sqlite3_mprintf("%s", status == LOCKSTEP_OK ? "" : lockstep_status_name(status));
}

static char *
obey(sqlite3 **connections, const char *command)
{
    char verb[16] = "";
    int n = 0, offset = 0, rc;
    const char *rest;
    sscanf(command, "%15s%n", verb, &offset);
    rest = command + offset;
    rest += *rest == ' ';
    if (strcmp(verb, "log") == 0)
        return sqlite3_mprintf("%s", log_text());
    if (strcmp(verb, "exit") == 0)
        exit(0);
    if (strcmp(verb, "attach") == 0)
        return core_attach(rest);
    if (strcmp(verb, "become") == 0) {
        uid_t uid = (uid_t)atoi(rest);
        return sqlite3_mprintf("%s", setgid(uid) == 0 && setuid(uid) == 0 ? "" : strerror(errno));
    }
    n = rest[0] - '0';
    rest += rest[1] == ' ' ? 2 : 1;
    if (n < 0 || n >= PEER_CONNECTIONS)
        return sqlite3_mprintf("no connection in: %s", command);
    if (strcmp(verb, "open") == 0) {
        rc = sqlite3_open_v2(rest, &connections[n],
                             SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_URI, NULL);
        return rc == SQLITE_OK ? sqlite3_mprintf("")
                               : sqlite3_mprintf("error %d: %s", rc, sqlite3_errmsg(connections[n]));
    }
    if (strcmp(verb, "sql") == 0)
        return run_sql(connections[n], rest, &rc);
    if (strcmp(verb, "close") == 0) {
        rc = sqlite3_close(connections[n]);
        connections[n] = NULL;
        return sqlite3_mprintf("%s", rc == SQLITE_OK ? "" : sqlite3_errstr(rc));
    }
    if (strcmp(verb, "timeout") == 0)
        return sqlite3_mprintf("%s", sqlite3_busy_timeout(connections[n], atoi(rest)) == 0 ? "" : "no");
    if (strcmp(verb, "handler") == 0)
        return sqlite3_mprintf("%s", sqlite3_busy_handler(connections[n], never_give_up, NULL) == 0 ? ""
                                                                                                   : "no");
    return sqlite3_mprintf("unknown: %s", command);
}

int
peer_main(void)
{
    sqlite3 *connections[PEER_CONNECTIONS] = {NULL};
    char *command;
    while ((command = receive_text(STDIN_FILENO)) != NULL) {
        char *answer = obey(connections, command);
        free(command);
        if (!send_text(STDOUT_FILENO, answer))
            return 1;
        sqlite3_free(answer);
    }
    return 0;
}

void
peer_start(struct peer *peer)
{
    int to[2], from[2];
    pid_t parent = getpid();
    ck_assert_int_eq(pipe2(to, O_CLOEXEC), 0);
    ck_assert_int_eq(pipe2(from, O_CLOEXEC), 0);
    memset(peer, 0, sizeof *peer);
    peer->pid = fork();
    ck_assert_int_ge(peer->pid, 0);
    if (peer->pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (getppid() != parent)
            _exit(1);
        dup2(to[0], STDIN_FILENO);
        dup2(from[1], STDOUT_FILENO);
        execl("/proc/self/exe", "peer", "--peer", (char *)NULL);
        _exit(127);
    }
    close(to[0]);
    close(from[1]);
    peer->to = to[1];
    peer->from = from[0];
}

static void
tell(struct peer *peer, const char *format, va_list args)
{
    char *text = sqlite3_vmprintf(format, args);
    ck_assert_msg(send_text(peer->to, text), "the peer is gone: %s", text);
    sqlite3_free(text);
}

void
peer_tell(struct peer *peer, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    tell(peer, format, args);
    va_end(args);
}

const char *
peer_answer(struct peer *peer)
{
    free(peer->reply);
    peer->reply = receive_text(peer->from);
    ck_assert_msg(peer->reply != NULL, "the peer died");
    return peer->reply;
}

bool
peer_answers(struct peer *peer, int wait_ms)
{
    struct pollfd p = {.fd = peer->from, .events = POLLIN, .revents = 0};
    return poll(&p, 1, wait_ms) == 1;
}

const char *
peer_ask(struct peer *peer, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    tell(peer, format, args);
    va_end(args);
    return peer_answer(peer);
}

static void
peer_reap(struct peer *peer)
{
    int status;
    ck_assert_int_eq(waitpid(peer->pid, &status, 0), peer->pid);
    close(peer->to);
    close(peer->from);
    free(peer->reply);
    peer->reply = NULL;
    peer->pid = 0;
}

void
peer_kill(struct peer *peer)
{
    ck_assert_int_eq(kill(peer->pid, SIGKILL), 0);
    peer_reap(peer);
}

void
peer_exit(struct peer *peer)
{
    ck_assert(send_text(peer->to, "exit"));
    peer_reap(peer);
}
