#!/bin/bash
# Boot clients that nobody of us wrote, against a boot server: firmware (iPXE, EDK2, U-Boot) in QEMU, and the programs curl, tftp
# and atftp. Which server: $SERVER, default dnsmasq, the stand-in that shows that each client works here. A server is
#
#   serve_NAME NET TREE MAC...      started in NET's server namespace, ready on return: the machines with these MACs get
#                                   from TREE boot.ipxe (a PC), app.efi (64-bit ARM, by PXE and by HTTP); no other machine is
#                                   answered at all. Whoever asks by TFTP or HTTP from `other` gets TREE's files.
#
# quick: the programs and U-Boot, in 15 seconds; else all.
here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=tests/boot/net.sh
. "$here/net.sh"
# shellcheck source=tests/boot/base_image.sh
. "$here/base_image.sh"
# shellcheck source=tests/boot/servers.sh
. "$here/servers.sh"

SERVER=${SERVER:-dnsmasq}
server=10.77.0.2
patience=${LUNROOT_TEST_PATIENCE:-3}
client_pc=52:54:00:77:00:01      # served
client_stranger=52:54:00:77:00:02 # left alone
client_arm=52:54:00:77:00:03     # served
net_folder=

say() { printf '%s\n' "$*"; }
fail() {
	printf 'FAILED: %s\n' "$*" >&2
	exit 1
}
skip() {
	printf 'skipped: %s\n' "$*" >&2
	exit 77
}

clients_end() {
	net_end_all
	[ -z "$net_folder" ] || rm -rf "$net_folder"
}

# --- the stand-in ---

serve_dnsmasq() { # NET TREE MAC...
	local net=$1 tree=$2 options=() mac
	shift 2
	for mac in "$@"; do options+=(--dhcp-mac="set:known,$mac"); done
	net_start "$net" server "$net_folder/server.log" dnsmasq --keep-in-foreground --conf-file=/dev/null --user=root --pid-file= \
		--port=0 --interface=eth0 --bind-interfaces --dhcp-range=10.77.255.255,proxy "${options[@]}" \
		--pxe-service=tag:known,x86PC,lunroot,boot.ipxe --pxe-service=tag:known,ARM64_EFI,lunroot,app.efi \
		--enable-tftp --tftp-root="$tree" --log-facility="$net_folder/dnsmasq.log"
	# What dnsmasq has none of.
	net_start "$net" server "$net_folder/server.log" python3 -m http.server -d "$tree" 80
	net_start "$net" server "$net_folder/server.log" python3 "$here/http_proxy.py" $server "http://$server/app.efi" "$@"
	net_await "$net" server 69 && net_run "$net" other curl -s --retry-connrefused --retry 50 --retry-delay 1 -o /dev/null "http://$server/"
}

# --- what is served ---

tree_make() {
	tree=$net_folder/tree
	mkdir "$tree"
	aarch64-linux-gnu-as "$here/efi_app.s" -o "$net_folder/app.o" &&
		aarch64-linux-gnu-objcopy -O binary "$net_folder/app.o" "$tree/app.efi" || fail "efi_app.s is not assembled"
	# shellcheck disable=SC2016  # iPXE's variable
	printf '#!ipxe\necho BOOTED ${net0/mac}\nsleep 60\n' >"$tree/boot.ipxe"
	cp "$tree/boot.ipxe" "$tree/small.txt"
	# By the name that a UEFI looks for.
	mkdir -p "$tree/EFI/BOOT"
	cp "$tree/app.efi" "$tree/EFI/BOOT/BOOTAA64.EFI"
	head -c 5000001 /dev/urandom >"$tree/large.bin"
	: >"$tree/empty"
}

# --- machines ---

declare -A client_pid=() client_began=()

# A port of the network's bridge for a machine that runs in the bridge's namespace: client_tap NET TAP
client_tap() {
	ip -n "$(net_ns "$1" bridge)" tuntap add "$2" mode tap &&
		ip -n "$(net_ns "$1" bridge)" link set "$2" master br0 up || fail "no tap device $2"
}

