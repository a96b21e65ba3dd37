#!/bin/bash
# TFTP and HTTP from memory, against clients nobody of us wrote: every size of file, options, lost packets, counters that
# wrap, thousands at once, and a peer that means harm. In a network namespace of its own.
#
# usage: tftp.sh     environment: LUNROOT_BUILD, LUNROOT_CHECK (quick, full, long)
set -u

say() { printf '%s\n' "$*"; }
skip() { printf 'skipped: %s\n' "$*" >&2 && exit 77; }
by_mode() { # QUICK FULL LONG
	case ${LUNROOT_CHECK:-full} in quick) say "$1" ;; long) say "$3" ;; *) say "$2" ;; esac
}

PATH=$PATH:/usr/sbin:/sbin
if [ "${1:-}" != --inside ]; then
	[ "$(id -u)" = 0 ] || skip "a network namespace needs root"
	unshare -n true 2>/dev/null || skip "no network namespace can be made"
	exec unshare -n -- "$0" --inside
fi
project=$(cd "$(dirname "$0")/../.." && pwd)
: "${LUNROOT_BUILD:=$project/build}"
programs=$LUNROOT_BUILD/tests/boot
for program in curl tftp atftp busybox nft ip nsenter cmp; do
	command -v $program >/dev/null || skip "$program is not installed"
done
dir=$(mktemp -d /dev/shm/lunroot-boot.XXXXXX)
server_pid='' other_pid=''
cleanup() {
	[ -z "$server_pid" ] || { kill -KILL "$server_pid" && wait "$server_pid"; } 2>/dev/null
	[ -z "$other_pid" ] || { kill -KILL "$other_pid" && wait "$other_pid"; } 2>/dev/null
	rm -rf "$dir"
}
trap cleanup EXIT
trap 'exit 130' INT TERM
fail() {
	printf 'FAILED: %s\n' "$*" >&2
	tail -n 15 "$dir/log" >&2
	exit 1
}
export ASAN_OPTIONS="${ASAN_OPTIONS:+$ASAN_OPTIONS:}quarantine_size_mb=8:detect_leaks=1"

server_start() { # OPTIONS...
	: >"$dir/log" # the ports of the server before are not this one's
	"$programs/serve_files" "$dir/files" --deny secret --busy later "$@" >"$dir/log" 2>&1 &
	server_pid=$!
	for _ in $(seq 600); do
		read -r _ tftp_port _ http_port <"$dir/log" && [ -n "${http_port:-}" ] && return
		kill -0 $server_pid 2>/dev/null || break
		sleep 0.05
	done
	fail "serve_files does not come up"
}
server_end() {
	kill -TERM $server_pid
	wait $server_pid || fail "serve_files ended with status $?"
	server_pid=
	! grep -E 'Sanitizer|runtime error|[Aa]ssert' "$dir/log" || fail "the log has complaints"
	say "  $(tail -n 1 "$dir/log")"
}
server_rss_kib() { awk '/^VmRSS/ { print $2 }' /proc/$server_pid/status; }
server_fds() { find /proc/$server_pid/fd -mindepth 1 | wc -l; }

# Each gets NAME OUTPUT from $address.
address=127.0.0.1
get_curl() { timeout 600 curl -sS -o "$2" "tftp://$address:$tftp_port/$1"; }
get_curl_1468() { timeout 600 curl -sS --tftp-blksize 1468 -o "$2" "tftp://$address:$tftp_port/$1"; }
get_curl_plain() { timeout 600 curl -sS --tftp-no-options -o "$2" "tftp://$address:$tftp_port/$1"; }
get_hpa() { timeout 600 tftp -m binary $address "$tftp_port" -c get "$1" "$2"; }
get_atftp() { timeout 600 atftp --option "timeout 5" -g -r "$1" -l "$2" $address "$tftp_port"; }
get_atftp_window() {
	timeout 600 atftp --option "timeout 5" --option "blksize 1428" --option "windowsize 16" -g -r "$1" -l "$2" $address "$tftp_port"
}
get_busybox() { timeout 600 busybox tftp -g -r "$1" -l "$2" $address "$tftp_port"; }
get_busybox_1468() { timeout 600 busybox tftp -g -b 1468 -r "$1" -l "$2" $address "$tftp_port"; }
get_http() { timeout 600 curl -sS -o "$2" "http://$address:$http_port/$1"; }
arrives() { # CLIENT NAME
	local got=$dir/got-$1
	rm -f "$got"
	"get_$1" "$2" "$got" >"$got-log" 2>&1 || { cat "$got-log" >&2 && fail "$1 does not get $2"; }
	[ -e "$got" ] || : >"$got" # curl makes no file of nothing
	cmp "$got" "$dir/files/$2" || fail "$1 gets a wrong $2"
}
all_arrive() { # NAME CLIENT...: all of them at one time
	local name=$1 client pids=() pid
	shift
	for client in "$@"; do
		(trap - EXIT && arrives "$client" "$name") &
		pids+=($!)
	done
	for pid in "${pids[@]}"; do wait "$pid" || fail "not all clients got $name"; done
}
load() { # NAME OPTIONS...
	local name=$1
	shift
	"$programs/tftp_load" $address "$tftp_port" "$name" "$dir/files/$name" "$@" || fail "tftp_load $name $*"
}

