#!/bin/bash
# Kills lunrootd again and again while initiators go on using their disks, and looks that none of them sees an error
# and that nothing which was acknowledged is lost, flushed or not.
#
# Three initiators work all the time: two verifying clients (verify_client --reconnect, over libiscsi) and QEMU's (qemu-io).
# The deaths take turns at random:
#
#   how     KILL, ABRT (as an assertion), and the kernel's OOM killer (a memory cgroup, where one can be made: with
#           root; else it is left out, for it kills by SIGKILL as well)
#   when    under load; while it starts; while a clone is made; while a node gets another name;
#           while a snapshot is made of one that is written to, and while others are merged away
#
# After each PHASE deaths the initiators finish what is under way and every block is read: by the verifying client, and by
# another initiator, qemu-img, against a file of what must be there.
#
# usage: kill_storm.sh [KILLS]     environment: LUNROOT_BUILD, SEED, PHASE (kills until all is read)
. "$(dirname "$0")/../hostile/daemon.sh"

kills=${1:-$(by_mode 12 160 5000)}
phase=${PHASE:-$(by_mode 12 40 50)}
lines=$(by_mode 60 200 200) # of what qemu-io is told in that time
batch=200 # to a shell, which then begins anew: process ids come back after some ten thousand, and it waits for the wrong ones
client=${VERIFY_CLIENT:-$LUNROOT_BUILD/tests/crash/verify_client}
[ -x "$client" ] || skip "no $client"
seed=${SEED:-$$}
RANDOM=$seed
say "kill_storm: seed $seed, $kills kills"
ulimit -c 0
if [ "$kills" -gt $batch ]; then
	for ((done_of = 0; done_of < kills; done_of += batch)); do
		SEED=$((seed + done_of)) "$0" $((kills - done_of < batch ? kills - done_of : batch)) || exit
	done
	say "kill_storm: $kills kills tried, 0 lost"
	exit
fi
tried=0 lost=0 turn=0
declare -A ways

lose() {
	say "LOST after $tried kills: $*"
	lost=$((lost + 1))
}

# --- the OOM killer ---

# A memory cgroup, of either version: $cgroup, and the names of its two files. Fails if there can be none.
cgroup=
make_cgroup() {
	if [ -d /sys/fs/cgroup/memory ]; then
		cgroup=/sys/fs/cgroup/memory/lunroot-test.$$ cgroup_used=memory.usage_in_bytes cgroup_max=memory.limit_in_bytes
	else
		cgroup=/sys/fs/cgroup/lunroot-test.$$ cgroup_used=memory.current cgroup_max=memory.max
	fi
	mkdir "$cgroup" 2>/dev/null && [ -w "$cgroup/$cgroup_max" ] && return
	rmdir "$cgroup" 2>/dev/null
	cgroup=
	return 1
}

# Something beside the daemon in its cgroup takes what memory is left; the daemon is the one to go.
kill_by_oom() {
	local hog status
	echo "$daemon_pid" >"$cgroup/cgroup.procs"
	echo 1000 >"/proc/$daemon_pid/oom_score_adj"
	echo $(($(cat "$cgroup/$cgroup_used") + (24 << 20))) >"$cgroup/$cgroup_max"
	(
		echo "$BASHPID" >"$cgroup/cgroup.procs"
		echo -900 >/proc/self/oom_score_adj
		exec tail /dev/zero
	) >/dev/null 2>&1 &
	hog=$!
	wait -n "$daemon_pid" $hog 2>/dev/null
	# The kernel may have chosen the other.
	! daemon_alive || kill -KILL "$daemon_pid"
	wait "$daemon_pid" 2>/dev/null
	status=$?
	daemon_pid=
	kill -KILL $hog 2>/dev/null
	wait $hog 2>/dev/null
	echo -1 >"$cgroup/$cgroup_max" 2>/dev/null || echo max >"$cgroup/$cgroup_max"
	# As it starts the kernel may refuse it memory instead.
	[ $status -eq 137 ] || { [ $status -eq 1 ] && tail -n 1 "$daemon_dir/log" | grep -q 'Cannot allocate memory'; } ||
		fail "the OOM killer: status $status"
}

