#!/bin/bash
# The README's program: what it writes is on disk when it says so, in an ordinary database, and
# nothing is left beside it.
set -uo pipefail

hello=${LKS_BUILDDIR:?}/examples/hello
sqlite3=${LKS_SQLITE3:-}
[ -n "$sqlite3" ] || { echo "no sqlite3 shell"; exit 77; }

tmp=$(mktemp -d) || exit 1
trap 'rm -rf "$tmp"' EXIT

fail() {
    echo "FAIL: $*"
    exit 1
}

for n in 1 2 3; do
    out=$("$hello" "$tmp/hello.db") || fail "hello ended with $?"
    [ "$out" = "visit $n is on disk" ] || fail "run $n said: $out"
    rows=$("$sqlite3" "$tmp/hello.db" 'SELECT count(*) FROM visit; PRAGMA integrity_check') ||
        fail "cannot be read"
    [ "$rows" = "$n"$'\nok' ] || fail "after run $n stock SQLite found: $rows"
    [ "$(ls "$tmp")" = hello.db ] || fail "left behind: $(ls "$tmp")"
done

mkdir "$tmp/directory"
"$hello" "$tmp/directory" 2>"$tmp/error" && fail "it opened a directory as a database"
[ -s "$tmp/error" ] || fail "no message for a directory"
echo ok
