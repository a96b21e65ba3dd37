#!/bin/bash
# How fast disks are read through the control API: requests and bytes a second, the time of a
# request, and how the daemon's processor time compares. usage: data.sh [SECONDS]
. "$(dirname "$0")/../hostile/daemon.sh"
command -v python3 >/dev/null || skip "no python3"
seconds=${1:-1}
daemon_begin
daemon_start
head -c 64M /dev/urandom >"$daemon_dir/base.img"
ctl import "$daemon_dir/base.img" base --force >/dev/null || fail "import"
ctl clone base one >/dev/null || fail "clone"
ticks() { awk '{print $14 + $15}' "/proc/$daemon_pid/stat"; }
for what in nodes/one/luns/0 images/base; do
	say "$what"
	for how in '512 1 keep' '512 1 close' '4096 8 keep' '1048576 1 keep' '1048576 4 close' '4194304 1 keep' '4194304 4 keep'; do
		read -r bytes clients connection <<<"$how"
		before=$(ticks)
		python3 "$(dirname "$0")/data.py" "$daemon_dir/run/control.sock" "/v1/$what/data" 67108864 \
			"$bytes" "$clients" "$seconds" "$connection" || fail "data.py"
		say "    $(($(ticks) - before)) hundredths of a second of processor time"
	done
done
