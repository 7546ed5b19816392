#include "harness/actor.h"

#include <check.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define ANSWER_BYTES 65536

struct actor {
    pid_t pid;
    unsigned account;
    int to, from;
    int end_status;
    bool ended;
    char order[160]; /* the last one, for messages */
    char answer[ANSWER_BYTES];
    size_t answer_bytes;
    char text[ANSWER_BYTES];
};

const char *
actor_program(void)
{
    static char path[512];
    const char *top = getenv("LKS_BUILDDIR");
    if (top != NULL) {
        snprintf(path, sizeof path, "%s/tests/harness/actor", top);
    } else {
        /* Started by hand: tests/stories/story_x. */
        ssize_t n = readlink("/proc/self/exe", path, sizeof path - 40);
        char *slash;
        if (n <= 0)
            return "actor";
        path[n] = '\0';
        slash = strrchr(path, '/');
        strcpy(slash, "/../harness/actor");
    }
    return path;
}

_Noreturn static void
become_actor(const char *path, const int *orders, const int *answers, int ledger, unsigned account)
{
    char number[16];
    snprintf(number, sizeof number, "%u", account);
    /* To high numbers first, so that none is overwritten before it was copied. */
    int in = fcntl(orders[0], F_DUPFD, 100), out = fcntl(answers[1], F_DUPFD, 100);
    int book = fcntl(ledger, F_DUPFD, 100);
    if (dup2(in, 0) < 0 || dup2(out, 1) < 0 || dup2(book, 3) < 0)
        _exit(120);
    close(in);
    close(out);
    close(book);
    execl(path, "actor", number, (char *)NULL);
    _exit(121);
}

struct actor *
actor_start(const struct ledger *ledger, unsigned account)
{
    return actor_start_program(actor_program(), ledger, account);
}

struct actor *
actor_start_program(const char *path, const struct ledger *ledger, unsigned account)
{
    struct actor *actor = calloc(1, sizeof *actor);
    int orders[2], answers[2];
    ck_assert_ptr_nonnull(actor);
    ck_assert_uint_lt(account, BOOKS_ACTORS);
    ck_assert_int_eq(pipe2(orders, O_CLOEXEC), 0);
    ck_assert_int_eq(pipe2(answers, O_CLOEXEC), 0);
    signal(SIGPIPE, SIG_IGN);
    actor->account = account;
    actor->pid = fork();
    ck_assert_int_ge(actor->pid, 0);
    if (actor->pid == 0)
        become_actor(path, orders, answers, ledger_descriptor(ledger), account);
    close(orders[0]);
    close(answers[1]);
    actor->to = orders[1];
    actor->from = answers[0];
    ck_assert_msg(actor_hear(actor) == 0, "%s does not start", path);
    return actor;
}

void
actor_finish(struct actor *actor)
{
    if (actor == NULL)
        return;
    if (!actor->ended)
        actor_kill(actor);
    close(actor->to);
    close(actor->from);
    free(actor);
}

static void
tell(struct actor *actor, const char *format, va_list arguments)
{
    char line[8192];
    int n = vsnprintf(line, sizeof line - 1, format, arguments);
    ck_assert(n > 0 && (size_t)n < sizeof line - 1);
    ck_assert_ptr_null(strchr(line, '\n'));
    snprintf(actor->order, sizeof actor->order, "%.150s", line);
    line[n++] = '\n';
    /* To a dead one it cannot be said; that is seen when it is heard. */
    ck_assert(write(actor->to, line, (size_t)n) == n || errno == EPIPE);
}

void
actor_tell(struct actor *actor, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    tell(actor, format, arguments);
    va_end(arguments);
}

bool
actor_answers(struct actor *actor, int timeout_ms)
{
    struct pollfd pipe = {.fd = actor->from, .events = POLLIN};
    return memchr(actor->answer, '\n', actor->answer_bytes) != NULL || poll(&pipe, 1, timeout_ms) > 0;
}

/* Where its threads are, for who looks into a test that failed: name, what of the kernel they sleep in, system call. */
static void
show_threads(pid_t pid)
{
    static const char *const files[] = {"comm", "wchan", "syscall"};
    char path[64], line[200];
    struct dirent *entry;
    DIR *dir;
    snprintf(path, sizeof path, "/proc/%d/task", (int)pid);
    dir = opendir(path);
    while (dir != NULL && (entry = readdir(dir)) != NULL) {
        if (entry->d_name[0] == '.')
            continue;
        printf("thread %s of %d:", entry->d_name, (int)pid);
        for (size_t i = 0; i < sizeof files / sizeof files[0]; i++) {
            char *name = NULL;
            FILE *file = asprintf(&name, "%s/%s/%s", path, entry->d_name, files[i]) < 0 ? NULL : fopen(name, "re");
            if (file != NULL && fgets(line, sizeof line, file) != NULL)
                printf(" %.*s", (int)strcspn(line, "\n"), line);
            if (file != NULL)
                fclose(file);
            free(name);
        }
        printf("\n");
    }
    if (dir != NULL)
        closedir(dir);
    fflush(stdout);
}

