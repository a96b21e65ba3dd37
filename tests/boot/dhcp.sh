#!/bin/bash
# The DHCP service on real sockets, in a network of namespaces: beside dnsmasq as the router's DHCP, and alone
# with the DHCP clients that nodes have.
set -u
here=$(cd "$(dirname "$0")" && pwd)
: "${LUNROOT_BUILD:=$here/../../build}"
driver=$LUNROOT_BUILD/tests/boot/dhcp_driver
board=$here/dhcp_board.py
PATH=$PATH:/usr/sbin:/sbin

say() { printf '%s\n' "$*"; }
skip() { say "skipped: $*" >&2 && exit 77; }
[ -x "$driver" ] || skip "no $driver"
[ "$(id -u)" = 0 ] || skip "network namespaces need root"
for program in ip dnsmasq busybox python3; do
	command -v $program >/dev/null || skip "$program is not installed"
done

quick=
[ "${LUNROOT_CHECK:-full}" = quick ] && quick=1
work=$(mktemp -d /dev/shm/lunroot-dhcp.XXXXXX)
hosts='hub router boot board other'
ns() { printf 'lundhcp%s-%s' $$ "$1"; }
on() { # HOST COMMAND...
	local where
	where=$(ns "$1")
	shift
	ip netns exec "$where" "$@"
}
declare -A pids=()
start() { # NAME HOST COMMAND...
	local name=$1 where
	where=$(ns "$2")
	shift 2
	ip netns exec "$where" "$@" >>"$work/$name" 2>&1 </dev/null &
	pids[$name]=$!
}
stop() { # NAME
	kill "${pids[$1]}" 2>/dev/null
	wait "${pids[$1]}" 2>/dev/null
	unset "pids[$1]"
}
end() {
	local name
	for name in "${!pids[@]}"; do stop "$name"; done
	for name in $hosts; do ip netns del "$(ns "$name")" 2>/dev/null & done
	wait
	rm -rf "$work"
}
trap end EXIT
trap 'exit 130' INT TERM
fail() {
	say "FAILED: $*" >&2
	for name in driver router answers dhclient networkd; do
		[ -f "$work/$name" ] && say "--- $name" >&2 && tail -n 20 "$work/$name" >&2
	done
	exit 1
}
await() { # FILE PATTERN SECONDS
	local i
	for ((i = 0; i < $3 * 20; i++)); do
		grep -Eq -e "$2" "$work/$1" 2>/dev/null && return
		sleep 0.05
	done
	fail "$1 never says '$2'"
}

ip netns add "$(ns hub)" 2>/dev/null || skip "no network namespace can be made"
on hub ip link add br0 type bridge stp_state 0 forward_delay 0 mcast_snooping 0
on hub ip link set br0 up
for name in router boot board other; do
	ip netns add "$(ns $name)"
	on hub ip link add $name type veth peer name eth0 netns "$(ns $name)"
	on hub ip link set $name master br0 up
	on $name ip link set lo up
done
on board ip link set eth0 address dc:a6:32:2e:f8:ed
on router ip addr add 10.78.0.1/24 dev eth0
on boot ip addr add 10.79.0.2/24 dev eth0 # not the one that boards can use
on boot ip addr add 10.78.0.2/24 dev eth0
on other ip addr add 10.78.0.9/24 dev eth0
for name in router boot board other; do on $name ip link set eth0 up; done

