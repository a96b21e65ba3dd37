#!/bin/bash
# What goes wrong in the world, and what lunrootd and lunctl say about it: each message must name
# the thing and the cure, and what is not concerned must go on working.
. "$(dirname "$0")/lib.sh"
need qemu-img mke2fs

daemon_begin
port=${daemon_portal##*:}
state=$daemon_dir/state
# Where a second lunrootd must not come up.
other=$daemon_dir/other
mkdir "$other" "$other/state" "$other/run"
daemon_start
make_ext4 "$daemon_dir/base.img" 64M
ctl import "$daemon_dir/base.img" base >/dev/null 2>&1 || fail "import"
make_ext4 "$daemon_dir/spare.img" 64M
ctl import "$daemon_dir/spare.img" spare >/dev/null 2>&1 || fail "import"
for node in good torn scratched headless mapless; do ctl clone base $node >/dev/null 2>&1 || fail "clone $node"; done
ctl clone spare orphan >/dev/null 2>&1 || fail "clone orphan"

# --- starting ---
expect "the port is in use" '!0' "$port.*in use" -- \
	"$lunrootd" --foreground --state "$other/state" --run "$other/run" --portal "$daemon_portal"
expect "the state directory is in use" '!0' "$state.*(in use|lock)" -- \
	"$lunrootd" --foreground --state "$state" --run "$other/run" --portal "127.0.0.1:$(free_port)"
: >"$other/file"
expect "the state directory is a file" '!0' "$other/file.*not a directory" -- \
	"$lunrootd" --foreground --state "$other/file" --run "$other/run" --portal "127.0.0.1:$(free_port)"
expect "the state directory's parent is missing" '!0' "$other/no/state" -- \
	"$lunrootd" --foreground --state "$other/no/state" --run "$other/run" --portal "127.0.0.1:$(free_port)"
expect "an address of another machine" '!0' 'no address 192\.0\.2\.1' -- \
	"$lunrootd" --foreground --state "$other/state" --run "$other/run" --portal 192.0.2.1:3260
expect "an option that is none" 2 'no such option' 'lunrootd --help' -- "$lunrootd" --portla 127.0.0.1:3260
chmod 755 "$daemon_dir" "$other"
chmod 555 "$other/state"
unprivileged=()
[ "$(id -u)" -ne 0 ] || unprivileged=(setpriv --reuid 65534 --regid 65534 --clear-groups)
if "${unprivileged[@]}" test -x "$lunrootd"; then
	chmod 777 "$other/run"
	expect "the state directory is not writable" '!0' "$other/state.*(permission|write)" -- \
		"${unprivileged[@]}" "$lunrootd" --foreground --state "$other/state" --run "$other/run" \
		--portal "127.0.0.1:$(free_port)"
	[ "$(id -u)" -ne 0 ] || expect "a socket of somebody else's" 3 'ermission denied' 'cure: .*(group|sudo)' -- \
		"${unprivileged[@]}" "$lunctl" --socket "$daemon_dir/run/control.sock" ls
else
	say "(the state directory that is not writable: another user can't reach $lunrootd)"
fi
chmod 755 "$other/state"

# --- no daemon ---
expect "no daemon" 3 'no lunrootd answers' 'cure: .*lunrootd' -- "$lunctl" --socket "$other/run/control.sock" ls

# --- images that are none ---
truncate -s 512K "$daemon_dir/small.img"
expect_ctl "an image that is too small" 1 'small' 'cure:' -- import "$daemon_dir/small.img" bad
head -c 20M "$daemon_dir/base.img" >"$daemon_dir/cut.img"
expect_ctl "an image that is cut off" 1 'cut|larger|short|end' 'cure:' -- import "$daemon_dir/cut.img" bad
if command -v gzip >/dev/null; then
	gzip -c "$daemon_dir/base.img" >"$daemon_dir/base.img.gz"
	head -c $(($(stat -c %s "$daemon_dir/base.img.gz") / 2)) "$daemon_dir/base.img.gz" >"$daemon_dir/cut.img.gz"
	expect_ctl "a packed image that is cut off" 1 'cut|trunc|damaged' 'cure:' -- import "$daemon_dir/cut.img.gz" bad
fi
head -c 4M /dev/urandom >"$daemon_dir/noise.img"
expect_ctl "an image of noise" 1 'neither|no partition' '--force' -- import "$daemon_dir/noise.img" bad
expect_ctl "no such file" 1 "$daemon_dir/nowhere.img" 'cure:' -- import "$daemon_dir/nowhere.img" bad
expect_ctl "a directory as image" 1 "$daemon_dir" 'cure:' -- import "$daemon_dir" bad
expect_ctl "a name that is taken" 1 'base' 'cure:' -- import "$daemon_dir/base.img" base
ls "$state/images" | grep -q '^bad' && fail "a refused import left a file behind: $(ls "$state/images")"

# --- files that were damaged while nobody looked ---
layer() { ctl --json show "$1" | member luns.0.uuid; }
for node in scratched mapless; do
	qemu-io -f raw -c 'write -P 0x42 0 64M' -c flush "$(url $node)" >/dev/null || fail "write to $node"
done
declare -A file
for node in torn scratched headless mapless; do file[$node]=$state/layers/$(layer $node).cow; done
daemon_kill TERM || fail "SIGTERM ended it with status $?"
# Two copies of the header at 0 and 4096, two of the only map page behind them (docs/format.md).
garbage() { # NODE OFFSET BYTES
	[ -f "${file[$1]}" ] || fail "no layer ${file[$1]}"
	tr '\0' '\125' </dev/zero | head -c "$3" |
		dd of="${file[$1]}" bs=4096 seek="$2" oflag=seek_bytes conv=notrunc status=none
}
truncate -s 100 "${file[torn]}"
garbage scratched 0 4096
garbage headless 0 8192
garbage mapless 8192 8192
mv "$state/images/spare.img" "$daemon_dir/away.img"
daemon_start
for node in torn headless mapless; do
	ctl show $node 2>/dev/null | grep '^message'
	expect_ctl "a damaged overlay ($node)" 0 'state *damaged' 'message.*(header|map|cut off)' -- show $node
	expect "its target" '!0' -- qemu-img info "iscsi://$daemon_portal/iqn.2026-11.local.lunroot:$node/0"
done
expect_ctl "half a header is enough" 0 'state *ready' -- show scratched
qemu-io -f raw -c 'read -P 0x42 0 64M' "$(url scratched)" | grep -q 'erification failed' && fail "scratched lost data"
expect_ctl "a parent that is missing" 0 'damaged' 'message.*spare' -- show orphan
expect_ctl "lunctl ls raises the alarm" 0 'torn.*damaged' 'orphan.*damaged' '! orphan: ' -- ls
qemu-img convert -f raw -O raw "$(url good)" "$daemon_dir/out.img" || fail "the good node is not served"
cmp "$daemon_dir/base.img" "$daemon_dir/out.img" || fail "the good node's disk has changed"
say "ok: the node beside them is served"

# The parent comes back, but it is another one.
daemon_kill TERM || fail "SIGTERM ended it with status $?"
cp "$daemon_dir/away.img" "$state/images/spare.img"
printf 'changed' | dd of="$state/images/spare.img" bs=1 seek=8M conv=notrunc status=none
chmod 644 "$state/images/spare.img"
daemon_start
expect_ctl "a parent that was changed" 0 'damaged' 'message.*(changed|not the)' -- show orphan
daemon_kill TERM || fail "SIGTERM ended it with status $?"
rm -f "$state/images/spare.img"
mv "$daemon_dir/away.img" "$state/images/spare.img"
daemon_start
expect_ctl "the right parent is back" 0 'state *ready' -- show orphan
qemu-img compare -f raw -F raw "$(url orphan)" "$daemon_dir/spare.img" >/dev/null || fail "orphan's disk differs"

# A damaged node can be removed; the rest stays.
ctl rm torn >/dev/null 2>&1 || fail "rm of a damaged node"
ctl ls 2>/dev/null | grep -q '^torn' && fail "torn is still there"
daemon_ends_well
