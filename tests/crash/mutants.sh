#!/bin/bash
# The tests of store and catalogue are tested: each step on which durability rests is switched off by
# itself (target/base/mutant.h), and some test must notice. The names are read from the sources, so a
# new switch is tried from then on; one that nothing notices fails this test by its name.
#
# usage: mutants.sh SOURCES BUILD [NAME...]
#   SOURCES  folder of the rooms: store and control
#   BUILD    folder of the build, with the programs that have the switches
#   NAME     only these mutants
# Without NAME a twelfth of them, another one each day; with LUNROOT_CHECK=long all.
set -u

sources=${1:?usage: mutants.sh SOURCES BUILD [NAME...]}
build=${2:?usage: mutants.sh SOURCES BUILD [NAME...]}
shift 2
here=$(dirname "$0")
daemon=${LUNROOTD:-}
work=$(mktemp -d /dev/shm/lunroot-mutants.XXXXXX)
trap 'rm -rf "$work"' EXIT

# The same seeds each time: whether a mutant is found is no matter of luck. Cheap ones first.
store_stages=(
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
control_stages=(
	"power_cuts.py --seed 1 --quick --only done"
	"catalogue_mutants_test --once create clone 'rename image' 'rm node --now' 'rm image --now' snapshot 'rm snapshot' 'undo node' 'undo image'"
	"power_cuts.py --seed 1 --long --rounds 1 --only 'first 0' --only 'die rename-image' --only 'die rm-image' --only 'folder rename-image'"
	"power_cuts.py --seed 1 --long --rounds 1 --only 'unsure rm-image' --only 'commit clone' --only 'die clone'"
	"catalogue_mutants_test --once"
)

stage() { # STAGE MUTANT: with the words of that stage
	local program=$1
	case $program in
	store_*) program="$build/target/store/$program" ;;
	catalogue_*) program="$build/tests/crash/$program" ;;
	*) program="$here/$program" ;;
	esac
	LUNROOT_CHECK=quick LUNROOT_BUILD=$build LUNROOTD=$build/target/lunrootd_mutants MUTANT=$2 \
		eval "timeout 900 $program"
}

# The room that has the switch says which tests must notice.
stages_of() { # MUTANT
	if grep -qw "MUTANT($1)" "$sources"/control/*.c; then
		stages=("${control_stages[@]}")
	else
		stages=("${store_stages[@]}")
	fi
}

try() { # MUTANT
	local i skipped=
	stages_of "$1"
	for i in "${!stages[@]}"; do
		stage "${stages[$i]}" "$1" >"$work/log-$1-$i" 2>&1
		case $? in
		0) continue ;;
		77)
			skipped=1
			continue
			;;
		124) # a slow machine proves nothing
			printf 'ALIVE   %-32s %s took too long\n' "$1" "${stages[$i]}"
			return
			;;
		esac
		printf 'killed  %-32s by %s: %s\n' "$1" "${stages[$i]}" \
			"$(grep -ao 'block [0-9]*: .*\|^\[  FAILED.*\|^FAILED: .*' "$work/log-$1-$i" | head -n 1 | cut -c 1-90)"
		return
	done
	if [ -n "$skipped" ]; then
		printf 'unknown %-32s what would notice it can not run here\n' "$1"
		return
	fi
	printf 'ALIVE   %s\n' "$1"
}

mapfile -t names < <(grep -oh 'MUTANT([a-z_]*)' "$sources"/store/*.c "$sources"/control/*.c | sort -u |
	sed 's/.*(\(.*\))/\1/')
[ ${#names[@]} -gt 40 ] || {
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
unchanged=("${store_stages[@]:0:4}" "${control_stages[@]:0:4}")
[ "$mode" != long ] || unchanged=("${store_stages[@]}" "${control_stages[@]}")
two_at_a_time() { while [ "$(jobs -rp | wc -l)" -ge 2 ]; do wait -n; done; }
for i in "${!unchanged[@]}"; do
	two_at_a_time
	{
		stage "${unchanged[$i]}" none >"$work/log-none-$i" 2>&1
		case $? in
		0 | 77) ;;
		*) touch "$work/failed-$i" ;;
		esac
	} &
done
wait
for i in "${!unchanged[@]}"; do
	[ -e "$work/failed-$i" ] || continue
	cat "$work/log-none-$i"
	echo "without a mutant: ${unchanged[$i]} fails"
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
