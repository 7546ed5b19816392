/* kv: the file, its head, and transactions. */
#include "kv.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define FORMAT "lockstep-kv 2" /* what others who are connected must call it, too */
#define READER_WAIT_MS 5000
#define NAP_MS 10

static const unsigned char magic[8] = {'k', 'v', 's', 't', 'o', 'r', 'e', '2'};

/* Each in a sector of its own, so that not both can be torn. */
static const struct lockstep_meta places = {.offset = {1024, 2048}, .size = 512};

static void
put64(unsigned char *p, uint64_t value)
{
    for (int i = 0; i < 8; i++)
        p[i] = (unsigned char)(value >> (56 - 8 * i));
}

static uint64_t
get64(const unsigned char *p)
{
    uint64_t value = 0;
    for (int i = 0; i < 8; i++)
        value = value << 8 | p[i];
    return value;
}

/*
 * Asked when we connect: may we?  The name alone tells whom to get on with; the file tells more, as long as nobody has
 * commits that are not in it.
 */
static enum lockstep_status
name_format(void *arg, const char *stored, const void *head, size_t head_bytes,
            char out_format[LOCKSTEP_FORMAT_SIZE])
{
    struct kv *kv = arg;
    size_t last = sizeof magic - 1;
    if (stored == NULL && head_bytes > last && memcmp(head, magic, last) == 0 &&
        ((const unsigned char *)head)[last] != magic[last]) {
        kv->other_version = ((const char *)head)[last];
        return LOCKSTEP_FORMAT;
    }
    memcpy(out_format, FORMAT, sizeof FORMAT);
    return LOCKSTEP_OK;
}

static enum lockstep_status
load_head(struct kv *kv)
{
    unsigned char head[sizeof magic], record[512];
    size_t got = 0, size = 0;
    enum lockstep_status status = lockstep_conn_read(kv->conn, 0, head, sizeof head, &got);
    if (status != LOCKSTEP_OK)
        return status;
    if (got != sizeof head || memcmp(head, magic, sizeof magic) != 0)
        return LOCKSTEP_FORMAT;
    status = lockstep_conn_meta_read(kv->conn, &places, record, sizeof record, &size, &kv->sequence);
    if (status != LOCKSTEP_OK)
        return status;
    if (kv->sequence == 0 || size != 24)
        return LOCKSTEP_CORRUPT;
    kv->root = get64(record);
    kv->keys = get64(record + 8);
    kv->levels = get64(record + 16);
    return kv->levels <= KV_LEVELS ? LOCKSTEP_OK : LOCKSTEP_CORRUPT;
}

static enum lockstep_status
save_head(struct kv *kv)
{
    unsigned char record[24];
    put64(record, kv->root);
    put64(record + 8, kv->keys);
    put64(record + 16, kv->levels);
    return lockstep_conn_meta_write(kv->conn, &places, record, sizeof record, &kv->sequence);
}

/* A reader alone may find the file being written by one who leaves or comes, or used by one who is alone. */
static bool
waits_on(const struct kv *kv, enum lockstep_status status, int *waited_ms)
{
    if (status != LOCKSTEP_BUSY || !kv->options.readonly || *waited_ms >= READER_WAIT_MS)
        return false;
    (void)poll(NULL, 0, NAP_MS);
    *waited_ms += NAP_MS;
    return true;
}

bool
kv_live(const struct kv *kv)
{
    return lockstep_db_slot(kv->db) != UINT32_MAX;
}

/* Begins a write transaction on the newest snapshot. */
static enum lockstep_status
begin_writing(struct kv *kv)
{
    enum lockstep_status status;
    do {
        status = lockstep_conn_begin(kv->conn);
        if (status != LOCKSTEP_OK)
            return status;
        status = lockstep_conn_write_begin(kv->conn, kv->options.wait_ms);
        if (status != LOCKSTEP_OK)
            lockstep_conn_end(kv->conn);
    } while (status == LOCKSTEP_STALE);
    return status;
}

enum lockstep_status
kv_read(struct kv *kv, kv_job job, void *arg)
{
    int waited_ms = 0;
    enum lockstep_status status;
    if (kv->options.snapshot != 0 && !kv_live(kv))
        return LOCKSTEP_STALE; /* nobody is connected, so nobody holds it */
    do
        status = kv->options.snapshot != 0 ? lockstep_conn_begin_at(kv->conn, kv->options.snapshot)
                                           : lockstep_conn_begin(kv->conn);
    while (waits_on(kv, status, &waited_ms));
    if (status != LOCKSTEP_OK)
        return status;
    status = load_head(kv);
    if (status == LOCKSTEP_OK)
        status = job(kv, arg);
    lockstep_conn_end(kv->conn);
    return status;
}

