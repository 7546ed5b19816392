#!/bin/bash
# What "make install" puts down is enough for a program that knows pkg-config and nothing else, and for
# the sqlite3 shell's .load. As a test it installs into a directory of its own first; under
# "make installcheck" it looks at what is installed.
set -euo pipefail

if [ -n "${LKS_SANITIZERS-}" ]; then
    echo "skipped: programs and the shell would need the sanitizer's runtime as well"
    exit 77
fi

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cc=${LKS_CC:-cc}
pkg_config=${LKS_PKG_CONFIG:-pkg-config}
destdir=${LKS_DESTDIR-}

if [ -z "${LKS_INSTALLED-}" ]; then
    destdir=$work/root
    ${MAKE:-make} -C "$LKS_BUILDDIR" install DESTDIR="$destdir" >"$work/install.log" 2>&1 || {
        cat "$work/install.log"
        exit 1
    }
fi

export PKG_CONFIG_PATH=$destdir$LKS_PKGCONFIGDIR${PKG_CONFIG_PATH:+:$PKG_CONFIG_PATH}
[ -z "$destdir" ] || export PKG_CONFIG_SYSROOT_DIR=$destdir
libdir=$destdir$("$pkg_config" --variable=libdir lockstep | sed "s|^$destdir||")
loadable=$destdir$("$pkg_config" --variable=loadable lockstep-sqlite | sed "s|^$destdir||")

# build NAME PACKAGE: compiles $work/NAME.c with what pkg-config says of PACKAGE.
build() {
    local flags
    flags=$("$pkg_config" --cflags --libs "$2")
    echo "$1: $cc $flags"
    # shellcheck disable=SC2086 # several words each
    $cc -Wall -Wextra -Werror -o "$work/$1" "$work/$1.c" $flags -Wl,-rpath-link,"$libdir"
}

run() {
    LD_LIBRARY_PATH=$libdir${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH} "$@"
}

# The core alone: a page of a file, committed, durable, read back.
cat >"$work/core.c" <<'END'
#include <fcntl.h>
#include <lockstep/coord.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define MUST(call)                                                                       \
    do {                                                                                 \
        enum lockstep_status status = (call);                                            \
        if (status != LOCKSTEP_OK) {                                                     \
            printf("%s: %s\n", #call, lockstep_status_name(status));                     \
            return 1;                                                                    \
        }                                                                                \
    } while (0)

int main(int argc, char **argv)
{
    struct lockstep_options options = {0};
    struct lockstep_db *db;
    struct lockstep_conn *conn;
    uint64_t ticket;
    size_t n;
    char page[4096] = {0}, back[4096] = {0};
    int fd;

    if (argc != 2 || (fd = open(argv[1], O_RDWR | O_CREAT, 0644)) < 0)
        return 2;
    close(fd);
    strcpy(page, "written by a program that knows pkg-config");
    MUST(lockstep_db_open(argv[1], &options, &db));
    MUST(lockstep_db_attach(db));
    MUST(lockstep_conn_open(db, &conn));
    MUST(lockstep_conn_begin(conn));
    MUST(lockstep_conn_write_begin(conn, 1000));
    MUST(lockstep_conn_write(conn, 0, page, sizeof page));
    MUST(lockstep_conn_commit(conn, LOCKSTEP_ASYNC, &ticket));
    lockstep_conn_end(conn);
    MUST(lockstep_db_wait(db, ticket, 10000));
    MUST(lockstep_conn_begin(conn));
    MUST(lockstep_conn_read(conn, 0, back, sizeof back, &n));
    lockstep_conn_end(conn);
    lockstep_conn_close(conn);
    MUST(lockstep_db_close(db));
    return n == sizeof back && memcmp(page, back, sizeof back) == 0 ? 0 : 1;
}
END
build core lockstep
run "$work/core" "$work/core.dat"
grep -q 'written by a program' "$work/core.dat" || { echo "the page is not in the file"; exit 1; }

# The VFS: a row written through it, read back through it and by the stock VFS.
cat >"$work/vfs.c" <<'END'
#include <lockstep/lockstep.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void run(sqlite3 *db, const char *sql)
{
    if (sqlite3_exec(db, sql, NULL, NULL, NULL) != SQLITE_OK) {
        printf("%s: %s\n", sql, sqlite3_errmsg(db));
        exit(1);
    }
}

int main(int argc, char **argv)
{
    sqlite3 *db;
    sqlite3_stmt *stmt;
    sqlite3_vfs *vfs = NULL;
    char uri[4096];
    int pass;

    if (argc != 2)
        return 2;
    if (lockstep_initialize(NULL, 0) != SQLITE_OK)
        return 3;
    snprintf(uri, sizeof uri, "file:%s?vfs=lockstep", argv[1]);
    for (pass = 0; pass < 2; pass++) {
        if (sqlite3_open_v2(uri, &db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_URI, NULL) !=
            SQLITE_OK) {
            printf("%s: %s\n", uri, sqlite3_errmsg(db));
            return 4;
        }
        if (sqlite3_file_control(db, "main", SQLITE_FCNTL_VFS_POINTER, &vfs) != SQLITE_OK ||
            strcmp(vfs->zName, "lockstep") != 0)
            return 5;
        if (pass == 0)
            run(db, "CREATE TABLE t(x); INSERT INTO t VALUES('in step')");
        if (sqlite3_prepare_v2(db, "SELECT x FROM t", -1, &stmt, NULL) != SQLITE_OK ||
            sqlite3_step(stmt) != SQLITE_ROW ||
            strcmp((const char *)sqlite3_column_text(stmt, 0), "in step") != 0)
            return 6;
        sqlite3_finalize(stmt);
        if (sqlite3_close(db) != SQLITE_OK)
            return 7;
    }
    return 0;
}
END
build vfs lockstep-sqlite
run "$work/vfs" "$work/vfs.db" || { echo "vfs: exit code $?"; exit 1; }

# The loadable extension, and the stock shell as the second reader.
if [ -n "${LKS_SQLITE3-}" ]; then
    answer=$("$LKS_SQLITE3" "$work/vfs.db" 'SELECT x FROM t; PRAGMA integrity_check')
    [ "$answer" = $'in step\nok' ] || { echo "the stock shell reads: $answer"; exit 1; }
    answer=$("$LKS_SQLITE3" :memory: <<END
.load $loadable
.open file:$work/load.db?vfs=lockstep
CREATE TABLE t(x);
INSERT INTO t VALUES('loaded');
SELECT x FROM t;
.vfsname
END
    )
    [ "$answer" = $'loaded\nlockstep/unix' ] || { echo "the shell with .load answers: $answer"; exit 1; }
    answer=$("$LKS_SQLITE3" "$work/load.db" 'SELECT x FROM t; PRAGMA integrity_check')
    [ "$answer" = $'loaded\nok' ] || { echo "the stock shell reads: $answer"; exit 1; }
else
    echo "no sqlite3 shell: .load was not tried"
fi

# The command, where it is built.
if [ -x "$destdir$LKS_BINDIR/lockstep" ]; then
    run "$destdir$LKS_BINDIR/lockstep" --version
fi
