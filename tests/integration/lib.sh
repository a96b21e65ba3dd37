# What the integration scripts share: a private lunrootd (tests/hostile/daemon.sh) and ways to say
# what must happen. To be sourced. The programs that do the work are ones nobody of us wrote.

# shellcheck source=tests/hostile/daemon.sh
. "$(dirname "${BASH_SOURCE[0]}")/../hostile/daemon.sh"

PATH=$PATH:/usr/sbin:/sbin # mke2fs and e2fsck are not in everybody's

need() { # PROGRAM...
	local program
	for program in "$@"; do
		command -v "$program" >/dev/null || skip "$program is not installed"
	done
}

# A command to be run at the exit, before what was to be done there so far: at_exit COMMAND
at_exit() {
	local before
	before=$(trap -p EXIT)
	before=${before#"trap -- '"}
	before=${before%"' EXIT"}
	# shellcheck disable=SC2064  # what stands there now
	trap "$1; ${before//"'\\''"/"'"}" EXIT
}

# Runs a command that must end with STATUS ("any failure": !0) and whose output, both streams, must
# hold each pattern (extended, case ignored): expect WHAT STATUS PATTERN... -- COMMAND...
expect() {
	local what=$1 wanted=$2 patterns=() pattern status
	shift 2
	while [ "$1" != -- ]; do
		patterns+=("$1")
		shift
	done
	shift
	timeout 60 "$@" >"$daemon_dir/output" 2>&1 </dev/null
	status=$?
	case $wanted in
	'!0') [ $status -ne 0 ] && [ $status -lt 124 ] ;;
	*) [ $status -eq "$wanted" ] ;;
	esac || {
		cat "$daemon_dir/output" >&2
		fail "$what: status $status instead of $wanted: $*"
	}
	for pattern in "${patterns[@]}"; do
		grep -Eqi -e "$pattern" "$daemon_dir/output" || {
			cat "$daemon_dir/output" >&2
			fail "$what: nothing like '$pattern' is said"
		}
	done
	say "ok: $what"
	[ "$wanted" = 0 ] || sed 's/^/    /' "$daemon_dir/output" | cut -c 1-400
}

# As expect, for lunctl.
expect_ctl() {
	local what=$1 wanted=$2 patterns=()
	shift 2
	while [ "$1" != -- ]; do
		patterns+=("$1")
		shift
	done
	shift
	expect "$what" "$wanted" "${patterns[@]}" -- "$lunctl" --socket "$daemon_dir/run/control.sock" "$@"
}

# How often somebody has logged in to the daemon, by its log.
logins() { grep -c 'logged in' "$daemon_dir/log"; }

# Until there is a login more than COUNT; 1 if there is none in time: await_login COUNT SECONDS
await_login() {
	local i
	for ((i = 0; i < $2 * 10; i++)); do
		[ "$(logins)" -gt "$1" ] && return
		sleep 0.1
	done
	return 1
}

# One member of a JSON text on standard input: member a.b.0
member() {
	python3 -c '
import json, sys
value = json.load(sys.stdin)
for key in sys.argv[1].split("."):
    value = value[int(key)] if isinstance(value, list) else value[key]
print(json.dumps(value) if isinstance(value, (dict, list, bool)) else value)' "$1"
}

# The log has come to hold a line like this.
await_log() { # PATTERN
	local i
	for ((i = 0; i < 600; i++)); do
		grep -Eqi -e "$1" "$daemon_dir/log" && return
		sleep 0.1
	done
	fail "the log has nothing like '$1'"
}

url() { ctl url "$@" 2>/dev/null || fail "lunctl url $*"; }

# An ext4 file system with some real files in it: make_ext4 FILE SIZE
make_ext4() {
	local tree=$daemon_dir/tree i
	rm -rf "$tree"
	mkdir -p "$tree/etc" "$tree/usr/bin"
	cp -L /bin/ls /bin/cat "$tree/usr/bin/"
	cp -rL /etc/apt "$tree/etc/" 2>/dev/null
	for ((i = 0; i < 50; i++)); do head -c $((i * 997)) /dev/urandom >"$tree/etc/file-$i"; done
	mke2fs -q -t ext4 -L root -F -d "$tree" "$1" "$2" >/dev/null || fail "mke2fs"
}

daemon_ends_well() {
	daemon_kill TERM || fail "SIGTERM ended it with status $?"
	daemon_log_is_clean || fail "the log tells of a bug"
}
