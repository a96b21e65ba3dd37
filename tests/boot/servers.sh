# Boot servers that the simulated Pis boot from: sourced, not run. To add one, write start_NAME:
#
#   start_NAME NET TREE NODES     starts it in NET's server namespace with net_start and returns when it is
#                                 ready; TREE is a TFTP root (net_tree), NODES pisim's list of the Pis; the
#                                 process to be measured is left in server_pid
#
# and name it in success_servers below, with what it must reach in success_least (and, for storm.sh, in
# storm_servers and storm_all).

# As the Raspberry Pi network boot tutorial has it: a proxy beside the router's DHCP.
start_dnsmasq() {
	local log
	log=$(mktemp "$net_folder/server.XXXXXX")
	net_start "$1" server "$log" dnsmasq --keep-in-foreground --conf-file=/dev/null --user=root --pid-file= \
		--port=0 --interface=eth0 --bind-interfaces --dhcp-range=10.77.255.255,proxy \
		--pxe-service='0,Raspberry Pi Boot   ' --enable-tftp --tftp-root="$2" --log-facility="$log.dnsmasq" \
		"${@:4}"
	server_pid=$net_pid
	net_await "$1" server 69
}

# With the delay that the 3B's ROM wants.
start_dnsmasq_delay() { start_dnsmasq "$@" --dhcp-reply-delay=1; }

# What goes into the initramfs, made once.
boot_programs=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)/build/boot-programs
boot_programs_ready() {
	mkdir -p "${boot_programs%/*}"
	(
		flock 8
		[ -x "$boot_programs/busybox-arm64" ] && [ -x "$boot_programs/lunroot-init-arm64" ] ||
			"${boot_programs%/build/*}/tools/boot-programs" arm64 >&2
	) 8>"$boot_programs.lock"
}

# lunrootd with a node for each Pi, and lunbootd.
start_lunbootd() {
	local work node serial mac
	work=$(mktemp -d "$net_folder/lunboot.XXXXXX")
	lunboot_run=$(net_tmpfs "$1") # the live maps want one
	lunboot_log=$work/lunbootd.log
	export LUNROOT_SOCKET=$lunboot_run/control.sock
	mkdir "$work/state" "$work/boot"
	boot_programs_ready || return
	[ -e "$2.img" ] || base_image "$2" "$2.img" || return
	net_start "$1" server "$work/lunrootd.log" "$LUNROOT_BUILD/target/lunrootd" --state "$work/state" \
		--run "$lunboot_run" --portal 0.0.0.0:3260 --foreground --reserve 0
	for _ in $(seq 200); do
		"$LUNROOT_BUILD/tools/lunctl" ls >/dev/null 2>&1 && break
		sleep 0.05
	done
	"$LUNROOT_BUILD/tools/lunctl" import "$2.img" base >/dev/null 2>&1 || return
	while read -r node _ serial mac; do
		"$LUNROOT_BUILD/tools/lunctl" clone base "$node" --serial "$serial" --mac "$mac" >/dev/null 2>&1 || return
	done <"$3"
	net_start "$1" server "$lunboot_log" "$LUNROOT_BUILD/boot/lunbootd" --interface eth0 --socket "$LUNROOT_SOCKET" \
		--run "$work/boot" --programs "$boot_programs" --foreground "${@:4}"
	server_pid=$net_pid
	net_await "$1" server 69
}
# What success.sh tries when it is not told: servers, kinds of trouble and boots of each model, by
# LUNROOT_CHECK. The peer's whole table is measured in long runs; in the others its clean column shows
# that the simulator is no harder than Pis are.
success_servers() { # quick, full or long
	case $1 in
	long) echo lunbootd dnsmasq dnsmasq_delay ;;
	*) echo lunbootd dnsmasq_delay ;;
	esac
}
success_troubles() { # SERVER MODE
	case $1:$2 in
	*:quick | dnsmasq*:full) echo clean ;;
	*:full) echo clean loss5 loss10 twice5 order5 ;;
	*) echo clean loss1 loss5 loss10 twice5 order5 delay ;;
	esac
}
success_count() { # SERVER MODE
	case $1:$2 in
	*:quick | dnsmasq*:full) echo 20 ;;
	dnsmasq*:long) echo 60 ;;
	*:long) echo 1000 ;;
	*) echo 20 ;;
	esac
}

# How many Pis at a server in one go. dnsmasq serves 50 transfers, and those that a Pi gave up keep their
# places for up to two minutes: more than this would measure that.
success_at_once() { # SERVER
	case $1 in
	dnsmasq*) printf 20 ;;
	*) printf 20 ;;
	esac
}

# Whether each model has a server of its own, for the same reason.
success_models_apart() { [[ $1 = dnsmasq* ]]; }

# How many in a hundred must boot. Of 20 boots one is five: with loss a file can be lost for good whoever serves it (docs/boot.md).
success_least() { # SERVER TROUBLE
	case $1:$2 in
	lunbootd*) if grep -Eq '__asan_init|__tsan_init' "$LUNROOT_BUILD/boot/lunbootd"; then printf 40; else # much slower
		case $2 in
		clean) printf 100 ;;
		loss10) printf 85 ;;
		*) printf 95 ;;
		esac
	fi ;;
	*) printf 0 ;; # a peer's is only told
	esac
}

# storm.sh: what it tries when it is not told, and those that every Pi must boot from.
# shellcheck disable=SC2034  # read by storm.sh
storm_servers=lunbootd storm_all=lunbootd
