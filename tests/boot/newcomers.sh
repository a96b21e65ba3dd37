#!/bin/bash
# Simulated Pis that nobody has told of: what --auto makes of newcomers, and where it ends; and with --dhcp none those that the
# router sends here, found by the folder and the file that they ask for first, or by their MAC.
# shellcheck source=tests/boot/simulated.sh
. "$(dirname "$0")/simulated.sh"

# What a worker did in the last moment nobody takes back.
export ASAN_OPTIONS="${ASAN_OPTIONS:+$ASAN_OPTIONS:}detect_leaks=0"
run=$(net_tmpfs n)
ctl() { "$LUNROOT_BUILD/tools/lunctl" --socket "$run/control.sock" "$@" 2>>"$net_folder/ctl.log"; }

boot_programs_ready || fail "no programs for the initramfs"
"$pisim" --list --model 3b=1 --model 3b+=2 --model 3b-sd=1 --model 4=2 --model 5=2 >"$net_folder/nodes"
net_tree "$net_folder/tree" small "$net_folder/nodes" && base_image "$net_folder/tree" "$net_folder/base.img" || fail "no image"
serial_of() { awk -v node="$1" '$1 == node { print $3 }' "$net_folder/nodes"; }
mac_of() { awk -v node="$1" '$1 == node { print $4 }' "$net_folder/nodes"; }

net_begin n || fail "no network"
mkdir "$net_folder/state"
net_start n server "$net_folder/lunrootd.log" "$LUNROOT_BUILD/target/lunrootd" --state "$net_folder/state" --run "$run" \
	--portal 0.0.0.0:3260 --foreground --reserve 0
for _ in $(seq 200); do
	ctl ls >/dev/null && break
	sleep 0.05
done
ctl import "$net_folder/base.img" base >/dev/null || fail "import"

bootd_start() { # NAME OPTIONS...
	log=$net_folder/$1.log
	net_start n server "$log" "$LUNROOT_BUILD/boot/lunbootd" --interface eth0 --socket "$run/control.sock" --user root \
		--run "$net_folder/boot" --programs "$boot_programs" --foreground "${@:2}"
	bootd_pid=$net_pid
	net_await n server 69 || fail "lunbootd does not start"
}
bootd_stop() {
	kill "$bootd_pid" && wait "$bootd_pid" || fail "lunbootd ends with status $?"
}
pis() { # SECONDS PISIM-OPTIONS...: those that have booted, in $booted
	net_run n pis "$pisim" --interface eth0 --deadline "$1" --expect "$net_folder/tree" --json "$net_folder/pis.json" \
		--ramp 200 --rule alone=1 "${patient[@]}" "${@:2}" >"$net_folder/pisim.log" 2>&1
	booted=$(awk '$1 == "all" { print $3 }' "$net_folder/pisim.log")
}
# One member of a node: node NAME MEMBER
node() {
	ctl --json show "$1" | python3 -c 'import json, sys; print(json.load(sys.stdin)[sys.argv[1]])' "$2"
}
nodes() { ctl --json ls | python3 -c 'import json, sys; print(*sorted(n["name"] for n in json.load(sys.stdin)["nodes"]))'; }
doctor_says() { net_run n server "$LUNROOT_BUILD/tools/lunctl" --socket "$run/control.sock" doctor 2>&1 | grep -q "$1"; }
pending() { ctl ls --pending | grep -q "$(serial_of "$1").*$(mac_of "$1")"; }
log_says() { grep -q "$1" "$log"; }

has_booted() { ctl boots "$1" --events | grep -q settings; }

# --- newcomers, with a router that knows nothing of it ---

