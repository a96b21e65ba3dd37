#!/bin/bash
# Reads and writes through lunrootd, through tgt (if installed) and on the plain file (fio with
# io_uring, if installed), in the same run, and prints the ratios. Judges nothing.
#
# usage: io.sh [SECONDS]     per job (default 2)    environment: LUNROOT_BUILD, JOBS, ROUNDS
. "$(dirname "$0")/../hostile/daemon.sh"

seconds=${1:-2}
rounds=${ROUNDS:-1}
jobs=${JOBS:-"rr4k-qd1 rr4k-qd32 rw4k-qd1 rw4k-qd32 sr256k-qd8 sw256k-qd8"}
load=$LUNROOT_BUILD/tests/bench/load
[ -x "$load" ] || skip "no $load"
tgt_pid=

# The middle one of the figures on standard input.
median() {
	sort -n | awk '{ v[NR] = $1 } END { print NR ? v[int((NR + 1) / 2)] : 0 }'
}

iscsi_iops() { # URL JOB
	local i
	for ((i = 0; i < rounds; i++)); do
		"$load" "$1" "$2" "$seconds" | cut -d' ' -f2
	done | median
}

file_iops() { # FILE JOB
	local job=$2 rw kib depth i
	command -v fio >/dev/null || { echo 0; return; }
	case $job in rr*) rw=randread ;; rw*) rw=randwrite ;; sr*) rw=read ;; *) rw=write ;; esac
	kib=${job#??} kib=${kib%%k*} depth=${job##*qd}
	for ((i = 0; i < rounds; i++)); do
		fio --name=f --filename="$1" --ioengine=io_uring --invalidate=0 --rw=$rw --bs="${kib}k" \
			--iodepth="$depth" --runtime="$seconds" --time_based --minimal 2>/dev/null |
			awk -F';' '{ print int($8 + $49) }'
	done | median
}

ratio() {
	awk -v a="$1" -v b="$2" 'BEGIN { if (b > 0) printf "%.2f", a / b; else printf "-" }'
}

# A private tgtd: its own control port, a portal on loopback.
start_tgt() {
	command -v tgtd >/dev/null || return 1
	tgt_port=$((30000 + RANDOM % 2000))
	tgt_control=$((1000 + RANDOM % 20000))
	tgtd -f -C $tgt_control --iscsi portal=127.0.0.1:$tgt_port >"$daemon_dir/tgt.log" 2>&1 &
	tgt_pid=$!
	trap 'kill -9 $tgt_pid; daemon_cleanup' EXIT
	sleep 1
	kill -0 $tgt_pid 2>/dev/null || { tgt_pid=; return 1; }
	local tgtadm="tgtadm -C $tgt_control --lld iscsi --mode"
	$tgtadm target --op new --tid 1 -T iqn.2026-11.local.lunroot.test:peer &&
		$tgtadm logicalunit --op new --tid 1 --lun 1 -b "$daemon_dir/tgt.img" &&
		$tgtadm target --op bind --tid 1 -I ALL
}

daemon_begin
daemon_start
say "making a disk of 512 MiB with data in every block"
openssl enc -aes-128-ctr -K 00112233445566778899aabbccddeeff -iv 00000000000000000000000000000000 \
	-in /dev/zero 2>/dev/null | head -c $((512 << 20)) >"$daemon_dir/base.img"
ctl import "$daemon_dir/base.img" base --force >/dev/null || fail "import"
ctl clone base node --no-auth >/dev/null || fail "clone"
mv "$daemon_dir/base.img" "$daemon_dir/file.img"
cp "$daemon_dir/file.img" "$daemon_dir/tgt.img"
peer=
start_tgt && peer=iscsi://127.0.0.1:$tgt_port/iqn.2026-11.local.lunroot.test:peer/1

printf '%-12s %10s %10s %10s %12s %12s\n' job lunrootd tgt file lunrootd/tgt lunrootd/file
for job in $jobs; do
	ours=$(iscsi_iops "$(ctl url node)" "$job")
	theirs=0
	[ -n "$peer" ] && theirs=$(iscsi_iops "$peer" "$job")
	file=$(file_iops "$daemon_dir/file.img" "$job")
	printf '%-12s %10s %10s %10s %12s %12s\n' "$job" "$ours" "$theirs" "$file" \
		"$(ratio "$ours" "$theirs")" "$(ratio "$ours" "$file")"
done
say "(operations a second; 4k = 4 KiB, 256k = 256 KiB; all in memory)"
