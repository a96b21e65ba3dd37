#!/bin/bash
# The server's disk is full, for longer than Linux gives a busy command by itself (three minutes): the node waits, and
# goes on when there is room again.
. "$(dirname "$0")/node.sh"

[ "$(id -u)" = 0 ] || skip "a small file system of its own needs root"
full_s=$(by_mode 20 200 200)
small=$(mktemp -d /dev/shm/lunroot-small.XXXXXX)
mount -t tmpfs -o size=24M,mode=755 lunroot-test "$small" || { rmdir "$small" && skip "no tmpfs can be mounted"; }
LUNROOT_TEST_STATE=$small
node_begin
# shellcheck disable=SC2064
trap "node_end_all; umount -l '$small'; rmdir '$small'" EXIT
ctl clone base pi-01 >/dev/null || fail "clone"
node_conf pi-01
# All but 6 MiB is somebody else's.
fallocate -l $(($(df --output=avail -B1 "$small" | tail -1) - 6 * 1048576)) "$small/ballast" || fail "ballast"
# The kernel would tell that somebody waits for more than two minutes.
node_start pi-01 "t=write20 sysctl.kernel.hung_task_timeout_secs=0"
node_await pi-01 'STEP 4 ' 30
for ((i = 0; i < 300; i++)); do
	ctl --json show pi-01 | member luns.0.no_space | grep -q true && break
	sleep 0.1
done
[ $i -lt 300 ] || fail "the disk is not full after all"
say "full: $(grep -a -c STEP "$daemon_dir/pi-01.console") steps done"
sleep "$full_s"
! node_shown pi-01 'RESULT' || node_fail pi-01 "it ended on a full disk"
rm "$small/ballast"
node_await pi-01 'RESULT' 60
node_shown pi-01 'RESULT ok' || node_fail pi-01 "it failed"
node_await_end pi-01 20
node_dmesg_is_clean pi-01
node_fsck pi-01
say "ok: $full_s s without space were a stall"
daemon_ends_well
