#!/bin/bash
# lunctl check against the real daemon and real files: bits are flipped in headers, maps and images, files go and come.
# Each is found, named and never silently used; what can be mended is mended; other nodes go on.
. "$(dirname "$0")/lib.sh"
need qemu-io qemu-img python3

daemon_begin
daemon_start
state=$daemon_dir/state
head -c 8M /dev/urandom >"$daemon_dir/base.img"
ctl import "$daemon_dir/base.img" base --force >/dev/null || fail "import"
ctl import "$daemon_dir/base.img" other --force >/dev/null || fail "import"
for node in bystander header map both gone; do ctl clone base $node --size 160M >/dev/null || fail "clone $node"; done
layer() { # NODE [WHICH]: its file; the top's, if nothing is said
	local i=${2:--1}
	python3 - "$state" "$(ctl --json show "$1" | member uuid)" "$i" <<'P'
import sqlite3, sys
state, node, i = sys.argv[1], sys.argv[2], int(sys.argv[3])
rows = sqlite3.connect(state + "/catalog.db").execute(
    "SELECT y.uuid FROM luns l JOIN layers y ON y.lun_uuid = l.uuid WHERE l.node_uuid = ? AND l.lun = 0 ORDER BY y.position", (node,))
print(state + "/layers/" + [r[0] for r in rows][i] + ".cow")
P
}
flip() { # FILE OFFSET: one bit
	python3 -c '
import sys
f = open(sys.argv[1], "r+b")
f.seek(int(sys.argv[2])); byte = f.read(1)
f.seek(int(sys.argv[2])); f.write(bytes([byte[0] ^ 1]))' "$1" "$2"
}
write_node() { qemu-io -f raw -c "write -P $2 $3 $4" -c flush "$(url "$1")" 2>&1 | grep -q '^wrote' || fail "$1: write"; }
reads() { qemu-io -f raw -r -c "read -P $2 $3 $4" "$(url "$1")" 2>&1 | grep -q '^read'; }
found() { expect_ctl "$@"; } # WHAT STATUS PATTERN... -- ARGUMENT...

for node in header map both bystander; do
	write_node $node 0xa1 0 1M
	write_node $node 0xa2 80M 64k
	ctl snapshot $node first >/dev/null || fail "snapshot"
	write_node $node 0xa3 4M 1M
done
found "all is whole" 0 'nothing is wrong' -- check
found "of one node" 0 '^2 files checked: nothing is wrong' -- check map
found "of an image" 0 '^1 file checked: nothing is wrong' -- check base
found "of nothing" 1 'nothing' 'cure:' -- check nothing
[ "$(ctl --json check | member clean)" = true ] || fail "--json"

# --- one copy of a header, of a running node: found, not mended; mended when nobody uses it ---
header=$(layer header)
flip "$header" 200
exec {hold}> >(qemu-io -f raw "$(url header)" >/dev/null 2>&1)
for ((i = 0; i < 600; i++)); do ctl show header | grep -q '^state *in use' && break; sleep 0.1; done
[ $i -lt 600 ] || fail "nobody is logged in"
found "a header's copy, of a node in use" 4 "^mendable node header: .*$header" 'cure: .*lunctl check header --repair' '1 mendable' -- check
found "it is not mended while it is in use" 4 '^note .*node header is in use' '^mendable' -- check header --repair
reads bystander 0xa1 0 1M || fail "the bystander does not read what it wrote"
exec {hold}>&-
for ((i = 0; i < 600; i++)); do ctl show header | grep -q '^state *ready' && break; sleep 0.1; done
[ $i -lt 600 ] || fail "still logged in"
found "it is mended" 4 "^mended +node header: .*$header" '1 mended' -- check header --repair
found "it is whole" 0 'nothing is wrong' -- check header
reads header 0xa1 0 1M && reads header 0xa3 4M 1M || fail "header does not read what it wrote"

# --- a page of the map, of a sealed and of the top layer: refused at the next start, mended as far as can be ---
sealed=$(layer map 0) top=$(layer both)
daemon_ends_well
cp "$sealed" "$daemon_dir/sealed" && cp "$top" "$daemon_dir/top"
# Both slots of page 0: nothing is left of it.
for slot in 0 1; do flip "$sealed" $((8192 + slot * 4096 + 100)); flip "$top" $((8192 + slot * 4096 + 100)); done
daemon_start
expect_ctl "damaged nodes are named" 0 "^! map: .*$sealed" "^! both: .*$top" -- ls
for node in map both; do
	[ "$(ctl --json show $node | member state)" = damaged ] || fail "$node is served"
	! reads $node 0xa1 0 4k || fail "$node can be read"
done
reads bystander 0xa1 0 1M || fail "the bystander does not go on"
found "both are found" 4 "^(mendable|lost) +node both: .*$top" "^(mendable|lost) +node map: .*$sealed" -- check
found "they are mended" 4 "^mended +node map: .*$sealed" -- check --repair
grep -Eq "^mended +node both: .*$top" "$daemon_dir/output" || fail "not both were mended"
found "they are whole" 0 'nothing is wrong' -- check
for node in map both; do
	[ "$(ctl --json show $node | member state)" = ready ] || fail "$node is not served"
	reads $node 0xa1 0 1M && reads $node 0xa2 80M 64k && reads $node 0xa3 4M 1M || fail "$node does not read what it wrote"
done

