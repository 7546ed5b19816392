#!/bin/bash
# Builds Lockstep for other libraries and machines and runs its tests there:
#
#   i386    32 bits, gcc -m32: all tests
#   musl    musl-gcc, with Check and SQLite built for musl from Debian's sources: all tests but the scripts
#   arm64   aarch64 under qemu-user: the core's tests
#   s390x   64 bits, big-endian, under qemu-user: the core's tests
#
# and for i386 and s390x the story of two builds that meet at one database. For Debian on amd64. Compilers and
# qemu-user are installed by ./bootstrap packages; Check, SQLite and libsmartcols of the other machine are unpacked
# in build/port-FLAVOUR/root, and the list of packages of this machine stays as it is.
#
# tests/portability.sh [--core] [FLAVOUR...]  all flavours if none is named; --core: the core's tests only
#
# A line for each flavour; exit status 0: none failed, and one was run; 77: all were skipped.
set -uo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1
top=$(pwd)
jobs=${JOBS:-$(nproc)}
core_folders=(base os shm coord store api)
summary=()
failed=0
ran=0
only_core=
reason=   # of a skip
emulated= # set for tests that an emulator runs

say() {
    printf '\n==> %s\n' "$*"
}

# folder_tests FOLDER...: the Check programs of these folders of tests/.
folder_tests() {
    local folder file
    for folder; do
        for file in tests/"$folder"/{test,story}_*.c; do
            [ ! -f "$file" ] || [ "$file" = tests/stories/story_builds.c ] || echo "${file%.c}"
        done
    done
}

# need PACKAGE...: has them installed; never at the price of others.
need() {
    ./bootstrap packages "$@" || { reason="the packages $* cannot be installed"; return 1; }
}

