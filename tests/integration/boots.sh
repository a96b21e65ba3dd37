#!/bin/bash
# What lunbootd tells lunrootd of the boots, and what lunctl makes of it: records made with curl, as
# lunbootd makes them; ls --pending, adopt, boots; a restart, a kill, a damaged file of records.
# shellcheck source=tests/integration/lib.sh
. "$(dirname "$0")/lib.sh"
need curl python3 mke2fs

# api METHOD PATH [BODY]: the answer's body; fails unless it is a 2xx.
api() {
	local method=$1 path=$2
	shift 2
	curl -sS --fail-with-body --max-time 20 -X "$method" --unix-socket "$daemon_dir/run/control.sock" \
		${1:+--data-binary "$1"} "http://localhost$path" || fail "$method $path"
}

ctl_json() {
	ctl --json "$@"
}

# now [SECONDS-AGO]
started=$(date +%s)
now() {
	date -u -d "@$((started - ${1:-0}))" +%Y-%m-%dT%H:%M:%S.000Z
}

# event ID AGO KIND [MORE]
event() {
	api POST "/v1/boots/$1/events" "{\"events\":[{\"at\":\"$(now "$2")\",\"kind\":\"$3\"${4:-}}]}" >/dev/null
}

# said PATTERN COMMAND...: lunctl's output has it.
said() {
	local pattern=$1
	shift
	ctl "$@" >"$daemon_dir/output" || fail "lunctl $*"
	grep -Eq -e "$pattern" "$daemon_dir/output" || {
		cat "$daemon_dir/output" >&2
		fail "lunctl $*: nothing like '$pattern'"
	}
	say "ok: lunctl $*: $pattern"
}

# next_is PATTERN: what the last call advised.
next_is() {
	grep -Eq "^next: .*$1" "$daemon_dir/ctl.log" || {
		cat "$daemon_dir/ctl.log" >&2
		fail "no advice like '$1'"
	}
}

daemon_begin
daemon_start
truncate -s 16M "$daemon_dir/base.img"
mke2fs -q -F "$daemon_dir/base.img"
ctl import "$daemon_dir/base.img" base >/dev/null || fail "import"

# --- a Pi that nobody knows ---
said 'SERIAL +MAC +MODEL +ADDRESS +SEEN +GOT TO' ls --pending
next_is 'switch a Pi on'
api PUT /v1/boots/00000000000000a1 '{"node":null,"serial":"5b154510","mac":"dc:a6:32:01:02:03","model":"Raspberry Pi 4"}' >/dev/null
event 00000000000000a1 3 discover
said '5b154510 +dc:a6:32:01:02:03 +Raspberry Pi 4 +- +[0-9]+ s +asked for an address' ls --pending
next_is 'lunctl adopt 5b154510 as NAME'
[ "$(ctl_json ls --pending | member pending.0.boots)" = 1 ] || fail "ls --pending --json"
expect_ctl 'adopt one that does not wait' 1 'no Pi 00000000 waits' 'ls --pending' -- adopt 00000000 as pi-08
expect_ctl 'adopt with a bad name' 2 'no name of a node' -- adopt 5b154510 as PI_08
expect_ctl 'adopt with another word' 2 'usage: lunctl adopt' -- adopt 5b154510 like pi-08
said 'node pi-08: Raspberry Pi 4 5b154510, with a new disk' adopt 10000000"5B154510" as pi-08 --size 32M
next_is 'power pi-08 off and on, or wait: it asks again within 60 s'
[ "$(ctl_json show pi-08 | member serial)" = 5b154510 ] || fail "the node's serial"
[ "$(ctl_json show pi-08 | member mac)" = dc:a6:32:01:02:03 ] || fail "the node's MAC"
[ "$(ctl_json show pi-08 | member luns.0.size_bytes)" = 33554432 ] || fail "the node's size"
ctl ls --pending | grep -q 5b154510 && fail "it still waits"
said '^00000000000000a1 .*under way: asked for an address' boots pi-08

started=$(date +%s)
# Several images: one has to be named. Without "as", by MAC; an old Pi.
ctl import "$daemon_dir/base.img" other >/dev/null || fail "import"
api PUT /v1/boots/00000000000000a2 '{"serial":"b66c4c16","mac":"b8:27:eb:6c:4c:16","model":"Raspberry Pi 3B"}' >/dev/null
event 00000000000000a2 100 discover
expect_ctl 'which image' 1 'base, other' 'image BASE' -- adopt b8:27:eb:6c:4c:16 pi-09
said 'node pi-09: Raspberry Pi 3B b66c4c16' adopt B8:27:EB:6C:4C:16 pi-09 --image other
next_is 'power pi-09 off and on; it has asked for 25 s and then given up'
[ "$(ctl_json show pi-09 | member base)" = other ] || fail "the node's image"
# A node that there is: with options for a new one it is an error.
api PUT /v1/boots/00000000000000a3 '{"serial":"aaaaaaaa","model":"Raspberry Pi 5"}' >/dev/null
expect_ctl 'options for a new node' 2 'image is for a new one' -- adopt aaaaaaaa as pi-09 --image base
api DELETE /v1/pending/AAAAAAAA >/dev/null

