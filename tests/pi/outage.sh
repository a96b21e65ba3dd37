#!/bin/bash
# Under a container's writes the target dies and is away for a minute, the network is cut for a minute, the target
# restarts ten times: the Pi waits and goes on, and what the container wrote is right.
. "$(dirname "$0")/pi.sh"

away_s=$(by_mode 10 60 60)
pi_begin
pi_clone pi-01
files=$(by_mode 20 40 60)

begin() { # a boot whose container writes for a while
	pi_boot pi-01 virt "rw init=/usr/lib/lunroot-demo/init-docker lunroot-demo.files=$files"
	pi_wait pi-01 'container: wrote 3$' 150
}
done_well() { # WHAT
	pi_wait pi-01 'LUNROOT-DEMO (ok|failed)' 200
	machine_has pi-01 'LUNROOT-DEMO ok' || machine_failed pi-01 "the demo failed"
	machine_has pi-01 "container: wrote and read $files files" || machine_failed pi-01 "the container failed"
	pi_is_clean pi-01
	machine_end pi-01 60
	node_fsck pi-01
	say "ok: $1"
}
back() { machine_console pi-01 | grep -ao 'the disk is back after .* s' | tr '\n' ' '; }
lasted() { machine_console pi-01 | grep -ac 'container: wrote'; }

begin
daemon_kill KILL
before=$(lasted)
sleep "$away_s"
# A write or two may have been under way; the container does wait.
[ "$(lasted)" -le $((before + 2)) ] || machine_failed pi-01 "it went on without a disk"
daemon_start
pi_wait pi-01 'the disk is back after' 30
done_well "kill -9 of the target, $away_s s without it: $(back)"

begin
machine_cut_network pi-01
sleep "$away_s"
machine_join_network pi-01
pi_wait pi-01 'the disk is back after' 60
done_well "the network cut for $away_s s: $(back)"

restarts=$(by_mode 3 10 10)
begin
for ((i = 1; i <= restarts; i++)); do
	logins=$(grep -c 'logged in' "$daemon_dir/log")
	if ((i % 2)); then daemon_kill KILL; else daemon_kill TERM; fi
	daemon_start
	for ((j = 0; j < 900; j++)); do
		[ "$(grep -c 'logged in' "$daemon_dir/log")" -gt "$logins" ] && break
		sleep 0.1
	done
	[ $j -lt 900 ] || machine_failed pi-01 "not back after restart $i"
	sleep 1
done
done_well "$restarts restarts of the target in a row"
daemon_ends_well
