#!/bin/bash
# lockstep bench from outside: usage errors, results that can be read by machines, a slow disk that is slow,
# and no lost commit, no leftover and no failure in any workload.
set -uo pipefail

bench=${LKS_BENCH:-${LKS_BUILDDIR:-.}/lockstep}
sqlite3=${LKS_SQLITE3:-}
[ -x "$bench" ] || { echo "skipped: there is no $bench"; exit 77; }
[ -n "$sqlite3" ] || { echo "skipped: there is no sqlite3 shell"; exit 77; }

tmp=$(mktemp -d) || exit 1
trap 'rm -rf "$tmp"' EXIT
failures=0

fail() {
    echo "FAILED: $*"
    failures=$((failures + 1))
}

# run STATUS ARGUMENT...: runs the benchmark, its output to $tmp/out and $tmp/err.
run() {
    local wanted=$1 status
    shift
    "$bench" bench --dir "$tmp" "$@" >"$tmp/out" 2>"$tmp/err"
    status=$?
    [ "$status" = "$wanted" ] && return
    fail "bench $*: exit status $status, not $wanted"
    cat "$tmp/err"
}

# json PATH: a value of the last run's output.
json() {
    "$sqlite3" :memory: "SELECT json_extract(readfile('$tmp/out'), '$1')"
}

# holds SQL: a condition on $1.
holds() {
    [ "$("$sqlite3" :memory: "SELECT $1")" = 1 ] || fail "$2: not so: $1"
}

run 0 --help
grep -q '^Usage: lockstep bench' "$tmp/out" || fail "--help shows no usage"
run 0 --list
grep -q '^write-many ' "$tmp/out" || fail "--list does not list write-many"
run 2 --no-such-option
run 2 no-such-workload
run 2 --rounds 0
run 2 --rounds 1.5
run 2 --duration x
run 1 --dir "$tmp/missing" write

# Stock on both sides.
run 0 --calibrate --json --rounds 2 --duration 0.2 --rows 1000 write
[ "$("$sqlite3" :memory: "SELECT json_valid(readfile('$tmp/out'))")" = 1 ] ||
    fail "--json is not JSON"
[ "$(json '$.workloads[0].name')" = write ] || fail "the workload is not named"
[ "$(json '$.workloads[0].sides[0].rounds[1].rate')" != '' ] || fail "the second round is missing"
holds "$(json '$.workloads[0].sides[0].latency_ns.p50') > 0" "median latency"
holds "$(json '$.workloads[0].sides[0].latency_ns.count') = $(json '$.workloads[0].sides[0].done')" \
    "one latency a commit"

# A commit in DELETE mode with FULL syncs at least three times: 20 ms more each.
run 0 --calibrate --json --rounds 1 --duration 0.5 --rows 1000 --sync-latency 20 full
holds "$(json '$.workloads[0].sides[0].rate.median') < 1000.0 / 60" "a slow disk"
holds "$(json '$.workloads[0].sides[0].delayed_syncs') >= 3 * $(json '$.workloads[0].sides[0].done')" \
    "delayed syncs"

# Parts of a millisecond count.
run 2 --sync-latency 0
run 0 --calibrate --json --rounds 1 --duration 0.3 --rows 1000 --sync-latency 2.5 wal-full
holds "$(json '$.workloads[0].sides[0].latency_ns.p50') >= 2500000" "a disk of 2.5 ms"
holds "$(json '$.workloads[0].sides[0].latency_ns.p50') < 3 * 2500000" "a disk of 2.5 ms"

# On a schedule the number is given, and what was not begun counts.
run 0 --calibrate --json --rounds 1 --duration 0.5 --rows 1000 --rate 200 write
holds "$(json '$.workloads[0].sides[0].latency_ns.count') = 100" "a paced run"

# Every workload on Lockstep; each checks its database.
run 0 --json --rounds 1 --duration 0.3
[ "$("$sqlite3" :memory: "SELECT count(*) FROM json_each(readfile('$tmp/out'), '$.workloads')
    WHERE json_extract(value, '$.complete') = 1")" = 16 ] || fail "not all workloads ran to their end"

left=$(find "$tmp" -mindepth 1 ! -name out ! -name err)
[ -z "$left" ] || fail "left behind: $left"
[ "$failures" = 0 ]
