# Emulated Raspberry Pis for test scripts and the demo: sourced, after tests/hostile/daemon.sh if that
# is used, too: its say, fail and skip serve here, and machine_start comes after daemon_begin, whose
# trap at exit it keeps.
#
#   machine_start NAME raspi3b|raspi0|virt|virt32 KERNEL INITRD "APPEND" [QEMU OPTION]...
#   machine_wait NAME PATTERN SECONDS     until the console has a line like this (extended regular
#                                         expression); fails at once when the machine dies or panics
#   machine_has NAME PATTERN, machine_count NAME PATTERN, machine_console NAME (prints it)
#   machine_since NAME                    forgets the console so far: for the above, it begins here
#   machine_end NAME SECONDS              waits for the end of a guest that powers itself off
#   machine_stop NAME                     ends it at once, as pulling the plug does
#   machine_cut_network NAME, machine_join_network NAME
#   machine_seconds NAME                  since its start, such as 12.4
#   machines_cleanup                      ends all; runs by itself at exit
#
# INITRD may be empty. raspi3b and raspi0 want pi_dtb (see artefacts.sh). Environment of machine_start:
# machine_smp, machine_memory (MiB; raspi3b has what it has), machine_forward (slirp's options, such
# as ",hostfwd=tcp:127.0.0.1:2222-:22"), machine_exits=yes (virt ends when the guest reboots).
# The guest reaches this machine's 127.0.0.1 as 10.0.2.2 and nothing else of the world.
#
# One core of ours for each machine: single-threaded TCG is what raspi3b is fast with.

declare -A machine_pid=() machine_began=() machine_skip_bytes=() machine_model=()
machine_dir=

if ! declare -F fail >/dev/null; then
	say() { printf '%s\n' "$*"; }
	fail() {
		printf 'FAILED: %s\n' "$*" >&2
		exit 1
	}
	skip() {
		printf 'skipped: %s\n' "$*" >&2
		exit 77
	}
fi

machines_cleanup() {
	local name
	for name in "${!machine_pid[@]}"; do machine_stop "$name"; done
	[ -z "$machine_dir" ] || rm -rf "$machine_dir"
	machine_dir=
}

# The folder of consoles and sockets, and the end of everything at exit, beside what was to be done
# there before.
machines_begin() {
	local before
	[ -z "$machine_dir" ] || return 0
	command -v qemu-system-aarch64 >/dev/null || skip "qemu-system-aarch64 is not installed (package qemu-system-arm)"
	command -v python3 >/dev/null || skip "python3 is not installed"
	machine_dir=$(mktemp -d /dev/shm/lunroot-machines.XXXXXX)
	before=$(trap -p EXIT)
	before=${before#"trap -- '"}
	before=${before%"' EXIT"}
	# shellcheck disable=SC2064  # what stands there now
	trap "machines_cleanup; ${before//"'\\''"/"'"}" EXIT
}

machine_console_file() { printf '%s\n' "$machine_dir/$1.console"; }

machine_start() { # NAME MODEL KERNEL INITRD APPEND [QEMU OPTION]...
	local name=$1 model=$2 kernel=$3 initrd=$4 append=$5 line=() mac=${machine_mac:+,mac=$machine_mac}
	shift 5
	machines_begin
	[ -z "${machine_pid[$name]:-}" ] || fail "machine $name runs already"
	[ -r "$kernel" ] || fail "no kernel $kernel"
	case $model in
	raspi3b)
		[ -r "${pi_dtb:-}" ] || fail "raspi3b wants a device tree in pi_dtb"
		line=(-M raspi3b -accel tcg,thread=single -m 1024 -smp 4 -dtb "$pi_dtb"
			-device "usb-net,netdev=n0$mac")
		;;
	raspi0) # a Pi Zero. The kernel's driver of its power domains dies on what QEMU 7.2 has of them.
		[ -r "${pi_dtb:-}" ] || fail "raspi0 wants a device tree in pi_dtb"
		# Linux reads its timer and says when it shall ring, 15 us later at the least. If QEMU is held up between
		# the two by a busy machine, the time has passed, and it rings when the counter comes round: 71 minutes
		# later, with the whole guest asleep. So its time is made of instructions, 8 ns each.
		line=(-M raspi0 -accel tcg,thread=single -icount shift=3,sleep=on -m 512 -dtb "$pi_dtb" -device "usb-net,netdev=n0$mac")
		append="$append initcall_blacklist=bcm2835_power_driver_init"
		;;
	virt)
		line=(-M virt -cpu cortex-a53 -accel "tcg,thread=${machine_threads:-multi}" -m "${machine_memory:-1024}" -smp "${machine_smp:-2}"
			-device "virtio-net-pci,netdev=n0,romfile=,id=nic0$mac")
		;;
	virt32) # a 32-bit core
		line=(-M virt,highmem=off -cpu cortex-a15 -accel "tcg,thread=${machine_threads:-multi}"
			-m "${machine_memory:-512}" -smp "${machine_smp:-1}"
			-device "virtio-net-device,netdev=n0,id=nic0$mac")
		;;
	*) fail "no machine model $model" ;;
	esac
	[ "${machine_exits:-}" != yes ] || line+=(-no-reboot)
	[ -z "$initrd" ] || line+=(-initrd "$initrd")
	: >"$machine_dir/$name.console"
	# shellcheck disable=SC2086  # machine_in is several words
	${machine_in:-} qemu-system-aarch64 -name "$name" "${line[@]}" -display none -kernel "$kernel" -append "$append" \
		-netdev "${machine_net:-user,id=n0,net=10.0.2.0/24${machine_forward:-}}" \
		-chardev "file,id=console,path=$machine_dir/$name.console" -serial chardev:console \
		-qmp "unix:$machine_dir/$name.qmp,server=on,wait=off" \
		"$@" </dev/null >"$machine_dir/$name.qemu" 2>&1 &
	machine_pid[$name]=$!
	machine_began[$name]=$EPOCHREALTIME
	machine_skip_bytes[$name]=0
	machine_model[$name]=$model
}

