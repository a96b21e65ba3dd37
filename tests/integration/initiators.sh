#!/bin/bash
# What simple initiators see: discovery, INQUIRY, capacity; with and without CHAP; IPv4 and IPv6;
# and who is not let in, with what the initiator and the log say about it.
. "$(dirname "$0")/lib.sh"
need iscsi-ls iscsi-inq iscsi-readcapacity16 qemu-img

daemon_begin
port=${daemon_portal##*:}
if [ -e /proc/net/if_inet6 ] && grep -q '^0*1 ' /proc/net/if_inet6; then
	daemon_start --portal "[::1]:$port"
	portals="127.0.0.1:$port [::1]:$port"
else
	daemon_start
	portals=127.0.0.1:$port
	say "(no IPv6 on this machine)"
fi
make_ext4 "$daemon_dir/base.img" 64M
ctl import "$daemon_dir/base.img" base >/dev/null 2>&1 || fail "import"
ctl clone base open --no-auth >/dev/null 2>&1 || fail "clone open"
ctl clone base guarded >/dev/null 2>&1 || fail "clone guarded"
ctl clone base big --no-auth --size 3G --data 1G >/dev/null 2>&1 || fail "clone big"
open=$(url open) guarded=$(url guarded)
prefix=iqn.2026-11.local.lunroot

# --- discovery; iscsi-ls tells the size of all but the last block ---
for portal in $portals; do
	expect "iscsi-ls at $portal" 0 "Target:$prefix:open" -- iscsi-ls "iscsi://$portal"
	expect "LUNs at $portal" 0 "Lun:0.*DIRECT_ACCESS.*2G" "Lun:1.*DIRECT_ACCESS.*1023M" -- \
		iscsi-ls -s "iscsi://$portal"
done
# Without its credentials nobody is told of a guarded target.
iscsi-ls "iscsi://$daemon_portal" 2>&1 | grep -q "$prefix:guarded" &&
	fail "a stranger is told of a guarded target"
expect "iscsi-ls with credentials" 0 "Target:$prefix:guarded" -- iscsi-ls "${guarded%/iqn*}"

# --- one disk ---
for disk in "$open" "$guarded"; do
	expect "iscsi-inq" 0 'Vendor: *lunroot' 'SBC' -- iscsi-inq "$disk"
	expect "VPD pages" 0 '0x80' '0x83' '0xb0' '0xb1' '0xb2' -- iscsi-inq -e 1 -c 0 "$disk"
	expect "capacity" 0 'LENGTH IN BYTES:512' 'EXPONENT:3' 'LBPME:1' 'Total size:67108864' -- iscsi-readcapacity16 "$disk"
	expect "qemu-img info" 0 'virtual size: 64 MiB' -- qemu-img info "$disk"
done
expect "a LUN that is not there" '!0' -- qemu-img info "${open%/0}/7"

# --- who is not let in ---
wrong=$(printf '%s' "$guarded" | sed 's/%[^@]*@/%not-the-secret-at-all@/')
expect "a wrong secret" '!0' 'authentication|auth' -- qemu-img info "$wrong"
await_log 'guarded.*(secret|response)|(secret|response).*guarded'
stranger="iscsi://nobody%${guarded#*%}"
expect "a wrong user" '!0' 'authentication|auth' -- qemu-img info "$stranger"
await_log 'nobody'
expect "no credentials" '!0' -- qemu-img info "iscsi://${guarded#*@}"
expect "an unknown target" '!0' 'not found|target' -- qemu-img info "iscsi://$daemon_portal/$prefix:nowhere/0"
await_log "$prefix:nowhere"

# The node's own credentials, but from another machine's initiator name.
json=$(ctl --json show guarded --secrets) || fail "show --secrets"
user=$(member credentials.user <<<"$json") secret=$(member credentials.secret <<<"$json")
initiator=$(member initiator <<<"$json")
own="iscsi://$user%$secret@$daemon_portal/$prefix:guarded/0"
expect "a stolen secret, from another initiator" '!0' -- iscsi-inq -i iqn.2026-11.test:thief "$own"
await_log 'thief'
expect "the node itself" 0 'Vendor: *lunroot' -- iscsi-inq -i "$initiator" "$own"

expect_ctl "stats counts them" 0 'refused logins *[1-9]' -- stats
daemon_ends_well
