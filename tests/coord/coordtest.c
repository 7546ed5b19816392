#include "coord/coordtest.h"

#include <ftw.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/log.h"
#include "coord/attach.h"
#include "coord/registry.h"
#include "os/io.h"
#include "shm/header.h"
#include "store/store.h"

static char folder[4096];
static pthread_mutex_t log_mutex = PTHREAD_MUTEX_INITIALIZER;
static char log_buffer[1 << 14];

static void
keep_log(void *arg, int level, const char *message)
{
    size_t n = strlen(log_buffer);
    (void)arg;
    (void)level;
    pthread_mutex_lock(&log_mutex);
    snprintf(log_buffer + n, sizeof log_buffer - n, "%s\n", message);
    pthread_mutex_unlock(&log_mutex);
}

bool
logged(const char *words)
{
    bool found;
    pthread_mutex_lock(&log_mutex);
    found = strstr(log_buffer, words) != NULL;
    pthread_mutex_unlock(&log_mutex);
    return found;
}

bool
file_exists(const char *name)
{
    return access(name, F_OK) == 0;
}

static void
begin_test(void)
{
    static unsigned count;
    char name[64];
    FILE *file;
    ck_assert_int_eq(chdir(folder), 0);
    snprintf(name, sizeof name, "%ld-%u", (long)getpid(), count++);
    ck_assert_int_eq(mkdir(name, 0777), 0);
    ck_assert_int_eq(chdir(name), 0);
    file = fopen("db", "w");
    ck_assert_ptr_nonnull(file);
    ck_assert_int_eq(ftruncate(fileno(file), 10000), 0);
    fclose(file);
    lks_log_set(keep_log, NULL);
}

TCase *
coordtest_case(Suite *suite, const char *name)
{
    TCase *tcase = tcase_create(name);
    tcase_add_checked_fixture(tcase, begin_test, NULL);
    suite_add_tcase(suite, tcase);
    return tcase;
}

static int
remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    (void)st;
    (void)type;
    (void)ftw;
    return remove(path);
}

int
coordtest_main(Suite *suite)
{
    const char *tmp = getenv("TMPDIR");
    SRunner *runner = srunner_create(suite);
    int failed;
    snprintf(folder, sizeof folder, "%s/lockstep-test-XXXXXX", tmp != NULL ? tmp : "/tmp");
    if (mkdtemp(folder) == NULL) {
        perror(folder);
        return 1;
    }
    srunner_run_all(runner, CK_ENV);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    (void)nftw(folder, remove_one, 16, FTW_DEPTH | FTW_PHYS);
    return failed == 0 ? 0 : 1;
}

/* --------------------------------------------------------------------------------------------- databases */

struct lockstep_db *
memory_db(uint32_t unit_log2)
{
    static const struct lks_file_id id = {1, 2};
    static const char boot[LKS_BOOT_ID_SIZE] = "boot";
    struct lockstep_db *db = calloc(1, sizeof *db);
    void *base = NULL;
    ck_assert_ptr_nonnull(db);
    ck_assert_int_eq(posix_memalign(&base, 4096, LKS_SHM_BYTES + (4u << 21)), 0);
    memset(base, 0, LKS_SHM_BYTES + (4u << 21));
    db->shm = base;
    db->map_bytes = LKS_SHM_BYTES + (4u << 21);
    db->client = 7;
    lks_header_make(db->shm, &id, boot, unit_log2);
    memory_commit(db, 1, 10000);
    return db;
}

void
memory_db_free(struct lockstep_db *db)
{
    free(db->shm);
    free(db);
}

void
memory_commit(struct lockstep_db *db, uint64_t id, uint64_t size)
{
    struct lks_shm_commit *commit = &db->shm->ring[id % LKS_RING_SIZE];
    lks_a64_set_relaxed(&commit->size, size);
    lks_a64_set_release(&commit->id, id);
    lks_a64_set_release(&db->shm->state.committed, id);
}

struct lockstep_db *
attached_db(void)
{
    struct lockstep_db *db = NULL;
    ck_assert_int_eq(lks_store_open("db", NULL, &lks_io_os, &db), LOCKSTEP_OK);
    ck_assert_int_eq(lks_attach(db, false), LOCKSTEP_OK);
    return db;
}

void
close_db(struct lockstep_db *db)
{
    ck_assert_int_eq(lks_store_close(db), LOCKSTEP_OK);
}

/* ---------------------------------------------------------------------------------------------- children */

void
child_start(struct child *child, void (*run)(struct child *self))
{
    int pair[2];
    pid_t parent = getpid();
    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    child->pid = fork();
    ck_assert_int_ge(child->pid, 0);
    if (child->pid == 0) {
        struct child self = {getpid(), pair[1]};
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (getppid() != parent)
            _exit(1);
        close(pair[0]);
        run(&self);
        _exit(0);
    }
    close(pair[1]);
    child->fd = pair[0];
}

void
child_step(struct child *self, char letter)
{
    char go;
    child_check(write(self->fd, &letter, 1) == 1);
    child_check(read(self->fd, &go, 1) == 1);
}

void
child_await(struct child *child, char letter)
{
    char got = '?';
    ck_assert_msg(read(child->fd, &got, 1) == 1, "the child ended before step %c", letter);
    ck_assert_int_eq(got, letter);
}

void
child_go(struct child *child)
{
    ck_assert_int_eq(write(child->fd, "g", 1), 1);
}

void
child_end(struct child *child)
{
    int status = -1;
    ck_assert_int_eq(waitpid(child->pid, &status, 0), child->pid);
    ck_assert_int_eq(status, 0);
    close(child->fd);
}

void
child_killed(struct child *child)
{
    int status = -1;
    ck_assert_int_eq(waitpid(child->pid, &status, 0), child->pid);
    ck_assert_msg(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL, "the child did not die: %d", status);
    close(child->fd);
}

void
child_kill(struct child *child)
{
    ck_assert_int_eq(kill(child->pid, SIGKILL), 0);
    ck_assert_int_eq(waitpid(child->pid, NULL, 0), child->pid);
    close(child->fd);
}

void
child_check_at(bool holds, const char *condition, const char *file, int line)
{
    if (holds)
        return;
    fprintf(stderr, "%s:%d: in the child: %s\n%s", file, line, condition, log_buffer);
    _exit(1);
}
