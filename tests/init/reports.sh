#!/bin/bash
# Whoever serves the boots is told of each step: by datagrams, each with a number, in order; of what a node waits for, and that
# its disk is back. A listener that is not there, or a report that can't be sent, delays nothing.
. "$(dirname "$0")/node.sh"
. "$(dirname "$0")/reports_lib.sh"

need sqlite3
node_begin
ctl clone base pi-01 >/dev/null || fail "clone"
reports_begin

# All of a boot, then the loss of the disk while the system runs.
node_conf pi-01 "report=10.0.2.2:$reports_port/$reports_token"
node_start pi-01 "t=write12"
reports_await '^1 start lunroot-init [0-9]' 30
reports_await '^[0-9]+ switch init runs$' 30
reports_are 'start lunroot-init [0-9.]+' 'network eth0 10\.0\.2\.15' "login 10\.0\.2\.2 port ${daemon_portal##*:}" \
	'disk sda LUN 0, 64 MiB' 'root ext4 /dev/sda' 'switch /sbin/init' 'switch init runs'
say "ok: start, network, login, disk, root, switch, init runs: in this order, nothing else"
node_await pi-01 'STEP 2 ' 30
daemon_kill KILL
reports_await '^[0-9]+ waiting the connection to the disk is lost: ' 30
sleep 3
daemon_start
reports_await '^[0-9]+ back [0-9]+\.[0-9] s$' 30
node_await pi-01 'RESULT ok' 60
node_await_end pi-01 20
node_dmesg_is_clean pi-01
reports_are_numbered
reports_are_repeated
say "ok: the disk's loss and its return: $(reports_of back)"

# A wrong secret is told in the console's words, until it is mended.
set_secret() {
	daemon_kill TERM
	sqlite3 "$daemon_dir/state/catalog.db" "update nodes set secret = '$1' where name = 'pi-01'" || fail "sqlite3"
	daemon_start
}
secret=$(node_field pi-01 credentials.secret)
set_secret another-secret-of-16
reports_forget
node_start pi-01 "t=write3"
reports_await '^[0-9]+ waiting login refused by 10\.0\.2\.2 port [0-9]+: .*\(0201\).*lunctl show --secrets' 30
set_secret "$secret"
reports_await '^[0-9]+ login 10\.0\.2\.2 port ' 30
node_await pi-01 'RESULT ok' 30
node_await_end pi-01 20
reports_await '^[0-9]+ switch init runs$' 5
reports_are_numbered
! grep -q -e "$secret" -e another-secret "$reports_file" || fail "a secret was reported"
say "ok: a wrong secret: $(reports_of waiting | head -n 1)"

# Told by the command line.
reports_forget
node_conf pi-01
node_start pi-01 "t=write3 lunroot.report=10.0.2.2:$reports_port/${reports_token^^}"
node_await pi-01 'RESULT ok' 30
node_await_end pi-01 20
reports_await '^1 start ' 5
reports_await '^[0-9]+ switch init runs$' 5
say "ok: by the command line"

# Nobody listens there, nobody is there at all: the boot takes no notice.
for report in "10.0.2.2:9" "10.0.2.77:6666" "[fd00::77]:6666"; do
	node_conf pi-01 "report=$report/$reports_token"
	node_start pi-01 "t="
	node_await pi-01 'RESULT ok' 30
	node_await_end pi-01 20
	node_dmesg_is_clean pi-01
done
say "ok: nobody to report to, and the boot is as ever"
node_conf pi-01 "report=nas:6666/$reports_token"
node_start pi-01 "t= lunroot.reboot_after=1"
node_await pi-01 'node.conf, line [0-9]*: report=nas:.*no name' 15
node_stop pi-01
say "ok: a name for an address is refused in words"
daemon_ends_well
