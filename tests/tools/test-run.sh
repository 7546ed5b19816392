#!/bin/bash
# "lockstep run" puts an unchanged program onto Lockstep: the sqlite3 shell, which shuts SQLite down and starts it
# again as it begins, and whatever the command starts in turn.
set -euo pipefail

if [ -n "${LKS_SANITIZERS-}" ]; then
    echo "skipped: a library with a sanitizer cannot be preloaded into programs without"
    exit 77
fi
[ -n "${LKS_SQLITE3-}" ] || { echo "skipped: no sqlite3 shell"; exit 77; }

lockstep=${LKS_BUILDDIR:-.}/lockstep
[ -x "$lockstep" ] || { echo "skipped: built without tools"; exit 77; }
# The fifth byte of a program: 1 for 32 bits, 2 for 64. What libtool made may be a script.
elf_class() {
    od -An -tu1 -j4 -N1 "$1"
}
library=${LKS_BUILDDIR:-.}/.libs/lockstep-run.so
if [ -f "$library" ] && [ "$(elf_class "$library")" != "$(elf_class "$(command -v sh)")" ]; then
    echo "skipped: the library cannot be preloaded into sh, which has another word size"
    exit 77
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
failed=0

# expect WHAT WANTED GOT
expect() {
    [ "$2" = "$3" ] || { printf '%s: expected "%s", got "%s"\n' "$1" "$2" "$3"; failed=1; }
}

# What the shell prints of the file's VFS, warnings included: opened by the first command, named by the second.
ask=('PRAGMA user_version' .vfsname)
stock=$'0\nunix'
ours=$'0\nlockstep/unix'

expect "the shell alone" "$stock" "$("$LKS_SQLITE3" "$work/a.db" "${ask[@]}" 2>&1)"
expect "the shell under run" "$ours" "$("$lockstep" run -- "$LKS_SQLITE3" "$work/a.db" "${ask[@]}" 2>&1)"
expect "without --" "$ours" "$("$lockstep" run "$LKS_SQLITE3" "$work/a.db" "${ask[@]}" 2>&1)"
# shellcheck disable=SC2016 # the inner shell expands it
expect "through another shell" "$ours" \
    "$("$lockstep" run -- sh -c '"$@"' sh "$LKS_SQLITE3" "$work/a.db" "${ask[@]}" 2>&1)"
expect "a VFS that is asked for" "$stock" \
    "$("$lockstep" run -- "$LKS_SQLITE3" "file:$work/a.db?vfs=unix" "${ask[@]}" 2>&1)"

"$lockstep" run -- "$LKS_SQLITE3" "$work/b.db" 'CREATE TABLE t(a); INSERT INTO t VALUES(1), (2), (3)'
expect "what it wrote" $'6\nok' "$("$LKS_SQLITE3" "$work/b.db" 'SELECT sum(a) FROM t; PRAGMA integrity_check')"
expect "what it left" b.db "$(cd "$work" && ls -d b.db*)"

# The shell shuts SQLite down as it begins, which forgets automatic extensions.
expect "the tables" 1 "$("$lockstep" run -- "$LKS_SQLITE3" "$work/b.db" \
    'SELECT count(*) FROM lockstep_clients' 2>&1)"

# A program that registers an extension of its own; SQLite calls sqlite3_initialize() then, holding a mutex.
cat >"$work/auto.c" <<'END'
#include <sqlite3.h>
static int calls;
static int extend(void) { calls++; return 0; }
int main(void)
{
    sqlite3 *db;
    if (sqlite3_auto_extension((void (*)(void))extend) != 0 || sqlite3_shutdown() != 0 ||
        sqlite3_auto_extension((void (*)(void))extend) != 0 || sqlite3_open(":memory:", &db) != 0 ||
        sqlite3_exec(db, "SELECT * FROM lockstep_locks", 0, 0, 0) != 0)
        return 1;
    sqlite3_close(db);
    return calls == 1 ? 0 : 2;
}
END
# shellcheck disable=SC2086 # words
if ${LKS_CC:-cc} -o "$work/auto" "$work/auto.c" $(${LKS_PKG_CONFIG:-pkg-config} --cflags --libs sqlite3); then
    status=0
    timeout 20 "$lockstep" run -- "$work/auto" || status=$?
    expect "a program with an automatic extension" 0 "$status"
fi
if [ -f "${LKS_LOADABLE-}" ]; then
    expect "loading it as well" 1 "$(timeout 20 "$lockstep" run -- "$LKS_SQLITE3" "$work/b.db" \
        ".load ${LKS_LOADABLE%.so}" 2>&1 | grep -c 'Lockstep is in this process already')"
fi

status=0
"$lockstep" run -- sh -c 'exit 7' || status=$?
expect "the exit status" 7 "$status"
status=0
"$lockstep" run -- "$work/gone" 2>"$work/err" || status=$?
expect "a command that is not there" 127 "$status"
expect "what it says then" "lockstep: run: $work/gone: No such file or directory" "$(cat "$work/err")"
status=0
"$lockstep" run 2>/dev/null || status=$?
expect "no command" 2 "$status"
exit "$failed"
