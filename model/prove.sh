#!/bin/sh
# Runs spin over store.pml: the protocol as it is, then with one rule left out at a time.
# prove.sh [DIRECTORY-OF-THE-MODEL]   77: no spin or no compiler.  Works in a directory of its own.
# PROVE_DEATHS=1 adds deaths of the worker; PROVE_SECONDS bounds one run (600).
set -u

model=$(cd "${1:-$(dirname "$0")}" && pwd)/store.pml
cc=${CC:-gcc}
command -v spin >/dev/null 2>&1 && command -v "$cc" >/dev/null 2>&1 || {
	echo "prove.sh: needs spin and $cc" >&2
	exit 77
}
work=$(mktemp -d "${TMPDIR:-/tmp}/lockstep-model.XXXXXX") || exit 1
trap 'rm -rf "$work"' EXIT
trap 'exit 1' HUP INT TERM
failed=0
share="-DREADERS=2 -DCOMMITS=1 -DBLOCKS=2 -DSHARE"
small="-DREADERS=1 -DCOMMITS=2 -DBLOCKS=3"

# run NAME EXPECTED FLAGS...
run()
{
	name=$1 expected=$2
	shift 2
	begin=$(date +%s)
	found=broken
	mkdir "$work/$name" && cd "$work/$name" &&
		spin "$@" -a "$model" >spin.log 2>&1 &&
		"$cc" -O2 -w -DSAFETY -DCOLLAPSE -DMEMLIM=3500 -o pan pan.c >cc.log 2>&1 &&
		timeout "${PROVE_SECONDS:-600}" ./pan -m1000000 -w23 >pan.log 2>&1
	if grep -q 'assertion violated' pan.log 2>/dev/null; then
		found=error
	elif grep -q 'errors: 0' pan.log 2>/dev/null &&
		! grep -Eq 'not completed|max search depth|out of memory' pan.log; then
		found=none
	fi
	states=$(sed -n 's/^ *\([0-9.e+]*\) states, stored.*/\1/p' pan.log 2>/dev/null)
	verdict=
	if [ "$found" != "$expected" ]; then
		verdict=WRONG
		failed=1
		tail -n 20 spin.log cc.log pan.log 2>/dev/null >&2
	fi
	printf '%-22s %-9s %-7s %11s %8s %s\n' "$name" "$expected" "$found" "${states:--}" \
		$(($(date +%s) - begin)) "$verdict"
	cd "$work" && rm -rf "${work:?}/$name"
}

printf '%-22s %-9s %-7s %11s %8s\n' mutant expected found states seconds
# shellcheck disable=SC2086
{
	run correct none $small
	run correct-reversed none $small -DWORKER_READ_FIRST
	run correct-two-readers none -DREADERS=2 -DCOMMITS=1 -DBLOCKS=2
	run correct-sharing none $share
	for mutant in NO_SHARE_COUNT NO_SHARE_LOOK NO_SHARE_FENCE SHARE_CLAIMING; do
		run $mutant error $share -D$mutant
	done
	run USABLE_SLOT error -DREADERS=2 -DCOMMITS=2 -DBLOCKS=3 -DONE_PAGE -DSHARE -DUSABLE_SLOT
	# Deaths of the worker on top: some minutes.
	[ -z "${PROVE_DEATHS:-}" ] || run correct-deaths none $small -DONE_PAGE -DDEATHS
	# A scan right after the last commit, in the same holding of WRITER: what NO_SWEEP_FENCE needs.
	run correct-renewing none $small -DONE_PAGE -DRENEW_LAST
	run NO_SWEEP_FENCE error $small -DONE_PAGE -DRENEW_LAST -DNO_SWEEP_FENCE
	for mutant in NO_OLDEST_FIRST CLAIMING_IGNORED NO_READER_FENCE NO_SECOND_LOOK NO_WALK \
		NO_WALK_FENCE GATE_NOT_BELOW_FLOOR NO_BASE_BLOCKS NO_RELOOK \
		NEXT_AFTER_UNLOCK SWEEP_IGNORES_NEXT USERS_IGNORED WORKER_NOT_PINNED; do
		run $mutant error $small -D$mutant
	done
}
exit $failed