# --- a whole boot ---
api POST /v1/boots "{\"boots\":[{\"id\":\"00000000000000b1\",\"node\":\"pi-08\",\"serial\":\"5b154510\",
	\"mac\":\"dc:a6:32:01:02:03\",\"model\":\"Raspberry Pi 4\",\"address\":\"10.0.0.17\",\"events\":[
	{\"at\":\"$(now 30)\",\"kind\":\"discover\"},{\"at\":\"$(now 30)\",\"kind\":\"offer\"},
	{\"at\":\"$(now 29)\",\"kind\":\"request\",\"text\":\"10.0.0.17 from 10.0.0.1\"},
	{\"at\":\"$(now 28)\",\"kind\":\"asked\",\"file\":\"start4.elf\"},
	{\"at\":\"$(now 27)\",\"kind\":\"sent\",\"file\":\"start4.elf\",\"bytes\":2097152,\"retries\":2,\"took_ms\":900},
	{\"at\":\"$(now 26)\",\"kind\":\"missing\",\"file\":\"recovery.elf\"},
	{\"at\":\"$(now 25)\",\"kind\":\"sent\",\"file\":\"kernel8.img\",\"bytes\":9437184,\"retries\":1,\"took_ms\":4000},
	{\"at\":\"$(now 20)\",\"kind\":\"settings\"}]}]}" >/dev/null
event 00000000000000b1 15 report ',"text":"root ext4 /dev/sda2"'
event 00000000000000b1 10 report ',"text":"multi-user"'
said '^00000000000000b1 +.* 10.0.0.17 +20.0 s +up$' boots pi-08
[ "$(ctl boots pi-08 | sed 1d | wc -l)" = 2 ] || fail "two boots"
[ "$(ctl boots pi-08 --last 1 | sed 1d | wc -l)" = 1 ] || fail "--last 1"
said '^ +2000 ms  files +2 files, 11.0 MiB, 3 retries, 1 that there are not$' boots pi-08 --events
said '^ +3000 ms  sent +start4.elf, 2.0 MiB in 900 ms, 2 retries$' boots 00000000000000b1 --all
said '^boot 00000000000000b1, .* UTC, pi-08, Raspberry Pi 4, 5b154510' boots 5b154510 --events
[ "$(ctl_json boots 00000000000000b1 | member events.9.text)" = multi-user ] || fail "boots --json"
expect_ctl 'boots of nobody' 1 'no boot of bbbbbbbb is known' -- boots bbbbbbbb
expect_ctl 'no number' 2 'from 1 on' -- boots pi-08 --last 0

# --- why ---
said '^pi-08 is up, 20.0 s after it was first seen' why pi-08
said 'times   2 files, 11.0 MiB, root after 15.0 s, multi-user after 20.0 s' why 00000000000000b1
said 'Nothing was ever seen of pi-10' why "$(ctl clone base pi-10 >/dev/null && echo pi-10)"
api PUT /v1/boots/00000000000000a4 '{"serial":"cccccccc","model":"Raspberry Pi 4"}' >/dev/null
event 00000000000000a4 100 discover
event 00000000000000a4 99 console ',"text":"LINK STATUS: speed: 10 half duplex"'
said 'lunctl adopt cccccccc as NAME' why cccccccc
said 'speed: 10 half duplex   .the link is half duplex' why cccccccc
api PUT /v1/boots/00000000000000a5 '{"node":"pi-09"}' >/dev/null
event 00000000000000a5 100 asked ',"file":"kernel8.img"'
event 00000000000000a5 90 lost ',"file":"kernel8.img","bytes":3145728'
said '^pi-09 stopped in the middle of kernel8.img, after 3.0 MiB' why pi-09
said '^cure: .*try another cable' why pi-09
[ "$(ctl_json why pi-09 | member rule)" = middle-of-file ] || fail "why --json"
[ "$(ctl_json why pi-09 | member boot.events.1.kind)" = lost ] || fail "why --json"
expect_ctl 'why of nobody' 1 'was ever seen' -- why dddddddd
expect_ctl 'why of no name' 2 'neither a node' -- why /etc

# --- what stays ---
sleep 2.5 # it is written once a second
daemon_kill
daemon_start
said '^00000000000000b1 .*up$' boots pi-08
ctl rename pi-08 pi-18 >/dev/null || fail "rename"
said '^00000000000000b1 .*up$' boots pi-18
event 00000000000000b1 0 console ',"text":"the last one"'
daemon_kill TERM # an orderly end writes what is left
daemon_start
said 'console +the last one' boots pi-18 --events
daemon_kill TERM
printf 'no database, whatever it was before: it is a text, and long enough' >"$daemon_dir/state/boots.db"
daemon_start
grep -q 'boots.db is damaged.* boots.db.damaged' <<<"$(grep damaged "$daemon_dir/log" | sed 's,/[^ ]*/,,g')" ||
	fail "nothing is said of the damaged records"
expect_ctl 'the records are lost, the node is not' 1 'no boot of node pi-18' -- boots pi-18
said 'pi-18' ls
ctl rm pi-18 --now >/dev/null || fail "rm"

# --- lunbootd itself, leases ---
[ "$(api GET /v1/bootd | member bootd)" = None ] || fail "bootd before it has said anything"
api PUT /v1/bootd '{"version":"0.2.0","interfaces":[{"name":"eth0","address":"10.0.0.2"}]}' >/dev/null
[ "$(api GET /v1/bootd | member bootd.interfaces.0.name)" = eth0 ] || fail "bootd"
api PUT /v1/leases/dc:a6:32:01:02:03 '{"address":"10.0.0.17","until":"2100-01-01T00:00:00Z","hostname":"pi-08"}' >/dev/null
daemon_kill
daemon_start
[ "$(api GET /v1/leases | member leases.0.address)" = 10.0.0.17 ] || fail "the lease"

daemon_log_is_clean
say "all good"
