#include "tools/subject.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <lockstep/lockstep.h>

#include "tools/commands.h"
#include "tools/render.h"

#define ORPHAN_SUFFIX "-lockstep.orphan-"
#define HEADER_SIZE 100
#define BUSY_TIMEOUT_MS 10000

bool
lks_subject_exists(const char *path)
{
    struct stat st;
    if (path[0] == '\0') {
        lks_complain("the name of the database is empty; give the name of its file");
        return false;
    }
    if (stat(path, &st) != 0) {
        lks_complain("%s: %s%s", path, strerror(errno),
                     errno == ENOENT ? "; give the name of the database file" : "");
        return false;
    }
    if (!S_ISREG(st.st_mode)) {
        lks_complain("%s is not a file, so no database; give the name of the database file", path);
        return false;
    }
    return true;
}

struct lockstep_inspection *
lks_subject_open(const char *path)
{
    struct lockstep_inspection *inspection;
    enum lockstep_status status;
    if (!lks_subject_exists(path))
        return NULL;
    status = lockstep_inspect_open(path, &inspection);
    if (status == LOCKSTEP_OK)
        return inspection;
    if (access("/proc/locks", R_OK) != 0)
        lks_complain("/proc/locks: %s; the kernel tells there who holds locks: mount /proc",
                     strerror(errno));
    else
        lks_complain("%s cannot be inspected: %s", path, lockstep_status_name(status));
    return NULL;
}

bool
lks_subject_complete(const struct lockstep_inspection *inspection)
{
    enum lockstep_coordination coordination = lockstep_inspect_database(inspection)->coordination;
    return coordination != LOCKSTEP_COORD_DAMAGED && coordination != LOCKSTEP_COORD_HIDDEN;
}

int
lks_subject_report(const struct lockstep_inspection *inspection)
{
    const char *problem = lockstep_inspect_database(inspection)->problem;
    if (problem[0] != '\0')
        lks_complain("%s", problem);
    return lks_subject_complete(inspection) ? LKS_EXIT_OK : LKS_EXIT_FAILURE;
}

unsigned
lks_subject_orphans(const char *path, void (*each)(void *arg, const char *name), void *arg)
{
    char *real = realpath(path, NULL), *copy = NULL, *prefix = NULL, *name;
    const char *base;
    struct dirent *entry;
    unsigned count = 0;
    DIR *directory = NULL;

    if (real == NULL || (copy = strdup(real)) == NULL)
        goto out;
    base = strrchr(real, '/') + 1;
    directory = opendir(dirname(copy));
    if (directory == NULL || asprintf(&prefix, "%s" ORPHAN_SUFFIX, base) < 0) {
        prefix = NULL;
        goto out;
    }
    while ((entry = readdir(directory)) != NULL) {
        if (strncmp(entry->d_name, prefix, strlen(prefix)) != 0)
            continue;
        count++;
        if (each != NULL && asprintf(&name, "%.*s%s", (int)(base - real), real, entry->d_name) > 0) {
            each(arg, name);
            free(name);
        }
    }
out:
    if (directory != NULL)
        closedir(directory);
    free(prefix);
    free(copy);
    free(real);
    return count;
}

/* Bytes 18 and 19: the write and the read version, https://www.sqlite.org/fileformat2.html, 1.3.3. */
void
lks_subject_read_header(const char *path, struct lks_subject_header *out_header)
{
    struct lks_subject_header header = {0};
    unsigned char head[HEADER_SIZE];
    ssize_t got = -1;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd >= 0) {
        got = pread(fd, head, sizeof head, 0);
        close(fd);
    }
    header.unreadable = got < 0;
    if (got < 0)
        header.format = "unknown: the file cannot be read";
    else if (got == 0)
        header.format = "none yet: the file is empty";
    else if (got < HEADER_SIZE || memcmp(head, "SQLite format 3", 16) != 0)
        header.format = "unknown: not a SQLite database, or an encrypted one";
    else if (head[18] == 2 && head[19] == 2) {
        header.format = "WAL";
        header.wal = true;
    } else if (head[18] == 1 && head[19] == 1)
        header.format = "rollback journal";
    else if (head[18] == 3 && head[19] == 1) {
        header.format = "rollback journal, closed to stock writers by Lockstep";
        header.tripwire = true;
    } else
        header.format = "unknown: of a later version of SQLite";
    *out_header = header;
}

/*
 * Lockstep's own warnings and errors.  Notices (what is being recovered) are what the command itself reports, and so
 * is the result of what SQLite logs.
 */
static bool said; /* something of this */

static void
log_to_stderr(void *arg, int code, const char *message)
{
    static const char ours[] = "lockstep: ";
    (void)arg;
    if ((code & 0xff) == SQLITE_NOTICE || strncmp(message, ours, sizeof ours - 1) != 0)
        return;
    lks_complain("%s", message + sizeof ours - 1);
    said = true;
}

static bool
report(sqlite3 *db, const char *path, int rc)
{
    if (rc == SQLITE_OK)
        return true;
    lks_complain("%s: %s%s", path, sqlite3_errmsg(db),
                 (rc & 0xff) == SQLITE_BUSY ? "; \"lockstep locks\" says who holds it" : "");
    return false;
}

/* SQLite would say that it is "unable to open database file", or do without what it may not do. */
static bool
may_write(const char *path)
{
    if (access(path, R_OK | W_OK) == 0)
        return true;
    lks_complain("%s: %s; %s", path, strerror(errno),
                 errno == EROFS ? "mount it for writing"
                                : "this needs a user who may read and write the database");
    return false;
}

static bool
flush(sqlite3 *db, const char *path)
{
    int rc = sqlite3_exec(db, "PRAGMA lockstep_flush", NULL, NULL, NULL);
    if (rc == SQLITE_ERROR) {
        /* Not coordinated; the log may have said why. */
        if (!said)
            lks_complain("%s: %s", path, sqlite3_errmsg(db));
        return false;
    }
    return report(db, path, rc);
}

sqlite3 *
lks_subject_connect(const char *path)
{
    sqlite3 *db = NULL;
    int rc;
    if (!may_write(path))
        return NULL;
    sqlite3_config(SQLITE_CONFIG_LOG, log_to_stderr, NULL);
    rc = lockstep_initialize(NULL, 0);
    if (rc != SQLITE_OK) {
        lks_complain("the Lockstep VFS cannot be registered: %s", sqlite3_errstr(rc));
        return NULL;
    }
    rc = sqlite3_open_v2(path, &db, SQLITE_OPEN_READWRITE, "lockstep");
    if (rc != SQLITE_OK) {
        lks_complain("%s: %s", path, db != NULL ? sqlite3_errmsg(db) : sqlite3_errstr(rc));
        sqlite3_close(db);
        return NULL;
    }
    sqlite3_busy_timeout(db, BUSY_TIMEOUT_MS);
    /* A read connects; the pragma waits. */
    rc = sqlite3_exec(db, "SELECT count(*) FROM sqlite_schema", NULL, NULL, NULL);
    if (!report(db, path, rc) || !flush(db, path)) {
        sqlite3_close(db);
        return NULL;
    }
    return db;
}