client_start() { # NET NAME MAC PROGRAM [OPTION]...
	local net=$1 name=$2 mac=$3
	shift 3
	client_tap "$net" "$name"
	net_start "$net" bridge "$net_folder/$name.qemu" "$@" -accel tcg -display none -no-reboot \
		-netdev tap,id=n0,ifname="$name",script=no,downscript=no -device "virtio-net-pci,netdev=n0,mac=$mac${client_rom:-}"
	client_pid[$name]=$net_pid
	client_began[$name]=$EPOCHREALTIME
}

client_console() { { tr -cd '[:print:]\n' <"$net_folder/$1.console"; } 2>/dev/null; }
client_seconds() { awk -v now="$EPOCHREALTIME" -v began="${client_began[$1]}" 'BEGIN { printf "%.1f s\n", now - began }'; }

client_await() { # NAME PATTERN SECONDS
	local i
	for ((i = 0; i < $3 * patience * 10; i++)); do
		! client_console "$1" | grep -Eq -e "$2" || return 0
		kill -0 "${client_pid[$1]}" 2>/dev/null || break
		sleep 0.1
	done
	! client_console "$1" | grep -Eq -e "$2" || return 0
	client_console "$1" | tail -n 15 >&2
	cat "$net_folder/$1.qemu" >&2
	fail "$1, after $(client_seconds "$1"): it does not say: $2"
}

client_end() {
	[ -n "${client_pid[$1]:-}" ] || return 0
	kill "${client_pid[$1]}" 2>/dev/null
	wait "${client_pid[$1]}" 2>/dev/null
	unset "client_pid[$1]"
}

# A PC's network card by its own ROM. iPXE waits 16 s for a router's IPv6 announcement before it begins, so both at once.
client_ipxe() { # NET NAME MAC
	client_start "$1" "$2" "$3" qemu-system-x86_64 -M pc,graphics=off -m 128 -serial "file:$net_folder/$2.console" -boot n
}

ipxe_served_and_left_alone() { # NET
	client_ipxe "$1" pc $client_pc
	client_ipxe "$1" stranger $client_stranger
	client_await pc "^BOOTED $client_pc" 60
	say "ok: iPXE: the registered PC runs its script after $(client_seconds pc)"
	client_await stranger 'Nothing to boot|No more network devices' 60
	! client_console stranger | grep -Eq "BOOTED|Next server: $server|Filename:" || fail "a PC that nobody registered was served"
	say "ok: iPXE: a PC that nobody registered is left alone"
	client_end pc
	client_end stranger
}

# UEFI of a 64-bit ARM machine. Of its ways to boot those named are switched off, since each would have its minute first.
client_edk2() { # NET NAME MAC WAY...
	local net=$1 name=$2 mac=$3 way off=()
	shift 3
	for way in "$@"; do off+=(-fw_cfg "name=opt/org.tianocore/${way}Support,string=no"); done
	client_rom=,romfile= client_start "$net" "$name" "$mac" qemu-system-aarch64 -M virt -cpu cortex-a57 -m 256 \
		-serial "file:$net_folder/$name.console" -bios /usr/share/qemu-efi-aarch64/QEMU_EFI.fd "${off[@]}"
}

edk2_by_pxe() { # NET
	client_edk2 "$1" edk2pxe $client_arm IPv6PXE
	client_await edk2pxe 'BOOTED (WHOLE|TORN)' 60
	client_console edk2pxe | grep -q 'BOOTED WHOLE' || fail "EDK2 got another file"
	say "ok: EDK2 (arm64), PXE: the program runs after $(client_seconds edk2pxe)"
	client_end edk2pxe
}

edk2_by_http() { # NET
	client_edk2 "$1" edk2http $client_arm IPv4PXE IPv6PXE
	client_await edk2http 'BOOTED (WHOLE|TORN)' 60
	client_console edk2http | grep -q 'URI: http://' || fail "EDK2 did not boot by HTTP"
	client_console edk2http | grep -q 'BOOTED WHOLE' || fail "EDK2 got another file"
	say "ok: EDK2 (arm64), HTTP boot: the program runs after $(client_seconds edk2http)"
	client_end edk2http
}

crc32() { python3 -c 'import sys, zlib; print("%08x" % zlib.crc32(open(sys.argv[1], "rb").read()))' "$1"; }