enum lockstep_status
kv_write(struct kv *kv, kv_job job, void *arg, uint64_t *out_ticket)
{
    enum lockstep_status status = begin_writing(kv);
    if (status != LOCKSTEP_OK)
        return status;
    lockstep_conn_assert_lock(kv->conn, LOCKSTEP_LOCK_WRITER, LOCKSTEP_EXCLUSIVE);
    status = load_head(kv);
    if (status == LOCKSTEP_OK)
        status = job(kv, arg);
    if (status == LOCKSTEP_OK)
        status = save_head(kv);
    if (status == LOCKSTEP_OK)
        status = lockstep_conn_commit(kv->conn, kv->options.durability, out_ticket);
    lockstep_conn_end(kv->conn); /* rolls back what was not committed */
    return status;
}

/* An empty file becomes a store; of several that come at once the first does it. */
static enum lockstep_status
found(struct kv *kv)
{
    uint64_t size = 0;
    enum lockstep_status status = begin_writing(kv);
    if (status != LOCKSTEP_OK)
        return status;
    status = lockstep_conn_size(kv->conn, &size);
    if (status == LOCKSTEP_OK && size == 0) {
        kv->root = kv->keys = kv->levels = 0;
        status = lockstep_conn_write(kv->conn, 0, magic, sizeof magic);
        if (status == LOCKSTEP_OK)
            status = save_head(kv);
        if (status == LOCKSTEP_OK)
            status = lockstep_conn_block_format(kv->conn, KV_FREE_ROOT, KV_BLOCK);
        if (status == LOCKSTEP_OK)
            status = lockstep_conn_commit(kv->conn, LOCKSTEP_FULL_SYNC, NULL);
    }
    lockstep_conn_end(kv->conn);
    return status;
}

static enum lockstep_status
nothing(struct kv *kv, void *arg)
{
    (void)kv;
    (void)arg;
    return LOCKSTEP_OK;
}

/* Several times, if somebody is in a reader's way. */
static enum lockstep_status
attach(struct kv *kv)
{
    int waited_ms = 0;
    enum lockstep_status status;
    do
        status = lockstep_db_attach(kv->db);
    while (waits_on(kv, status, &waited_ms));
    return status;
}

enum lockstep_status
kv_open(const char *path, const struct kv_options *options, struct kv *kv)
{
    struct lockstep_options lockstep = {.format_fn = name_format,
                                        .format_arg = kv,
                                        .readonly = options->readonly,
                                        .single_process = options->single,
                                        .max_lag_ms = options->lag_ms,
                                        .last_used_fn = kv_last_used};
    enum lockstep_status status;

    memset(kv, 0, sizeof *kv);
    kv->options = *options;
    if (options->create) {
        /* Before Lockstep: a process that closes a descriptor of the file later would drop locks on it. */
        int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
        if (fd < 0)
            return errno == ENOSPC ? LOCKSTEP_FULL : LOCKSTEP_CANTOPEN;
        close(fd);
    }
    status = lockstep_db_open(path, &lockstep, &kv->db);
    if (status == LOCKSTEP_OK)
        status = attach(kv);
    if (status == LOCKSTEP_OK)
        status = lockstep_conn_open(kv->db, &kv->conn);
    if (status == LOCKSTEP_OK)
        status = lockstep_conn_block_open(kv->conn, KV_FREE_ROOT);
    if (status == LOCKSTEP_OK && options->create)
        status = found(kv);
    if (status == LOCKSTEP_OK && options->snapshot == 0)
        status = kv_read(kv, nothing, NULL); /* is it one? */
    if (status == LOCKSTEP_FORMAT && kv->other_version != 0)
        fprintf(stderr, "kv: %s: a store of version %c of kv, and this is version %c\n", path, kv->other_version,
                magic[sizeof magic - 1]);
    else if (status == LOCKSTEP_FORMAT)
        fprintf(stderr, "kv: %s: not a store of kv, or in use by another application\n", path);
    if (status != LOCKSTEP_OK)
        (void)kv_close(kv);
    return status;
}

enum lockstep_status
kv_close(struct kv *kv)
{
    enum lockstep_status status;
    lockstep_conn_close(kv->conn);
    status = lockstep_db_close(kv->db);
    kv->conn = NULL;
    kv->db = NULL;
    return status;
}
