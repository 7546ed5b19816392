#!/bin/bash
# What leaves each shared object, and under which version:
#
#   liblockstep.so          lockstep_*@LOCKSTEP_0.1, lks_*@LOCKSTEP_PRIVATE
#   liblockstep-sqlite.so   lockstep_*, sqlite3async_*, sqlite3_lockstep_init, all @LOCKSTEP_SQLITE_0.1
#   lockstep.so             sqlite3_lockstep_init alone
#
# What is exported as public is declared in a public header, and the other way round. liblockstep calls nothing
# of SQLite; lockstep.so calls SQLite through the pointers it is given, never by name.
set -uo pipefail
export LC_ALL=C

libs=${LKS_BUILDDIR:-.}/.libs
include=${LKS_SRCDIR:-$(dirname "$0")/../..}/include/lockstep
failed=0

complain() {
    printf '%s\n' "$@"
    failed=1
}

# exports FILE: name@@VERSION of each symbol that FILE defines for others.
exports() {
    nm -D --defined-only "$1" | awk '$2 != "A" { print $3 }'
}

# only FILE PATTERN: every export of FILE matches PATTERN, and there is one.
only() {
    local others
    [ -f "$libs/$1" ] || { complain "$libs/$1 is missing"; return; }
    others=$(exports "$libs/$1" | grep -vxE "$2")
    [ -z "$others" ] || complain "$1 exports what it should not:" "$others"
    [ -n "$(exports "$libs/$1")" ] || complain "$1 exports nothing"
}

# without FILE PATTERN: FILE needs no symbol that matches PATTERN from elsewhere.
without() {
    local found
    found=$(nm -D --undefined-only "$libs/$1" | awk '{ print $NF }' | grep -E "$2")
    [ -z "$found" ] || complain "$1 must not need:" "$found"
}

# The functions that the public headers declare, comments and macros left out.
declared() {
    cat "$include"/*.h |
        awk '{ line = $0; text = ""
               while (length(line)) {
                   if (inside) { i = index(line, "*/"); if (!i) break; line = substr(line, i + 2); inside = 0 }
                   else { i = index(line, "/*"); if (!i) { text = text line; break }
                          text = text substr(line, 1, i - 1); line = substr(line, i + 2); inside = 1 }
               }
               print text }' |
        grep -v '^[[:space:]]*#' | grep -oE '\b(lockstep|sqlite3async|sqlite3_lockstep)_[a-z0-9_]+[[:space:]]*\(' |
        tr -d ' \t(' | sort -u
}

only liblockstep.so 'lockstep_[a-z0-9_]+@@LOCKSTEP_0\.1|lks_[a-z0-9_]+@@LOCKSTEP_PRIVATE'
only liblockstep-sqlite.so '(lockstep_[a-z0-9_]+|sqlite3async_[a-z0-9_]+|sqlite3_lockstep_init)@@LOCKSTEP_SQLITE_0\.1'
only lockstep.so 'sqlite3_lockstep_init'
without liblockstep.so '^sqlite3'
without lockstep.so '^(sqlite3|lks_|lockstep_)'
[ "$failed" = 0 ] || exit 1

exported=$(for lib in liblockstep.so liblockstep-sqlite.so; do exports "$libs/$lib"; done |
    sed 's/@.*//' | grep -v '^lks_' | sort -u)
[ -n "$(declared)" ] || complain "no declaration found in $include"
undeclared=$(comm -23 <(echo "$exported") <(declared) | grep -vx sqlite3_lockstep_init)
[ -z "$undeclared" ] || complain "exported, but in no public header:" "$undeclared"
unexported=$(comm -13 <(echo "$exported") <(declared))
[ -z "$unexported" ] || complain "in a public header, but not exported:" "$unexported"
both=$(for lib in liblockstep.so liblockstep-sqlite.so; do exports "$libs/$lib"; done |
    sed 's/@.*//' | sort | uniq -d)
[ -z "$both" ] || complain "exported by both libraries:" "$both"
exit "$failed"
