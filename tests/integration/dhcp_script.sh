#!/bin/bash
# The script that busybox's udhcpc calls in the initramfs: addresses, routes, name servers and the
# lease file, and above all what it must not do once the root disk hangs on the address. In a
# network namespace, with busybox and nothing else in the root folder.
#
#   dhcp_script.sh SCRIPT
set -euo pipefail
script=$(realpath "$1")
busybox=$(command -v busybox || true)
if [ "$(id -u)" != 0 ] || [ -z "$busybox" ]; then
	echo "SKIP: needs root (a network namespace) and busybox-static"
	exit 77
fi
if [ -z "${DHCP_SCRIPT_IN_NAMESPACE-}" ]; then
	unshare -n true 2>/dev/null || {
		echo "SKIP: no network namespaces here"
		exit 77
	}
	exec env DHCP_SCRIPT_IN_NAMESPACE=1 unshare -n "$0" "$script"
fi

root=$(mktemp -d)
trap 'rm -rf "$root" "$root.run"' EXIT
mkdir -p "$root"/{bin,etc/lunroot,run,dev}
cp "$busybox" "$root/bin/busybox"
ln -s busybox "$root/bin/sh"
install -m 755 "$script" "$root/etc/lunroot/dhcp"
ip link add v0 type veth peer name v1
ip link set v1 up

fail() {
	echo "FAILED: $*" >&2
	ip addr show v0 >&2
	ip route >&2
	exit 1
}
# event NAME [VARIABLE=VALUE]...; what it says is in $root/dev/kmsg afterwards.
event() {
	local name=$1
	shift
	[ ! -e "$root/dev" ] || : >"$root/dev/kmsg"
	chroot "$root" /bin/busybox env -i interface=v0 "$@" /etc/lunroot/dhcp "$name" ||
		fail "$name: status $?"
}
says() { grep -q -e "$1" "$root/dev/kmsg" || fail "not said: $1"; }
has_address() { grep -q " $1 " <<<"$(ip -4 -o addr show v0)" || fail "no address $1"; }
has_route() { grep -q "^$1" <<<"$(ip route)" || fail "no route $1"; }
lease_has() { grep -qx -e "$1" "$root/run/lunroot/lease" || fail "the lease file has no line $1"; }

event deconfig
grep -q '[<,]UP[,>]' <<<"$(ip -o link show v0)" || fail "not up before the first question"

event leasefail
says 'v0: no DHCP server answers'
event leasefail
[ ! -s "$root/dev/kmsg" ] || fail "says the same thing twice"

event bound ip=10.9.0.5 mask=24 router='10.9.0.1 10.9.0.2' dns='10.9.0.1 10.9.0.3' domain=rack.lan \
	hostname=pi-07 serverid=10.9.0.1 siaddr=10.9.0.4 lease=60 \
	rootpath='iscsi:10.9.0.1::::iqn.2026-11.local.lunroot:pi-07
ip=192.0.2.66'
has_address 10.9.0.5/24
has_route 'default via 10.9.0.1 '
! grep -q 'valid_lft [0-9]' <<<"$(ip -4 addr show v0)" || fail "the address has a lifetime"
for line in interface=v0 ip=10.9.0.5 mask=24 'router=10.9.0.1 10.9.0.2' 'dns=10.9.0.1 10.9.0.3' domain=rack.lan \
	hostname=pi-07 rootpath=iscsi:10.9.0.1::::iqn.2026-11.local.lunroot:pi-07 serverid=10.9.0.1 \
	siaddr=10.9.0.4 lease=60; do
	lease_has "$line"
done
! grep -q 192.0.2.66 "$root/run/lunroot/lease" || fail "a root path wrote a line of its own"
grep -qx 'nameserver 10.9.0.3' "$root/etc/resolv.conf" || fail "no name servers"
grep -qx 'search rack.lan' "$root/etc/resolv.conf" || fail "no domain"

# From here on the disk hangs on the address. What is left to udhcpc is what initramfs/root.c lets
# stay: /run and /dev are the real system's.
touch "$root/etc/lunroot/root-mounted"
mv "$root/run" "$root.run"
rm -rf "${root:?}/dev" "$root"/etc/lunroot/dhcp-said-*
event deconfig
has_address 10.9.0.5/24
has_route 'default via 10.9.0.1 '

# The real system's routes and names stay as they are.
ip route replace default via 10.9.0.7 dev v0
echo 'nameserver 192.0.2.1' >"$root/etc/resolv.conf"
event renew ip=10.9.0.5 mask=24 router=10.9.0.1 dns=10.9.0.1 lease=60 serverid=10.9.0.1
has_address 10.9.0.5/24
has_route 'default via 10.9.0.7 '
grep -qx 'nameserver 192.0.2.1' "$root/etc/resolv.conf" || fail "wrote name servers after the switch"

# The log is all that there is of /dev; nothing else can be opened there.
mkdir "$root/dev"
ln -s /nowhere/null "$root/dev/null"
event nak message='not
yours'
says 'refuses the address that we had: not; asking'

# Another address in the same network: the new one is there, the old one is not.
event bound ip=10.9.0.6 mask=24 staticroutes='10.20.0.0/16 10.9.0.9 0.0.0.0/0 10.9.0.8' router=10.9.0.1
says 'changed our address from 10.9.0.5 to 10.9.0.6'
has_address 10.9.0.6/24
! grep -q 10.9.0.5 <<<"$(ip -4 -o addr show v0)" || fail "the old address is still there"
has_route '10.20.0.0/16 via 10.9.0.9 '
has_route 'default via 10.9.0.8 '
ip route replace default via 10.9.0.7 dev v0
event renew ip=10.9.0.6 mask=24 router=10.9.0.1
has_route 'default via 10.9.0.7 '

# A gateway that is not in our own network.
event bound ip=198.51.100.7 mask=32 router=203.0.113.1
has_route 'default via 203.0.113.1 '
! grep -q 10.9.0.6 <<<"$(ip -4 -o addr show v0)" || fail "the old address is still there"

# The real system's lease is the one that it booted with.
grep -qx ip=10.9.0.5 "$root.run/lunroot/lease" || fail "the lease went with /run"
echo "dhcp script: ok"
