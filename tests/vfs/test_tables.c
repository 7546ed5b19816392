/*
 * Tests lib/vfs/tables.c, and lib/coord/inspect.c from within a connected process: the tables show what `lockstep
 * locks` shows from outside, and looking drops no lock.
 */
#include <lockstep/inspect.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/atomic.h"
#include "base/clock.h"
#include "vfs/peer.h"
#include "vfs/vfstest.h"

#define URI "file:a.db?vfs=lockstep&durability=async"
#define PATIENCE 10000
/* What two looks have in common: not `since`, and not whether a process runs or sleeps. */
#define LOCKS                                                                                     \
    "lock,mode,state,pid,program,conn,thread,since is null,snapshot,detail,file,start,\"end\",nspid"

/* The picture from outside: this process is not connected. */
static struct lockstep_inspection *
look(const char *name)
{
    struct lockstep_inspection *picture;
    ck_assert_int_eq(lockstep_inspect_open(name, &picture), LOCKSTEP_OK);
    return picture;
}

/* Until so many wait, and nothing is left to be written. */
static void
await(size_t waiters)
{
    int i;
    for (i = 0; i < PATIENCE; i++) {
        struct lockstep_inspection *picture = look("a.db");
        const struct lockstep_db_info *info = &lockstep_inspect_database(picture)->info;
        bool there = info->waiters == waiters && info->durable == info->committed;
        const struct lockstep_reader_view *reader;
        size_t k;
        for (k = 0; (reader = lockstep_inspect_reader(picture, k)) != NULL; k++)
            there = there && !reader->worker;
        lockstep_inspect_close(picture);
        if (there)
            return;
        lks_clock_nap_ms(1);
    }
    ck_abort_msg("it did not come to %zu waiters", waiters);
}

/* A writer, a reader at an older snapshot, a waiter; the reader is who looks from within. */
struct scene {
    struct peer writer, reader, waiter;
};

static void
scene_begin(struct scene *scene)
{
    peer_start(&scene->writer);
    peer_start(&scene->reader);
    peer_start(&scene->waiter);
    check_text(peer_ask(&scene->writer, "open 0 " URI), "");
    check_text(peer_ask(&scene->reader, "open 0 " URI), "");
    check_text(peer_ask(&scene->waiter, "open 0 " URI), "");
    check_text(peer_ask(&scene->writer, "sql 0 create table t(v); insert into t values(1)"), "");
    check_text(peer_ask(&scene->reader, "sql 0 begin; select count(*) from t"), "1");
    check_text(peer_ask(&scene->writer, "sql 0 insert into t values(2)"), "");
    /* Beside an older snapshot the worker, too, needs the writer lock. */
    await(0);
    check_text(peer_ask(&scene->writer, "sql 0 begin immediate; insert into t values(3)"), "");
    check_text(peer_ask(&scene->waiter, "timeout 0 20000"), "");
    peer_tell(&scene->waiter, "sql 0 begin immediate; select count(*) from t");
    await(1);
}

static void
scene_end(struct scene *scene)
{
    check_text(peer_ask(&scene->writer, "sql 0 commit"), "");
    check_text(peer_answer(&scene->waiter), "3");
    check_text(peer_ask(&scene->reader, "sql 0 select count(*) from t; rollback"), "1");
    peer_exit(&scene->waiter);
    peer_exit(&scene->reader);
    peer_exit(&scene->writer);
    check_ordinary("a.db");
}

static void
add(char *text, size_t capacity, const char *format, ...)
{
    size_t n = strlen(text);
    va_list args;
    va_start(args, format);
    vsnprintf(text + n, capacity - n, format, args);
    va_end(args);
}

