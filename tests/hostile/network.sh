#!/bin/bash
# A bad network between verifying clients and lunrootd: delay, jitter, tiny segments, little
# bandwidth, and connections that are reset in the middle, ROUNDS times (default 6). After each
# cut the client logs in again and verifies at once, and once more later: a write of the dead
# session must not land after the new one was admitted.
#
# usage: network.sh [ROUNDS]     environment: LUNROOT_BUILD, SEED
. "$(dirname "$0")/daemon.sh"

rounds=${1:-$(by_mode 3 6 60)}
client=${VERIFY_CLIENT:-$LUNROOT_BUILD/tests/crash/verify_client}
relay=${RELAY:-$LUNROOT_BUILD/tests/hostile/relay}
[ -x "$client" ] && [ -x "$relay" ] || skip "no $client or $relay"
RANDOM=${SEED:-$$}
say "network: seed ${SEED:-$$}, $rounds rounds"
relay_pid=

start_relay() { # OPTIONS
	relay_port=$(free_port)
	"$relay" --seed "$RANDOM" "$@" "$relay_port" "${daemon_portal##*:}" &
	relay_pid=$!
	sleep 0.1
}

end_relay() {
	kill -KILL "$relay_pid" 2>/dev/null
	wait "$relay_pid" 2>/dev/null
	relay_pid=
}

verify() {
	"$client" verify --url "$url" --record "$daemon_dir/record" ||
		fail "round $round: data lost or changed late"
}

daemon_begin
trap '[ -n "$relay_pid" ] && kill -KILL "$relay_pid"; daemon_cleanup' EXIT
"$client" fill "$daemon_dir/base.img" $((16 << 20)) || fail "fill"
daemon_start
ctl import "$daemon_dir/base.img" base --force >/dev/null || fail "import"
ctl clone base node >/dev/null || fail "clone"
url=$(ctl url node)

for ((round = 1; round <= rounds; round++)); do
	case $((round % 3)) in
	0) start_relay --segment-bytes 60 --life-ms 900 ;;
	1) start_relay --delay-ms 5 --jitter-ms 10 --life-ms 1500 ;;
	2) start_relay --rate-kib 2000 --segment-bytes 1460 --life-ms 1200 ;;
	esac
	"$client" run --url "${url/$daemon_portal/127.0.0.1:$relay_port}" \
		--record "$daemon_dir/record" --seconds 10 --depth 32 --seed "$RANDOM"
	status=$?
	[ "$status" -eq 7 ] || fail "round $round: the client ended with status $status"
	verify
	sleep 0.5
	verify
	end_relay
	daemon_alive || fail "round $round: the daemon died"
done
daemon_kill TERM || fail "SIGTERM ended it with status $?"
daemon_log_is_clean || fail "the log tells of a bug"
say "network: $rounds cuts, nothing lost and nothing late"
