#!/bin/bash
# Families of libiscsi's conformance suite against a clone, each test in a process of its own
# (state leaks from test to test in the suite). No test may fail, and none may skip itself.
#
# usage: libiscsi_suite.sh KIND FAMILY...     KIND: disk, removable, read-only, scratch; or
#        not-judged: only those of the families that no target can pass
. "$(dirname "$0")/lib.sh"
need iscsi-test-cu

kind=$1
shift

# The suite prints [SKIPPED] and then calls the test passed: a skip counts as a failure here.

# What no target can pass, because the suite (1.19) is wrong. They run apart; the daemon has to live
# through them.
suite_is_wrong() { # TEST
	case $1 in
	# With 8 logical blocks in a physical one it asks for the status of LBA 9 and wants the first
	# descriptor to begin at 16.
	GetLBAStatus.UnmapSingle) ;;
	# It checks a flag that its own callback sets later, and then frees what that callback uses.
	iSCSITMF.LUNResetSimpleAsync) ;;
	*) return 1 ;;
	esac
}

daemon_begin
daemon_start
ctl create base --size 256M >/dev/null 2>&1 || fail "create"
options=--shared # many tests log in twice, with two names
case $kind in
removable | read-only) options="$options --$kind" ;;
scratch) options="$options --durability scratch" ;;
esac
# shellcheck disable=SC2086
ctl clone base unit $options >/dev/null 2>&1 || fail "clone"
url=$(url unit)
[ "$kind" != scratch ] || iscsi-inq "$url" | grep -q 'Product:lunroot scratch' || fail "INQUIRY calls it no scratch disk"

run_test() {
	local log=$daemon_dir/$1.log status reason
	{ timeout -k 1 120 iscsi-test-cu -d -S -V -t "ALL.$1" "$url" "$url" >"$log" 2>&1 </dev/null; } 2>/dev/null
	status=$?
	ran=$((ran + 1))
	if [ "$kind" = not-judged ]; then
		daemon_alive || fail "$1: the daemon died"
		return
	fi
	# CUnit's table: tests Total Ran Passed Failed Inactive
	if [ $status -ge 124 ]; then
		complain_of "$1" "$log" "it hangs or died (status $status)"
	elif ! awk '$1 == "tests" { good = $2 == 1 && $3 == 1 && $4 == 1 && $5 == 0 } END { exit !good }' "$log"; then
		complain_of "$1" "$log" "it failed"
	elif reason=$(own_output "$log" | grep -o '\[SKIPPED\].*' | head -n 1) && [ -n "$reason" ]; then
		complain_of "$1" "$log" "it skipped itself: $reason"
	fi
	daemon_alive || fail "$1: the daemon died"
}

# From the test's begin to its verdict; before and after it the suite asks for features and cleans up
# reservations, which is not the test's business.
own_output() {
	sed -n '/^Suite:/,$p' "$1" | sed '/^ *passed\|^ *FAILED\|\.\.\. *passed/,$d'
}

complain_of() { # TEST LOG WHY
	bad=$((bad + 1))
	say "$1: $3"
	sed -n '/^Suite:/,/^Run Summary/p' "$2" | grep -v '\[OK\]' | tail -n 25 | sed 's/^/    /'
}

ran=0 bad=0
for family in "$@"; do
	tests=$(iscsi-test-cu --list 2>/dev/null | grep -E "^ALL\.$family\." | sed 's/^ALL\.//')
	[ -n "$tests" ] || skip "this iscsi-test-cu has no family $family"
	for name in $tests; do
		if suite_is_wrong "$name"; then
			[ "$kind" != not-judged ] || run_test "$name"
		else
			[ "$kind" = not-judged ] || run_test "$name"
		fi
	done
done
daemon_log_is_clean || fail "the log tells of a bug"
[ $bad -eq 0 ] || fail "$bad of $ran tests of $*"
daemon_ends_well
[ "$kind" != not-judged ] || skip "$ran tests of $* contradict themselves, no target can pass them; the daemon lives"
say "$*: $ran tests, none failed"