START_TEST(clients_readers_and_waiters_are_those_that_are_seen_from_outside)
{
    struct scene scene;
    struct lockstep_inspection *picture;
    const struct lockstep_client_view *c;
    const struct lockstep_reader_view *r;
    const struct lockstep_waiter_view *w;
    char want[4000] = "";
    size_t i;
    scene_begin(&scene);
    picture = look("a.db");
    for (i = 0; (c = lockstep_inspect_client(picture, i)) != NULL; i++)
        add(want, sizeof want, "%s%u|%d|%s|%u|%u|%u|NULL", i > 0 ? "\n" : "", c->client, c->process.pid,
            c->process.program, c->alive, c->readonly, c->connections);
    ck_assert_uint_eq(i, 3);
    check_text(peer_ask(&scene.reader, "sql 0 select client,pid,program,alive,readonly,connections,nspid "
                                       "from lockstep_clients"),
               want);
    want[0] = '\0';
    for (i = 0; (r = lockstep_inspect_reader(picture, i)) != NULL; i++)
        add(want, sizeof want, "%s%u|%d|%u|%d|%llu|%llu|%u", i > 0 ? "\n" : "", r->client, r->process.pid,
            r->connection, r->thread, (unsigned long long)r->snapshot, (unsigned long long)r->behind,
            r->worker);
    ck_assert_uint_ge(i, 2);
    ck_assert_uint_eq(lockstep_inspect_reader(picture, 0)->behind, 1);
    check_text(peer_ask(&scene.reader, "sql 0 select client,pid,conn,thread,snapshot,behind,worker "
                                       "from lockstep_readers"),
               want);
    want[0] = '\0';
    for (i = 0; (w = lockstep_inspect_waiter(picture, i)) != NULL; i++)
        add(want, sizeof want, "%s%u|%u|%d|%u|%d|1", i > 0 ? "\n" : "", w->place, w->client,
            w->process.pid, w->connection, w->thread);
    ck_assert_uint_eq(i, 1);
    check_text(peer_ask(&scene.reader,
                        "sql 0 select place,client,pid,conn,thread,since>=0 from lockstep_waiters"),
               want);
    lockstep_inspect_close(picture);
    scene_end(&scene);
}
END_TEST

/* What `lockstep locks --json` printed, as rows of the same columns. */
static const char *
locks_of_command(void)
{
    char command[4200], text[65536];
    const char *build = getenv("LKS_BUILDDIR");
    size_t n;
    sqlite3 *db;
    const char *rows;
    FILE *out;
    snprintf(command, sizeof command, "%s/lockstep locks --json --output-all a.db", build);
    out = popen(command, "r");
    ck_assert_ptr_nonnull(out);
    n = fread(text, 1, sizeof text - 1, out);
    text[n] = '\0';
    ck_assert_int_eq(pclose(out), 0);
    db = open_stock(":memory:");
    must(db, "create table j(t)");
    must(db, "insert into j values('%s')", text);
#define KEY(NAME) "json_extract(value,'$." NAME "') as \"" NAME "\""
    rows = must(db, "select " LOCKS " from (select " KEY("lock") "," KEY("mode") "," KEY("state") "," KEY(
                        "pid") "," KEY("program") "," KEY("conn") "," KEY("thread") "," KEY("since") "," KEY(
                        "snapshot") "," KEY("detail") "," KEY("file") "," KEY("start") "," KEY("end") "," KEY(
                        "nspid") " from j, json_each(j.t,'$.locks'))");
    close_db(db);
    return rows;
}

START_TEST(the_locks_are_those_that_the_command_prints_and_looking_drops_none)
{
    struct scene scene;
    char outside[65536];
    char path[4200];
    int i;
    snprintf(path, sizeof path, "%s/lockstep", getenv("LKS_BUILDDIR") ? getenv("LKS_BUILDDIR") : ".");
    if (access(path, X_OK) != 0)
        return; /* built without tools */
    scene_begin(&scene);
    for (i = 0; i < 3; i++) {
        snprintf(outside, sizeof outside, "%s", locks_of_command());
        ck_assert_ptr_nonnull(strstr(outside, "WRITER|WRITE|waiting|"));
        ck_assert_ptr_nonnull(strstr(outside, "CLIENT(2)|WRITE|held|"));
        check_text(peer_ask(&scene.reader, "sql 0 select " LOCKS " from lockstep_locks"), outside);
    }
    scene_end(&scene);
}
END_TEST

