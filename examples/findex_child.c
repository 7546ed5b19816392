#include "findex_child.h"

#include <err.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "findex_database.h"

static const char *const role_names[] = {"worker", "reader", "warmer"};

const char *
findex_role_name(enum findex_role role)
{
    return role_names[role];
}

bool
findex_child_say(struct findex_message *message, enum findex_state state)
{
    ssize_t n;

    message->state = state;
    message->at_ns = findex_now_ns();
    do
        n = send(FINDEX_CHANNEL_FD, message, sizeof *message, MSG_NOSIGNAL);
    while (n < 0 && errno == EINTR);
    return n == (ssize_t)sizeof *message;
}

int
findex_child_heard(int64_t timeout_ns)
{
    struct timespec timeout = {.tv_sec = timeout_ns / 1000000000,
                               .tv_nsec = timeout_ns % 1000000000};
    struct pollfd channel = {.fd = FINDEX_CHANNEL_FD, .events = POLLIN};
    char byte;

    int n = ppoll(&channel, 1, timeout_ns >= 0 ? &timeout : NULL, NULL);
    if (n == 0 || (n < 0 && errno == EINTR))
        return 0;
    return recv(FINDEX_CHANNEL_FD, &byte, 1, 0) == 1 ? 1 : -1;
}

static bool
wait_for_parent(void)
{
    int heard;

    do
        heard = findex_child_heard(-1);
    while (heard == 0);
    return heard > 0;
}

void
findex_child_fail(struct findex_message *message, sqlite3 *db, const char *what)
{
    message->failed = true;
    if (db != NULL)
        snprintf(message->text, sizeof message->text, "%s: %s (%d)", what, sqlite3_errmsg(db),
                 sqlite3_extended_errcode(db));
    else
        snprintf(message->text, sizeof message->text, "%s", what);
}

void
findex_warmer_run(struct findex_job *job)
{
    unsigned char *buf = malloc(FINDEX_HEAD_BYTES);
    struct findex_file file;
    uint32_t i;

    while (buf != NULL && findex_job_take(job, &i)) {
        if (findex_file_read(findex_job_path(job, i), buf, &file))
            atomic_fetch_add_explicit(&job->read_bytes, file.head_bytes, memory_order_relaxed);
    }
    free(buf);
}

/* From READY to CLOSED.  False: the parent is gone. */
static bool
live(struct findex_job *job, enum findex_role role, unsigned number, struct findex_message *message)
{
    sqlite3 *db = NULL;
    bool heard;

    if (role != FINDEX_WARMER && findex_database_open(job, &db) != SQLITE_OK)
        findex_child_fail(message, db, "cannot open the database");

    heard = findex_child_say(message, FINDEX_READY) && wait_for_parent();
    if (heard && !message->failed) {
        if (role == FINDEX_WORKER)
            findex_worker_run(job, db, message);
        else if (role == FINDEX_READER)
            findex_reader_run(job, db, number, message);
        else
            findex_warmer_run(job);
    }
    heard = heard && findex_child_say(message, FINDEX_DONE)
            && (role == FINDEX_READER || wait_for_parent());
    if (sqlite3_close(db) != SQLITE_OK)
        findex_child_fail(message, db, "cannot close the database");
    return heard && findex_child_say(message, FINDEX_CLOSED);
}

int
findex_child_main(const char *role, const char *number)
{
    char name[16], byte;
    enum findex_role which = FINDEX_WORKER;

    /* When the parent dies without a word, so does this process.  It may have died before this
     * line. */
    if (prctl(PR_SET_PDEATHSIG, SIGKILL) != 0
        || recv(FINDEX_CHANNEL_FD, &byte, 1, MSG_PEEK | MSG_DONTWAIT) == 0)
        return 1;
    while (which < FINDEX_WARMER && strcmp(role, role_names[which]) != 0)
        which++;
    snprintf(name, sizeof name, "findex-%s%s", role, number);
    prctl(PR_SET_NAME, name); /* so do ps and lockstep locks show it */

    struct findex_job *job = findex_job_attach(FINDEX_JOB_FD);
    struct findex_message *message = calloc(1, sizeof *message);
    bool ok = job != NULL && message != NULL
              && live(job, which, (unsigned)strtoul(number, NULL, 10), message) && !message->failed;
    free(message);
    return ok ? 0 : 1;
}
