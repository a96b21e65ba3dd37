#!/bin/bash
# Two machines with one node's settings: both say so, and neither storms the target.
. "$(dirname "$0")/node.sh"

node_begin
ctl clone base pi-01 >/dev/null || fail "clone"
# Nobody writes: what they would do to a common disk is known.
node_conf pi-01 overlay=tmpfs
cp "$daemon_dir/pi-01.cpio" "$daemon_dir/twin.cpio"
node_start pi-01 "t=idle"
node_await pi-01 'KEEPER' 30
node_start twin "t=idle"
for node in pi-01 twin; do
	node_await "$node" "another machine may be using this node's name (iqn.*:initiator:pi-01)" 60
done
logins=$(grep -c 'logged in' "$daemon_dir/log")
sleep 20
more=$(($(grep -c 'logged in' "$daemon_dir/log") - logins))
[ $more -le 10 ] || fail "$more logins in 20 s"
say "ok: both name the other one; $more logins in 20 s"

# The mistake is mended: the one that is left has its disk for good.
node_stop twin
sleep 15
logins=$(grep -c 'logged in' "$daemon_dir/log")
sleep 15
[ "$(grep -c 'logged in' "$daemon_dir/log")" = "$logins" ] || node_fail pi-01 "it still logs in again"
node_stop pi-01
say "ok: with its rival gone, it stays logged in"
daemon_ends_well