# It takes no notice of a proxy: whoever uses it says where the server is.
uboot_by_serverip() { # NET
	local what
	client_rom=,romfile= client_start "$1" uboot $client_arm qemu-system-aarch64 -M virt -cpu cortex-a57 -m 256 \
		-chardev "socket,id=c,path=$net_folder/uboot.sock,server=on,wait=off" -serial chardev:c \
		-bios /usr/lib/u-boot/qemu_arm64/u-boot.bin
	# shellcheck disable=SC2016  # U-Boot's variable
	"$here/console.py" "$net_folder/uboot.sock" $'\n=> ' $((20 * patience)) 'setenv autoload no' dhcp "setenv serverip $server" \
		'tftpboot 0x42000000 large.bin' 'crc32 0x42000000 ${filesize}' \
		'setenv tftpblocksize 512; tftpboot 0x48000000 app.efi' 'crc32 0x48000000 ${filesize}' \
		'tftpboot 0x48000000 not.there' 'echo result $?' >"$net_folder/uboot.console" || {
		client_console uboot | tail -n 20 >&2
		fail "U-Boot"
	}
	for what in 'DHCP client bound to address 10\.77\.' "==> $(crc32 "$tree/large.bin")" "==> $(crc32 "$tree/app.efi")" '^result 1'; do
		client_console uboot | grep -q -e "$what" || {
			client_console uboot | tail -n 30 >&2
			fail "U-Boot does not say: $what"
		}
	done
	say "ok: U-Boot (arm64): two files by TFTP, whole, and none that is not there, in $(client_seconds uboot)"
	client_end uboot
}

# --- programs ---

# The file came and is the one that is served; or status and no file: got WHAT FILE COMMAND...
got() {
	local what=$1 file=$2
	shift 2
	rm -f "$net_folder/got"
	timeout 300 "$@" >"$net_folder/output" 2>&1 ||
		fail "$what: status $?: $(cat "$net_folder/output")"
	cmp "$net_folder/got" "$tree/$file" || fail "$what: another file"
}

refused() { # WHAT PATTERN COMMAND...
	local what=$1 pattern=$2
	shift 2
	rm -f "$net_folder/got"
	timeout 30 "$@" >"$net_folder/output" 2>&1
	grep -Eqi -e "$pattern" "$net_folder/output" || {
		cat "$net_folder/output" >&2
		fail "$what: it is not told that there is no such file"
	}
	[ ! -s "$net_folder/got" ] || fail "$what: a file came"
}

programs() { # NET
	local file blksize in
	in=(ip netns exec "$(net_ns "$1" other)") # a function is nothing that timeout could start
	for file in large.bin small.txt empty; do
		got "curl, HTTP, $file" "$file" "${in[@]}" curl -sf -o "$net_folder/got" "http://$server/$file"
		got "tftp-hpa, $file" "$file" "${in[@]}" tftp -m binary $server -c get "$file" "$net_folder/got"
		for blksize in 512 1024 1468; do
			# curl refuses a size of 0 in the options.
			[ $file = empty ] || got "curl, TFTP, blocks of $blksize, $file" "$file" "${in[@]}" \
				curl -sf --tftp-blksize $blksize -o "$net_folder/got" "tftp://$server/$file"
			got "atftp, blocks of $blksize, $file" "$file" "${in[@]}" \
				atftp --option "blksize $blksize" --option "tsize" --option "timeout 5" --get -r "$file" -l "$net_folder/got" $server
		done
	done
	refused "curl, HTTP" '404' "${in[@]}" curl -sS -f -o "$net_folder/got" "http://$server/not.there"
	refused "curl, TFTP" '\(68\)' "${in[@]}" curl -sS -o "$net_folder/got" "tftp://$server/not.there"
	refused "tftp-hpa" 'not found|no such file' "${in[@]}" tftp -m binary $server -c get not.there "$net_folder/got"
	refused "atftp" 'not found|no such file' "${in[@]}" atftp --get -r not.there -l "$net_folder/got" $server
	say "ok: curl, tftp-hpa and atftp: files of 0, 58 and 5000001 bytes, blocks of 512 to 1468; none that is not there"
}

