#!/bin/bash
# A network of its own: lunbootd --dhcp known is its only DHCP server. A node with an address of its own gets that one, by
# its MAC, or when only its serial is known by what it says as it begins to boot; others get one of the pool, and never that.
# shellcheck source=tests/boot/simulated.sh
. "$(dirname "$0")/simulated.sh"

command -v busybox >/dev/null || skip "busybox is not installed"

ctl() { "$LUNROOT_BUILD/tools/lunctl" "$@"; }

# What the Pi that asks with this MAC gets from then on: address MAC
printf '%s\n' '#!/bin/sh' '[ "$1" = bound ] && echo "got $ip"' >"$net_folder/udhcpc" && chmod +x "$net_folder/udhcpc"
address() {
	net_run k other ip link set eth0 down
	net_run k other ip link set eth0 address "$1"
	net_run k other ip link set eth0 up
	net_run k other busybox udhcpc -i eth0 -n -q -f -t 4 -T 2 -s "$net_folder/udhcpc" 2>/dev/null | sed -n 's/^got //p'
}
gets() { # MAC ADDRESS WHO
	local got
	got=$(address "$1")
	[ "$got" = "$2" ] || fail "$3 got ${got:-nothing} instead of $2"
	echo "ok: $3 gets $2"
}

pis=(--model 3b+=1 --model 4=2)
"$pisim" --list "${pis[@]}" >"$net_folder/nodes"
mapfile -t names < <(cut -d' ' -f1 "$net_folder/nodes")
mapfile -t macs < <(cut -d' ' -f4 "$net_folder/nodes")
net_tree "$net_folder/tree" small "$net_folder/nodes" && net_begin k || fail "no network"
# The interface's first network is not the Pis'.
net_run k server ip addr flush dev eth0
for own in 10.79.0.2/24 10.77.0.2/16; do net_run k server ip addr add "$own" dev eth0; done
start_lunbootd k "$net_folder/tree" "$net_folder/nodes" --dhcp known --pool 10.77.3.10-10.77.3.13 || fail "lunbootd"
net_run k other ip addr flush dev eth0

ctl assign "${names[0]}" --address 10.77.3.10 >/dev/null || fail "assign" # in the pool: nobody else's all the same
serial=$(sed -n 2p "$net_folder/nodes" | cut -d' ' -f3)
ctl assign "${names[1]}" --none --address 10.77.9.2 >/dev/null && ctl assign "${names[1]}" --serial "$serial" >/dev/null || fail "assign"
ctl show "${names[0]}" | grep -q 'address *10.77.3.10' || fail "show does not tell it"
! ctl assign "${names[2]}" --address 10.77.9.2 2>"$net_folder/refused" || fail "two nodes with one address"
grep -q "10.77.9.2 belongs to node ${names[1]}" "$net_folder/refused" || fail "whose address it is, is not said"
sleep 20 # lunbootd looks at the nodes every 15 s
for _ in $(seq 200); do grep -q 'addresses are given out' "$lunboot_log" && break || sleep 0.1; done

net_start k pis "$net_folder/pis.log" "$pisim" --interface eth0 "${pis[@]}" "${patient[@]}" --deadline 180 --expect "$net_folder/tree" --pis
wait "$net_pid" || fail "not all boot"
grep -q "^3b+ 1 .* 10.77.3.10 booted" "$net_folder/pis.log" && grep -q "^4 1 .* 10.77.9.2 booted" "$net_folder/pis.log" || {
	cat "$net_folder/pis.log"
	fail "the boot loaders get other addresses"
}
echo "ok: boot loaders get the nodes' addresses, the third one of the pool"
for node in "${names[@]}"; do
	for _ in $(seq 50); do
		ctl boots "$node" --events >"$net_folder/events" 2>&1
		grep -q 'portal' "$net_folder/events" && break || sleep 0.1
	done
	grep -q 'portal 10\.77\.0\.2:3260' "$net_folder/events" || fail "$node is told another portal: $(cat "$net_folder/events")"
done
echo "ok: their settings name the portal in their own network"
gets "${macs[0]}" 10.77.3.10 "a node by its MAC"
gets "${macs[1]}" 10.77.9.2 "after its boot loader a node that is known by its serial"
for i in 1 2; do
	got=$(address "02:00:00:00:00:0$i")
	case $got in
	10.77.3.1[123]) echo "ok: a stranger gets $got" ;;
	*) fail "a stranger got ${got:-nothing}" ;;
	esac
done

# The board is replaced; the old one's lease has not ended.
ctl assign "${names[0]}" --mac 02:00:00:00:00:09 >/dev/null || fail "assign"
sleep 20
gets 02:00:00:00:00:09 10.77.3.10 "another board in its node's place"

# Its link comes back, and it must open port 67 there again: a right that it keeps.
grep -q '^CapEff:.*0000000000003400$' "/proc/$server_pid/status" || fail "it has other rights than it needs"
net_replug k server && net_await k server 67 || fail "it does not come back"
for _ in $(seq 200); do [ "$(grep -c 'addresses are given out' "$lunboot_log")" = 2 ] && break || sleep 0.1; done
gets "${macs[1]}" 10.77.9.2 "after the server's link was away a node"
