# Emulated Raspberry Pis on a private lunrootd: sourced.
#
#   pi_begin [IMAGE]         artefacts, initramfs ($pi_initrd), lunrootd with the image "base" (default: the
#                            bare ext4 root)
#   pi_prepare               of that all but lunrootd and its image
#   pi_clone NODE            a clone and its settings
#   pi_boot NODE raspi3b|virt WORDS [QEMU OPTION]...
#   pi_seconds NODE PATTERN  the kernel's time at the first such line
#   pi_is_clean NODE         its kernel did not complain of the disk or of a file system

# shellcheck source=tests/integration/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/../integration/lib.sh"
# shellcheck source=tests/init/conf.sh
. "$(dirname "${BASH_SOURCE[0]}")/../init/conf.sh"
# shellcheck source=tests/pi/machine.sh
. "$(dirname "${BASH_SOURCE[0]}")/machine.sh"
# shellcheck source=tests/pi/artefacts.sh
. "$(dirname "${BASH_SOURCE[0]}")/artefacts.sh"

# Slower machines than the one that this was written on.
pi_patience=${LUNROOT_TEST_PATIENCE:-3}

pi_begin() {
	pi_prepare
	daemon_start
	ctl import "${1:-$pi_root_img}" base >/dev/null || fail "import"
}

pi_prepare() {
	local cache=${LUNROOT_TEST_CACHE:-$HOME/.cache/lunroot-tests}/busybox-arm64
	need qemu-system-aarch64 mmdebstrap cpio python3
	daemon_begin
	pi_artefacts || skip "the arm64 image can't be made"
	[ -e "$cache/done" ] || {
		"$project/tools/foreign-debs" arm64 "$cache" busybox-static && touch "$cache/done"
	} || skip "busybox for arm64 can't be had"
	"$project/tools/build-init" arm64 >"$daemon_dir/build-init.log" 2>&1 || {
		cat "$daemon_dir/build-init.log" >&2
		fail "lunroot-init does not build"
	}
	pi_busybox=$(find "$cache" -path "*bin/busybox" -type f | head -n 1)
	pi_init=$project/build/init-arm64/lunroot-init
	pi_initrd=$daemon_dir/initramfs
	pi_initramfs "$pi_initrd"
}

pi_initramfs() { # OUT [OPTION]...
	local out=$1
	shift
	"$project/tools/mkinitramfs" --modules "$pi_modules" --init "$pi_init" --busybox "$pi_busybox" --board all "$@" "$out" >"$daemon_dir/mkinitramfs.log" 2>&1 || {
		cat "$daemon_dir/mkinitramfs.log" >&2
		fail "mkinitramfs"
	}
}

pi_clone() {
	ctl clone base "$1" >/dev/null || fail "clone $1"
	node_conf "$1"
}

pi_boot() {
	local node=$1 model=$2 words=$3 console=ttyAMA0
	shift 3
	[ "$model" = virt ] || console=ttyAMA0,115200
	cat "$pi_initrd" "$daemon_dir/$node.cpio" >"$daemon_dir/$node.initrd"
	machine_start "$node" "$model" "$pi_kernel" "$daemon_dir/$node.initrd" "console=$console $words" "$@"
}

pi_wait() { machine_wait "$1" "$2" $(($3 * pi_patience)); }

pi_seconds() {
	machine_console "$1" | grep -aE -e "$2" | sed -n '1s/^\[ *\([0-9.]*\)\].*/\1/p'
}

pi_is_clean() {
	! machine_console "$1" |
		grep -aE 'I/O error|EXT4-fs (error|warning)|Remounting filesystem read-only|rejecting I/O|blocked for more than|FAILED Result' ||
		machine_failed "$1" "the kernel complained"
}
