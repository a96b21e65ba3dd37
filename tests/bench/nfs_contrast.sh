#!/bin/bash
# Why not an NFS root? The same Debian root once from NFS (nfs-ganesha, NFS 4.2) and once from a LUN, on the same emulated
# machine: an overlayfs on it, and dockerd with overlay2. Prints what kernel and dockerd say. To be run by hand, as root:
#
#   apt-get install nfs-ganesha nfs-ganesha-vfs; tests/bench/nfs_contrast.sh
. "$(dirname "$0")/../pi/pi.sh"

need ganesha.nfsd zstd cpio debugfs
[ "$(id -u)" = 0 ] || skip "nfs-ganesha serves handles of files, which needs root"
pi_begin
work=$(mktemp -d /var/tmp/lunroot-nfs.XXXXXX)
ganesha=
trap '[ -z "$ganesha" ] || kill -9 $ganesha; wait $ganesha 2>/dev/null; machines_cleanup; daemon_cleanup; rm -rf "$work"' EXIT

# --- what both do, as init ---

cat >"$daemon_dir/contrast" <<'END'
#!/bin/busybox sh
. /usr/lib/lunroot-demo/common.sh
be_init
modprobe overlay 2>/dev/null
echo "CONTRAST root is $(grep ' / ' /proc/mounts | tail -n 1 | cut -d ' ' -f 3)"
mkdir -p /var/lib/contrast/lower /var/lib/contrast/upper /var/lib/contrast/work /run/merged
dmesg -c >/dev/null
mount -t overlay -o lowerdir=/var/lib/contrast/lower,upperdir=/var/lib/contrast/upper,workdir=/var/lib/contrast/work overlay /run/merged
echo "CONTRAST overlay mount: status $?"
dmesg | grep -i overlay
# On its own, so that a slow start of it is not taken for what is wrong.
containerd >/run/containerd.log 2>&1 &
i=0
until ctr version >/dev/null 2>&1 || [ $i -ge 300 ]; do
	i=$((i + 1))
	sleep 1
done
# /etc/docker/daemon.json asks for overlay2.
dockerd --containerd /run/containerd/containerd.sock --iptables=false --bridge=none --pidfile /run/docker.pid >/run/dockerd.log 2>&1 &
dockerd=$!
i=0
until [ -S /run/docker.sock ] && docker version >/dev/null 2>&1; do
	kill -0 $dockerd 2>/dev/null || break
	i=$((i + 1))
	[ $i -lt 300 ] || break
	sleep 1
done
if kill -0 $dockerd 2>/dev/null; then
	echo "CONTRAST dockerd: ready, storage driver $(docker info --format '{{.Driver}}')"
else
	echo "CONTRAST dockerd: ended"
	grep -E 'failed to start daemon|error initializing graphdriver' /run/dockerd.log || tail -n 3 /run/dockerd.log
fi
dmesg | grep -i overlay | tail -n 4
echo "CONTRAST end"
poweroff -f
END
chmod 755 "$daemon_dir/contrast"

# The kernel repeats itself.
shown() { machine_console "$1" | grep -avE 'device-mapper|hrtimer' | awk '{ text = $0; sub(/^\[ *[0-9.]*\] /, "", text) } !seen[text]++' | sed -n '/CONTRAST root/,/CONTRAST end/p' | sed 's/^/    /'; }

# --- NFS ---

mkdir "$work/root" "$work/initramfs"
zstd -dcq "$(find "${LUNROOT_TEST_CACHE:-$HOME/.cache/lunroot-tests}/pi/cache" -name 'root-*.tar.zst' | head -n 1)" |
	tar -C "$work/root" -x --numeric-owner || fail "the root tree can't be unpacked"
mkdir -p "$work/root/usr/lib/lunroot-demo"
cp "$project/tools/demo/common.sh" "$daemon_dir/contrast" "$work/root/usr/lib/lunroot-demo/"
mkdir -p "$work/root/etc/docker"
echo '{ "storage-driver": "overlay2" }' >"$work/root/etc/docker/daemon.json"
nfs_port=$(free_port)
cat >"$work/ganesha.conf" <<-END
	NFS_CORE_PARAM { Protocols = 4; NFS_Port = $nfs_port; Bind_addr = 127.0.0.1; Enable_NLM = false; Enable_RQUOTA = false; }
	NFSv4 { Grace_Period = 1; Graceless = true; RecoveryBackend = fs; RecoveryRoot = $work; Minor_Versions = 2; }
	EXPORT { Export_Id = 1; Path = $work/root; Pseudo = /root; Access_Type = RW; Squash = None; SecType = sys;
		Transports = TCP; FSAL { Name = VFS; } }
END
ganesha.nfsd -F -L "$work/ganesha.log" -f "$work/ganesha.conf" -p "$work/ganesha.pid" >"$work/ganesha.out" 2>&1 &
ganesha=$!
pi_initramfs "$work/nfs.initramfs" --add-module nfsv4 --add-module overlay
(cd "$work/initramfs" && zstd -dcq "$work/nfs.initramfs" 2>/dev/null | cpio -id --quiet)
cat >"$work/initramfs/init" <<'END'
#!/bin/busybox sh
b=/bin/busybox
$b mount -t proc proc /proc
$b mount -t sysfs sys /sys
$b mount -t devtmpfs dev /dev
$b mount -t tmpfs run /run
$b mkdir -p /run/lunroot
for word in $($b cat /proc/cmdline); do case $word in t_*=*) eval "${word%%=*}='${word#*=}'" ;; esac done
while read -r module; do $b insmod /lib/modules/$module; done </etc/lunroot/modules
$b ip link set lo up
$b ip link set eth0 up
$b udhcpc -q -n -i eth0 -s /etc/lunroot/dhcp -t 20 >/dev/null 2>&1
until $b mount -t nfs4 -o "vers=4.2,addr=10.0.2.2,port=$t_port,clientaddr=10.0.2.15,sec=sys" 10.0.2.2:/root /newroot; do
	echo "CONTRAST no NFS root yet"
	$b sleep 2
done
for f in dev proc sys run; do $b mount --move /$f /newroot/$f; done
exec $b switch_root /newroot /usr/lib/lunroot-demo/contrast
END
chmod 755 "$work/initramfs/init"
(cd "$work/initramfs" && find . | cpio -o -H newc --quiet -R 0:0 | gzip -1) >"$work/nfs.initrd"
machine_start nfs virt "$pi_kernel" "$work/nfs.initrd" "console=ttyAMA0 t_port=$nfs_port"
pi_wait nfs 'CONTRAST end' 150 || true
say "root from NFS:"
shown nfs
machine_stop nfs

# --- a LUN ---

pi_copy "$pi_root_img" "$daemon_dir/contrast.img"
chmod u+w "$daemon_dir/contrast.img"
debugfs -w -R "write $daemon_dir/contrast /usr/lib/lunroot-demo/contrast" "$daemon_dir/contrast.img" >/dev/null 2>&1
debugfs -w -R "sif /usr/lib/lunroot-demo/contrast mode 0100755" "$daemon_dir/contrast.img" >/dev/null 2>&1
ctl import "$daemon_dir/contrast.img" contrast >/dev/null && ctl clone contrast pi-01 >/dev/null || fail "clone"
node_conf pi-01
pi_boot pi-01 virt "rw init=/usr/lib/lunroot-demo/contrast"
pi_wait pi-01 'CONTRAST end' 150
say "root from lunroot:"
shown pi-01
