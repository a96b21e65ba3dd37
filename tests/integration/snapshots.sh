#!/bin/bash
# The life of a disk with the real daemon and initiators that nobody of us wrote: snapshots of a
# node that writes, what each of them holds, rollback, reset, resize, chains of sixteen and what
# is left when their middle is taken out, flatten, promote, export; and kill -9 in between.
. "$(dirname "$0")/lib.sh"
need qemu-io qemu-img iscsi-readcapacity16 mke2fs e2fsck python3

daemon_begin
daemon_start --merge-rate 0
make_ext4 "$daemon_dir/base.img" 32M
cd "$daemon_dir" || fail "cd"
ctl import base.img base >/dev/null || fail "import"
ctl clone base pi-01 --data 16M >/dev/null || fail "clone"

put() { qemu-io -f raw -c "write -P $2 $3 $4" -c flush "$(url "${1%/*}" "${1#*/}")" >/dev/null || fail "write to $1"; }
holds() { # NODE/LUN PATTERN OFFSET LENGTH
	qemu-io -f raw -c "read -P $2 $3 $4" "$(url "${1%/*}" "${1#*/}")" >io 2>&1 || fail "read of $1: $(cat io)"
	grep -q 'erification failed' io && fail "$1 does not hold $2 at $3: $(cat io)"
	return 0
}
sum() { # NODE LUN [SNAPSHOT]
	ctl export "$1" - --lun "$2" ${3:+--snapshot "$3"} | md5sum | cut -d' ' -f1
	[ "${PIPESTATUS[0]}" = 0 ] || fail "export of $1 $2 ${3:-}"
}
names() { ctl --json show pi-01 | python3 -c 'import json, sys; print(*[s["name"] for s in json.load(sys.stdin)["snapshots"]])'; }
layers() { ctl --json show "${1:-pi-01}" | member luns."${2:-0}".layers; }
# Nothing is left to merge: at most one unnamed layer beside the snapshots and the top.
merged() { # NODE MOST
	local _
	for _ in $(seq 300); do
		[ "$(layers "$1" 0)" -le "$2" ] && [ "$(layers "$1" 1)" -le "$2" ] && return
		sleep 0.1
	done
	fail "$1 still has $(layers "$1" 0) layers"
}
no_file_too_many() { # but for those of a merge that is under way
	local wanted _
	for _ in $(seq 100); do
		wanted=$(ctl --json ls | python3 -c 'import json, sys; print(sum(l["layers"] for n in json.load(sys.stdin)["nodes"] for l in n["luns"]))')
		[ "$(ls -A state/layers | wc -l)" = "$wanted" ] && [ -z "$(ls -A run | grep export)" ] && return
		sleep 0.1
	done
	fail "$wanted layers, but files: $(ls -A state/layers run)"
}

# --- snapshot and rollback ---
put pi-01/0 0x11 8M 4M
put pi-01/1 0x12 1M 1M
expect_ctl "snapshot" 0 'snapshot pi-01@one' 'next: lunctl rollback pi-01 one' -- snapshot pi-01 one
expect_ctl "a name that is taken" 1 'one' 'cure:' -- snapshot pi-01 one
expect_ctl "a name that is none" 1 'name' 'cure:' -- snapshot pi-01 One
expect_ctl "a node that is none" 1 'pi-09' 'cure:' -- snapshot pi-09 one
put pi-01/0 0x21 10M 4M
put pi-01/1 0x22 1M 64k
expect_ctl "snapshot" 0 -- snapshot pi-01 two
put pi-01/0 0x31 9M 4M
expect_ctl "ls counts them" 0 '2, newest' -- ls
expect_ctl "show tells them" 0 '^SNAPSHOT +AGE' '^one +[0-9]+ (s|min)' '^two' -- show pi-01
expect_ctl "a rollback that would lose a snapshot" 1 'two' '--force' -- rollback pi-01 one
expect_ctl "a dry run" 0 'would remove snapshot pi-01@two' 'would free' 'nothing was changed' -- \
	rollback pi-01 one --force --dry-run
