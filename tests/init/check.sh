#!/bin/bash
# e2fsck before root is mounted: a sound root passes, one that needs its journal or a small repair is mended, and one that needs a person
# is said to, and not mounted.
. "$(dirname "$0")/node.sh"

e2fsck=/sbin/e2fsck.static
[ -x $e2fsck ] || skip "$e2fsck is not installed (package e2fsck-static)"
node_begin
node_initramfs "$daemon_dir/checking" --e2fsck $e2fsck
node_initrd=$daemon_dir/checking

image() { # NAME DEBUGFS-COMMAND...: an image made wrong in that way, and a node of it
	local name=$1 command
	shift
	cp "$daemon_dir/root.img" "$daemon_dir/$name.img"
	for command in "$@"; do debugfs -w -R "$command" "$daemon_dir/$name.img" >/dev/null 2>&1 || fail "debugfs $command"; done
	ctl import "$daemon_dir/$name.img" "$name" >/dev/null && ctl clone "$name" "pi-$name" >/dev/null || fail "clone $name"
	node_conf "pi-$name"
}
boots() {
	node_start "$1" "t="
	node_await "$1" 'RESULT ok' 20
	node_await_end "$1" 20
	node_dmesg_is_clean "$1"
	node_fsck "$1"
}

image sound
boots pi-sound
node_shown pi-sound 'root: clean' || node_fail pi-sound "e2fsck did not run"
say "ok: a sound root is checked and mounted"

# Not unmounted, and a free-blocks count that is wrong: -p mends both.
image untidy "ssv state 0" "ssv free_blocks_count 17"
boots pi-untidy
node_shown pi-untidy 'root was not cleanly unmounted\|root: .* files' || node_fail pi-untidy "e2fsck did not mend it"
say "ok: an untidy root is mended and mounted"

# The root directory itself is gone.
image broken "ssv state 2" "clri <2>"
node_start pi-broken "t="
node_await pi-broken 'damaged and e2fsck -p does not mend it alone' 20
! node_shown pi-broken 'RESULT' || node_fail pi-broken "it was mounted"
node_stop pi-broken
say "ok: a root that needs a person is not mounted"

node_start pi-untidy "t= lunroot.fsck=no"
node_await pi-untidy 'RESULT ok' 20
! node_shown pi-untidy 'root: clean' || node_fail pi-untidy "fsck=no and checked all the same"
node_await_end pi-untidy 20
say "ok: fsck=no"
daemon_ends_well
