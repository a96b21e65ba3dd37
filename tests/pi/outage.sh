#!/bin/bash
# Under a container's writes the target dies and is away for a minute, the network is cut for a minute, the target
# restarts ten times: the Pi waits and goes on, and what the container wrote is right.
. "$(dirname "$0")/pi.sh"

away_s=$(by_mode 10 60 60)
restarts=$(by_mode 3 10 10)
files=$(by_mode 40 90 120) # of what the container writes meanwhile, one a second
pi_begin
pi_clone pi-01

lasted() { machine_console pi-01 | grep -ac 'container: wrote [0-9]*$'; }
back() { machine_console pi-01 | grep -ac 'the disk is back after'; }
await_count() { # FUNCTION COUNT SECONDS WHAT-IS-WRONG
	local i
	for ((i = 0; i < $3 * pi_patience * 10; i++)); do
		[ "$($1)" -lt "$2" ] || return 0
		sleep 0.1
	done
	machine_failed pi-01 "$4"
}
still_writes() { [ "$(lasted)" -lt "$files" ] || machine_failed pi-01 "the container was done too soon"; }
await_back() { # NUMBER SECONDS WHAT
	await_count back "$1" "$2" "the disk is not back"
	await_count lasted $(($(lasted) + 3)) 60 "the container does not go on"
	still_writes
	say "ok: $3: $(machine_console pi-01 | grep -ao 'the disk is back after .* s' | tail -n 1)"
}

pi_boot pi-01 virt "rw init=/usr/lib/lunroot-demo/init-docker lunroot-demo.files=$files"
pi_wait pi-01 'container: wrote 3$' 150

daemon_kill KILL
before=$(lasted)
sleep "$away_s"
# A write or two may have been under way; the container does wait.
[ "$(lasted)" -le $((before + 2)) ] || machine_failed pi-01 "it went on without a disk"
daemon_start
await_back 1 30 "kill -9 of the target, $away_s s without it"

machine_cut_network pi-01
sleep "$away_s"
machine_join_network pi-01
await_back 2 60 "the network cut for $away_s s"

for ((i = 1; i <= restarts; i++)); do
	still_writes
	before=$(logins)
	if ((i % 2)); then daemon_kill KILL; else daemon_kill TERM; fi
	daemon_start
	await_login "$before" 90 || machine_failed pi-01 "not back after restart $i"
	sleep 1
done
say "ok: $restarts restarts of the target in a row"

pi_wait pi-01 'LUNROOT-DEMO (ok|failed)' 200
machine_has pi-01 'LUNROOT-DEMO ok' || machine_failed pi-01 "the demo failed"
machine_has pi-01 "container: wrote and read $files files" || machine_failed pi-01 "the container failed"
pi_is_clean pi-01
machine_end pi-01 60
node_fsck pi-01
say "ok: what the container wrote is right"
daemon_ends_well