holds pi-01/0 0x31 9M 4M
expect_ctl "rollback" 0 'back at two' 'freed' 'next: start pi-01' -- rollback pi-01 two
holds pi-01/0 0x11 8M 2M
holds pi-01/0 0x21 10M 4M
holds pi-01/1 0x22 1M 64k
expect_ctl "rollback --force" 0 'removed snapshot pi-01@two' 'back at one' -- rollback pi-01 one --force
holds pi-01/0 0x11 8M 4M
holds pi-01/1 0x12 1M 1M
[ "$(names)" = one ] || fail "snapshots: $(names)"
no_file_too_many

# --- a node that is in use ---
mkfifo commands
qemu-io -f raw "$(url pi-01)" <commands >session 2>&1 &
client=$!
exec 9>commands
asked=0
session() { # COMMAND: in the session that stays logged in
	local _
	asked=$((asked + 1))
	printf '%s\n' "$1" >&9
	for _ in $(seq 1200); do # until it asks for the next one
		[ "$(grep -o 'qemu-io>' session | wc -l)" -gt $asked ] && return
		sleep 0.05
	done
	fail "no answer to '$1': $(tail -3 session)"
}
session "write -P 0x41 20M 1M"
expect_ctl "rollback of a node in use" 1 'in use by' 'cure: shut' -- rollback pi-01 one
expect_ctl "reset of a node in use" 1 'in use by' -- reset pi-01 --force
expect_ctl "snapshot of a node in use" 0 -- snapshot pi-01 used
session "write -P 0x42 20M 512k"
expect_ctl "no smaller" 1 "can't shrink" 'cure:' -- resize pi-01 16M
expect_ctl "no size" 2 '64X' -- resize pi-01 64X
session "truncate 48M"
grep -q 'Cannot grow' session || fail "the disk was larger before: $(tail -3 session)"
expect_ctl "resize" 0 'LUN 0 has 48.0 MiB now' 'next: .*resize2fs' -- resize pi-01 48M
session "truncate 48M"
[ "$(grep -c 'Cannot grow' session)" = 1 ] || fail "the session does not see the new size: $(tail -3 session)"
session "write -P 0x43 42M 1M"
expect_ctl "resize of the data disk" 0 'LUN 1 has 24.0 MiB' -- resize pi-01 24M --lun 1
expect_ctl "rm of a snapshot in use" 0 'removed snapshot pi-01@one' 'merged' -- rm pi-01@one
session "write -P 0x44 12M 64k"
exec 9>&-
wait "$client" # it counts the truncate that could not be
grep -qi 'error\|failed' session && fail "the session saw: $(cat session)"
iscsi-readcapacity16 "$(url pi-01)" | grep -q 'ADDRESS: *98303$' || fail "capacity: $(iscsi-readcapacity16 "$(url pi-01)")"
holds pi-01/0 0x42 20M 512k
holds pi-01/0 0x41 21472k 32k
holds pi-01/0 0x43 42M 1M
holds pi-01/0 0 32M 10M
holds pi-01/0 0x44 12M 64k
holds pi-01/0 0x11 8M 4M
merged pi-01 3
no_file_too_many
say "ok: a node in use goes on through snapshot, resize and merges"
expect_ctl "back to the smaller size" 0 -- rollback pi-01 used
[ "$(ctl --json show pi-01 | member luns.0.size_bytes)" = $((32 << 20)) ] || fail "the size did not go back"
holds pi-01/0 0x41 20M 1M

