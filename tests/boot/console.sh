#!/bin/bash
# What an EEPROM boot loader says of itself (NETCONSOLE), with the source addresses that such settings have: lunctl shows it in
# the boot of the Pi whose MAC it came from, each line once, and nothing of anybody else.
# shellcheck source=tests/boot/simulated.sh
. "$(dirname "$0")/simulated.sh"

# What a worker did in the last moment nobody takes back.
export ASAN_OPTIONS="${ASAN_OPTIONS:+$ASAN_OPTIONS:}detect_leaks=0"

"$pisim" --list --model 4=2 >"$net_folder/nodes"
net_tree "$net_folder/tree" small "$net_folder/nodes" && net_begin c || fail "no network"
start_lunbootd c "$net_folder/tree" "$net_folder/nodes" || fail "lunbootd"
mapfile -t macs < <(cut -d' ' -f4 "$net_folder/nodes")
node=$(cut -d' ' -f1 "$net_folder/nodes" | head -n 1)
server=$(net_run c server cat /sys/class/net/eth0/address)
all=ff:ff:ff:ff:ff:ff
net_run c other ip link set eth0 address "${macs[0]}"

ctl() { "$LUNROOT_BUILD/tools/lunctl" "$@" 2>>"$net_folder/ctl.log"; }
say() { net_run c pis python3 "$here/console_board.py" eth0 "$@"; } # as console_board.py has it, without the interface
events() { ctl boots "$node" --events; }
shown() { events | grep -- "$1" >/dev/null; }
times() { events | grep -c -- "$1"; }
await() { # WHAT COMMAND...
	comes_true "${@:2}" && return
	events >&2
	fail "$1"
}
settings() { net_run c other curl -sf --max-time 4 tftp://10.77.0.2/lunroot.img -o "$net_folder/settings"; }
# Each line once: lines WORD...
lines() {
	local word
	for word in "$@"; do
		[ "$(times "console.* $word\$")" = 1 ] && continue
		events >&2
		fail "'$word' is shown $(times "console.* $word\$") times"
	done
}

# --- one that asks by DHCP ---

asks() { net_run c other python3 "$here/dhcp_board.py" eth0 eeprom 1 | grep ' boot' >/dev/null; }
await "the Pi is not offered its boot" asks
say "${macs[0]}" $all 169.254.1.1 255.255.255.255 linklocal-all second-line
say "${macs[0]}" "$server" 169.254.1.1 10.77.0.2 linklocal-server
say "${macs[0]}" $all 0.0.0.0 255.255.255.255 zero-all
say "${macs[0]}" "$server" 0.0.0.0 10.77.0.2 zero-server
say "${macs[0]}" "$server" 192.0.2.1 255.255.255.255 nobody-server
say "${macs[0]}" 00:00:00:00:00:00 169.254.1.1 255.255.255.255 zero-mac # this kind of network lets it through
say "${macs[1]}" $all 169.254.1.1 255.255.255.255 not-booting
say 02:00:00:00:00:99 $all 169.254.1.1 255.255.255.255 stranger
say 02:00:00:00:00:99 "$server" 10.77.0.3 10.77.0.2 stranger-with-address
net_run c other bash -c 'printf "by-udp\n" >/dev/udp/10.77.0.2/6666'
say "${macs[0]}" $all 169.254.1.1 255.255.255.255 last
await "the boot loader's lines are not shown" shown 'console.* last$'
lines linklocal-all second-line linklocal-server zero-all zero-server nobody-server zero-mac by-udp last
shown 'not-booting\|stranger' && fail "somebody else's line is shown"
[ "$(times ' console ')" = 9 ] || fail "there are other lines, too: $(events)"
echo "ok: a boot loader's lines, from whatever address, are its Pi's"

# --- what lunroot-init says comes to the same port ---

await "no settings" settings
# They are a gzip archive behind the initramfs.
report=$(python3 -c 'import re, sys, zlib; data = open(sys.argv[1], "rb").read()
print(re.findall(rb"report=\S+", zlib.decompress(data[data.rindex(b"\x1f\x8b\x08"):], 31))[0].decode())' "$net_folder/settings")
[ "${#report}" -gt 39 ] || fail "no address for reports in the settings: $report"
for _ in 1 2 3; do
	net_run c other bash -c "printf 'lunroot-report 1 ${report##*/} 7 root said-thrice' >/dev/udp/10.77.0.2/6666"
done
await "the report is not shown" shown 'report.*said-thrice'
say "${macs[0]}" $all 169.254.1.1 255.255.255.255 after-all
sleep 2
[ "$(times said-thrice)" = 1 ] || fail "the report counts more than once"
shown after-all && fail "who runs has no boot loader that speaks"
echo "ok: a report counts once, and ends it"

# --- without DHCP ---

kill "$server_pid" && wait "$server_pid" || fail "lunbootd ends with status $?"
net_start c server "$net_folder/none.log" "$LUNROOT_BUILD/boot/lunbootd" --interface eth0 --socket "$LUNROOT_SOCKET" \
	--run "$net_folder/none" --programs "$boot_programs" --foreground --dhcp none
net_await c server 69 || fail "lunbootd does not start"
await "no settings without DHCP" settings
say "${macs[0]}" $all 169.254.1.1 255.255.255.255 none-all
say 02:00:00:00:00:99 $all 169.254.1.1 255.255.255.255 stranger
say "${macs[0]}" "$server" 0.0.0.0 10.77.0.2 none-server
await "the boot loader's lines are not shown without DHCP" shown 'console.* none-server$'
lines none-all none-server
shown stranger && fail "somebody else's line is shown"
echo "ok: with --dhcp none, too"