machine_alive() { [ -n "${machine_pid[$1]:-}" ] && kill -0 "${machine_pid[$1]}" 2>/dev/null; }

# In whole lines: one that is being written may not have its end yet.
machine_console() {
	local console=$machine_dir/$1.console
	head -n "$(wc -l <"$console")" "$console" | tail -c "+$((machine_skip_bytes[$1] + 1))" | tr -d '\r'
}
machine_has() { machine_console "$1" | grep -aEq -e "$2"; }
machine_count() { machine_console "$1" | grep -aEc -e "$2"; }
machine_since() { machine_skip_bytes[$1]=$(stat -c %s "$machine_dir/$1.console"); }
machine_seconds() {
	awk -v now="$EPOCHREALTIME" -v began="${machine_began[$1]}" 'BEGIN { printf "%.1f\n", now - began }'
}

machine_failed() { # NAME WHY
	printf -- '--- the end of the console of %s:\n' "$1" >&2
	machine_console "$1" | tail -n 40 >&2
	[ ! -s "$machine_dir/$1.qemu" ] || tail -n 5 "$machine_dir/$1.qemu" >&2
	fail "$1, after $(machine_seconds "$1") s: $2"
}

machine_wait() { # NAME PATTERN SECONDS
	local until=$((SECONDS + $3)) dead=false
	while :; do
		# In this order, so that the last words of a machine that ended are read.
		machine_alive "$1" || dead=true
		! machine_has "$1" "$2" || return 0
		! machine_has "$1" 'Kernel panic' || machine_failed "$1" "kernel panic while waiting for '$2'"
		! $dead || machine_failed "$1" "QEMU ended before '$2'"
		[ $SECONDS -lt $until ] || machine_failed "$1" "no '$2' within $3 s"
		sleep 0.2
	done
}

# The Pis have no switch that QEMU sees: their kernel halts, and that is the end.
machine_end() { # NAME SECONDS
	local until=$((SECONDS + $2))
	while machine_alive "$1"; do
		if [[ ${machine_model[$1]} == raspi* ]] && machine_has "$1" 'reboot: (Power down|System halted)'; then
			break
		fi
		! machine_has "$1" 'Kernel panic' || machine_failed "$1" "kernel panic at the end"
		[ $SECONDS -lt $until ] || machine_failed "$1" "not off within $2 s"
		sleep 0.2
	done
	machine_stop "$1"
}

machine_stop() {
	[ -n "${machine_pid[$1]:-}" ] || return 0
	kill -KILL "${machine_pid[$1]}" 2>/dev/null
	wait "${machine_pid[$1]}" 2>/dev/null
	machine_pid[$1]=
	return 0
}

# One command of QEMU's control protocol: machine_qmp NAME COMMAND [JSON ARGUMENTS]
machine_qmp() {
	python3 - "$machine_dir/$1.qmp" "$2" "${3:-null}" <<-'PYTHON' || fail "$1: QEMU refused $2"
		import json, socket, sys
		path, command, arguments = sys.argv[1:4]
		link = socket.socket(socket.AF_UNIX)
		link.settimeout(20)
		link.connect(path)
		stream = link.makefile("rw")
		def ask(message):
		    stream.write(json.dumps(message) + "\n")
		    stream.flush()
		    while True:
		        answer = json.loads(stream.readline())
		        if "return" in answer or "error" in answer:
		            return answer
		stream.readline()
		ask({"execute": "qmp_capabilities"})
		message = {"execute": command}
		if json.loads(arguments) is not None:
		    message["arguments"] = json.loads(arguments)
		answer = ask(message)
		if "error" in answer:
		    sys.exit(answer["error"]["desc"])
	PYTHON
}

# The cable at the machine's own end: the guest sees its carrier go, where its model can show that.
machine_cut_network() { machine_qmp "$1" set_link '{"name": "n0", "up": false}'; }
machine_join_network() { machine_qmp "$1" set_link '{"name": "n0", "up": true}'; }
