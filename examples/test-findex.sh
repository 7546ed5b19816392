#!/bin/bash
# findex on a small tree with everything a tree may hold: what ends up in the database, on every
# side, and what becomes of processes and files when it is interrupted or a worker is killed.
set -uo pipefail

findex=${LKS_BUILDDIR:?}/examples/findex
sqlite3=${LKS_SQLITE3:-}
[ -n "$sqlite3" ] || { echo "no sqlite3 shell"; exit 77; }

tmp=$(mktemp -d) || exit 1
pid=
cleanup() {
    [ -z "$pid" ] || kill -KILL "$pid" 2>/dev/null
    chmod -R u+rwx "$tmp"
    rm -rf "$tmp"
}
trap cleanup EXIT
export TMPDIR=$tmp/databases
mkdir "$TMPDIR"

fail() {
    echo "FAIL: $*"
    exit 1
}

# wait_until COMMAND...: looks again until it succeeds; fails after 20 s.
wait_until() {
    local deadline=$((SECONDS + 20))
    until "$@"; do
        [ $SECONDS -lt $deadline ] || fail "waited in vain for: $*"
        read -r -t 0.02 <> <(:) || :
    done
}

# said_all FILE TEXT...: each of them is in it.
said_all() {
    local file=$1 text
    shift
    for text; do
        grep -qF -e "$text" "$file" || fail "no $text in: $(cat "$file")"
    done
}

make_tree() {
    local tree=$tmp/tree i
    mkdir -p "$tree/many" "$tree/a/b/c" "$tree/closed"
    for ((i = 0; i < 500; i++)); do
        echo "file $i" >"$tree/many/$i"
    done
    printf abc >"$tree/a/abc"
    : >"$tree/a/b/empty"
    head -c 200000 /dev/zero >"$tree/a/b/c/zeros"
    printf x >"$tree/a/"$'not UTF-8 \xff\xfe'
    printf x >"$tree/a/ünï \"quote\" 100%?#&'"
    ln -s / "$tree/root"
    ln -s a/abc "$tree/link"
    mkfifo "$tree/pipe"
    printf secret >"$tree/secret"
    chmod 0 "$tree/secret"
    printf hidden >"$tree/closed/file"
    chmod 0 "$tree/closed"
}

# sql DATABASE QUERY RESULT
expect_sql() {
    local found
    found=$("$sqlite3" "$1" "$2") || fail "$1: $2"
    [ "$found" = "$3" ] || fail "$1: $2: found '$found', expected '$3'"
}

# On Lockstep and on stock SQLite, durable and not: the same index, the right one.
check_index() {
    local side out=$tmp/out.json db=$tmp/'my index%.db' expected=506 unhashed=1

    [ "$(id -u)" -ne 0 ] || { expected=507 unhashed=0; } # root reads everything
    "$findex" --json --keep --db "$db" "$tmp/tree" >"$out" 2>"$tmp/said" ||
        fail "findex ended with $?: $(cat "$tmp/said" "$out")"
    [ "$(grep -c '"good": true' "$out")" = 4 ] || fail "not four good sides: $(cat "$out")"
    [ "$(grep -c '"times_as_fast": [0-9]' "$out")" = 2 ] || fail "not two comparisons"
    "$sqlite3" :memory: "SELECT json_array_length(readfile('$out'), '\$.sides')" | grep -qx 4 ||
        fail "not JSON: $(cat "$out")"
    said_all "$out" '"links": 2' '"special": 1'

    for side in lockstep-async stock-wal-normal lockstep-full stock-delete-full; do
        expect_sql "$db.$side" "PRAGMA integrity_check" ok
        expect_sql "$db.$side" "SELECT count(*), count(*) - count(hash) FROM file" \
            "$expected|$unhashed"
        expect_sql "$db.$side" "SELECT files FROM total" "$expected"
        expect_sql "$db.$side" "SELECT files, bytes FROM directory WHERE path LIKE '%/many'" \
            "500|4390"
        expect_sql "$db.$side" "SELECT size, mtime > 1500000000, printf('%016x', hash) FROM file
            WHERE path LIKE '%/abc'" "3|1|44bc2cf5ad770999"
        expect_sql "$db.$side" "SELECT size, printf('%016x', hash) FROM file
            WHERE path LIKE '%/empty'" "0|ef46db3751d8e999"
        expect_sql "$db.$side" "SELECT typeof(path), hex(path) LIKE '%20FFFE' FROM file
            WHERE typeof(path) <> 'text'" "blob|1"
        expect_sql "$db.$side" "SELECT owner FROM file WHERE path LIKE '%/zeros'" "$(id -un)"
        "$sqlite3" "$db.$side" "SELECT quote(path), directory, size, mtime, owner, hash
            FROM file ORDER BY path" >"$tmp/$side.rows" || fail "$side: cannot be read"
        cmp "$tmp/lockstep-async.rows" "$tmp/$side.rows" ||
            fail "$side: another index than lockstep-async"
    done
    "$findex" --vfs lockstep --db "$db.lockstep-async" "$tmp/tree" >"$tmp/said" 2>&1 &&
        fail "it wrote into a database that was there"
    grep -q 'exists already' "$tmp/said" || fail "said: $(cat "$tmp/said")"
}

