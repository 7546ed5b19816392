#include "powercut/image.h"

#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "shm/layout.h"

static void
fail(const char *what, const char *name)
{
    fprintf(stderr, "image: %s %s: %s\n", what, name, strerror(errno));
    abort();
}

/*
 * In place, where there is a file: Lockstep keeps the descriptor of a database as long as the process lives,
 * and a new inode for each image would cost one for each.
 */
static void
write_whole(const char *name, const struct replay_bytes *b)
{
    int fd;
    if (b->bytes == NULL) {
        if (unlink(name) != 0 && errno != ENOENT)
            fail("unlink", name);
        return;
    }
    fd = open(name, O_WRONLY | O_CREAT | O_CLOEXEC, 0666);
    if (fd < 0 || write(fd, b->bytes, b->size) != (ssize_t)b->size ||
        ftruncate(fd, (off_t)b->size) != 0 || close(fd) != 0)
        fail("write", name);
}

static void
read_whole(const char *name, struct replay_bytes *out)
{
    struct stat st;
    int fd = open(name, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &st) != 0)
        fail("open", name);
    out->size = (size_t)st.st_size;
    out->bytes = malloc(out->size + 1);
    if (out->bytes == NULL || read(fd, out->bytes, out->size) != (ssize_t)out->size)
        fail("read", name);
    close(fd);
}

static void
lay_out(const struct replay_image *image, const char *database)
{
    char journal[64];
    snprintf(journal, sizeof journal, "%s-journal", database);
    write_whole(database, &image->file[RECORDER_DATABASE]);
    write_whole(journal, &image->file[RECORDER_JOURNAL]);
}

static bool
complain(const struct replay_image *image, struct image_checker *checker, const char *who, const char *what)
{
    snprintf(checker->why, sizeof checker->why,
             "cut before entry %llu of the record, %s, image %llu, durable %lld; %s: the database %s",
             (unsigned long long)image->entry, image->kind, (unsigned long long)image->number,
             (long long)image->durable, who, what);
    return false;
}

/* Reads it and compares it with what was promised. */
static bool
check_open(const struct replay_image *image, struct image_checker *checker, sqlite3 *db, const char *who,
           int64_t *out_n)
{
    char why[HISTORY_WHY];
    int rc;
    *out_n = HISTORY_NONE;
    if (!history_check(db, checker->newest, out_n, &rc, why))
        return complain(image, checker, who, why);
    if (*out_n >= image->durable)
        return true;
    snprintf(why, sizeof why, "is after commit %lld only", (long long)*out_n);
    return complain(image, checker, who, why);
}

static bool
check_stock(const struct replay_image *image, struct image_checker *checker)
{
    sqlite3 *db;
    bool good;
    lay_out(image, "stock.img");
    if (sqlite3_open_v2("stock.img", &db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE, "unix") != SQLITE_OK)
        fail("sqlite3_open", "stock.img");
    sqlite3_exec(db, "pragma synchronous = off", NULL, NULL, NULL);
    good = check_open(image, checker, db, "stock SQLite", &checker->found);
    sqlite3_close(db);
    return good;
}

/* One more commit, which must be in the file, in its place, when all have left. */
static bool
goes_on(const struct replay_image *image, struct image_checker *checker, sqlite3 *db, int64_t n)
{
    int64_t next = 0;
    char why[HISTORY_WHY];
    int rc = n == HISTORY_NONE ? history_create(db) : history_commit(db, &next);
    if (rc == SQLITE_OK && next == n + 1)
        return true;
    snprintf(why, sizeof why, "takes no further commit: %d, %s", rc, sqlite3_errmsg(db));
    return complain(image, checker, "Lockstep", why);
}

static bool
check_closed(const struct replay_image *image, struct image_checker *checker, int64_t n)
{
    char why[HISTORY_WHY] = "";
    int64_t found = HISTORY_NONE;
    sqlite3 *db;
    int rc;
    bool good;
    if (access("ours.img-journal", F_OK) == 0 || access("ours.img-lockstep", F_OK) == 0)
        return complain(image, checker, "Lockstep", "has a journal or coordination file left beside it");
    if (sqlite3_open_v2("ours.img", &db, SQLITE_OPEN_READWRITE, "unix") != SQLITE_OK)
        fail("sqlite3_open", "ours.img");
    good = history_check(db, n, &found, &rc, why) && found == n;
    sqlite3_close(db);
    return good ||
           complain(image, checker, "stock SQLite after Lockstep", why[0] != '\0' ? why : "lost a commit");
}

static bool
check_lockstep(const struct replay_image *image, struct image_checker *checker)
{
    struct replay_bytes coord;
    struct lks_shm *shm;
    sqlite3 *db;
    int64_t n;
    bool good, pending;
    lay_out(image, "ours.img");
    read_whole(checker->coord, &coord);
    shm = (struct lks_shm *)(void *)coord.bytes;
    pending = lks_a64_relaxed(&shm->state.committed) != lks_a64_relaxed(&shm->state.flushed);
    write_whole("ours.img-lockstep", &coord);
    free(coord.bytes);
    unlink("ours.img-lockstep.orphan-1");
    if (sqlite3_open_v2("file:ours.img?vfs=lockstep", &db,
                        SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_URI, NULL) != SQLITE_OK)
        fail("sqlite3_open", "ours.img");
    good = check_open(image, checker, db, "Lockstep", &n);
    if (good && n != checker->found)
        good = complain(image, checker, "Lockstep", "is not as stock SQLite finds it");
    if (good && pending != (access("ours.img-lockstep.orphan-1", F_OK) == 0))
        good = complain(image, checker, "Lockstep",
                        pending ? "lost the commits that waited: there is no orphan" : "got an orphan");
    if (good)
        good = goes_on(image, checker, db, n);
    if (sqlite3_close(db) != SQLITE_OK)
        good = complain(image, checker, "Lockstep", "cannot be closed");
    return good && check_closed(image, checker, n + 1);
}

bool
image_check(const struct replay_image *image, void *arg)
{
    struct image_checker *checker = arg;
    checker->checked++;
    if (!check_stock(image, checker))
        return false;
    if (checker->lockstep_every == 0 || checker->checked % checker->lockstep_every != 0 ||
        image->file[RECORDER_DATABASE].bytes == NULL)
        return true;
    checker->through_lockstep++;
    return check_lockstep(image, checker);
}

void
image_other_boot(const char *from, const char *to, bool pending)
{
    static const char boot[] = "00000000-1111-2222-3333-444444444444";
    struct replay_bytes coord;
    struct lks_shm *shm;
    uint32_t hash = 2166136261u;
    size_t i;
    read_whole(from, &coord);
    if (coord.size < sizeof *shm)
        fail("too short:", from);
    shm = (struct lks_shm *)(void *)coord.bytes;
    memset(shm->identity.boot_id, 0, sizeof shm->identity.boot_id);
    memcpy(shm->identity.boot_id, boot, sizeof boot);
    /* The checksum of shm/header.c: FNV-1a of what is ahead of it. */
    for (i = 0; i < offsetof(struct lks_shm_identity, checksum); i++)
        hash = (hash ^ coord.bytes[i]) * 16777619u;
    shm->identity.checksum = hash;
    lks_a64_set_relaxed(&shm->state.flushed,
                        lks_a64_relaxed(&shm->state.committed) - (pending ? 1 : 0));
    write_whole(to, &coord);
    free(coord.bytes);
}
