#!/bin/bash
# The example kv: what it prints, several processes at once, a kill -9 in the middle, and compaction beside a reader.
set -uo pipefail

kv=${LKS_BUILDDIR:-.}/examples/kv
[ -x "$kv" ] || { echo "$kv is missing"; exit 1; }
tmp=$(mktemp -d) || exit 1
trap 'rm -rf "$tmp"' EXIT
db=$tmp/store
failed=0

complain() {
    printf '%s\n' "$@"
    failed=1
}

# expect STATUS OUTPUT ARGUMENT...: kv says OUTPUT and ends with STATUS.
expect() {
    local status=$1 want=$2 got
    shift 2
    got=$("$kv" "$@" 2>"$tmp/err")
    [ $? -eq "$status" ] || complain "kv $*: not status $status: $(cat "$tmp/err")"
    [ "$got" = "$want" ] || complain "kv $*: '$got', not '$want'"
}

# clean: nobody is connected, and nothing is left beside the file.
clean() {
    [ "$(ls "$tmp")" = "$(printf 'err\nstore')" ] || complain "left: $(ls "$tmp")"
}

expect 2 '' "$db"
expect 2 '' "$db" frobnicate
expect 2 '' "$db" get
expect 2 '' -j none "$db" load 1
[ -e "$db" ] && complain "wrong usage has made a file"
expect 1 '' "$db" get a
"$kv" --help | grep -q '^usage: kv' || complain "no help"

expect 0 '' "$db" put apple red
expect 0 '' "$db" put banana yellow
expect 0 '' --full "$db" put apricot orange
expect 0 red "$db" get apple
expect 1 '' "$db" get cherry
expect 0 $'apple\tred\napricot\torange' "$db" list ap
expect 0 '' "$db" put apple green
expect 0 green "$db" get apple
expect 0 '' "$db" del banana
expect 1 '' "$db" del banana
expect 0 $'apple\tgreen\napricot\torange' "$db" list
echo -n 'from standard input' | "$kv" "$db" put piped - || complain "put -"
expect 0 'from standard input' "$db" get piped
expect 1 '' "$db" put "$(printf 'k%.0s' {1..300})" long
expect 1 '' "$tmp/err" get a
clean

# Several processes at once, some of them through load, one killed again and again.
"$kv" "$db" load 1500 >"$tmp/load.out" 2>"$tmp/load.err" &
load=$!
for i in 1 2 3 4; do
    "$kv" "$db" fill 100000 &
    victim=$!
    # It has committed something: then it may die anywhere.
    until [ "$("$kv" "$db" list fill- | head -n "$i" | wc -l)" -eq "$i" ]; do kill -0 "$victim" || break; done
    kill -KILL "$victim"
    wait "$victim" 2>/dev/null
    "$kv" "$db" check >/dev/null || complain "check after a kill"
    "$kv" "$db" put "after-$i" "$i" || complain "put after a kill"
done
wait "$load" || complain "load: $(cat "$tmp/load.err")"
for i in 1 2 3 4; do
    expect 0 "$i" "$db" get "after-$i"
done
expect 0 green "$db" get apple
rm -f "$tmp"/load.*
"$kv" "$db" check >/dev/null || complain "check after load"
clean

# Deleting and compacting: blocks are kept for the reader, and go when it has ended.
"$kv" "$db" fill 20000 || complain fill
"$kv" "$db" list fill- | cut -f 1 >"$tmp/keys"
mkfifo "$tmp/go"
"$kv" "$db" hold <"$tmp/go" >"$tmp/held" &
holder=$!
exec 8>"$tmp/go"
until [ -s "$tmp/held" ]; do kill -0 "$holder" || break; done
expect 0 green -s "$(cat "$tmp/held")" "$db" get apple
expect 0 '' "$db" put apple brown
expect 0 brown "$db" get apple
expect 0 green -s "$(cat "$tmp/held")" "$db" get apple
"$kv" -s "$(cat "$tmp/held")" "$db" check >/dev/null || complain "check of a snapshot"
head -n 60 "$tmp/keys" | xargs -n 1 "$kv" "$db" del || complain "del"
"$kv" "$db" stat >"$tmp/stat" || complain stat
grep -q "^snapshot: .* oldest in use: $(cat "$tmp/held")$" "$tmp/stat" || complain "the held snapshot: $(cat "$tmp/stat")"
grep -q '^clients: 2$' "$tmp/stat" || complain "two clients: $(cat "$tmp/stat")"
grep -q '^locks: conn 1: DMS2=shared .*CLIENT(1)=exclusive snapshot=' "$tmp/stat" || complain "the locks: $(cat "$tmp/stat")"
free=$(sed -n 's/^blocks: .*free: \([0-9]*\),.*/\1/p' "$tmp/stat")
usable=$(sed -n 's/^blocks: .*usable: \([0-9]*\),.*/\1/p' "$tmp/stat")
[ "$free" -gt "$usable" ] || complain "nothing is kept for the reader: $(cat "$tmp/stat")"
exec 8>&-
wait "$holder" || complain "hold"
before=$(stat -c %s "$db")
"$kv" "$db" compact >"$tmp/compacted" || complain compact
after=$(stat -c %s "$db")
[ "$after" -lt "$before" ] || complain "compact: $before bytes, then $after: $(cat "$tmp/compacted")"
rm -f "$tmp"/{keys,go,held,stat,compacted}
"$kv" "$db" check >/dev/null || complain "check after compact"
[ "$("$kv" "$db" list fill- | wc -l)" -ge 19940 ] || complain "keys are missing"
clean

# Compaction beside processes that write.
"$kv" -j 2 "$db" load 800 >"$tmp/load.out" 2>"$tmp/load.err" &
load=$!
while kill -0 "$load" 2>/dev/null; do
    "$kv" "$db" compact >/dev/null || complain "compact beside writers"
done
wait "$load" || complain "load beside compaction: $(cat "$tmp/load.err")"
rm -f "$tmp"/load.*
"$kv" "$db" check >/dev/null || complain "check at the end"
clean
exit "$failed"
