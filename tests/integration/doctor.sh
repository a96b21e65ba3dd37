#!/bin/bash
# lunctl doctor in networks of its own: without and with a DHCP server, with two of them, with another boot server, with
# somebody on a port of ours, with and without lunbootd's word.
#
# Wants root for the networks.
here=$(cd "$(dirname "$0")" && pwd)
if [ -z "${DOCTOR_INSIDE:-}" ] && [ "$(id -u)" -eq 0 ]; then
	DOCTOR_INSIDE=1 exec unshare -n "$here/doctor.sh" "$@"
fi
# shellcheck source=tests/integration/lib.sh
. "$here/lib.sh"
need python3 ip curl
command -v dnsmasq >/dev/null || skip "dnsmasq is not installed"
[ "$(id -u)" -eq 0 ] || skip "a network of its own needs root"

others=() names=()
clean_up() {
	local it
	for it in "${others[@]}"; do kill "$it" 2>/dev/null && wait "$it" 2>/dev/null; done
	for it in "${names[@]}"; do ip netns del "$it"; done
	daemon_cleanup
}

# neighbour NUMBER: a machine 10.77.0.NUMBER on our bridge, in a network namespace; its name is in $neighbour.
neighbour() {
	neighbour=lunroot-doctor-$$-$1
	ip netns add "$neighbour" && names+=("$neighbour") &&
		ip link add "port$1" type veth peer name eth0 netns "$neighbour" &&
		ip link set "port$1" master lan0 up &&
		ip -n "$neighbour" addr add "10.77.0.$1/24" dev eth0 &&
		ip -n "$neighbour" link set eth0 up || fail "no network"
}

# dnsmasq OPTION...: in the last neighbour.
serve() {
	ip netns exec "$neighbour" dnsmasq --keep-in-foreground --conf-file=/dev/null --port=0 --interface=eth0 --pid-file= \
		--dhcp-leasefile="$daemon_dir/leases-$neighbour" --no-ping --log-facility="$daemon_dir/dnsmasq-$neighbour" "$@" &
	others+=($!)
	sleep 0.3
}

# doctor STATUS: runs it, as JSON.
doctor() {
	"$lunctl" --json --socket "${socket:-$daemon_dir/run/control.sock}" doctor >"$daemon_dir/findings" 2>"$daemon_dir/ctl.log"
	local status=$?
	[ $status -eq "$1" ] || {
		cat "$daemon_dir/findings" "$daemon_dir/ctl.log" >&2
		fail "doctor: status $status instead of $1"
	}
}

# found LEVEL CODE TEXT
found() {
	python3 -c '
import json, sys
level, code, text = sys.argv[1:]
sys.exit(not any(f["level"] == level and f["code"] == code and text in f["message"] and (level == "ok" or f["cure"])
                 for f in json.load(sys.stdin)["findings"]))' "$@" <"$daemon_dir/findings" || {
		cat "$daemon_dir/findings" >&2
		fail "no finding $*"
	}
	say "ok: $*"
}

daemon_begin
trap clean_up EXIT
ip link set lo up

# --- nothing: no daemon, no network; then a network without DHCP ---
socket=$daemon_dir/none doctor 4
found error lunrootd 'No such file or directory'
found error interface 'no network interface is connected'

ip link add lan0 type bridge && ip link set lan0 up && ip addr add 10.77.0.2/24 dev lan0 || skip "no bridge"
neighbour 1
daemon_start
python3 -c '
import socket, time
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.bind(("0.0.0.0", 69))
time.sleep(60)' &
others+=($!)
for ((i = 0; i < 100; i++)); do
	grep -q ':0045 ' /proc/net/udp && break
	sleep 0.1
done
doctor 4
found ok lunrootd "answers on $daemon_dir/run/control.sock"
found error portals '127.0.0.1'
found ok runtime_dir 'is on tmpfs'
found ok space 'are free'
found error lunbootd 'does not run'
found error port '69 (TFTP) is taken by python3'
found ok port '67 (DHCP) is free'
found ok interface 'lan0 is connected: 10.77.0.2'
found error dhcp 'no DHCP server answers on lan0'

# --- a router, and lunbootd says that it is well ---
kill "${others[-1]}"
wait "${others[-1]}" 2>/dev/null
unset 'others[-1]'
serve --dhcp-range=10.77.0.50,10.77.0.60,5m
daemon_kill TERM
daemon_portal=10.77.0.2:3260
daemon_start
curl -sS --fail -X PUT --unix-socket "$daemon_dir/run/control.sock" -o /dev/null http://localhost/v1/bootd \
	--data-binary '{"version":"0.2.0","interfaces":[{"name":"lan0","address":"10.77.0.2"}]}' ||
	fail "PUT /v1/bootd"
doctor 4 # no program for the Pi in a plain build, and tmpfs
found ok portals '10.77.0.2:3260'
found ok lunbootd 'lunbootd 0.2.0 runs on lan0'
found ok dhcp 'one DHCP server answers on lan0: 10.77.0.1'
! grep -q '"level": "error"' "$daemon_dir/findings" || fail "an error where all is well: $(cat "$daemon_dir/findings")"
[ ! -s "$daemon_dir/leases-$neighbour" ] || fail "doctor took an address"

[ "$(by_mode quick full full)" = full ] || {
	say "all good (quick)"
	exit
}

# --- a second router, and a boot server ---
neighbour 3
serve --dhcp-range=10.77.0.70,10.77.0.80,5m
neighbour 4
serve --dhcp-range=10.77.0.0,proxy --pxe-service=0,"Another Boot"
doctor 4
found error dhcp '2 DHCP servers answer on lan0: 10.77.0.'
found error pxe_server 'answers on lan0: 10.77.0.4'

# For people: a line for each, and what to do next.
"$lunctl" --socket "$daemon_dir/run/control.sock" doctor >"$daemon_dir/output" 2>&1
grep -Eq '^error +2 DHCP servers' "$daemon_dir/output" && grep -Eq '^ +cure: switch off all but one' "$daemon_dir/output" &&
	grep -q '^next: put that right' "$daemon_dir/output" || fail "the text: $(cat "$daemon_dir/output")"
# Nobody's rights: it says what it did not look at.
if command -v setpriv >/dev/null; then
	setpriv --reuid 65534 --regid 65534 --clear-groups "$lunctl" --json --socket "$daemon_dir/run/control.sock" doctor \
		>"$daemon_dir/findings" 2>/dev/null
	found unknown dhcp 'needs root'
fi

say "all good"
