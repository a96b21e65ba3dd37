#!/bin/bash
# What must outlive the daemon: targets, identities (serial number and NAA, by rename too), data,
# credentials. And the way it ends: within seconds, also with somebody logged in.
. "$(dirname "$0")/lib.sh"
need iscsi-inq qemu-io qemu-img

daemon_begin
daemon_start
make_ext4 "$daemon_dir/base.img" 64M
ctl import "$daemon_dir/base.img" base >/dev/null 2>&1 || fail "import"
ctl clone base one --data 32M --serial 10000000abcdef01 --mac dc:a6:32:01:02:03 >/dev/null 2>&1 || fail "clone one"
ctl clone base two --no-auth --read-only --durability scratch >/dev/null 2>&1 || fail "clone two"

identity() { # NODE LUN
	local url
	url=$(url "$1" "$2")
	iscsi-inq -e 1 -c 128 "$url" | grep -a -i 'serial' &&
		iscsi-inq -e 1 -c 131 "$url" | grep -a -i 'designator:' || fail "iscsi-inq $1 $2"
}
settings() { ctl --json show "$1" --secrets | python3 -c '
import json, sys
node = json.load(sys.stdin)
keep = ("uuid", "base", "created", "serial", "mac", "auth", "shared", "read_only", "removable", "durability")
secrets = node["credentials"] or {}
print({k: node[k] for k in keep}, [l["uuid"] for l in node["luns"]], secrets.get("secret"), secrets.get("operator_secret"))'; }
snapshot() { identity "$1" 0 && settings "$1"; }

one=$(snapshot one) two=$(snapshot two) data=$(identity one 1)
[ "$one" != "$two" ] || fail "two nodes have the same identity"
say "$one" | head -n 4
qemu-io -f raw -c 'write -P 0x5a 8M 3M' "$(url one)" >/dev/null || fail "write"
qemu-io -f raw -c 'write -P 0xa5 0 1M' "$(url one 1)" >/dev/null || fail "write to LUN 1"
unchanged() { # WHEN
	local what
	[ "$(snapshot "$name")" = "$one" ] || fail "$1: node $name is another one: $(snapshot "$name")"
	[ "$(identity "$name" 1)" = "$data" ] || fail "$1: LUN 1 of node $name is another one"
	[ "$(snapshot two)" = "$two" ] || fail "$1: node two is another one"
	for what in "read -P 0x5a 8M 3M" "read 0 1M"; do
		qemu-io -f raw -c "$what" "$(url "$name")" | grep -q 'erification failed' && fail "$1: data is lost"
	done
	qemu-io -f raw -c 'read -P 0xa5 0 1M' "$(url "$name" 1)" | grep -q 'erification failed' &&
		fail "$1: data of LUN 1 is lost"
	say "ok: $1: identities, settings and data are the same"
}

name=one
daemon_kill TERM || fail "SIGTERM ended it with status $?"
daemon_start
unchanged "after a restart"
daemon_kill KILL
daemon_start
unchanged "after kill -9"
ctl rename one uno >/dev/null 2>&1 || fail "rename node"
ctl rename base root-image >/dev/null 2>&1 || fail "rename image"
name=uno
one=${one//\'base\': \'base\'/\'base\': \'root-image\'}
two=${two//\'base\': \'base\'/\'base\': \'root-image\'}
unchanged "after renames"
daemon_kill TERM || fail "SIGTERM ended it with status $?"
daemon_start
unchanged "after renames and a restart"
expect "the old name" '!0' 'not found|target' -- qemu-img info "iscsi://$daemon_portal/iqn.2026-11.local.lunroot:one/0"

# --- the end, with somebody logged in ---
mkfifo "$daemon_dir/commands"
qemu-io -f raw "$(url uno)" <"$daemon_dir/commands" >"$daemon_dir/qemu-io" 2>&1 &
client=$!
exec 9>"$daemon_dir/commands"
say 'write -P 0x77 20M 4M' >&9
for _ in $(seq 600); do
	grep -q 'wrote 4194304' "$daemon_dir/qemu-io" && break
	sleep 0.1
done
grep -q 'wrote 4194304' "$daemon_dir/qemu-io" || fail "it does not write: $(cat "$daemon_dir/qemu-io")"
expect_ctl "a node in use is not removed" 1 'in use' 'cure' -- rm uno
expect_ctl "a node in use is not renamed" 1 'in use' -- rename uno one
begin=${EPOCHREALTIME/[.,]/}
daemon_kill TERM || fail "SIGTERM ended it with status $?"
took=$(((${EPOCHREALTIME/[.,]/} - begin) / 1000))
kill "$client" 2>/dev/null
exec 9>&-
wait "$client" 2>/dev/null
[ $took -lt 8000 ] || fail "the end took $took ms"
say "ok: SIGTERM with an initiator logged in: ended after $took ms"
# A power loss after the proper end loses nothing.
rm -rf "${daemon_dir:?}/run" && mkdir "$daemon_dir/run"
daemon_start
qemu-io -f raw -c 'read -P 0x77 20M 4M' "$(url uno)" | grep -q 'erification failed' && fail "the end lost data"
unchanged "after the end and a power loss"

# --- the wrong state directory, as when its file system is not mounted ---
daemon_kill KILL
mv "$daemon_dir/state" "$daemon_dir/state.mounted" && mkdir "$daemon_dir/state"
daemon_start
await_log 'layers open that .*/state does not have'
say "ok: an empty state directory after kill -9 is noticed"
daemon_kill TERM || fail "SIGTERM ended it with status $?"
rm -r "${daemon_dir:?}/state" && mv "$daemon_dir/state.mounted" "$daemon_dir/state"
daemon_start
unchanged "after the wrong state directory"

# --- a lost catalogue: each disk keeps the name it had last, also where two have changed theirs ---
ctl clone root-image left >/dev/null 2>&1 && ctl clone root-image right >/dev/null 2>&1 || fail "clone"
qemu-io -f raw -c 'write -P 0x11 8M 1M' "$(url left)" >/dev/null || fail "write"
qemu-io -f raw -c 'write -P 0x22 8M 1M' "$(url right)" >/dev/null || fail "write"
ctl rename left middle >/dev/null 2>&1 && ctl rename right left >/dev/null 2>&1 && ctl rename middle right >/dev/null 2>&1 ||
	fail "rename"
daemon_kill TERM || fail "SIGTERM ended it with status $?"
rm "$daemon_dir"/state/catalog.db*
daemon_start
qemu-io -f raw -c 'read -P 0x22 8M 1M' "$(url left)" | grep -q 'erification failed' && fail "left has right's disk"
qemu-io -f raw -c 'read -P 0x11 8M 1M' "$(url right)" | grep -q 'erification failed' && fail "right has left's disk"
qemu-io -f raw -c 'read -P 0x5a 8M 3M' "$(url uno)" | grep -q 'erification failed' && fail "uno lost its data"
say "ok: a lost catalogue: disks have the names that they had last"
daemon_ends_well
