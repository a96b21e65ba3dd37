#!/bin/bash
# open-iscsi's iscsid in the real system, beside our keeper: it leaves the root disk's session alone, also while the
# target restarts and while it is started again itself.
. "$(dirname "$0")/node.sh"

node_begin
open_iscsi=${node_cache%/*}/open-iscsi
(
	flock 9
	[ -e "$open_iscsi/complete" ] && exit
	rm -rf "$open_iscsi"
	"$project/tools/foreign-debs" amd64 "$open_iscsi" open-iscsi libopeniscsiusr libisns0 libkmod2 libmount1 \
		libblkid1 libselinux1 libpcre2-8-0 libsystemd0 libssl3 libc6 libcap2 libgcrypt20 libgpg-error0 \
		liblz4-1 liblzma5 libzstd1 && touch "$open_iscsi/complete"
) 9>"$open_iscsi.lock" || skip "open-iscsi can't be had"

# Into the root image: the programs, their libraries, and what they want to find.
tree=$daemon_dir/root-tree
mkdir -p "$tree"/{etc/iscsi/nodes,lib64,usr/lib,var/lib/iscsi,run/lock/iscsi}
for name in iscsid iscsiadm; do cp "$open_iscsi"/sbin/$name "$tree/sbin/" || fail "$name"; done
find "$open_iscsi" \( -name '*.so' -o -name '*.so.*' \) ! -path '*/gconv/*' ! -path '*/ossl-modules/*' \
	! -path '*/engines-3/*' -exec cp -L {} "$tree/usr/lib/" \; 2>/dev/null
cp -L "$tree/usr/lib/ld-linux-x86-64.so.2" "$tree/lib64/" || fail "no loader"
cp "$open_iscsi/etc/iscsi/iscsid.conf" "$tree/etc/iscsi/"
echo 'root:x:0:0:root:/:/bin/sh' >"$tree/etc/passwd"
ln -sfn ../run "$tree/var/run"
truncate -s 96M "$daemon_dir/iscsid.img"
mke2fs -q -F -t ext4 -d "$tree" "$daemon_dir/iscsid.img" >/dev/null || fail "mke2fs"
ctl import "$daemon_dir/iscsid.img" with-iscsid >/dev/null && ctl clone with-iscsid pi-01 >/dev/null || fail "clone"
node_conf pi-01

node_start pi-01 "t=iscsid20"
node_await pi-01 'STEP 6 ' 60
daemon_kill KILL
sleep 12
daemon_start
node_await pi-01 'the disk is back after' 20
node_await pi-01 'RESULT' 90
node_shown pi-01 'RESULT ok' || node_fail pi-01 "it failed"
node_await_end pi-01 20
node_dmesg_is_clean pi-01
node_fsck pi-01
for pattern in 'SESSION .*pi-01' 'CREATOR -1' 'ISCSID runs' 'SESSIONS 1'; do
	node_shown pi-01 "$pattern" || node_fail pi-01 "it does not say: $pattern"
done
# One login for the boot, one after the restart.
logins=$(grep -c 'initiator:pi-01 .*: logged in' "$daemon_dir/log")
[ "$logins" = 2 ] || fail "$logins logins instead of 2"
! grep -E 'takes over|refused' "$daemon_dir/log" || fail "two initiators fought for the session"
say "ok: iscsid beside the keeper: $logins logins, one session, no error"
daemon_ends_well
