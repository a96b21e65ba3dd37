#!/bin/sh
# Sourced by dracut when it reads the command line: where a node's settings are found, root is what
# lunroot-init will find on the node's own disk, whatever stands behind root=, and the network is
# needed.
command -v lunroot_wanted >/dev/null || . /lib/lunroot-lib.sh

# Says nothing when the kernel's command line has its own.
lunroot_network() {
	if lunroot_ip=$(lunroot_setting ip); then
		printf 'ip=%s\n' "$lunroot_ip"
	elif ! getarg ip= >/dev/null; then
		if lunroot_interface=$(lunroot_setting interface); then
			printf 'ip=%s:dhcp\n' "$lunroot_interface"
		else
			echo "ip=dhcp"
		fi
	fi
}

if lunroot_wanted; then
	# shellcheck disable=SC2034  # dracut's variables
	root=block:/dev/lunroot/root rootok=1
	lunroot_network=$(lunroot_network)
	if [ -n "$lunroot_network" ]; then
		echo "$lunroot_network" >>/etc/cmdline.d/41-lunroot.conf
		# systemd-networkd's part reads the kernel's line alone, but takes another one.
		for lunroot_file in /usr/lib/systemd/systemd-network-generator /lib/systemd/systemd-network-generator; do
			[ ! -x "$lunroot_file" ] || {
				"$lunroot_file" -- "$lunroot_network"
				break
			}
		done
	fi
	echo "rd.neednet=1" >>/etc/cmdline.d/41-lunroot.conf
	echo '[ -e /dev/lunroot/root ]' >"$hookdir/initqueue/finished/lunroot.sh"
fi