# --- sixteen snapshots; the middle ones go, and the daemon dies in between ---
ctl rm pi-01@used >/dev/null || fail "rm"
expect_ctl "reset" 0 'back at its image' -- reset pi-01
ctl export pi-01 now.img >/dev/null || fail "export"
cmp now.img base.img || fail "reset is not the image's content"
holds pi-01/1 0x12 1M 1M
declare -A sums
for i in $(seq 16); do
	put pi-01/0 "$i" ${i}M 2M
	put pi-01/0 $((i + 100)) 25M $((i * 64))k
	put pi-01/1 "$i" $((16 - i))M 1M
	ctl snapshot pi-01 "s$i" >/dev/null || fail "snapshot $i"
done
for i in $(seq 16); do sums[s$i]="$(sum pi-01 0 "s$i") $(sum pi-01 1 "s$i")"; done
top="$(sum pi-01 0) $(sum pi-01 1)"
[ "$(printf '%s\n' "${sums[@]}" | sort -u | wc -l)" = 16 ] || fail "two snapshots are the same"
every=$(by_mode 6 1 1) # of how many one is looked at
unchanged() { # WHEN SNAPSHOT...
	local when=$1 s i=0
	shift
	[ "$(names)" = "$*" ] || fail "$when: snapshots are $(names), not $*"
	for s in "$@"; do
		[ $((i++ % every)) = 0 ] || continue
		[ "$(sum pi-01 0 "$s") $(sum pi-01 1 "$s")" = "${sums[$s]}" ] || fail "$when: $s is another one"
	done
	[ "$(sum pi-01 0) $(sum pi-01 1)" = "$top" ] || fail "$when: the disk is another one"
	say "ok: $when: $# snapshots hold what they held"
}
daemon_kill TERM || fail "SIGTERM ended it with status $?"
daemon_start --merge-rate 1M # so slow that it dies in the middle
unchanged "after a restart" $(seq -f s%g 16)
for i in 1 4 5 6 7 11 16; do
	expect_ctl "rm of s$i" 0 'removed' -- rm "pi-01@s$i"
done
left="s2 s3 s8 s9 s10 s12 s13 s14 s15"
for signal in KILL KILL TERM; do
	sleep 0.4
	ctl --json ls >/dev/null || fail "ls"
	daemon_kill $signal
	daemon_start --merge-rate 1M
done
# shellcheck disable=SC2086
unchanged "half merged" $left
daemon_kill KILL
daemon_start --merge-rate 0
merged pi-01 12
# shellcheck disable=SC2086
unchanged "merged" $left
merged pi-01 12
no_file_too_many
expect_ctl "rollback over merged layers" 0 -- rollback pi-01 s9 --force
[ "$(sum pi-01 0) $(sum pi-01 1)" = "${sums[s9]}" ] || fail "it is not back at s9"
put pi-01/0 0x77 4M 1M

# --- export, promote, flatten ---
expect_ctl "export" 0 'out.img: 32.0 MiB' 'next: lunctl import' -- export pi-01 out.img --snapshot s8
[ "$(md5sum <out.img | cut -d' ' -f1)" = "${sums[s8]% *}" ] || fail "the exported file is another one"
[ "$(($(stat -c %b out.img) * 512))" -lt $((24 << 20)) ] || fail "the exported file is not sparse"
[ "$(stat -c %a out.img)" = 600 ] || fail "the exported file's mode is $(stat -c %a out.img)"
expect_ctl "export to a file that is there" 1 'there already' 'cure:' -- export pi-01 out.img
expect_ctl "export to a folder that is not there" 1 'nowhere/x can.t be made: No such' 'cure: name a file in a folder' -- export pi-01 nowhere/x
expect_ctl "export to a file without a name" 2 'no name' -- export pi-01 ""
expect_ctl "export of a snapshot that is none" 1 'no snapshot s99' -- export pi-01 none.img --snapshot s99
[ ! -e none.img ] || fail "it left a file behind"
expect_ctl "export as qcow2" 0 'qemu-img info' -- export pi-01 out.qcow2 --snapshot s8
qemu-img compare -q out.qcow2 out.img || fail "the qcow2 file is another one"
[ "$(ls out.*)" = "$(printf 'out.img\nout.qcow2')" ] || fail "files are left: $(ls out.*)"
[ "$(stat -c %a out.qcow2)" = 600 ] || fail "the qcow2 file's mode is $(stat -c %a out.qcow2)"
# Names that qemu-img would take for a protocol or an option.
mkdir odd
cd odd || fail "cd"
for name in a:b.qcow2 json:x.qcow2 -x.qcow2 nbd:localhost:1.qcow2; do
	expect_ctl "export to $name" 0 -- export --snapshot s8 -- pi-01 "$name"
	[ "$(stat -c %a "./$name")" = 600 ] || fail "$name: its mode is $(stat -c %a "./$name")"
	qemu-img compare -q "file:$name" ../out.img || fail "$name is another disk"
