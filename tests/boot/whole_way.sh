#!/bin/bash
# From a kernel on an Ethernet with a router, a server and nothing else to a container on a disk of the server's: the address by
# DHCP, the login, root, the real init, crun. What the firmware would have fetched comes from lunctl initramfs.
here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=tests/pi/pi.sh
. "$here/../pi/pi.sh"
# shellcheck source=tests/init/reports_lib.sh
. "$here/../init/reports_lib.sh"
# shellcheck source=tests/boot/net.sh
. "$here/net.sh"
# shellcheck source=tests/boot/kernel_machine.sh
. "$here/kernel_machine.sh"

net_possible || skip "network namespaces want root, and dnsmasq is needed"
pi_prepare
net_folder=$daemon_dir/net
mkdir "$net_folder"
at_exit net_end_all
net_begin w
net_router w || fail "the router's DHCP"

# lunrootd where it belongs; its control socket is in the file system, so lunctl stays here.
node_in="ip netns exec $(net_ns w server)"
printf '#!/bin/sh\nexec %s %s "$@"\n' "$node_in" "$lunrootd" >"$daemon_dir/lunrootd"
chmod +x "$daemon_dir/lunrootd"
lunrootd=$daemon_dir/lunrootd
daemon_portal=10.77.0.2:3260
daemon_start # its portal is all it is told
ctl import "$pi_root_img" base >/dev/null || fail "import"
# shellcheck disable=SC2086
reports_begin $node_in

# As a firmware leaves it in memory.
fetch() { # NODE
	local folder=$daemon_dir/$1.fetched
	mkdir "$folder"
	ctl clone base "$1" >/dev/null || fail "clone $1"
	ctl initramfs "$1" "$folder/initramfs" --modules "$pi_modules" --init "$pi_init" --busybox "$pi_busybox" \
		--report "10.77.0.2:$reports_port/$reports_token" >/dev/null || fail "initramfs of $1"
	cp "$pi_kernel" "$folder/kernel"
	cp "$pi_dtb" "$folder/dtb"
	printf 'console=serial0,115200 rw init=/usr/lib/lunroot-demo/init-crun\n' >"$folder/cmdline.txt"
}

whole_way() { # NODE MODEL MAC INTERFACE
	fetch "$1"
	reports_forget
	kernel_machine_start w "$1" "$2" "$daemon_dir/$1.fetched" "$3"
	pi_wait "$1" 'LUNROOT-DEMO (ok|failed)' 150
	machine_has "$1" 'LUNROOT-DEMO ok' || machine_failed "$1" "the demo failed"
	for pattern in "lunroot: $4: 10\.77\.[0-9.]* from DHCP server 10\.77\.0\.1" \
		"logged in to iqn.2026-11.local.lunroot:$1 at 10\.77\.0\.2 port 3260" 'container: hello from aarch64'; do
		machine_has "$1" "$pattern" || machine_failed "$1" "it does not say: $pattern"
	done
	grep -qi "$3" "$net_folder"/router.*/leases || fail "$1: the router has no lease for $3"
	pi_is_clean "$1"
	reports_are 'start .*' "network $4 10\\.77\\.[0-9.]+" 'login 10\.77\.0\.2 port 3260' 'disk sda LUN 0, .*' 'root ext4 /dev/sda' \
		'switch /usr/lib/lunroot-demo/init-crun' 'switch init runs'
	say "ok: $2: root after $(pi_seconds "$1" 'lunroot: root is') s, $(machine_console "$1" | grep -ao 'container done: .* start')"
	machine_end "$1" 120
	# Power went before TCP could say so: for lunrootd the node is still there.
	daemon_kill TERM
	daemon_start
	node_fsck "$1"
}

whole_way pi-01 virt 52:54:00:77:01:01 eth0
# Its emulated Ethernet, on USB 1.1, moves a quarter of a megabyte in a second.
[ "${LUNROOT_CHECK:-full}" = quick ] || whole_way pi-02 raspi3b 52:54:00:77:01:02 usb0
daemon_ends_well