driver_start() { # proxy|known ...
	: >"$work/driver"
	start driver boot "$driver" "$@"
	await driver ready 5
}
driver_stop() {
	stop driver
	grep -Eq 'ended' "$work/driver" || fail "the driver did not end well"
	! grep -E 'Sanitizer|runtime error|assert' "$work/driver" || fail "the driver complains"
}
router_start() {
	start router router dnsmasq --keep-in-foreground --conf-file=/dev/null --user=root --pid-file= --port=0 \
		--interface=eth0 --bind-interfaces --no-ping --dhcp-authoritative --dhcp-range=10.78.0.50,10.78.0.99,1h \
		--dhcp-leasefile="$work/leases" --log-dhcp --log-facility=-
	await router 'IP range' 5
}
# The hub passes on what comes from there.
carried() { # NAME
	local _
	sleep 0.3 # that it was down is known by then
	for _ in $(seq 200); do
		[ "$(on hub cat "/sys/class/net/$1/brport/state" 2>/dev/null)" = 3 ] && return
		sleep 0.05
	done
	fail "the hub does not carry $1"
}
asks() { # KIND SECONDS [WORD...]
	on board "$board" eth0 "$@" >"$work/answers" || fail "the board program"
	await answers '' 1
}
hears() { # HOW-OFTEN PATTERN
	[ "$(grep -Ec -e "$2" "$work/answers")" = "$1" ] || fail "not $1 times heard: $2"
}

# --- beside a router ---

router_start
driver_start proxy eth0 52:54:00:12:34:56
await router DHCPOFFER 20 # it asks whose network this is, since it has two addresses
sleep 1

asks eeprom 2.5
hears 1 'offer yiaddr=10\.78\.0\.[0-9]+ .*server=10\.78\.0\.1 '
hears 2 'offer yiaddr=0\.0\.0\.0 siaddr=10\.78\.0\.2 server=10\.78\.0\.2 from=10\.78\.0\.2:67 boot'
hears 0 nudge
say "ok: a Pi 4 gets an address from the router and its boot from us, by the right one of two addresses"
address=$(sed -n 's/.*offer yiaddr=\(10[0-9.]*\) .*/\1/p' "$work/answers")
asks eeprom 2.5 "request=$address,10.78.0.1"
hears 1 "ack yiaddr=$address .*server=10\.78\.0\.1 "
hears 0 'server=10\.78\.0\.2'
await driver "address: .*: $address from 10.78.0.1" 1
say "ok: its REQUEST is left to the router, and its address seen"

asks rom 3
hears 1 'offer yiaddr=0\.0\.0\.0 siaddr=0\.0\.0\.0 server=10\.78\.0\.2 from=10\.78\.0\.2:67 boot'
hears 2 nudge
after=$(sed -n 's/ offer yiaddr=0.0.0.0.*//p' "$work/answers")
if [ "$after" -lt 1000 ] || [ "$after" -ge 3000 ]; then fail "the offer to a ROM came after $after ms"; fi
sed -n '/offer yiaddr=0.0.0.0/,$p' "$work/answers" | grep -q nudge || fail "the nudge comes after the offer"
say "ok: a Pi 3's ROM gets its boot after $after ms, and two nudges"

asks rom 2.5 broadcast # so that the router's answer is seen
await driver 'address: Raspberry Pi 3B .* from 10.78.0.1' 1
on boot ip neigh show dev eth0 | grep -Eq "^10\.78\.0\.[0-9]+ lladdr dc:a6:32:2e:f8:ed (ref [0-9]+ used [0-9/]+ probes [0-9]+ )?REACHABLE" ||
	fail "no neighbour entry: $(on boot ip neigh show dev eth0)"
say "ok: the kernel need not ask a deaf ROM for its address"

asks pc 2.5
hears 0 'server=10\.78\.0\.2'
hears 1 'server=10\.78\.0\.1 '
say "ok: a PC that nobody registered is left alone"
on board ip link set eth0 down
on board ip link set eth0 address 52:54:00:12:34:56 up
carried board
asks pc 2.5
hears 1 'offer yiaddr=0\.0\.0\.0 siaddr=10\.78\.0\.2 .*file=ipxe.efi'
on board ip addr add 10.78.0.66/24 dev eth0
boot_mac=$(on boot cat /sys/class/net/eth0/address)
asks pc 2.5 "pxe=10.78.0.66,10.78.0.2,$boot_mac"
hears 1 'ack .*siaddr=10\.78\.0\.2 .*from=10\.78\.0\.2:4011 file=ipxe.efi'
on board ip addr flush dev eth0
say "ok: one that was registered gets its boot file by the offer and at port 4011"