# private_apt ROOT ARCHITECTURE COMMAND...: apt-get with a state of its own.
private_apt() {
    local apt=$1/apt arch=$2
    shift 2
    mkdir -p "$apt"/{state/lists/partial,cache/archives/partial,sources}
    : >"$apt/status"
    if [ "$arch" = source ]; then
        arch=amd64
        find /etc/apt/sources.list.d -name '*.sources' -exec cp {} "$apt/sources/" \;
        sed -i 's/^Types:.*/Types: deb-src/' "$apt"/sources/*.sources 2>/dev/null
        [ ! -f /etc/apt/sources.list ] || sed 's/^deb /deb-src /' /etc/apt/sources.list >"$apt/sources/main.list"
        set -- -o Dir::Etc::SourceList=/dev/null -o Dir::Etc::SourceParts="$apt/sources" "$@"
    fi
    apt-get -q -o APT::Architecture="$arch" -o APT::Architectures="$arch" -o Dir::State="$apt/state" \
        -o Dir::State::status="$apt/status" -o Dir::Cache="$apt/cache" -o Acquire::Languages=none \
        -o APT::Sandbox::User="$(id -un)" "$@"
}

# unpack FLAVOUR ARCHITECTURE PACKAGE...: into build/port-FLAVOUR/root, once.
unpack() {
    local root=$top/build/port-$1/root arch=$2 deb
    shift 2
    [ ! -f "$root/complete" ] || return 0
    say "packages of $arch, unpacked in $root: $*"
    mkdir -p "$root/debs"
    # A list that is a little out of date may still do.
    private_apt "$root" "$arch" update
    if ! (cd "$root/debs" && private_apt "$root" "$arch" download "$@"); then
        reason="$arch packages cannot be downloaded: $*"
        return 1
    fi
    for deb in "$root"/debs/*.deb; do
        dpkg -x "$deb" "$root" || return 1
    done
    : >"$root/complete"
}

# configure FLAVOUR CONFIGURE-ARGUMENT...: if that was not done in the same way before.
configure() {
    local dir=build/port-$1
    shift
    if [ ! -x configure ] || [ configure -ot configure.ac ]; then
        mkdir -p build-aux
        autoreconf -fi || return 1
    fi
    mkdir -p "$dir"
    if [ ! -f "$dir/config.status" ] || [ "$(cat "$dir/configured-with" 2>/dev/null)" != "$*" ]; then
        say "configure in $dir"
        (cd "$dir" && { ../../configure -q --enable-debug --enable-werror "$@" || { tail -n 50 config.log; false; }; }) ||
            return 1
        printf '%s' "$*" >"$dir/configured-with"
    fi
}

# totals FILE: automake's totals as "PASSED FAILED SKIPPED".
totals() {
    awk '/^# (PASS|XFAIL):/ { p += $3 } /^# (FAIL|XPASS|ERROR):/ { f += $3 } /^# SKIP:/ { s += $3 }
        END { print p + 0, f + 0, s + 0 }' "$1"
}

# run_tests FLAVOUR MAKE-ARGUMENT...: false if no test ran or one failed. Sets counts.  Some tests measure
# milliseconds, which an emulator on a busy machine may not keep: what fails under one is run once more, alone, and the
# line says so.
run_tests() {
    local dir=build/port-$1 status=0 passed broken skipped again
    shift
    rm -f "$dir/test-suite.log"
    make -C "$dir" -s -j"$jobs" || return 1
    say "tests in $dir"
    make -C "$dir" -s -j"$jobs" check "$@" || status=$?
    [ -f "$dir/test-suite.log" ] || return 1
    read -r passed broken skipped < <(totals "$dir/test-suite.log")
    counts="$passed passed, $broken failed, $skipped skipped"
    if [ "$status" -ne 0 ] || [ "$broken" -ne 0 ]; then
        head -n 2000 "$dir/test-suite.log"
        if [ "$broken" -gt 0 ] && [ -n "$emulated" ] && make -C "$dir" -s -j1 recheck "$@"; then
            read -r again broken _ < <(totals "$dir/test-suite.log")
            status=$broken
            passed=$((passed + again))
            counts="$passed passed, $broken failed, $skipped skipped ($again at the second try)"
        fi
    fi
    # Parts of programs that pass.
    grep -h ': skipped, ' "$dir"/tests/*/*.log "$dir"/bench/*.log 2>/dev/null | sort -u
    [ "$status" -eq 0 ] && [ "$broken" -eq 0 ] && [ "$passed" -gt 0 ]
}

# meet FLAVOUR [LAUNCHER...]: its processes and those of a build for this machine at one database.
meet() {
    local flavour=$1 actor=$top/build/port-$1/other-actor
    shift
    configure native && make -C build/port-native -s -j"$jobs" tests/harness/actor tests/stories/story_builds &&
        make -C "build/port-$flavour" -s -j"$jobs" tests/harness/actor || return 1
    printf '#!/bin/sh\nexec %s "$@"\n' "$* $top/build/port-$flavour/tests/harness/actor" >"$actor"
    chmod +x "$actor"
    say "story_builds: this machine's build and that for $flavour"
    LKS_OTHER_ACTOR=$actor build/port-native/tests/stories/story_builds && counts="$counts; two builds meet: passed"
}

flavour_i386() {
    local root=$top/build/port-i386/root version tests=() lib
    lib=$root/usr/lib/i386-linux-gnu
    version=$(gcc -dumpversion) || return 1
    echo 'int main(void) { return 0; }' >build/port-probe.c
    gcc -m32 -o build/port-probe build/port-probe.c 2>/dev/null || need "gcc-${version%%.*}-multilib" || return 77
    build/port-probe || { reason='this kernel runs no 32-bit programs'; return 77; }
    unpack i386 i386 check libsubunit-dev libsqlite3-dev libsqlite3-0 libsmartcols-dev libsmartcols1 \
        linux-libc-dev sqlite3 libreadline8 libtinfo6 zlib1g || return 77
    [ -z "$only_core" ] || mapfile -t tests < <(folder_tests "${core_folders[@]}")
    PKG_CONFIG_LIBDIR=$lib/pkgconfig PKG_CONFIG_SYSROOT_DIR=$root configure i386 \
        --host=i686-linux-gnu CC='gcc -m32' CPPFLAGS="-idirafter $root/usr/include/i386-linux-gnu" \
        LDFLAGS="-Wl,-rpath,$lib -Wl,-rpath-link,$lib" PKG_CONFIG=pkg-config \
        ac_cv_path_SQLITE3_SHELL="$root/usr/bin/sqlite3" || return 1
    LD_LIBRARY_PATH=$lib:$root/lib/i386-linux-gnu LIBRARY_PATH=$lib run_tests i386 ${tests:+TESTS="${tests[*]}"} && meet i386
}

# cross FLAVOUR TRIPLET MACHINE
cross() {
    local root=$top/build/port-$1/root lib tests
    lib=$root/usr/lib/$2
    if ! command -v "$2-gcc" >/dev/null && [ "$(dpkg-query -W -f='${db:Status-Status}' gcc-multilib 2>/dev/null)" = installed ]; then
        reason="Debian's cross compilers cannot be installed beside gcc-multilib (gcc-12-multilib is enough for i386)"
        return 77
    fi
    need qemu-user "gcc-$2" "libc6-dev-$1-cross" || return 77
    unpack "$1" "$1" check libsubunit-dev libsqlite3-dev libsqlite3-0 libsmartcols-dev libsmartcols1 || return 77
    mapfile -t tests < <(folder_tests "${core_folders[@]}")
    PKG_CONFIG_LIBDIR=$lib/pkgconfig PKG_CONFIG_SYSROOT_DIR=$root configure "$1" --host="$2" \
        LDFLAGS="-Wl,-rpath,$lib -Wl,-rpath-link,$lib" PKG_CONFIG=pkg-config || return 1
    emulated=1 run_tests "$1" LOG_COMPILER="qemu-$3 -L /usr/$2" TESTS="${tests[*]}"
}

flavour_arm64() {
    cross arm64 aarch64-linux-gnu aarch64
}

flavour_s390x() {
    cross s390x s390x-linux-gnu s390x || return
    meet s390x qemu-s390x -L /usr/s390x-linux-gnu
}

# pc_file ROOT NAME VERSION LIBRARIES: for pkg-config.
pc_file() {
    printf 'Name: %s\nDescription: %s\nVersion: %s\nLibs: -L%s %s\nCflags: -I%s\n' "$2" "$2" "$3" \
        "$1/usr/lib" "$4" "$1/usr/include" >"$1/usr/lib/pkgconfig/$2.pc"
}

# Check and SQLite for musl, static, in ROOT/usr.
musl_libraries() {
    local root=$1 source=$1/source
    [ ! -f "$root/libraries" ] || return 0
    mkdir -p "$source"
    private_apt "$source" source update
    (cd "$source" && private_apt "$source" source source --download-only check sqlite3) ||
        { reason='the sources of check and sqlite3 cannot be downloaded'; return 77; }
    say "Check and SQLite for musl, in $root"
    mkdir -p "$root/usr/lib/pkgconfig" &&
        (
            cd "$source" && tar -xf check_*.orig.tar.* && cd check-*/ &&
                ./configure -q --prefix="$root/usr" CC=musl-gcc --disable-shared --disable-subunit \
                    --disable-build-docs &&
                make -s -j"$jobs" -C lib && make -s -j"$jobs" -C src install &&
                cp check_stdint.h "$root/usr/include/" &&
                pc_file "$root" check 0.15.2 '-lcheck'
        ) &&
        (
            # The one source file is put together with tclsh; what this configure finds out is not used.
            cd "$source" && tar -xf sqlite3_*.orig.tar.* && cd sqlite3-*/ &&
                ./configure --quiet --disable-tcl >/dev/null && make -s sqlite3.c &&
                musl-gcc -O1 -fPIC -DSQLITE_THREADSAFE=1 -DSQLITE_ENABLE_COLUMN_METADATA -DSQLITE_USE_URI \
                    -DSQLITE_ENABLE_DBSTAT_VTAB -DHAVE_USLEEP=1 -DHAVE_FDATASYNC=1 -DHAVE_LOCALTIME_R=1 \
                    -DHAVE_GMTIME_R=1 -c sqlite3.c -o sqlite3.o &&
                ar rcs "$root/usr/lib/libsqlite3.a" sqlite3.o && cp sqlite3.h sqlite3ext.h "$root/usr/include/" &&
                pc_file "$root" sqlite3 "$(cat VERSION)" '-lsqlite3'
        ) &&
        : >"$root/libraries"
}

