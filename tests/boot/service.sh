#!/bin/bash
# The whole way, from a Pi that nobody knows to its container: a router that gives addresses, lunrootd, lunbootd. A simulated
# firmware asks and gets nothing; the Pi is adopted; the firmware fetches its files, and an emulated machine with the Pi's MAC
# starts with exactly those bytes, logs in with the credentials that are in them, and runs a container. In the guest another
# kernel is installed; the next boot takes it, with modules that fit.
here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=tests/pi/pi.sh
. "$here/../pi/pi.sh"
# shellcheck source=tests/boot/net.sh
. "$here/net.sh"
# shellcheck source=tests/boot/base_image.sh
. "$here/base_image.sh"
# shellcheck source=tests/boot/servers.sh
. "$here/servers.sh"
# shellcheck source=tests/boot/kernel_machine.sh
. "$here/kernel_machine.sh"

net_possible || skip "network namespaces want root, and dnsmasq is needed"
need mcopy debugfs sfdisk
pi_prepare
net_folder=$daemon_dir/net
mkdir "$net_folder"
at_exit net_end_all
net_begin s

# --- the image: the Debian one, and in it another kernel and what installs it ---

cache=${LUNROOT_TEST_CACHE:-$HOME/.cache/lunroot-tests}/cloud-arm64
mkdir -p "$cache"
(
	flock 8
	[ -e "$cache/done" ] || { "$project/tools/foreign-debs" arm64 "$cache/root" linux-image-cloud-arm64 && touch "$cache/done"; }
) 8>"$cache.lock" || skip "no second kernel for arm64"
new_version=$(basename "$cache"/root/lib/modules/*)
old_version=$(basename "$pi_modules")
[ "$new_version" != "$old_version" ] || fail "two kernels of one version: $new_version"

image=$daemon_dir/base.img
pi_copy "$pi_disk_img" "$image" && chmod u+w "$image"
tar -C "$cache/root" -cf "$daemon_dir/kernel.tar" lib/modules boot
cat >"$daemon_dir/upgrade" <<-'END'
	#!/bin/busybox sh
	# What apt does when a kernel package comes: modules to /lib/modules, the kernel to the boot partition.
	. /usr/lib/lunroot-demo/common.sh
	be_init
	modprobe vfat && modprobe nls_cp437 && modprobe nls_ascii
	mkdir -p /run/firmware /run/new
	mount -t vfat /dev/sda1 /run/firmware || finish "the boot partition does not mount"
	tar -C / -xf /opt/kernel.tar lib/modules || finish "tar"
	tar -C /run/new -xf /opt/kernel.tar boot || finish "tar"
	cp /run/new/boot/vmlinuz-* /run/firmware/kernel8.img || finish "cp"
	umount /run/firmware || finish "umount"
	note "upgraded to $(ls /lib/modules | tr '\n' ' ')"
	finish
END
read -r start sectors < <(sfdisk --json "$image" | python3 -c '
import json, sys
p = json.load(sys.stdin)["partitiontable"]["partitions"][1]
print(p["start"], p["size"])')
dd if="$image" of="$daemon_dir/root.part" bs=512 skip="$start" count="$sectors" conv=sparse status=none
debugfs -w -f - "$daemon_dir/root.part" >/dev/null 2>&1 <<-END
	mkdir /opt
	cd /opt
	write $daemon_dir/kernel.tar kernel.tar
	cd /usr/lib/lunroot-demo
	write $daemon_dir/upgrade upgrade
	set_inode_field /usr/lib/lunroot-demo/upgrade mode 0100755
END
dd if="$daemon_dir/root.part" of="$image" bs=512 seek="$start" conv=notrunc,sparse status=none
rm "$daemon_dir/root.part" "$daemon_dir/kernel.tar"

# --- the servers ---

net_router s || fail "the router's DHCP"
"$pisim" --list --model 4=1 >"$net_folder/nodes"
read -r _ _ serial mac <"$net_folder/nodes"
net_tree "$net_folder/tree" small "$net_folder/nodes" || fail "no firmware tree"
printf '#!/bin/sh\nexec ip netns exec %s %s "$@"\n' "$(net_ns s server)" "$lunrootd" >"$daemon_dir/lunrootd"
chmod +x "$daemon_dir/lunrootd"
lunrootd=$daemon_dir/lunrootd
daemon_portal=10.77.0.2:3260
daemon_start
ctl import "$image" base >/dev/null || fail "import"
rm "$image"
boot_programs_ready || fail "no lunroot-init and busybox for arm64"

bootd_start() { # WORDS
	net_start s server "$daemon_dir/lunbootd.log" "$LUNROOT_BUILD/boot/lunbootd" --interface eth0 --socket "$daemon_dir/run/control.sock" \
		--run "$daemon_dir/boot" --programs "$boot_programs" --firmware "$net_folder/tree/firmware" --cmdline "$1" --user root --foreground
	bootd_pid=$net_pid
	net_await s server 69 || fail "lunbootd does not start: $(cat "$daemon_dir/lunbootd.log")"
}
bootd_stop() {
	kill "$bootd_pid" && wait "$bootd_pid" || fail "lunbootd ends with status $?"
}
bootd_start "console=serial0,115200 rw init=/usr/lib/lunroot-demo/init-crun"
! grep -E 'error|warn' "$daemon_dir/lunbootd.log" || fail "lunbootd complains"

# What it may still do: two rights, and writing below one folder.
net_run s server grep -q '^CapEff:.*0000000000003000$' "/proc/$bootd_pid/status" || fail "lunbootd has kept rights: $(grep ^Cap "/proc/$bootd_pid/status")"
grep -q '^NoNewPrivs:.*1$' "/proc/$bootd_pid/status" || fail "lunbootd may gain rights"

firmware() { # FOLDER DEADLINE
	rm -rf "$1"
	mkdir "$1"
	net_run s pis "$pisim" --interface eth0 --model 4=1 --rule file-timeout-ms=300000 --deadline "$2" --save "$1" >"$1.txt" 2>&1
}
field() { sed -n "s/^$2=//p" "$daemon_dir/$1.txt"; }
other_gets() { net_run s other curl -sf --max-time 5 "$1" -o "$daemon_dir/stolen"; }

# --- a Pi that nobody knows ---

firmware "$daemon_dir/unknown" 6 && fail "a Pi that belongs to no node was booted"
sleep 2
ctl ls --pending >"$daemon_dir/pending" || fail "ls --pending"
grep -q "$serial.*$mac.*Raspberry Pi 4" "$daemon_dir/pending" || fail "it is not shown as pending: $(cat "$daemon_dir/pending")"
ctl adopt "$serial" as pi-01 --image base >/dev/null || fail "adopt"
ctl ls --pending | grep -q "$serial" && fail "it is still pending"
say "ok: an unknown Pi is shown, and adopted"

# --- its first boot ---

boot_machine() { # NAME PATTERN
	local folder=$daemon_dir/$1.machine kernel
	firmware "$daemon_dir/$1" 300 || fail "$1: the firmware does not get its files: $(cat "$daemon_dir/$1.txt")"
	mkdir "$folder"
	kernel=$(field "$1" kernel)
	cp "$daemon_dir/$1/$kernel" "$folder/kernel"
	cp "$daemon_dir/$1/$(field "$1" initramfs)" "$folder/initramfs"
	cp "$daemon_dir/$1/$(field "$1" cmdline)" "$folder/cmdline.txt"
	other_gets "http://10.77.0.2:8069/lunroot.img" && fail "$1: another machine gets the settings by HTTP"
	other_gets "tftp://10.77.0.2/$serial/lunroot.img" && fail "$1: another machine gets the settings by TFTP"
	kernel_machine_start s "$1" virt "$folder" "$mac"
	pi_wait "$1" 'LUNROOT-DEMO (ok|failed)' 150
	machine_has "$1" 'LUNROOT-DEMO ok' || machine_failed "$1" "the demo failed"
	machine_has "$1" "logged in to iqn.2026-11.local.lunroot:pi-01 at 10\.77\.0\.2 port 3260" || machine_failed "$1" "no login"
	machine_has "$1" "$2" || machine_failed "$1" "it does not say: $2"
	pi_is_clean "$1"
	machine_end "$1" 120
	sleep 2
}

boot_machine first 'container: hello from aarch64'
machine_has first "Linux version $old_version " || machine_failed first "another kernel than $old_version"
ctl boots pi-01 --events >"$daemon_dir/events" || fail "boots"
for what in 'discover' 'offer' 'settings' 'login' 'report.*root' 'report.*switch'; do
	grep -q "$what" "$daemon_dir/events" || fail "the timeline lacks $what: $(cat "$daemon_dir/events")"
done
ctl why pi-01 >"$daemon_dir/why"
[ $? = 0 ] || fail "why: $(cat "$daemon_dir/why")"
say "ok: the bytes that the firmware fetched boot to a container: root after $(pi_seconds first 'lunroot: root is') s"
say "    $(head -n 3 "$daemon_dir/why" | tr '\n' ' ')"

# What it had is worth nothing to the next one: the settings are handed out once, and each boot has its own.
ctl --json auth pi-01 >"$daemon_dir/auth" || fail "auth"
grep -q '"used": "' "$daemon_dir/auth" || fail "the boot's credentials are not in use: $(cat "$daemon_dir/auth")"

# --- a kernel upgrade in the guest ---

bootd_stop
bootd_start "console=serial0,115200 rw init=/usr/lib/lunroot-demo/upgrade"
boot_machine upgrade "upgraded to .*$new_version"
say "ok: another kernel is installed in the guest: $new_version beside $old_version"
bootd_stop
bootd_start "console=serial0,115200 rw init=/usr/lib/lunroot-demo/init-crun"
boot_machine second 'container: hello from aarch64'
machine_has second "Linux version $new_version " || machine_failed second "the next boot does not use $new_version"
say "ok: the next boot runs $new_version with its own modules: root after $(pi_seconds second 'lunroot: root is') s"

daemon_kill TERM || fail "lunrootd ends with status $?"
bootd_stop
! grep -E 'error' "$daemon_dir/lunbootd.log" || fail "lunbootd complains"
