/*
 * kv: several processes at once.  Each writes, reads and deletes keys of its own, and knows what it must
 * find; the parent shows how far they are, and checks everything at the end.
 */
#include "kv.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define KEYS 200u
#define REPORT_EVERY 64u

struct operation {
    struct kv_bytes key, value;
    bool removes;
    bool found;
};

static enum lockstep_status
change(struct kv *kv, void *arg)
{
    struct operation *op = arg;
    return op->removes ? kv_del(kv, op->key, &op->found) : kv_put(kv, op->key, op->value);
}

struct expectation {
    struct kv_bytes key;
    unsigned char value[KV_VALUE_MAX];
    size_t size;
    bool found;
};

static enum lockstep_status
look(struct kv *kv, void *arg)
{
    struct expectation *e = arg;
    return kv_get(kv, e->key, e->value, &e->size, &e->found);
}

/* Changes key `k` to its version `version`, 0: none, and looks; or only looks. */
static enum lockstep_status
step(struct kv *kv, unsigned worker, unsigned k, unsigned version, bool changes)
{
    char key[40], value[400];
    struct expectation e = {.found = false};
    struct operation op = {.removes = version == 0};
    int length = 0;
    enum lockstep_status status = LOCKSTEP_OK;
    e.key.data = op.key.data = (const unsigned char *)key;
    e.key.size = op.key.size = (size_t)snprintf(key, sizeof key, "worker-%u-key-%u", worker, k);
    memset(value, 'v', sizeof value);
    length = snprintf(value, sizeof value, "%u:%u:%u", worker, k, version);
    value[length] = ' ';
    op.value.data = (const unsigned char *)value;
    op.value.size = (size_t)length + version % 350;
    if (changes)
        status = kv_write(kv, change, &op, NULL);
    if (status == LOCKSTEP_OK)
        status = kv_read(kv, look, &e);
    if (status != LOCKSTEP_OK)
        return status;
    if (e.found != (version != 0) ||
        (e.found && (e.size != op.value.size || memcmp(e.value, value, e.size) != 0))) {
        fprintf(stderr, "kv: worker %u does not find version %u of key %u\n", worker, version, k);
        return LOCKSTEP_CORRUPT;
    }
    return LOCKSTEP_OK;
}

/* In a process of its own.  Writes a byte for each REPORT_EVERY operations. */
static int
work(const char *path, const struct kv_options *options, unsigned worker, unsigned operations, int report)
{
    struct kv kv;
    unsigned versions[KEYS] = {0}, random = worker + 1;
    enum lockstep_status status = kv_open(path, options, &kv), closed;
    if (status != LOCKSTEP_OK)
        return kv_fail("worker", status);
    /* What an earlier run has left. */
    for (unsigned k = 0; k < KEYS && status == LOCKSTEP_OK; k++)
        status = step(&kv, worker, k, 0, true);
    for (unsigned i = 0; i < operations && status == LOCKSTEP_OK; i++) {
        unsigned k = (unsigned)rand_r(&random) % KEYS, what = (unsigned)rand_r(&random) % 10;
        if (what < 6)
            versions[k] = i + 1;
        else if (what < 8)
            versions[k] = 0;
        status = step(&kv, worker, k, versions[k], what < 8);
        if ((i + 1) % REPORT_EVERY == 0 && write(report, "x", 1) != 1)
            break;
    }
    closed = kv_close(&kv);
    if (status == LOCKSTEP_OK)
        status = closed;
    return status == LOCKSTEP_OK ? EXIT_SUCCESS : kv_fail("worker", status);
}

/* Shows how many operations are done until all workers have closed the pipe. */
static void
watch(int reports, unsigned workers, unsigned operations, bool progress)
{
    unsigned long done = 0, all = (unsigned long)workers * operations;
    char bytes[512];
    ssize_t n;
    while ((n = read(reports, bytes, sizeof bytes)) > 0 || (n < 0 && errno == EINTR)) {
        done += n > 0 ? (unsigned long)n * REPORT_EVERY : 0;
        if (progress)
            fprintf(stderr, "\r%lu of %lu operations", done, all);
    }
    if (progress)
        fprintf(stderr, "\r%lu of %lu operations\n", all, all);
}

int
kv_load(const char *path, const struct kv_options *options, unsigned workers, unsigned operations,
        bool progress)
{
    struct kv kv;
    int pipes[2], result = EXIT_SUCCESS, ended;
    unsigned started = 0;
    enum lockstep_status status;

    if (pipe(pipes) != 0)
        return kv_fail("pipe", LOCKSTEP_IOERR);
    fflush(stdout);
    /* Before this process opens anything: what is open does not survive fork(). */
    for (unsigned i = 0; i < workers; i++) {
        pid_t pid = fork();
        if (pid == 0) {
            close(pipes[0]);
            exit(work(path, options, i, operations, pipes[1]));
        }
        if (pid > 0)
            started++;
    }
    close(pipes[1]);
    if (started < workers)
        result = kv_fail("fork", LOCKSTEP_NOMEM);
    watch(pipes[0], started, operations, progress);
    close(pipes[0]);
    while (wait(&ended) > 0)
        if (!WIFEXITED(ended) || WEXITSTATUS(ended) != EXIT_SUCCESS)
            result = EXIT_FAILURE;
    status = kv_open(path, options, &kv);
    if (status == LOCKSTEP_OK) {
        enum lockstep_status closed;
        status = kv_check(&kv);
        closed = kv_close(&kv);
        status = status == LOCKSTEP_OK ? closed : status;
    }
    return status == LOCKSTEP_OK ? result : kv_fail("check", status);
}
