#!/bin/bash
# A PC without a disk boots from a LUN: iPXE under QEMU (no KVM needed) logs in with CHAP in both
# directions, reads the boot sector and runs it.
here=$(cd "$(dirname "$0")" && pwd)
. "$here/../hostile/daemon.sh"

for program in qemu-system-x86_64 as ld python3; do
	command -v $program >/dev/null || skip "$program is not installed"
done
daemon_begin
daemon_start

# A boot sector that says one line by the BIOS and halts.
cat >"$daemon_dir/sector.s" <<'SECTOR'
.code16
.globl _start
_start:	xorw %ax, %ax
	movw %ax, %ds
	movw $(text - _start + 0x7c00), %si
1:	lodsb
	testb %al, %al
	jz 2f
	movb $0x0e, %ah
	int $0x10
	jmp 1b
2:	hlt
	jmp 2b
text:	.asciz "\r\nBOOTED FROM A LUN\r\n"
	.org 510
	.word 0xaa55
SECTOR
as --32 "$daemon_dir/sector.s" -o "$daemon_dir/sector.o" &&
	ld -m elf_i386 -Ttext 0x7c00 --oformat binary "$daemon_dir/sector.o" -o "$daemon_dir/sector" 2>/dev/null ||
	skip "this machine's assembler makes no 16-bit code"
truncate -s 64M "$daemon_dir/pc.img"
dd if="$daemon_dir/sector" of="$daemon_dir/pc.img" conv=notrunc status=none
ctl import --force "$daemon_dir/pc.img" base >/dev/null || fail "import"
ctl clone base pc >/dev/null || fail "clone"

mkdir "$daemon_dir/tftp"
ctl --json show pc --secrets | PORT=${daemon_portal##*:} python3 -c '
import json, os, sys
node = json.load(sys.stdin)
node = node.get("node", node)
c = node["credentials"]
print(f"""#!ipxe
set initiator-iqn {node["initiator"]}
set username {c["user"]}
set password {c["secret"]}
set reverse-username {c["mutual_user"]}
set reverse-password {c["mutual_secret"]}
sanboot iscsi:10.0.2.2::{os.environ["PORT"]}:0:{node["iqn"]} || echo NOT BOOTED""")' >"$daemon_dir/tftp/boot.ipxe" ||
	fail "no boot script"

qemu-system-x86_64 -M pc,graphics=off -accel tcg -m 256 -display none -serial stdio -boot n \
	-netdev user,id=n0,tftp="$daemon_dir/tftp",bootfile=boot.ipxe -device virtio-net-pci,netdev=n0 \
	</dev/null >"$daemon_dir/console" 2>&1 &
machine=$!
for _ in $(seq 900); do
	grep -a -q 'NOT BOOTED\|BOOTED FROM A LUN' "$daemon_dir/console" && break
	kill -0 $machine 2>/dev/null || break
	sleep 0.1
done
kill $machine 2>/dev/null
wait $machine 2>/dev/null
grep -a -q 'BOOTED FROM A LUN' "$daemon_dir/console" || {
	tr -cd '[:print:]\n' <"$daemon_dir/console" | tail -20
	fail "iPXE did not boot"
}
say "iPXE booted from a LUN"
daemon_kill TERM || fail "SIGTERM ended it with status $?"
daemon_log_is_clean || fail "the log tells of a bug"
