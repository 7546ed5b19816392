#include "os/io.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "os/file.h"

struct lks_io_file {
    int fd;
    bool borrowed;
};

struct lks_io_file *
lks_io_os_wrap(int fd)
{
    struct lks_io_file *file = malloc(sizeof *file);
    if (file != NULL) {
        file->fd = fd;
        file->borrowed = true;
    }
    return file;
}

/* A journal is for whoever may use the database that it lies beside. */
static void
adopt_database_owner(int fd, const char *journal_path)
{
    static const char suffix[] = "-journal";
    size_t length = strlen(journal_path);
    struct lks_file_stat database;
    char *path;
    if (length <= strlen(suffix) || strcmp(journal_path + length - strlen(suffix), suffix) != 0)
        return;
    path = strndup(journal_path, length - strlen(suffix));
    if (path != NULL && lks_file_stat_path(path, &database) == LOCKSTEP_OK)
        lks_file_adopt_owner(fd, &database);
    free(path);
}

static enum lockstep_status
os_open(void *context, const char *path, enum lks_io_role role, struct lks_io_file **out_file)
{
    struct lks_io_file *file = malloc(sizeof *file);
    enum lockstep_status status;
    (void)context;
    if (file == NULL)
        return LOCKSTEP_NOMEM;
    status = lks_file_open(path, role == LKS_IO_JOURNAL ? LKS_OPEN_CREATE : LKS_OPEN_WRITE, 0644,
                           &file->fd);
    if (status != LOCKSTEP_OK) {
        free(file);
        return status;
    }
    file->borrowed = false;
    if (role == LKS_IO_JOURNAL)
        adopt_database_owner(file->fd, path);
    *out_file = file;
    return LOCKSTEP_OK;
}

static void
os_close(struct lks_io_file *file)
{
    if (!file->borrowed)
        lks_file_close(file->fd);
    free(file);
}

static enum lockstep_status
os_read(struct lks_io_file *file, uint64_t offset, void *buf, size_t size_bytes, size_t *out_read)
{
    return lks_file_read(file->fd, offset, buf, size_bytes, out_read);
}

static enum lockstep_status
os_write(struct lks_io_file *file, uint64_t offset, const void *buf, size_t size_bytes)
{
    return lks_file_write(file->fd, offset, buf, size_bytes);
}

static enum lockstep_status
os_truncate(struct lks_io_file *file, uint64_t size_bytes)
{
    return lks_file_truncate(file->fd, size_bytes);
}

static enum lockstep_status
os_sync(struct lks_io_file *file)
{
    return lks_file_sync(file->fd);
}

static enum lockstep_status
os_size(struct lks_io_file *file, uint64_t *out_size_bytes)
{
    struct lks_file_stat stat;
    enum lockstep_status status = lks_file_stat_fd(file->fd, &stat);
    if (status == LOCKSTEP_OK)
        *out_size_bytes = stat.size_bytes;
    return status;
}

static enum lockstep_status
os_sync_dir(void *context, const char *path)
{
    (void)context;
    return lks_file_sync_dir(path);
}

static enum lockstep_status
os_remove(void *context, const char *path, bool sync_dir)
{
    enum lockstep_status status = lks_file_unlink(path);
    (void)context;
    if (status == LOCKSTEP_OK && sync_dir)
        status = lks_file_sync_dir(path);
    return status;
}

static enum lockstep_status
os_exists(void *context, const char *path, bool *out_exists)
{
    struct lks_file_stat stat;
    enum lockstep_status status = lks_file_stat_path(path, &stat);
    (void)context;
    if (status != LOCKSTEP_OK && lks_os_errno() != ENOENT)
        return status;
    *out_exists = status == LOCKSTEP_OK;
    return LOCKSTEP_OK;
}

const struct lks_io lks_io_os = {
    .open = os_open,
    .close = os_close,
    .read = os_read,
    .write = os_write,
    .truncate = os_truncate,
    .sync = os_sync,
    .size = os_size,
    .sync_dir = os_sync_dir,
    .remove = os_remove,
    .exists = os_exists,
};
