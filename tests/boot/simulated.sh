# What tests of a boot server with simulated Pis begin with: sourced, not run. It skips where there can be no network of our
# own, and makes $net_folder. At the end the networks go, then runs at_end, if the test has defined it, then the folder goes.
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=tests/boot/net.sh
. "$here/net.sh"
# shellcheck source=tests/boot/base_image.sh
. "$here/base_image.sh"
# shellcheck source=tests/boot/servers.sh
. "$here/servers.sh"

skip() { printf 'skipped: %s\n' "$*" >&2 && exit 77; }
# With the last lines of all that ends in .log.
fail() {
	printf 'FAILED: %s\n' "$*" >&2
	find "$net_folder" -name '*.log' -exec tail -v -n 20 {} + >&2
	exit 1
}

# Whether the command comes to succeed within a minute; await ends the test if it does not.
comes_true() { # COMMAND...
	local i
	for ((i = 0; i < 600; i++)); do
		"$@" && return
		sleep 0.1
	done
	return 1
}
await() { comes_true "${@:2}" || fail "$1"; } # WHAT COMMAND...

net_possible || skip "needs root, network namespaces, iproute2 and dnsmasq"
net_folder=$(mktemp -d)
simulated_end() {
	[ "$BASHPID" = $$ ] || return 0
	net_end_all
	! declare -F at_end >/dev/null || at_end
	rm -rf "$net_folder"
}
# For boards whose patience is not what is tried: who gets what, however slow the machine.
# shellcheck disable=SC2034  # read by those who source this file
patient=(--rule bootcode-patience-ms=5000 --rule discovers-rom=20)
trap simulated_end EXIT
trap 'exit 143' TERM INT
