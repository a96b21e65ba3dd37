#!/bin/bash
# A node from the kernel's start to its init, with everything said in words on the way.
. "$(dirname "$0")/node.sh"

node_begin
# What the console shows: has NODE PATTERN...
has() {
	local node=$1 pattern
	shift
	for pattern in "$@"; do node_shown "$node" "$pattern" || node_fail "$node" "it does not say: $pattern"; done
}
ended_well() {
	node_await_end "$1" 40
	has "$1" 'RESULT ok'
	node_dmesg_is_clean "$1"
}

ctl clone base pi-01 >/dev/null && ctl clone base pi-02 --data 64M >/dev/null || fail "clone"
node_conf pi-01
node_start pi-01 "t=write3 single -- one 'two three'"
ended_well pi-01
has pi-01 'eth0: 10.0.2.15 from DHCP server 10.0.2.2' 'logged in to iqn.2026-11.local.lunroot:pi-01 at 10.0.2.2' \
	'root is /dev/sda, ext4 "root", read-only, after' 'INIT /sbin/init .*one .two three' 'ROOT /dev/sda / ext4 rw' \
	'KEEPER .*@' 'TIMEOUT 600 RETRIES -1 RECOVERY 86400 CREATOR -1'
node_fsck pi-01
say "ok: mutual CHAP, root, init with its arguments, the keeper stays; e2fsck is clean"

# Modules as a distribution has them, compressed: by a kernel that unpacks them, or by busybox.
version=${node_modules##*/} packed=$daemon_dir/packed/lib/modules/${node_modules##*/} i=0
mkdir -p "$packed"
cp "$node_modules"/modules.{builtin,builtin.modinfo,order} "$packed"
while read -r module; do
	i=$((i + 1))
	mkdir -p "$packed/${module%/*}"
	xz -0 --check=crc32 -c "$node_modules/$module" >"$packed/$module.xz"
done < <("$project/tools/mkinitramfs" --modules "$node_modules" --board virt --list-modules)
[ $i -gt 3 ] && depmod -b "$daemon_dir/packed" "$version" || fail "no compressed modules"
node_modules=$packed node_initramfs "$daemon_dir/packed.img" --keep-compressed
node_initrd=$daemon_dir/packed.img node_start pi-01 "t="
ended_well pi-01
! node_shown pi-01 'module .* can.t be loaded' || node_fail pi-01 "modules could not be loaded"
say "ok: $i compressed modules"

# Everything on the command line, digests, another init, a host name, data disks, read-write at once.
node_conf pi-02
sed 's/^/lunroot./' "$daemon_dir/pi-02.conf" | tr '\n' ' ' >"$daemon_dir/words"
rm "$daemon_dir/pi-02.cpio"
node_start pi-02 "$(cat "$daemon_dir/words") lunroot.header_digest=crc32c lunroot.data_digest=crc32c lunroot.hostname=kitchen \
	root=UUID=$node_root_uuid rootflags=noatime,commit=7 rw init=/sbin/init t="
ended_well pi-02
has pi-02 'ROOT /dev/sda / ext4 rw,noatime,commit=7' 'HOST kitchen' 'DISK 1' 'PATIENCE -1 -1 600 600'
grep -q 'digests header CRC32C data CRC32C' "$daemon_dir/log" || fail "no digests"
say "ok: settings from the command line, digests, root=UUID, rootflags, hostname, a data disk"

# A throw-away root.
node_conf pi-01 overlay=tmpfs
for i in 1 2; do
	node_start pi-01 "t=count"
	ended_well pi-01
	has pi-01 'ROOT lunroot / overlay rw' 'BOOTS 1'
done
say "ok: overlay=tmpfs forgets what was written"

# The same disk as a Raspberry Pi has it: a FAT partition, then root.
truncate -s 160M "$daemon_dir/disk.img"
sfdisk -q "$daemon_dir/disk.img" <<-END
	label: dos
	label-id: 0x1badb002
	8192,65536,c
	73728,131072,83
END
truncate -s 32M "$daemon_dir/fat.img"
mkfs.vfat -n bootfs "$daemon_dir/fat.img" >/dev/null
dd if="$daemon_dir/fat.img" of="$daemon_dir/disk.img" bs=1M seek=4 conv=notrunc status=none
dd if="$daemon_dir/root.img" of="$daemon_dir/disk.img" bs=1M seek=36 conv=notrunc status=none
ctl import "$daemon_dir/disk.img" raspios >/dev/null && ctl clone raspios pi-03 >/dev/null || fail "import"
node_conf pi-03
for root in "" root=PARTUUID=1badb002-02 root=/dev/mmcblk0p2 root=LABEL=root; do
	node_start pi-03 "$root t="
	ended_well pi-03
	has pi-03 'ROOT /dev/sda2 / ext4'
done
say "ok: root found in a partition: by itself, by PARTUUID, by an SD card's name, by LABEL"
daemon_ends_well
