#!/bin/bash
# How often simulated Pis boot, by model and by what the network does to frames: a table in Markdown.
#
#   success.sh [SERVER...]      SERVER: a start_ function of servers.sh (dnsmasq dnsmasq_delay ...)
#
# LUNROOT_CHECK=quick: 20 boots of each model on a clean network, in seconds; full: 20 boots and most
# kinds of trouble; long: 1000 and every kind (servers.sh has fewer for the peer). The network's troubles are the simulator's, in both directions, for each
# frame by itself. A Pi counts when every file it needs has come whole, byte for byte, within the time
# a person would wait (SUCCESS_WAIT seconds after it was switched on).
#
# SUCCESS_COUNT, SUCCESS_MODELS, SUCCESS_TROUBLES, SUCCESS_SIZE (small, real), SUCCESS_JOBS and
# SUCCESS_RULES (pisim's --rule NAME=N ...) change one thing each.
# shellcheck source=tests/boot/simulated.sh
. "$(dirname "$0")/simulated.sh"

at_end() {
	local job
	for job in $(jobs -rp); do kill "$job" 2>/dev/null; done
	wait
}

mode=${LUNROOT_CHECK:-full}
models=${SUCCESS_MODELS:-3b 3b+ 3b-sd 4 5}
size=${SUCCESS_SIZE:-small}
case $mode in
quick) patience=45 jobs=5 ;;
*) patience=120 jobs=5 ;; # the kernel's table of neighbours ends at 1,024 for all of them
esac
patience=${SUCCESS_WAIT:-$patience} jobs=${SUCCESS_JOBS:-$jobs}
[ $# -gt 0 ] || read -ra servers < <(success_servers "$mode")
[ $# -eq 0 ] || servers=("$@")
count_of() { echo "${SUCCESS_COUNT:-$(success_count "$1" "$mode")}"; }
troubles_of() { echo "${SUCCESS_TROUBLES:-$(success_troubles "$1" "$mode")}"; }

trouble_options() {
	case $1 in
	clean) ;;
	loss1) echo --loss 1 ;;
	loss5) echo --loss 5 ;;
	loss10) echo --loss 10 ;;
	twice5) echo --duplicate 5 ;;
	order5) echo --reorder 5 ;;
	delay) echo --delay 10 --jitter 10 ;;
	*) return 1 ;;
	esac
}

# One server with fresh memory, one network, some Pis: cell SERVER TROUBLE FIRST COUNT MODEL...
cell() {
	local server=$1 trouble=$2 first=$3 count=$4 name wished=() model options
	shift 4
	name=$server-$trouble-$first-$1
	net_folder=$net_folder/$name
	mkdir "$net_folder"
	for model in "$@"; do wished+=(--model "$model=$count"); done
	"$pisim" --list --first "$first" "${wished[@]}" >"$net_folder/nodes"
	net_tree "$net_folder/tree" "$size" "$net_folder/nodes" && net_begin "$name" &&
		net_router "$name" "$net_folder/nodes" &&
		"start_$server" "$name" "$net_folder/tree" "$net_folder/nodes" || return 1
	# Boots of single Pis, begun a tenth of a second apart; storm.sh has them at one instant.
	read -ra options < <(trouble_options "$trouble")
	# In the background: a trap is not kept waiting.
	net_start "$name" pis "$net_folder/result.txt" "$pisim" --interface eth0 "${wished[@]}" --first "$first" --rule alone=1 --ramp 100 --deadline "$patience" \
		--seed "$first" --expect "$net_folder/tree" --json "$net_folder/result.json" "${options[@]}" \
		${SUCCESS_RULES-}
	wait "$net_pid"
	[ -s "$net_folder/result.json" ] && mv "$net_folder/result.json" "$results/$server $trouble $first $1.json"
}

start_cell() {
	while [ "$(jobs -rp | wc -l)" -ge "$jobs" ]; do wait -n; done
	(
		trap 'net_end_all; exit 1' TERM INT
		cell "$@" || echo "could not be tried: $*" >&2
		net_end_all
	) &
}

results=$net_folder/results
mkdir "$results"
for server in "${servers[@]}"; do
	at_once=$(success_at_once "$server") count=$(count_of "$server")
	for trouble in $(troubles_of "$server"); do
		for ((first = 1; first <= count; first += at_once)); do
			n=$((count - first + 1 < at_once ? count - first + 1 : at_once))
			if success_models_apart "$server"; then
				for model in $models; do start_cell "$server" "$trouble" "$first" "$n" "$model"; done
			else
				# shellcheck disable=SC2086
				start_cell "$server" "$trouble" "$first" "$n" $models
			fi
		done
	done
done
wait

status=0
for server in "${servers[@]}"; do
	for model in $models; do
		for trouble in $(troubles_of "$server"); do
			printf '%s %s %s\n' "$model" "$trouble" "$(success_least "$server" "$trouble")"
		done
	done >"$net_folder/least"
	# shellcheck disable=SC2046
	python3 "$here/success_table.py" "$results" "$server" "$net_folder/least" "$(count_of "$server")" \
		$(troubles_of "$server") || status=1
done
exit $status
