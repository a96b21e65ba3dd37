# What the emulated Pis boot, made once by tools/mkroot and kept in the test cache: sourced.
#
#   pi_artefacts     makes what is missing or older than its recipe, and sets
#     pi_root_img    a bare ext4 root with Docker, crun and the demo (label rootfs)
#     pi_disk_img    the same as a whole disk: MBR, FAT boot partition, ext4 root
#     pi_kernel      vmlinuz of Debian's arm64 kernel
#     pi_dtb         the device tree for QEMU's raspi3b; pi_dtbs: all of them
#     pi_modules     its lib/modules/VERSION
#
# They are shared and never written: lunctl import reads them, and who wants one as a drive
# takes a copy (pi_copy FROM TO).

pi_project=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)

pi_copy() { cp --sparse=always --reflink=auto "$1" "$2"; }

# Its last words on stderr and status 1 when it cannot be done: 77 is the caller's to say.
pi_artefacts() {
	local home=${LUNROOT_TEST_CACHE:-$HOME/.cache/lunroot-tests}/pi stamp log dir status=0
	stamp=$(cat "$pi_project/tools/mkroot" "$pi_project"/tools/demo/* "${BASH_SOURCE[0]}" | sha256sum | cut -c 1-16)
	dir=$home/$stamp
	mkdir -p "$home"
	(
		flock 8
		[ ! -e "$dir/done" ] || exit 0
		log=$home/mkroot.log
		rm -rf "$dir"
		mkdir "$dir"
		common=(--demo --hostname pi --root-password lunroot --cache "$home/cache")
		"$pi_project/tools/mkroot" "${common[@]}" --format ext4 --size 2G --kernel "$dir" "$dir/root.img" >"$log" 2>&1 8>&- &&
			"$pi_project/tools/mkroot" "${common[@]}" --format disk --size 2G "$dir/disk.img" >>"$log" 2>&1 8>&- || {
			tail -n 20 "$log" >&2
			exit 1
		}
		chmod a-w "$dir"/*.img
		# Those of older recipes, unless another test may still boot them.
		find "$home" -mindepth 1 -maxdepth 1 -type d ! -name "$stamp" ! -name cache -mmin +300 \
			-exec rm -rf {} +
		touch "$dir/done"
	) 8>"$home/lock" || status=1
	[ $status = 0 ] || return 1
	# shellcheck disable=SC2034  # for who sources this
	{
		pi_root_img=$dir/root.img
		pi_disk_img=$dir/disk.img
		pi_kernel=$dir/vmlinuz
		pi_dtbs=$dir/dtbs
		pi_dtb=$dir/dtbs/broadcom/bcm2837-rpi-3-b.dtb
		pi_modules=$(echo "$dir"/lib/modules/*)
	}
}
