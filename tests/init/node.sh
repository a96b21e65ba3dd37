# Nodes that boot by lunroot-init in QEMU, for the tests of this folder: sourced. A PC with Debian's cloud
# kernel starts in two seconds and has the same lunroot-init and the same kernel initiator as a Pi; the Pis themselves are in
# tests/pi.
#
#   node_begin                       kernel, initramfs, a root image; a private lunrootd with the image "base"
#   node_conf, node_field, node_fsck: see conf.sh
#   node_start NODE APPEND [QEMU...] boots it; console in $daemon_dir/NODE.console
#   node_await NODE PATTERN SECONDS  until the console shows it (a basic regular expression)
#   node_await_end NODE SECONDS      until it is powered off
#   node_link NODE on|off            its network cable
#   node_stop NODE
#   node_dmesg_is_clean NODE         the kernel has not complained of its disk or of a file system

# shellcheck source=tests/integration/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/../integration/lib.sh"
# shellcheck source=tests/init/conf.sh
. "$(dirname "${BASH_SOURCE[0]}")/conf.sh"

node_cache=${LUNROOT_TEST_CACHE:-$HOME/.cache/lunroot-tests}/pc
declare -A node_pid

# Slower machines than the one that this was written on.
node_patience=${LUNROOT_TEST_PATIENCE:-3}

node_end_all() {
	local node
	[ "$BASHPID" = $$ ] || return 0
	for node in "${!node_pid[@]}"; do node_stop "$node"; done
	daemon_cleanup
}

