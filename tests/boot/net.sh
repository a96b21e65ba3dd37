# A small network in namespaces for the boot tests: sourced, not run.
#
#     router 10.77.0.1     DHCP for addresses, nothing else
#     server 10.77.0.2     the boot server under test
#     other  10.77.0.3     another host: an attacker, a second server, a PC
#     pis    no address    where the simulator's interface is
#
# joined by a bridge that has a namespace of its own, so that the host's network is left alone. A
# network has a name of its own, so that several can exist at once, one for each column of a table.
#
#   net_begin NAME              makes it; net_end NAME takes it away, with what was started in it
#   net_run NAME HOST CMD...    runs a command there: net_run a server ip addr
#   net_start NAME HOST LOG CMD...   runs it in the background until net_end; pid in net_pid
#   net_router NAME [NODES]     the router's DHCP; with a list of Pis (pisim --list) it reserves addresses
#   net_replug NAME HOST        its link goes, and comes back
#   net_tree DIR small|real NODES    a firmware tree as a TFTP server wants it: S/ for each Pi
#
# The sourcing script's exit trap must call net_end_all.

set -u
: "${LUNROOT_BUILD:=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)/build}"
pisim=${PISIM:-$LUNROOT_BUILD/tests/boot/pisim}
PATH=$PATH:/usr/sbin:/sbin
net_names=()
declare -A net_pids=()

net_possible() {
	local probe=boot$$-probe
	[ "$(id -u)" = 0 ] && command -v ip dnsmasq python3 >/dev/null && ip netns add "$probe" 2>/dev/null &&
		ip netns exec "$probe" true 2>/dev/null && ip netns del "$probe"
}

# The namespace of a host: unique on this machine while this shell lives.
net_ns() { printf 'boot%s-%s-%s' "$$" "$1" "$2"; }
net_run() {
	local ns
	ns=$(net_ns "$1" "$2")
	shift 2
	ip netns exec "$ns" "$@"
}

net_start() {
	local name=$1 host=$2 log=$3
	shift 3
	# exec: the pid is the program's own.
	ip netns exec "$(net_ns "$name" "$host")" "$@" >>"$log" 2>&1 </dev/null &
	net_pid=$!
	net_pids[$name]="${net_pids[$name]-} $net_pid"
}