flavour_musl() {
    local root=$top/build/port-musl/root tests status
    need musl-tools tcl || return 77
    # The kernel's headers, which are not libc's.
    unpack musl amd64 linux-libc-dev || return 77
    musl_libraries "$root" || { status=$?; return "$status"; }
    if [ -n "$only_core" ]; then
        mapfile -t tests < <(folder_tests "${core_folders[@]}")
    else
        mapfile -t tests < <(folder_tests "${core_folders[@]}" vfs stories powercut)
    fi
    PKG_CONFIG_LIBDIR=$root/usr/lib/pkgconfig configure musl --disable-tools CC=musl-gcc \
        CPPFLAGS="-idirafter $root/usr/include -idirafter $root/usr/include/x86_64-linux-gnu" \
        PKG_CONFIG=pkg-config ac_cv_path_SQLITE3_SHELL= || return 1
    run_tests musl TESTS="${tests[*]}"
}

flavour() {
    local started=$SECONDS status=0 words
    reason=
    counts=
    mkdir -p build
    if [ "$(dpkg --print-architecture 2>/dev/null)" = amd64 ]; then
        "flavour_$1" || status=$?
    else
        reason='this is not a Debian on amd64'
        status=77
    fi
    case $status in
    0) words='ok     '; ran=$((ran + 1)) ;;
    77) words=skipped; counts=$reason ;;
    *) words='FAILED '; failed=$((failed + 1)); counts=${counts:-did not build} ;;
    esac
    summary+=("$(printf '%-6s %s %4d s  %s' "$1" "$words" $((SECONDS - started)) "$counts")")
}

flavours=()
for word; do
    case $word in
    --core) only_core=1 ;;
    i386 | musl | arm64 | s390x) flavours+=("$word") ;;
    *) sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//;p}' "$0"; exit 2 ;;
    esac
done
[ ${#flavours[@]} -gt 0 ] || flavours=(i386 musl arm64 s390x)
./bootstrap packages || exit 1
for word in "${flavours[@]}"; do
    flavour "$word"
done
say 'portability'
printf '%s\n' "${summary[@]}"
[ "$failed" -eq 0 ] || exit 1
[ "$ran" -gt 0 ] || exit 77
