#!/bin/bash
# When the world fails: no io_uring, a full disk under writing nodes. lunrootd must say plainly
# what is wrong, and a node must see a wait, never an error.
#
# usage: trouble.sh     environment: LUNROOT_BUILD; wants root for a small file system
here=$(cd "$(dirname "$0")" && pwd)
if [ -z "${TROUBLE_INSIDE:-}" ] && [ "$(id -u)" -eq 0 ]; then
	# A mount namespace of its own: nothing to clean up, whatever happens.
	TROUBLE_INSIDE=1 exec unshare -m "$here/trouble.sh" "$@"
fi
. "$here/daemon.sh"

client=${VERIFY_CLIENT:-$LUNROOT_BUILD/tests/crash/verify_client}
no_uring=${NO_URING:-$LUNROOT_BUILD/tests/hostile/no_uring}
[ -x "$client" ] && [ -x "$no_uring" ] || skip "no $client or $no_uring"

daemon_begin

# --- no io_uring ---
timeout 10 "$no_uring" "$lunrootd" --state "$daemon_dir/state" --run "$daemon_dir/run" \
	--portal "$daemon_portal" --foreground >"$daemon_dir/no-uring.log" 2>&1
status=$?
[ "$status" -ne 0 ] || fail "it claims to run without io_uring"
[ "$status" -lt 124 ] || fail "without io_uring it ends with status $status"
grep -qi 'io_uring' "$daemon_dir/no-uring.log" || {
	cat "$daemon_dir/no-uring.log" >&2
	fail "the message does not name io_uring"
}
say "without io_uring: $(tail -n 1 "$daemon_dir/no-uring.log")"

# --- a full disk ---
if [ "${LUNROOT_CHECK:-full}" = quick ]; then
	say "(the full disk takes most of a minute: not in the quick form)"
	exit 0
fi
[ "$(id -u)" -eq 0 ] || skip "the full disk needs root"
mount -t tmpfs -o size=48m none "$daemon_dir/state" || skip "no mount"
trap 'umount -l "$daemon_dir/state"; daemon_cleanup' EXIT
"$client" fill "$daemon_dir/base.img" $((16 << 20)) || fail "fill"
daemon_start
ctl import "$daemon_dir/base.img" base --force >/dev/null || fail "import"
ctl clone base node >/dev/null || fail "clone"
url=$(ctl url node)
# 16 MiB are used by the image; leave about 2 to the node.
left=$(df --output=avail -B1M "$daemon_dir/state" | tail -1)
head -c $(((left - 2) << 20)) /dev/zero >"$daemon_dir/state/filler"
"$client" run --url "$url" --record "$daemon_dir/record" --seconds 25 --discard-percent 0 \
	>"$daemon_dir/client.log" 2>&1 &
client_pid=$!
sleep 8
kill -0 "$client_pid" 2>/dev/null || {
	cat "$daemon_dir/client.log" >&2
	fail "the client gave up on a full disk"
}
say "full disk, lunctl ls says:"
ctl ls
ctl ls 2>&1 | grep -Eqi 'space|full' || fail "lunctl ls raises no alarm"
grep -Eqi 'space|full' "$daemon_dir/log" || fail "the log raises no alarm"
# Longer than a write is held before BUSY.
sleep 12
rm "$daemon_dir/state/filler"
wait "$client_pid"
status=$?
cat "$daemon_dir/client.log"
[ "$status" -eq 0 ] || fail "the client ended with status $status"
"$client" verify --url "$url" --record "$daemon_dir/record" || fail "data lost on a full disk"
ctl ls 2>&1 | grep -Eqi 'no space|full' && fail "the alarm stays"
daemon_kill TERM || fail "SIGTERM ended it with status $?"
daemon_log_is_clean || fail "the log tells of a bug"
say "trouble: said plainly, nothing lost"