ip link set lo up || fail "lo"
mkdir -p "$dir/files/overlays"
for bytes in 0 1 511 512 513 1024 1468 2936 20000 100000; do head -c $bytes /dev/urandom >"$dir/files/$bytes"; done
head -c 5000000 /dev/urandom >"$dir/files/kernel8.img"
head -c 35651585 /dev/urandom >"$dir/files/wraps" # 34 MiB + 1: 69,633 blocks of 512
head -c 4000 /dev/urandom >"$dir/files/overlays/vc4-kms-v3d.dtbo"
seq 1 5000 >"$dir/files/config.txt"
: >"$dir/files/secret"
: >"$dir/files/later"
server_start

tftp_clients="curl curl_1468 curl_plain hpa atftp atftp_window busybox busybox_1468"
for client in $tftp_clients http; do
	for name in 0 1 511 512 513 1024 1468 2936 100000 overlays/vc4-kms-v3d.dtbo kernel8.img; do
		# Not for curl: it takes a tsize of 0 for a mistake.
		case $client$name in curl0 | curl_14680) ;; *) arrives "$client" "$name" ;; esac
	done
	say "ok: $client: every size of file"
done
timeout 20 tftp -m netascii $address "$tftp_port" -c get config.txt "$dir/got" && cmp "$dir/got" "$dir/files/config.txt" ||
	fail "netascii"
say "ok: text asked for as netascii"

# Said at once.
refused() { # WHAT STATUS CURL-ARGUMENTS...
	local what=$1 wanted=$2
	shift 2
	# Silence is heard for two seconds; a word may come late.
	timeout $([ "$wanted" = 124 ] && echo 2 || echo 20) curl -sS -o /dev/null "$@" 2>"$dir/client"
	local status=$?
	[ $status = "$wanted" ] || { cat "$dir/client" >&2 && fail "$what: status $status instead of $wanted"; }
	say "ok: refused: $what"
}
refused "a missing file" 68 "tftp://$address:$tftp_port/none"
refused "a file of others" 69 "tftp://$address:$tftp_port/secret"
refused "a way out of the tree" 69 --path-as-is "tftp://$address:$tftp_port/../../etc/passwd"
refused "an upload" 69 -T "$dir/files/512" "tftp://$address:$tftp_port/512"
refused "silence about what is not ready" 124 "tftp://$address:$tftp_port/later"

http() { # WHAT STATUS CURL-ARGUMENTS...
	local what=$1 wanted=$2
	shift 2
	local status
	status=$(timeout 20 curl -sS -o "$dir/got" -w '%{http_code}' "$@") || fail "$what: curl"
	[ "$status" = "$wanted" ] || fail "$what: $status instead of $wanted"
	say "ok: HTTP $status: $what"
}
base=http://$address:$http_port
http "a range" 206 -r 1000-1999 "$base"/kernel8.img
cmp "$dir/got" <(tail -c +1001 "$dir/files/kernel8.img" | head -c 1000) || fail "a range"
http "the rest" 206 -r 4999000- "$base"/kernel8.img
cmp "$dir/got" <(tail -c 1000 "$dir/files/kernel8.img") || fail "the rest"
http "the last" 206 -r -7 "$base"/kernel8.img
cmp "$dir/got" <(tail -c 7 "$dir/files/kernel8.img") || fail "the last"
http "a range beyond the end" 416 -r 5000000- "$base"/kernel8.img
http "HEAD" 200 -I "$base"/kernel8.img
http "a query, and escapes" 200 "$base/%6bernel8.img?x=1"
cmp "$dir/got" "$dir/files/kernel8.img" || fail "escapes"
http "a missing file" 404 "$base"/none
http "a file of others" 403 "$base"/secret
http "not ready" 503 "$base"/later
http "a way out" 403 --path-as-is "$base"/../../etc/passwd
http "a way out, in disguise" 403 --path-as-is "$base"/a/%2e%2e/%2e%2e/etc/passwd
http "an upload" 405 -T "$dir/files/512" "$base"/512

# 65,536 blocks and more.
wrapping=$(by_mode "hpa" "curl_plain hpa atftp busybox" "$tftp_clients")
# shellcheck disable=SC2086
all_arrive wraps $wrapping
say "ok: more than 65,536 blocks: $wrapping"
load wraps --blksize 512 --windowsize 7