net_router n || fail "no router"
router_pid=$net_pid
bootd_start plain
pis 2 --model 4=1
[ "$booted" = 0 ] || fail "a Pi that belongs to no node boots"
await "it is not shown as pending" pending pi-4-1
[ -z "$(nodes)" ] || fail "a node is made, and nobody wanted that: $(nodes)"
doctor_says 'lunbootd .* runs on eth0 since' || fail "lunbootd does not tell that it runs: $(net_run n server curl -sS --unix-socket "$run/control.sock" http://localhost/v1/bootd)"
bootd_stop
echo "ok: without --auto a newcomer waits"

ctl clone base rack-01-x >/dev/null || fail "clone"
bootd_start auto --auto base --auto-name 'rack-##-x' --auto-max 3
pis 180 --model 3b=1 --model 4=1 --model 5=1
[ "$booted" = 3 ] || fail "not all newcomers boot"
[ "$(nodes)" = "rack-01-x rack-02-x rack-03-x rack-04-x" ] || fail "other nodes than wanted: $(nodes)"
for name in rack-02-x rack-03-x rack-04-x; do
	[ "$(node $name base)" = base ] || fail "$name: not the image's clone"
	printf '%s %s\n' "$(node $name serial)" "$(node $name mac)"
done | sort >"$net_folder/are"
for pi in pi-3b-1 pi-4-1 pi-5-1; do printf '%s %s\n' "$(serial_of $pi)" "$(mac_of $pi)"; done | sort >"$net_folder/should"
cut -d' ' -f2 "$net_folder/are" | sort | diff - <(cut -d' ' -f2 "$net_folder/should" | sort) >&2 || fail "other MACs"
for pi in pi-4-1 pi-5-1; do grep -q "^$(serial_of $pi) $(mac_of $pi)$" "$net_folder/are" || fail "no serial of $pi"; done
pis 180 --model 4=1
[ "$booted" = 1 ] && [ "$(nodes | wc -w)" = 4 ] || fail "who has a node does not boot from it, or gets another"
echo "ok: each newcomer has a clone of its own, by the name that is free"

pis 2 --model 4=1 --first 2
[ "$booted" = 0 ] && [ "$(nodes | wc -w)" = 4 ] || fail "one more than --auto-max"
await "it is not said that no more nodes are made" log_says 'warn.*--auto-max'
await "it is not shown as pending" pending pi-4-2
bootd_stop
for i in 1 2 3 4 5 6 7 8 9; do ctl clone base "z$i" >/dev/null || fail "clone"; done
bootd_start names --auto base --auto-name 'z#'
pis 2 --model 4=1 --first 2
[ "$booted" = 0 ] || fail "it boots without a name"
await "it is not said that no name is left" log_says 'warn.*all names that --auto-name'
bootd_stop
[ "$(grep -c 'warn.*--auto-' "$log")" = 1 ] || fail "more than once"
echo "ok: what ends it is said, once"

# --- no boot is known of a node that runs ---

state_is() { [ "$(node "$1" state)" = "$2" ]; }
settings() { net_run n other curl -sf --max-time 4 "tftp://10.77.0.2/lunroot.img" -o "$net_folder/settings"; }
was=$(net_run n other cat /sys/class/net/eth0/address)
net_run n other ip link set eth0 address "$(node rack-02-x mac)"
net_start n server "$net_folder/qemu-io.log" qemu-io -f raw -c 'sleep 60000' "$(ctl url rack-02-x)"
qemu_io=$net_pid
await "nobody is logged in" state_is rack-02-x "in use"
bootd_start bare
sleep 1
for _ in 1 2 3; do settings && fail "a program on a running node gets credentials of its disk"; done
kill "$qemu_io" && wait "$qemu_io"
await "still logged in" state_is rack-02-x ready
settings && fail "a node that was in use a moment ago counts as free"
# It may be one whose keeper logs in again, for a minute.
if [ "${LUNROOT_CHECK:-full}" != quick ]; then
	got=
	for _ in $(seq 80); do
		settings && got=1 && break
		sleep 1
	done
	[ "$got" ] || fail "a Pi that asks for files alone gets none"
	settings && fail "the settings of one boot go out twice"
