#!/bin/bash
# Credentials of boots, as libiscsi's and QEMU's programs log in with them: which are good when,
# across takeovers, restarts and kill -9; and whose Pi a node is.
. "$(dirname "$0")/lib.sh"
need curl iscsi-inq qemu-io python3

daemon_begin
daemon_start
truncate -s 32M "$daemon_dir/base.img"
ctl import "$daemon_dir/base.img" base --force >/dev/null 2>&1 || fail "import"
ctl clone base pi-01 >/dev/null 2>&1 || fail "clone"
initiator=iqn.2026-11.local.lunroot:initiator:pi-01
boots=0

api() { # METHOD PATH [BODY]
	curl -s --unix-socket "$daemon_dir/run/control.sock" -X "$1" "http://localhost$2" ${3:+-d "$3"}
}

# A new boot of the node: its credentials in secret, mutual_user, mutual_secret.
new_boot() {
	local answer
	boots=$((boots + 1))
	boot=$(printf '%016x' $((boots + 4096)))
	answer=$(api POST "/v1/nodes/pi-01/boots" "{\"boot\":\"$boot\"}") || fail "boots"
	{
		read -r secret
		read -r mutual_user
		read -r mutual_secret
		read -r user
		read -r portal
	} < <(python3 -c '
import json, sys
answer = json.loads(sys.argv[1])
for key in "secret", "mutual_user", "mutual_secret", "user":
    print(answer["credentials"][key])
print(answer["portal"])' "$answer")
	[ "$user $portal" = "pi-01 $daemon_portal" ] || fail "boots: $answer"
}
boot_url() { # USER SECRET [NODE]
	printf 'iscsi://%s%%%s@%s/iqn.2026-11.local.lunroot:%s/0\n' "$1" "$2" "$daemon_portal" "${3:-pi-01}"
}
gets_in() { # SECRET
	timeout 20 iscsi-inq -i "$initiator" "$(boot_url pi-01 "$1")" >"$daemon_dir/output" 2>&1
}
good() { # WHAT SECRET
	gets_in "$2" || {
		cat "$daemon_dir/output" >&2
		fail "$1: does not get in"
	}
	say "ok: $1: gets in"
}
ended() { # WHAT SECRET
	gets_in "$2" && fail "$1: gets in"
	grep -qi 'auth' "$daemon_dir/output" || {
		cat "$daemon_dir/output" >&2
		fail "$1: is refused for another reason"
	}
	say "ok: $1: is refused"
}

# --- what they are good for ---
new_boot
first=$secret
good "a boot" "$first"
expect "another initiator with its secret" '!0' -- iscsi-inq -i iqn.2026-11.test:thief "$(boot_url pi-01 "$first")"
expect "both directions" 0 'lunroot' -- iscsi-inq -i "$initiator" \
	"$(boot_url pi-01 "$first")?target_user=$mutual_user&target_password=$mutual_secret"
own=$(ctl --json show pi-01 --secrets | member credentials.mutual_secret)
expect "the node's own mutual secret is not its" '!0' -- iscsi-inq -i "$initiator" \
	"$(boot_url pi-01 "$first")?target_user=$mutual_user&target_password=$own"
own=$(ctl --json show pi-01 --secrets | member credentials.secret)
good "the node's own beside it" "$own"
expect "the operator's beside it" 0 'lunroot' -- iscsi-inq "$(url pi-01)"

# --- the next boot ends them ---
new_boot
second=$secret
good "the boot that runs, while a new one loads" "$first"
good "the new boot" "$second"
ended "the former boot" "$first"
good "the node's own" "$own"
new_boot
third=$secret
new_boot
fourth=$secret
good "the boot that runs" "$second"
good "a boot that was asked for later" "$fourth"
ended "one before it that was never used" "$third"
ended "and the one that ran" "$second"
for i in 1 2 3 4 5; do
	new_boot
	eval "unused_$i=$secret"
done
# shellcheck disable=SC2154
ended "the oldest of five that nobody used" "$unused_1"
# shellcheck disable=SC2154
good "the next" "$unused_2"
good "the newest" "$secret"
expect_ctl "auth tells of them" 0 "boot $boot +pi-01 +$initiator +in use for" 'operator' -- auth pi-01
ctl --json auth pi-01 | grep -q '[sS]ecret"' && fail "auth tells secrets"

# --- whoever runs gets in again, whatever dies ---
used=$secret
new_boot
unused=$secret
daemon_kill TERM || fail "SIGTERM ended it with status $?"
daemon_start
good "the boot that runs, after a restart" "$used"
daemon_kill KILL
daemon_start
good "the boot that runs, after kill -9" "$used"
good "the one that loads, too" "$unused"
ended "and ends the former" "$used"
used=$unused

# A login while the daemon dies. Whatever became of it, both are good or the new one is; and never
# the old one again, once somebody has been told that he is logged in with the new one.
rounds=$(by_mode 5 20 300)
RANDOM=${SEED:-$$}
say "$rounds deaths, seed ${SEED:-$$}"
before=0 after=0
for ((round = 1; round <= rounds; round++)); do
	new_boot
	timeout 20 iscsi-inq -i "$initiator" "$(boot_url pi-01 "$secret")" >"$daemon_dir/output" 2>&1 &
	client=$!
	sleep "0.0$(printf %02d $((RANDOM % 40)))"
	daemon_kill KILL
	kill "$client" 2>/dev/null # libiscsi would try again
	wait "$client"
	told=$?
	daemon_start
	if gets_in "$used"; then
		[ $told = 0 ] && fail "round $round: the former boot is back"
		before=$((before + 1))
	else
		after=$((after + 1))
	fi
	gets_in "$secret" || fail "round $round: the new boot is locked out"
	gets_in "$used" && fail "round $round: the former boot is good still"
	used=$secret
done
say "ok: $before deaths before the new boot counted, $after after"

# A disk that is mounted: the connection breaks, and is made again with the boot's credentials.
coproc qemu { exec qemu-io --image-opts \
	"driver=raw,file.driver=iscsi,file.transport=tcp,file.portal=$daemon_portal,file.target=iqn.2026-11.local.lunroot:pi-01,file.lun=0,file.user=pi-01,file.password-secret=s,file.initiator-name=$initiator" \
	--object "secret,id=s,data=$used" 2>&1; }
# shellcheck disable=SC2154
qemu_pid_now=$qemu_PID
io() { # COMMAND PATTERN
	local line
	printf '%s\n' "$1" >&"${qemu[1]}"
	while read -r -t 40 line <&"${qemu[0]}"; do
		[[ $line == *$2* ]] && return
		[[ $line == *rror* || $line == *ailed* ]] && fail "$1: $line"
	done
	fail "$1: no answer"
}
io 'write -P 0x11 1M 1M' 'wrote 1048576'
for signal in KILL TERM KILL; do
	daemon_kill $signal
	daemon_start
	io 'write -P 0x22 2M 1M' 'wrote 1048576'
	io 'read -P 0x11 1M 1M' 'read 1048576'
done
say "ok: a disk in use goes on over three deaths with the credentials of its boot"
new_boot
good "its next boot takes over" "$secret"
kill "$qemu_pid_now" 2>/dev/null
wait "$qemu_pid_now" 2>/dev/null
used=$secret

# --- rotation, rename, trash ---
expect_ctl "rotate" 0 'made anew' 'lunctl initramfs pi-01' -- auth pi-01 --rotate
ended "the node's own, rotated" "$own"
own=$(ctl --json show pi-01 --secrets | member credentials.secret)
good "its new ones" "$own"
good "the boot that runs" "$used"
ctl rename pi-01 pi-99 >/dev/null 2>&1 || fail "rename"
expect "renamed, with its new names" 0 'lunroot' -- iscsi-inq \
	-i iqn.2026-11.local.lunroot:initiator:pi-99 "$(boot_url pi-99 "$used" pi-99)"
ctl rename pi-99 pi-01 >/dev/null 2>&1 || fail "rename"
new_boot
unused=$secret
ctl rm pi-01 >/dev/null 2>&1 || fail "rm"
expect "it is gone" '!0' -- iscsi-inq -i "$initiator" "$(boot_url pi-01 "$used")"
ctl undo pi-01 >/dev/null 2>&1 || fail "undo"
good "back from the trash, the boot that ran" "$used"
ended "what nobody had used" "$unused"
ctl clone base open --no-auth >/dev/null 2>&1 || fail "clone"
api POST /v1/nodes/open/boots '{"boot":"0000000000000001"}' | grep -q '"credentials":null' || fail "no auth, but credentials"

# --- whose Pi it is ---
expect_ctl "assign" 0 'pi-01 is the Pi with serial 10000000abcdef01 and MAC dc:a6:32:01:02:03' -- \
	assign pi-01 --serial 10000000ABCDEF01 --mac DC-A6-32-01-02-03
expect_ctl "another with that serial" 1 'abcdef01 belongs to node pi-01' 'cure' -- assign open --serial abcdef01
expect_ctl "a clone with that MAC" 1 'belongs to node pi-01' 'cure' -- clone base x --mac dc:a6:32:01:02:03
expect_ctl "nothing to assign" 2 'none' -- assign pi-01
expect_ctl "taken away" 0 'has no Pi' -- assign pi-01 --none
expect_ctl "now another has it" 0 'open is the Pi' -- assign open --serial abcdef01
expect_ctl "an address" 0 'its address is 10.42.0.7' -- assign pi-01 --address 10.42.0.7
expect_ctl "another with that address" 1 '10.42.0.7 belongs to node pi-01' 'address none' -- assign open --address 10.42.0.7
expect_ctl "no address" 1 'no IPv4 address' -- assign pi-01 --address 300.1.1.1
expect_ctl "given and taken away" 2 'takes away' -- assign pi-01 --none --serial 1
expect_ctl "its address is gone" 0 'pi-01 has no Pi' -- assign pi-01 --address none
expect_ctl "a node that is not there" 1 'nobody' -- assign nobody --serial 1

daemon_ends_well
say "good"
