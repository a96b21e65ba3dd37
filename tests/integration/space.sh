#!/bin/bash
# The reserve, on a small file system of its own: what is new is refused or stopped before the disk is full, and says
# so; nodes that are there write on, into the reserve, and wait when nothing is left.
#
# Wants root for the file system.
here=$(cd "$(dirname "$0")" && pwd)
if [ -z "${SPACE_INSIDE:-}" ] && [ "$(id -u)" -eq 0 ]; then
	# A mount namespace of its own: nothing to clean up, whatever happens.
	SPACE_INSIDE=1 exec unshare -m "$here/space.sh" "$@"
fi
. "$here/lib.sh"
need qemu-io python3
[ "$(id -u)" -eq 0 ] || skip "a small file system needs root"

daemon_begin
mount -t tmpfs -o size=64m none "$daemon_dir/state" || skip "no mount"
trap 'umount -l "$daemon_dir/state"; daemon_cleanup' EXIT
state=$daemon_dir/state
mib=$((1 << 20))
free_bytes() { df --output=avail -B1 "$state" | tail -1; }
# Somebody else's file takes all but so many MiB.
leave() { fallocate -l $(($(free_bytes) - $1 * mib)) "$state/ballast" || fail "ballast"; }
give_back() { rm "$state/ballast"; }
write_node() { # NODE OFFSET BYTES
	qemu-io -f raw -c "write -P 0x5a $2 $3" -c flush "$(url "$1")" 2>&1
}

head -c 12M /dev/urandom >"$daemon_dir/base.img"
head -c 40M /dev/urandom >"$daemon_dir/large.img"
gzip -1 -k "$daemon_dir/large.img"
printf 'reserve = 25%%\n' >"$daemon_dir/conf"
daemon_start --config "$daemon_dir/conf" # 16 MiB of 64
expect_ctl "import, with room enough" 0 -- import "$daemon_dir/base.img" base --force
expect_ctl "clone, with room enough" 0 -- clone base pi-01 --size 64M
expect_ctl "ls tells the room" 0 'MiB of 64\.0 MiB free, reserve 16\.0 MiB' -- ls
! grep -q '^!' "$daemon_dir/output" || fail "an alarm without reason: $(cat "$daemon_dir/output")"
[ "$(ctl --json ls | member space.reserve_bytes)" = $((16 * mib)) ] || fail "reserve_bytes"

# --- stopped in the middle: 52 MiB are free, 40 are wanted, 36 are to be had ---
for file in large.img large.img.gz; do
	before=$(free_bytes)
	expect_ctl "import of $file into the reserve" 1 "image large can't be made: 1[56]\.. MiB are free in $state, and 16\.0 MiB are reserved" \
		'cure: .*--reserve' -- import "$daemon_dir/$file" large --force
	[ "$(free_bytes)" -ge $((before - mib)) ] || fail "the stopped import left something behind"
	! find "$state/images" -name '*large*' | grep . || fail "the stopped import left files behind"
done

# --- below the reserve ---
leave 10
await_log 'MiB are free, less than the reserve of 16\.0 MiB'
expect_ctl "clone" 1 "node pi-02 can't be made: 10\.0 MiB are free in $state, and 16\.0 MiB are reserved" 'cure: free space' \
	-- clone base pi-02
expect_ctl "import" 1 "image x can't be made" 'cure: free space' -- import "$daemon_dir/base.img" x --force
expect_ctl "create" 1 "image x can't be made" -- create x --size 1M
expect_ctl "ls raises an alarm" 0 '^! 10\.0 MiB are free in .*, less than the reserve of 16\.0 MiB' -- ls
expect_ctl "stats raise it too" 0 '^! 10\.0 MiB are free' -- stats
[ "$(ctl --json ls | member space.below_reserve)" = true ] || fail "below_reserve"
[ "$(ctl --json ls | member alarms.0.code)" = reserve ] || fail "alarms of ls"
[ "$(ctl --json stats | member alarms.0.code)" = reserve ] || fail "alarms of stats"
write_node pi-01 0 6M | grep -q '^wrote' || fail "a node can't write into the reserve"
say "ok: a node writes into the reserve"

# --- nothing left ---
write_node pi-01 8M 8M >"$daemon_dir/writer.log" &
writer=$!
for ((i = 0; i < 100; i++)); do
	ctl --json ls | grep -q '"no_space": true' && break
	sleep 0.1
