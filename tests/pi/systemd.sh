#!/bin/bash
# The same image with systemd as init: Docker with its bridge, then reboots in a row. No hang, nothing lost.
. "$(dirname "$0")/pi.sh"
# shellcheck source=tests/init/reports_lib.sh
. "$(dirname "$0")/../init/reports_lib.sh"

reboots=$(by_mode 2 2 20)
# The whole-disk layout, as Raspberry Pi OS has it.
pi_artefacts || skip "the arm64 image can't be made"
pi_begin "$pi_disk_img"
pi_clone pi-01
reports_begin
pi_boot pi-01 virt "lunroot-demo=docker-systemd apparmor=0 lunroot.report=10.0.2.2:$reports_port/$reports_token"
pi_wait pi-01 'LUNROOT-DEMO (ok|failed)' 240
machine_has pi-01 'LUNROOT-DEMO ok' || machine_failed pi-01 "the demo failed"
machine_has pi-01 'LUNROOT-DEMO docker storage driver overlay2' || machine_failed pi-01 "another storage driver"
machine_has pi-01 'lunroot: root is /dev/sda2' || machine_failed pi-01 "another root"
reports_await '^[0-9]+ multi-user [0-9]+ s after the kernel' 30
reports_are 'start .*' 'network eth0 .*' 'login .*' 'disk sda .*' 'root ext4 /dev/sda2' 'switch .*' 'switch init runs' 'multi-user .*'
say "ok: users may log in: $(reports_of multi-user)"
began=$SECONDS
machine_end pi-01 100
say "ok: systemd and Docker: $(machine_console pi-01 | grep -ao 'container done: .* start'); power-off took $((SECONDS - began)) s"
pi_is_clean pi-01
node_fsck_disk() {
	qemu-img convert -O raw "$(url "$1")" "$daemon_dir/$1.raw" || fail "qemu-img"
	local start
	start=$(sfdisk -J "$daemon_dir/$1.raw" | member partitiontable.partitions.1.start)
	dd if="$daemon_dir/$1.raw" of="$daemon_dir/$1.root" bs=1M iflag=skip_bytes skip=$((start * 512)) conv=sparse status=none
	e2fsck -fn "$daemon_dir/$1.root" >"$daemon_dir/e2fsck" 2>&1 || {
		cat "$daemon_dir/e2fsck" >&2
		fail "$1: e2fsck"
	}
	rm -f "$daemon_dir/$1.raw" "$daemon_dir/$1.root"
}
node_fsck_disk pi-01

# Each reboot is the guest's own; the machine is the same. Without Docker, for the time it takes.
pi_boot pi-01 virt "lunroot-demo=count lunroot-demo.boots=$((reboots + 1)) systemd.mask=docker.service systemd.mask=containerd.service apparmor=0"
pi_wait pi-01 "LUNROOT-DEMO boot $((reboots + 1)) of this root" $((120 * reboots))
machine_end pi-01 100
pi_is_clean pi-01
[ "$(machine_console pi-01 | grep -ac 'lunroot: root is')" = $((reboots + 1)) ] || machine_failed pi-01 "not $((reboots + 1)) boots"
# What waits for a console or a disk at start-up may be late on a busy machine; what is told to stop does.
! machine_has pi-01 "stop[a-z-]*' timed out|nmount.* timed out|A stop job is running.*[0-9]min" || machine_failed pi-01 "something did not stop in time"
node_fsck_disk pi-01
say "ok: $reboots reboots in a row: no hang, every boot's count is there"
daemon_ends_well
