#!/bin/bash
# Real data through real initiators: QEMU's, with and without CHAP and digests. A file
# system goes in and out again and stays whole; clones and the image stay what they were.
. "$(dirname "$0")/lib.sh"
need qemu-img qemu-io e2fsck

daemon_begin
daemon_start
make_ext4 "$daemon_dir/base.img" 96M
make_ext4 "$daemon_dir/other.img" 96M
ctl import "$daemon_dir/base.img" base >/dev/null 2>&1 || fail "import"
ctl clone base open --no-auth >/dev/null 2>&1 || fail "clone open"
ctl clone base guarded >/dev/null 2>&1 || fail "clone guarded"
ctl clone base bystander >/dev/null 2>&1 || fail "clone bystander"
prefix=iqn.2026-11.local.lunroot
image=$daemon_dir/state/images/base.img
before=$(sha256sum <"$image")

json=$(ctl --json show guarded --secrets)
guarded_user=$(member credentials.operator_user <<<"$json")
guarded_secret=$(member credentials.operator_secret <<<"$json")
# A disk for QEMU with the header digest that is asked for: disk NODE DIGEST
disk() {
	local login=
	[ "$1" != guarded ] || login=",\"user\":\"$guarded_user\",\"password\":\"$guarded_secret\""
	printf 'json:{"driver":"raw","file":{"driver":"iscsi","transport":"tcp","portal":"%s","target":"%s","lun":0,"header-digest":"%s"%s}}' \
		"$daemon_portal" "$prefix:$1" "$2" "$login"
}
whole() { cmp "$1" "$2" || fail "$3"; }

for node in open guarded; do
	for digest in none crc32c none-crc32c crc32c-none; do
		disk=$(disk $node $digest)
		what="$node, header digest $digest"
		qemu-img compare -f raw -F raw "$disk" "$daemon_dir/base.img" >"$daemon_dir/output" 2>&1 || {
			cat "$daemon_dir/output" >&2
			fail "$what: the clone differs from its image"
		}
		# In, over what is there; out again.
		qemu-img convert -n -f raw -O raw "$daemon_dir/other.img" "$disk" || fail "$what: convert in"
		qemu-img convert -f raw -O raw "$disk" "$daemon_dir/out.img" || fail "$what: convert out"
		whole "$daemon_dir/other.img" "$daemon_dir/out.img" "$what: it differs from what was written"
		e2fsck -fn "$daemon_dir/out.img" >"$daemon_dir/output" 2>&1 || {
			cat "$daemon_dir/output" >&2
			fail "$what: e2fsck"
		}
		# And back, so that the next round begins with the image's content again.
		qemu-img convert -n -f raw -O raw "$daemon_dir/base.img" "$disk" || fail "$what: convert back"
		say "ok: $what: a file system in and out"
	done
done

# Patterns of odd sizes and places, read back in another session; zeros by WRITE SAME and UNMAP.
disk=$(url guarded)
qemu-io -f raw -c 'write -P 0xa1 512 512' -c 'write -P 0xa2 4096 12288' -c 'write -P 0xa3 1047040 66048' \
	-c 'write -P 0xa4 30M 4M' -c 'write -f -P 0xa5 40M 64k' -c 'write -z 31M 1M' -c 'write -zu 33M 64k' \
	-c 'discard 32M 64k' -c flush "$disk" >"$daemon_dir/output" 2>&1 || {
	cat "$daemon_dir/output" >&2
	fail "qemu-io writes"
}
grep -Eqi 'error|failed' "$daemon_dir/output" && fail "qemu-io writes: $(cat "$daemon_dir/output")"
qemu-io -f raw -r -c 'read -P 0xa1 512 512' -c 'read -P 0xa2 4096 12288' -c 'read -P 0xa3 1047040 66048' \
	-c 'read -P 0xa4 30M 1M' -c 'read -P 0 31M 1M' -c 'read -P 0 32M 64k' -c 'read -P 0xa4 32832k 960k' \
	-c 'read -P 0 33M 64k' -c 'read -P 0xa5 40M 64k' "$disk" >"$daemon_dir/output" 2>&1
grep -Eqi 'verification failed|error|failed' "$daemon_dir/output" && {
	cat "$daemon_dir/output" >&2
	fail "qemu-io reads something else than it wrote"
}
[ "$(grep -c '^read ' "$daemon_dir/output")" = 9 ] || fail "qemu-io did not read all: $(cat "$daemon_dir/output")"
say "ok: qemu-io's patterns, zeros and discards"

# qemu-img map asks GET LBA STATUS: what was discarded is a hole, what was written is not.
qemu-img map --output=json -f raw "$disk" >"$daemon_dir/map" || fail "qemu-img map"
python3 - "$daemon_dir/map" <<'P' || fail "GET LBA STATUS, as qemu-img map sees it: $(cat "$daemon_dir/map")"
import json, sys
rows = json.load(open(sys.argv[1]))
def data(offset):
    for row in rows:
        if row["start"] <= offset < row["start"] + row["length"]:
            return row["data"]
sys.exit(not (data(30 << 20) and data(40 << 20) and not data(32 << 20) and not data(33 << 20)))
P
say "ok: discarded blocks show as holes"

# Nobody else has noticed anything.
qemu-img convert -f raw -O raw "$(url bystander)" "$daemon_dir/out.img" || fail "convert bystander"
whole "$daemon_dir/base.img" "$daemon_dir/out.img" "the bystander's disk has changed"
[ "$before" = "$(sha256sum <"$image")" ] || fail "the image has changed"
say "ok: the other clone and the image are unchanged"

# Space comes back: the clone is discarded as a whole.
used() { ctl --json show open | member luns.0.used_bytes; }
qemu-io -f raw -c 'write -P 0x3c 8M 16M' "$(url open)" >/dev/null 2>&1 || fail "write"
had=$(used)
qemu-io -f raw -c 'discard 0 96M' -c flush "$(url open)" >/dev/null 2>&1 || fail "discard all"
has=$(used)
[ "$had" -ge $((16 << 20)) ] && [ "$has" -lt $((1 << 20)) ] || fail "discard gave nothing back: $had -> $has bytes"
say "ok: discard gave space back: $had -> $has bytes on the server"
daemon_ends_well
