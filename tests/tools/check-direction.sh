#!/bin/bash
# The folders of lib/ depend on each other in one direction:
#
#     base <- os <- shm <- coord <- store <- api <- vfs <- tools
#
# A folder includes itself and those to its left, spelled "folder/header.h". SQLite belongs to vfs, and so
# do the public headers that speak of SQLite; what is Linux's own belongs to os.
set -uo pipefail

order=(base os shm coord store api vfs)
sqlite_headers='sqlite3\.h|sqlite3ext\.h|lockstep/lockstep\.h|lockstep/sqlite3async\.h'
linux_headers='linux/|sys/syscall\.h|sys/vfs\.h|sys/statfs\.h'

place() {
    local i
    for i in "${!order[@]}"; do
        [ "${order[i]}" = "$1" ] && { echo "$i"; return; }
    done
}

# check_tree LIB: prints each offence, file and line first.
check_tree() {
    local lib=$1 folder file here line number header there
    for folder in "${order[@]}"; do
        here=$(place "$folder")
        for file in "$lib/$folder"/*.[ch]; do
            [ -f "$file" ] || continue
            while IFS=: read -r number line; do
                case $line in
                *\"*)
                    header=${line#*\"}
                    header=${header%%\"*}
                    there=$(place "${header%%/*}")
                    if [ "$header" = "${header#*/}" ] || [ -z "$there" ]; then
                        echo "$file:$number: \"$header\" is not spelled \"folder/header.h\""
                    elif [ "$there" -gt "$here" ]; then
                        echo "$file:$number: $folder must not include ${header%%/*}"
                    fi
                    ;;
                *\<*)
                    header=${line#*<}
                    header=${header%%>*}
                    if [ "$folder" != vfs ] && [[ $header =~ ^($sqlite_headers)$ ]]; then
                        echo "$file:$number: <$header> belongs to vfs"
                    elif [ "$folder" != os ] && [[ $header =~ ^($linux_headers) ]]; then
                        echo "$file:$number: <$header> belongs to os"
                    fi
                    ;;
                esac
            done < <(grep -nE '^[[:space:]]*#[[:space:]]*include' "$file")
        done
    done
}

# The check itself, on a tree with one offence of each kind and one file without.
self_test() {
    local tmp found
    tmp=$(mktemp -d) || return 1
    mkdir "$tmp"/{base,os,coord,vfs}
    printf '#include "os/file.h"\n' >"$tmp/base/a.c"
    printf '#include "status.h"\n' >"$tmp/os/b.c"
    printf '#include <sqlite3.h>\n' >"$tmp/coord/c.h"
    printf '# include <linux/futex.h>\n' >"$tmp/coord/d.c"
    printf '#include "base/status.h"\n#include "vfs/uri.h"\n#include <sqlite3.h>\n' >"$tmp/vfs/e.c"
    found=$(check_tree "$tmp" | sed "s|^$tmp/||; s|:.*||" | tr '\n' ' ')
    rm -rf "$tmp"
    [ "$found" = 'base/a.c os/b.c coord/c.h coord/d.c ' ] || {
        echo "this check does not find what it should: '$found'"
        return 1
    }
}

self_test || exit 1
lib=${LKS_SRCDIR:-$(dirname "$0")/../..}/lib
[ -f "$lib/base/status.h" ] || { echo "no library in $lib"; exit 1; }
offences=$(check_tree "$lib")
[ -z "$offences" ] || { printf '%s\n' "$offences"; exit 1; }
