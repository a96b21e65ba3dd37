# A node's settings and its disk, for tests that boot one: sourced, after tests/integration/lib.sh.
#
#   node_field NODE MEMBER           of lunctl show --secrets
#   node_conf NODE [KEY=VALUE]...    makes $daemon_dir/NODE.cpio, its settings to append to an initramfs
#   node_fsck NODE                   what is on its LUN is a sound file system

node_field() { # NODE MEMBER
	ctl --json show "$1" --secrets | member "$2"
}

# Settings as the boot service would write them, with changes: KEY=VALUE replaces, KEY= leaves out.
node_conf() {
	local node=$1 line key
	shift
	{
		echo "portal=10.0.2.2:${daemon_portal##*:}"
		echo "target=$(node_field "$node" iqn)"
		echo "user=$(node_field "$node" credentials.user)"
		echo "secret=$(node_field "$node" credentials.secret)"
		echo "mutual_user=$(node_field "$node" credentials.mutual_user)"
		echo "mutual_secret=$(node_field "$node" credentials.mutual_secret)"
	} >"$daemon_dir/$node.conf"
	for line in "$@"; do
		key=${line%%=*}
		sed -i "/^$key=/d" "$daemon_dir/$node.conf"
		[ -z "${line#*=}" ] || echo "$line" >>"$daemon_dir/$node.conf"
	done
	"$project/tools/mkinitramfs" --node-conf "$daemon_dir/$node.conf" "$daemon_dir/$node.cpio" >/dev/null ||
		fail "node.conf of $node"
}

# What is on its LUN is a sound file system.
node_fsck() {
	# shellcheck disable=SC2086  # node_in, what programs are run by that must reach lunrootd, is several words
	${node_in:-} qemu-img convert -O raw "$(url "$1")" "$daemon_dir/$1.raw" || fail "qemu-img"
	e2fsck -fn "$daemon_dir/$1.raw" >"$daemon_dir/e2fsck" 2>&1 || {
		cat "$daemon_dir/e2fsck" >&2
		fail "$1: e2fsck"
	}
	rm -f "$daemon_dir/$1.raw"
}
