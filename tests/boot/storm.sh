#!/bin/bash
# A power cut ends: thousands of Pis of all models are switched on at one instant. How many boot, how
# long the last one waits, and what it costs the server.
#
#   storm.sh [SERVER...]        SERVER: a start_ function of servers.sh
#
# LUNROOT_CHECK=quick: 200 Pis; full: 600; long: 3,000 (STORM_PIS another number, STORM_WAIT seconds to wait for the last
# one, STORM_SIZE small or real). Addresses come from the simulator, because no
# router's DHCP server answers 3,000 questions at once: the boot server is what is tried here. Of
# those in storm_all every Pi must boot.
# shellcheck source=tests/boot/simulated.sh
. "$(dirname "$0")/simulated.sh"

# One storm at a time on this machine: they share its processors, and the limit below.
exec 9>"${TMPDIR:-/tmp}/boot-storm.lock"
flock 9
neighbours=/proc/sys/net/ipv4/neigh/default/gc_thresh3
neighbours_were=$(cat $neighbours 2>/dev/null)
at_end() {
	[ "$(cat $neighbours 2>/dev/null)" = "$neighbours_were" ] || echo "$neighbours_were" >$neighbours
}

case ${LUNROOT_CHECK:-full} in
quick) pis=200 patience=90 ;;
long) pis=3000 patience=300 ;;
*) pis=600 patience=120 ;;
esac
pis=${STORM_PIS:-$pis} patience=${STORM_WAIT:-$patience}
# shellcheck disable=SC2086
[ $# -gt 0 ] || set -- $storm_servers

# The kernel's table of neighbours is one for all namespaces and ends at 1,024 hosts; a LAN with more
# Pis than that needs it larger, the boot server's machine included. It goes back at the end.
[ "${neighbours_were:-0}" -ge $((pis * 2)) ] || echo $((pis * 2 + 1024)) 2>/dev/null >$neighbours ||
	echo "note: $neighbours stays at $neighbours_were"

status=0
printf '| server | Pis | booted | median, p99 s | server CPU s | server peak MiB | retries |\n|---|---|---|---|---|---|---|\n'
for server in "$@"; do
	wished=()
	for model in 3b 3b+ 3b-sd 4 5; do wished+=(--model "$model=$((pis / 5))"); done
	folder=$net_folder/$server
	mkdir "$folder"
	"$pisim" --list "${wished[@]}" >"$folder/nodes"
	net_tree "$folder/tree" "${STORM_SIZE:-small}" "$folder/nodes" && net_begin "$server" &&
		"start_$server" "$server" "$folder/tree" "$folder/nodes" || exit 1
	net_start "$server" pis "$folder/result.txt" "$pisim" --interface eth0 "${wished[@]}" --router --deadline "$patience" \
		--expect "$folder/tree" --json "$folder/result.json"
	wait "$net_pid"
	booted=$?
	peak=$(awk '/^VmHWM/ { printf "%.1f", $2 / 1024 }' "/proc/$server_pid/status")
	# User and system time are fields 14 and 15; the name before them may hold spaces.
	cpu=$(sed 's/.*) //' "/proc/$server_pid/stat" | awk -v hz="$(getconf CLK_TCK)" '{ printf "%.1f", ($12 + $13) / hz }')
	python3 - "$folder/result.json" "$server" "$cpu" "$peak" <<-'END'
		import json, sys
		row = json.load(open(sys.argv[1]))["all"]
		print(f"| {sys.argv[2]} | {row['pis']} | {row['booted']} | {row['median_s']:.1f}, {row['p99_s']:.1f} "
		      f"| {sys.argv[3]} | {sys.argv[4]} | {row['retries']} |")
	END
	sed 's/^/    /' "$folder/result.txt"
	net_end "$server"
	if [[ " $storm_all " = *" $server "* && $booted != 0 ]]; then
		echo "FAILED: not every Pi boots from $server"
		status=1
	fi
	# Twice what it takes.
	if [[ " $storm_all " = *" $server "* ]] && [ "${peak%.*}" -gt $((32 + pis / 16)) ]; then
		echo "FAILED: $server took $peak MiB for $pis Pis, more than $((32 + pis / 16))"
		status=1
	fi
done
exit $status
