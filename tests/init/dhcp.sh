#!/bin/bash
# A network of the test's own, with dnsmasq as its router: everything from DHCP, garbage in it, leases that are renewed,
# IPv6, names, a target that moves.
. "$(dirname "$0")/node.sh"
. "$(dirname "$0")/reports_lib.sh"

[ "$(id -u)" = 0 ] || skip "a network namespace needs root"
need dnsmasq ip gcc
netns=lunroot-$$
ip netns add "$netns" 2>/dev/null || skip "no network namespace can be made"
router_pid=

router_stop() {
	[ -n "$router_pid" ] || return 0
	kill "$router_pid" 2>/dev/null
	wait "$router_pid" 2>/dev/null
	router_pid=
}
all_end() {
	router_stop
	node_end_all
	ip netns del "$netns"
}

# In the namespace as their own process ids.
lunrootd_there() {
	printf '#!/bin/sh\nexec ip netns exec %s %s "$@"\n' "$netns" "$lunrootd" >"$daemon_dir/lunrootd"
	chmod 755 "$daemon_dir/lunrootd"
	lunrootd=$daemon_dir/lunrootd
}
qemu-system-x86_64() { exec ip netns exec "$netns" "$(type -P qemu-system-x86_64)" "$@"; }

router_start() {
	ip netns exec "$netns" dnsmasq --keep-in-foreground --conf-file=/dev/null --user=root --pid-file= --no-resolv \
		--no-hosts --addn-hosts="$daemon_dir/hosts" --local=/test/ --interface=lun0 --except-interface=lo \
		--bind-interfaces --dhcp-range=10.77.0.50,10.77.0.99,255.255.255.0,120 --dhcp-authoritative --no-ping \
		--dhcp-optsfile="$daemon_dir/options" --dhcp-leasefile="$daemon_dir/leases" --log-dhcp --log-facility=- \
		--dhcp-range=fd77::,ra-only,64 --enable-ra >>"$daemon_dir/router" 2>&1 &
	router_pid=$!
	sleep 0.3
	kill -0 $router_pid 2>/dev/null || { cat "$daemon_dir/router" >&2 && fail "dnsmasq"; }
}
# What DHCP's root path is from now on.
root_path() {
	printf 'option:root-path,"%s"\n' "$1" >"$daemon_dir/options"
	[ -z "$router_pid" ] || kill -HUP "$router_pid"
}
name_is() {
	echo "$1 lunroot.test" >"$daemon_dir/hosts"
	[ -z "$router_pid" ] || kill -HUP "$router_pid"
}
start() { # NODE APPEND
	node_start "$1" "$2" netdev=tap,id=n0,ifname=lun0,script=no,downscript=no
}
boots() { # NODE WHAT
	node_await "$1" 'RESULT' 60
	node_shown "$1" 'RESULT ok' || node_fail "$1" "it failed"
	node_await_end "$1" 20
	node_dmesg_is_clean "$1"
	say "ok: $2"
}
acks() { grep -c 'DHCPACK(lun0)' "$daemon_dir/router"; }

node_begin
trap all_end EXIT
ip -n "$netns" link set lo up
ip -n "$netns" tuntap add lun0 mode tap 2>/dev/null || skip "no tap device can be made"
for address in 10.77.0.1/24 10.77.0.2/24; do ip -n "$netns" addr add "$address" dev lun0; done
ip -n "$netns" addr add fd77::1/64 dev lun0 nodad
ip -n "$netns" link set lun0 up
# Something that has the DHCP client's port, as the real system's own client would.
gcc -static -x c -o "$daemon_dir/root-tree/sbin/port68" - <<-'END' || fail "gcc"
	#include <arpa/inet.h>
	#include <unistd.h>
	int main(void)
	{
		struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(68)};

		return bind(socket(AF_INET, SOCK_DGRAM, 0), (struct sockaddr *)&address, sizeof(address)) || pause();
	}
