#!/bin/bash
# What the block maps of a disk of SIZE (default 1T) cost in memory, bare and with a chain of LAYERS (default 16) that all own
# blocks in every part of the disk; and what CLONES (default 100) disks over one such chain cost, each with an empty top of its
# own. One bit a block is the measure. Judges nothing.
#
# usage: chain_memory.sh [SIZE-IN-GIB [LAYERS [CLONES]]]     environment: LUNROOT_BUILD
. "$(dirname "$0")/../hostile/daemon.sh"

gib=${1:-1024}
layers=${2:-16}
clones=${3:-100}
command -v qemu-io >/dev/null || skip "qemu-io is not installed"

# KiB that are really there: shared ones by their part. And those of live maps alone.
pss() { awk '/^Pss:/ { n += $2 } END { print n }' "/proc/$daemon_pid/smaps"; }
live() {
	awk '/^[0-9a-f]+-/ { is = /\.live$/ } is && /^Size:/ { size += $2 } is && /^Rss:/ { rss += $2 }
		END { printf "live maps: %d KiB mapped, %d resident\n", size, rss }' "/proc/$daemon_pid/smaps"
}

bits() { # KIB
	awk -v kib="$1" -v gib="$gib" 'BEGIN { printf "%.3f bits a block of 4 KiB", kib * 1024 * 8 / (gib * 262144) }'
}

# A block in every 64 MiB, so that each page of the map has a bit.
touch_all() { # NODE
	local i
	for ((i = 0; i < gib * 16; i++)); do printf 'write -q -P 1 %dM 4k\n' $((i * 64)); done |
		qemu-io -f raw "$(ctl url "$1")" >/dev/null || fail "qemu-io"
}

tell() { # WHAT
	local now
	now=$(pss)
	say "$1: $((now - before)) KiB more, $(bits $((now - before))); $(live)"
}

daemon_begin
daemon_start
ctl snapshot --help >/dev/null 2>&1 || skip "lunctl has no snapshot"
ctl create base --size "${gib}G" >/dev/null || fail "create"
before=$(pss)
ctl clone base node --no-auth >/dev/null || fail "clone"
tell "a fresh clone of $gib GiB"
for ((i = 1; i <= layers; i++)); do
	touch_all node
	[ $i -ne 1 ] || tell "one layer, every part written"
	[ $i -eq "$layers" ] || ctl snapshot node "s$i" >/dev/null || fail "snapshot"
done
tell "$layers layers, every part written in each"
daemon_kill TERM || fail "SIGTERM ended it with status $?"
daemon_start
tell "the same after a start"
daemon_kill TERM || fail "SIGTERM ended it with status $?"

# The store by itself: one process with all the disks, over layers that own a block in every part, and over the worst there are.
for kind in touched scattered; do
	mkdir "$daemon_dir/$kind"
	say "$clones clones over one chain of $layers layers, $kind:"
	(ulimit -S -n hard && "$LUNROOT_BUILD/tests/bench/chain_clones" "$daemon_dir/$kind" "$gib" "$layers" "$clones" $kind) ||
		fail "chain_clones"
	rm -r "${daemon_dir:?}/$kind"
done
