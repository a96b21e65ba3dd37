#!/bin/bash
# The promise, seen: a Raspberry Pi 3B boots from a clone and runs a container; with Docker and overlay2 on a faster
# machine, twice; two Pis from one image at once, each with its own root.
. "$(dirname "$0")/pi.sh"

pi_begin
pi_clone pi-01
pi_boot pi-01 raspi3b "rw init=/usr/lib/lunroot-demo/init-crun"
pi_wait pi-01 'LUNROOT-DEMO (ok|failed)' 120
machine_has pi-01 'LUNROOT-DEMO ok' || machine_failed pi-01 "the demo failed"
machine_has pi-01 'lunroot: usb0: 10.0.2.15 from DHCP server' || machine_failed pi-01 "no address"
machine_has pi-01 'container: hello from aarch64' || machine_failed pi-01 "no container"
pi_is_clean pi-01
say "ok: Pi 3B: root after $(pi_seconds pi-01 'lunroot: root is') s, $(machine_console pi-01 | grep -ao 'container done: .* start')"
machine_end pi-01 120
node_fsck pi-01

pi_clone pi-02
for boot in first second; do
	pi_boot pi-02 virt "rw init=/usr/lib/lunroot-demo/init-docker"
	pi_wait pi-02 'LUNROOT-DEMO (ok|failed)' 120
	machine_has pi-02 'LUNROOT-DEMO ok' || machine_failed pi-02 "the demo failed"
	for pattern in "LUNROOT-DEMO docker storage driver overlay2" "LUNROOT-DEMO $boot boot" 'container: my root is overlay overlay' \
		'container: wrote and read 4 files'; do
		machine_has pi-02 "$pattern" || machine_failed pi-02 "it does not say: $pattern"
	done
	[ $boot = first ] || machine_has pi-02 'container: what the last run wrote is all there' ||
		machine_failed pi-02 "the first boot's data is not there"
	pi_is_clean pi-02
	say "ok: Docker, $boot boot: root after $(pi_seconds pi-02 'lunroot: root is') s, $(machine_console pi-02 | grep -ao 'container done: .* start')"
	machine_end pi-02 60
done
node_fsck pi-02

# Two at once, as slow as that is here: neither sees what the other writes.
for node in pi-03 pi-04; do
	pi_clone $node
	machine_smp=1 machine_memory=768 pi_boot $node virt "rw init=/usr/lib/lunroot-demo/init-docker"
done
for node in pi-03 pi-04; do
	pi_wait $node 'LUNROOT-DEMO (ok|failed)' 240
	machine_has $node 'LUNROOT-DEMO ok' || machine_failed $node "the demo failed"
	machine_has $node 'LUNROOT-DEMO first boot' || machine_failed $node "it has what another wrote"
	machine_has $node 'run 1$' || machine_failed $node "it counts what another did"
	pi_is_clean $node
	machine_end $node 60
	node_fsck $node
done
say "ok: two Pis from one image at once, each with its own root"
daemon_ends_well
