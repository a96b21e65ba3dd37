#!/bin/bash
# What reading costs through chains of 1, 2, 4, 8 and 16 layers, beside the bare image, in the same run. Each layer owns some
# blocks here and there, so a long read is cut into many runs. Prints the ratios, also of the processor time that a read
# costs, which a busy machine changes least. Judges nothing.
#
# The disks lie in /var/tmp (all of them in the page cache), not on a tmpfs as in other tests: io_uring hands each read of a
# file on a tmpfs to a thread of its own, and a read in many runs then takes up to three times as long.
#
# usage: chain.sh [SECONDS]     per job (default 2)    environment: LUNROOT_BUILD, JOBS, ROUNDS, LAYERS, LUNROOT_TEST_STATE
export LUNROOT_TEST_STATE=${LUNROOT_TEST_STATE:-/var/tmp}
. "$(dirname "$0")/../hostile/daemon.sh"

seconds=${1:-2}
rounds=${ROUNDS:-3}
jobs=${JOBS:-"rr4k-qd1 rr4k-qd32 sr256k-qd8"}
layers=${LAYERS:-"1 2 4 8 16"}
load=$LUNROOT_BUILD/tests/bench/load
[ -x "$load" ] || skip "no $load"
declare -A iops cpu

# The middle one of the figures on standard input.
median() {
	sort -n | awk '{ v[NR] = $1 } END { print NR ? v[int((NR + 1) / 2)] : 0 }'
}

# A node with a chain of COUNT layers: all but the last one sealed by a snapshot.
make_chain() { # COUNT
	local i
	ctl clone base "chain-$1" --no-auth >/dev/null || fail "clone"
	for ((i = 1; i <= $1; i++)); do
		"$load" "$(ctl url "chain-$1")" rw4k-qd8 0.1 >/dev/null || fail "load"
		[ "$i" -eq "$1" ] || ctl snapshot "chain-$1" "s$i" >/dev/null || fail "snapshot"
	done
}

daemon_begin
daemon_start
ctl snapshot --help >/dev/null 2>&1 || skip "lunctl has no snapshot"
say "making a disk of 256 MiB with data in every block"
openssl enc -aes-128-ctr -K 00112233445566778899aabbccddeeff -iv 00000000000000000000000000000000 \
	-in /dev/zero 2>/dev/null | head -c $((256 << 20)) >"$daemon_dir/base.img"
ctl import "$daemon_dir/base.img" base --force >/dev/null || fail "import"
ctl clone base chain-0 --no-auth --read-only >/dev/null || fail "clone"
for count in $layers; do make_chain "$count"; done

ticks() { sed 's/.*) //' "/proc/$daemon_pid/stat" | awk '{ print $12 + $13 }'; }

# Adds to what is known of a chain: how many reads a second, and how many microseconds of the daemon's processor time each took.
measure() { # COUNT JOB
	local before each
	before=$(ticks)
	each=$("$load" "$(ctl url "chain-$1")" "$2" "$seconds" | cut -d' ' -f2)
	iops[$1]+="$each "
	cpu[$1]+=$(awk -v t=$(($(ticks) - before)) -v n="$each" -v s="$seconds" 'BEGIN { printf "%.1f ", n ? t * 1e4 / n / s : 0 }')
}

middle() { tr ' ' '\n' <<<"$1" | sed '/^$/d' | median; }
ratio() { awk -v a="$1" -v b="$2" 'BEGIN { printf "%.2f", b ? a / b : 0 }'; }

# All of them one after the other, in each round: what the machine does besides hits all alike.
for job in $jobs; do
	iops=() cpu=()
	for ((round = 0; round < rounds; round++)); do
		for count in 0 $layers; do measure "$count" "$job"; done
	done
	base_iops=$(middle "${iops[0]}") base_cpu=$(middle "${cpu[0]}")
	for count in 0 $layers; do
		now_iops=$(middle "${iops[$count]}") now_cpu=$(middle "${cpu[$count]}")
		printf '%-11s %2d layers %8s a second, %s of the image; %7s us of processor each, %s of the image\n' "$job" "$count" \
			"$now_iops" "$(ratio "$now_iops" "$base_iops")" "$now_cpu" "$(ratio "$now_cpu" "$base_cpu")"
	done
done
say "(0 layers: the image itself, read-only; all in memory)"
