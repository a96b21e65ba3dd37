#!/bin/sh
# For an initramfs with systemd: where a node's settings are found, /sysroot is what lunroot-init
# found on the node's own disk. In the early folder, so that it goes before what systemd makes of
# root= itself. There is no time limit: lunroot-init tells on the console what it waits for.
command -v getarg >/dev/null || . /lib/dracut-lib.sh
. /lib/lunroot-lib.sh

[ -n "$2" ] || exit 1
lunroot_wanted || exit 0

flags=$(getarg rootflags=)
if getarg rw >/dev/null; then mode=rw; else mode=ro; fi
type=$(lunroot_setting rootfstype) || type=$(getarg rootfstype=)
mkdir -p "$2/initrd-root-fs.target.requires" "$2/dev-lunroot-root.device.d"
cat >"$2/sysroot.mount" <<END
[Unit]
Description=Root on the node's iSCSI disk
Before=initrd-root-fs.target
Requires=systemd-fsck@dev-lunroot-root.service
After=systemd-fsck@dev-lunroot-root.service

[Mount]
What=/dev/lunroot/root
Where=/sysroot
Options=$mode${flags:+,$flags}
${type:+Type=$type}
END
ln -sf ../sysroot.mount "$2/initrd-root-fs.target.requires/sysroot.mount"
cat >"$2/dev-lunroot-root.device.d/lunroot.conf" <<END
[Unit]
JobTimeoutSec=0
JobRunningTimeoutSec=0
END
