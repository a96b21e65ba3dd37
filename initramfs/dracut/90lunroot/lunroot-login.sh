#!/bin/sh
# Logs in to the node's disk and leaves the keeper behind: lunroot-login ROOT-PATH DHCP-SERVER
PATH=/usr/sbin:/usr/bin:/sbin:/bin
. /lib/lunroot-lib.sh

for module in iscsi_tcp sd_mod; do modprobe -q "$module" || :; done
# It says on the console what it does and what is wrong.
lunroot-init login --root-path "$1" --dhcp-server "$2" || exit 1
# The DHCP client of the initramfs ends with it. Until the real system's own has the lease, the
# kernel must not take the address away: the root disk hangs on it.
ip -o -4 addr show scope global up | while read -r _ interface _ address _; do
	ip addr change "$address" dev "$interface" valid_lft forever preferred_lft forever
done
lunroot_keep_links