# --- both copies of the header: can't be mended, is not used, and nothing is written to it ---
daemon_ends_well
flip "$top" 200 && flip "$top" 4296
before=$(sha256sum <"$top")
daemon_start
found "a header without a copy" 4 "^lost +node both: .*$top.*backup" '1 lost' -- check --repair
[ "$before" = "$(sha256sum <"$top")" ] || fail "something was written to what can't be mended"
[ "$(ctl --json show both | member state)" = damaged ] || fail "it is served"
[ "$(ctl --json check both | member findings.0.finding)" = lost ] || fail "--json of a finding"

# --- missing, exchanged, strange files ---
mv "$(layer gone)" "$daemon_dir/gone.cow"
cp "$sealed" "$state/layers/11111111-2222-3333-4444-555555555555.cow"
found "a missing file and a stranger" 4 '^lost +node gone: .* is missing' '^note +.*11111111-2222.* is in no catalogue' '2 lost' -- check
mv "$daemon_dir/gone.cow" "$(layer gone)"
rm "$state/layers/11111111-2222-3333-4444-555555555555.cow"
mv "$(layer gone)" "$daemon_dir/gone.cow" && cp "$(layer bystander 0)" "$(layer gone)"
found "another layer in its place" 4 '^lost +node gone: .* is another layer than its name says' -- check gone
mv "$daemon_dir/gone.cow" "$(layer gone)"
found "the right one" 0 'nothing is wrong' -- check gone

# --- an image: its content, and its length ---
chmod u+w "$state/images/other.img"
flip "$state/images/other.img" 5000000
found "a flipped bit in an image" 4 '^lost +image other: .*other\.img' '1 lost' -- check other
flip "$state/images/other.img" 5000000
found "flipped back" 0 'nothing is wrong|touched|time' -- check other
truncate -s 7M "$state/images/other.img"
found "a shorter image" 4 '^lost +image other: .*other\.img' -- check --image other

# --- an image that was damaged for a while: its nodes stay out of service, and that is found ---
cp "$state/images/base.img" "$daemon_dir/whole.img"
expect_ctl "a clone over a changed image" 1 'images/other.img was changed after its import' 'cure: restore the file, or import the image anew' -- clone other above
grep -qi 'stale' "$daemon_dir/output" && fail "it says errno's words"
daemon_ends_well
chmod u+w "$state/images/base.img"
flip "$state/images/base.img" 5000000
daemon_start
[ "$(ctl --json show bystander | member state)" = damaged ] || fail "it is served over a damaged image"
cat "$daemon_dir/whole.img" >"$state/images/base.img"
found "whole files of nodes that are not served" 4 '^mendable node bystander: node bystander is not served .*but its layers are good.*start lunrootd again' \
	'^mendable node map: ' 'cure: .*lunctl check map --repair' -- check
found "one is served again" 4 '^mended +node map: .* is served again' -- check map --repair
daemon_ends_well
daemon_start
found "and all of them after a start" 0 'nothing is wrong' -- check bystander

# --- files that are gone while their node is served: told, and their data can be saved until lunrootd stops ---
top=$(layer header) sealed_too=$(layer bystander 0)
mv "$top" "$daemon_dir/header.cow"
await_log "$top is gone"
expect_ctl "ls raises the alarm" 0 "^! $top is gone, or is another file now" 'qemu-img convert -f raw "\$\(lunctl url header\)"' -- ls
found "the cure is no backup" 4 "^lost +node header: $top is missing.*as long as lunrootd runs.*qemu-img convert" -- check
found "it is not taken out of service to be mended" 4 "^lost +node header: $top is missing" -- check --repair
expect_ctl "an export says the same" 1 "$top is gone" 'cure:.*qemu-img convert' -- export header "$daemon_dir/header.img"
expect_ctl "a snapshot does, too" 1 "$top is gone" 'cure:.*qemu-img convert' -- snapshot header second
qemu-img convert -f raw "$(url header)" "$daemon_dir/header.img" || fail "the cure"
qemu-io -f raw -r -c 'read -P 0xa1 0 1M' -c 'read -P 0xa3 4M 1M' "$daemon_dir/header.img" | grep -c '^read' | grep -qx 2 || fail "what is saved"
rm "$daemon_dir/header.img"
mv "$daemon_dir/header.cow" "$top"
await_log 'node header: its files are where they were again'
expect_ctl "ls is calm" 0 free -- ls
! grep -q '^! .*gone' "$daemon_dir/output" || fail "the alarm stays"
expect_ctl "an export goes" 0 -- export header "$daemon_dir/header.img"
mv "$sealed_too" "$daemon_dir/sealed.cow"
expect_ctl "a lower layer" 1 "$sealed_too is gone" 'cure:.*qemu-img convert' -- export bystander "$daemon_dir/bystander.img" --snapshot first
mv "$daemon_dir/sealed.cow" "$sealed_too"

# --- the trash is looked at as well ---
ctl rm map >/dev/null || fail "rm"
flip "$state/layers/.trash-$(basename "$sealed")" 200
found "in the trash" 4 "^mendable node map: .*[.]trash-$(basename "$sealed")" -- check
found "mended in the trash" 4 "^mended +node map" -- check --repair
ctl undo map >/dev/null || fail "undo"
found "and whole when it is back" 0 'nothing is wrong' -- check map
reads map 0xa1 0 1M || fail "map does not read what it wrote"
reads bystander 0xa3 4M 1M || fail "the bystander does not read what it wrote"
daemon_ends_well
