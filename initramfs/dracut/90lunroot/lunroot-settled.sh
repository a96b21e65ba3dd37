#!/bin/sh
# Sourced by dracut again and again while it waits for root: as soon as there is an address, begins
# the login, once. Whoever set the address (dracut's scripts, NetworkManager, systemd-networkd, the
# kernel) need not know about us.
command -v lunroot_wanted >/dev/null || . /lib/lunroot-lib.sh

lunroot_begin() {
	[ ! -e /tmp/lunroot-login ] || return 0
	lunroot_wanted || return 0
	[ -n "$(ip -o addr show scope global up)" ] || return 0
	lunroot_path='' lunroot_server=''
	# What DHCP said: dracut's own scripts and NetworkManager, then systemd-networkd.
	for lunroot_file in /tmp/dhclient.*.dhcpopts; do
		[ -e "$lunroot_file" ] || continue
		# shellcheck disable=SC1090
		. "$lunroot_file"
		lunroot_path=${new_root_path-} lunroot_server=${new_dhcp_server_identifier-}
		[ -z "$lunroot_path" ] || break
	done
	for lunroot_file in /run/systemd/netif/leases/*; do
		[ -z "$lunroot_path" ] && [ -e "$lunroot_file" ] || continue
		while read -r lunroot_line; do
			case $lunroot_line in
			ROOT_PATH=*) lunroot_path=${lunroot_line#*=} ;;
			SERVER_ADDRESS=*) lunroot_server=${lunroot_line#*=} ;;
			esac
		done <"$lunroot_file"
	done
	# Another interface may still bring it.
	[ -n "$lunroot_path" ] || ! lunroot_dhcp_only || return 0
	: >/tmp/lunroot-login
	# Not waited for here: further interfaces come up by the same queue.
	setsid /sbin/lunroot-login "$lunroot_path" "$lunroot_server" </dev/null &
}
lunroot_begin
