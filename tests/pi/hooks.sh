#!/bin/bash
# lunroot-init inside a distribution's own initramfs: one by Debian's initramfs-tools and two by
# dracut (with systemd, and without) are built with the hooks of this tree, and each boots a PC
# under QEMU from its iSCSI disk although another disk with the same names is in it. Without settings
# they boot from that other disk and lunroot is silent.
. "$(dirname "$0")/../init/node.sh"

for program in mkinitramfs dracut; do
	command -v $program >/dev/null || skip "$program is not installed (initramfs-tools-core, dracut-core, dracut-network)"
done
[ "$(id -u)" = 0 ] || skip "needs root (a mount namespace of its own)"
unshare -m true 2>/dev/null || skip "no mount namespaces here"
node_begin
version=$(basename "$node_modules")
images=$daemon_dir/images
mkdir "$images"

# Runs a command where the kernel's modules and our hooks lie in their places, for it alone. The
# binary is not installed: LUNROOT_INIT names it.
in_place() {
	mkdir -p "$images/dracut-modules"
	[ -d /lib/modules ] || { mkdir /lib/modules && made_modules=yes; }
	LUNROOT_INIT=$node_init LUNROOT_LIB=$project/initramfs/lunroot-lib.sh \
		place_root="${node_modules%/lib/modules/*}" place_dracut="$images/dracut-modules" place_project="$project" \
		unshare -m bash -euc '
			mount --bind "$place_root/lib/modules" /lib/modules
			mount --bind "$place_root/boot" /boot
			cp -a /usr/lib/dracut/modules.d/. "$place_dracut"
			cp -a "$place_project/initramfs/dracut/90lunroot" "$place_dracut"
			mount --bind "$place_dracut" /usr/lib/dracut/modules.d
			mount -t tmpfs none /var/tmp
			exec "$@"' in_place "$@" >"$daemon_dir/build.log" 2>&1 || {
		tail -n 30 "$daemon_dir/build.log" >&2
		fail "$1"
	}
	[ -z "${made_modules-}" ] || rmdir /lib/modules
}
/sbin/depmod -b "${node_modules%/lib/modules/*}" "$version"

# --- built ---

config=$daemon_dir/initramfs-tools
mkdir -p "$config"/{hooks,conf.d,scripts/{init-premount,local-top}}
cp /etc/initramfs-tools/initramfs.conf "$config/" 2>/dev/null || printf 'MODULES=most\nBUSYBOX=auto\nCOMPRESS=gzip\nDEVICE=\nNFSROOT=auto\n' >"$config/initramfs.conf"
: >"$config/modules"
cp "$project/initramfs/initramfs-tools/hook" "$config/hooks/lunroot"
cp "$project/initramfs/initramfs-tools/init-premount" "$config/scripts/init-premount/lunroot"
cp "$project/initramfs/initramfs-tools/local-top" "$config/scripts/local-top/lunroot"
in_place mkinitramfs -d "$config" -o "$images/initramfs-tools" "$version"
say "built: initramfs-tools, $(stat -c %s "$images/initramfs-tools") bytes"
in_place dracut --quiet --no-hostonly --no-hostonly-cmdline --add lunroot --kver "$version" "$images/dracut"
say "built: dracut with systemd, $(stat -c %s "$images/dracut") bytes"
in_place dracut --quiet --no-hostonly --no-hostonly-cmdline --add "lunroot network-legacy" --omit "systemd systemd-initrd systemd-networkd dracut-systemd" \
	--kver "$version" "$images/dracut-plain"
say "built: dracut without systemd, $(stat -c %s "$images/dracut-plain") bytes"

# --- what is in them ---

in_place lsinitramfs "$images/initramfs-tools"
cp "$daemon_dir/build.log" "$images/initramfs-tools.list"
for kind in dracut dracut-plain; do
	in_place lsinitrd "$images/$kind"
	awk '{ print $NF }' "$daemon_dir/build.log" >"$images/$kind.list"
done
holds() { # KIND PATTERN...
	local kind=$1 pattern
	shift
	for pattern in "$@"; do
		grep -Eq -e "$pattern" "$images/$kind.list" || fail "$kind: no $pattern in it"
	done
}
for kind in initramfs-tools dracut dracut-plain; do
	holds $kind 'sbin/lunroot-init$' 'lib/lunroot-lib.sh$' '/iscsi_tcp.ko' '/sd_mod.ko' '/virtio_net.ko'
done
holds initramfs-tools 'scripts/local-top/lunroot$' 'scripts/init-premount/lunroot$'
holds dracut 'hooks/cmdline/89-parse-lunroot.sh$' 'hooks/initqueue/settled/50-lunroot-settled.sh$' 'system-generators/dracut-lunroot-generator$'
holds dracut-plain 'sbin/lunroot-login$'
! grep -q systemd-initrd "$images/dracut-plain.list" || fail "dracut-plain has systemd"

# --- booted ---

has() {
	local node=$1 pattern
	shift
	for pattern in "$@"; do node_shown "$node" "$pattern" || node_fail "$node" "it does not say: $pattern"; done
}
# A root that systemd takes for a system.
tree=$daemon_dir/root-tree
echo 'ID=test' >"$tree/etc/os-release"
make_root() {
	truncate -s 64M "$1"
	mke2fs -q -F -t ext4 -L root -U "$node_root_uuid" -d "$tree" "$1" >/dev/null || fail mke2fs
}
make_root "$daemon_dir/system.img"
ctl import "$daemon_dir/system.img" system >/dev/null || fail import
# Another disk with the same label and UUID, whose init must not run when the node has settings.
sed -i 's/RESULT ok/RESULT decoy/' "$tree/sbin/init"
make_root "$daemon_dir/decoy.img"
decoy=(-m 1024 -drive "file=$daemon_dir/decoy.img,if=virtio,format=raw,snapshot=on")

for kind in initramfs-tools dracut dracut-plain; do
	node_initrd=$images/$kind
	node=node-$kind
	ctl clone system "$node" >/dev/null || fail "clone"
	node_conf "$node"
	began=$SECONDS
	node_start "$node" "root=UUID=$node_root_uuid ro ip=dhcp rd.neednet=1 t=write8" "${decoy[@]}"
	# The keeper outlived the switch to the real root only if a dead server is a pause.
	node_await "$node" 'STEP 3' 120
	daemon_kill KILL
	sleep 2
	daemon_start
	node_await_end "$node" 120
	has "$node" "logged in to iqn.2026-11.local.lunroot:$node at 10.0.2.2" 'ROOT /dev/sda / ext4 rw' 'KEEPER .*@lunroot' 'RECOVERY 86400' 'the disk is back after' 'RESULT ok'
	node_dmesg_is_clean "$node"
	node_fsck "$node"
	say "ok: $kind boots from the node's own disk; the server's death is a pause ($((SECONDS - began)) s)"

	# No root= and nothing of the network on the command line; the rest is known.
	node_start "$node" "t=write1" "${decoy[@]}"
	node_await_end "$node" 120
	has "$node" 'ROOT /dev/sda / ext4' 'RESULT ok'
	say "ok: $kind needs nothing on the command line"

	rm -f "$daemon_dir/$node.cpio"
	node_start "$node" "root=LABEL=root ro t=" "${decoy[@]}"
	node_await_end "$node" 120
	has "$node" 'RESULT decoy' 'ROOT /dev/vda'
	! node_shown "$node" 'lunroot:' || node_fail "$node" "lunroot is not silent without settings"
	say "ok: $kind without settings boots from the disk that it is told"
done
daemon_ends_well
