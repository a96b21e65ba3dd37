#!/bin/bash
# lunbootd and a peer that means harm: packets to all its ports, well-formed, mutated and noise, at full speed, from many addresses
# and MACs, and as the board of a node. It lives, what it keeps is bounded, and a Pi boots at once.
#
# usage: hostile.sh     environment: LUNROOT_BUILD, LUNROOT_CHECK (quick, full, long), BOOT_SEED
# shellcheck source=tests/boot/simulated.sh
. "$(dirname "$0")/simulated.sh"

case ${LUNROOT_CHECK:-full} in quick) seconds=3 ;; long) seconds=120 ;; *) seconds=6 ;; esac
seed=${BOOT_SEED:-1}
# What may be held: TFTP's and HTTP's sessions and connections as far as they go, and what it has anyway; records of 4,096 boots
# with what lunrootd has not been told of them yet; of the network's troubles 61 lines of the log in a minute.
fds_max=$((4096 + 512 + 64)) growth_max_kib=65536 log_max_kib=$((32 * (2 + seconds / 60)))
# The quarantine would look like growth; and what a worker did in the last moment nobody takes back.
export ASAN_OPTIONS="${ASAN_OPTIONS:+$ASAN_OPTIONS:}quarantine_size_mb=8:detect_leaks=0"

rss_kib() { awk '/^VmRSS/ { print $2 }' "/proc/$server_pid/status"; }
fds() { find "/proc/$server_pid/fd" -mindepth 1 | wc -l; }
ctl() { timeout 20 "$LUNROOT_BUILD/tools/lunctl" "$@"; }
pi_boots() { # WHEN
	local began=${EPOCHREALTIME/./}
	net_run h pis "$pisim" --interface eth0 --model 4=1 --deadline 60 --expect "$net_folder/tree" >"$net_folder/pisim.log" 2>&1 ||
		fail "the Pi does not boot $1"
	echo "ok: a Pi boots $1: $(((${EPOCHREALTIME/./} - began) / 1000)) ms"
}

# --- a Pi's node, and one whose board the peer says to be ---

net_begin h && net_router h || fail "no network"
mac=$(net_run h other cat /sys/class/net/eth0/address)
"$pisim" --list --model 4=1 >"$net_folder/nodes"
printf 'victim 4 0badcafe %s\n' "$mac" >>"$net_folder/nodes"
net_tree "$net_folder/tree" small "$net_folder/nodes" && start_lunbootd h "$net_folder/tree" "$net_folder/nodes" || fail "lunbootd"
pi_boots before
# Addresses in the Pis' network that this host answers for.
net_run h other ip route add local 10.77.250.0/24 dev lo || fail "addresses"

# --- harm ---

before=$(rss_kib) peak_kib=0 peak_fds=0
net_start h other "$net_folder/hostile.log" "$LUNROOT_BUILD/tests/boot/boot_hostile" --from 10.77.250.0/24 --dhcp eth0 --mac "$mac" \
	--reports 6666 10.77.0.2 69 8069 "$seconds" "$seed" config.txt start4.elf kernel8.img 0badcafe/lunroot.img lunroot.img none
hostile_pid=$net_pid
while kill -0 "$hostile_pid" 2>/dev/null; do
	kib=$(rss_kib) count=$(fds)
	[ "${kib:-0}" -le $peak_kib ] || peak_kib=$kib
	[ "$count" -le $peak_fds ] || peak_fds=$count
	sleep 0.2
done
wait "$hostile_pid" || fail "boot_hostile"
cat "$net_folder/hostile.log"
kill -0 "$server_pid" 2>/dev/null || fail "lunbootd has ended"
pi_boots afterwards

# --- what is left of it ---

log_kib=$(($(stat -c %s "$lunboot_log") / 1024))
echo "at most $peak_kib KiB instead of $before KiB, $peak_fds descriptors; $log_kib KiB of log"
[ $((peak_kib - before)) -le $growth_max_kib ] || fail "its memory grew by $((peak_kib - before)) KiB"
[ "$peak_fds" -le $fds_max ] || fail "it had $peak_fds descriptors"
[ "$log_kib" -le $log_max_kib ] || fail "its log has $log_kib KiB"
ctl ls --pending >"$net_folder/pending" || fail "ls --pending"
pending=$(grep -c ':' "$net_folder/pending")
[ "$pending" -gt 0 ] && [ "$pending" -le 256 ] || fail "$pending Pis are pending"
mapfile -t boots < <(ctl --json boots victim | sed -n 's/.*"id": "\([0-9a-f]*\)".*/\1/p')
[ ${#boots[@]} -gt 0 ] && [ ${#boots[@]} -le 16 ] || fail "${#boots[@]} boots of one node are kept"
for boot in "${boots[@]}"; do ctl boots "$boot" || fail "boots"; done >"$net_folder/boots"
for what in discover request console; do
	grep -q " $what " "$net_folder/boots" || fail "the peer was not taken for a board: no $what"
done
ctl why pi-4-1 >/dev/null
[ $? -le 1 ] || fail "why"
echo "ok: $pending pending Pis, ${#boots[@]} boots of the node whose board the peer said to be"

kill "$server_pid" && wait "$server_pid" || fail "lunbootd ends with status $?"
! grep -E 'Sanitizer|runtime error|[Aa]ssert|stack smashing' "$lunboot_log" "${lunboot_log%/*}/lunrootd.log" || fail "the logs have complaints"
