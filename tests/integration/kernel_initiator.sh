#!/bin/bash
# A real Linux initiator (Debian's kernel and open-iscsi under QEMU, no KVM needed) uses a clone as
# it would use a disk: mounts, writes, flushes, trims, remounts; then e2fsck of what it left.
here=$(cd "$(dirname "$0")" && pwd)
. "$here/../hostile/daemon.sh"

for program in qemu-system-x86_64 busybox cpio; do
	command -v $program >/dev/null || skip "$program is not installed"
done
daemon_begin
cache=${LUNROOT_TEST_CACHE:-$HOME/.cache/lunroot-tests}/initiator
"$here/guest/make-initiator" "$cache" "$here/guest/initiator-init" "$daemon_dir" || fail "no initiator image"
daemon_start
ctl create base --size 256M --ext4 >/dev/null || fail "create"
ctl clone base pi-01 >/dev/null || fail "clone"
json=$(ctl --json show pi-01 --secrets) || fail "show"
field() { printf '%s' "$json" | python3 -c 'import json,sys
value = json.load(sys.stdin)
value = value.get("node", value)
for key in sys.argv[1].split("."): value = value[key]
print(value)' "$1"; }
console=$daemon_dir/console

boot() { # MODE USER SECRET MUTUAL-USER MUTUAL-SECRET
	timeout 900 qemu-system-x86_64 -M q35 -accel tcg -cpu max -m 512 -smp 1 -display none -serial stdio \
		-no-reboot -kernel "$daemon_dir/vmlinuz" -initrd "$daemon_dir/initrd" \
		-netdev user,id=n0 -device virtio-net-pci,netdev=n0,romfile= \
		-append "$pc_kernel quiet panic=-1 t_mode=$1 t_port=${daemon_portal##*:} t_target=$(field iqn) t_initiator=$(field initiator) t_user=$2 t_secret=$3 t_muser=$4 t_msecret=$5" \
		</dev/null >"$console" 2>&1
}
ended_well() {
	grep -a -E 'QUEUE|DISK|CACHE|STEP|NOTE|RESULT|iscsi' "$console" | tr -d '\r'
	grep -a -q 'RESULT ok' "$console" || { tail -60 "$console"; fail "the guest did not end well"; }
}
seen_by_linux() { grep -a -q "$1" "$console" || fail "Linux does not see: $1"; }
file_system_is_clean() {
	qemu-img convert -O raw "$(ctl url pi-01)" "$daemon_dir/out.raw" || fail "qemu-img"
	e2fsck -fn "$daemon_dir/out.raw" >"$daemon_dir/e2fsck" 2>&1 || { cat "$daemon_dir/e2fsck"; fail "e2fsck"; }
}
user=$(field credentials.user) secret=$(field credentials.secret)
muser=$(field credentials.mutual_user) msecret=$(field credentials.mutual_secret)

boot once "$user" "$secret" "$muser" "$msecret"
ended_well
seen_by_linux 'CACHE write back FUA 1 THIN 1 MODE unmap'
seen_by_linux 'QUEUE physical_block_size 4096'
file_system_is_clean
say "Linux used the disk with mutual CHAP, and e2fsck is clean"

boot once "$user" wrong-secret-0000 "" ""
grep -a -q 'RESULT failed: no disk' "$console" || fail "a wrong secret was let in"
grep -i -q 'secret' "$daemon_dir/log" || fail "the log does not say why the login was refused"
say "a wrong secret is refused, and the log says so"

# The target dies under writes, twice, and comes back; Linux waits and goes on.
boot restart "$user" "$secret" "" "" &
guest=$!
for dies_at in 10 30; do
	for _ in $(seq 3000); do
		grep -a -q "STEP wrote $dies_at" "$console" && break
		kill -0 $guest 2>/dev/null || break
		sleep 0.1
	done
	grep -a -q "STEP wrote $dies_at" "$console" || { tail -60 "$console"; fail "the guest does not come to write"; }
	daemon_kill KILL
	sleep 3
	daemon_start
done
wait $guest
ended_well
grep -q 'digests header CRC32C data CRC32C' "$daemon_dir/log" || fail "Linux asked for digests and got none"
file_system_is_clean
say "the target was killed twice under writes: a stall each time, no error, nothing lost"
daemon_kill TERM || fail "SIGTERM ended it with status $?"
daemon_log_is_clean || fail "the log tells of a bug"