storm_cleanup() {
	[ "$BASHPID" = $$ ] || return 0 # as daemon_cleanup
	daemon_cleanup
	[ -z "$cgroup" ] || rmdir "$cgroup"
}

# --- deaths ---

die() {
	local how=KILL
	case $((RANDOM % 8)) in
	0 | 1) how=ABRT ;;
	2) [ -z "$cgroup" ] || how=oom ;;
	esac
	daemon_alive || fail "it died by itself after $tried kills"
	if [ $how = oom ]; then kill_by_oom; else daemon_kill $how; fi
	tried=$((tried + 1))
	ways[$how]=$((${ways[$how]:-0} + 1))
}

at() { # MOMENT
	ways[$1]=$((${ways[$1]:-0} + 1))
}

die_under_load() {
	at "under load"
	sleep 0.$((RANDOM % 3))$((RANDOM % 10))
	die
	daemon_start
}

die_in_start() {
	at "in start-up"
	die
	"$lunrootd" --state "$daemon_dir/state" --run "$daemon_dir/run" \
		--portal "$daemon_portal" --foreground >>"$daemon_dir/log" 2>&1 &
	daemon_pid=$!
	sleep 0.0$((RANDOM % 6))$((RANDOM % 10))
	die
	daemon_start
}

nodes_named() { ctl --json ls | grep -c "\"name\": *\"$1\""; }

# One operation of lunctl's, killed somewhere in it; its status.
die_in_operation() { # VERB ARGUMENT...
	local operation status
	ctl "$@" >/dev/null 2>&1 &
	operation=$!
	sleep 0.0$((RANDOM % 3))$((RANDOM % 10))
	die
	wait $operation
	status=$?
	daemon_start
	return $status
}

# There if lunctl said so; there whole, or not at all, if it did not.
die_in_clone() {
	local node=c$tried status
	at "in clone"
	die_in_operation clone base "$node"
	status=$?
	if [ "$(nodes_named "$node")" -eq 0 ]; then
		[ $status -ne 0 ] || lose "clone $node: done, and not there"
		return
	fi
	"$client" verify --url "$(ctl url "$node")" --journal /dev/null --cut 0 >"$daemon_dir/verify" 2>&1 || {
		cat "$daemon_dir/verify"
		lose "clone $node is not its image"
	}
	spare=${spare:-$node}
	[ "$spare" = "$node" ] || ctl rm --now "$node" >/dev/null || lose "rm $node"
}

die_in_rename() {
	local new=d$tried status old_there new_there
	[ -n "${spare:-}" ] || return 0
	at "in rename"
	die_in_operation rename "$spare" "$new"
	status=$?
	old_there=$(nodes_named "$spare") new_there=$(nodes_named "$new")
	case $status$old_there$new_there in
	?01) spare=$new ;;
	[!0]10) ;;
	*) lose "rename $spare $new: status $status, old $old_there, new $new_there" ;;
	esac
}

