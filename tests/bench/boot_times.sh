#!/bin/bash
# From power-on to root, ours beside the usual parts: lunroot-init on lunrootd, and open-iscsi's iscsistart on tgt, on
# the same emulated machine with the same kernel, modules and root file system. Prints and judges nothing.
#
#   boot_times.sh [ROUNDS [virt|raspi3b]]      default 3 virt
#
# The peers' initramfs is ours with another /init: busybox, udhcpc, iscsistart with its libraries (one-way CHAP), and
# mount of the disk that appears. Times are the kernel's own, so QEMU's start is not in them.
. "$(dirname "$0")/../pi/pi.sh"

rounds=${1:-3} model=${2:-virt}
need tgtd tgtadm zstd cpio
pi_begin
pi_clone pi-01
work=$daemon_dir/peer
cache=${LUNROOT_TEST_CACHE:-$HOME/.cache/lunroot-tests}/open-iscsi-arm64

# --- the peers ---

[ -e "$cache/done" ] || {
	"$project/tools/foreign-debs" arm64 "$cache" open-iscsi libopeniscsiusr libisns0 libkmod2 libmount1 libblkid1 libsystemd0 \
		libc6 libssl3 liblzma5 libzstd1 liblz4-1 libcap2 libgcrypt20 libgpg-error0 libselinux1 libpcre2-8-0 libgcc-s1 &&
		touch "$cache/done"
} || fail "open-iscsi for arm64 can't be had"

needed() { # FILE: the libraries that it and they need
	aarch64-linux-gnu-readelf -d "$1" | sed -n 's/.*(NEEDED).*\[\(.*\)\]/\1/p'
}
copy_libraries() {
	local library path
	for library in $(needed "$1"); do
		[ ! -e "$work/tree/lib/$library" ] || continue
		path=$(find "$cache" -name "$library" | head -n 1)
		[ -n "$path" ] || fail "no $library"
		cp -L "$path" "$work/tree/lib/$library"
		copy_libraries "$work/tree/lib/$library"
	done
}

make_peer_initramfs() {
	mkdir -p "$work/tree"
	(cd "$work/tree" && zstd -dcq "$pi_initrd" 2>/dev/null | cpio -id --quiet) || fail "our initramfs can't be unpacked"
	mkdir -p "$work/tree/lib" "$work/tree/sbin" "$work/tree/etc/iscsi"
	cp "$cache/sbin/iscsistart" "$work/tree/sbin/"
	cp -L "$(find "$cache" -name 'ld-linux-aarch64.so.1' | head -n 1)" "$work/tree/lib/"
	copy_libraries "$work/tree/sbin/iscsistart"
	cat >"$work/tree/init" <<-'END'
		#!/bin/busybox sh
		b=/bin/busybox
		say() { echo "<5>peer: $*" >/dev/kmsg; }
		$b mount -t proc proc /proc
		$b mount -t sysfs sys /sys
		$b mount -t devtmpfs dev /dev
		$b mount -t tmpfs run /run
		echo on >/proc/sys/kernel/printk_devkmsg
		$b mkdir -p /run/lunroot /run/lock
		say init
		for word in $($b cat /proc/cmdline); do case $word in t_*=*) eval "${word%%=*}='${word#*=}'" ;; esac done
		while read -r module; do $b insmod /lib/modules/$module; done </etc/lunroot/modules
		card=
		until [ -n "$card" ]; do
			for card in $($b ls /sys/class/net); do case $card in lo | sit0) card= ;; *) break ;; esac done
		done
		$b ip link set lo up
		$b ip link set "$card" up
		$b udhcpc -q -n -i "$card" -s /etc/lunroot/dhcp -T 1 -t 20 >/dev/null 2>&1
		say "address"
		LD_LIBRARY_PATH=/lib /sbin/iscsistart -i "$t_initiator" -t "$t_target" -g 1 -a 10.0.2.2 -p "$t_port" \
			-u "$t_user" -w "$t_secret" >/run/log 2>&1 || say "iscsistart: $($b tail -n 1 /run/log)"
		say "logged in"
		until [ -b /dev/sda ]; do $b usleep 20000; done
		say "disk"
		$b mount -t ext4 /dev/sda /newroot
		say "root is mounted"
		for f in dev proc sys run; do $b mount --move /$f /newroot/$f; done
		exec $b switch_root /newroot "$t_init"
	END
	chmod 755 "$work/tree/init"
	(cd "$work/tree" && find . | sort | cpio -o -H newc --quiet -R 0:0) | zstd -q -19 >"$work/initrd"
}

