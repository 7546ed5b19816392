#include "powercut/history.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "powercut/mix.h"

#define IDS_A_COMMIT 8 /* commit n makes rows 8 n to 8 n + 3 */
#define MAX_UPDATES 4
#define MAX_BLOB 9000

/* What commit n does. */
struct plan {
    int inserts, updates;
    int64_t first;               /* id of the first row made */
    int64_t update[MAX_UPDATES]; /* rows changed, if they are there */
    int64_t low, high;           /* rows removed; none if low > high */
};

static void
make_plan(int64_t n, struct plan *p)
{
    uint64_t r = mix((uint64_t)n);
    int64_t ids = n * IDS_A_COMMIT;
    int i;
    p->inserts = 1 + (int)(r % 4);
    p->updates = (int)(r >> 8 & 3);
    p->first = ids;
    for (i = 0; i < p->updates; i++)
        p->update[i] = (int64_t)(mix(r + (uint64_t)i) % (uint64_t)ids);
    p->low = 1;
    p->high = 0;
    if (n % 64 == 63) {
        p->low = 0;
        p->high = ids / 4 * 3;
    } else if ((r >> 16 & 3) == 0) {
        p->low = (int64_t)(mix(r + 99) % (uint64_t)ids);
        p->high = p->low + (int64_t)(r >> 24 & 63);
    }
    if (p->high >= ids)
        p->high = ids - 1;
}

static int
make_blob(int64_t id, int64_t stamp, unsigned char blob[MAX_BLOB])
{
    uint64_t r = mix((uint64_t)id * 1000003 + (uint64_t)stamp);
    int size = (int)(r % 300) + (r >> 32 & 31 ? 0 : 5000 + (int)(r >> 40 & 2047)), i;
    for (i = 0; i < size; i++)
        blob[i] = (unsigned char)(r >> 8 * (i & 7)) ^ (unsigned char)(i >> 3);
    return size;
}

static uint64_t
row_sum(int64_t id, int64_t stamp, const unsigned char *blob, int size)
{
    uint64_t hash = 14695981039346656037u;
    int i;
    for (i = 0; i < size; i++)
        hash = (hash ^ blob[i]) * 1099511628211u;
    return mix(mix((uint64_t)id) ^ (uint64_t)stamp * 3 ^ hash);
}

static int64_t
next_chain(int64_t chain, int64_t n)
{
    return (int64_t)(mix((uint64_t)chain ^ (uint64_t)n) >> 1);
}

/* ------------------------------------------------------------------------------------------- committing */

/* Runs one statement with up to three numbers and a blob; *out, if not NULL, gets the columns. */
static int
step(sqlite3 *db, const char *text, const int64_t numbers[3], const void *blob, int size, int64_t out[2])
{
    sqlite3_stmt *s;
    int rc = sqlite3_prepare_v2(db, text, -1, &s, NULL), i, n;
    if (rc != SQLITE_OK)
        return sqlite3_extended_errcode(db);
    n = sqlite3_bind_parameter_count(s);
    for (i = 0; i < n && i < 3; i++)
        sqlite3_bind_int64(s, i + 1, numbers[i]);
    if (blob != NULL)
        sqlite3_bind_blob(s, n, blob, size, SQLITE_STATIC);
    rc = sqlite3_step(s);
    for (i = 0; rc == SQLITE_ROW && out != NULL && i < 2; i++)
        out[i] = sqlite3_column_int64(s, i);
    sqlite3_finalize(s);
    return rc == SQLITE_ROW || rc == SQLITE_DONE ? SQLITE_OK : sqlite3_extended_errcode(db);
}

static int
rollback(sqlite3 *db, int rc)
{
    if (rc == SQLITE_ERROR || (rc & 0xff) == SQLITE_CORRUPT)
        sqlite3_log(rc, "the history cannot go on: %s", sqlite3_errmsg(db));
    if (!sqlite3_get_autocommit(db))
        sqlite3_exec(db, "rollback", NULL, NULL, NULL);
    return rc;
}

