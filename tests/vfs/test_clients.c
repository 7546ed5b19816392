/* As many processes as there are client entries, and more. */
#include <string.h>

#include "shm/layout.h"
#include "vfs/peer.h"
#include "vfs/vfstest.h"

#define URI "file:a.db?vfs=lockstep&durability=async&worker=0"
#define MORE 300

static struct peer peers[MORE];

START_TEST(the_last_client_entry_works_the_next_is_refused_and_a_free_one_is_used_again)
{
    const char *answer;
    sqlite3 *db = open_ours("a.db", "durability=async");
    int i, refused = 0, count = MORE;
    char want[32];
    must(db, "create table t(v)");
    /* This process is one. */
    for (i = 0; i < count; i++) {
        peer_start(&peers[i]);
        peer_tell(&peers[i], "open 0 " URI);
    }
    for (i = 0; i < count; i++)
        check_text(peer_answer(&peers[i]), "");
    for (i = 0; i < count; i++) {
        answer = peer_ask(&peers[i], "sql 0 select count(*) from t");
        if (i < (int)LKS_MAX_CLIENTS - 1) {
            check_text(answer, "0");
        } else {
            ck_assert_msg(strncmp(answer, "error ", 6) == 0, "client %d: %s", i, answer);
            refused++;
        }
    }
    ck_assert_int_eq(refused, count - ((int)LKS_MAX_CLIENTS - 1));
    ck_assert_uint_eq(info(db).clients, LKS_MAX_CLIENTS);
    answer = peer_ask(&peers[count - 1], "log");
    ck_assert_msg(strstr(answer, "client entries are taken") != NULL, "%s", answer);

    /* All who are connected write. */
    for (i = 0; i < (int)LKS_MAX_CLIENTS - 1; i++) {
        check_text(peer_ask(&peers[i], "timeout 0 20000"), "");
        peer_tell(&peers[i], "sql 0 insert into t values(%d)", i);
    }
    for (i = 0; i < (int)LKS_MAX_CLIENTS - 1; i++)
        check_text(peer_answer(&peers[i]), "");
    /* One leaves, one is killed: two of those who were refused take their places. */
    peer_exit(&peers[0]);
    check_text(peer_ask(&peers[count - 1], "sql 0 insert into t values('late')"), "");
    peer_kill(&peers[1]);
    check_text(peer_ask(&peers[count - 2], "sql 0 insert into t values('later')"), "");
    ck_assert(strncmp(peer_ask(&peers[count - 3], "sql 0 select 1 from t"), "error ", 6) == 0);
    sqlite3_snprintf(sizeof want, want, "%d", (int)LKS_MAX_CLIENTS - 1 + 2);
    check_text(must(db, "select count(*) from t"), want);
    for (i = 2; i < count; i++)
        peer_kill(&peers[i]);
    must(db, "insert into t values('last')");
    close_db(db);
    check_ordinary("a.db");
}
END_TEST

static Suite *
make_suite(void)
{
    Suite *suite = suite_create("clients");
    TCase *tcase = vfstest_case(suite, "clients");
    tcase_set_timeout(tcase, 120);
    tcase_add_test(tcase,
                   the_last_client_entry_works_the_next_is_refused_and_a_free_one_is_used_again);
    return suite;
}

int
main(int argc, char **argv)
{
    return vfstest_main(argc, argv, make_suite);
}
