#!/bin/bash
# Every file of the tree is named in the Makefile.inc of its folder or of one above: what is not is
# neither built nor in the tarball. A test made of one file, tests/x/test_y.c, is named by its program,
# tests/x/test_y.
set -uo pipefail

# check_tree TOP: prints what is not named.
check_tree() (
    cd "$1" || exit 1
    find include lib tools bench examples model man tests -type f \
        \( -name '*.[ch]' -o -name '*.sh' -o -name '*.md' -o -name '*.map' -o -name '*.pml' \
        -o -name '*.[1-9]' -o -name '*.golden' \) | LC_ALL=C sort |
        while read -r file; do
            named=0
            folder=$(dirname "$file")
            while [ "$folder" != . ] && [ "$named" = 0 ]; do
                grep -hv '^#' "$folder/Makefile.inc" 2>/dev/null | tr -s ' \t\\=' '\n' |
                    grep -qxF -e "$file" -e "${file%.c}" && named=1
                folder=$(dirname "$folder")
            done
            [ "$named" = 1 ] || echo "$file is in no Makefile.inc"
        done
)

self_test() {
    local tmp found
    tmp=$(mktemp -d) || return 1
    mkdir -p "$tmp"/{include,lib/base,tools,bench,examples,model,man,tests/os}
    touch "$tmp"/lib/base/{a.c,ab.c} "$tmp"/tests/os/{test_a.c,test_b.c}
    printf 'x = \\\n\tlib/base/ab.c # lib/base/a.cc\n' >"$tmp/lib/base/Makefile.inc"
    printf '# tests/os/test_b\nlks_tests += tests/os/test_a\n' >"$tmp/tests/os/Makefile.inc"
    found=$(check_tree "$tmp" | sed 's/ .*//' | tr '\n' ' ')
    rm -rf "$tmp"
    [ "$found" = 'lib/base/a.c tests/os/test_b.c ' ] || {
        echo "this check does not find what it should: '$found'"
        return 1
    }
}

self_test || exit 1
top=${LKS_SRCDIR:-$(dirname "$0")/../..}
[ -f "$top/lib/base/status.c" ] || { echo "no sources in $top"; exit 1; }
missing=$(check_tree "$top")
[ -z "$missing" ] || { printf '%s\n' "$missing"; exit 1; }
