#!/bin/bash
# 32-bit ARM: lunroot-init for ARMv7 (armhf) and for every Pi down to the ARMv6 of the first (armel) boot a machine with
# Debian's armmp kernel, and keep its disk through a restart of the target.
. "$(dirname "$0")/pi.sh"

cache=${LUNROOT_TEST_CACHE:-$HOME/.cache/lunroot-tests}/armmp
need qemu-system-aarch64 qemu-arm-static cpio mke2fs python3
mkdir -p "${cache%/*}"
daemon_begin
(
	flock 9
	[ -e "$cache/done" ] && exit
	"$project/tools/foreign-debs" armhf "$cache" linux-image-armmp busybox-static && touch "$cache/done"
) 9>"$cache.lock" || skip "Debian's armmp kernel can't be had"
pi_kernel=$(echo "$cache"/boot/vmlinuz-*)

# Busybox, and the init of the test nodes.
tree=$daemon_dir/root-tree
mkdir -p "$tree"/{bin,sbin,dev,proc,sys,run,tmp,etc,mnt}
cp "$cache/bin/busybox" "$tree/bin/busybox"
install -m 755 "$(dirname "$0")/../init/test_init" "$tree/sbin/init"
truncate -s 64M "$daemon_dir/root.img"
mke2fs -q -F -t ext4 -L root -d "$tree" "$daemon_dir/root.img" >/dev/null || fail "mke2fs"
daemon_start
ctl import "$daemon_dir/root.img" base >/dev/null || fail "import"

for arch in armhf armel; do
	init=$project/build/init-$arch/lunroot-init
	"$project/tools/build-init" "$arch" >"$daemon_dir/build-init.log" 2>&1 || {
		cat "$daemon_dir/build-init.log" >&2
		fail "lunroot-init does not build for $arch"
	}
	pi_initrd=$daemon_dir/initramfs
	"$project/tools/mkinitramfs" --modules "$(echo "$cache"/lib/modules/*)" --init "$init" --busybox "$cache/bin/busybox" \
		--board virt "$pi_initrd" >"$daemon_dir/mkinitramfs.log" 2>&1 || {
		cat "$daemon_dir/mkinitramfs.log" >&2
		fail "mkinitramfs"
	}
	node=pi-$arch
	pi_clone "$node"
	pi_boot "$node" virt32 "t=write12"
	pi_wait "$node" 'STEP 3 ' 60
	daemon_kill KILL
	sleep 3
	daemon_start
	pi_wait "$node" 'RESULT' 90
	machine_has "$node" 'RESULT ok' || machine_failed "$node" "it failed"
	machine_has "$node" 'the disk is back after' || machine_failed "$node" "the target's death was not noticed"
	pi_is_clean "$node"
	say "ok: $arch, $(stat -c %s "$init") bytes: root after $(pi_seconds "$node" 'lunroot: root is') s, and through a kill -9 of the target"
	machine_end "$node" 60
	node_fsck "$node"
done

# The core of Pi 1 and Zero is an ARM1176 (ARMv6): QEMU has it for programs, Debian has no kernel for it.
qemu-arm-static -cpu arm1176 "$project/build/init-armel/lunroot-init" --version | grep -q '^lunroot-init ' ||
	fail "armel does not run on an ARM1176"
readelf -A "$project/build/init-armel/lunroot-init" | grep -q 'Tag_CPU_arch: v\(4T\|5T\|5TE\|6\)$' ||
	fail "armel is not for ARMv6 or less: $(readelf -A "$project/build/init-armel/lunroot-init" | grep Tag_CPU_arch)"
say "ok: the armel program runs on the core of Pi 1 and Zero"
daemon_ends_well