: >"$work/clients"
on board timeout 20 busybox udhcpc -i eth0 -n -q -f -t 5 -T 1 -s /bin/true >>"$work/clients" 2>&1 ||
	fail "udhcpc beside us: $(cat "$work/clients")"
grep -q 'from 10.78.0.1,\|server 10.78.0.1' "$work/clients" || fail "whom udhcpc got its address from: $(cat "$work/clients")"
say "ok: an operating system hears the router alone"

on board ip link set eth0 down
on board ip link set eth0 address dc:a6:32:2e:f8:ed up
if [ -z "$quick" ]; then
	on boot ip addr flush dev eth0
	on boot ip link set eth0 down
	sleep 0.5
	on boot ip addr add 10.78.0.77/24 dev eth0
	on boot ip link set eth0 up
	carried boot
	sleep 1
	asks eeprom 2.5
	hears 2 'offer yiaddr=0\.0\.0\.0 siaddr=10\.78\.0\.77 server=10\.78\.0\.77 from=10\.78\.0\.77:67 boot'
	say "ok: the interface was away and came back with another address"

	start foreign other dnsmasq --keep-in-foreground --conf-file=/dev/null --user=root --pid-file= --port=0 \
		--interface=eth0 --bind-interfaces --dhcp-range=10.78.0.0,proxy '--pxe-service=0,Raspberry Pi Boot' \
		--log-dhcp --log-facility=-
	await foreign proxy 5
	sleep 0.3
	asks eeprom 2.5
	await driver 'trouble: .*another boot server at 10\.78\.0\.9' 3
	stop foreign
	say "ok: another boot server is told of"

	on hub ip link set br0 type bridge stp_state 1
	await driver 'trouble: nobody: the switch on eth0 speaks spanning tree' 10
	on hub ip link set br0 type bridge stp_state 0
	say "ok: a switch with spanning tree is told of"
fi
driver_stop

# --- giving addresses ---

on boot ip addr flush dev eth0
on boot ip addr add 10.78.0.2/24 dev eth0
if [ -z "$quick" ]; then
	driver_start known eth0 - 10.78.0.150 10.78.0.159 30
	await driver 'refused: .*another DHCP server, 10\.78\.0\.1, answers on eth0' 8
	asks eeprom 2.5
	hears 0 'server=10\.78\.0\.2'
	driver_stop
	say "ok: nothing is given beside another DHCP server"
fi
stop router

driver_start known eth0 - 10.78.0.150 10.78.0.159 30
await driver serving 8
asks eeprom 2.5
hears 1 'offer yiaddr=10\.78\.0\.150 siaddr=10\.78\.0\.2 server=10\.78\.0\.2 from=10\.78\.0\.2:67 boot'
asks rom 0.5
hears 1 'offer yiaddr=10\.78\.0\.150 siaddr=0\.0\.0\.0 server=10\.78\.0\.2 from=10\.78\.0\.2:67 boot'
say "ok: alone, one offer has address and boot"

cat >"$work/script" <<-'END'
	#!/bin/sh
	echo "$1 $ip $subnet $lease" >>"$0.log"
	case $1 in
	deconfig) ip addr flush dev "$interface" ;;
	bound) ip addr add "$ip/24" dev "$interface" ;;
	esac
	exit 0
