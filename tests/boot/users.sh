#!/bin/bash
# As whom lunbootd runs when root starts it: as the owner of lunrootd's socket, and a Pi boots so; as root where that is root,
# which is said once; as whom --user says. What is another's is named, with what helps. It ends when it is told to, also while
# lunrootd hangs.
# shellcheck source=tests/boot/simulated.sh
. "$(dirname "$0")/simulated.sh"

# What a worker did in the last moment nobody takes back.
export ASAN_OPTIONS="${ASAN_OPTIONS:+$ASAN_OPTIONS:}detect_leaks=0"

# What another user must reach lies here, wherever the project is.
chmod 755 "$net_folder"
boot_programs_ready || fail "no programs for the initramfs"
mkdir "$net_folder/programs"
cp "$boot_programs"/* "$here/../../tools/mkinitramfs" "$here/../../initramfs/dhcp" "$net_folder/programs/" || fail "cp"
chmod -R a+rX "$net_folder/programs"
net_begin u && net_router u || fail "no network"
"$pisim" --list --model 4=1 >"$net_folder/nodes"
read -r node _ serial mac <"$net_folder/nodes"
net_tree "$net_folder/tree" small "$net_folder/nodes" && base_image "$net_folder/tree" "$net_folder/base.img" || fail "no image"

ctl() { "$LUNROOT_BUILD/tools/lunctl" --socket "$run/control.sock" "$@"; }
rootd_start() { # USER
	run=$(net_tmpfs u) && chown "$1" "$run" "${run%/*}" && chmod 755 "${run%/*}"
	mkdir "$net_folder/state-$1" && chown "$1" "$net_folder/state-$1"
	net_start u server "$net_folder/rootd-$1.log" "$LUNROOT_BUILD/target/lunrootd" --user "$1" --state "$net_folder/state-$1" \
		--run "$run" --portal 0.0.0.0:3260 --foreground --reserve 0
	rootd_pid=$net_pid
	for _ in $(seq 200); do
		ctl ls >/dev/null 2>&1 && break
		sleep 0.05
	done
	ctl import "$net_folder/base.img" base >/dev/null 2>&1 && ctl clone base "$node" --serial "$serial" --mac "$mac" >/dev/null 2>&1 ||
		fail "no node"
}
bootd_start() { # NAME OPTIONS...
	log=$net_folder/$1.log
	net_start u server "$log" "$LUNROOT_BUILD/boot/lunbootd" --interface eth0 --socket "$run/control.sock" \
		--run "$net_folder/boot" --programs "$net_folder/programs" --foreground "${@:2}"
	bootd_pid=$net_pid
}
bootd_runs() {
	net_await u server 69 || fail "lunbootd does not start"
	for _ in $(seq 1200); do
		grep -q 'is ready' "$log" && return
		sleep 0.05
	done
	fail "lunbootd is not ready"
}
ended() { # PID
	kill "$1" && wait "$1" || fail "it ends with status $?"
}
said() { grep -q "$1" "$log" || fail "it does not say: $1"; }
pi_boots() {
	net_run u pis "$pisim" --interface eth0 --model 4=1 --deadline 180 >"$net_folder/pisim.log" 2>&1 || fail "the Pi does not boot"
}

# --- lunrootd has a user of its own ---

rootd_start nobody
bootd_start alone
bootd_runs
grep -q "^Uid:.*$(id -u nobody).$(id -u nobody)" "/proc/$bootd_pid/status" || fail "lunbootd runs as another than lunrootd"
pi_boots
net_replug u server || fail "net_replug"
pi_boots
ended "$bootd_pid"
! grep -E 'warn|error' "$log" || fail "lunbootd complains"
[ "$(stat -c %U:%a "$net_folder/boot" "$net_folder/boot/initramfs" | sort -u)" = nobody:700 ] || fail "its folder is another's"
echo "ok: lunbootd becomes who lunrootd is, and a Pi boots, also after its link was away"

# Another's folder, from before.
bootd_start folder --user daemon
wait "$bootd_pid" && fail "it takes the folder of another"
said "runtime directory $net_folder/boot belongs to user nobody.*remove it.*--run"
rm -r "${net_folder:?}/boot"
bootd_start socket --user daemon
bootd_runs
for _ in $(seq 100); do
	grep -q 'may not open' "$log" && break
	sleep 0.05
done
said "may not open lunrootd's socket $run/control.sock, which is user nobody's; start lunbootd as root with --user nobody"
ended "$bootd_pid"
rm -r "${net_folder:?}/boot"
bootd_start missing --user nobody-of-that-name
wait "$bootd_pid" && fail "it starts as a user that there is not"
said 'useradd --system nobody-of-that-name'
[ ! -e "$net_folder/boot" ] || fail "a folder was made for nobody"
ended "$rootd_pid"
echo "ok: what is another's is named, and what helps"

# --- it has none ---

bootd_start early
bootd_runs
said 'stays root.*not there yet: start lunrootd first'
ended "$bootd_pid"
rootd_start root
bootd_start root
bootd_runs
[ "$(grep -c 'warn.*stays root.*--user root ends this' "$log")" = 1 ] || fail "that it stays root is not said once"
grep -q '^CapEff:.*0000000000003000$' "/proc/$bootd_pid/status" || fail "it has kept root's rights"
pi_boots
ended "$bootd_pid"
bootd_start quiet --user root
bootd_runs
pi_boots
ended "$bootd_pid"
! grep -E 'warn|error' "$log" || fail "it warns of what was asked for"
echo "ok: root stays where lunrootd is root, which is said once"

# --- a lunrootd that hangs ---

trap 'kill -CONT "$rootd_pid"; simulated_end' EXIT
kill -STOP "$rootd_pid"
bootd_start hanging --user root
bootd_runs
began=$SECONDS
ended "$bootd_pid"
kill -CONT "$rootd_pid"
[ $((SECONDS - began)) -lt 15 ] || fail "it takes $((SECONDS - began)) s to end"
echo "ok: it ends, whether lunrootd answers or not"
