#!/bin/bash
# How long a node on a chain of LAYERS (default 15) sealed layers of SIZE (default 1T) is held when its layers change, and how
# long its commands wait for that: snapshots, a layer that is merged. With layers that own a block in
# every 64 MiB, and with the worst there are. Judges nothing.
#
# usage: chain_hold.sh [SIZE-IN-GIB [LAYERS]]     environment: LUNROOT_BUILD, KINDS="touched scattered"
#                                                 LUNROOT_TEST_STATE=DIR: on a real disk instead of a tmpfs
. "$(dirname "$0")/../hostile/daemon.sh"

gib=${1:-1024}
layers=${2:-15}
load=$LUNROOT_BUILD/tests/bench/load
fill=$LUNROOT_BUILD/tests/bench/chain_fill
[ -x "$load" ] || skip "no $load"

# WHAT COMMAND...: how long the node was held by it, and the longest that a command of a load at the same time took.
held() {
	local what=$1 before longest
	shift
	before=$(grep -c 'held for' "$daemon_dir/log")
	"$load" "$(ctl url node)" rw4k-qd1 4 >"$daemon_dir/longest" 2>/dev/null &
	sleep 1
	"$@" >/dev/null || fail "$what"
	for ((i = 0; i < 600; i++)); do
		[ "$(grep -c 'held for' "$daemon_dir/log")" -eq "$before" ] || break
		sleep 0.1
	done
	longest=failed # BUSY after ten seconds
	! wait $! || longest=$(awk '{ print $6 / 1000 }' "$daemon_dir/longest")
	printf '%-10s %-34s %14s %24s\n' "$kind" "$what" "$(grep -o 'held for [0-9.]*' "$daemon_dir/log" | tail -1 | cut -d' ' -f3)" \
		"$longest"
}

printf '%-10s %-34s %14s %24s\n' layers operation "held for, ms" "longest command, ms"
for kind in ${KINDS:-touched scattered}; do
	daemon_begin
	daemon_start
	ctl create base --size "${gib}G" >/dev/null || fail "create"
	ctl clone base node --no-auth >/dev/null || fail "clone"
	for ((i = 1; i <= layers; i++)); do ctl snapshot node "s$i" >/dev/null || fail "snapshot"; done
	daemon_kill TERM
	"$fill" "$kind" "$daemon_dir"/state/layers/*.cow || fail "fill"
	daemon_start
	held "snapshot, the top as the others" ctl snapshot node full
	held "snapshot, an empty top" ctl snapshot node again
	[ "$kind" = scattered ] || held "two layers became one" ctl rm node@s2
	daemon_kill TERM || fail "SIGTERM ended it with status $?"
	daemon_cleanup
done
