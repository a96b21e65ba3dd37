#!/bin/bash
# Logins a second, one after another and 50 at once; beside it tgt, if installed. Judges nothing.
#
# usage: login.sh [LOGINS]     of each kind (default 1000)    environment: LUNROOT_BUILD
. "$(dirname "$0")/../hostile/daemon.sh"

count=${1:-1000}
sessions=$LUNROOT_BUILD/tests/bench/sessions
[ -x "$sessions" ] || skip "no $sessions"

measure() { # NAME PORTAL IQN
	local threads rate slowest
	for threads in 1 50; do
		read -r _ _ rate slowest < <("$sessions" login "$2" "$3" "$count" $threads)
		say "$1: $threads at a time: ${rate:-failed} logins/s, slowest ${slowest:--} ms"
	done
}

daemon_begin
daemon_start
truncate -s 64M "$daemon_dir/base.img"
ctl import "$daemon_dir/base.img" base --force >/dev/null || fail "import"
ctl clone base node --no-auth --shared >/dev/null || fail "clone"
iqn=$(ctl url node) iqn=${iqn#iscsi://*/} iqn=${iqn%/0}
measure lunrootd "$daemon_portal" "$iqn"

command -v tgtd >/dev/null || exit 0
tgt_port=$((30000 + RANDOM % 2000)) tgt_control=$((1000 + RANDOM % 20000))
tgtd -f -C $tgt_control --iscsi portal=127.0.0.1:$tgt_port >"$daemon_dir/tgt.log" 2>&1 &
tgt_pid=$!
trap 'kill -9 $tgt_pid; daemon_cleanup' EXIT
sleep 1
tgtadm="tgtadm -C $tgt_control --lld iscsi --mode"
$tgtadm target --op new --tid 1 -T iqn.2026-11.local.lunroot.test:peer &&
	$tgtadm target --op bind --tid 1 -I ALL &&
	measure tgt 127.0.0.1:$tgt_port iqn.2026-11.local.lunroot.test:peer
