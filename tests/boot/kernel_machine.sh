# Where a Pi's firmware ends, an emulated machine goes on: with what it fetched, on the same Ethernet. Sourced, after net.sh and
# tests/pi/machine.sh, whose machine_wait and so on serve for it.
#
#   kernel_machine_start NET NAME virt|raspi3b FOLDER MAC [QEMU OPTION]...
#
# FOLDER has `kernel`, `initramfs`, `cmdline.txt` and, for raspi3b, `dtb` (virt has one of its own). On the bridge of NET the
# machine has a port of its own, NAME, which must be a name for an interface; its address is the router's affair.

kernel_machine_start() {
	local net=$1 name=$2 model=$3 folder=$4 mac=$5 bridge words file
	shift 5
	for file in kernel initramfs cmdline.txt; do
		[ -s "$folder/$file" ] || fail "$name: $folder has no $file"
	done
	bridge=$(net_ns "$net" bridge)
	ip -n "$bridge" link show "$name" >/dev/null 2>&1 || ip -n "$bridge" tuntap add "$name" mode tap || fail "no tap device $name"
	ip -n "$bridge" link set "$name" master br0 up || fail "no port for $name"
	# One line; the firmware says which port serial0 is.
	words=$(tr '\n' ' ' <"$folder/cmdline.txt" | sed 's/\bconsole=serial0\b/console=ttyAMA0/')
	# shellcheck disable=SC2034  # machine_start reads them
	pi_dtb=$folder/dtb machine_in="ip netns exec $bridge" machine_mac=$mac \
		machine_net=tap,id=n0,ifname=$name,script=no,downscript=no \
		machine_start "$name" "$model" "$folder/kernel" "$folder/initramfs" "$words" "$@"
}

# Its cable, at the switch: kernel_machine_link NET NAME up|down
kernel_machine_link() { ip -n "$(net_ns "$1" bridge)" link set "$2" "$3"; }
