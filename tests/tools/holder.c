#include "tools/holder.h"

#include <check.h>
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <sqlite3.h>

#define PATIENCE 5000 /* looks at something that must come, a millisecond apart */

struct holder {
    pid_t pid;
    FILE *to, *from;
};

static char folder[64];
static struct holder holders[MAX_HOLDERS];
static unsigned holder_count;

/* ------------------------------------------------------------------------------------------------
 * In the child
 * --------------------------------------------------------------------------------------------- */

static char line[4096];

static void
answer(int code)
{
    dprintf(STDOUT_FILENO, "%d\n", code);
}

static int
stop_in_busy_handler(void *arg, int count)
{
    (void)arg;
    if (count > 0)
        return 0;
    answer(-1);
    if (fgets(line, sizeof line, stdin) == NULL)
        _exit(0);
    return 0;
}

static int
take_lock(const char *arguments)
{
    char file[64], kind, mode;
    long long first, size;
    struct flock lock = {.l_whence = SEEK_SET};
    int fd, command;
    if (sscanf(arguments, "%63s %c %c %lld %lld", file, &kind, &mode, &first, &size) != 5)
        return EINVAL;
    lock.l_type = mode == 'w' ? F_WRLCK : F_RDLCK;
    lock.l_start = (off_t)first;
    lock.l_len = (off_t)size;
    fd = open(holder_path(file), O_RDWR | O_CREAT, 0644); /* kept until the end */
    command = kind == 'O' ? F_OFD_SETLK : kind == 'W' ? F_SETLKW : F_SETLK;
    return fd >= 0 && fcntl(fd, command, &lock) == 0 ? 0 : errno;
}

_Noreturn static void
serve(const char *vfs, int (*prepare)(void), const char *parameters)
{
    char uri[256];
    sqlite3 *db;
    prctl(PR_SET_NAME, "holder");
    if (prepare != NULL && prepare() != SQLITE_OK)
        _exit(1);
    snprintf(uri, sizeof uri, "file:%s?%s", holder_path("db"), parameters);
    if (sqlite3_open_v2(uri, &db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_URI, vfs) !=
        SQLITE_OK)
        _exit(1);
    answer(0);
    while (fgets(line, sizeof line, stdin) != NULL) {
        line[strcspn(line, "\n")] = '\0';
        if (strncmp(line, "sql ", 4) == 0)
            answer(sqlite3_exec(db, line + 4, NULL, NULL, NULL));
        else if (strncmp(line, "stops ", 6) == 0) {
            sqlite3_busy_handler(db, stop_in_busy_handler, NULL);
            answer(sqlite3_exec(db, line + 6, NULL, NULL, NULL));
            sqlite3_busy_handler(db, NULL, NULL);
        } else if (strncmp(line, "lock ", 5) == 0)
            answer(take_lock(line + 5));
        else
            answer(-2);
    }
    _exit(0);
}

/* ------------------------------------------------------------------------------------------------
 * In the test
 * --------------------------------------------------------------------------------------------- */

