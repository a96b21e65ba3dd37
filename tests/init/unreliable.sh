#!/bin/bash
# Logins that break at every place, and connections that are reset again and again under writes: the node logs in in the
# end, and nothing of what it wrote is lost.
. "$(dirname "$0")/node.sh"

resets=$(by_mode 20 60 400)
seed=${LUNROOT_TEST_SEED:-$RANDOM}
say "seed $seed"
node_begin
ctl clone base pi-01 >/dev/null || fail "clone"
relay_port=$(free_port)
mkfifo "$daemon_dir/relay.in"
python3 "$(dirname "$0")/unreliable_relay.py" "$relay_port" "${daemon_portal##*:}" "$seed" <"$daemon_dir/relay.in" \
	>"$daemon_dir/relay.log" 2>&1 &
relay=$!
trap 'kill "$relay" 2>/dev/null; node_end_all' EXIT
exec 7>"$daemon_dir/relay.in"
node_conf pi-01 "portal=10.0.2.2:$relay_port"
node_start pi-01 "t=write$((resets < 40 ? 40 : resets))"
node_await pi-01 'STEP 2 ' 120
# Until the disk was taken away that often.
for ((i = 0; i < resets * node_patience * 20; i++)); do
	[ "$(grep -c '^reset after' "$daemon_dir/relay.log")" -lt "$resets" ] || break
	! node_shown pi-01 'RESULT' || break
	kill -0 $relay 2>/dev/null || fail "the relay ended: $(tail -3 "$daemon_dir/relay.log")"
	sleep 0.1
done
echo calm >&7
node_await pi-01 'RESULT' $((resets + 60))
node_shown pi-01 'RESULT ok' || node_fail pi-01 "it failed"
node_await_end pi-01 20
# Until lunroot-init has seen the disk, the kernel has its own patience, and the look for partitions may fail.
sed -i '1,/lunroot: root is/d' "$daemon_dir/pi-01.console"
node_dmesg_is_clean pi-01
node_fsck pi-01
for what in 'at once' 'after a request' garbage slowly 'final 0' 'final 100'; do
	grep -qx "$what" "$daemon_dir/relay.log" || fail "no connection was spoilt by: $what"
done
say "ok: $(grep -c . "$daemon_dir/relay.log") connections, $(grep -c '^reset after' "$daemon_dir/relay.log") of them reset under writes"
daemon_ends_well