check_table() {
    "$findex" --readers 0 --workers 2 --files 100 --vfs lockstep "$tmp/tree" >"$tmp/said" 2>&1 ||
        fail "findex ended with $?: $(cat "$tmp/said")"
    grep -q 'files, a transaction each  *100$' "$tmp/said" || fail "no table: $(cat "$tmp/said")"
    grep -q 'There are more files' "$tmp/said" || fail "it does not say that it left files out"
    [ -z "$(ls "$TMPDIR")" ] || fail "left behind: $(ls -R "$TMPDIR")"
}

check_usage() {
    local arguments

    for arguments in '--vfs nonesuch' '--workers 0' '--workers 1.5' '--files x' '--time 0' \
        '--nonesuch' '--durability x' '--lockstep /nonesuch' 'one two'; do
        # shellcheck disable=SC2086
        "$findex" $arguments >"$tmp/said" 2>&1
        [ $? = 2 ] || fail "findex $arguments: not exit code 2"
        [ -s "$tmp/said" ] || fail "findex $arguments: no message"
    done
    "$findex" /nonesuch >"$tmp/said" 2>&1
    [ $? = 1 ] || fail "a tree that is not there: not exit code 1"
    "$findex" --help | grep -q -- --durability || fail "--help"
}

# children NAME: the pids of findex's children whose names begin so.
children() {
    local status name parent child

    for status in /proc/[0-9]*/status; do
        name='' parent=''
        while IFS=$'\t' read -r key value; do
            case $key in
            Name:) name=$value ;;
            PPid:) parent=$value ;;
            esac
        done 2>/dev/null <"$status"
        child=${status#/proc/}
        [[ $parent = "$pid" && $name = "$1"* ]] && echo "${child%/status}"
    done
}

are_working() {
    children findex-worker >"$tmp/children"
    [ "$(wc -l <"$tmp/children")" = 4 ] && [ -n "$(find "$TMPDIR" -name '*.db' -size +200k)" ]
}

none_is_left() {
    local child
    while read -r child; do
        [ ! -e "/proc/$child" ] || return 1
    done <"$tmp/children"
}

# start OPTION...: a job that goes on for long enough, until its workers have done something. Each of its commits waits for the
# disk: else it may be over before it was seen.
start() {
    setsid "$findex" --vfs lockstep --durability full --time 60 "$@" "$tmp/large" >"$tmp/said" 2>&1 &
    pid=$!
    # behind libtool's wrapper, if there is one, it is the same process: the wrapper execs
    wait_until are_working
}

# 50,000 names of 1,000 files: enough to still be at work when it is interrupted.
make_large_tree() {
    local i
    mkdir -p "$tmp/large/0"
    (cd "$tmp/large/0" && seq 1000 | split -l 1 -a 3 -)
    for ((i = 1; i < 50; i++)); do
        cp -al "$tmp/large/0" "$tmp/large/$i"
    done
}

check_interrupt() {
    start
    kill -INT "$pid"
    wait "$pid"
    [ $? = 130 ] || fail "SIGINT: it did not end by it: $(cat "$tmp/said")"
    pid=
    none_is_left || fail "SIGINT: children are left"
    [ -z "$(ls "$TMPDIR")" ] || fail "SIGINT: left behind: $(ls -R "$TMPDIR")"
}

# Its own death takes the children along.
check_death() {
    start
    kill -KILL "$pid"
    wait "$pid" 2>/dev/null
    pid=
    wait_until none_is_left
    rm -rf "${TMPDIR:?}"/*
}

# Nothing that was acknowledged is lost with a worker, whatever it was doing: the others go on, and
# the report says so.
check_killed_worker() {
    local code try
    for try in 1 2 3; do
        start --json --time 90 --files 20000
        kill -KILL "$(sed -n "${1}p" "$tmp/children")"
        wait "$pid"
        code=$?
        # On a busy machine all may be done before the kill.
        [ $code = 0 ] && grep -q '"workers_died": 0' "$tmp/said" || break
    done
    [ $code = 1 ] || fail "a worker was killed, try $try: exit code $code, not 1"
    pid=
    said_all "$tmp/said" 'was killed by signal 9' '"missing": 0,' '"sums_fit": true' '"wrong": 0,' \
        '"integrity_check": "ok"' '"complete": true' '"workers_died": 1' '"left_behind": ""'
}

make_tree
check_index
check_table
check_usage
make_large_tree
check_interrupt
for n in 1 2 3 4; do
    check_killed_worker $n
done
check_death
echo ok
