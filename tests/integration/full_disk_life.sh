#!/bin/bash
# The life of a disk when the server's is full: what needs space is refused with the cure and changes
# nothing, the node that waits for space goes on waiting, and what gives space back works.
if [ -z "${LUNROOT_TEST_STATE:-}" ]; then
	[ "$(id -u)" = 0 ] || { echo "skipped: a small file system needs root" >&2; exit 77; }
	small=$(mktemp -d /dev/shm/lunroot-small.XXXXXX)
	# Nothing stays mounted if this is killed.
	LUNROOT_TEST_STATE=$small unshare -m bash -c 'mount -t tmpfs -o size=40m none "$1" || exit 77; "$0"' "$0" "$small"
	status=$?
	rmdir "$small"
	exit $status
fi
. "$(dirname "$0")/lib.sh"
need qemu-io

daemon_begin
daemon_start --merge-rate 0 --reserve 0
ctl create base --size 32M >/dev/null || fail "create"
ctl clone base pi-01 --data 16M >/dev/null || fail "clone"
put() { qemu-io -f raw -c "write -P $1 $2 $3" -c flush "$(url pi-01)" >/dev/null || fail "write"; }
holds() {
	qemu-io -f raw -c "read -P $1 $2 $3" "$(url pi-01)" >"$daemon_dir/io" 2>&1 || fail "read: $(cat "$daemon_dir/io")"
	grep -q 'erification failed' "$daemon_dir/io" && fail "$1 is not at $2"
	return 0
}
put 1 0 16M
ctl snapshot pi-01 a >/dev/null || fail "snapshot"
put 2 0 12M
ctl snapshot pi-01 b >/dev/null || fail "snapshot"
timeout 100 qemu-io -f raw -c 'write -P 3 0 16M' -c flush "$(url pi-01)" >"$daemon_dir/write" 2>&1 &
writer=$!
await_log 'the file system is full'
expect_ctl "ls raises the alarm" 0 'NO SPACE LEFT' -- ls
expect_ctl "a snapshot needs space" 1 'no space' 'cure: free' -- snapshot pi-01 c
expect_ctl "so does a larger disk" 1 'no space' 'cure: free' -- resize pi-01 64M
expect_ctl "and an image" 1 'no space' -- promote pi-01 gold --snapshot a
expect_ctl "and a disk on its own feet" 1 'no space|snapshots' -- flatten pi-01
expect_ctl "an export of now needs a layer" 1 'no space' 'cure: lunctl export pi-01 FILE --snapshot b; or with the node shut down: qemu-img convert' \
	-- export pi-01 "$daemon_dir/now.img"
expect_ctl "its cure" 0 -- export pi-01 "$daemon_dir/b.img" --snapshot b
qemu-io -f raw -r -c 'read -P 2 0 12M' "$daemon_dir/b.img" | grep -q '^read' || fail "the export of a snapshot"
rm "$daemon_dir/b.img"
expect_ctl "a snapshot can be removed" 0 'removed' -- rm pi-01@b
await_log 'there is no space to merge its layers now|no space left'
[ "$(ls -A "$daemon_dir/state/images" | grep -c gold)" = 0 ] || fail "an image is left: $(ls -A "$daemon_dir/state/images")"
ls -A "$daemon_dir/state/layers" | grep '^[.]' && fail "layers are left over"
kill -0 $writer || fail "the write ended: $(cat "$daemon_dir/write")"
# Its death and a new start, still without space.
daemon_kill KILL
daemon_start --merge-rate 0 --reserve 0
mount -o remount,size=200m "$LUNROOT_TEST_STATE"
wait $writer
ctl snapshot pi-01 d >/dev/null || fail "a snapshot when there is space again"
put 4 0 16M
holds 4 0 16M
ctl rollback pi-01 a --force >/dev/null || fail "rollback"
holds 1 0 16M
# Who waits goes before there is space: the alarm goes when there is some, although nothing is written.
mount -o remount,size=48m "$LUNROOT_TEST_STATE"
timeout 100 qemu-io -f raw -c 'write -P 5 0 32M' -c flush "$(url pi-01)" >"$daemon_dir/write" 2>&1 &
writer=$!
for ((i = 0; i < 100; i++)); do ctl ls | grep -q 'NO SPACE LEFT' && break; sleep 0.1; done
[ $i -lt 100 ] || fail "nothing waits for space"
kill $writer
wait $writer 2>/dev/null
for ((i = 0; i < 200; i++)); do ctl show pi-01 | grep -q '^state *in use' || break; sleep 0.1; done
[ $i -lt 200 ] || fail "the writer is still logged in"
expect_ctl "the disk is full, whoever waits" 0 'NO SPACE LEFT' '^! no space left: the writes of pi-01' -- ls
mount -o remount,size=200m "$LUNROOT_TEST_STATE"
expect_ctl "there is space again" 0 'ready' -- ls
! grep -Eq '^!|NO SPACE' "$daemon_dir/output" || fail "the alarm stays: $(cat "$daemon_dir/output")"
daemon_ends_well
say "ok: on a full disk what needs space is refused, and nothing is lost"
