#!/bin/sh
# Shared by the steps that put lunroot-init into a distribution's initramfs, dracut's and that of
# initramfs-tools: is the disk ours, what do the settings say of the network, and what the real
# system shall find. To be sourced; plain POSIX shell without other programs, for klibc has few.

lunroot_conf=/etc/lunroot/node.conf

# Whether anybody said that root is on an iSCSI disk of ours: appended settings, or a word lunroot=
# or lunroot.KEY on the kernel's command line. Else nothing of this does anything.
lunroot_wanted() {
	[ ! -e "$lunroot_conf" ] || return 0
	read -r lunroot_words </proc/cmdline || :
	case " $lunroot_words" in
	*" lunroot="* | *" lunroot."*) return 0 ;;
	esac
	return 1
}

# Whether all that is known comes by DHCP, so that login makes no sense without a root path.
lunroot_dhcp_only() {
	[ ! -e "$lunroot_conf" ] || return 1
	read -r lunroot_words </proc/cmdline || :
	case " $lunroot_words " in
	*" lunroot=dhcp "*) ;;
	*) return 1 ;;
	esac
	case " $lunroot_words " in
	*" lunroot.portal="* | *" lunroot.target="*) return 1 ;;
	esac
	return 0
}

# lunroot_setting KEY: its value on standard output; node.conf goes before the command line.
lunroot_setting() {
	if [ -e "$lunroot_conf" ]; then
		while read -r lunroot_line || [ -n "$lunroot_line" ]; do
			case $lunroot_line in
			"$1="*)
				printf '%s\n' "${lunroot_line#*=}"
				return 0
				;;
			esac
		done <"$lunroot_conf"
	fi
	read -r lunroot_words </proc/cmdline || :
	for lunroot_word in $lunroot_words; do
		case $lunroot_word in
		"lunroot.$1="*)
			printf '%s\n' "${lunroot_word#*=}"
			return 0
			;;
		esac
	done
	return 1
}

# After the login: udev learns about the two links, here and (for /run stays) in the real system;
# without that systemd would know no device by these names, and udev might take them away.
lunroot_keep_links() {
	lunroot_disk=$(readlink /dev/lunroot/disk) && lunroot_root=$(readlink /dev/lunroot/root) || return 1
	mkdir -p /run/udev/rules.d
	{
		printf 'SUBSYSTEM=="block", KERNEL=="%s", SYMLINK+="lunroot/disk"\n' "${lunroot_disk##*/}"
		printf 'SUBSYSTEM=="block", KERNEL=="%s", SYMLINK+="lunroot/root"\n' "${lunroot_root##*/}"
	} >/run/udev/rules.d/61-lunroot.rules
	udevadm control --reload
	udevadm trigger --action=change "/sys/class/block/${lunroot_disk##*/}" "/sys/class/block/${lunroot_root##*/}"
}
