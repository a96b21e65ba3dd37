#!/bin/bash
# A real Linux initiator (Debian's kernel and open-iscsi under QEMU, no KVM needed) uses a clone as
# it would use a disk: mounts, writes, flushes, trims, remounts; then e2fsck of what it left.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=tests/integration/lib.sh
. "$here/lib.sh"

cache=${LUNROOT_TEST_CACHE:-$HOME/.cache/lunroot-tests}/initiator
"$here/guest/make-initiator" "$cache" "$here/guest/initiator-init" "$work"

start_lunrootd
lunctl create base --size 256M --ext4
lunctl clone base pi-01
json=$(lunctl --json show pi-01 --secrets)
field() { printf '%s' "$json" | python3 -c 'import json,sys
value = json.load(sys.stdin)
value = value.get("node", value)
for key in sys.argv[1].split("."): value = value[key]
print(value)' "$1"; }
port=${portal##*:}

boot() { # initiator user secret mutual-user mutual-secret
	timeout 300 qemu-system-x86_64 -M q35 -accel tcg -cpu max -m 512 -smp 1 -display none -serial stdio \
		-no-reboot -kernel "$work/vmlinuz" -initrd "$work/initrd" \
		-netdev user,id=n0 -device virtio-net-pci,netdev=n0,romfile= \
		-append "console=ttyS0 quiet panic=-1 t_port=$port t_target=$(field iqn) t_initiator=$1 t_user=$2 t_secret=$3 t_muser=$4 t_msecret=$5" \
		</dev/null >"$work/console" 2>&1
}

boot "$(field initiator)" "$(field credentials.user)" "$(field credentials.secret)" \
	"$(field credentials.mutual_user)" "$(field credentials.mutual_secret)"
grep -a -E 'QUEUE|DISK|CACHE|STEP|RESULT|iscsistart' "$work/console" | tr -d '\r'
grep -a -q 'RESULT ok' "$work/console" || { cat "$work/console"; die "the guest did not end well"; }
grep -a -q 'CACHE write back FUA 1 THIN 1 MODE unmap' "$work/console" || die "Linux does not see cache, FUA and UNMAP"
grep -a -q 'QUEUE physical_block_size 4096' "$work/console" || die "Linux does not see 4 KiB physical blocks"

# What it wrote is an intact file system, seen through another initiator.
qemu-img convert -O raw "$(lunctl url pi-01)" "$work/out.raw"
e2fsck -fn "$work/out.raw"
pass "Linux used the disk, e2fsck is clean"

boot "$(field initiator)" "$(field credentials.user)" wrong-secret-0000 "" ""
grep -a -i -E 'iscsistart|RESULT' "$work/console" | tr -d '\r' || true
grep -a -q 'RESULT failed: no disk' "$work/console" || die "a wrong secret was let in"
grep -q 'secret' "$work/lunrootd.log" || die "the log does not say why the login was refused"
pass "a wrong secret is refused, and the log says so"
