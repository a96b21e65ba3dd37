#!/bin/bash
# The target dies and comes back, the network is cut, the target restarts several times: the node waits and goes on.
. "$(dirname "$0")/node.sh"

# A Pi's outages are a minute, and its restarts ten, in the full run, too (tests/pi/outage.sh).
away_s=$(by_mode 10 10 3600)
cut_s=$(by_mode 20 20 60) # Linux needs ten seconds to see it, and a busy machine's clock is late
node_begin
ctl clone base pi-01 >/dev/null || fail "clone"
node_conf pi-01
done_well() { # WHAT
	node_await pi-01 'RESULT' 120
	node_shown pi-01 'RESULT ok' || node_fail pi-01 "it failed"
	node_await_end pi-01 20
	node_dmesg_is_clean pi-01
	node_fsck pi-01
	say "ok: $1"
}

# For an hour the kernel would tell every two minutes that somebody waits for the disk.
node_start pi-01 "t=write12 sysctl.kernel.hung_task_timeout_secs=0"
node_await pi-01 'STEP 4 ' 30
daemon_kill KILL
sleep "$away_s"
daemon_start
node_await pi-01 'the disk is back after' 20
done_well "kill -9 of the target, $away_s s without it: $(grep -a -o 'the disk is back after .* s' "$daemon_dir/pi-01.console")"

node_start pi-01 "t=write12"
node_await pi-01 'STEP 4 ' 30
node_link pi-01 off
sleep "$cut_s"
node_link pi-01 on
node_await pi-01 'the disk is back after' 30
done_well "the network cut for $cut_s s: $(grep -a -o 'the disk is back after .* s' "$daemon_dir/pi-01.console")"

restarts=$(by_mode 3 3 30)
node_start pi-01 "t=write$((restarts * 4))"
node_await pi-01 'STEP 2 ' 30
for ((i = 1; i <= restarts; i++)); do
	before=$(logins)
	if ((i % 2)); then daemon_kill KILL; else daemon_kill TERM; fi
	daemon_start
	await_login "$before" 60 || node_fail pi-01 "not back after restart $i"
	sleep 0.5
done
done_well "$restarts restarts of the target in a row"
# All of a small memory is full of data that only the disk can take, and the disk is away: nothing that brings it back
# may need memory from there.
ctl clone base pi-02 --data 1G >/dev/null || fail "clone"
node_conf pi-02
node_start pi-02 "t=flood sysctl.kernel.hung_task_timeout_secs=0" -m 160
node_await pi-02 'STEP 0' 30
sleep 1
daemon_kill KILL
sleep $((cut_s / 2))
daemon_start
node_await pi-02 'RESULT' 120
node_shown pi-02 'RESULT ok' || node_fail pi-02 "it failed"
node_await_end pi-02 20
node_dmesg_is_clean pi-02
node_shown pi-02 'the disk is back after' || node_fail pi-02 "the target's death was not noticed"
say "ok: memory full of dirty data while the target is away"
daemon_ends_well
