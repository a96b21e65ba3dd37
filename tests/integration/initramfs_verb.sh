#!/bin/bash
# lunctl initramfs: a node's settings come out as the daemon has them, in a file that only its maker
# reads, alone or inside a whole initramfs.
here=$(cd "$(dirname "$0")" && pwd)
. "$here/lib.sh"
need cpio busybox zstd modprobe

daemon_begin
daemon_start
ctl create base --size 16M >/dev/null || fail create
ctl clone base pi-07 --hostname seven >/dev/null || fail clone
ctl clone base open --no-auth >/dev/null || fail "clone --no-auth"
cd "$daemon_dir" || exit 1
json=$(ctl --json show pi-07 --secrets) || fail show
of() { member "$1" <<<"$json"; }
conf_of() { { gzip -dcf "$1" 2>/dev/null || true; } | cpio -i --quiet --to-stdout etc/lunroot/node.conf; }

expect_ctl "a loopback portal is of no use to a node" 1 'loopback address' 'portal ADDRESS' -- initramfs pi-07 no.img
[ ! -e no.img ] || fail "a file was written all the same"
expect_ctl "settings alone" 0 'conf.img: .* settings only, for node pi-07' 'next: cat INITRAMFS conf.img' -- \
	initramfs pi-07 conf.img --portal 192.0.2.1:3261
[ "$(stat -c %a conf.img)" = 600 ] || fail "mode $(stat -c %a conf.img)"
cat >wanted <<END
portal=192.0.2.1:3261
target=$(of iqn)
initiator=$(of initiator)
hostname=seven
user=$(of credentials.user)
secret=$(of credentials.secret)
mutual_user=$(of credentials.mutual_user)
mutual_secret=$(of credentials.mutual_secret)
END
conf_of conf.img | diff wanted - || fail "other settings"
! conf_of conf.img | grep -q "$(of credentials.operator_secret)" || fail "the operator's secret is none of the node's"
secret=$(of credentials.secret)
! grep -q -e "$secret" "$daemon_dir/output" || fail "a secret was printed"

expect_ctl "a node without CHAP" 0 'for node open' -- initramfs open open.img --portal '[2001:db8::1]'
conf_of open.img | diff <(printf 'portal=[2001:db8::1]\ntarget=iqn.2026-11.local.lunroot:open\nhostname=open\n') - || fail "settings without CHAP"
token=0123456789abcdef0123456789abcdef
expect_ctl "whom the node reports to" 0 'for node open' -- initramfs open open.img --portal 192.0.2.1 --report "192.0.2.1:6666/$token"
conf_of open.img | grep -qx "report=192.0.2.1:6666/$token" || fail "no report= in the settings"
for report in "192.0.2.1:6666" "/$token" "192.0.2.1:6666/${token}0" "a b/$token" "192.0.2.1/${token%f}x"; do
	expect_ctl "a report that is none" 2 'ADDRESS:PORT/TOKEN' -- initramfs open no.img --portal 192.0.2.1 --report "$report"
done
expect_ctl "--json" 0 '"bytes"' '"file"' -- --json initramfs pi-07 conf.img --portal 192.0.2.1

# A kernel that has everything built in: no module is needed, and no package to get them from.
mkdir -p tree/6.1.0-built-in
printf 'kernel/drivers/scsi/iscsi_tcp.ko\nkernel/drivers/scsi/sd_mod.ko\nkernel/fs/ext4/ext4.ko\n' >tree/6.1.0-built-in/modules.builtin
: >tree/6.1.0-built-in/modules.order
busybox=$(command -v busybox)
expect_ctl "the whole initramfs" 0 'whole.img: .* for node pi-07' 'next: boot pi-07' -- initramfs pi-07 whole.img \
	--modules tree/6.1.0-built-in --init "$busybox" --busybox "$busybox" --portal nas.lan --board pi --compress none
[ "$(stat -c %a whole.img)" = 600 ] || fail "mode $(stat -c %a whole.img)"
cpio -it --quiet <whole.img >listing
for file in init bin/busybox bin/sh etc/lunroot/dhcp etc/lunroot/modules etc/lunroot/node.conf dev/console; do
	grep -qx "$file" listing || fail "no $file in it"
done
conf_of whole.img | diff <(sed 's/^portal=.*/portal=nas.lan/' wanted) - || fail "other settings in the whole one"

expect_ctl "no such node" 1 'next|ls shows' -- initramfs pi-99 no.img --portal 192.0.2.1
expect_ctl "an image is no node" 1 'base' -- initramfs base no.img --portal 192.0.2.1
expect_ctl "options without modules" 2 'only with --modules' -- initramfs pi-07 no.img --portal 192.0.2.1 --board pi
expect_ctl "what mkinitramfs refuses" 1 'nowhere: no such folder' -- initramfs pi-07 no.img --portal 192.0.2.1 --modules nowhere
expect_ctl "an unknown board" 2 'pi, virt, all or none' -- initramfs pi-07 no.img --portal 192.0.2.1 --modules tree/6.1.0-built-in --board x
expect_ctl "a portal that is none" 2 'HOST, HOST:PORT' -- initramfs pi-07 no.img --portal 'a b'
expect_ctl "a folder that is not there" 1 'is no folder' -- initramfs pi-07 nowhere/no.img --portal 192.0.2.1
[ ! -e no.img ] || fail "a file was written all the same"
daemon_ends_well
