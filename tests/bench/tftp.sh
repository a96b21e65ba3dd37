#!/bin/bash
# TFTP as lunbootd serves it, beside dnsmasq, tftpd-hpa and atftpd where they are installed: throughput to one client, small
# files to many, and the processor time that each took. The same load program asks them all, one after the other, in a
# network namespace of its own. Judges nothing.
#
# usage: tftp.sh [MIB]     environment: LUNROOT_BUILD
set -u

say() { printf '%s\n' "$*"; }
skip() { printf 'skipped: %s\n' "$*" >&2 && exit 77; }

PATH=$PATH:/usr/sbin:/sbin
mib=${1:-32}
if [ "${2:-}" != --inside ]; then
	unshare -n true 2>/dev/null || skip "a network namespace needs root"
	exec unshare -n -- "$0" "$mib" --inside
fi
project=$(cd "$(dirname "$0")/../.." && pwd)
: "${LUNROOT_BUILD:=$project/build}"
programs=$LUNROOT_BUILD/tests/boot
[ -x "$programs/serve_files" ] || skip "no $programs/serve_files"
dir=$(mktemp -d /dev/shm/lunroot-bench.XXXXXX)
chmod 755 "$dir"
server_pid=
stop() {
	[ -z "$server_pid" ] || { kill "$server_pid" && wait "$server_pid"; } 2>/dev/null
	server_pid=
}
trap 'stop; rm -rf "$dir"' EXIT
ip link set lo up
ulimit -n 8192 2>/dev/null
mkdir "$dir/files"
head -c $((mib << 20)) /dev/urandom >"$dir/files/large"
head -c 10000 /dev/urandom >"$dir/files/small"

# utime and stime of the server and of children it has waited for, in clock ticks (tftpd-hpa waits late: 0 is not its cost)
cpu_ticks() { sed 's/.*) //' /proc/$server_pid/stat | awk '{ print $12 + $13 + $14 + $15 }'; }

declare -A ours
measure() { # SERVER WHAT FIELD UNIT LOAD-ARGUMENTS...
	local server=$1 what=$2 field=$3 unit=$4 ticks line figure
	shift 4
	ticks=$(cpu_ticks)
	line=$("$programs/tftp_load" 127.0.0.1 69 "$@" 2>&1) || { say "$server: $what: $line" && return; }
	ticks=$(($(cpu_ticks) - ticks))
	figure=$(sed -n "s#.* \([0-9.]*\) $field.*#\1#p" <<<"$line")
	[ "$server" != lunroot ] || ours[$what]=$figure
	say "$server: $what: $figure $unit, $((ticks * 1000 / $(getconf CLK_TCK))) ms of processor time$(
		[ "$server" = lunroot ] || awk -v a="${ours[$what]}" -v b="$figure" 'BEGIN { printf "; lunroot is %.2f times as fast", a / b }'
	)"
}
run() { # SERVER COMMAND...
	local server=$1 copy=$dir/files/large
	shift
	command -v "$1" >/dev/null || { say "$server: not installed" && return; }
	"$@" >"$dir/log" 2>&1 &
	server_pid=$!
	sleep 0.5
	kill -0 $server_pid 2>/dev/null || { say "$server: does not start: $(tail -n 1 "$dir/log")" && server_pid= && return; }
	measure "$server" "one client, 512 bytes" MB/s MB/s large "$copy" --no-options
	measure "$server" "one client, 1468 bytes" MB/s MB/s large "$copy" --blksize 1468
	measure "$server" "one client, 1468 bytes, windows of 16" MB/s MB/s large "$copy" --blksize 1468 --windowsize 16
	measure "$server" "small files, 40 at a time" transfers/s transfers/s small "$dir/files/small" --count 4000 --parallel 40 --peers 40 --blksize 1468
	stop
}
run lunroot "$programs/serve_files" "$dir/files" --tftp 69
run dnsmasq dnsmasq --no-daemon --conf-file=/dev/null --port=0 --user=root --enable-tftp --tftp-root="$dir/files" --tftp-max=1000 --pid-file=
run tftpd-hpa in.tftpd -L -4 --user root --secure "$dir/files"
run atftpd atftpd --daemon --no-fork --user root --group root --maxthread 1000 --logfile - "$dir/files"