# Lost packets, both ways.
lossy() {
	nft -f - <<-END
		flush ruleset
		table ip loss {
			chain input {
				type filter hook input priority 0;
				meta l4proto udp numgen random mod 100 < $1 drop
			}
		}
	END
}
if lossy 1; then
	for percent in $(by_mode "5" "1 5 10 20" "1 2 5 10 15 20"); do
		lossy "$percent"
		all_arrive 20000 curl_plain hpa busybox busybox_1468
		# Not atftp: it takes an OACK that comes again, its own acknowledgement lost, for a mistake and ends.
		say "ok: $percent % of the packets lost"
		load 20000 --count 50 --parallel 50 --peers 10
		load "$(by_mode 20000 100000 100000)" --count 50 --parallel 50 --peers 10 --blksize 1468 --windowsize 8
	done
	nft flush ruleset
else
	say "no loss here: nft knows no numgen"
fi

# Thousands at once, a node's address each.
before=$(server_rss_kib)
load 100000 --count 3000 --parallel 3000 --peers 3000 --blksize "$(by_mode 1468 512 64)" --give-up 900 >"$dir/client" &
load_pid=$! peak_kib=0 peak_fds=0
while kill -0 $load_pid 2>/dev/null; do
	fds=$(server_fds) kib=$(server_rss_kib)
	[ "$fds" -le $peak_fds ] || peak_fds=$fds
	[ "$kib" -le $peak_kib ] || peak_kib=$kib
	sleep 0.1
done
wait $load_pid || { cat "$dir/client" >&2 && fail "not all of 3,000 arrived"; }
say "3,000 at once: $peak_kib KiB instead of $before KiB, $peak_fds descriptors at most"
say "  $(cat "$dir/client")"

# Harm.
seconds=$(by_mode 2 6 120)
seed=${BOOT_SEED:-1}
before=$(server_rss_kib)
"$programs/boot_hostile" $address "$tftp_port" "$http_port" "$seconds" "$seed" 512 kernel8.img none 0 overlays/vc4-kms-v3d.dtbo ||
	fail "boot_hostile"
during=$(server_rss_kib)
say "  $during KiB instead of $before KiB, $(server_fds) descriptors"
[ $((during - before)) -lt 65536 ] || fail "its memory grew by $((during - before)) KiB"
# A port that one of them had may still be sent an answer to that one: curl took "access violation" (its status 69) for its own.
for client in curl_1468 http; do (trap - EXIT && arrives $client kernel8.img) || arrives $client kernel8.img; done
say "ok: transfers work during the aftermath"
if [ "$(by_mode quick - -)" != quick ]; then
	# But for the transfers of those who wanted a timeout of 255 seconds.
	for _ in $(seq 250); do [ "$(server_fds)" -lt 60 ] && break || sleep 0.1; done
	[ "$(server_fds)" -lt 60 ] || fail "$(server_fds) descriptors are still open"
	say "ok: and nothing of it is left"
fi
server_end

# Another machine: the address that was asked answers, blocks fit the link, other interfaces are not served.
unshare -n sleep 600 &
other_pid=$!
for _ in $(seq 100); do
	[ "$(readlink /proc/$other_pid/ns/net)" = "$(readlink /proc/self/ns/net)" ] || break
	sleep 0.05
done
there() { nsenter -t $other_pid -n "$@"; }
if ip link add boot0 type veth peer name boot1 netns $other_pid && ip link add wrong0 type veth peer name wrong1 netns $other_pid; then
	ip link set boot0 mtu 1200
	ip addr add 10.78.0.1/24 dev boot0 && ip addr add 10.78.0.2/24 dev boot0 && ip addr add 10.79.0.1/24 dev wrong0
	ip link set boot0 up && ip link set wrong0 up
	there ip link set boot1 mtu 1200
	there ip addr add 10.78.0.9/24 dev boot1 && there ip addr add 10.79.0.9/24 dev wrong1
	there ip link set boot1 up && there ip link set wrong1 up
	server_start --interface boot0 --events
	for address in 10.78.0.1 10.78.0.2; do
		there timeout 20 curl -sS --tftp-blksize 1468 -o "$dir/got" "tftp://$address:$tftp_port/100000" &&
			cmp "$dir/got" "$dir/files/100000" || fail "through a link, from $address"
	done
	grep -q 'sent 100000: .*block 1168,' "$dir/log" || fail "blocks do not fit the link's 1,200 bytes"
	say "ok: the address that was asked answers, with blocks that fit the link"
	there timeout 2 curl -sS -o /dev/null "tftp://10.79.0.1:$tftp_port/512" 2>/dev/null
	[ $? = 124 ] || fail "an interface that is not named is answered"
	[ "$(there curl -sS -o /dev/null -w '%{http_code}' "http://10.79.0.1:$http_port/512")" = 403 ] || fail "HTTP there"
	[ "$(there curl -sS -o /dev/null -w '%{http_code}' "http://10.78.0.2:$http_port/512")" = 200 ] || fail "HTTP here"
	say "ok: other interfaces are not served"
	server_end
else
	say "no other machine here: no veth"
fi
