# Shared by tools/quickstart, tools/check and their helpers: what lunroot needs from Debian, and how
# it is installed. To be sourced.

# shellcheck disable=SC2034  # read by those who source this file
LIBRARY_PACKAGES="liburing-dev libevent-dev libssl-dev libisal-dev libjansson-dev libsqlite3-dev
libext2fs-dev libblkid-dev libarchive-dev uuid-dev libmd-dev libcap-ng-dev"
TEST_LIBRARY_PACKAGES="libcmocka-dev libiscsi-dev libfuse3-dev"
BUILD_PACKAGES="gcc libc6-dev meson ninja-build pkg-config $LIBRARY_PACKAGES"
# A user's programs, and what the daemon calls.
RUN_PACKAGES="e2fsprogs"
# Initiators that nobody of us wrote, and the demo's tools.
DEMO_PACKAGES="libiscsi-bin qemu-utils qemu-block-extra"
# What machines without a disk boot with, to be served.
BOOT_CLIENT_PACKAGES="qemu-system-arm qemu-efi-aarch64 u-boot-qemu curl tftp-hpa atftp"
CHECK_PACKAGES="$TEST_LIBRARY_PACKAGES fuse3 clang clang-format clang-tidy libclang-rt-14-dev llvm-14
gcc-aarch64-linux-gnu libc6-dev-arm64-cross qemu-user-static $DEMO_PACKAGES fio tgt sqlite3 python3
xz-utils zstd gzip qemu-system-x86 ipxe-qemu binutils busybox-static cpio kmod dnsmasq-base iproute2 procps util-linux
fdisk dosfstools btrfs-progs xfsprogs f2fs-tools squashfs-tools erofs-utils e2fsck-static
nftables $BOOT_CLIENT_PACKAGES"
# lunroot-init for 64-bit Pis (tools/build-init), and what is packed around it (tools/mkinitramfs).
INIT_PACKAGES="gcc-aarch64-linux-gnu libc6-dev-arm64-cross libmd-dev kmod cpio zstd"
# For the other kinds of machine, and for the initramfs of distributions.
INIT_CHECK_PACKAGES="gcc-arm-linux-gnueabihf libc6-dev-armhf-cross gcc-arm-linux-gnueabi libc6-dev-armel-cross
initramfs-tools-core dracut-core dracut-network"
# Emulated Pis and what they boot: tools/mkroot --list-needs, QEMU, and reading what is made.
PI_PACKAGES="qemu-system-arm mmdebstrap arch-test qemu-user-static debian-archive-keyring e2fsprogs
dosfstools mtools fdisk zstd openssl busybox-static cpio kmod python3"

say() { printf '%s\n' "$*"; }
complain() { printf '%s\n' "$*" >&2; }

as_root() {
	if [ "$(id -u)" = 0 ]; then
		"$@"
	elif command -v sudo >/dev/null; then
		sudo "$@"
	else
		complain "this step needs root: $*"
		complain "run it as root, or install sudo"
		return 1
	fi
}

# Installs the packages that are missing; says nothing when none is.
need_packages() {
	local missing=() package
	for package in "$@"; do
		# A package that only another one provides would never count as installed: name real ones.
		[ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null)" = installed ] || missing+=("$package")
	done
	[ ${#missing[@]} -gt 0 ] || return 0
	say "installing: ${missing[*]}"
	as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq -o Dpkg::Use-Pty=0 update >/dev/null ||
		complain "apt-get update failed; going on with the package lists that are there"
	if ! as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq -o Dpkg::Use-Pty=0 -y \
		--no-install-recommends install "${missing[@]}" </dev/null >/tmp/lunroot-apt.$$ 2>&1; then
		tail -20 /tmp/lunroot-apt.$$ >&2
		rm -f /tmp/lunroot-apt.$$
		complain "apt-get could not install: ${missing[*]}"
		return 1
	fi
	rm -f /tmp/lunroot-apt.$$
}