# Debian's kernel for clouds: everything that QEMU has, little else.
node_kernel() {
	(
		flock 9
		[ -e "$node_cache/complete" ] && exit
		rm -rf "$node_cache/root"
		"$project/tools/foreign-debs" amd64 "$node_cache/root" linux-image-cloud-amd64 &&
			touch "$node_cache/complete"
	) 9>"$node_cache.lock" || skip "Debian's cloud kernel can't be had"
	node_modules=$(echo "$node_cache"/root/lib/modules/*)
	node_vmlinuz=$(echo "$node_cache"/root/boot/vmlinuz-*)
}

# A root file system: busybox, and an init that does what the command line asks for (test_init).
node_root_image() {
	local tree=$daemon_dir/root-tree
	mkdir -p "$tree"/{bin,sbin,dev,proc,sys,run,tmp,etc,mnt}
	cp "$(command -v busybox)" "$tree/bin/busybox"
	cp "$(dirname "${BASH_SOURCE[0]}")/test_init" "$tree/sbin/init"
	chmod 755 "$tree/sbin/init"
	truncate -s 64M "$1"
	mke2fs -q -F -t ext4 -L root -U "$node_root_uuid" -d "$tree" "$1" >/dev/null || fail "mke2fs"
}
node_root_uuid=5f0b0a4e-7a53-4c6b-9a51-3c2b8c0f0001

node_begin() {
	need qemu-system-x86_64 busybox mke2fs cpio python3
	mkdir -p "${node_cache%/*}"
	daemon_begin
	trap node_end_all EXIT
	node_kernel
	"$project/tools/build-init" amd64 >"$daemon_dir/build-init.log" 2>&1 || {
		cat "$daemon_dir/build-init.log" >&2
		fail "lunroot-init does not build"
	}
	node_init=$project/build/init-amd64/lunroot-init
	node_initramfs "$daemon_dir/initramfs" --overlay --add-module af_packet
	node_root_image "$daemon_dir/root.img"
	daemon_start
	ctl import "$daemon_dir/root.img" base >/dev/null || fail "import"
}

node_initramfs() { # OUT [OPTION]...
	local out=$1
	shift
	"$project/tools/mkinitramfs" --modules "$node_modules" --init "$node_init" --busybox "$(command -v busybox)" \
		--board virt "$@" "$out" >"$daemon_dir/mkinitramfs.log" 2>&1 || {
		cat "$daemon_dir/mkinitramfs.log" >&2
		fail "mkinitramfs"
	}
}

node_start() {
	local node=$1 append=$2 netdev=user,id=n0
	shift 2
	case ${1:-} in
	netdev=*)
		netdev=${1#netdev=}
		shift
		;;
	esac
	[ -e "$daemon_dir/$node.cpio" ] || : >"$daemon_dir/$node.cpio"
	cat "${node_initrd:-$daemon_dir/initramfs}" "$daemon_dir/$node.cpio" >"$daemon_dir/$node.initrd"
	rm -f "$daemon_dir/$node.qmp" "$daemon_dir/$node.console"
	qemu-system-x86_64 -accel tcg -cpu max -m 384 -display none -no-reboot -serial "file:$daemon_dir/$node.console" \
		-qmp "unix:$daemon_dir/$node.qmp,server=on,wait=off" -kernel "$node_vmlinuz" -initrd "$daemon_dir/$node.initrd" \
		-append "$pc_kernel $append" -netdev "$netdev" -device virtio-net-pci,netdev=n0,id=nic0,romfile= "$@" \
		</dev/null >"$daemon_dir/$node.qemu" 2>&1 &
	node_pid[$node]=$!
}

# In whole lines: one that is being written may not have its end yet.
node_shown() {
	local console=$daemon_dir/$1.console
	head -n "$(wc -l <"$console")" "$console" 2>/dev/null | grep -a -q -e "$2"
} 2>/dev/null

node_fail() { # NODE WHAT
	tail -n 40 "$daemon_dir/$1.console" 2>/dev/null | tr -d '\r' >&2
	cat "$daemon_dir/$1.qemu" >&2
	fail "$1: $2"
}

node_await() {
	local i
	for ((i = 0; i < $3 * node_patience * 10; i++)); do
		node_shown "$1" "$2" && return
		kill -0 "${node_pid[$1]}" 2>/dev/null || {
			node_shown "$1" "$2" && return
			node_fail "$1" "it ended before it said: $2"
		}
		! node_shown "$1" 'Kernel panic' || node_fail "$1" "the kernel panicked"
		sleep 0.1
	done
	node_fail "$1" "not in $(($3 * node_patience)) s: $2"
}

node_await_end() {
	local i
	for ((i = 0; i < $2 * node_patience * 10; i++)); do
		kill -0 "${node_pid[$1]}" 2>/dev/null || {
			wait "${node_pid[$1]}" 2>/dev/null
			unset "node_pid[$1]"
			! node_shown "$1" 'Kernel panic' || node_fail "$1" "the kernel panicked"
			return
		}
		sleep 0.1
	done
	node_fail "$1" "still running after $(($2 * node_patience)) s"
}

node_link() {
	python3 - "$daemon_dir/$1.qmp" "$2" <<-'END' || fail "$1: QMP set_link"
		import json, socket, sys, time
		for _ in range(600):
		    try:
		        s = socket.socket(socket.AF_UNIX)
		        s.connect(sys.argv[1])
		        break
		    except OSError:  # QEMU has only begun
		        time.sleep(0.1)
		f = s.makefile("rw")
		f.readline()
		for command in ({"execute": "qmp_capabilities"},
		                {"execute": "set_link", "arguments": {"name": "nic0", "up": sys.argv[2] == "on"}}):
		    f.write(json.dumps(command) + "\n")
		    f.flush()
		    while True:
		        answer = json.loads(f.readline())
		        if "event" not in answer:
		            break
		    assert "return" in answer, answer
	END
}

node_stop() {
	[ -n "${node_pid[$1]:-}" ] || return 0
	kill -KILL "${node_pid[$1]}" 2>/dev/null
	wait "${node_pid[$1]}" 2>/dev/null
	unset "node_pid[$1]"
}

node_dmesg_is_clean() {
	! grep -a -E 'I/O error|EXT4-fs (error|warning)|Remounting filesystem read-only|rejecting I/O|Buffer I/O|blocked for more than|FAILED Result' \
		"$daemon_dir/$1.console" || node_fail "$1" "the kernel complained"
}
