#!/bin/bash
# The README's first command, as a newcomer has it: in a copy of the source that was never built, twice, and its end.
. "$(dirname "$0")/../hostile/daemon.sh"

project=$(cd "$(dirname "$0")/../.." && pwd)
daemon_dir=$(mktemp -d "${TMPDIR:-/tmp}/lunroot-quickstart.XXXXXX")
daemon_state=$(mktemp -d /dev/shm/lunroot-quickstart.XXXXXX)
# Its processes are ended by the program that started them.
quickstart() {
	env -u LUNROOT_SOCKET HOME="$daemon_dir" XDG_RUNTIME_DIR="$daemon_state" LUNROOT_DEMO_DIR="$daemon_dir/demo" \
		"$daemon_dir/lunroot/tools/quickstart" "$@"
}
trap 'quickstart --stop >/dev/null 2>&1; daemon_cleanup' EXIT
trap 'exit 130' INT TERM
mkdir "$daemon_dir/lunroot"
tar -C "$project" --exclude='./build*' --exclude=./.git -cf - . | tar -C "$daemon_dir/lunroot" -xf - || fail "copy"
says() { # PATTERN...
	local pattern
	for pattern in "$@"; do
		grep -Eq -e "$pattern" "$daemon_dir/said" || { cat "$daemon_dir/said" >&2 && fail "it does not say: $pattern"; }
	done
}

quickstart >"$daemon_dir/said" 2>&1 || { cat "$daemon_dir/said" >&2 && fail "status $?"; }
says '^== building' '^== starting lunrootd on 127\.0\.0\.1:3[23]' '^\$ lunctl clone base pi-01' '^wrote /etc/hello to the disk of pi-01' \
	'^pi-01 reads: +hello from pi-01' '^pi-02, after: .*  the same$' '^the image, after: .*  the same$'
say "ok: from the source to two nodes: $(grep -c . "$daemon_dir/said") lines"
quickstart >"$daemon_dir/said" 2>&1 || { cat "$daemon_dir/said" >&2 && fail "the second time: status $?"; }
says '^== lunrootd runs \(pid [0-9]+\)' '^pi-01 reads: +hello from pi-01'
! grep -q '^\$ lunctl clone' "$daemon_dir/said" || fail "the second time it makes nodes"
say "ok: the second time it uses what is there"
quickstart --stop >"$daemon_dir/said" 2>&1 || fail "--stop: $(cat "$daemon_dir/said")"
says 'has stopped; disks stay'
quickstart --stop >"$daemon_dir/said" 2>&1 || fail "--stop again: $(cat "$daemon_dir/said")"
says 'is not running'
say "ok: it is stopped, and its disks stay"
