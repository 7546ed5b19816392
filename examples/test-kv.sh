#!/bin/bash
# The example kv: what it prints, several processes at once, a kill -9 in the middle, readers that write nothing, one process
# alone, and compaction beside a reader.
#
# Made to fail by: opening to read as to write (.readonly 0: the files change); last_used_fn telling all blocks; no look at the
# magic; .single_process 0; a checkpoint that is not made (0 bytes); .format for .format_fn.
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

# Another's file stays as it is.
head -c 8192 /dev/zero | tr '\0' x >"$tmp/other"
before=$(cksum "$tmp/other")
expect 1 '' "$tmp/other" put a b
grep -q 'not a store of kv' "$tmp/err" || complain "another's file: $(cat "$tmp/err")"
expect 1 '' "$tmp/other" get a
[ "$(cksum "$tmp/other")" = "$before" ] || complain "another's file was changed"

# So does the file of another version, and the message says which.
printf kvstore1 | dd of="$tmp/other" conv=notrunc status=none
before=$(cksum "$tmp/other")
expect 1 '' "$tmp/other" put a b
grep -q 'a store of version 1 of kv' "$tmp/err" || complain "another version's file: $(cat "$tmp/err")"
[ "$(cksum "$tmp/other")" = "$before" ] || complain "another version's file was changed"
rm "$tmp/other"

# A process is killed when nothing is on the disk: readers see its commits, in a folder that is not theirs to write, too, and
# change nothing; then a writer adopts them.
# hold [OPTION...] [-- KEY VALUE]: starts a holder, by its pid $holder, and waits until it holds $(cat held).
hold() {
    local options=()
    while [ $# -gt 0 ] && [ "$1" != -- ]; do options+=("$1"); shift; done
    mkfifo "$tmp/go"
    "$kv" "${options[@]}" "$db" hold "${@:2}" <"$tmp/go" >"$tmp/held" &
    holder=$!
    exec 8>"$tmp/go"
    until [ -s "$tmp/held" ]; do kill -0 "$holder" || break; done
}
sums() { (cd "$tmp" && ls -i store* && cksum store*); }
hold --lag 60000 -- pending 'not on the disk'
kill -KILL "$holder"
wait "$holder" 2>/dev/null
exec 8>&-
rm "$tmp"/{go,held}
grep -q 'not on the disk' "$db" && complain "nothing is pending"
before=$(sums)
chmod 444 "$tmp"/store* && chmod 555 "$tmp"
for command in "get pending" list check stat; do
    # shellcheck disable=SC2086 # two words
    "$kv" "$db" $command >/dev/null 2>&1 || complain "$command of what was left"
done
got=$("$kv" "$db" get pending 2>/dev/null)
[ "$got" = 'not on the disk' ] || complain "of what was left: '$got'"
"$kv" "$db" stat 2>/dev/null | grep -q '^clients: none' || complain "stat sees clients"
chmod 755 "$tmp" && chmod 644 "$tmp"/store*
[ "$(sums)" = "$before" ] || complain "readers have written: $before" "$(sums)"
expect 0 '' "$db" put apricot yellow
grep -q 'not on the disk' "$db" || complain "not adopted"
expect 0 'not on the disk' "$db" get pending
clean

# A checkpoint writes what waits, and then nothing.
hold --lag 60000 -- late 'a while later'
grep -q 'a while later' "$db" && complain "nothing is pending for the checkpoint"
written=$("$kv" "$db" checkpoint 2>"$tmp/err")
[ "${written% bytes}" -ge 4096 ] || complain "checkpoint: $written $(cat "$tmp/err")"
grep -q 'a while later' "$db" || complain "checkpoint wrote something else"
expect 0 '0 bytes' "$db" checkpoint
exec 8>&-
wait "$holder" || complain "hold"
rm "$tmp"/{go,held}
clean

# The record of the root: the newer one is damaged, so the one before it holds.
cp "$db" "$tmp/whole"
expect 0 '' "$db" put apple blue
for at in 1024 2048; do
    cmp -s <(tail -c +$((at + 1)) "$db" | head -c 512) <(tail -c +$((at + 1)) "$tmp/whole" | head -c 512) && continue
    printf 'damaged' | dd of="$db" bs=1 seek=$((at + 30)) conv=notrunc status=none
done
expect 0 green "$db" get apple
mv "$tmp/whole" "$db"

# Alone.
hold --single
expect 1 '' "$db" put apple blue
grep -q ': open: busy$' "$tmp/err" || complain "beside one that is alone: $(cat "$tmp/err")"
exec 8>&-
wait "$holder" || complain "hold --single"
rm "$tmp"/{go,held}
hold
expect 1 '' --single "$db" fill 10
exec 8>&-
wait "$holder" || complain "hold"
rm "$tmp"/{go,held}
expect 0 '' --single "$db" fill 10
expect 2 '' --single "$db" load 10
[ "$("$kv" "$db" list fill- | wc -l)" -eq 10 ] || complain "fill --single"
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
hold
expect 0 green -s "$(cat "$tmp/held")" "$db" get apple
expect 0 '' "$db" put apple brown
expect 0 brown "$db" get apple
expect 0 green -s "$(cat "$tmp/held")" "$db" get apple
"$kv" -s "$(cat "$tmp/held")" "$db" check >/dev/null || complain "check of a snapshot"
head -n 60 "$tmp/keys" | xargs -n 1 "$kv" "$db" del || complain "del"
"$kv" "$db" stat >"$tmp/stat" || complain stat
grep -q "^writes behind: .* pid $holder$" "$tmp/stat" || complain "who writes behind: $(cat "$tmp/stat")"
grep -q "^snapshot: .* oldest in use: $(cat "$tmp/held")$" "$tmp/stat" || complain "the held snapshot: $(cat "$tmp/stat")"
grep -q '^clients: 2$' "$tmp/stat" || complain "two clients: $(cat "$tmp/stat")"
grep -q '^locks: conn 1: DMS3=shared .*CLIENT(1)=exclusive snapshot=' "$tmp/stat" || complain "the locks: $(cat "$tmp/stat")"
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

# Compaction beside a reader, who ends last: what was kept for it is at the end of the file then, and it cuts that off.
# First a reader keeps the front while the tree is written again: it ends up behind that, and the front is free.
mv "$db" "$tmp/big"
"$kv" "$db" fill 1000 || complain fill
hold
"$kv" "$db" fill 1000 || complain fill
exec 8>&-
wait "$holder" || complain "hold"
rm "$tmp"/{go,held}
hold
"$kv" "$db" compact >/dev/null 2>&1 || complain "compact beside a reader"
before=$(stat -c %s "$db")
exec 8>&-
wait "$holder" || complain "hold"
after=$(stat -c %s "$db")
[ "$after" -lt "$before" ] || complain "the last one out: $before bytes, then $after"
"$kv" "$db" check >/dev/null || complain "check after the cut"
"$kv" "$db" put apple brown || complain "put after the cut"
"$kv" "$db" check >/dev/null || complain "check of what was put after the cut"
mv "$tmp/big" "$db"
rm "$tmp"/{go,held}
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
