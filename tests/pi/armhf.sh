#!/bin/bash
# 32-bit ARM: lunroot-init for ARMv7 (armhf) and for every Pi down to the ARMv6 of the first (armel) boot a machine with
# Debian's armmp kernel, and armel a Pi Zero with Debian's rpi kernel. They keep their disks through a restart of the target.
. "$(dirname "$0")/pi.sh"

cache=${LUNROOT_TEST_CACHE:-$HOME/.cache/lunroot-tests}
need qemu-system-aarch64 qemu-arm-static cpio mke2fs python3 readelf
mkdir -p "$cache"
daemon_begin

# A kernel and the busybox that suits it, once for all tests: fetch FOLDER ARCH PACKAGE
fetch() {
	(
		flock 9
		[ -e "$cache/$1/done" ] && exit
		"$project/tools/foreign-debs" "$2" "$cache/$1" "$3" busybox-static && touch "$cache/$1/done"
	) 9>"$cache/$1.lock" || skip "Debian's $3 can't be had"
}
fetch armmp armhf linux-image-armmp
fetch rpi armel linux-image-rpi

# Busybox, and the init of the test nodes. What ARMv6 runs, the others run, too.
tree=$daemon_dir/root-tree
mkdir -p "$tree"/{bin,sbin,dev,proc,sys,run,tmp,etc,mnt}
cp "$cache/rpi/bin/busybox" "$tree/bin/busybox"
install -m 755 "$(dirname "$0")/../init/test_init" "$tree/sbin/init"
truncate -s 64M "$daemon_dir/root.img"
mke2fs -q -F -t ext4 -L root -d "$tree" "$daemon_dir/root.img" >/dev/null || fail "mke2fs"
daemon_start
ctl import "$daemon_dir/root.img" base >/dev/null || fail "import"

# A node whose target dies under its writes: boots NODE ARCH FOLDER MODEL BOARD ROUNDS
boots() {
	local node=$1 arch=$2 home=$cache/$3 model=$4 board=$5 rounds=$6
	pi_kernel=$(echo "$home"/boot/vmlinuz-*)
	pi_initrd=$daemon_dir/initramfs
	"$project/tools/mkinitramfs" --modules "$(echo "$home"/lib/modules/*)" --init "$project/build/init-$arch/lunroot-init" \
		--busybox "$home/bin/busybox" --board "$board" "$pi_initrd" >"$daemon_dir/mkinitramfs.log" 2>&1 || {
		cat "$daemon_dir/mkinitramfs.log" >&2
		fail "mkinitramfs"
	}
	pi_clone "$node"
	pi_boot "$node" "$model" "t=write$rounds"
	pi_wait "$node" 'STEP 3 ' 60
	daemon_kill KILL
	sleep 3
	daemon_start
	pi_wait "$node" 'RESULT' 90
	machine_has "$node" 'RESULT ok' || machine_failed "$node" "it failed"
	machine_has "$node" 'the disk is back after' || machine_failed "$node" "the target's death was not noticed"
	pi_is_clean "$node"
	say "ok: $arch on $model: root after $(pi_seconds "$node" 'lunroot: root is') s, and through a kill -9 of the target"
	machine_end "$node" 120
	node_fsck "$node"
}

for arch in armhf armel; do
	"$project/tools/build-init" "$arch" >"$daemon_dir/build-init.log" 2>&1 || {
		cat "$daemon_dir/build-init.log" >&2
		fail "lunroot-init does not build for $arch"
	}
	say "lunroot-init for $arch: $(stat -c %s "$project/build/init-$arch/lunroot-init") bytes"
	boots "pi-$arch" "$arch" armmp virt32 virt 12
done

# The core of Pi 1 and Zero is an ARM1176. Its network is as slow as raspi3b's: half a MiB a round takes 5 s.
readelf -A "$project/build/init-armel/lunroot-init" | grep -q 'Tag_CPU_arch: v\(4T\|5T\|5TE\|6\)$' ||
	fail "armel is not for ARMv6 or less: $(readelf -A "$project/build/init-armel/lunroot-init" | grep Tag_CPU_arch)"
qemu-arm-static -cpu arm1176 "$project/build/init-armel/lunroot-init" --version | grep -q '^lunroot-init ' ||
	fail "armel does not run on an ARM1176"
pi_dtb=$(echo "$cache"/rpi/usr/lib/linux-image-*/bcm2835-rpi-zero.dtb)
boots pi-zero armel rpi raspi0 all 6
daemon_ends_well
