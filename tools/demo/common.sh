# shellcheck shell=sh disable=SC2034,SC2086,SC2154,SC1091
# Shared by the demo's scripts: sourced by busybox sh or sh. They say on the console what happens,
# and last "LUNROOT-DEMO ok" or "LUNROOT-DEMO failed: WHY".
#
# Kernel command line: lunroot-demo.files=N (files that the container writes, default 4),
# lunroot-demo.end=poweroff|reboot|stay (default poweroff)

demo=/usr/lib/lunroot-demo
state=/var/lib/lunroot-demo

note() { echo "LUNROOT-DEMO $*"; }

# The value of a word of the kernel's command line: setting NAME DEFAULT
setting() {
	for word in $(cat /proc/cmdline); do
		case $word in
		"$1="*)
			echo "${word#*=}"
			return
			;;
		esac
	done
	echo "$2"
}

is_mounted() { grep -q " $1 " /proc/mounts; }

mount_missing() { # TYPE DIR [OPTIONS]
	is_mounted "$2" && return
	mkdir -p "$2"
	mount -t "$1" ${3:+-o "$3"} "$1" "$2"
}

# For scripts that are process 1: what an init would have mounted, if the initramfs has not.
be_init() {
	export PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root
	[ -e /proc/self/mounts ] || busybox mount -t proc proc /proc
	busybox grep -q ' /run ' /proc/mounts || busybox mount -t tmpfs -o mode=755,nosuid,nodev tmpfs /run
	# busybox for everything that it can: a slow disk then has one program to read, not fifty.
	mkdir -p /run/lunroot-demo/bin
	/bin/busybox --install -s /run/lunroot-demo/bin
	export PATH=/run/lunroot-demo/bin:$PATH
	mount_missing sysfs /sys
	mount_missing devtmpfs /dev
	mount_missing devpts /dev/pts mode=620
	mount_missing tmpfs /dev/shm
	mount_missing cgroup2 /sys/fs/cgroup
	[ -e /dev/fd ] || ln -s /proc/self/fd /dev/fd
	mount -o remount,rw / || finish "cannot make / writable"
	mount_missing tmpfs /tmp
	hostname -F /etc/hostname
	ip link set lo up
}

# Process 1 may not end: it switches the machine off.
finish() { # [WHY IT FAILED]
	if [ $# -gt 0 ]; then note "failed: $*"; else ok=yes; fi
	sync
	mount -o remount,ro / || {
		ok=
		note "failed: / cannot be made read-only"
	}
	[ -z "${ok:-}" ] || note ok
	case $(setting lunroot-demo.end poweroff) in
	reboot) reboot -f ;;
	stay) while :; do sleep 3600; done ;;
	*) poweroff -f ;;
	esac
	# In vain on machines without a switch: stay here.
	while :; do sleep 3600; done
}