done
[ "$(find . -type f | wc -l)" = 4 ] || fail "files are left: $(ls -A)"
(ulimit -f 4096 && ctl export pi-01 large.qcow2 --snapshot s8 2>/dev/null >/dev/null) && fail "a qcow2 export that can't be written worked"
[ "$(find . -type f | wc -l)" = 4 ] || fail "what could not be written stays: $(ls -A)"
cd .. || fail "cd"
if command -v script >/dev/null; then
	expect "export to a terminal" 0 'is a terminal' -- script -qc "$lunctl --socket $daemon_dir/run/control.sock export pi-01 -" /dev/null
fi
(ulimit -f 4096 && ctl export pi-01 large.img --snapshot s8 2>/dev/null >/dev/null) && fail "an export that can't be written worked"
[ ! -e large.img ] || fail "what could not be written stays"
ctl export pi-01 - --snapshot s8 2>/dev/null | head -c 1M >/dev/null
# Nobody waits for that job any more: it ends when it finds nobody to write to.
for ((i = 0; i < 1500; i++)); do
	ctl jobs 2>/dev/null | grep -E '^[0-9]+ +export +running' >/dev/null || break
	sleep 0.02
done
expect_ctl "promote" 0 'image gold: ext4' 'next: lunctl clone gold' -- promote pi-01 gold --snapshot s8
cmp out.img state/images/gold.img || fail "the image is not the snapshot's content"
expect_ctl "promote to a name that is taken" 1 'gold' 'cure:' -- promote pi-01 gold
expect_ctl "clone of it" 0 -- clone gold pi-02 --data 8M
put pi-02/0 0x55 28M 1M
before=$(sum pi-02 0)
expect_ctl "promote of what is now" 0 'image gold2' -- promote pi-02 gold2
expect_ctl "an image in use" 1 'pi-02' -- rm gold
expect_ctl "flatten with snapshots" 1 'snapshots' 'cure:' -- flatten pi-01
expect_ctl "flatten" 0 'stands on no image' -- flatten pi-02
[ "$(sum pi-02 0)" = "$before" ] || fail "flatten changed the content"
expect_ctl "its image can go" 0 'removed image gold' -- rm gold
expect_ctl "ls says so" 0 '^pi-02 +\(none\)' -- ls
expect_ctl "reset of a flattened node" 1 'flattened' 'cure:' -- reset pi-02
daemon_kill KILL
daemon_start --merge-rate 0
[ "$(sum pi-02 0)" = "$before" ] || fail "a flattened node is another one after a restart"
no_file_too_many

# --- the catalogue is lost ---
s8=${sums[s8]} now="$(sum pi-01 0) $(sum pi-01 1)"
daemon_kill TERM || fail "SIGTERM ended it with status $?"
rm state/catalog.db*
daemon_start --merge-rate 0
[ "$(names)" = "s2 s3 s8 s9" ] || fail "the rebuilt catalogue has the snapshots $(names)"
[ "$(sum pi-01 0 s8) $(sum pi-01 1 s8)" = "$s8" ] || fail "s8 is another one in the rebuilt catalogue"
[ "$(sum pi-01 0) $(sum pi-01 1)" = "$now" ] || fail "pi-01 is another one in the rebuilt catalogue"
[ "$(sum pi-02 0)" = "$before" ] || fail "pi-02 is another one in the rebuilt catalogue"
say "ok: a lost catalogue is rebuilt with its snapshots"