END
chmod 755 "$work/script"
on board ip addr flush dev eth0
start udhcpc board busybox udhcpc -i eth0 -f -R -s "$work/script"
await script.log 'bound 10\.78\.0\.150 255\.255\.255\.0 30' 8
await driver 'lease: 10\.78\.0\.150' 1
leases=$(grep -c lease: "$work/driver")
kill -USR1 "${pids[udhcpc]}" # renew now
await script.log 'renew 10\.78\.0\.150' 8
[ "$(grep -c lease: "$work/driver")" = $((leases + 1)) ] || fail "the renewal was not kept"
kill -USR2 "${pids[udhcpc]}" # release
await driver forget 5
stop udhcpc
say "ok: udhcpc gets, renews and releases"

# dhclient in the foreground until it is bound; its words are in $work/dhclient.
dhclient_once() {
	: >"$work/dhclient"
	start dhclient board dhclient -4 -d -v -sf /bin/true -lf "$work/dhclient.leases" -pf "$work/dhclient.pid" eth0
	await dhclient 'bound to 10\.78\.0\.150' 20
	stop dhclient
}
if [ -z "$quick" ] && command -v dhclient >/dev/null; then
	on board ip addr flush dev eth0
	dhclient_once
	dhclient_once # with its lease in hand: INIT-REBOOT
	if grep -q DHCPDISCOVER "$work/dhclient"; then fail "dhclient has not kept its address"; fi
	say "ok: dhclient gets an address and keeps it over a restart"
fi

networkd=/lib/systemd/systemd-networkd
if [ -z "$quick" ] && [ -x $networkd ]; then
	# A /sys that can't be written to tells it that there is no udev to wait for.
	cat >"$work/networkd.sh" <<-END
		set -e
		mount -t tmpfs none /run
		mkdir -p /run/systemd/network /run/systemd/netif/links /run/systemd/netif/leases
		printf '[Match]\nName=eth0\n[Network]\nDHCP=ipv4\nLinkLocalAddressing=no\nIPv6AcceptRA=no\n' \
			>/run/systemd/network/10.network
		chown -R systemd-network /run/systemd/netif
		mount -o remount,ro /sys
		SYSTEMD_LOG_LEVEL=debug exec $networkd
	END
	on board ip addr flush dev eth0
	start networkd board unshare -m bash "$work/networkd.sh"
	await networkd 'Received updated DHCPv4 address \(configured\): 10\.78\.0\.150/24' 20
	await networkd 'REQUEST \(renewing\)' 25 # half of the 30 s
	for _ in $(seq 100); do
		sed -n '/REQUEST (renewing)/,$p' "$work/networkd" | grep -q 'DHCPv4 client: ACK' && break
		sleep 0.1
	done
	sed -n '/REQUEST (renewing)/,$p' "$work/networkd" | grep -q 'DHCPv4 client: ACK' || fail "networkd's renewal"
	stop networkd
	say "ok: systemd-networkd gets an address and renews it"
fi
driver_stop

# --- more interfaces than can be listened to ---

for i in $(seq 9); do
	on boot ip link add c$i type veth peer name d$i
	on boot ip link set c$i up && on boot ip link set d$i up
done
on hub ip link add late type veth peer name late netns "$(ns boot)"
on hub ip link set late master br0 up
on boot ip addr flush dev eth0
on boot ip link set late up
on boot ip addr add 10.78.0.2/24 dev late
driver_start known - - 10.78.0.150 10.78.0.159 30
await driver serving 8
asks eeprom 2.5
hears 1 'offer yiaddr=10\.78\.0\.150 siaddr=10\.78\.0\.2 server=10\.78\.0\.2 from=10\.78\.0\.2:67 boot'
! grep 'more than' "$work/driver" || fail "it counts interfaces that have no address"
say "ok: interfaces without an address take nobody's place"
for i in $(seq 9); do on boot ip addr add 10.81.$i.1/30 dev c$i && on boot ip addr add 10.82.$i.1/30 dev d$i; done
await driver 'trouble: nobody: there are more than 16 interfaces' 5
sleep 2
[ "$(grep -c 'more than' "$work/driver")" = 1 ] || fail "it says so again and again"
say "ok: too many are told of, once"
driver_stop
say "all is well"