# A snapshot of a node that is being written to. The oldest one's name goes when there are some, so that kills find a
# merge under way, too.
die_in_snapshot() {
	local name=s$tried status
	at "in snapshot"
	die_in_operation snapshot "a$turn" "$name"
	status=$?
	if ctl --json show "a$turn" | grep -q "\"name\": *\"$name\""; then
		snapshots+=("$name")
	elif [ $status -eq 0 ]; then
		lose "snapshot $name: done, and not there"
	fi
	[ ${#snapshots[@]} -gt 2 ] || return 0
	ctl rm "a$turn@${snapshots[0]}" >/dev/null || lose "rm of a snapshot"
	snapshots=("${snapshots[@]:1}")
}

# --- initiators ---

# The same for the node and for a plain file: what qemu-io is told.
write_script() {
	local i offset
	for ((i = 0; i < lines; i++)); do
		offset=$((RANDOM % 1022 * 32))k # the longest write still ends within the disk
		printf 'write -P %d %s %dk\n' $((1 + RANDOM % 254)) $offset $((4 * (1 + RANDOM % 12)))
		[ $((RANDOM % 8)) -ne 0 ] || printf 'flush\n'
	done
}

await() { # COMMAND... that comes to succeed
	local i
	for ((i = 0; i < 1200; i++)); do
		"$@" 2>/dev/null && return
		sleep 0.05
	done
	fail "not within a minute: $*"
}

# All of them logged in: an initiator that never was gives up at once.
start_initiators() {
	local node url line
	turn=$((turn + 1))
	snapshots=()
	clients=
	for node in a b; do
		ctl clone base $node$turn >/dev/null || fail "clone"
		"$client" run --url "$(ctl url $node$turn)" --record "$daemon_dir/$node.record" --seconds 100000 \
			--reconnect --depth $((1 + RANDOM % 32)) --flush-percent $((RANDOM % 10)) --seed $RANDOM \
			--discard-percent $((RANDOM % 10)) --fua-percent $((RANDOM % 5)) >>"$daemon_dir/client.log" 2>&1 &
		clients+=" $!"
	done
	ctl clone base q$turn >/dev/null || fail "clone"
	write_script >"$daemon_dir/script"
	cp "$daemon_dir/base.img" "$daemon_dir/q.raw"
	qemu-io -f raw "$daemon_dir/q.raw" <"$daemon_dir/script" >/dev/null || fail "qemu-io on a file"
	url=$(ctl url q$turn) || fail "url"
	: >"$daemon_dir/qemu-io"
	# Slowly, so that it takes as long as the others.
	while read -r line; do
		printf '%s\n' "$line"
		sleep 0.05
	done <"$daemon_dir/script" | qemu-io -f raw "$url" >"$daemon_dir/qemu-io" 2>&1 &
	qemu_io=$!
	await grep -q wrote "$daemon_dir/qemu-io"
	for node in a b; do await [ -e "$daemon_dir/$node.record" ]; done
}

same_by_qemu() { # NODE FILE
	qemu-img compare -f raw -F raw "$2" "$(ctl url "$1")" >"$daemon_dir/compare" 2>&1 || {
		cat "$daemon_dir/compare"
		lose "node $1, as qemu-img reads it"
	}
}

judge() {
	local node pid
	# shellcheck disable=SC2086
	kill -TERM $clients
	for pid in $clients; do
		wait "$pid" || {
			tail -n 20 "$daemon_dir/client.log"
			lose "a client saw an error"
		}
	done
	wait $qemu_io || lose "qemu-io ended with status $?"
	! grep -E 'failed|rror' "$daemon_dir/qemu-io" || lose "qemu-io saw an error"
	for node in a b; do
		"$client" verify --url "$(ctl url $node$turn)" --record "$daemon_dir/$node.record" >"$daemon_dir/verify" 2>&1 || {
			cat "$daemon_dir/verify"
			lose "node $node$turn"
		}
		"$client" dump "$daemon_dir/$node.record" "$daemon_dir/dump" || fail "dump"
		same_by_qemu $node$turn "$daemon_dir/dump"
	done
	same_by_qemu q$turn "$daemon_dir/q.raw"
	for node in a b q; do ctl rm --now $node$turn >/dev/null || lose "rm $node$turn"; done
	rm -f "$daemon_dir"/*.record
	say "$tried kills: $(tail -n 1 "$daemon_dir/client.log")"
}

daemon_begin
command -v qemu-io >/dev/null || skip "qemu-io is not installed"
trap storm_cleanup EXIT
make_cgroup || say "no memory cgroup can be made here: the OOM killer's SIGKILL is left to SIGKILL"
"$client" fill "$daemon_dir/base.img" $((32 << 20)) || fail "fill"
daemon_start
ctl import "$daemon_dir/base.img" base --force >/dev/null || fail "import"

while [ $tried -lt "$kills" ]; do
	start_initiators
	end=$((tried + phase))
	while [ $tried -lt $end ] && [ $tried -lt "$kills" ]; do
		case $((RANDOM % 10)) in
		0 | 1) die_in_start ;;
		2) die_in_clone ;;
		3) die_in_rename ;;
		4) die_in_snapshot ;;
		*) die_under_load ;;
		esac
	done
	judge
done
daemon_kill TERM || fail "SIGTERM ended it with status $?"
daemon_log_is_clean || fail "the log tells of a bug"
for way in "${!ways[@]}"; do say "  ${ways[$way]} $way"; done
say "kill_storm: $tried kills tried, $lost lost"
[ $lost -eq 0 ]