# --- a file system under load, by the kernel's ext4 ---
kernel_part() {
	local storage loader i
	ctl clone base pi-03 --no-auth >/dev/null || fail "clone"
	: >disk
	mkdir -p mnt
	qemu-storage-daemon --blockdev "driver=iscsi,node-name=disk,transport=tcp,portal=$daemon_portal,target=iqn.2026-11.local.lunroot:pi-03,lun=0,initiator-name=iqn.2026-11.local:test" \
		--export "type=fuse,id=e,node-name=disk,mountpoint=$daemon_dir/disk,writable=on" >storage 2>&1 &
	storage=$!
	for i in $(seq 600); do
		[ "$(stat -c %s disk)" != $((32 << 20)) ] && kill -0 $storage 2>/dev/null || break
		sleep 0.1
	done
	# In a mount namespace of its own: nothing is left mounted if this is killed.
	unshare -m bash -c '
		set -e
		trap "umount mnt 2>/dev/null || umount -l mnt" EXIT
		mount -o loop,data=ordered disk mnt
		echo mounted >state-of-load
		while [ ! -e stop ]; do
			for i in $(seq 20); do
				mkdir -p mnt/d$i && head -c $((RANDOM * 4)) /dev/urandom >mnt/d$i/$RANDOM
				[ $((RANDOM % 3)) = 0 ] && sync -f mnt/d$i
				[ $((RANDOM % 4)) = 0 ] && rm -rf mnt/d$((RANDOM % 20))
				[ -e stop ] && break
			done
			rm -rf mnt/d1*
		done' >load 2>&1 &
	loader=$!
	for i in $(seq 600); do
		[ -e state-of-load ] && break
		kill -0 $loader 2>/dev/null || break
		sleep 0.1
	done
	[ -e state-of-load ] || { touch stop; wait $loader; kill $storage 2>/dev/null; wait $storage; say "(no loop mount here: $(cat load storage))"; return; }
	for i in $(seq "$(by_mode 3 8 60)"); do
		sleep 0.5
		ctl snapshot pi-03 "live$i" >/dev/null || fail "snapshot under load"
		rm -f fs.img
		ctl export pi-03 fs.img --snapshot "live$i" >/dev/null || fail "export under load"
		# The journal is replayed, as at the next mount; then there must be nothing to mend.
		e2fsck -E journal_only -fp fs.img >e2fsck 2>&1
		[ $? -le 1 ] || { cat e2fsck; fail "the journal of snapshot live$i can't be replayed"; }
		e2fsck -fn fs.img >e2fsck 2>&1 || { cat e2fsck; fail "e2fsck of snapshot live$i"; }
		[ $((i % 2)) = 0 ] || ctl rm "pi-03@live$i" >/dev/null || fail "rm under load"
	done
	touch stop
	wait $loader || fail "the load ended with $?: $(cat load)"
	kill $storage
	wait $storage
	ctl export pi-03 last.img >/dev/null || fail "export"
	e2fsck -fn last.img >e2fsck 2>&1 || { cat e2fsck; fail "e2fsck of the disk"; }
	say "ok: snapshots under load are whole file systems; held for (ms):" \
		"$(grep -o 'pi-03: live[0-9]*, held for [0-9.]*' log | sed 's/.* //' | sort -n | tr '\n' ' ')"
}
if [ "$(id -u)" = 0 ] && command -v qemu-storage-daemon >/dev/null && [ -e /dev/fuse ]; then
	kernel_part
else
	say "(no snapshots of a mounted file system: that needs root and qemu-storage-daemon)"
fi
cd / && daemon_ends_well
