#!/bin/bash
# Ctrl-C, whenever it comes: what lunctl waits for is cancelled and nothing stays behind; and a daemon
# that hangs holds nobody up.
. "$(dirname "$0")/lib.sh"

daemon_begin
daemon_start
at_exit 'kill -CONT $daemon_pid 2>/dev/null'
cd "$daemon_dir" || fail "cd"
ctl create base --size 4G >/dev/null || fail "create"
ctl clone base pi-01 >/dev/null || fail "clone"
ctl clone base large --size 128G >/dev/null || fail "clone"

# A shell without job control starts its background with SIGINT ignored; TERM does the same.
begin() { # VERB...
	"$lunctl" --socket run/control.sock "$@" >out 2>&1 </dev/null &
	running=$!
	await_handler
}
# Before lunctl catches it a signal ends it as it would end anything, with nothing begun.
await_handler() {
	local name key value caught
	while kill -0 $running 2>/dev/null; do
		name='' caught=0
		while read -r key value; do
			case $key in
			Name:) name=$value ;;
			SigCgt:) caught=0x$value ;;
			esac
		done 2>/dev/null </proc/$running/status
		[ "$name" != lunctl ] || ! ((caught >> 14 & 1)) || return 0
		sleep 0.01
	done
}
# Sends the signal to what was begun, which must end soon with the status: interrupt WHAT STATUS
interrupt() {
	local before=$SECONDS status
	kill -TERM $running || fail "$1: it has ended before: $(cat out)"
	timeout 30 tail --pid=$running -s 0.05 -f /dev/null || { kill -KILL $running; fail "$1: it does not end"; }
	wait $running
	status=$?
	[ $status = "$2" ] || fail "$1: status $status instead of $2: $(cat out)"
	[ $((SECONDS - before)) -le 10 ] || fail "$1: it took $((SECONDS - before)) s"
}
# lunrootd has answered: the job is there, and what was begun waits for it. One that was given up may be there still, so it is
# asked for by its words: await_job KIND WORDS
await_job() {
	local i
	for ((i = 0; i < 3000; i++)); do
		ctl jobs 2>/dev/null | grep -E "^[0-9]+ +$1 +running .*$2" >/dev/null && return
		kill -0 $running 2>/dev/null || return 0 # whoever needs it looks
		sleep 0.02
	done
	fail "no job: $1 $2"
}
stop() { kill -STOP "$daemon_pid" || fail "kill"; }
go_on() { kill -CONT "$daemon_pid" || fail "kill"; }

# --- a signal at any time; what is zeros takes no room here, but its time ---
for i in $(seq "$(by_mode 12 24 100)"); do
	begin export large cut.img
	sleep "0.$(printf %03d $((30 + RANDOM % 120)))"
	interrupt "an export" 1
	grep -q 'the export was cancelled' out || fail "it does not say so: $(cat out)"
	[ ! -e cut.img ] || fail "a cancelled export leaves a file"
done
say "ok: exports are cancelled whenever the signal comes, and the next one is not kept waiting"
# A reader who takes nothing.
mkfifo pipe
"$lunctl" --socket run/control.sock export large - >pipe 2>out </dev/null 7<&- &
running=$!
exec 8<pipe
await_handler
sleep 0.3
interrupt "an export that nobody reads" 1
exec 8<&-
# While qemu-img works, or what goes by its name.
mkdir slow
printf '#!/bin/sh\n[ "$1" = --version ] && exit\n: >slow/begun\nexec sleep 60\n' >slow/qemu-img
chmod +x slow/qemu-img
path=$PATH PATH=$daemon_dir/slow:$PATH
begin export pi-01 cut.qcow2
PATH=$path
for i in $(seq 300); do
	[ -e slow/begun ] && break
	sleep 0.1
done
interrupt "an export while qemu-img works" 1
[ "$(echo cut*)" = 'cut*' ] || fail "files stay: $(echo cut*)"

# --- jobs ---
exec 7<>pipe # nobody reads
"$lunctl" --socket run/control.sock export large - >pipe 2>out </dev/null 7<&- &
running=$!
job=
for i in $(seq 100); do
	job=$(ctl jobs 2>/dev/null | awk '$2 == "export" && $3 == "running" { print $1 }')
	[ -z "$job" ] || break
	sleep 0.1
done
[ -n "$job" ] || fail "jobs does not show the export: $(ctl jobs)"
expect_ctl "jobs" 0 "^$job +export +running .*export of large" "next: lunctl jobs --cancel $job" -- jobs
expect_ctl "another export" 1 "job $job reads" "cure: .*lunctl jobs --cancel $job" -- export large second.img
expect_ctl "jobs --cancel" 0 "job $job: .*was cancelled" -- jobs --cancel "$job"
expect_ctl "what it held is free" 0 'removed node large' -- rm --now large
exec 7<&-
wait $running
expect_ctl "jobs, then" 0 "^$job +export +failed .*was cancelled" -- jobs
expect_ctl "jobs --cancel of one that has ended" 1 "job $job has ended" 'cure: ' -- jobs --cancel "$job"
expect_ctl "jobs --cancel of none" 1 'no job 9999' 'cure: lunctl jobs' -- jobs --cancel 9999
expect_ctl "jobs --cancel of no number" 2 'no number of a job' -- jobs --cancel x/y

# --- a daemon that hangs ---
for verb in "promote pi-01 gold" "export pi-01 hung.img"; do
	stop
	# shellcheck disable=SC2086
	begin $verb
	sleep 0.3
	interrupt "$verb, never answered" 3
	grep -q 'may still do' out || fail "$verb: it does not say that it may go on: $(cat out)"
	[ ! -e hung.img ] || fail "a file stays"
	go_on
	say "ok: $verb is interrupted while nobody answers"
	ctl ls >/dev/null || fail "ls"
done
ctl clone base pi-02 --size 128G >/dev/null || fail "clone" # its export doesn't end while somebody looks
begin export pi-02 hung.img
await_job export 'export of pi-02'
stop
sleep 0.1
interrupt "an export under way" 1
grep -q 'job [0-9]* may still be carried out' out || fail "it does not say that the job may go on: $(cat out)"
[ ! -e hung.img ] || fail "a file stays"
go_on
head -c 300M /dev/urandom >big.img
begin import big.img big --force
await_job import big
stop
sleep 0.3
if kill -0 $running 2>/dev/null; then
	interrupt "an import under way" 3
	grep -q 'job [0-9]* may still be carried out' out || fail "it does not say that the job may go on: $(cat out)"
	say "ok: an import under way is interrupted while nobody answers"
else
	say "(the import was faster: $(cat out))"
fi
go_on
daemon_ends_well
