#!/bin/bash
# Kills lunrootd under write load at random moments, ROUNDS times (default 18), starts it again on
# the same folders, and lets clients that know what was acknowledged verify every block. The
# rounds take turns:
#
#   kill     kill -9 under mixed writes
#   flush    kill -9 under a storm of flushes
#   discard  kill -9 under a storm of discards
#   twice    kill -9, and again while it starts
#   power    kill -9 and the live maps are gone: what was flushed must be there
#   stop     SIGTERM, and the live maps are gone: everything must be there
#
# usage: kill9.sh [ROUNDS]     environment: LUNROOT_BUILD, SEED (of the moments)
. "$(dirname "$0")/../hostile/daemon.sh"

rounds=${1:-$(by_mode 6 18 150)}
client=${VERIFY_CLIENT:-$LUNROOT_BUILD/tests/crash/verify_client}
[ -x "$client" ] || skip "no $client"
RANDOM=${SEED:-$$}
say "kill9: seed ${SEED:-$$}, $rounds rounds"

nodes=
kinds=(kill flush discard power stop twice)

start_clients() { # FLUSH_PERCENT DISCARD_PERCENT FUA_PERCENT
	local node url
	clients=
	for node in $nodes; do
		# Asked before the client goes its own way: the kill may come at once.
		url=$(ctl url "$node") || fail "url $node"
		"$client" run --url "$url" --record "$daemon_dir/$node.record" \
			--seconds 60 --depth $((1 + RANDOM % 40)) --flush-percent "$1" \
			--discard-percent "$2" --fua-percent "$3" --seed "$RANDOM" >>"$daemon_dir/client.log" 2>&1 &
		clients="$clients $!"
	done
}

await_clients() {
	local pid status
	for pid in $clients; do
		wait "$pid"
		status=$?
		[ "$status" -eq 7 ] || {
			tail -n 20 "$daemon_dir/client.log" >&2
			fail "round $round ($kind): a client ended with status $status"
		}
	done
}

verify() { # [--power-loss]
	local node
	for node in $nodes; do
		"$client" verify --url "$(ctl url "$node")" --record "$daemon_dir/$node.record" "$@" ||
			fail "round $round ($kind): node $node lost data"
	done
}

# The live maps die with the power; so does the control socket.
lose_power() {
	rm -rf "${daemon_dir:?}/run"
	mkdir "$daemon_dir/run"
}

daemon_begin
"$client" fill "$daemon_dir/base.img" $((32 << 20)) || fail "fill"
daemon_start
# The content is no file system, and that is what the tests want.
ctl import "$daemon_dir/base.img" base --force >/dev/null || fail "import"

for ((round = 1; round <= rounds; round++)); do
	kind=${kinds[(round - 1) % ${#kinds[@]}]}
	# Fresh disks now and then: first writes and copies of the image's blocks are the hard part.
	if [ -z "$nodes" ] || [ "$kind" = power ] || [ $((RANDOM % 2)) -eq 0 ]; then
		nodes="a$round b$round"
		for node in $nodes; do
			ctl clone base "$node" >/dev/null || fail "clone $node"
		done
	fi
	case $kind in
	flush) start_clients 30 4 10 ;;
	discard) start_clients 2 35 3 ;;
	power) start_clients $((RANDOM % 3)) 6 $((RANDOM % 2)) ;; # much to lose
	*) start_clients 2 4 3 ;;
	esac
	if [ "$kind" = power ]; then
		sleep "0.0$((20 + RANDOM % 79))" # before every block is mapped
	else
		sleep "0.$((100 + RANDOM % 899))"
		[ $((RANDOM % 3)) -eq 0 ] && sleep 1
	fi
	daemon_alive || fail "round $round ($kind): it died by itself"
	case $kind in
	stop)
		daemon_kill TERM || fail "round $round: SIGTERM ended it with status $?"
		await_clients
		lose_power
		daemon_start
		verify
		;;
	power)
		daemon_kill KILL
		await_clients
		lose_power
		daemon_start
		verify --power-loss
		;;
	twice)
		daemon_kill KILL
		await_clients
		"$lunrootd" --state "$daemon_dir/state" --run "$daemon_dir/run" \
			--portal "$daemon_portal" --foreground >>"$daemon_dir/log" 2>&1 &
		daemon_pid=$!
		sleep "0.0$((RANDOM % 100))"
		daemon_kill KILL
		daemon_start
		verify
		;;
	*)
		daemon_kill KILL
		await_clients
		daemon_start
		verify
		;;
	esac
	say "round $round ($kind): good"
done
daemon_kill TERM || fail "SIGTERM ended it with status $?"
daemon_log_is_clean || fail "the log tells of a bug"
say "kill9: $rounds rounds, nothing that was acknowledged is lost"
