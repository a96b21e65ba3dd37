#!/bin/bash
# What lunroot-init leaves behind for the real system: no open files, no zombies, no secrets, and what the DHCP client
# needs to know. Settings with the line ends of another system are read as they are meant.
. "$(dirname "$0")/node.sh"

node_begin
ctl clone base pi-01 >/dev/null || fail "clone"
node_conf pi-01
sed -i 's/$/\r/' "$daemon_dir/pi-01.conf"
"$project/tools/mkinitramfs" --node-conf "$daemon_dir/pi-01.conf" "$daemon_dir/pi-01.cpio" >/dev/null || fail "node.conf"
node_start pi-01 "t=traces"
node_await pi-01 'RESULT' 60
node_shown pi-01 'RESULT ok' || node_fail pi-01 "it failed"
node_await_end pi-01 20
node_dmesg_is_clean pi-01
shows() { node_shown pi-01 "$1" || node_fail pi-01 "it does not say: $1"; }
shows 'INITFDS 0 1 2 end'
shows 'ZOMBIES 0'
for left in root-mounted lunroot/address dev/kmsg; do shows "LEFT .*$left"; done
for secret in "$(node_field pi-01 credentials.secret)" "$(node_field pi-01 credentials.mutual_secret)"; do
	! node_shown pi-01 "$secret" || fail "a secret is on the console"
done
shows 'SECRETS 0'
say "ok: no open files, zombies or secrets are left; node.conf may have CRLF"
daemon_ends_well
