#!/bin/bash
# The store's tests are tested: each step on which durability rests is switched off by itself
# (target/base/mutant.h), and some test must notice. The names are read from the sources, so a new
# switch is tried from then on; one that nothing notices fails this test by its name.
#
# usage: mutants.sh STORE-SOURCES TESTS [NAME...]
#   TESTS  folder of the programs built with the switches
#   NAME   only these mutants
# Without NAME a twelfth of them, another one each day; with LUNROOT_CHECK=long all.
set -u

sources=${1:?usage: mutants.sh STORE-SOURCES TESTS [NAME...]}
tests=${2:?usage: mutants.sh STORE-SOURCES TESTS [NAME...]}
shift 2
daemon=${LUNROOTD:-}
work=$(mktemp -d /dev/shm/lunroot-mutants.XXXXXX)
trap 'rm -rf "$work"' EXIT

# The same seeds each time: whether a mutant is found is no matter of luck. Cheap ones first.
stages=(
	"store_sealed_mutants_test"
	"store_crash_test --commands 4 --seed 1 --seeds 20"
	"store_fault_test --seed 1 --seeds 3 --error 5"
	"store_fault_test --seed 1 --seeds 3"
	"store_crash_test --seed 1 --seeds 12"
	"store_prop_test --seed 1 --ops 200000"
	"store_map_mutants_test"
	"store_layer_mutants_test"
	"store_image_mutants_test"
	"store_mutants_test"
	"store_flush_mutants_test"
	"store_merge_mutants_test"
	"store_check_mutants_test"
)

stage() { # NUMBER MUTANT
	# shellcheck disable=SC2086  # words are arguments
	LUNROOT_CHECK=quick MUTANT=$2 timeout 900 "$tests"/${stages[$1]} >"$work/log-$2-$1" 2>&1
}

try() { # MUTANT
	local i
	for i in "${!stages[@]}"; do
		stage "$i" "$1"
		case $? in
		0) continue ;;
		124) # a slow machine proves nothing
			printf 'ALIVE   %-32s %s took too long\n' "$1" "${stages[$i]}"
			return
			;;
		esac
		printf 'killed  %-32s by %s: %s\n' "$1" "${stages[$i]}" \
			"$(grep -ao 'block [0-9]*: .*\|^\[  FAILED.*' "$work/log-$1-$i" | head -n 1 | cut -c 1-90)"
		return
	done
	printf 'ALIVE   %s\n' "$1"
}

mapfile -t names < <(grep -oh 'MUTANT([a-z_]*)' "$sources"/*.c | sort -u | sed 's/.*(\(.*\))/\1/')
[ ${#names[@]} -gt 20 ] || {
	echo "no mutants in $sources"
	exit 1
}
for name in "${names[@]}"; do
	if [ -n "$daemon" ] && grep -aqw "$name" "$daemon"; then
		echo "$daemon has the switch $name: it must not be in what is installed"
		exit 1
	fi
done

# Without a mutant nothing of this may fail, or the rest proves nothing. (The later stages are tests
# of their own, too, so only the long run repeats them here.)
mode=${LUNROOT_CHECK:-quick}
last=3
[ "$mode" != long ] || last=$((${#stages[@]} - 1))
two_at_a_time() { while [ "$(jobs -rp | wc -l)" -ge 2 ]; do wait -n; done; }
for ((i = 0; i <= last; i++)); do
	two_at_a_time
	{ stage "$i" none || touch "$work/failed-$i"; } &
done
wait
for ((i = 0; i <= last; i++)); do
	[ -e "$work/failed-$i" ] || continue
	cat "$work/log-none-$i"
	echo "without a mutant: ${stages[$i]} fails"
	exit 1
done

if [ $# -gt 0 ]; then
	names=("$@")
elif [ "$mode" != long ]; then
	todays=()
	for i in "${!names[@]}"; do
		[ $((i % 12)) = $(($(date +%s) / 86400 % 12)) ] && todays+=("${names[$i]}")
	done
	names=("${todays[@]}")
fi

for name in "${names[@]}"; do
	two_at_a_time
	try "$name" >"$work/result-$name" &
done
wait
cat "$work"/result-*
alive=$(cat "$work"/result-* | grep -c ^ALIVE)
printf '%d mutants tried, %d killed, %d alive\n' ${#names[@]} $((${#names[@]} - alive)) "$alive"
[ "$alive" = 0 ]