int
history_create(sqlite3 *db)
{
    int rc = sqlite3_exec(db,
                          "begin immediate;"
                          "create table state(k integer primary key, n, chain);"
                          "create table data(id integer primary key, stamp, v);"
                          "create index data_stamp on data(stamp);"
                          "insert into state values(1, 0, 0);"
                          "commit",
                          NULL, NULL, NULL);
    return rc == SQLITE_OK ? rc : rollback(db, sqlite3_extended_errcode(db));
}

static int
run_plan(sqlite3 *db, int64_t n)
{
    unsigned char blob[MAX_BLOB];
    struct plan p;
    int i, size, rc = SQLITE_OK;
    make_plan(n, &p);
    for (i = 0; i < p.inserts && rc == SQLITE_OK; i++) {
        size = make_blob(p.first + i, n, blob);
        rc = step(db, "insert into data values(?1, ?2, ?3)", (int64_t[3]){p.first + i, n}, blob, size, NULL);
    }
    for (i = 0; i < p.updates && rc == SQLITE_OK; i++) {
        size = make_blob(p.update[i], n, blob);
        rc = step(db, "update data set stamp = ?2, v = ?3 where id = ?1", (int64_t[3]){p.update[i], n}, blob,
                  size, NULL);
    }
    if (rc == SQLITE_OK && p.low <= p.high)
        rc = step(db, "delete from data where id between ?1 and ?2", (int64_t[3]){p.low, p.high}, NULL, 0,
                  NULL);
    return rc;
}

int
history_commit(sqlite3 *db, int64_t *out_n)
{
    int64_t last[2] = {0, 0}, n;
    int rc = step(db, "begin immediate", NULL, NULL, 0, NULL);
    if (rc != SQLITE_OK)
        return rc;
    rc = step(db, "select n, chain from state", NULL, NULL, 0, last);
    n = last[0] + 1;
    if (rc == SQLITE_OK)
        rc = run_plan(db, n);
    if (rc == SQLITE_OK)
        rc = step(db, "update state set n = ?1, chain = ?2", (int64_t[3]){n, next_chain(last[1], n)}, NULL, 0,
                  NULL);
    if (rc != SQLITE_OK)
        return rollback(db, rc);
    *out_n = n;
    rc = step(db, "commit", NULL, NULL, 0, NULL);
    return rc == SQLITE_OK ? rc : rollback(db, rc);
}

/* --------------------------------------------------------------------------------------------- checking */

/* The content after each commit, worked out without a database as far as somebody asked. */
static struct {
    int64_t known; /* commits */
    int64_t *stamp_of; /* by id: -1 not there */
    uint64_t *sum_after;
    int64_t *chain_after;
    int64_t *rows_after;
    int64_t rows;
    uint64_t sum;
} model = {.known = -1};

static uint64_t
sum_of(int64_t id, int64_t stamp)
{
    unsigned char blob[MAX_BLOB];
    int size = make_blob(id, stamp, blob);
    return row_sum(id, stamp, blob, size);
}

static void
set_row(int64_t id, int64_t stamp)
{
    int64_t *now = &model.stamp_of[id];
    if (*now >= 0) {
        model.sum -= sum_of(id, *now);
        model.rows--;
    }
    *now = stamp;
    if (stamp >= 0) {
        model.sum += sum_of(id, stamp);
        model.rows++;
    }
}

static void
make_room(int64_t n)
{
    size_t commits = (size_t)n + 1, ids = commits * IDS_A_COMMIT, i;
    model.stamp_of = realloc(model.stamp_of, ids * sizeof *model.stamp_of);
    model.sum_after = realloc(model.sum_after, commits * sizeof *model.sum_after);
    model.chain_after = realloc(model.chain_after, commits * sizeof *model.chain_after);
    model.rows_after = realloc(model.rows_after, commits * sizeof *model.rows_after);
    if (model.stamp_of == NULL || model.sum_after == NULL || model.chain_after == NULL ||
        model.rows_after == NULL)
        abort();
    for (i = (size_t)(model.known + 1) * IDS_A_COMMIT; i < ids; i++)
        model.stamp_of[i] = -1;
}