# --- lunbootd, with TREE as the boot files of all nodes ---

# A boot sector that says so by the BIOS, for the PC: its script is lunbootd's own, and starts its disk.
boot_sector() { # TEXT FILE
	cat >"$net_folder/sector.s" <<-END
		.code16
		.globl _start
		_start:	xorw %ax, %ax
			movw %ax, %ds
			movw \$(text - _start + 0x7c00), %si
		1:	lodsb
			testb %al, %al
			jz 2f
			movb \$0x0e, %ah
			int \$0x10
			jmp 1b
		2:	hlt
			jmp 2b
		text:	.asciz "\\r\\n$1\\r\\n"
			.org 510
			.word 0xaa55
	END
	as --32 "$net_folder/sector.s" -o "$net_folder/sector.o" &&
		ld -m elf_i386 -Ttext 0x7c00 --oformat binary "$net_folder/sector.o" -o "$2"
}

serve_lunbootd() { # NET TREE MAC...
	local net=$1 tree=$2 n=0 mac run
	shift 2
	boot_programs_ready || return
	boot_sector "BOOTED $client_pc" "$net_folder/pc.img" || return
	truncate -s 16M "$net_folder/pc.img"
	run=$(net_tmpfs "$net")
	export LUNROOT_SOCKET=$run/control.sock
	mkdir "$net_folder/state" "$net_folder/boot"
	net_start "$net" server "$net_folder/lunrootd.log" "$LUNROOT_BUILD/target/lunrootd" --state "$net_folder/state" --run "$run" \
		--portal 0.0.0.0:3260 --foreground --reserve 0
	for _ in $(seq 200); do
		"$LUNROOT_BUILD/tools/lunctl" ls >/dev/null 2>&1 && break
		sleep 0.05
	done
	"$LUNROOT_BUILD/tools/lunctl" import --force "$net_folder/pc.img" base >/dev/null 2>&1 || return
	# The programs that ask from the other host are a node, too: lunbootd has nothing for strangers.
	# U-Boot's MAC is what it calls itself, not QEMU's.
	for mac in "$@" 52:52:52:52:52:52 "$(net_run "$net" other cat /sys/class/net/eth0/address)"; do
		n=$((n + 1))
		"$LUNROOT_BUILD/tools/lunctl" clone base "pc-$n" --mac "$mac" >/dev/null 2>&1 || return
	done
	net_start "$net" server "$net_folder/server.log" "$LUNROOT_BUILD/boot/lunbootd" --interface eth0 --socket "$LUNROOT_SOCKET" \
		--run "$net_folder/boot" --programs "$boot_programs" --folder "$tree" --http-port 80 --foreground
	net_await "$net" server 69
	# The first request begins a boot, whose files are made then, once lunbootd has run for the minute in which nodes count
	# as in use.
	for _ in $(seq 160); do
		net_run "$net" other curl -sf -o /dev/null "http://$server/small.txt" && return
		sleep 0.5
	done
	cat "$net_folder/server.log" >&2
	return 1
}

# --- all of it ---

for program in qemu-system-x86_64 qemu-system-aarch64 aarch64-linux-gnu-as curl tftp atftp python3; do
	command -v $program >/dev/null || skip "$program is not installed"
done
[ -r /usr/share/qemu-efi-aarch64/QEMU_EFI.fd ] || skip "package qemu-efi-aarch64 is not installed"
[ -r /usr/lib/u-boot/qemu_arm64/u-boot.bin ] || skip "package u-boot-qemu is not installed"
net_possible || skip "network namespaces want root, and dnsmasq is needed"
net_folder=$(mktemp -d /dev/shm/lunroot-clients.XXXXXX)
trap clients_end EXIT
trap 'exit 130' INT TERM
tree_make
net_begin c
net_router c || fail "the router's DHCP"
"serve_$SERVER" c "$tree" $client_pc $client_arm || fail "the server $SERVER does not start"
programs c
uboot_by_serverip c
[ "${LUNROOT_CHECK:-full}" != quick ] || exit 0
edk2_by_pxe c
edk2_by_http c
ipxe_served_and_left_alone c
