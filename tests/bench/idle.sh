#!/bin/bash
# What SESSIONS idle sessions (default 500, one node each) cost: resident memory a session and
# processor time in 10 seconds; beside it tgt, if installed. Judges nothing.
#
# usage: idle.sh [SESSIONS]     environment: LUNROOT_BUILD, IDLE_SECONDS
. "$(dirname "$0")/../hostile/daemon.sh"

count=${1:-500}
idle_seconds=${IDLE_SECONDS:-10}
sessions=$LUNROOT_BUILD/tests/bench/sessions
[ -x "$sessions" ] || skip "no $sessions"
ulimit -n 8192 2>/dev/null

rss_kib() {
	awk '/^VmRSS/ { print $2 }' "/proc/$1/status"
}

# utime + stime in clock ticks
cpu_ticks() {
	sed 's/.*) //' "/proc/$1/stat" | awk '{ print $12 + $13 }'
}

measure() { # NAME PID PORTAL IQN
	local before with ticks
	before=$(rss_kib "$2")
	coproc holder { "$sessions" hold "$3" "$4" "$count"; }
	local holder_pid_here=$holder_PID line
	read -r line <&"${holder[0]}" || fail "$1: sessions do not come up"
	sleep 1
	with=$(rss_kib "$2")
	ticks=$(cpu_ticks "$2")
	sleep "$idle_seconds"
	ticks=$(($(cpu_ticks "$2") - ticks))
	exec {holder[1]}>&-
	wait "$holder_pid_here"
	say "$1: $count sessions, $before -> $with KiB, $(awk -v a="$before" -v b="$with" -v n="$count" \
		'BEGIN { printf "%.1f", (b - a) / n }') KiB a session, $ticks ticks in $idle_seconds s"
}

daemon_begin
daemon_start
truncate -s 64M "$daemon_dir/base.img"
ctl import "$daemon_dir/base.img" base --force >/dev/null || fail "import"
for ((i = 1; i <= count; i++)); do
	ctl clone base "node-$i" --no-auth >/dev/null || fail "clone $i"
done
iqn=$(ctl url node-1) iqn=${iqn#iscsi://*/} iqn=${iqn%1/0}
measure lunrootd "$daemon_pid" "$daemon_portal" "$iqn"

command -v tgtd >/dev/null || exit 0
tgt_port=$((30000 + RANDOM % 2000)) tgt_control=$((1000 + RANDOM % 20000))
tgtd -f -C $tgt_control --iscsi portal=127.0.0.1:$tgt_port >"$daemon_dir/tgt.log" 2>&1 &
tgt_pid=$!
trap 'kill -9 $tgt_pid; daemon_cleanup' EXIT
sleep 1
tgtadm="tgtadm -C $tgt_control --lld iscsi --mode"
truncate -s 64M "$daemon_dir/tgt.img"
$tgtadm target --op new --tid 1 -T iqn.2026-11.local.lunroot.test:peer &&
	$tgtadm logicalunit --op new --tid 1 --lun 1 -b "$daemon_dir/tgt.img" &&
	$tgtadm target --op bind --tid 1 -I ALL &&
	measure "tgt (one target)" $tgt_pid 127.0.0.1:$tgt_port iqn.2026-11.local.lunroot.test:peer
