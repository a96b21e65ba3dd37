#!/bin/bash
# How long a node's commands wait when its disks are exchanged: the longest latency of a load without
# snapshots, and of the same load while one snapshot after the other is made, in the same run. How
# long the daemon held the node is in its log. Judges nothing.
#
# usage: snapshot.sh [SECONDS]     per job (default 3)    environment: LUNROOT_BUILD, JOBS
#                                  LUNROOT_TEST_STATE=DIR: on a real disk instead of a tmpfs
. "$(dirname "$0")/../hostile/daemon.sh"

seconds=${1:-3}
jobs=${JOBS:-"rr4k-qd1 rw4k-qd1 rw4k-qd32 sw256k-qd8"}
load=$LUNROOT_BUILD/tests/bench/load
[ -x "$load" ] || skip "no $load"
daemon_begin
daemon_start
ctl create base --size 512M >/dev/null || fail "create"
ctl clone base pi-01 --data 64M >/dev/null || fail "clone"

snapshots() { # PREFIX: one after the other, until it is told to stop
	local i=0
	while [ ! -e "$daemon_dir/stop" ] && [ $i -lt 5 ]; do
		sleep 0.4
		ctl snapshot pi-01 "$1-$i" >/dev/null || return
		i=$((i + 1))
	done
}

printf '%-12s %14s %18s %16s\n' job "longest, ms" "with snapshots, ms" "snapshots made"
n=0
for job in $jobs; do
	n=$((n + 1))
	"$load" "$(ctl url pi-01)" "$job" 1 >/dev/null || fail "load"
	without=$("$load" "$(ctl url pi-01)" "$job" "$seconds" | cut -d' ' -f6)
	rm -f "$daemon_dir/stop"
	snapshots "s$n" &
	maker=$!
	with=$("$load" "$(ctl url pi-01)" "$job" "$seconds" | cut -d' ' -f6)
	touch "$daemon_dir/stop"
	wait $maker || fail "snapshot"
	made=$(ctl --json show pi-01 | grep -c "\"s$n-")
	printf '%-12s %14s %18s %16s\n' "$job" "$(awk "BEGIN { print $without / 1000 }")" \
		"$(awk "BEGIN { print $with / 1000 }")" "$made"
done
say "the daemon held the node for (ms):" \
	"$(grep -o 'held for [0-9.]*' "$daemon_dir/log" | cut -d' ' -f3 | sort -n | tr '\n' ' ')"
daemon_kill TERM
