#include "vfs/waltest.h"

#include "vfs/probe_vfs.h"
#include "vfs/vfstest.h"

sqlite3 *
waltest_make(const char *parameters, int page_size)
{
    sqlite3 *db;
    probe_register();
    ck_assert_int_eq(lockstep_initialize("probe", 0), SQLITE_OK);
    db = open_ours("a.db", parameters);
    if (page_size != 0)
        must(db, "pragma page_size = %d", page_size);
    check_text(must(db, "pragma journal_mode = wal"), "wal");
    must(db, "create table t(k integer primary key, v); pragma wal_checkpoint(truncate)");
    (void)probe_events();
    return db;
}

void
waltest_left_whole(const char *rows)
{
    sqlite3 *stock;
    check_no_log("a.db");
    stock = open_stock("a.db");
    check_text(must(stock, "pragma integrity_check"), "ok");
    check_text(must(stock, "select count(*) from t"), rows);
    close_db(stock);
}
