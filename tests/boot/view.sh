#!/bin/bash
# The view of a real disk (MBR, FAT, ext4 with Debian's arm64 kernel) as a Pi 3B is given it: its files
# are those of the disk, its initramfs is what mkinitramfs makes of that kernel's modules, and a
# machine that is given exactly these files comes as far as the node's settings lead it. The same for a
# bare ext4 root.
#
# environment: VIEW_WRITE, the program that makes a view and writes its files into a folder
here=$(cd "$(dirname "$0")" && pwd)
. "$here/../integration/lib.sh"
. "$here/../pi/machine.sh"
. "$here/../pi/artefacts.sh"

need qemu-system-aarch64 mmdebstrap mcopy cpio gzip zstd modprobe python3
view_write=${VIEW_WRITE:?VIEW_WRITE names the program under test}
dir=$(mktemp -d /dev/shm/lunroot-view.XXXXXX)
trap 'rm -rf "$dir"' EXIT
export MTOOLSRC=/dev/null
pi_artefacts || skip "the arm64 image can't be made"
cache=${LUNROOT_TEST_CACHE:-$HOME/.cache/lunroot-tests}/busybox-arm64
[ -e "$cache/done" ] || {
	"$project/tools/foreign-debs" arm64 "$cache" busybox-static && touch "$cache/done"
} || skip "busybox for arm64 can't be had"
busybox=$(find "$cache" -path "*bin/busybox" -type f | head -n 1)
"$project/tools/build-init" arm64 >"$dir/log" 2>&1 || {
	cat "$dir/log" >&2
	fail "lunroot-init does not build"
}
init=$project/build/init-arm64/lunroot-init

# In the place of Debian's raspi-firmware; nothing here runs them.
mkdir "$dir/firmware" "$dir/run"
for name in bootcode.bin start.elf start_x.elf fixup.dat fixup_x.dat start4.elf fixup4.dat; do echo "$name" >"$dir/firmware/$name"; done
printf 'portal=10.0.2.2:9\ntarget=iqn.2026-11.local.lunroot:pi-07\nuser=pi-07\nsecret=not-a-real-secret\n' >"$dir/node.conf"

view() { # OUT IMAGE [OPTION]...
	local out=$dir/$1 image=$2
	shift 2
	mkdir "$out"
	"$view_write" --tool "$project/tools/mkinitramfs" --init "$init" --busybox "$busybox" --run "$dir/run" \
		--firmware "$dir/firmware" "$@" "$image" "$out" >"$out.list" 2>"$out.times" || {
		cat "$out.times" >&2
		fail "no view of $image"
	}
	sed "s/^/    $(basename "$out"): /" "$out.times"
}
say_of() { sed -n "s/^$2 //p" "$dir/$1.list"; }

# --- the files ---

view disk "$pi_disk_img" --model 3b --times 3
version=$(basename "$pi_modules")
[ "$(say_of disk kernel)" = "kernel8.img $version" ] || fail "kernel $(say_of disk kernel), not $version"
cmp "$dir/disk/kernel8.img" "$pi_kernel" || fail "the kernel is not that of the disk"
cmp "$dir/disk/start_x.elf" "$dir/firmware/start_x.elf" || fail "the firmware is not that of its folder"
[ ! -e "$dir/disk/start4.elf" ] || fail "a Pi 3 is given a Pi 4's firmware"
start=$(sfdisk -J "$pi_disk_img" | member partitiontable.partitions.0.start)
for file in "$dir"/disk/*.dtb; do
	mcopy -n -i "$pi_disk_img@@$((start * 512))" "::/$(basename "$file")" "$dir/one" && cmp "$file" "$dir/one" ||
		fail "$(basename "$file") is not that of the disk"
	rm -f "$dir/one"
done
[ "$(ls "$dir"/disk/bcm2837*.dtb | wc -l)" -gt 2 ] || fail "device trees are missing"
[ -z "$(ls "$dir"/disk/bcm2711*.dtb 2>/dev/null)" ] || fail "a Pi 3 is given a Pi 4's device trees"
grep -qx 'root=LABEL=rootfs' <(tr ' ' '\n' <"$dir/disk/cmdline.txt") || fail "cmdline.txt: $(cat "$dir/disk/cmdline.txt")"
tail -n 5 "$dir/disk/config.txt" | cmp - <(printf '[all]\nauto_initramfs=0\narm_64bit=1\nkernel=kernel8.img\ninitramfs lunroot.img followkernel\n') ||
	fail "config.txt: $(cat "$dir/disk/config.txt")"
say "ok: the files are those of the disk"

"$project/tools/mkinitramfs" --fast --overlay --modules "$pi_modules" --init "$init" --busybox "$busybox" "$dir/direct.img" || fail "mkinitramfs"
cmp "$dir/disk/lunroot.img" "$dir/direct.img" || fail "the initramfs is not what mkinitramfs makes of the same modules"
[ "$(find "$dir/run" -type f | wc -l)" = 1 ] || fail "in the runtime folder: $(find "$dir/run")"
say "ok: the initramfs is that of the kernel's own modules"

view bare "$pi_root_img" --model 4
[ "$(say_of bare kernel)" = "vmlinuz-$version $version" ] || fail "bare: kernel $(say_of bare kernel)"
cmp "$dir/bare/vmlinuz-$version" "$pi_kernel" || fail "bare: the kernel is not that of the disk"
cmp "$dir/bare/bcm2711-rpi-4-b.dtb" "$pi_dtbs/broadcom/bcm2711-rpi-4-b.dtb" || fail "bare: another device tree"
cmp "$dir/bare/lunroot.img" "$dir/direct.img" || fail "bare: another initramfs"
say "ok: a bare root file system gives the same"

view boot "$pi_disk_img" --model 3b --node-conf "$dir/node.conf" --extra "console=ttyAMA0"
base=$(stat -c %s "$dir/disk/lunroot.img")
cmp -n "$base" "$dir/boot/lunroot.img" "$dir/disk/lunroot.img" || fail "one boot's initramfs is another"
mkdir "$dir/conf"
tail -c "+$((base + 1))" "$dir/boot/lunroot.img" | gzip -dc | (cd "$dir/conf" && cpio -id --quiet) || fail "the settings can't be unpacked"
cmp "$dir/conf/etc/lunroot/node.conf" "$dir/node.conf" || fail "other settings"
[ "$(stat -c %a "$dir/conf/etc/lunroot/node.conf")" = 600 ] || fail "settings that all may read"

# --- a machine that is given them ---

machine_start pi virt "$dir/boot/kernel8.img" "$dir/boot/lunroot.img" "$(cat "$dir/boot/cmdline.txt")"
machine_wait pi 'Linux version '"$version" 600
machine_wait pi 'lunroot: .*10\.0\.2\.2' 600
! machine_has pi 'lunroot: .*(node\.conf, line|is wrong|no wired network)' || machine_failed pi "its settings or its modules are wrong"
machine_console pi | grep -a 'lunroot:' | head -5 | sed 's/^/    /'
machine_stop pi
say "ok: a machine boots from the view to where its settings lead it"
