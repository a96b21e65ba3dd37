#!/bin/bash
# Sends COUNT malformed PDUs (default 100,000; with tools/check --long a million) to a lunrootd of its own, to a node without and a
# node with CHAP, while a witness works on a third. Prints the seed; SEED=N repeats.
#
# usage: run.sh [COUNT]     environment: LUNROOT_BUILD, SEED, WORKERS, SECONDS_MAX, RSS_SLACK_MIB
. "$(dirname "$0")/daemon.sh"

count=${1:-$(by_mode 30000 100000 1000000)}
mutator=${MUTATOR:-$LUNROOT_BUILD/tests/hostile/mutator}
[ -x "$mutator" ] || skip "no $mutator"

daemon_begin
# Silent peers are pinged at once, so that sessions which answer nothing are among the peers too.
daemon_start --ping-idle-ms 300
slack=40 # heaps after the greedy ones; a leak of 40 bytes a PDU shows in the long form
daemon_is_sanitized && slack=96

truncate -s 64M "$daemon_dir/base.img"
mke2fs -q -t ext4 -F "$daemon_dir/base.img" || fail "mke2fs"
ctl import "$daemon_dir/base.img" base >/dev/null || fail "import"
ctl clone base open --no-auth --shared >/dev/null || fail "clone open"
ctl clone base witness >/dev/null || fail "clone witness"
ctl clone base guarded >/dev/null || fail "clone guarded"
# The fourth of four: with two reactors the witness has the greedy ones for neighbours.
ctl clone base greedy --no-auth --shared >/dev/null || fail "clone greedy"

# iscsi://USER%SECRET@PORTAL/IQN/LUN
url=$(ctl url guarded) || fail "url guarded"
user=${url#iscsi://} user=${user%%%*}
secret=${url#*%} secret=${secret%%@*}
guarded=${url#*@*/} guarded=${guarded%/*}
url=$(ctl url open) || fail "url open"
open=${url#iscsi://*/} open=${open%/*}

mutate() { # COUNT MORE-OPTIONS...
	local count=$1
	shift
	"$mutator" --portal "$daemon_portal" --target "$open" \
		--target "$guarded" --user "$user" --secret "$secret" --greedy "${open%open}greedy" \
		--count "$count" --witness-url "$(ctl url witness)" \
		--seconds "${SECONDS_MAX:-1200}" --workers "${WORKERS:-6}" \
		${SEED:+--seed "$SEED"} "$@"
}

# A first part makes pools, buffers and heaps as large as they get; what remains after the second
# is compared with that.
mutate 100000 --mild || fail "in the first part, see above"
sleep 6
# Meanwhile nodes come and go, and somebody looks.
churn() {
	local i=0
	while :; do
		i=$((i + 1))
		ctl clone base "churn-$i" --no-auth >/dev/null && ctl ls >/dev/null &&
			ctl stats >/dev/null && ctl rm "churn-$i" >/dev/null ||
			touch "$daemon_dir/churn-failed"
		sleep 0.2
	done
}
churn &
churn_pid=$!
trap 'kill "$churn_pid" 2>/dev/null; daemon_cleanup' EXIT

mutate "$count" --pid "$daemon_pid" --rss-slack-mib "${RSS_SLACK_MIB:-$slack}"
status=$?
kill "$churn_pid"
wait "$churn_pid" 2>/dev/null
[ ! -e "$daemon_dir/churn-failed" ] || fail "lunctl failed meanwhile: $(cat "$daemon_dir/ctl.log")"

daemon_log_is_clean || fail "the log tells of a bug"
[ "$status" -eq 0 ] || fail "see above (mutator status $status)"
ctl ls >/dev/null || fail "the control socket no longer answers"

# A graceful stop amid all of it.
mutate 1000000000 >/dev/null 2>&1 &
mutator_pid=$!
sleep 1.5
patience_ms=6000
daemon_is_sanitized && patience_ms=30000 # it looks for leaks, beside all that sends
begin=${EPOCHREALTIME/[.,]/}
daemon_kill TERM || fail "SIGTERM ended it with status $?"
took_ms=$(((${EPOCHREALTIME/[.,]/} - begin) / 1000))
[ $took_ms -le $patience_ms ] || fail "SIGTERM took $took_ms ms"
wait "$mutator_pid" # its witness has lost its target, so it ends by itself
daemon_log_is_clean || fail "the log tells of a bug at the end"
say "hostile peers: $count PDUs, the daemon lives and the witness noticed nothing"