fi
net_run n other ip link set eth0 address "$was"
bootd_stop
echo "ok: a request for a file alone begins no boot of a node that runs"

# --- no DHCP of ours: the router says where the files are ---

kill "$router_pid" && wait "$router_pid"
folder=$(mktemp -d "$net_folder/router.XXXXXX")
net_start n router "$folder/log" dnsmasq --keep-in-foreground --conf-file=/dev/null --user=root --pid-file= --port=0 \
	--interface=eth0 --bind-interfaces --no-ping --dhcp-authoritative --dhcp-range=10.77.16.0,10.77.215.255,255.255.0.0,1h \
	--dhcp-option-force=66,10.77.0.2 --dhcp-leasefile="$folder/leases" --log-facility="$folder/dnsmasq.log"
net_await n router 67 || fail "no router"
for name in rack-02-x rack-03-x rack-04-x; do ctl rm "$name" --now >/dev/null || fail "rm"; done
ctl clone base by-serial --serial "$(serial_of pi-4-1)" >/dev/null || fail "clone"
ctl clone base by-tail --serial "$(serial_of pi-3bp-1)" >/dev/null || fail "clone"
for pi in 3b-1 3b-sd-1 5-1; do ctl clone base "by-mac-$pi" --mac "$(mac_of "pi-$pi")" >/dev/null || fail "clone"; done
bootd_start none --dhcp none
net_run n server grep -qi ':0043 ' /proc/net/udp && fail "it has the port of DHCP"
pis 180 --model 3b=1 --model 3b+=1 --model 3b-sd=1 --model 4=1 --model 5=1
[ "$booted" = 5 ] || fail "not all boot from where the router sent them: $(cat "$net_folder/pisim.log")"
for name in by-serial by-tail by-mac-3b-1 by-mac-3b-sd-1 by-mac-5-1; do
	await "$name has not booted" has_booted $name
done
grep -q 'Raspberry Pi 4' <(ctl boots by-serial --events) || fail "the first file does not tell the model"
echo "ok: Pis that the router sends here are known by serial number, its tail, or MAC"

# lunrootd has not missed it yet, and lunbootd has begun anew.
bootd_stop
net_start n server "$net_folder/qemu-io-2.log" qemu-io -f raw -c 'sleep 60000' "$(ctl url by-serial)"
qemu_io=$net_pid
await "nobody is logged in to by-serial" state_is by-serial "in use"
bootd_start anew --dhcp none
pis 180 --model 4=1
[ "$booted" = 1 ] || fail "a Pi that is known by its serial waits for its own login to end"
kill "$qemu_io" && wait "$qemu_io"
await "by-serial is still in use" state_is by-serial ready
echo "ok: whose boot was the last is known to a lunbootd that has begun anew"

# Another board that says to be it.
serial=$(serial_of pi-4-1)
ctl clone base by-both --serial "$(serial_of pi-5-2)" --mac "$(mac_of pi-5-2)" >/dev/null || fail "clone"
for what in "$serial/start4.elf" "$serial/lunroot.img" "$(serial_of pi-5-2)/config.txt" "$(serial_of pi-5-2)/lunroot.img"; do
	net_run n other curl -sf --max-time 3 "tftp://10.77.0.2/$what" -o "$net_folder/stolen" && fail "another board gets $what"
done
await "nobody tells of it" doctor_says 'says to be the Pi of node'
pis 3 --model 4=1 --first 2
[ "$booted" = 0 ] || fail "a Pi that belongs to no node boots"
await "it is not shown as pending" pending pi-4-2
ctl adopt "$(serial_of pi-4-2)" as adopted --image base >/dev/null || fail "adopt"
pis 180 --model 4=1 --first 2
[ "$booted" = 1 ] || fail "once adopted it does not boot"
bootd_stop
echo "ok: a stranger among them waits, and boots once it is adopted"