done
[ "$(ctl --json ls | member alarms.1.code)" = no_space ] || fail "no alarm for the node that waits"
expect_ctl "ls names the node that waits" 0 'NO SPACE LEFT' '^! no space left: the writes of pi-01 to LUN 0 wait' -- ls
expect_ctl "stats name it too" 0 '^! no space left: the writes of pi-01 to LUN 0 wait' -- stats
give_back
wait $writer || fail "the node's write failed"
grep -q '^wrote' "$daemon_dir/writer.log" || fail "the node's write failed: $(cat "$daemon_dir/writer.log")"
await_log 'are free again'
expect_ctl "ls is calm again" 0 'free, reserve' -- ls
! grep -q '^!' "$daemon_dir/output" || fail "the alarm stays: $(cat "$daemon_dir/output")"
expect_ctl "a clone is made again" 0 -- clone base pi-02
daemon_ends_well

# --- trash makes room, the oldest first; what it held is whole until then ---
daemon_start --reserve 16M
ctl rm pi-02 >/dev/null || fail "rm"
for node in old new; do
	ctl clone base $node --size 64M >/dev/null || fail "clone"
	write_node $node 0 4M | grep -q '^wrote' || fail "write"
done
ctl rm old >/dev/null && sleep 1 && ctl rm new >/dev/null || fail "rm"
expect_ctl "undo" 0 'node old is back' -- undo old
qemu-io -f raw -r -c 'read -P 0x5a 0 4M' "$(url old)" 2>&1 | grep -q '^read' || fail "its data is not what it was"
ctl rm new >"$daemon_dir/output" 2>&1 && fail "rm of what is in the trash"
ctl rm old >/dev/null || fail "rm"
[ "$(ctl --json ls --trash | member trash.0.name)" = pi-02 ] || fail "the order of the trash"
[ "$(ctl --json ls | member space.trash_bytes)" -ge $((8 * mib)) ] || fail "trash_bytes"
leave 13 # one of the two that hold something must go
await_log 'trash: node pi-02 .* is removed for good: less than the reserve is free'
await_log 'trash: node new \(4.* MiB\) is removed for good: less than the reserve is free'
expect_ctl "the newest is there" 0 '^old ' -- ls --trash
! grep -Eq '^(new|pi-02) ' "$daemon_dir/output" || fail "the trash still has it"
expect_ctl "and there is room enough" 0 -- clone base pi-02
give_back
expect_ctl "undo of the newest" 0 -- undo old

# --- full to the last block: things can still be removed ---
daemon_ends_well
daemon_start --reserve 0
fallocate -l "$(free_bytes)" "$state/ballast" || fail "ballast"
while dd if=/dev/zero bs=4k count=1 status=none >>"$state/ballast" 2>/dev/null; do :; done
expect_ctl "rm on a full disk" 0 'removed node old' -- rm --now old
[ "$(free_bytes)" -ge $((4 * mib)) ] || fail "rm gave nothing back"
give_back
daemon_ends_well

# --- the time is over ---
daemon_start --trash-time 2s
expect_ctl "rm for two seconds" 0 'in the trash for 2 seconds' -- rm pi-02
await_log 'trash: node pi-02 .* is removed for good: its time is over'
expect_ctl "it is gone" 0 'NAME' -- ls --trash
! grep -q pi-02 "$daemon_dir/output" || fail "the trash still has it"
daemon_ends_well
daemon_start --trash-time 0
expect_ctl "rm without a trash" 0 'removed node pi-01' 'freed' -- rm pi-01
! find "$state/layers" -name '*.cow' | grep . || fail "rm left a layer behind"
daemon_ends_well

# --- sizes, and none at all ---
daemon_start --reserve 1M
leave 2
expect_ctl "above a smaller reserve" 0 'node pi-03' -- clone base pi-03
daemon_ends_well
daemon_start --reserve 3M
expect_ctl "below a larger one" 1 '3\.0 MiB are reserved' -- clone base pi-04
grep -q 'less than the reserve of 3.0 MiB' "$daemon_dir/log" || fail "the log does not tell at the start"
daemon_ends_well
daemon_start --reserve 0
expect_ctl "without a reserve" 0 'node pi-04' -- clone base pi-04
expect_ctl "no alarm without a reserve" 0 'reserve 0 B' -- ls
! grep -q '^!' "$daemon_dir/output" || fail "an alarm without a reserve"
daemon_ends_well
