# A private lunrootd for a test script: sourced, not run.
#
# Wants LUNROOT_BUILD (the build directory; default: build in the project). State lies in a new
# folder on tmpfs, or below LUNROOT_TEST_STATE (a folder on a real disk, say), and goes away at
# exit; the daemon is ended by its process id.
#
#   daemon_begin              folders and a free port
#   daemon_start [OPTIONS]    starts and waits until it answers; daemon_try: the same, its end is no failure
#   daemon_kill [SIGNAL]      sends the signal (default KILL) and waits for the end
#   ctl VERB ...              lunctl on its socket
#   daemon_alive, daemon_log_is_clean

set -u

project=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
: "${LUNROOT_BUILD:=$project/build}"
lunrootd=${LUNROOTD:-$LUNROOT_BUILD/target/lunrootd}
lunctl=${LUNCTL:-$LUNROOT_BUILD/tools/lunctl}
daemon_pid=
daemon_dir=
daemon_state=
# What every emulated PC's kernel is told. An emulated timer stands still while the machine below is
# busy, and Linux takes that at its start for a broken board and panics ("IO-APIC + timer doesn't
# work"), unless it is told not to look.
pc_kernel="console=ttyS0 no_timer_check"

say() {
	printf '%s\n' "$*"
}

fail() {
	printf 'FAILED: %s\n' "$*" >&2
	if [ -n "$daemon_dir" ] && [ -f "$daemon_dir/log" ]; then
		printf 'the last lines of the log:\n' >&2
		tail -n 15 "$daemon_dir/log" >&2
	fi
	exit 1
}

skip() {
	printf 'skipped: %s\n' "$*" >&2
	exit 77
}

# A TCP port of 127.0.0.1 that nobody listens on now. It is this test's until it ends, also while its daemon is away: a link
# in /dev/shm names the test's process.
free_port() {
	local port claim
	while :; do
		port=$((20000 + RANDOM % 10000)) claim=/dev/shm/lunroot-port-$port
		kill -0 "$(readlink "$claim")" 2>/dev/null || rm -f "$claim"
		ln -s $$ "$claim" 2>/dev/null || continue
		grep -qi ":$(printf %04X "$port") 0*:0000 0A" /proc/net/tcp /proc/net/tcp6 || break
	done
	printf '%s\n' "$port"
}

# At the end of the test, and of nothing else: a process that bash has forked and that is killed before it is something of its
# own runs our traps, too.
daemon_cleanup() {
	[ "$BASHPID" = $$ ] || return 0
	if [ -n "$daemon_pid" ]; then
		kill -KILL "$daemon_pid" 2>/dev/null
		wait "$daemon_pid" 2>/dev/null
	fi
	find /dev/shm -maxdepth 1 -name 'lunroot-port-*' -lname $$ -delete
	[ -z "$daemon_dir" ] || rm -rf "$daemon_dir"
	[ -z "$daemon_state" ] || rm -rf "$daemon_state"
}

daemon_begin() {
	[ -x "$lunrootd" ] || skip "no $lunrootd"
	[ -x "$lunctl" ] || skip "no $lunctl"
	daemon_dir=$(mktemp -d "/dev/shm/lunroot-test.XXXXXX")
	trap daemon_cleanup EXIT
	trap 'exit 130' INT TERM
	mkdir "$daemon_dir/run"
	if [ -n "${LUNROOT_TEST_STATE:-}" ]; then
		daemon_state=$(mktemp -d "$LUNROOT_TEST_STATE/lunroot-test.XXXXXX")
		ln -s "$daemon_state" "$daemon_dir/state"
	else
		mkdir "$daemon_dir/state"
	fi
	daemon_portal=127.0.0.1:$(free_port)
	# Sanitizers: the quarantine would look like growth.
	export ASAN_OPTIONS="${ASAN_OPTIONS:+$ASAN_OPTIONS:}quarantine_size_mb=8:detect_leaks=1"
	export UBSAN_OPTIONS="${UBSAN_OPTIONS:+$UBSAN_OPTIONS:}print_stacktrace=1"
}

daemon_is_sanitized() {
	grep -Eq '__asan_init|__tsan_init' "$lunrootd"
}

# What tools/check asks for: by_mode QUICK FULL LONG
by_mode() {
	case ${LUNROOT_CHECK:-full} in
	quick) printf '%s\n' "$1" ;;
	long) printf '%s\n' "$3" ;;
	*) printf '%s\n' "$2" ;;
	esac
}

daemon_alive() {
	[ -n "$daemon_pid" ] && kill -0 "$daemon_pid" 2>/dev/null
}

# Its advice ("next: ...") is for people, so it goes to a file; errors can be read there.
ctl() {
	"$lunctl" --socket "$daemon_dir/run/control.sock" "$@" 2>"$daemon_dir/ctl.log" || {
		local status=$?
		cat "$daemon_dir/ctl.log" >&2
		return $status
	}
}

daemon_try() {
	local end=$((SECONDS + 60)) # it may wait for the port and the locks of one that was killed
	"$lunrootd" --state "$daemon_dir/state" --run "$daemon_dir/run" --portal "$daemon_portal" \
		--foreground "$@" >>"$daemon_dir/log" 2>&1 &
	daemon_pid=$!
	while [ $SECONDS -lt $end ]; do
		if ctl ls >/dev/null 2>&1; then
			return 0
		fi
		daemon_alive || break
		sleep 0.05
	done
	return 1
}

daemon_start() {
	daemon_try "$@" || fail "lunrootd does not come up"
}

daemon_kill() {
	local status
	kill "-${1:-KILL}" "$daemon_pid"
	wait "$daemon_pid" 2>/dev/null
	status=$?
	daemon_pid=
	return "$status"
}

daemon_log_is_clean() {
	! grep -E 'assert|Sanitizer|runtime error|stack smashing|corrupt' "$daemon_dir/log"
}
