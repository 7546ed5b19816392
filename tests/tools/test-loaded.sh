#!/bin/bash
# The extension in the sqlite3 shell, a database in WAL mode: past 1000 frames the background checkpoints, and the
# thread that commits writes no page of the database; with checkpoint=off nobody does.
set -euo pipefail

if [ -n "${LKS_SANITIZERS-}" ]; then
    echo "skipped: a library with a sanitizer cannot be loaded into programs without"
    exit 77
fi
[ -n "${LKS_SQLITE3-}" ] || { echo "skipped: no sqlite3 shell"; exit 77; }
[ -f "${LKS_LOADABLE-}" ] || { echo "skipped: no lockstep.so"; exit 77; }
elf_class() {
    od -An -tu1 -j4 -N1 "$1"
}
if [ "$(elf_class "$LKS_LOADABLE")" != "$(elf_class "$(command -v "$LKS_SQLITE3")")" ]; then
    echo "skipped: the library has another word size than the shell"
    exit 77
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
failed=0

# script PARAMETERS: what the shell is told
script() {
    printf '.load %s\n.open file:%s/a.db?vfs=lockstep%s\n' "${LKS_LOADABLE%.so}" "$work" "$1"
    echo 'PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL; CREATE TABLE t(v); PRAGMA wal_checkpoint(TRUNCATE);'
    for ((i = 0; i < 1500; i++)); do
        echo 'INSERT INTO t VALUES(randomblob(3000));'
    done
    # Its own checkpoint, now and then, is none of the background's: so the status, once it has had time to work.
    for ((i = 0; i < 40; i++)); do
        echo '.shell sleep 0.05'
        echo 'PRAGMA lockstep_status;'
    done
    echo 'SELECT count(*) FROM t;'
}

# checkpoints PARAMETERS: how many there were; and who wrote the database file, if that can be seen
checkpoints() {
    local traced=() shell own
    rm -f "$work"/a.db* "$work"/trace*
    if strace -o /dev/null true 2>/dev/null; then
        traced=(strace -ff -y -e trace=pwrite64 -o "$work/trace")
    fi
    script "$1" >"$work/script"
    "${traced[@]}" "$LKS_SQLITE3" <"$work/script" >"$work/out" 2>&1 || { cat "$work/out"; failed=1; }
    grep -qx 1500 "$work/out" || { echo "$1: not 1500 rows"; tail -3 "$work/out"; failed=1; }
    count=$(grep -o '"checkpoints":[0-9]*' "$work/out" | tail -1 | grep -o '[0-9]*$')
    # The thread that commits makes the database before, and writes all back when it closes it at the end.
    for shell in "$work"/trace.*; do
        [ -f "$shell" ] || continue
        own=$(awk '/a.db-wal>/ { frames++; upto = pages } /a.db>/ { if (frames > 20) pages++ }
                   END { if (frames > 1000) print upto + 0 }' "$shell")
        [ "${own:-0}" -eq 0 ] || { echo "$1: the thread that commits wrote $own pages"; failed=1; }
        [ -z "$own" ] || echo "$1: seen by strace: no page by the thread that commits; $count checkpoints"
    done
}

checkpoints ''
[ "$count" -ge 1 ] || { echo "no checkpoint in the background"; failed=1; }
checkpoints '&checkpoint=off'
[ "$count" -eq 0 ] || { echo "checkpoint=off: $count checkpoints"; failed=1; }
exit "$failed"
