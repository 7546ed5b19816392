#include "powercut/cutter_vfs.h"

#include <fcntl.h>
#include <pthread.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "powercut/mix.h"

#define SECTOR 512
#define MOST (64u << 20)
#define VOLUMES 2

enum role { DATABASE, LOG, ROLES, OTHER = ROLES };

/* What is on the disk, and what has been written since: a byte a sector. */
struct disk {
    unsigned char *old, *now, *dirty;
    size_t old_size, now_size;
};

struct volume {
    char names[ROLES][512], image[500];
    struct disk disks[ROLES];
    bool header_last; /* of the log: its header was written last */
    bool lying;
};

struct cutter_file {
    sqlite3_file base;
    sqlite3_file *real; /* follows */
    enum role role;
    struct volume *volume; /* NULL with OTHER */
};

static sqlite3_vfs cutter;
static sqlite3_vfs *below;
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static struct volume volumes[VOLUMES];
static unsigned volume_count;
static uint64_t random_state, images;
static unsigned share;
static bool cutting;
static cutter_check check_image;
static void *check_arg;

static struct cutter_file *
of(sqlite3_file *file)
{
    return (struct cutter_file *)file;
}

static void
write_file(const char *name, const unsigned char *bytes, size_t size)
{
    int fd = open(name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    if (fd < 0 || write(fd, bytes, size) != (ssize_t)size)
        abort();
    close(fd);
}

/* chance: of a thousand unsynced sectors so many have reached the disk. */
static void
put_together(const struct disk *disk, const char *name, unsigned chance)
{
    size_t size = mix_next(&random_state) % 2 ? disk->now_size : disk->old_size, at;
    unsigned char *bytes = calloc(1, size + SECTOR);
    if (bytes == NULL)
        abort();
    memcpy(bytes, disk->old, size < disk->old_size ? size : disk->old_size);
    for (at = 0; at < size && at < disk->now_size; at += SECTOR)
        if (disk->dirty[at / SECTOR] && mix_next(&random_state) % 1000 < chance) {
            size_t n = size - at < SECTOR ? size - at : SECTOR;
            memcpy(bytes + at, disk->now + at, n);
        }
    write_file(name, bytes, size);
    free(bytes);
}

/* Holding the mutex. */
static void
check(void)
{
    images++;
    if (!check_image(check_arg))
        cutting = false;
}

static void
put_volume(const struct volume *v, unsigned chance_of_database, unsigned chance_of_log)
{
    char name[520];
    snprintf(name, sizeof name, "%s-shm", v->image);
    unlink(name);
    put_together(&v->disks[DATABASE], v->image, chance_of_database);
    snprintf(name, sizeof name, "%s-wal", v->image);
    put_together(&v->disks[LOG], name, chance_of_log);
}

/* Holding the mutex. */
static void
cut(void)
{
    static const unsigned chances[] = {0, 300, 700, 1000};
    unsigned i;
    if (!cutting)
        return;
    for (i = 0; i < volume_count; i++) {
        unsigned of_database = chances[mix_next(&random_state) % 4], of_log = chances[mix_next(&random_state) % 4];
        put_volume(&volumes[i], of_database, of_log);
    }
    check();
}

static void
maybe_cut(unsigned per_mille)
{
    if (mix_next(&random_state) % 1000 < per_mille)
        cut();
}

static void
note_write(struct disk *disk, const void *buf, size_t amount, size_t offset)
{
    size_t at;
    if (offset + amount > MOST)
        abort();
    memcpy(disk->now + offset, buf, amount);
    if (offset + amount > disk->now_size)
        disk->now_size = offset + amount;
    for (at = offset / SECTOR; at <= (offset + amount - 1) / SECTOR; at++)
        disk->dirty[at] = 1;
    maybe_cut(share);
}

static void
note_sync(struct volume *v, enum role role)
{
    struct disk *disk = &v->disks[role];
    maybe_cut(20 * share);
    if (v->lying && role == LOG && !v->header_last)
        return;
    memcpy(disk->old, disk->now, disk->now_size);
    memset(disk->dirty, 0, MOST / SECTOR);
    disk->old_size = disk->now_size;
    maybe_cut(20 * share);
}

static int
cutter_close(sqlite3_file *file)
{
    int rc = of(file)->real->pMethods->xClose(of(file)->real);
    file->pMethods = NULL;
    return rc;
}

static int
cutter_read(sqlite3_file *file, void *buf, int amount, sqlite3_int64 offset)
{
    return of(file)->real->pMethods->xRead(of(file)->real, buf, amount, offset);
}

static int
cutter_write(sqlite3_file *file, const void *buf, int amount, sqlite3_int64 offset)
{
    struct cutter_file *c = of(file);
    int rc;
    if (c->role == OTHER)
        return c->real->pMethods->xWrite(c->real, buf, amount, offset);
    pthread_mutex_lock(&mutex);
    rc = c->real->pMethods->xWrite(c->real, buf, amount, offset);
    if (c->role == LOG)
        c->volume->header_last = offset == 0;
    if (rc == SQLITE_OK)
        note_write(&c->volume->disks[c->role], buf, (size_t)amount, (size_t)offset);
    pthread_mutex_unlock(&mutex);
    return rc;
}

static int
cutter_truncate(sqlite3_file *file, sqlite3_int64 size)
{
    struct cutter_file *c = of(file);
    int rc;
    pthread_mutex_lock(&mutex);
    rc = c->real->pMethods->xTruncate(c->real, size);
    if (rc == SQLITE_OK && c->role != OTHER) {
        struct disk *disk = &c->volume->disks[c->role];
        /* Done at once: a log that is cut is one that was written back, and the database grows again only by writes. */
        disk->now_size = disk->old_size = (size_t)size;
        memset(disk->now + size, 0, MOST - (size_t)size);
        memset(disk->old + size, 0, MOST - (size_t)size);
    }
    pthread_mutex_unlock(&mutex);
    return rc;
}

static int
cutter_sync(sqlite3_file *file, int flags)
{
    struct cutter_file *c = of(file);
    (void)flags;
    if (c->role == OTHER)
        return SQLITE_OK;
    pthread_mutex_lock(&mutex);
    note_sync(c->volume, c->role);
    pthread_mutex_unlock(&mutex);
    return SQLITE_OK;
}

static int
cutter_size(sqlite3_file *file, sqlite3_int64 *out)
{
    return of(file)->real->pMethods->xFileSize(of(file)->real, out);
}

static int
cutter_lock(sqlite3_file *file, int level)
{
    return of(file)->real->pMethods->xLock(of(file)->real, level);
}

static int
cutter_unlock(sqlite3_file *file, int level)
{
    return of(file)->real->pMethods->xUnlock(of(file)->real, level);
}

static int
cutter_reserved(sqlite3_file *file, int *out)
{
    return of(file)->real->pMethods->xCheckReservedLock(of(file)->real, out);
}

static int
cutter_control(sqlite3_file *file, int op, void *arg)
{
    if (op == SQLITE_FCNTL_SIZE_HINT)
        return SQLITE_OK;
    return of(file)->real->pMethods->xFileControl(of(file)->real, op, arg);
}

static int
cutter_sector(sqlite3_file *file)
{
    return of(file)->real->pMethods->xSectorSize(of(file)->real);
}

static int
cutter_characteristics(sqlite3_file *file)
{
    return of(file)->real->pMethods->xDeviceCharacteristics(of(file)->real);
}

static int
cutter_shm_map(sqlite3_file *file, int region, int size, int extend, void volatile **out)
{
    return of(file)->real->pMethods->xShmMap(of(file)->real, region, size, extend, out);
}

static int
cutter_shm_lock(sqlite3_file *file, int offset, int n, int flags)
{
    return of(file)->real->pMethods->xShmLock(of(file)->real, offset, n, flags);
}

static void
cutter_shm_barrier(sqlite3_file *file)
{
    of(file)->real->pMethods->xShmBarrier(of(file)->real);
}

static int
cutter_shm_unmap(sqlite3_file *file, int delete_flag)
{
    return of(file)->real->pMethods->xShmUnmap(of(file)->real, delete_flag);
}

static const sqlite3_io_methods cutter_methods = {
    .iVersion = 2,
    .xClose = cutter_close,
    .xRead = cutter_read,
    .xWrite = cutter_write,
    .xTruncate = cutter_truncate,
    .xSync = cutter_sync,
    .xFileSize = cutter_size,
    .xLock = cutter_lock,
    .xUnlock = cutter_unlock,
    .xCheckReservedLock = cutter_reserved,
    .xFileControl = cutter_control,
    .xSectorSize = cutter_sector,
    .xDeviceCharacteristics = cutter_characteristics,
    .xShmMap = cutter_shm_map,
    .xShmLock = cutter_shm_lock,
    .xShmBarrier = cutter_shm_barrier,
    .xShmUnmap = cutter_shm_unmap,
};

/* NULL: it is none of ours. */
static struct volume *
find(const char *name, enum role *out_role)
{
    unsigned i, role;
    for (i = 0; i < volume_count && name != NULL; i++)
        for (role = 0; role < ROLES; role++)
            if (strcmp(name, volumes[i].names[role]) == 0) {
                *out_role = (enum role)role;
                return &volumes[i];
            }
    *out_role = OTHER;
    return NULL;
}

static int
cutter_open(sqlite3_vfs *vfs, const char *name, sqlite3_file *file, int flags, int *out_flags)
{
    struct cutter_file *c = of(file);
    int rc;
    (void)vfs;
    c->real = (sqlite3_file *)(c + 1);
    c->real->pMethods = NULL;
    c->volume = find(name, &c->role);
    rc = below->xOpen(below, name, c->real, flags, out_flags);
    file->pMethods = c->real->pMethods != NULL ? &cutter_methods : NULL;
    return rc;
}

static int
cutter_delete(sqlite3_vfs *vfs, const char *name, int sync_dir)
{
    enum role role;
    struct volume *v = find(name, &role);
    int rc;
    (void)vfs;
    pthread_mutex_lock(&mutex);
    rc = below->xDelete(below, name, sync_dir);
    if (rc == SQLITE_OK && role == LOG) {
        memset(v->disks[LOG].dirty, 0, MOST / SECTOR);
        v->disks[LOG].now_size = v->disks[LOG].old_size = 0;
    }
    pthread_mutex_unlock(&mutex);
    return rc;
}

static int
cutter_access(sqlite3_vfs *vfs, const char *name, int flags, int *out)
{
    (void)vfs;
    return below->xAccess(below, name, flags, out);
}

static int
cutter_full_pathname(sqlite3_vfs *vfs, const char *name, int n, char *out)
{
    (void)vfs;
    return below->xFullPathname(below, name, n, out);
}

void
cutter_register(void)
{
    below = sqlite3_vfs_find("unix");
    cutter = *below;
    cutter.zName = "cutter";
    cutter.szOsFile = (int)sizeof(struct cutter_file) + below->szOsFile;
    cutter.pNext = NULL;
    cutter.xOpen = cutter_open;
    cutter.xDelete = cutter_delete;
    cutter.xAccess = cutter_access;
    cutter.xFullPathname = cutter_full_pathname;
    sqlite3_vfs_register(&cutter, 0);
}

unsigned
cutter_add(const char *database, const char *image)
{
    struct volume *v = &volumes[volume_count];
    int i;
    if (volume_count == VOLUMES)
        abort();
    snprintf(v->names[DATABASE], sizeof v->names[DATABASE], "%s", database);
    snprintf(v->names[LOG], sizeof v->names[LOG], "%s-wal", database);
    snprintf(v->image, sizeof v->image, "%s", image);
    for (i = 0; i < ROLES; i++) {
        v->disks[i].old = calloc(1, MOST);
        v->disks[i].now = calloc(1, MOST);
        v->disks[i].dirty = calloc(1, MOST / SECTOR);
        if (v->disks[i].old == NULL || v->disks[i].now == NULL || v->disks[i].dirty == NULL)
            abort();
    }
    return volume_count++;
}

void
cutter_start(uint64_t seed, unsigned per_mille, cutter_check check_it, void *arg)
{
    pthread_mutex_lock(&mutex);
    random_state = seed;
    share = per_mille;
    check_image = check_it;
    check_arg = arg;
    cutting = true;
    pthread_mutex_unlock(&mutex);
}

void
cutter_lie(unsigned database)
{
    pthread_mutex_lock(&mutex);
    volumes[database].lying = true;
    pthread_mutex_unlock(&mutex);
}

void
cutter_stop(void)
{
    pthread_mutex_lock(&mutex);
    cutting = false;
    pthread_mutex_unlock(&mutex);
}

uint64_t
cutter_images(void)
{
    return images;
}

void
cutter_note(void (*note)(void *arg), void *arg)
{
    pthread_mutex_lock(&mutex);
    note(arg);
    pthread_mutex_unlock(&mutex);
}

void
cutter_note_and_cut(void (*note)(void *arg), void *arg)
{
    unsigned i;
    pthread_mutex_lock(&mutex);
    note(arg);
    if (cutting) {
        for (i = 0; i < volume_count; i++)
            put_volume(&volumes[i], 0, 0);
        check();
    }
    pthread_mutex_unlock(&mutex);
}