static void
learn(int64_t n)
{
    if (n <= model.known)
        return;
    make_room(n);
    while (model.known < n) {
        int64_t now = ++model.known, id;
        struct plan p;
        int i;
        if (now > 0) {
            make_plan(now, &p);
            for (i = 0; i < p.inserts; i++)
                set_row(p.first + i, now);
            for (i = 0; i < p.updates; i++)
                if (model.stamp_of[p.update[i]] >= 0)
                    set_row(p.update[i], now);
            for (id = p.low; id <= p.high; id++)
                set_row(id, -1);
        }
        model.sum_after[now] = model.sum;
        model.rows_after[now] = model.rows;
        model.chain_after[now] = now == 0 ? 0 : next_chain(model.chain_after[now - 1], now);
    }
}

/* Adds the rows up; the sum of each row is of what is there. */
static int
add_up(sqlite3 *db, int64_t *out_rows, uint64_t *out_sum)
{
    sqlite3_stmt *s;
    int rc = sqlite3_prepare_v2(db, "select id, stamp, v from data", -1, &s, NULL);
    *out_rows = 0;
    *out_sum = 0;
    if (rc != SQLITE_OK)
        return sqlite3_extended_errcode(db);
    while ((rc = sqlite3_step(s)) == SQLITE_ROW) {
        *out_sum += row_sum(sqlite3_column_int64(s, 0), sqlite3_column_int64(s, 1),
                            sqlite3_column_blob(s, 2), sqlite3_column_bytes(s, 2));
        ++*out_rows;
    }
    sqlite3_finalize(s);
    return rc == SQLITE_DONE ? SQLITE_OK : sqlite3_extended_errcode(db);
}

static bool
check_content(sqlite3 *db, int64_t newest, int64_t *out_n, int *out_rc, char why[HISTORY_WHY])
{
    int64_t state[2] = {-1, 0}, rows;
    uint64_t sum;
    *out_rc = step(db, "select n, chain from state", NULL, NULL, 0, state);
    if (*out_rc == SQLITE_OK)
        *out_rc = add_up(db, &rows, &sum);
    if (*out_rc != SQLITE_OK) {
        snprintf(why, HISTORY_WHY, "cannot be read: %s", sqlite3_errmsg(db));
        return false;
    }
    *out_n = state[0];
    if (state[0] < 0 || state[0] > newest) {
        snprintf(why, HISTORY_WHY, "says that it is after commit %lld of %lld", (long long)state[0],
                 (long long)newest);
        return false;
    }
    learn(state[0]);
    if (state[1] == model.chain_after[state[0]] && rows == model.rows_after[state[0]] &&
        sum == model.sum_after[state[0]])
        return true;
    snprintf(why, HISTORY_WHY, "is not as after commit %lld: %lld rows for %lld, sum %llx for %llx",
             (long long)state[0], (long long)rows, (long long)model.rows_after[state[0]],
             (unsigned long long)sum, (unsigned long long)model.sum_after[state[0]]);
    return false;
}

struct first_line {
    char text[HISTORY_WHY - 40];
};

static int
keep_first(void *arg, int n, char **values, char **names)
{
    struct first_line *line = arg;
    (void)names;
    if (n > 0 && line->text[0] == '\0')
        snprintf(line->text, sizeof line->text, "%s", values[0] != NULL ? values[0] : "");
    return 0;
}

bool
history_check(sqlite3 *db, int64_t newest, int64_t *out_n, int *out_rc, char why[HISTORY_WHY])
{
    struct first_line tables = {""}, whole = {""};
    bool good = true;
    *out_rc = sqlite3_exec(db, "begin; select count(*) from sqlite_master", keep_first, &tables, NULL);
    if (*out_rc == SQLITE_OK)
        *out_rc = sqlite3_exec(db, "pragma integrity_check", keep_first, &whole, NULL);
    if (*out_rc != SQLITE_OK) {
        *out_rc = sqlite3_extended_errcode(db);
        snprintf(why, HISTORY_WHY, "cannot be read: %s", sqlite3_errmsg(db));
        good = false;
    } else if (strcmp(whole.text, "ok") != 0) {
        snprintf(why, HISTORY_WHY, "is damaged: %s", whole.text);
        good = false;
    } else if (strcmp(tables.text, "0") == 0) {
        *out_n = HISTORY_NONE;
    } else {
        good = check_content(db, newest, out_n, out_rc, why);
    }
    if (!sqlite3_get_autocommit(db))
        sqlite3_exec(db, "rollback", NULL, NULL, NULL);
    return good;
}