start_tgt() {
	local tgtadm
	tgt_port=$((30000 + RANDOM % 2000)) tgt_control=$((1000 + RANDOM % 20000))
	pi_copy "$pi_root_img" "$work/root.img"
	chmod u+w "$work/root.img"
	tgtd -f -C $tgt_control --iscsi portal=127.0.0.1:$tgt_port >"$daemon_dir/tgt.log" 2>&1 &
	tgt_pid=$!
	# shellcheck disable=SC2064
	trap "kill -9 $tgt_pid; machines_cleanup; daemon_cleanup" EXIT
	sleep 1
	tgtadm="tgtadm -C $tgt_control --lld iscsi --mode"
	$tgtadm target --op new --tid 1 -T iqn.2026-11.local.lunroot.test:peer &&
		$tgtadm logicalunit --op new --tid 1 --lun 1 -b "$work/root.img" &&
		$tgtadm account --op new --user peer --password peer-secret-0001 &&
		$tgtadm account --op bind --tid 1 --user peer &&
		$tgtadm target --op bind --tid 1 -I ALL || fail "tgtadm"
}

# --- one boot each ---

# The kernel's time at a line: at NODE PATTERN
at() { pi_seconds "$1" "$2"; }
init=/usr/lib/lunroot-demo/init-crun

boot_ours() {
	pi_boot pi-01 "$model" "rw init=$init"
	pi_wait pi-01 'LUNROOT-DEMO (ok|failed)' 120
	record ours pi-01 'lunroot: lunroot-init' 'lunroot: [a-z0-9]*: 10.0.2.15 from' 'lunroot: sda is' 'lunroot: root is'
}
boot_peer() {
	local console=ttyAMA0
	[ "$model" = virt ] || console=ttyAMA0,115200
	machine_start peer "$model" "$pi_kernel" "$work/initrd" "console=$console rw t_initiator=iqn.2026-11.local.lunroot.test:i \
t_target=iqn.2026-11.local.lunroot.test:peer t_port=$tgt_port t_user=peer t_secret=peer-secret-0001 t_init=$init"
	pi_wait peer 'LUNROOT-DEMO (ok|failed)' 120
	record peers peer 'peer: init' 'peer: address' 'peer: disk' 'peer: root is mounted'
}
record() { # WHO MACHINE INIT ADDRESS DISK ROOT
	local done_s
	done_s=$(machine_console "$2" | sed -n 's/.*LUNROOT-DEMO container done: \([0-9.]*\) s.*/\1/p')
	printf '%s %s %s %s %s %s\n' "$1" "$(at "$2" "$3")" "$(at "$2" "$4")" "$(at "$2" "$5")" "$(at "$2" "$6")" "$done_s" |
		awk '{ print $0, $5 - $3 }' | tee -a "$daemon_dir/times" >&2
	machine_stop "$2"
}

mkdir -p "$work"
make_peer_initramfs
start_tgt
say "initramfs: ours $(stat -c %s "$pi_initrd") bytes, with iscsistart $(stat -c %s "$work/initrd") bytes"
for ((round = 0; round < rounds; round++)); do
	boot_ours
	boot_peer
done
python3 - "$daemon_dir/times" "$model" <<-'END'
	import statistics, sys
	rows = {}
	for line in open(sys.argv[1]):
	    who, *times = line.split()
	    rows.setdefault(who, []).append([float(t) for t in times])
	names = ["/init", "address", "disk seen", "root mounted", "container", "address to root"]
	print(f"{sys.argv[2]}, medians of {len(rows['ours'])} boots each, seconds of the kernel's clock")
	print(f"{'':<24}" + "".join(f"{n:>17}" for n in names))
	medians = {}
	for who, label in (("ours", "lunroot"), ("peers", "iscsistart and tgt")):
	    medians[who] = [statistics.median(column) for column in zip(*rows[who])]
	    print(f"{label:<24}" + "".join(f"{m:>17.2f}" for m in medians[who]))
	print(f"address to root: {medians['peers'][-1] / medians['ours'][-1]:.1f} times as fast")
END
