#include "vfs/asynctest.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "powercut/shim_vfs.h"

#define PATIENCE_S 20

/* ------------------------------------------------------------------------------------------------ gate */

struct gate_file {
    struct shim_file shim;
    const char *name;
};

static struct {
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    const char *failing;
    const char *closed;
    bool reached;
} gate = {.mutex = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};

static sqlite3_vfs gate_vfs;
static sqlite3_io_methods gate_methods;

static int
gate_write(sqlite3_file *file, const void *buf, int size, sqlite3_int64 offset)
{
    struct gate_file *f = (struct gate_file *)file;
    bool fails;
    pthread_mutex_lock(&gate.mutex);
    while (f->name != NULL && gate.closed != NULL && strstr(f->name, gate.closed) != NULL) {
        gate.reached = true;
        pthread_cond_broadcast(&gate.changed);
        pthread_cond_wait(&gate.changed, &gate.mutex);
    }
    fails = f->name != NULL && gate.failing != NULL && strstr(f->name, gate.failing) != NULL;
    pthread_mutex_unlock(&gate.mutex);
    return fails ? SQLITE_IOERR_WRITE : shim_methods.xWrite(file, buf, size, offset);
}

static int
gate_vfs_open(sqlite3_vfs *vfs, const char *name, sqlite3_file *file, int flags, int *out_flags)
{
    ((struct gate_file *)file)->name = name;
    return shim_open(vfs, name, (struct shim_file *)file, sizeof(struct gate_file), &gate_methods, flags, out_flags);
}

static void
set_gate(const char **field, const char *part)
{
    pthread_mutex_lock(&gate.mutex);
    *field = part;
    gate.reached = false;
    pthread_cond_broadcast(&gate.changed);
    pthread_mutex_unlock(&gate.mutex);
}

void
gate_fail(const char *part)
{
    set_gate(&gate.failing, part);
}

void
gate_close(const char *part)
{
    set_gate(&gate.closed, part);
}

void
gate_open(void)
{
    set_gate(&gate.closed, NULL);
}

void
gate_reached(void)
{
    struct timespec end;
    int rc = 0;
    clock_gettime(CLOCK_REALTIME, &end);
    end.tv_sec += PATIENCE_S;
    pthread_mutex_lock(&gate.mutex);
    while (!gate.reached && rc == 0)
        rc = pthread_cond_timedwait(&gate.changed, &gate.mutex, &end);
    pthread_mutex_unlock(&gate.mutex);
    ck_assert_msg(rc == 0, "nobody came to the gate");
}

/* ------------------------------------------------------------------------------------------- databases */

void
async_begin(void)
{
    if (gate_vfs.zName == NULL) {
        shim_fill(&gate_vfs, "gate", sqlite3_vfs_find("unix"), sizeof(struct gate_file));
        gate_methods = shim_methods;
        gate_methods.xWrite = gate_write;
        gate_vfs.xOpen = gate_vfs_open;
    }
    ck_assert_int_eq(sqlite3_vfs_register(&gate_vfs, 0), SQLITE_OK);
    ck_assert_int_eq(lockstep_shutdown(), SQLITE_OK);
    ck_assert_int_eq(sqlite3async_initialize("gate", 0), SQLITE_OK);
    ck_assert_int_eq(lockstep_initialize("gate", 0), SQLITE_OK);
}

sqlite3 *
open_async(const char *name, const char *parameters)
{
    char with_vfs[400];
    sqlite3 *db;
    snprintf(with_vfs, sizeof with_vfs, "vfs=sqlite3async&%s", parameters);
    ck_assert_int_eq(open_code(name, with_vfs, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE, &db), SQLITE_OK);
    return db;
}

sqlite3 *
make_async(const char *name, const char *parameters)
{
    sqlite3 *db = open_async(name, parameters);
    must(db, "create table t(v)");
    /* The first commit into an empty file does not wait. */
    ck_assert_uint_eq(waiting(db), 0);
    return db;
}

void
halt(int when)
{
    ck_assert_int_eq(sqlite3async_control(SQLITEASYNC_HALT, when), SQLITE_OK);
}

void
run_idle(void)
{
    halt(SQLITEASYNC_HALT_IDLE);
    sqlite3async_run();
    halt(SQLITEASYNC_HALT_NEVER);
}

static void *
run_main(void *arg)
{
    (void)arg;
    sqlite3async_run();
    return NULL;
}

void
start_run(pthread_t *out_thread)
{
    ck_assert_int_eq(pthread_create(out_thread, NULL, run_main, NULL), 0);
}

void
end_run(pthread_t thread, int when)
{
    halt(when);
    ck_assert_int_eq(pthread_join(thread, NULL), 0);
    halt(SQLITEASYNC_HALT_NEVER);
}

unsigned long long
waiting(sqlite3 *db)
{
    struct lockstep_db_info i = info(db);
    return i.committed - i.flushed;
}

void
until_written(sqlite3 *db)
{
    int i;
    for (i = 0; i < PATIENCE_S * 1000 && waiting(db) != 0; i++)
        usleep(1000);
    ck_assert_uint_eq(waiting(db), 0);
}

int
stock_count(const char *name)
{
    sqlite3 *db = open_stock(name);
    int count;
    sqlite3_busy_timeout(db, PATIENCE_S * 1000);
    count = atoi(must(db, "select count(*) from t"));
    close_db(db);
    return count;
}