void
holder_begin(void)
{
    strcpy(folder, "/tmp/lks-tools-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(folder));
    holder_count = 0;
}

void
holder_finish(void)
{
    char command[128];
    for (unsigned i = 0; i < holder_count; i++)
        if (holders[i].pid > 0)
            holder_kill((char)('A' + i));
    snprintf(command, sizeof command, "rm -rf '%s'", folder);
    ck_assert_int_eq(system(command), 0);
}

const char *
holder_path(const char *name)
{
    static char paths[4][128];
    static unsigned turn;
    char *path = paths[turn++ % 4];
    snprintf(path, sizeof paths[0], "%s/%s", folder, name);
    return path;
}

static struct holder *
holder(char who)
{
    ck_assert(who >= 'A' && who < (char)('A' + holder_count));
    ck_assert_int_gt(holders[who - 'A'].pid, 0);
    return &holders[who - 'A'];
}

static int
hear(char who)
{
    char reply[32];
    ck_assert_msg(fgets(reply, sizeof reply, holder(who)->from) != NULL, "%c is gone", who);
    return atoi(reply);
}

/* The kernel marks a process as sleeping a moment after it has answered. */
static void
await_state(char who, char state)
{
    char path[64], text[512], seen = 0;
    snprintf(path, sizeof path, "/proc/%d/stat", (int)holder(who)->pid);
    for (int i = 0; i < PATIENCE; i++) {
        FILE *stat = fopen(path, "r");
        ck_assert_ptr_nonnull(stat);
        ck_assert_ptr_nonnull(fgets(text, sizeof text, stat));
        fclose(stat);
        seen = strrchr(text, ')')[2];
        if (seen == state)
            return;
        usleep(1000);
    }
    ck_abort_msg("%c is in state %c, not %c", who, seen, state);
}

char
holder_start(void)
{
    return holder_start_with("unix", NULL, "");
}

char
holder_start_with(const char *vfs, int (*prepare)(void), const char *parameters)
{
    int to[2], from[2];
    struct holder *h = &holders[holder_count];
    char who = (char)('A' + holder_count);
    ck_assert_uint_lt(holder_count, MAX_HOLDERS);
    ck_assert_int_eq(pipe2(to, O_CLOEXEC), 0);
    ck_assert_int_eq(pipe2(from, O_CLOEXEC), 0);
    fflush(NULL);
    h->pid = fork();
    ck_assert_int_ge(h->pid, 0);
    if (h->pid == 0) {
        /* Pipes of earlier holders must end when the test does. */
        for (unsigned i = 0; i < holder_count; i++)
            if (holders[i].pid > 0) {
                close(fileno(holders[i].to));
                close(fileno(holders[i].from));
            }
        close(to[1]);
        close(from[0]);
        dup2(to[0], STDIN_FILENO);
        dup2(from[1], STDOUT_FILENO);
        serve(vfs, prepare, parameters);
    }
    close(to[0]);
    close(from[1]);
    h->to = fdopen(to[1], "w");
    h->from = fdopen(from[0], "r");
    holder_count++;
    ck_assert_int_eq(hear(who), 0);
    return who;
}

pid_t
holder_pid(char who)
{
    return holder(who)->pid;
}

static void
tell(char who, const char *verb, const char *what)
{
    fprintf(holder(who)->to, "%s %s\n", verb, what);
    ck_assert_int_eq(fflush(holder(who)->to), 0);
}

void
holder_sql(char who, const char *sql, int expect)
{
    int rc;
    tell(who, "sql", sql);
    rc = hear(who);
    ck_assert_msg(rc == expect, "%c: %s: %d", who, sql, rc);
    await_state(who, 'S');
}

void
holder_sql_begins(char who, const char *sql)
{
    tell(who, "sql", sql);
}

void
holder_ends(char who, int expect)
{
    ck_assert_int_eq(hear(who), expect);
    await_state(who, 'S');
}

void
holder_sql_stops(char who, const char *sql)
{
    tell(who, "stops", sql);
    ck_assert_int_eq(hear(who), -1);
    await_state(who, 'S');
}

void
holder_goes(char who, int expect)
{
    tell(who, "go", "");
    holder_ends(who, expect);
}

static void
tell_lock(char who, const char *file, char kind, char mode, long long first, long long size)
{
    char text[128];
    snprintf(text, sizeof text, "%s %c %c %lld %lld", file, kind, mode, first, size);
    tell(who, "lock", text);
}

void
holder_lock(char who, const char *file, char kind, char mode, long long first, long long size)
{
    tell_lock(who, file, kind, mode, first, size);
    ck_assert_int_eq(hear(who), 0);
    await_state(who, 'S');
}

void
holder_waits(char who, const char *file, char mode, long long first, long long size)
{
    char text[256], want[64];
    snprintf(want, sizeof want, " %d ", (int)holder(who)->pid);
    tell_lock(who, file, 'W', mode, first, size);
    for (int i = 0; i < PATIENCE; i++) {
        FILE *locks = fopen("/proc/locks", "r");
        bool waits = false;
        ck_assert_ptr_nonnull(locks);
        while (fgets(text, sizeof text, locks) != NULL)
            waits = waits || (strstr(text, "->") != NULL && strstr(text, want) != NULL);
        fclose(locks);
        if (waits) {
            await_state(who, 'S');
            return;
        }
        usleep(1000);
    }
    ck_abort_msg("%c does not wait", who);
}

void
holder_stop(char who)
{
    int status;
    ck_assert_int_eq(kill(holder_pid(who), SIGSTOP), 0);
    ck_assert_int_eq(waitpid(holder_pid(who), &status, WUNTRACED), holder_pid(who));
    ck_assert(WIFSTOPPED(status));
}

void
holder_continue(char who)
{
    ck_assert_int_eq(kill(holder_pid(who), SIGCONT), 0);
    await_state(who, 'S');
}

void
holder_kill(char who)
{
    struct holder *h = holder(who);
    ck_assert_int_eq(kill(h->pid, SIGKILL), 0);
    ck_assert_int_eq(waitpid(h->pid, NULL, 0), h->pid);
    fclose(h->to);
    fclose(h->from);
    h->pid = 0;
}

/* ------------------------------------------------------------------------------------------------
 * The command
 * --------------------------------------------------------------------------------------------- */

static char *
read_file(const char *path)
{
    char *text = calloc(1, 1 << 16);
    FILE *file = fopen(path, "r");
    ck_assert_ptr_nonnull(text);
    ck_assert_ptr_nonnull(file);
    ck_assert_uint_lt(fread(text, 1, (1 << 16) - 1, file), (1 << 16) - 1);
    fclose(file);
    return text;
}

/* Length of an age as tools/render.c writes it, 0 if `word` is none. */
static size_t
age_length(const char *word)
{
    static const char *const units[] = {"ms", "min", "s"};
    size_t digits = strspn(word, "0123456789.");
    for (size_t i = 0; digits > 0 && i < sizeof units / sizeof units[0]; i++) {
        size_t length = strlen(units[i]);
        if (strncmp(word + digits, units[i], length) == 0 && !isalnum((unsigned char)word[digits + length]))
            return digits + length;
    }
    return 0;
}

/* In place: what is written is never longer than what is read. */
static void
normalise(char *text)
{
    char *to = text;
    for (const char *from = text; *from != '\0';) {
        size_t length;
        bool begins = from == text || !isalnum((unsigned char)from[-1]);
        if (strncmp(from, folder, strlen(folder)) == 0) {
            to = stpcpy(to, "DIR");
            from += strlen(folder);
            continue;
        }
        if (begins && (length = age_length(from)) >= 3) {
            to = stpcpy(to, "AGE");
            from += length;
            continue;
        }
        if (begins && isdigit((unsigned char)*from)) {
            char *end;
            long number = strtol(from, &end, 10);
            for (unsigned i = 0; i < holder_count && !isalnum((unsigned char)*end); i++)
                if (holders[i].pid > 0 && number == holders[i].pid) {
                    *to++ = (char)('A' + i);
                    from = end;
                    break;
                }
            if (from == end)
                continue;
        }
        if (*from == ' ' && (to == text || to[-1] == ' ' || to[-1] == '\n')) {
            from++;
            continue;
        }
        if (*from == '\n' && to > text && to[-1] == ' ')
            to--;
        *to++ = *from++;
    }
    *to = '\0';
}

static int
run_tool(const char *prefix, const char *args, char **out, char **err)
{
    const char *build = getenv("LKS_BUILDDIR");
    char command[2 * PATH_MAX], here[PATH_MAX];
    int status;
    ck_assert_ptr_nonnull(getcwd(here, sizeof here));
    snprintf(command, sizeof command, "cd '%s' && %s '%s/lockstep' >out 2>err </dev/null %s",
             folder, prefix, build != NULL ? build : here, args);
    status = system(command);
    ck_assert(WIFEXITED(status));
    *out = read_file(holder_path("out"));
    *err = read_file(holder_path("err"));
    normalise(*out);
    normalise(*err);
    return WEXITSTATUS(status);
}

int
tool_run(const char *args, char **out, char **err)
{
    return run_tool("", args, out, err);
}

static void
expect(const char *prefix, const char *args, int status, const char *out, const char *err)
{
    char *got_out, *got_err;
    int got = run_tool(prefix, args, &got_out, &got_err);
    ck_assert_str_eq(got_err, err);
    ck_assert_str_eq(got_out, out);
    ck_assert_int_eq(got, status);
    free(got_out);
    free(got_err);
}

void
tool_expect(const char *args, int status, const char *out, const char *err)
{
    expect("", args, status, out, err);
}

void
tool_expect_as_nobody(const char *args, int status, const char *out, const char *err)
{
    expect("setpriv --reuid 65534 --clear-groups", args, status, out, err);
}