START_TEST(the_columns_are_those_of_the_command)
{
    sqlite3 *db = open_ours("a.db", "");
    /* The text of tools/cmd_locks.c, in its order. */
    check_text(must(db, "select group_concat(name) from pragma_table_xinfo('lockstep_locks') where hidden=0"),
               "lock,mode,state,pid,program,pstate,conn,thread,since,snapshot,detail,file,start,end,nspid");
    check_text(must(db, "select name from pragma_table_xinfo('lockstep_waiters') where hidden=1"), "schema");
    close_db(db);
}
END_TEST

START_TEST(the_argument_names_the_attached_database)
{
    sqlite3 *db = open_ours("a.db", "");
    must(db, "create table t(v); attach 'file:b.db?vfs=lockstep' as other; create table other.t(v)");
    must(db, "begin; insert into other.t values(1)");
    check_text(must(db, "select lock, schema from lockstep_locks('other') where lock='WRITER'"),
               "WRITER|other");
    check_text(must(db, "select count(*) from lockstep_locks where lock='WRITER' and schema='other'"), "1");
    check_text(must(db, "select count(*) from lockstep_locks where lock='WRITER'"), "0");
    check_text(must(db, "select d.name from pragma_database_list d, lockstep_locks(d.name) l where "
                        "l.lock='WRITER'"),
               "other");
    check_text(must(db, "select count(*) from lockstep_clients(null)"), "0");
    ck_assert_ptr_nonnull(strstr(sql(db, "select * from lockstep_readers('nowhere')"),
                                 "there is no database \"nowhere\""));
    must(db, "commit");
    close_db(db);
}
END_TEST

START_TEST(a_database_that_is_not_locksteps_shows_what_can_be_known)
{
    sqlite3 *db = open_stock(":memory:");
    check_text(must(db, "select count(*) from lockstep_locks"), "0");
    check_text(must(db, "select count(*) from lockstep_locks('temp')"), "0");
    check_text(must(db, "create temp table x(a); select count(*) from lockstep_clients('temp')"), "0");
    must(db, "attach '' as nameless; attach 'file:/a.db?vfs=memdb' as shared; create table shared.t(v)");
    check_text(must(db, "select count(*) from lockstep_readers('nameless'), lockstep_waiters('shared')"), "0");
    must(db, "attach 'stock.db' as stock; create table stock.t(v); begin; insert into stock.t values(1)");
    check_text(must(db, "select lock,mode,detail from lockstep_locks('stock')"),
               "RESERVED|WRITE|writes; others may read\nSHARED|READ|reads");
    check_text(must(db, "select count(*) from lockstep_clients('stock')"), "0");
    must(db, "commit");
    close_db(db);
    db = open_ours("wal.db", "");
    must(db, "pragma journal_mode=wal; create table t(v); begin immediate; insert into t values(1)");
    check_text(must(db, "select lock,file from lockstep_locks where lock='WRITE'"), "WRITE|shm");
    check_text(must(db, "select count(*) from lockstep_waiters"), "0");
    must(db, "commit");
    close_db(db);
}
END_TEST

START_TEST(the_tables_are_for_questions_only)
{
    sqlite3 *db = open_ours("a.db", "");
    ck_assert_int_ne(code(db, "delete from lockstep_locks"), SQLITE_OK);
    must(db, "create view v as select * from lockstep_locks");
    ck_assert_ptr_nonnull(strstr(sql(db, "select * from v"), "unsafe use of virtual table"));
    /* A table of that name is the application's. */
    must(db, "create table lockstep_readers(v); insert into lockstep_readers values('mine')");
    check_text(must(db, "select * from lockstep_readers"), "mine");
    close_db(db);
    check_ordinary("a.db");
}
END_TEST