net_begin() {
	local name=$1 host address bridge
	net_names+=("$name")
	net_pids[$name]=
	bridge=$(net_ns "$name" bridge)
	ip netns add "$bridge"
	ip -n "$bridge" link add br0 type bridge stp_state 0 forward_delay 0 mcast_snooping 0
	ip -n "$bridge" link set br0 up
	for host in router:10.77.0.1/16 server:10.77.0.2/16 other:10.77.0.3/16 pis:; do
		address=${host#*:} host=${host%%:*}
		ip netns add "$(net_ns "$name" "$host")"
		ip netns exec "$(net_ns "$name" "$host")" sysctl -qw net.ipv6.conf.all.disable_ipv6=1
		ip -n "$bridge" link add "$host" type veth peer name eth0 netns "$(net_ns "$name" "$host")"
		ip -n "$bridge" link set "$host" master br0 up
		ip -n "$(net_ns "$name" "$host")" link set lo up
		ip -n "$(net_ns "$name" "$host")" link set eth0 txqueuelen 20000
		if [ -n "$address" ]; then
			ip -n "$(net_ns "$name" "$host")" addr add "$address" dev eth0
		else
			ip -n "$(net_ns "$name" "$host")" link set eth0 arp off promisc on
		fi
		ip -n "$(net_ns "$name" "$host")" link set eth0 up
	done
}

# A folder on tmpfs that goes with the network.
net_tmpfs() {
	local folder
	mkdir -p "/dev/shm/lunroot-$$-$1"
	folder=$(mktemp -d "/dev/shm/lunroot-$$-$1/XXXXXX") && printf '%s\n' "$folder"
}

net_end() {
	local name=$1 pid host running
	# What has ended, and was waited for, has a number that may be somebody else's by now.
	running=$(jobs -rp)
	for pid in ${net_pids[$name]-}; do
		! grep -qx "$pid" <<<"$running" || kill "$pid" 2>/dev/null
	done
	for pid in ${net_pids[$name]-}; do
		wait "$pid" 2>/dev/null
	done
	net_pids[$name]=
	rm -rf "/dev/shm/lunroot-$$-$name"
	for host in router server other pis bridge; do
		ip netns del "$(net_ns "$name" "$host")" 2>/dev/null
	done
}

net_end_all() {
	local name
	for name in "${net_names[@]}"; do net_end "$name"; done
	net_names=()
}

# Waits until something is bound to a UDP port there: net_await NAME HOST PORT
net_await() {
	local i hex
	hex=$(printf ':%04X ' "$3")
	for ((i = 0; i < 400; i++)); do
		net_run "$1" "$2" grep -qi "$hex" /proc/net/udp && return
		sleep 0.05
	done
	printf 'nobody listens on UDP port %s of %s\n' "$3" "$2" >&2
	return 1
}

# The cable is pulled until the program that listens there has closed its packet sockets, and plugged in until it has opened
# them anew: net_replug NAME HOST
net_replug() {
	local state i
	for state in down up; do
		net_run "$1" "$2" ip link set eth0 "$state"
		for ((i = 0; i < 400; i++)); do
			[ "$(net_run "$1" "$2" awk 'NR == 2 { print "up" }' /proc/net/packet)" = "${state#down}" ] && continue 2
			sleep 0.05
		done
		printf 'the packet sockets of %s do not follow eth0: %s\n' "$2" "$state" >&2
		return 1
	done
}

# Addresses only, as a home router gives them. Without no-ping it would be silent for up to 3 s
# before each first offer, which a Pi sees on no router but this one.
net_router() {
	local name=$1 nodes=${2-} folder
	folder=$(mktemp -d "$net_folder/router.XXXXXX")
	if [ -n "$nodes" ]; then
		awk '{ printf "%s,10.77.%d.%d\n", $4, 16 + int(NR / 250), 1 + NR % 250 }' "$nodes" >"$folder/hosts"
	else
		: >"$folder/hosts"
	fi
	net_start "$name" router "$folder/log" dnsmasq --keep-in-foreground --conf-file=/dev/null --user=root \
		--pid-file= --port=0 --interface=eth0 --bind-interfaces --no-ping --dhcp-authoritative \
		--dhcp-range=10.77.16.0,10.77.215.255,255.255.0.0,1h --dhcp-option=3,10.77.0.1 \
		--dhcp-lease-max=20000 --dhcp-hostsfile="$folder/hosts" --dhcp-leasefile="$folder/leases" \
		--log-facility="$folder/dnsmasq.log"
	net_await "$name" router 67
}

# The files of a firmware release for every model; "real" has the sizes of 2025's. All Pis share one
# folder by symbolic links.
net_tree() {
	local to=$1 size=$2 nodes=$3 name bytes
	mkdir -p "$to/firmware/overlays"
	while read -r name small real; do
		bytes=$real
		[ "$size" = real ] || bytes=$small
		"$pisim" --fill "$to/firmware/$name=$bytes" || return 1
	done <<-END
		bootcode.bin 12000 52476
		start.elf 32768 2983000
		start4.elf 32768 2256000
		fixup.dat 3000 7300
		fixup4.dat 3000 5450
		bcm2710-rpi-3-b.dtb 12000 34200
		bcm2710-rpi-3-b-plus.dtb 12000 34900
		bcm2711-rpi-4-b.dtb 12000 56300
		bcm2712-rpi-5-b.dtb 12000 78400
		overlays/overlay_map.dtb 2000 5300
		overlays/vc4-kms-v3d.dtbo 1500 2760
		overlays/disable-bt.dtbo 1000 1073
		kernel8.img 131072 9500000
		kernel_2712.img 131072 9600000
		initramfs8 65536 11000000
		initramfs_2712 65536 11000000
	END
	printf '%s\n' 'arm_64bit=1' 'auto_initramfs=1' 'dtoverlay=vc4-kms-v3d' '[pi3]' 'dtoverlay=disable-bt' '[all]' \
		'enable_uart=1' >"$to/firmware/config.txt"
	printf 'console=serial0,115200 console=tty1 root=/dev/sda2 rootfstype=ext4 rootwait\n' >"$to/firmware/cmdline.txt"
	mv "$to/firmware/bootcode.bin" "$to/bootcode.bin"
	while read -r _ _ name _; do
		ln -s firmware "$to/$name"
	done <"$nodes"
}
