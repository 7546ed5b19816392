#include "powercut/writers.h"

#include <check.h>
#include <pthread.h>
#include <stdio.h>

struct writer {
    const struct writers *writers;
    int kind;
    char error[200];
};

static void *
write_commits(void *arg)
{
    struct writer *w = arg;
    sqlite3 *db = w->writers->open(w->kind);
    int i, rc = SQLITE_OK;
    for (i = 0; i < w->writers->commits && rc == SQLITE_OK; i++)
        rc = w->writers->commit(db, w->kind, i);
    if (rc != SQLITE_OK)
        snprintf(w->error, sizeof w->error, "writer of kind %d, commit %d: %d %s", w->kind, i, rc, sqlite3_errmsg(db));
    sqlite3_close(db);
    return NULL;
}

void
writers_run(const struct writers *writers)
{
    struct writer all[WRITERS_MOST];
    pthread_t threads[WRITERS_MOST];
    int i;
    ck_assert_int_le(writers->kinds, WRITERS_MOST);
    for (i = 0; i < writers->kinds; i++) {
        all[i] = (struct writer){writers, i, ""};
        ck_assert_int_eq(pthread_create(&threads[i], NULL, write_commits, &all[i]), 0);
    }
    for (i = 0; i < writers->kinds; i++)
        pthread_join(threads[i], NULL);
    for (i = 0; i < writers->kinds; i++)
        ck_assert_msg(all[i].error[0] == '\0', "%s", all[i].error);
}
