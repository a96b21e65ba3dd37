# A machine under QEMU that runs the real lunrootd on a real file system, for the power-cut tests: sourced. Its disk's
# writes are recorded by QEMU's blklogwrites driver; a client outside reaches it by a forwarded port.
#
#   machine_begin FS           kernel and initramfs, an empty disk $machine_dir/empty.img with that file system; a private
#                              folder for lunrootd here, too (daemon_begin)
#   machine_fresh              an empty disk again
#   machine_start [LOG]        power on; recorded if LOG is named. Ends when lunrootd answers
#   machine_do COMMAND...      runs it in the machine (start, ctl ...); its status, and $machine_said
#   machine_url NODE
#   machine_cut                the power goes: kill -9
#   machine_stop               an orderly end
#
# The disk says that it has blocks of 4096 bytes, as those that people have do, and no discard.

# shellcheck source=tests/init/node.sh
. "$(dirname "${BASH_SOURCE[0]}")/../init/node.sh"

machine_pid=
machine_port=
machine_mounted= # what of the machine's disk is mounted here
machine_bytes=$((384 << 20))
machine_base_bytes=$((12 << 20))

machine_cleanup() {
	[ -z "$machine_pid" ] || kill -KILL "$machine_pid" 2>/dev/null
	! daemon_alive || daemon_kill KILL
	[ -z "$machine_mounted" ] || umount "$machine_mounted"
	machine_pid='' machine_mounted=''
	daemon_cleanup
}

machine_fail() {
	tail -n 60 "$machine_dir/console" 2>/dev/null | tr -d '\r' >&2
	cat "$machine_dir/qemu" >&2
	fail "the machine: $*"
}

machine_begin() {
	need qemu-system-x86_64 qemu-img busybox cpio python3 mke2fs "mkfs.$1"
	mkdir -p "${node_cache%/*}"
	daemon_begin
	trap machine_cleanup EXIT
	machine_dir=$daemon_dir/machine
	machine_fs=$1
	mkdir "$machine_dir"
	node_kernel
	"$client" fill "$machine_dir/base.img" $machine_base_bytes || fail "fill"
	machine_initramfs
	truncate -s $machine_bytes "$machine_dir/empty.img"
	case $1 in
	ext4) mkfs.ext4 -q -F -b 4096 -E lazy_itable_init=0,lazy_journal_init=0 "$machine_dir/empty.img" ;;
	*) "mkfs.$1" -q "$machine_dir/empty.img" ;;
	esac || fail "mkfs.$1"
	machine_fresh
}

machine_initramfs() {
	local tree=$machine_dir/tree lib module=()
	[ "$machine_fs" = ext4 ] || module=(--add-module "$machine_fs")
	"$project/tools/mkinitramfs" --modules "$node_modules" --init "$(command -v busybox)" --board virt \
		--busybox "$(command -v busybox)" --add-module virtio_blk "${module[@]}" --compress none \
		"$machine_dir/modules.cpio" >"$machine_dir/mkinitramfs" 2>&1 || {
		cat "$machine_dir/mkinitramfs" >&2
		fail "mkinitramfs"
	}
	mkdir -p "$tree/top" "$tree/programs"/{bin,lib,lib64}
	install -m 755 "$(dirname "${BASH_SOURCE[0]}")/machine_init" "$tree/top/init"
	(cd "$tree/top" && find . | cpio -o -H newc --quiet) | cat "$machine_dir/modules.cpio" - >"$machine_dir/initrd"
	# What is large is a disk of its own, so that only what is used is read.
	cp "$lunrootd" "$tree/programs/bin/lunrootd"
	cp "$lunctl" "$tree/programs/bin/lunctl"
	ldd "$lunrootd" "$lunctl" | awk '$2 == "=>" { print $3 } $1 ~ /^\/lib64/ { print $1 }' | sort -u |
		while read -r lib; do
			case $lib in
			/lib64/*) cp -L "$lib" "$tree/programs/lib64/" ;;
			*) cp -L "$lib" "$tree/programs/lib/" ;;
			esac
		done
	cp "$machine_dir/base.img" "$tree/programs/base.img"
	truncate -s 160M "$machine_dir/programs.img"
	mke2fs -q -F -t ext4 -d "$tree/programs" "$machine_dir/programs.img" >/dev/null || fail "mke2fs"
	rm -rf "$tree"
}

machine_fresh() { cp --sparse=always "$machine_dir/empty.img" "$machine_dir/disk.img"; }

machine_start() {
	local disk=driver=raw,node-name=disk,file.driver=file,file.filename=$machine_dir/disk.img
	[ -z "${1:-}" ] || {
		: >"$1"
		disk=driver=blklogwrites,node-name=disk,file.driver=file,file.filename=$machine_dir/disk.img
		disk=$disk,log.driver=file,log.filename=$1
	}
	machine_port=$(free_port)
	rm -f "$machine_dir"/control.{in,out}
	mkfifo "$machine_dir"/control.{in,out}
	exec {machine_in}<>"$machine_dir/control.in" {machine_out}<>"$machine_dir/control.out"
	qemu-system-x86_64 -accel tcg -cpu max -m 512 -display none -no-reboot -nodefaults \
		-serial "file:$machine_dir/console" -chardev "pipe,id=control,path=$machine_dir/control" -serial chardev:control \
		-kernel "$node_vmlinuz" -initrd "$machine_dir/initrd" -append "$pc_kernel quiet panic=-1 t_fs=$machine_fs" \
		-blockdev "$disk" -device virtio-blk-pci,drive=disk,physical_block_size=4096,discard=off,write-zeroes=off \
		-drive "if=virtio,format=raw,readonly=on,file=$machine_dir/programs.img" \
		-netdev "user,id=n0,hostfwd=tcp:127.0.0.1:$machine_port-:3260" -device virtio-net-pci,netdev=n0,romfile= \
		</dev/null >"$machine_dir/qemu" 2>&1 &
	machine_pid=$!
	machine_answer 60 || machine_fail "it does not come up"
}

# The status that comes next; 255: none came.
machine_answer() { # SECONDS
	local line part='' i
	machine_said=''
	for ((i = 0; i < $1 * node_patience; i++)); do
		while read -r -t 1 -u "$machine_out" line; do
			line=$part$line part=''
			[[ $line =~ ^DONE\ ([0-9]+) ]] && return "${BASH_REMATCH[1]}"
			machine_said+=$line$'\n'
		done
		part+=$line # what came of a line until the time was over
		kill -0 "$machine_pid" 2>/dev/null || return 255
	done
	return 255
}

machine_do() {
	printf '%s\n' "$*" >&"$machine_in"
	machine_answer 60
}

machine_url() { printf 'iscsi://127.0.0.1:%s/iqn.2026-11.local.lunroot:%s/0\n' "$machine_port" "$1"; }

machine_end() {
	wait "$machine_pid" 2>/dev/null
	machine_pid=
	exec {machine_in}>&- {machine_out}>&-
}

machine_cut() {
	kill -KILL "$machine_pid"
	machine_end
}

machine_stop() {
	machine_do 'killall lunrootd; while pidof lunrootd; do usleep 50000; done >/dev/null; umount /state' ||
		machine_fail "no orderly end"
	printf 'poweroff -f\n' >&"$machine_in"
	machine_end
}
