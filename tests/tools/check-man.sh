#!/bin/bash
# The manual: every function that a library exports has a page of its name in section 3, by itself or by a .so line;
# each page names what it is about, and its synopsis is what the headers declare; no page is about what there is not;
# and groff (and mandoc, where it is installed) finds nothing to warn of.
set -uo pipefail
export LC_ALL=C

top=${LKS_SRCDIR:-$(dirname "$0")/../..}
libs=${LKS_BUILDDIR:-.}/.libs
failed=0

complain() {
    printf '%s\n' "$@"
    failed=1
}

# The declarations of functions in the public headers, one a line, without blanks.
declarations() {
    cat "$top"/include/lockstep/*.h | sed 's/^#.*//' | tr '\n' ' ' |
        sed 's:/\*:\n/*:g; s:\*/:*/\n:g' | grep -v '^/\*' | tr -d '\n' |
        sed 's/extern "C" {//g; s/{[^{}]*}//g; s/;/;\n/g' | tr -d ' \t}' |
        grep -E '(lockstep|sqlite3async)_[a-z0-9_]+\(.*\);$' | grep -v '^typedef'
}

# page FILE: what a reader sees of it, without blanks.
page() {
    groff -man -t -Tascii -P-cbou -rLL=400n "$1" 2>/dev/null | tr -d ' \t\n'
}

command -v groff >/dev/null || { echo "skipped: no groff"; exit 77; }

exported=$(for lib in liblockstep.so liblockstep-sqlite.so; do
    [ -f "$libs/$lib" ] || { echo "$libs/$lib is missing" >&2; exit 1; }
    nm -D --defined-only "$libs/$lib" | awk '$2 != "A" { print $3 }' | sed 's/@.*//'
done | grep -v '^lks_' | sort -u) || exit 1
[ -n "$exported" ] || { echo "nothing is exported"; exit 1; }

for name in $exported; do
    file=$top/man/$name.3
    [ -f "$file" ] || { complain "$name has no page man/$name.3"; continue; }
    if grep -q '^\.so ' "$file"; then
        file=$top/man/$(sed -n 's:^\.so man3/::p' "$file")
        [ -f "$file" ] || { complain "man/$name.3 leads to nowhere"; continue; }
    fi
    [ -n "$(sed -n '/^\.SH NAME/,/^\.SH LIBRARY/p' "$file" | grep -w "$name")" ] || complain "$file does not name $name"
done

count=0
while read -r declaration; do
    name=$(grep -oE '(lockstep|sqlite3async)_[a-z0-9_]+\(' <<<"$declaration" | head -n 1 | tr -d '(')
    count=$((count + 1))
    file=$top/man/$name.3
    [ -f "$file" ] || continue # said above
    grep -q '^\.so ' "$file" && file=$top/man/$(sed -n 's:^\.so man3/::p' "$file")
    [[ $(page "$file") == *"$declaration"* ]] || complain "$file: the synopsis of $name is not that of the header"
done < <(declarations)
[ "$count" -ge 30 ] || complain "only $count declarations were found"

for file in "$top"/man/*.3; do
    name=$(basename "$file" .3)
    [ "$name" = lockstep ] || [ "$name" = sqlite3async ] || grep -qx "$name" <<<"$exported" || complain "$file: there is no $name"
done

for file in "$top"/man/*.[1-9]; do
    grep -q '^\.so ' "$file" && continue
    warnings=$(groff -ww -man -t -Tutf8 -z -rLL=80n "$file" 2>&1)
    [ -z "$warnings" ] || complain "$warnings"
    if command -v mandoc >/dev/null; then
        warnings=$(mandoc -Tlint -W warning "$file" 2>&1)
        [ -z "$warnings" ] || complain "$warnings"
    fi
done
exit "$failed"
