#!/bin/bash
# tools/mkinitramfs: the same inputs give the same bytes wherever and by whomever, everything is
# in it in an order that loads, and what cannot work is refused in words. With the kernel and the
# busybox of Debian's arm64, whatever this machine is. Nothing of it is run here.
here=$(cd "$(dirname "$0")" && pwd)
. "$here/lib.sh"
tools=$project/tools

need cpio xz zstd gzip modprobe depmod python3 dpkg-deb
daemon_dir=$(mktemp -d)
trap 'rm -rf "$daemon_dir"' EXIT
files=${LUNROOT_TEST_CACHE:-$HOME/.cache/lunroot-tests}/arm64-kernel
if [ ! -e "$files/complete" ]; then
	rm -rf "$files"
	"$tools/foreign-debs" arm64 "$files" linux-image-arm64 busybox-static >"$daemon_dir/output" 2>&1 || {
		tail -3 "$daemon_dir/output" >&2
		skip "Debian's arm64 kernel cannot be had"
	}
	depmod -b "$files" "$(basename "$files"/lib/modules/*)" || fail "depmod"
	touch "$files/complete"
fi
modules=$(echo "$files"/lib/modules/*)
version=$(basename "$modules")
busybox=$files/bin/busybox
# Any static program will do as /init here.
init=$busybox
cd "$daemon_dir" || exit 1
state_of() { find "$@" -printf '%p %s %T@\n' | sort | sha256sum; }
umask 022
export TMPDIR=$daemon_dir
mk() { "$tools/mkinitramfs" --modules "$modules" --init "$init" --busybox "$busybox" "$@"; }
same() { cmp -- "$1" "$2" || fail "$3"; }
listing() { cpio -it --quiet 2>/dev/null; }

# --- the same bytes ---

printf 'portal=192.0.2.1\ntarget=iqn.2026-11.local.lunroot:pi-07\nuser=pi-07\nsecret=not-a-real-secret\n' >node.conf
mk --node-conf node.conf --overlay --compress none first.img || fail "mkinitramfs"
(umask 077 && TZ=Pacific/Auckland LC_ALL=C.UTF-8 mk --node-conf node.conf --overlay --compress none second.img) || fail "again"
same first.img second.img "another umask, time zone and language give other bytes"
# A tree that was unpacked in another order, compressed, never seen by depmod, under a name with a blank.
other="$daemon_dir/other tree/$version"
mkdir -p "$other"
(cd "$modules" && find . -type f ! -name 'modules.*.bin' ! -name modules.dep | sort -r | cpio -o --quiet | cpio -id --quiet -D "$other")
find "$other" -name '*.ko' -path '*/scsi/*' -exec xz -0 --check=crc32 {} +
find "$other" -name '*.ko' -path '*/fs/*' -exec zstd -q -1 --rm {} +
find "$other" -name '*.ko' -path '*/crypto/*' -exec gzip {} +
before=$(state_of "$modules" "$other")
(cd / && "$tools/mkinitramfs" --modules "$other" --init "$init" --busybox "$busybox" --node-conf "$daemon_dir/node.conf" \
	--overlay --compress none "$daemon_dir/third.img") || fail "the compressed tree"
same first.img third.img "compressed modules give other bytes"
mk --board none --compress none plain.img || fail "--compress none"
for pack in zstd xz gzip; do
	mk --board none --compress $pack one.$pack || fail "$pack"
	sleep 1
	mk --board none --compress $pack two.$pack || fail "$pack"
	same one.$pack two.$pack "$pack gives other bytes a second later"
	[ $(($(stat -c %s one.$pack) % 4)) = 0 ] || fail "$pack: nothing can be appended at $(stat -c %s one.$pack)"
	{ $pack -dc one.$pack 2>/dev/null || true; } | cmp - plain.img || fail "$pack: what comes out is not what went in"
done
mk --board none --fast fast.zstd && mk --board none --fast again.zstd || fail "--fast"
same fast.zstd again.zstd "--fast gives other bytes each time"
{ zstd -dc fast.zstd 2>/dev/null || true; } | cmp - plain.img || fail "--fast: what comes out is not what went in"
say "ok: the same inputs give the same bytes"
[ "$(state_of "$modules" "$other")" = "$before" ] || fail "the module tree was written to"

# --- what is in it ---

[ "$(stat -c %a first.img)" = 600 ] || fail "secrets in a file of mode $(stat -c %a first.img)"
cpio -itv --quiet <first.img >listing
for line in '-rwxr-xr-x .* root *root .* init$' '-rwxr-xr-x .* bin/busybox$' 'bin/sh -> busybox$' '-rw------- .* etc/lunroot/node.conf$' \
	'-rwxr-xr-x .* etc/lunroot/dhcp$' '-rw-r--r-- .* etc/lunroot/modules$' 'crw------- .* 5, *1 .* dev/console$' \
	'drwxr-xr-x .* newroot$' 'drwxr-xr-x .* proc$' 'drwxr-xr-x .* sys$' 'drwxr-xr-x .* run$' 'drwxr-xr-x .* tmp$' \
	'drwxr-xr-x .* dev$'; do
	grep -Eq -e "$line" listing || { cat listing; fail "not in it: $line"; }
done
! grep -qv ' Jan  *1  *1970 ' listing || fail "something has a date: $(grep -v 1970 listing | head -3)"
mkdir out
(cd out && cpio -id --quiet --no-absolute-filenames 'etc/*' 'lib/*' 'init' <../first.img 2>/dev/null)
cmp out/init "$init" && cmp out/etc/lunroot/node.conf node.conf || fail "files changed on the way"
# Told beforehand, of a tree whose modules are empty.
mkdir -p "empty/$version"
(cd "$modules" && find . -name '*.ko*' | cpio -pdm --quiet "$OLDPWD/empty/$version" && cp modules.* "$OLDPWD/empty/$version/")
find "empty/$version" -name '*.ko*' -exec truncate -s 0 {} +
"$tools/mkinitramfs" --modules "empty/$version" --overlay --list-modules | sed "s,^,$version/," | cmp - out/etc/lunroot/modules ||
	fail "--list-modules tells other modules than those that go in"
# Every listed module is there, every module is listed, and each comes after what it needs.
python3 - out "$version" <<'END' || fail "the list of modules is wrong"
import os, re, subprocess, sys
top, version = sys.argv[1] + "/lib/modules/", sys.argv[2]
listed = open(sys.argv[1] + "/etc/lunroot/modules").read().split()
there = [os.path.relpath(os.path.join(d, f), top) for d, _, fs in os.walk(top) for f in fs]
if sorted(listed) != sorted(there):
    sys.exit(f"listed and there differ: {set(listed) ^ set(there)}")
name = lambda path: re.sub(r"\.ko.*", "", os.path.basename(path)).replace("-", "_")
seen = set()
for path in listed:
    data = open(top + path, "rb").read()
    if not path.startswith(version + "/") or data[:4] != b"\x7fELF":
        sys.exit(f"{path}: not a module of {version}, unpacked")
    needs = re.search(rb"\0depends=([^\0]*)\0", data).group(1).decode()
    for need in filter(None, needs.split(",")):
        if need.replace("-", "_") not in seen:
            sys.exit(f"{path} comes before {need}, which it needs")
    seen.add(name(path))
wanted = """iscsi_tcp libiscsi scsi_transport_iscsi sd_mod ext4 jbd2 mbcache crc32c_generic overlay
    virtio_net virtio_pci virtio_mmio smsc95xx lan78xx genet macb r8152 dwc2 phy_generic usbnet cdc_ether
    xhci_pci broadcom microchip reset_raspberrypi""".split()
missing = [w for w in wanted if w not in seen]
if missing:
    sys.exit(f"missing: {missing}")
END
bytes=$(stat -c %s one.zstd)
[ "$bytes" -lt $((2 << 20)) ] || fail "$bytes bytes without network drivers"
[ "$(stat -c %a one.zstd)" = 644 ] || fail "an image without secrets has mode $(stat -c %a one.zstd)"
! listing <plain.img | grep -E 'drivers/(net|usb|virtio)|node.conf|e2fsck' || fail "--board none"
mk --board virt --add-module nls_utf8 --e2fsck "$busybox" --compress none virt.img || fail "--add-module"
listing <virt.img >listing
for name in virtio_net.ko nls_utf8.ko sbin/e2fsck; do grep -q "$name$" listing || fail "no $name"; done
! grep -Eq 'smsc95xx|overlay' listing || fail "the virtual machine has a Pi's drivers"
"$tools/mkinitramfs" --modules "$other" --init "$init" --busybox "$busybox" --keep-compressed --compress none kept.img || fail "--keep-compressed"
cpio -i --quiet --to-stdout etc/lunroot/modules <kept.img >listing
grep -q 'iscsi_tcp\.ko\.xz$' listing && grep -q 'ext4\.ko\.zst$' listing || fail "--keep-compressed unpacks"
expect "--verbose says what takes the room" 0 'bin/busybox' 'all of it' 'packed by zstd' -- \
	"$tools/mkinitramfs" --modules "$modules" --init "$init" --busybox "$busybox" --fast --verbose verbose.img
say "ok: $bytes bytes without network drivers, $(stat -c %s verbose.img) with all of them"

# --- a node's settings alone ---

"$tools/mkinitramfs" --node-conf node.conf conf.img || fail "--node-conf alone"
[ "$(stat -c %a conf.img)" = 600 ] || fail "settings in a file of mode $(stat -c %a conf.img)"
[ "$(stat -c %s conf.img)" -lt 1024 ] || fail "$(stat -c %s conf.img) bytes of settings"
{ gzip -dc conf.img 2>/dev/null || true; } | cpio -i --quiet --to-stdout etc/lunroot/node.conf | cmp - node.conf || fail "other settings come out"
"$tools/mkinitramfs" --node-conf <(cat node.conf) pipe.img || fail "settings from a pipe"
same conf.img pipe.img "settings from a pipe are others"
say "ok: settings alone are $(stat -c %s conf.img) bytes"

# --- what cannot work ---

# A copy of the program that says it is made for another processor (e_machine).
made_for() {
	cp "$busybox" "$2"
	# shellcheck disable=SC2059
	printf "$(printf '\\%03o' "$1")\0" | dd of="$2" bs=1 seek=18 conv=notrunc status=none
}
made_for 62 x86-program
made_for 40 arm-program
printf '#!/bin/sh\n' >script
cp "$busybox" dynamic
# The first of its segments becomes one that names a loader.
printf '\3\0\0\0' | dd of=dynamic bs=1 seek=64 conv=notrunc status=none
mkdir -p empty-tree bad-tree/kernel
echo nonsense >bad-tree/kernel/iscsi_tcp.ko
: >empty.conf
printf 'a\0b' >binary.conf
refuse() { # WHAT PATTERN -- ARGUMENTS
	local what=$1 pattern=$2
	shift 3
	rm -f bad.img
	expect "$what" '!0' "$pattern" -- "$tools/mkinitramfs" "$@" bad.img
	[ ! -e bad.img ] || fail "$what: wrote an image all the same"
}
given=(--modules "$modules" --init "$init" --busybox "$busybox")
refuse "no module tree" 'empty-tree: not a kernel.s module tree' -- --modules empty-tree --init "$init" --busybox "$busybox"
refuse "no folder" 'nowhere: no such folder' -- --modules nowhere --init "$init" --busybox "$busybox"
refuse "modules that are none" 'iscsi_tcp|ext4|sd_mod' -- --modules bad-tree --init "$init" --busybox "$busybox"
refuse "init for another processor" 'x86-program is made for x86-64, the modules in .* for 64-bit ARM' -- "${given[@]}" --init x86-program
refuse "busybox for another processor" '--busybox x86-program is made for x86-64' -- "${given[@]}" --busybox x86-program
refuse "e2fsck for another processor" '--e2fsck x86-program is made for' -- "${given[@]}" --e2fsck x86-program
refuse "a dynamic program" 'dynamic: needs shared libraries' -- "${given[@]}" --init dynamic
refuse "a script as init" 'script: not an executable program' -- "${given[@]}" --init script
refuse "a missing file" 'missing: not a readable file' -- "${given[@]}" --init missing
refuse "a module that is not there" 'module no_such_thing is neither in' -- "${given[@]}" --add-module no_such_thing
refuse "an unknown board" 'arduino: pi, virt, all or none' -- "${given[@]}" --board arduino
refuse "an unknown compression" 'lzo: zstd, xz, gzip or none' -- "${given[@]}" --compress lzo
refuse "an unknown option" 'unknown option --frobnicate' -- "${given[@]}" --frobnicate
expect "no value" 2 'init wants a value' -- "$tools/mkinitramfs" "${given[@]}" --init
refuse "empty settings" 'empty.conf: empty' -- --node-conf empty.conf
refuse "binary settings" 'binary.conf: not a text' -- --node-conf binary.conf
[ "$(dpkg --print-architecture)" = arm64 ] ||
	{
		mkdir own own/bin
		cp "$tools/mkinitramfs" "$project/initramfs/dhcp" own
		PATH=$daemon_dir/own/bin:$PATH
		cp x86-program own/bin/busybox
		hash -r
		expect "no busybox named" '!0' 'no static busybox for 64-bit ARM.*tools/boot-programs arm64 gets one.*--busybox FILE names one' -- \
			own/mkinitramfs --modules "$modules" --init "$init" own.img
		cp "$busybox" own/busybox-arm64
		own/mkinitramfs --modules "$modules" --init "$init" own.img || fail "the busybox beside it is not found"
	}
refuse "no modules named" 'modules DIR is missing' -- --init "$init" --busybox "$busybox"
expect "an output that is a folder" '!0' 'is a folder' -- "$tools/mkinitramfs" "${given[@]}" out
expect "an output nowhere" '!0' 'nowhere is no folder' -- "$tools/mkinitramfs" "${given[@]}" nowhere/x.img
mk --init arm-program --board none mixed.img || fail "a 32-bit program beside a 64-bit Pi kernel"
[ -z "$(find "$daemon_dir" -mindepth 1 -maxdepth 1 \( -name '.mkinitramfs*' -o -name 'tmp.*' \))" ] || fail "it left its scratch files: $(ls -A "$daemon_dir")"
say "mkinitramfs: all well"