END
node_root_image "$daemon_dir/busy.img"
ctl import "$daemon_dir/busy.img" busy >/dev/null || fail "import"
ctl clone busy pi-01 >/dev/null && ctl clone busy pi-02 --no-auth >/dev/null || fail "clone"
daemon_kill TERM
port=${daemon_portal##*:}
daemon_portal=10.77.0.1:$port
lunrootd_there
daemon_start --portal "[fd77::1]:$port"
iqn1=$(node_field pi-01 iqn) iqn2=$(node_field pi-02 iqn)
name_is 10.77.0.1

# Nothing but DHCP tells where root is, and whom to report to: with a server, without one, with secrets behind it.
reports_begin ip netns exec "$netns"
root_path "iscsi:10.77.0.1:6:$port:0:$iqn2;report=10.77.0.1:$reports_port/$reports_token"
router_start
start pi-02 "t=write3" # its keeper must come to see that init runs
node_await pi-02 'eth0: 10.77.0.[0-9]* from DHCP server 10.77.0.1' 20
boots pi-02 "all from DHCP's root path"
reports_are 'start .*' 'network eth0 10\.77\.0\.[0-9]+' "login 10\.77\.0\.1 port $port" 'disk sda .*' 'root ext4 /dev/sda' \
	'switch /sbin/init' 'switch init runs'
say "ok: what happened before DHCP said whom to tell is told, too"
root_path "iscsi:::$port::$iqn2"
start pi-02 "t="
boots pi-02 "a root path without a server: it is the DHCP server"
# As after the kernel's own ip=dhcp, which Debian's kernels can't do: the address is set when lunroot-init begins.
mkdir -p "$daemon_dir/own/etc"
cp "$node_init" "$daemon_dir/own/etc/real-init"
cat >"$daemon_dir/own/init" <<'END'
#!/bin/busybox sh
/bin/busybox mkdir -p /proc /sys
/bin/busybox mount -t proc proc /proc
while read -r module; do /bin/busybox insmod /lib/modules/"$module"; done </etc/lunroot/modules 2>/dev/null
/bin/busybox ip link set eth0 up
printf '#!/bin/busybox sh\n[ "$1" != bound ] || /bin/busybox ip addr add "$ip/$mask" dev eth0\n' >/etc/ask
/bin/busybox chmod 755 /etc/ask
/bin/busybox udhcpc -i eth0 -n -q -t 20 -T 1 -s /etc/ask
/bin/busybox umount /proc
exec -a /init /etc/real-init "$@"
END
chmod 755 "$daemon_dir/own/init"
(cd "$daemon_dir/own" && find . -mindepth 1 | cpio -o -H newc --quiet) >"$daemon_dir/pi-02.cpio" || fail "cpio"
start pi-02 "t="
boots pi-02 "an address that is set already, and a root path without a server"
node_shown pi-02 'the kernel has set its address' || node_fail pi-02 "it did not see its address"
! node_shown pi-02 'no target address' || node_fail pi-02 "it asks for what it is about to be told"
rm "$daemon_dir/pi-02.cpio"
root_path "iscsi:10.77.0.1::$port::$iqn1;user=$(node_field pi-01 credentials.user);secret=$(node_field pi-01 credentials.secret);hostname=kitchen"
start pi-01 "t="
node_await pi-01 'HOST kitchen' 30
boots pi-01 "secrets behind the root path"
router_stop

# The router is late.
root_path "iscsi:10.77.0.1::$port::$iqn2"
start pi-02 "t="
node_await pi-02 'no lease: no DHCP server answers' 25
sleep 10
router_start
boots pi-02 "a DHCP server that comes late"

# Garbage is named, boots nothing, and is asked for again by itself.
garbage() { # ROOTPATH PATTERN
	root_path "$1"
	start pi-02 "t="
	node_await pi-02 "$2" 20
	sleep 3
	! node_shown pi-02 'logged in' || node_fail pi-02 "it logged in"
	root_path "iscsi:10.77.0.1::$port::$iqn2"
	boots pi-02 "\"$1\" is named, and mended without a new boot"
}
garbage "iscsi:10.77.0.1:6:99999:0:$iqn2" 'DHCP root path: PORT=99999: a number from 1 to 65535'
garbage "iscsi:10.77.0.1::$port::$iqn2;colour=blue" 'DHCP root path: colour: no such setting'
garbage "/srv/nfs/root" 'no target address: '

# The lease is renewed in the real system, too: the address never goes, and the routes are left alone.
start pi-02 "t=sleep80"
node_await pi-02 'INIT ' 30
before=$(acks)
node_await pi-02 'ADDRESS ' 90
[ "$(acks)" -gt "$before" ] || { tail -20 "$daemon_dir/router" >&2 && fail "the lease was not renewed"; }
node_shown pi-02 'ADDRESS .*10\.77\.0\.' || node_fail pi-02 "the address is gone"
node_shown pi-02 'ROUTE default via 10\.77\.0\.9 ' || node_fail pi-02 "the real system's default route is gone"
boots pi-02 "a lease of 120 s is renewed after the switch"

# Longer without the router than the lease lasts: the address stays.
start pi-02 "t=sleep140"
node_await pi-02 'INIT ' 30
router_stop
node_await pi-02 'ADDRESS ' 150
node_shown pi-02 'ADDRESS .*10\.77\.0\.' || node_fail pi-02 "the address is gone"
boots pi-02 "the lease runs out, and the disk stays"
router_start

# The system brings its own DHCP client.
start pi-02 "t=dhcp"
node_await pi-02 'RESULT ' 60
node_shown pi-02 'the system has a DHCP client of its own' || node_fail pi-02 "it does not say so"
node_shown pi-02 'UDHCPC 0' || node_fail pi-02 "ours goes on"
node_shown pi-02 'ADDRESS .*10\.77\.0\.' || node_fail pi-02 "the address is gone"
boots pi-02 "our DHCP client makes way for the system's"

# IPv6: an address from the router's announcements, and nobody waits for DHCP.
node_conf pi-01 "portal=[fd77::1]:$port"
start pi-01 "t="
node_await pi-01 'logged in to .* at fd77::1 port' 30
boots pi-01 "an IPv6 portal by router advertisement"

# A name, and behind it a target that moves to another address.
node_conf pi-01 "portal=lunroot.test:$port"
start pi-01 "t=write16"
node_await pi-01 'STEP 4 ' 30
daemon_kill KILL
name_is 10.77.0.2
daemon_portal=10.77.0.2:$port
daemon_start
node_await pi-01 "logged in to .* at 10.77.0.2 port $port" 20
boots pi-01 "the target moved, and its name with it"
daemon_ends_well