START_TEST(connections_have_the_tables_from_initialize_to_shutdown)
{
    sqlite3 *db;
    ck_assert_int_eq(lockstep_shutdown(), SQLITE_OK);
    db = open_stock(":memory:");
    ck_assert_ptr_nonnull(strstr(sql(db, "select * from lockstep_locks"), "no such table"));
    close_db(db);
    ck_assert_int_eq(lockstep_initialize("unix", 0), SQLITE_OK);
    db = open_stock(":memory:");
    check_text(must(db, "select count(*) from lockstep_locks"), "0");
    close_db(db);
    /* SQLite forgets automatic extensions; the next call brings them back. */
    ck_assert_int_eq(sqlite3_shutdown(), SQLITE_OK);
    ck_assert_int_eq(lockstep_initialize("unix", 0), SQLITE_OK);
    db = open_stock(":memory:");
    check_text(must(db, "select count(*) from lockstep_locks"), "0");
    close_db(db);
}
END_TEST

static struct lks_a32 looking;

static void *
look_again_and_again(void *arg)
{
    struct lks_a32 *rounds = arg;
    while (lks_a32_acquire(&looking) != 0) {
        lockstep_inspect_close(look("a.db"));
        lks_a32_add(rounds, 1);
    }
    return NULL;
}

/*
 * A thread that looks while another connects: were the file opened for the look and closed after the other had
 * its locks, they would be gone.
 */
START_TEST(a_look_takes_no_lock_from_a_thread_that_connects_meanwhile)
{
    struct lks_a32 rounds = {0};
    struct peer peer;
    pthread_t thread;
    int i, count = vfstest_soak() ? 5000 : 60;
    peer_start(&peer);
    /* So that the file is there. */
    check_text(peer_ask(&peer, "open 0 " URI), "");
    check_text(peer_ask(&peer, "sql 0 create table t(v)"), "");
    lks_a32_set_release(&looking, 1);
    ck_assert_int_eq(pthread_create(&thread, NULL, look_again_and_again, &rounds), 0);
    for (i = 0; i < count; i++) {
        sqlite3 *db = open_ours("a.db", "");
        check_text(must(db, "select count(*) from t"), "0");
        /* Of the kernel's list: CLIENT(1), and DMS2. */
        check_text(must(db,
                        "select count(*) from lockstep_locks where pid=%d and file='lockstep' and "
                        "(lock like 'CLIENT%%' or lock='DMS2')",
                        (int)getpid()),
                   "2");
        close_db(db);
    }
    lks_a32_set_release(&looking, 0);
    ck_assert_int_eq(pthread_join(thread, NULL), 0);
    ck_assert_uint_gt(lks_a32_relaxed(&rounds), 0);
    peer_exit(&peer);
}
END_TEST

static Suite *
make_suite(void)
{
    Suite *suite = suite_create("tables");
    TCase *tcase = vfstest_case(suite, "tables");
    tcase_add_test(tcase, clients_readers_and_waiters_are_those_that_are_seen_from_outside);
    tcase_add_test(tcase, the_locks_are_those_that_the_command_prints_and_looking_drops_none);
    tcase_add_test(tcase, the_columns_are_those_of_the_command);
    tcase_add_test(tcase, the_argument_names_the_attached_database);
    tcase_add_test(tcase, a_database_that_is_not_locksteps_shows_what_can_be_known);
    tcase_add_test(tcase, the_tables_are_for_questions_only);
    tcase_add_test(tcase, connections_have_the_tables_from_initialize_to_shutdown);
    tcase_add_test(tcase, a_look_takes_no_lock_from_a_thread_that_connects_meanwhile);
    return suite;
}

int
main(int argc, char **argv)
{
    return vfstest_main(argc, argv, make_suite);
}