int
actor_hear(struct actor *actor)
{
    char *end;
    size_t n;
    int code = 0, skip = 0;
    actor->text[0] = '\0';
    while ((end = memchr(actor->answer, '\n', actor->answer_bytes)) == NULL) {
        ssize_t got;
        if (!actor_answers(actor, ACTOR_PATIENCE_MS)) {
            show_threads(actor->pid);
            ck_abort_msg("actor %u (pid %d) does not answer: %s", actor->account, (int)actor->pid, actor->order);
        }
        ck_assert_uint_lt(actor->answer_bytes, ANSWER_BYTES);
        got = read(actor->from, actor->answer + actor->answer_bytes,
                   ANSWER_BYTES - actor->answer_bytes);
        if (got <= 0) {
            (void)actor_wait(actor);
            return ACTOR_ENDED;
        }
        actor->answer_bytes += (size_t)got;
    }
    *end = '\0';
    ck_assert_int_ge(sscanf(actor->answer, "%d %n", &code, &skip), 1);
    strcpy(actor->text, actor->answer + skip);
    n = (size_t)(end + 1 - actor->answer);
    memmove(actor->answer, end + 1, actor->answer_bytes - n);
    actor->answer_bytes -= n;
    return code;
}

int
actor_do(struct actor *actor, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    tell(actor, format, arguments);
    va_end(arguments);
    return actor_hear(actor);
}

void
actor_must(struct actor *actor, const char *format, ...)
{
    va_list arguments;
    int code;
    va_start(arguments, format);
    tell(actor, format, arguments);
    va_end(arguments);
    code = actor_hear(actor);
    if (code == ACTOR_ENDED)
        ck_abort_msg("actor %u (pid %d) ended (signal %d) at: %s", actor->account, (int)actor->pid,
                     WIFSIGNALED(actor->end_status) ? WTERMSIG(actor->end_status) : 0, actor->order);
    ck_assert_msg(code == 0, "actor %u: %s: %d %s", actor->account, actor->order, code, actor->text);
}

const char *
actor_text(const struct actor *actor)
{
    return actor->text;
}

pid_t
actor_pid(const struct actor *actor)
{
    return actor->pid;
}

unsigned
actor_account(const struct actor *actor)
{
    return actor->account;
}

bool
actor_ended(const struct actor *actor)
{
    return actor->ended;
}

void
actor_halted(struct actor *actor)
{
    int status;
    ck_assert_int_eq(waitpid(actor->pid, &status, WUNTRACED), actor->pid);
    ck_assert_msg(WIFSTOPPED(status), "actor %u ended instead of stopping", actor->account);
}

bool
actor_halts(struct actor *actor)
{
    int status;
    do {
        pid_t pid = waitpid(actor->pid, &status, WNOHANG | WUNTRACED);
        ck_assert_int_ge(pid, 0);
        if (pid == actor->pid) {
            ck_assert_msg(WIFSTOPPED(status), "actor %u ended instead of stopping", actor->account);
            return true;
        }
    } while (!actor_answers(actor, 5));
    return false;
}

void
actor_stop(struct actor *actor)
{
    ck_assert_int_eq(kill(actor->pid, SIGSTOP), 0);
    actor_halted(actor);
}

void
actor_continue(struct actor *actor)
{
    ck_assert_int_eq(kill(actor->pid, SIGCONT), 0);
}

void
actor_kill(struct actor *actor)
{
    if (!actor->ended) {
        ck_assert_int_eq(kill(actor->pid, SIGKILL), 0);
        (void)actor_wait(actor);
    }
}

int
actor_wait(struct actor *actor)
{
    if (!actor->ended) {
        struct pollfd pipe = {.fd = actor->from, .events = 0};
        /* Its end of the pipe closes when it ends: a wait that can be given up. */
        while (poll(&pipe, 1, ACTOR_PATIENCE_MS) > 0 && (pipe.revents & POLLHUP) == 0)
            ;
        if ((pipe.revents & POLLHUP) == 0)
            ck_abort_msg("actor %u (pid %d) does not end: %s", actor->account, (int)actor->pid,
                         actor->order);
        ck_assert_int_eq(waitpid(actor->pid, &actor->end_status, 0), actor->pid);
        actor->ended = true;
    }
    return WIFSIGNALED(actor->end_status) ? WTERMSIG(actor->end_status) : 0;
}

int
actor_audit(struct actor *actor, struct books *out)
{
    int code = actor_do(actor, "audit");
    const char *p = actor->text;
    int skip = 0;
    memset(out, 0, sizeof *out);
    snprintf(out->wrong, sizeof out->wrong, "%.250s", actor->text);
    if (code != 0)
        return code;
    ck_assert_int_eq(sscanf(p, "%" SCNd64 "%n", &out->n, &skip), 1);
    for (p += skip; *p != '\0'; p += skip) {
        unsigned account;
        int64_t seq;
        ck_assert_int_eq(sscanf(p, " %u=%" SCNd64 "%n", &account, &seq, &skip), 2);
        ck_assert_uint_lt(account, BOOKS_ACTORS);
        out->seq[account] = seq;
    }
    return 0;
}
