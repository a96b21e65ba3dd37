#!/bin/bash
# What can be wrong at boot: the console says it in words, and the node boots by itself once it is mended.
. "$(dirname "$0")/node.sh"

need sqlite3
node_begin
ctl clone base pi-01 >/dev/null || fail "clone"

boots() { # WHAT: from here on
	node_await pi-01 'RESULT ok' 30
	node_await_end pi-01 20
	node_dmesg_is_clean pi-01
	say "ok: $1"
}

# Nobody listens, then lunrootd comes.
node_conf pi-01
daemon_kill TERM
node_start pi-01 "t="
node_await pi-01 'target unreachable: 10.0.2.2 port [0-9]*: nobody listens there' 15
daemon_start
boots "the target is not there yet"

# An address at which nobody is.
node_conf pi-01 "portal=10.0.2.77:${daemon_portal##*:},10.0.2.2:${daemon_portal##*:}"
node_start pi-01 "t="
node_await pi-01 'target unreachable: 10.0.2.77' 15
boots "the first of two portals is dead, the second serves"

# The secret that the target knows is another one, until somebody puts it right.
set_secret() {
	daemon_kill TERM
	sqlite3 "$daemon_dir/state/catalog.db" "update nodes set secret = '$1' where name = 'pi-01'" || fail "sqlite3"
	daemon_start
}
node_conf pi-01
secret=$(node_field pi-01 credentials.secret)
set_secret another-secret-of-16
node_start pi-01 "t="
node_await pi-01 'login refused by 10.0.2.2 port [0-9]*: .*(0201).*lunctl show --secrets' 15
set_secret "$secret"
boots "a wrong secret"

# The target's own proof is wrong: nothing is served to us by a stranger.
node_conf pi-01 mutual_secret=not-the-secret-of-it
node_start pi-01 "t= lunroot.reboot_after=5"
node_await pi-01 'could not prove that it is the right one' 15
node_await pi-01 'starting again, after 5 s' 15
node_await_end pi-01 10
say "ok: a target that can't prove itself; the machine starts again for new settings"

# No such target, then it is made.
node_conf pi-01 "target=iqn.2026-11.local.lunroot:pi-02" user= secret= mutual_user= mutual_secret=
node_start pi-01 "t="
node_await pi-01 'login refused by .*(0203).*lunctl ls' 15
ctl clone base pi-02 --no-auth >/dev/null || fail "clone pi-02"
boots "a missing target"

# The cable comes late.
node_conf pi-01
node_start pi-01 "t=" -S
node_link pi-01 off
python3 - "$daemon_dir/pi-01.qmp" <<-'END'
	import json, socket, sys
	s = socket.socket(socket.AF_UNIX)
	s.connect(sys.argv[1])
	f = s.makefile("rw")
	f.readline()
	for c in ("qmp_capabilities", "cont"):
	    f.write(json.dumps({"execute": c}) + "\n")
	    f.flush()
	    f.readline()
END
node_await pi-01 'eth0: no carrier' 15
node_link pi-01 on
boots "no carrier"

# Nobody gives an address (a network without anybody), and a rescue shell is asked for.
node_start pi-01 "t= lunroot.rescue" netdev=socket,id=n0,listen=127.0.0.1:"$(free_port)"
node_await pi-01 'no lease: no DHCP server answers' 25
node_await pi-01 'rescue shell' 5
node_stop pi-01
say "ok: no lease; the rescue shell comes when it is asked for"

# A static address needs no DHCP server.
node_start pi-01 "t= ip=10.0.2.50::10.0.2.2:255.255.255.0::eth0:off"
node_await pi-01 'eth0: 10.0.2.50/24, as the command line says' 15
boots "a static address"

# LUN and root that are not there.
node_conf pi-01 lun=5
node_start pi-01 "t="
node_await pi-01 'disk missing: .* has no LUN 5' 15
node_stop pi-01
node_conf pi-01
node_start pi-01 "t= root=LABEL=nothing"
node_await pi-01 'root not found: .*nothing' 15
node_stop pi-01
node_start pi-01 "t= init=/sbin/nothing"
node_await pi-01 'init=/sbin/nothing: root has no such program' 15
node_stop pi-01
node_start pi-01 "t= rootfstype=btrfs"
node_await pi-01 'root not mountable: /dev/sda as btrfs' 15
node_stop pi-01
say "ok: no LUN, no such root, no such init, another file system"

# Garbage is named by its field, and nothing is booted.
garbage() { # PATTERN APPEND [KEY=VALUE]...
	local pattern=$1 append=$2
	shift 2
	node_conf pi-01 "$@"
	node_start pi-01 "t= $append lunroot.reboot_after=1"
	node_await pi-01 "$pattern" 15
	! node_shown pi-01 'logged in' || node_fail pi-01 "it logged in"
	node_stop pi-01
}
garbage 'node.conf.*lun=x' "" lun=x
garbage 'node.conf.*colour' "" colour=blue
garbage 'node.conf.*target=' "" 'target=not a name'
garbage 'secret= is too short' "" secret=short
garbage 'command line.*lunroot.portal' "lunroot.portal=1:2:3:4"
garbage 'command line.*lunroot' "lunroot=iscsi:10.0.2.2:6:99999:0:iqn.x"
garbage 'command line: ip=1.2.3: the' "ip=1.2.3"
mkdir -p "$daemon_dir/garbage/etc/lunroot"
head -c 3000 /dev/urandom >"$daemon_dir/garbage/etc/lunroot/node.conf"
(cd "$daemon_dir/garbage" && find . | cpio -o -H newc --quiet) >"$daemon_dir/pi-01.cpio"
node_start pi-01 "t="
node_await pi-01 'lunroot: node.conf, line 1' 15
node_stop pi-01
say "ok: garbage in settings is named by its field, and nothing boots"
daemon_ends_well
