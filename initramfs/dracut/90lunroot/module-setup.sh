#!/bin/bash
# dracut's module for lunroot-init: with it an initramfs by dracut logs a node in to its disk. Does
# something only when a node's settings are found at boot. Lies in dracut's modules.d/90lunroot.
#
# LUNROOT_INIT in the environment names another lunroot-init, LUNROOT_LIB another lunroot-lib.sh.

lunroot_first() {
	local file
	for file in "$@"; do
		if [[ -n $file && -e $file ]]; then
			echo "$file"
			return 0
		fi
	done
	return 1
}

lunroot_init() {
	lunroot_first "$LUNROOT_INIT" "${dracutsysrootdir-}"/usr/{libexec/lunroot,sbin,local/sbin,local/bin,bin}/lunroot-init
}

lunroot_lib() {
	lunroot_first "$LUNROOT_LIB" "${dracutsysrootdir-}"/usr/{libexec,local/libexec}/lunroot/lunroot-lib.sh
}

# Called by dracut. In an initramfs for this machine alone only if this machine is a node.
check() {
	lunroot_init >/dev/null || return 1
	if [[ ${hostonly-} ]]; then
		[[ -e /run/udev/rules.d/61-lunroot.rules || -e /etc/lunroot/node.conf ]] || return 255
	fi
	return 0
}

depends() {
	echo base network rootfs-block
}

installkernel() {
	# The disk is not there while the initramfs is made, so dracut can't see what it needs.
	hostonly='' instmods af_packet iscsi_tcp sd_mod ext4 crc32c crc32c_generic
}

install() {
	local init lib
	init=$(lunroot_init) && lib=$(lunroot_lib) || {
		dfatal "lunroot: lunroot-init or lunroot-lib.sh is missing"
		return 1
	}
	inst_binary "$init" /sbin/lunroot-init
	inst_simple "$lib" /lib/lunroot-lib.sh
	inst_multiple ip readlink udevadm setsid mkdir
	# Before parse-block (95) looks at root, and before the network's own (98).
	inst_hook cmdline 89 "$moddir/parse-lunroot.sh"
	inst_hook initqueue/settled 50 "$moddir/lunroot-settled.sh"
	inst_script "$moddir/lunroot-login.sh" /sbin/lunroot-login
	if dracut_module_included systemd-initrd; then
		inst_script "$moddir/lunroot-generator.sh" "$systemdutildir/system-generators/dracut-lunroot-generator"
	fi
	if [[ -e /etc/lunroot/node.conf ]]; then
		mkdir -p "$initdir/etc/lunroot"
		install -m 600 /etc/lunroot/node.conf "$initdir/etc/lunroot/node.conf"
	fi
	dracut_need_initqueue
}
